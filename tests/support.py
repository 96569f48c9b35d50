"""What tests share: tiny tasks and models, and oracles for gradients that know nothing of how the harness computes them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import registry
from harness.alphabet import Alphabet, make_alphabet
from harness.backbone import Backbone
from harness.cells import Reads
from harness.checks.context import with_methods
from harness.feed import Batch, make_batch
from harness.problem import END, Answer, Document, Key, Piece, Problem, Question, Special, Text, Tokens
from harness.seeds import generator
from harness.session import Job, Outcome, Session
from harness.spec import ModelSpec
from harness.strategy import THOUGHT, Strategy, setting
from harness.stream import encode
from harness.task import Task
from harness.wants import GREEDY, Sampler
from harness.weights import make_backbone

CPU = torch.device("cpu")
DIGITS = "chars:0123456789+="


@dataclass(frozen=True, kw_only=True)
class Toy(Task):
    """Sums of small numbers."""

    digits: int = setting(2, doc="most digits of an operand", low=1, high=5)

    def alphabet(self) -> str:
        return DIGITS

    def problems(self, split, *, seed, start, count, lines=True):
        made = []
        for i in range(start, start + count):
            rng = generator(seed, f"toy {split}", i)
            a, b = (int(rng.integers(10 ** int(rng.integers(1, self.digits + 1)))) for _ in range(2))
            made.append(Problem(Question(f"{split}-{i}", f"{a}+{b}=", self.digits + 3), Key(str(a + b)), len(str(max(a, b)))))
        return made


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Task):
    """Uniform tokens of the whole sayable vocabulary: nothing can be learned, the loss is ln V."""

    length: int = setting(12, doc="tokens of a lesson", low=2, high=200)

    def alphabet(self) -> str:
        return DIGITS

    def problems(self, split, *, seed, start, count, lines=True):
        size = make_alphabet(DIGITS).core_size
        ids = generator(seed, f"random {split}", start).integers(size, size=(count, self.length)).tolist()
        return [
            Problem(Question(f"{start + i}", Tokens((row[0],)), window=True), Key(Tokens(tuple(row[1:])), (), False))
            for i, row in enumerate(ids)
        ]


@dataclass(frozen=True, kw_only=True)
class Pages(Task):
    """A few documents of digits."""

    kind = "documents"
    window: int = setting(8, doc="tokens of a window", low=2, high=64)
    pages: int = setting(6, doc="documents", low=1, high=100)

    def alphabet(self) -> str:
        return DIGITS

    @property
    def window_tokens(self) -> int:
        return self.window

    def documents(self, split):
        rng = generator(0, f"pages {split}")
        return [Document(f"{split}-{i}", "".join(map(str, rng.integers(10, size=17 + 5 * i)))) for i in range(self.pages)]


def strategy(name: str, **fields: Any) -> Strategy:
    """A strategy by its registered name."""
    made: Strategy = registry.find("strategy", name)(**fields)
    return made


def digits() -> Alphabet:
    """The alphabet of the tiny tasks."""
    return make_alphabet(DIGITS)


def tiny(
    how: Strategy, *, layers: int = 2, width: int = 16, heads: int = 4, context: int = 128, seed: int = 0, scale: float = 8.0,
    alphabet: Alphabet | None = None,
) -> Backbone:  # fmt: skip
    """A very small model whose matrices are scaled up, so that its attention and answers are far from uniform."""
    spec = ModelSpec(layers=layers, width=width, heads=heads, context_tokens=context)
    backbone = make_backbone(spec, strategy=how, alphabet=alphabet or digits(), seed=seed)
    sharpen(backbone, scale)
    return backbone


def sharpen(backbone: Backbone, scale: float) -> None:
    """Scale all matrices."""
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)


def sum_text(prompt: str = "12+34=", answer: str = "46", *, all_targets: bool = True) -> Text:
    """A lesson in which every token after the first one is a target."""
    return (Piece(prompt, "prompt", all_targets), Piece(answer, "answer", True), Piece(END, "answer", True))


def random_texts(lengths: Sequence[int], *, seed: int = 0) -> list[Text]:
    """Texts of given lengths, the first third of each a prompt, every token a target."""
    rng = np.random.default_rng(seed)
    texts: list[Text] = []
    for n in lengths:
        ids = rng.integers(12, size=n).tolist()
        cut = max(n // 3, 1)
        texts.append((Piece(Tokens(tuple(ids[:cut])), "prompt", True), Piece(Tokens(tuple(ids[cut:])), "answer", True)))
    return texts


def batch_of(backbone: Backbone, texts: Sequence[Text], *, context: int = 1024) -> Batch:
    """Texts as the training loop lays them out."""
    stream = encode(texts, backbone.alphabet)
    return make_batch(backbone.strategy, backbone.alphabet, stream, len(texts), device=CPU, context_tokens=context)


def states_and_inputs(backbone: Backbone, batch: Batch, change: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The training step's own forward pass: states at the reads, and the input activations (N, D) of its cells.

    change (N, D): added to the inputs.
    """
    seen: list[Tensor] = []
    own = type(backbone).embed

    def embed(cells: Any) -> Tensor:
        states = own(backbone, cells)
        if change is not None:
            states = states + change
        seen.append(states)
        return states

    backbone.embed = embed  # type: ignore[method-assign]
    try:
        states = backbone.strategy.forward(backbone, batch.cells, None)
    finally:
        del backbone.embed
    assert len(seen) == 1
    return states, seen[0]


def target_loss(backbone: Backbone, batch: Batch, states: Tensor, group: int) -> Tensor:
    """The strategy's own loss of one text target."""
    cells, reads = batch.cells, batch.cells.reads
    here = (reads.group == group).nonzero().squeeze(1)
    some = Reads(torch.zeros_like(reads.group[here]), reads.slot[here], reads.cells[here.numpy()], 1, reads.bill)
    one = replace(cells, reads=some, targets=cells.targets[here])
    return backbone.strategy.loss(backbone, states[here], one, 0.0)


@dataclass(frozen=True)
class Reach:
    """size (targets, cells): the largest |d loss of a target / d input activation of a cell|; facts of both."""

    size: Tensor
    target_row: np.ndarray
    target_place: np.ndarray
    row: np.ndarray
    place: np.ndarray
    thought: np.ndarray


def targets_of(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Row and place of each text target (in the order of its group)."""
    layout, reads = batch.cells.layout, batch.cells.reads
    first = np.unique(reads.group.numpy(), return_index=True)[1]
    cell = reads.cells[first]
    return layout.row[cell], layout.place[cell] + 1


def reach(backbone: Backbone, texts: Sequence[Text]) -> Reach:
    """One backward pass for each target, exact."""
    batch = batch_of(backbone, texts)
    states, inputs = states_and_inputs(backbone, batch)
    layout, count = batch.cells.layout, batch.cells.count
    rows = []
    for group in range(batch.cells.reads.count):
        (gradient,) = torch.autograd.grad(target_loss(backbone, batch, states, group), inputs, retain_graph=True)
        rows.append(gradient[:count].abs().amax(1))
    target_row, target_place = targets_of(batch)
    return Reach(torch.stack(rows), target_row, target_place, layout.row, layout.place, layout.kind == THOUGHT)


def leaks(found: Reach, horizon: int) -> list[tuple[int, int]]:
    """(place of a thought, place of a target) that train each other though they must not; and (place of a text token, target)
    where a target sees itself, the future, or another row."""
    other = found.target_row[:, None] != found.row[None, :]
    ahead = found.target_place[:, None] - found.place[None, :]
    forbidden = other | np.where(found.thought[None, :], ahead <= horizon, ahead <= 0)
    bad = np.argwhere(forbidden & (found.size.numpy() != 0))
    return [(int(found.place[c]), int(found.target_place[t])) for t, c in bad]


def untrained(found: Reach, horizon: int) -> list[int]:
    """Places of thoughts that no later target trains, though there is one."""
    ahead = found.target_place[:, None] - found.place[None, :]
    may = (found.target_row[:, None] == found.row[None, :]) & (ahead > horizon)
    has = (found.size.numpy() != 0) & may
    return found.place[found.thought & may.any(0) & ~has.any(0)].tolist()


def assert_shielded(found: Reach, horizon: int) -> None:
    """Must-hold statements (1), (2) and (3)."""
    assert found.thought.any()
    assert leaks(found, horizon) == []
    assert untrained(found, horizon) == []


def scripted(how: Strategy, *replies: Any, alphabet: Alphabet) -> Strategy:
    """The strategy with a model that says these strings and specials, whatever is asked; None: a read that nothing is made of."""
    left: list[int] = []
    for reply in replies:
        left += (
            [0] if reply is None else [alphabet.id_of(reply)] if isinstance(reply, Special) else alphabet.encode(reply).tolist()
        )

    def readout(self: Strategy, backbone: Any, states: Tensor, reads: Reads) -> Tensor:
        logits = torch.zeros(reads.count, backbone.outputs)
        logits[:, backbone.head_ids.index(left.pop(0))] = 9.0
        return logits

    return with_methods(how, readout=readout)


def tabled(how: Strategy, table: Mapping[str, Mapping[str | Special, float]]) -> Strategy:
    """The strategy with next-token probabilities by the last token alone in place of the model's head; "+" gets what is left. The
    passes, and what they cost, are the model's."""
    alphabet, last = digits(), list[int]()
    plus = int(alphabet.encode("+")[0])
    p = torch.full((alphabet.size, alphabet.size), 1e-6)
    for said, row in table.items():
        at = int(alphabet.encode(said)[0])
        p[at, plus] = max(1e-6, 1 - sum(row.values()) - 8e-6)
        for token, share in row.items():
            p[at, alphabet.id_of(token) if isinstance(token, Special) else int(alphabet.encode(token)[0])] = share

    def forward(self: Strategy, backbone: Any, cells: Any, slots: Any) -> Tensor:
        last[:] = cells.layout.embed[cells.reads.cells].tolist()
        return type(how).forward(self, backbone, cells, slots)

    def readout(self: Strategy, backbone: Any, states: Tensor, reads: Reads) -> Tensor:
        assert len(last) == len(type(how).readout(self, backbone, states, reads))
        return p[last][:, list(backbone.head_ids)].log()

    return with_methods(how, forward=forward, readout=readout)


def jobs_of(how: Strategy, problems: Iterable[Problem], sampler: Sampler = GREEDY, **fields: Any) -> list[Job]:
    """One solving job for each problem; each attempt is greedy or sampled."""

    def solve(p: Problem) -> Any:
        row = yield from how.start(p.question)
        completion = yield from how.attempt(p.question, row, sampler)
        return Answer(how.read(completion), completion)

    def job(p: Problem) -> Job:
        solver = how.solve if sampler is GREEDY else None
        return Job(
            p.question.id, lambda: solver(p.question) if solver else solve(p), seed=int(p.question.id.split("-")[1]), **fields
        )

    return [job(p) for p in problems]


def ask(backbone: Backbone, jobs: Iterable[Job], *, rows: int = 64) -> dict[str, Outcome]:
    """Outcomes by the job's name."""
    return {o.job.name: o for o in Session(backbone, rows=rows).run(jobs)}


def seen(outcome: Outcome) -> tuple[Any, ...]:
    """All that must not depend on company, comparable bit for bit."""
    ledger = outcome.ledger
    return (
        outcome.value, outcome.trace.cells, outcome.trace.notes, ledger.by_class(), ledger.serial_passes, ledger.text_tokens,
        ledger.woven_tokens, ledger.peak_kv_bytes, outcome.used_key,
    )  # fmt: skip


def without_padding(monkeypatch: Any) -> None:
    """Switch all rounding of shapes off, and the fused kernel (FlopCounterMode counts it as nothing on CPU)."""
    values = {"ROW_MULTIPLE": 1, "KEY_MULTIPLE": 1, "MIN_KEYS": 1, "MIN_QUERIES": 1, "FUSED_MIN_TOKENS": 1 << 30}
    for name, module in list(sys.modules.items()):
        if name.startswith("harness."):
            for constant, value in values.items():
                if hasattr(module, constant):
                    monkeypatch.setattr(module, constant, value)
