"""Measures of one untrained strategy for `check FILE.py`: gradient by target distance, ledger of one problem, cost multiples.

Knows a small task of its own, so that a file can be looked at without any other; knows no plugin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.backbone import Backbone
from harness.checks.context import PLAIN, Context, places_read, trained_states
from harness.problem import Key, Problem, Question
from harness.session import Job
from harness.strategy import PAUSE, THOUGHT, Strategy
from harness.task import Split, Task

FARTHEST = 8


@dataclass(frozen=True, kw_only=True)
class Sums(Task):
    """Sums of three-digit numbers, for looking at strategies."""

    source: ClassVar[str] = "checks"

    def alphabet(self) -> str:
        """Digits and signs."""
        return "chars:0123456789+=;"

    def offers(self) -> frozenset[str]:
        """All that a strategy may need."""
        return frozenset({"prompt", "worked_lines"})

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """Drawn from seed, split and index."""
        made = []
        for index in range(start, start + count):
            a, b = np.random.default_rng([seed, len(split), index]).integers(100, 1000, 2).tolist()
            steps = (f"{a // 100 * 100 + b}", f"{a + b}") if lines else ()
            made.append(Problem(Question(f"{a}+{b}=", f"{a}+{b}=", 5, 10), Key(f"{a + b}", steps)))
        return made


@dataclass(frozen=True, slots=True)
class Distance:
    """Mean length of the gradient of loss(x_{i+distance}), in nats, with respect to the input states of place i's cells.

    thoughts: of the woven cells; None where none are woven. text: of the text token's own cell.
    """

    distance: int
    thoughts: float | None
    text: float


def gradient_by_distance(context: Context) -> list[Distance]:
    """By autograd on the training step's own path, for distances 1 to 8; empty if `forward` embeds cells in a way of its own."""
    problem = context.problems[0]
    lessons = context.strategy.lessons(problem, progress=0.5, rng=np.random.default_rng(0))
    cells = context.batch(context.strategy, [context.token_pieces(lessons[0])]).cells
    with _inputs_kept(context.backbone) as inputs, torch.enable_grad():
        states = trained_states(context, cells)
        said = torch.log_softmax(context.strategy.readout(context.backbone, states, cells.reads), -1)
    if not inputs:
        return []
    _, place = places_read(cells)
    targets = cells.targets.cpu().numpy()
    if len(said) != len(place):
        first = np.unique(cells.reads.group.cpu().numpy(), return_index=True)[1]
        place, targets = place[first], targets[first]
    layout = cells.layout
    woven = (layout.kind == THOUGHT) | (layout.kind == PAUSE)
    found: dict[tuple[int, bool], list[float]] = defaultdict(list)
    for row, (column, read_at) in enumerate(zip(targets.tolist(), place.tolist(), strict=True)):
        (slope,) = torch.autograd.grad(-said[row, column], inputs[0], retain_graph=True)
        squares = slope[: len(woven)].double().square().sum(1).cpu().numpy()
        for source in range(max(0, read_at + 1 - FARTHEST), read_at + 1):
            for of_thoughts in (False, True):
                mine = (layout.place == source) & (woven == of_thoughts)
                if mine.any():
                    found[read_at + 1 - source, of_thoughts].append(float(np.sqrt(squares[mine].sum())))
    means = {key: float(np.mean(values)) for key, values in found.items()}
    distances = sorted({distance for distance, _ in means})
    return [Distance(k, means.get((k, True)), means.get((k, False), 0.0)) for k in distances]


@contextmanager
def _inputs_kept(backbone: Backbone) -> Iterator[list[Tensor]]:
    """The input states of every pass that begins with backbone.embed."""
    inputs: list[Tensor] = []
    embed = backbone.embed

    def kept(cells: Any) -> Tensor:
        inputs.append(embed(cells))
        return inputs[-1]

    backbone.embed = kept  # type: ignore[method-assign]
    try:
        yield inputs
    finally:
        del backbone.embed


def ledger_of_one(context: Context) -> dict[str, float]:
    """What one problem costs this untrained model: FLOPs by class, serial passes, tokens, bytes of keys and values."""
    ledger = _solved(context, context.strategy)[0]
    others = {"serial_passes": ledger.serial_passes, "text_tokens": ledger.text_tokens, "woven_tokens": ledger.woven_tokens}
    return {**ledger.by_class(), **others, "kv_bytes": ledger.peak_kv_bytes}


def asking_multiple(context: Context) -> float:
    """FLOPs of the same problems relative to plain asking; end of text is never said, so that answers are equally long."""
    ours, plain = (_solved(context, s, mute_end=True) for s in (context.strategy, PLAIN))
    return float(sum(x.total_flops for x in ours) / sum(x.total_flops for x in plain))


def _solved(context: Context, strategy: Strategy, *, mute_end: bool = False) -> list[Any]:
    """Ledgers of four problems."""
    backbone = context.backbone_of(strategy)
    if mute_end:
        with torch.no_grad():
            backbone.model.transformer.wte.weight[context.alphabet.end_id] = 0.0

    def job(at: int, question: Question) -> Job:
        return Job(str(at), lambda: strategy.solve(question), seed=at)

    jobs = [job(at, p.question) for at, p in enumerate(context.problems[:4])]
    outcomes = context.solve(jobs, backbone=backbone)
    return [outcomes[j.name].ledger for j in jobs]


def training_multiple(context: Context) -> float:
    """FLOPs of one training update relative to plain training on the same problems."""
    spent = []
    for strategy in (context.strategy, PLAIN):
        backbone = context.backbone_of(strategy)
        batch = context.feed(context.task).batch(strategy, 0, progress=0.0, device=backbone.device, backbone=backbone)
        states = strategy.forward(backbone, batch.cells, None)
        strategy.loss(backbone, states, batch.cells, 0.0)
        spent.append(batch.flops)
    return spent[0] / spent[1]
