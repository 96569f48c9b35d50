"""A run's GPT-2 as an ordinary checkpoint: the sayable slice of the vocabulary, the context's positions, and a tokenizer.

Stock transformers gives the same scores where the strategy is plain text; whether that is so is measured, not assumed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness import storage
from harness.backbone import Backbone
from harness.inspect import load_run
from harness.problem import END, Piece, Question, Special, Tokens
from harness.session import Job, Session
from harness.spec import RunSpec

TOLERANCE_NATS = 1e-4
END_TEXT = "<|endoftext|>"


def export_run(name: str, folder: Path, *, results: Path, trust_plugins: bool = False) -> dict[str, Any]:
    """Write the checkpoint; returns {folder, files, parameters, same_scores, largest_difference_nats}.

    trust_plugins: whether code to which only the run's record points may be run.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"DIR: {folder} is not empty; name a new folder")
    spec, backbone, _ = load_run(name, results=results, device="cpu", trust_plugins=trust_plugins)
    if backbone.as_it_is:
        raise ValueError(f"RUN: its model is a checkpoint already, and nothing was taught: use {spec.model.path} itself")
    storage.make_folder(folder)
    model = sliced_model(backbone)
    _save(folder, model, _tokenizer(backbone))
    difference = _difference_nats(spec, backbone, folder)
    return {
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "same_scores": difference <= TOLERANCE_NATS,
        "largest_difference_nats": difference,
    }


def _save(folder: Path, *parts: Any) -> None:
    """Save a model and its tokenizer into an empty folder; `Unwritable`, and nothing is left of them, if that cannot be."""
    from safetensors import SafetensorError

    try:
        for part in parts:
            part.save_pretrained(folder)
    except (OSError, SafetensorError) as error:  # the latter is what the library makes of the system's errors
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        raise storage.Unwritable(folder, error if isinstance(error, OSError) else OSError(str(error))) from None


def sliced_model(backbone: Backbone) -> Any:
    """A GPT2LMHeadModel whose vocabulary is the strategy's sayable slice, in the head's order."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config.from_dict(backbone.model.config.to_dict() | {"vocab_size": backbone.outputs})
    end = backbone.head_ids.index(backbone.alphabet.end_id)
    others = sorted(backbone.head_ids.index(i) for i in backbone.alphabet.end_ids - {backbone.alphabet.end_id})
    config.bos_token_id, config.eos_token_id = end, [end, *others] if others else end
    model = GPT2LMHeadModel(config)
    state = dict(backbone.model.state_dict())
    state["transformer.wte.weight"] = state["transformer.wte.weight"][backbone.head_ids]
    state["lm_head.weight"] = state["transformer.wte.weight"]
    model.load_state_dict(state)
    return model.eval()


def _tokenizer(backbone: Backbone) -> Any:
    """The alphabet as a tokenizer of the transformers library; ids are the exported model's."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    alphabet, columns = backbone.alphabet, backbone.head_ids
    tokenizer = Tokenizer.from_str(alphabet.codec.tokenizer_json())
    end = tokenizer.id_to_token(alphabet.end_id) or END_TEXT
    specials = [p for p in alphabet.pieces(columns) if isinstance(p, Special)]
    names = {columns.index(alphabet.id_of(special)): end if special == END else special.name for special in specials}
    beyond = range(tokenizer.get_vocab_size(), max(names) + 1)  # a model may have rows that no token has
    added = [end, *(names.get(column, f"<|row {column}|>") for column in beyond)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in added])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        bos_token=end,
        clean_up_tokenization_spaces=False,
        model_max_length=int(backbone.model.config.n_positions),
    )


def _difference_nats(spec: RunSpec, backbone: Backbone, folder: Path) -> float:
    """Largest difference between stock transformers' log-likelihoods and ours over a few random texts."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    draws = torch.Generator().manual_seed(0)
    largest = 0.0
    for length in (6, 13, 24):
        ids = torch.randint(0, backbone.alphabet.text_end, (length,), generator=draws)
        said = (Piece(Tokens(tuple(ids[2:].tolist())), "answer", True),)
        question = Question("export", Tokens(tuple(ids[:2].tolist())), window=True)
        job = Job("export", lambda q=question, s=said: spec.strategy.score(q, (s,)), oracle=lambda _: ())  # type: ignore[misc]
        ours = next(iter(Session(backbone).run([job]))).value[0].nats
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids[None]).logits[0], -1)
        stock = -float(logp[1:-1].gather(1, ids[2:, None]).sum())
        largest = max(largest, abs(ours - stock))
    return largest
