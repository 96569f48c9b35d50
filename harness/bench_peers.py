"""The peers that `harness.bench` measures against, on the very weights and batches that we train on.

A nanoGPT-like twin in plain torch, `transformers.Trainer`, and `generate`. The peers get their texts as token ids, pad them to
the longest text of a batch, and know nothing of strategies; whatever favours them (fused AdamW, no attention mask, one fused gelu
in the twin) is switched on. Knows no timing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.alphabet import Alphabet
from harness.backbone import Backbone
from harness.feed import Feed
from harness.seeds import generator
from harness.spec import TrainSpec
from harness.stream import encode
from harness.train import BETA1

IGNORED = -100  # the label that every cross-entropy skips
Row = tuple[list[int], list[int]]  # token ids of a text, and its labels: the same ids or IGNORED


def peer_rows(feed: Feed, backbone: Backbone, alphabet: Alphabet, update: int, seed: int) -> list[Row]:
    """The texts of our update ``update``, as peers want them."""
    strategy, rng = backbone.strategy, generator(seed, "lessons", update)
    problems = feed.problems(update, lines="worked_lines" in strategy.needs())
    texts = [text for p in problems for text in strategy.lessons(p, progress=0.5, rng=rng)]
    stream = encode(texts, alphabet)
    rows: list[Row] = [([], []) for _ in texts]
    for i, row, target in zip(stream.ids.tolist(), stream.row.tolist(), stream.target.tolist(), strict=True):
        rows[row][0].append(i)
        rows[row][1].append(i if target else IGNORED)
    return rows


def padded(rows: Sequence[Row], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Ids and labels (B, T), padded on the right."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in rows])
    labels = torch.tensor([[*labels, *[IGNORED] * (longest - len(labels))] for _, labels in rows])
    return ids.to(device), labels.to(device)


def stock_model(backbone: Backbone) -> Any:
    """A GPT2LMHeadModel of its own with our weights, its vocabulary cut to what our head says."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config.from_dict({**backbone.model.config.to_dict(), "vocab_size": backbone.outputs})
    model = GPT2LMHeadModel(config)
    state = {k: v.detach().clone() for k, v in backbone.model.state_dict().items()}
    for name in ("transformer.wte.weight", "lm_head.weight"):
        state[name] = state[name][: backbone.outputs]
    model.load_state_dict(state)
    return model


class _Block(nn.Module):
    """A GPT-2 block as nanoGPT writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        b, t, width = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.ln_1(x)).split(width, dim=2))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mixed(seen.transpose(1, 2).contiguous().view(b, t, width))
        grown: Tensor = x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))
        return grown


class Twin(nn.Module):
    """GPT-2 in the manner of nanoGPT, from a GPT2LMHeadModel's weights; head and embedding are tied."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        config, own = stock.config, stock.transformer
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.places = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks = nn.ModuleList(_Block(config.n_embd, config.n_head) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        with torch.no_grad():
            self.tokens.weight.copy_(own.wte.weight)
            self.places.weight.copy_(own.wpe.weight)
            self.norm.load_state_dict(own.ln_f.state_dict())
            blocks: list[Any] = list(self.blocks)
            for block, theirs in zip(blocks, own.h, strict=True):
                block.ln_1.load_state_dict(theirs.ln_1.state_dict())
                block.ln_2.load_state_dict(theirs.ln_2.state_dict())
                pairs = (
                    ("qkv", theirs.attn.c_attn),
                    ("mixed", theirs.attn.c_proj),
                    ("up", theirs.mlp.c_fc),
                    ("down", theirs.mlp.c_proj),
                )
                for name, conv in pairs:
                    linear = getattr(block, name)
                    linear.weight.copy_(conv.weight.T)
                    linear.bias.copy_(conv.bias)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of labels (B, T), which stand under the ids (B, T) that they follow."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        loss: Tensor = F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED)
        return loss

    def loss(self, rows: Sequence[Row]) -> Tensor:
        """The mean loss of texts."""
        ids, labels = padded(rows, self.tokens.weight.device)
        loss: Tensor = self(ids[:, :-1].contiguous(), labels[:, 1:].contiguous())
        return loss


def twin_update(twin: Twin, spec: TrainSpec) -> Callable[[Sequence[Row]], None]:
    """One update of the twin, as nanoGPT's loop makes it."""
    parameters = list(twin.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(BETA1, spec.beta2), fused=True)

    def update(rows: Sequence[Row]) -> None:
        twin.loss(rows).backward()
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def stock_loss(model: Any, rows: Sequence[Row]) -> Tensor:
    """The mean loss of texts under a GPT2LMHeadModel."""
    ids, labels = padded(rows)
    loss: Tensor = model(input_ids=ids, labels=labels).loss
    return loss


def train_stock(
    model: Any, batches: Sequence[Sequence[Row]], spec: TrainSpec, folder: Path, after_step: Callable[[], None]
) -> None:
    """Train with `transformers.Trainer`, one step a batch in the given order; ``after_step`` is called behind each."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, logging

    logging.set_verbosity_error()

    class Stock(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(range(sum(map(len, batches))))

    class AfterStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            after_step()

    def collate(rows: list[Row]) -> dict[str, Tensor]:
        ids, labels = padded(rows)
        return {"input_ids": ids, "labels": labels}

    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=len(batches[0]), max_steps=len(batches),
        learning_rate=spec.learning_rate, lr_scheduler_type="constant", optim="adamw_torch_fused",
        adam_beta1=BETA1, adam_beta2=spec.beta2, weight_decay=spec.weight_decay, max_grad_norm=spec.clip_norm,
        use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    rows: Any = [row for batch in batches for row in batch]
    trainer = Stock(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[AfterStep()])
    trainer.remove_callback(PrinterCallback)  # it prints on stdout, which belongs to --json
    trainer.train()


@torch.no_grad()
def generate(model: Any, prompts: Sequence[list[int]], *, end_id: int, cap_tokens: int) -> list[list[int]]:
    """Greedy continuations by `generate` in one batch padded on the left, each with the END that it said."""
    given = {name: values.to(model.device) for name, values in _left_padded(prompts, end_id).items()}
    said = model.generate(
        **given, do_sample=False, max_new_tokens=cap_tokens, eos_token_id=end_id, pad_token_id=end_id
    )  # fmt: skip
    return _ended(said[:, given["input_ids"].shape[1] :].tolist(), end_id)


def _left_padded(prompts: Sequence[list[int]], end_id: int) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[*[end_id] * (longest - len(p)), *p] for p in prompts])
    mask = torch.tensor([[*[0] * (longest - len(p)), *[1] * len(p)] for p in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def _ended(rows: Sequence[list[int]], end_id: int) -> list[list[int]]:
    """Each row up to the END that it said."""
    return [row[: row.index(end_id) + 1] if end_id in row else row for row in rows]


@torch.no_grad()
def sample(model: Any, prompts: Sequence[list[int]], *, end_id: int, cap_tokens: int, samples: int) -> list[list[int]]:
    """``samples`` answers to each prompt, drawn at temperature 1 by one call of `generate`."""
    given = _left_padded(prompts, end_id)
    said = model.generate(
        **given, do_sample=True, temperature=1.0, top_k=0, num_return_sequences=samples, max_new_tokens=cap_tokens,
        eos_token_id=end_id, pad_token_id=end_id,
    )  # fmt: skip
    return _ended(said[:, given["input_ids"].shape[1] :].tolist(), end_id)


@torch.no_grad()
def beams(model: Any, prompts: Sequence[list[int]], *, end_id: int, cap_tokens: int, width: int) -> list[tuple[list[int], float]]:
    """The best answer of a beam to each prompt, and its log-probability, by one call of `generate`."""
    given = _left_padded(prompts, end_id)
    found = model.generate(
        **given, num_beams=width, early_stopping="never", length_penalty=0.0, do_sample=False, max_new_tokens=cap_tokens,
        eos_token_id=end_id, pad_token_id=end_id, output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    said = _ended(found.sequences[:, given["input_ids"].shape[1] :].tolist(), end_id)
    return list(zip(said, found.sequences_scores.tolist(), strict=True))


@torch.no_grad()
def tree(
    model: Any, prompt: list[int], *, joint: int, end: int, cap_tokens: int, branching: int, breadth: int, levels: int,
    drawn: bool = False,
) -> tuple[list[int], int]:  # fmt: skip
    """A plain tree of thoughts: one call of `generate` for each state, which reads all of it anew; (best text, tokens said).

    Ids are columns of the model. A line ends with ``joint``, an attempt with ``end``; states are ranked by log-probability.
    """
    states, finals, said_tokens = [(0.0, prompt)], list[tuple[float, list[int]]](), 0
    for _ in range(levels):
        children: dict[tuple[int, ...], float] = {}
        for before, ids in states:
            left = cap_tokens - (len(ids) - len(prompt))
            if left <= 0:
                continue
            draw = {"do_sample": True, "temperature": 1.0, "top_k": 0, "num_return_sequences": branching} if drawn else {}
            found = model.generate(
                input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=left,
                eos_token_id=[joint, end], pad_token_id=end, output_scores=True, return_dict_in_generate=True, **draw,
            )  # fmt: skip
            scores = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
            for row, each in zip(found.sequences[:, len(ids) :].tolist(), scores.tolist(), strict=True):
                last = next((i for i, token in enumerate(row) if token in (joint, end)), len(row) - 1)
                said_tokens += last + 1
                children[(*ids, *row[: last + 1])] = before + sum(each[: last + 1])
        ranked = sorted(((nats, list(ids)) for ids, nats in children.items()), reverse=True)
        finals += [state for state in ranked if state[1][-1] == end]
        states = [state for state in ranked if state[1][-1] == joint][:breadth]
    best = max(finals or states or [(0.0, prompt)])
    return best[1], said_tokens
