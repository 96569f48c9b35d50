"""How cost grows: with model size, thoughts, samples, problems and cells, as slopes of log cost against log size.

A slope of 1 is cost in proportion, below 1 something fixed is shared. Bytes and FLOPs are exact, seconds are CPU seconds of one
thread. Nothing is asked of a slope; `harness/SCALE.md` says what follows from them. Workloads for `harness.bench`.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.bench_ours import Ours, learner, posed
from harness.bench_search import Searched
from harness.bench_turns import result, seconds_of
from harness.grid import grid_of
from harness.schedule import Step, steps_of
from harness.simulated import simulated
from harness.suite_file import suite_of

SIZES = ("xs", "s", "m")
UPDATES = {"xs": 8, "s": 5, "m": 3}
THOUGHTS, SAMPLES, PROBLEMS, SEEDS = (0, 1, 3, 7), (1, 4, 16, 64), (64, 256, 1024), (10, 100, 1000)
ROWS = 128
CLUSTER_RUNS, CLUSTER_WORKERS, RUNS_A_LEARNER, LOST = 10_000, 100, 4, 0.02
LEARNER_S, RUN_S = (50.0, 400.0), (5.0, 60.0)  # of a learner and of a run, from and to: those of the reference at xs


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The power that cost grows with, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def scale_measures() -> Iterator[dict[str, Any]]:
    """All of them."""
    yield from _sizes()
    yield _thoughts()
    yield _samples()
    yield _problems()
    yield _cells()
    yield _cluster()


def _told(name: str, sizes: Sequence[float], costs: Sequence[float], details: Mapping[str, Any]) -> dict[str, Any]:
    """A slope, with what it was drawn through."""
    return result(f"slope of {name}", slope(sizes, costs), None, {"sizes": list(sizes), "costs": list(costs), **details})


def _sizes() -> Iterator[dict[str, Any]]:
    """Training and asking language_model at three sizes: seconds a token against FLOPs a token, and what memory holds."""
    flops, train_s, asked_flops, asked_s, held, state = [], [], [], [], [], []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            ours = learner(Path(folder), strategy="direct", task="language_model", size=size)
            train_s.append(_update_s(ours, UPDATES[size]))
            spent = ours.trainer.spent
            flops.append(spent.flops / spent.text_tokens)
            held.append(_held_bytes(ours) * spent.updates / spent.text_tokens)
            state.append(16.0 * sum(p.numel() for p in ours.backbone.parameters()))  # fp32: weights, gradients, two moments
            asker = learner(Path(folder), strategy="direct", task="arithmetic", size=size)
        seconds, ledger = _asked(asker, ROWS)
        asked_s.append(seconds)
        asked_flops.append(ledger)
    yield _told("training seconds a token against its FLOPs", flops, train_s, {"sizes_of": SIZES})
    yield _told("asking seconds a problem against its FLOPs", asked_flops, asked_s, {"sizes_of": SIZES})
    yield _told("activation bytes a token against FLOPs a token", flops, held, {"state_bytes": state})


def _update_s(ours: Ours, updates: int) -> float:
    """Seconds a text token of the median update; the first is not measured."""
    ours.update()
    before = ours.trainer.spent.text_tokens
    seconds = statistics.median(seconds_of(ours.update) for _ in range(updates))
    return seconds * updates / (ours.trainer.spent.text_tokens - before)


def _held_bytes(ours: Ours) -> int:
    """What the forward pass of one update keeps for the backward, each storage once; weights are not counted."""
    own = {p.untyped_storage().data_ptr() for p in ours.backbone.parameters()}
    held: dict[int, int] = {}
    kept: list[torch.Tensor] = []  # so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ours.forward(0)
    return sum(held.values())


def _asked(ours: Ours, count: int, name: str = "", **settings: Any) -> tuple[float, float]:
    """Seconds and FLOPs a problem. name: of a search over the learner; the learner's own asking without."""
    searched = Searched(ours.spec, ours.backbone.eval(), posed(ours, count))
    how = searched.how(name, **settings) if name else ours.spec.strategy
    flops = sum(outcome.ledger.total_flops for outcome in searched.run(how, rows=ROWS).values())
    return seconds_of(lambda: searched.run(how, rows=ROWS)) / count, flops / count


def _thoughts() -> dict[str, Any]:
    """Training with n thoughts behind each token: seconds a text token against 1 + n."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for n in THOUGHTS:
            settings = {"strategy.per_token": n}
            ours = learner(Path(folder), strategy="reasoning_tokens", task="language_model", size="s", settings=settings)
            seconds.append(_update_s(ours, UPDATES["s"]))
    return _told("training seconds a token against cells a token", [1 + n for n in THOUGHTS], seconds, {})


def _samples() -> dict[str, Any]:
    """Votes among n samples: seconds a problem against n; details: FLOPs a problem."""
    with tempfile.TemporaryDirectory() as folder:
        ours = learner(Path(folder), strategy="direct", task="arithmetic", size="xs")
    found = [_asked(ours, ROWS, "self_consistency", samples=n) for n in SAMPLES]
    flops = [f for _, f in found]
    return _told("asking seconds a problem against samples", SAMPLES, [s for s, _ in found], {"flops": flops})


def _problems() -> dict[str, Any]:
    """Seconds of asking so many problems."""
    with tempfile.TemporaryDirectory() as folder:
        ours = learner(Path(folder), strategy="direct", task="arithmetic", size="xs")
    return _told("asking seconds against problems", PROBLEMS, [_asked(ours, n)[0] * n for n in PROBLEMS], {})


def _cells() -> dict[str, Any]:
    """Seconds of planning a grid against its runs: two strategies by so many seeds, with their steps."""
    runs, seconds = [], []
    for seeds in SEEDS:
        suite = suite_of("arithmetic", strategies="direct,self_consistency", seeds=f"0-{seeds - 1}", family=False)
        made: list[int] = []
        plan: Callable[[], None] = lambda suite=suite, made=made: made.append(_planned(suite))  # type: ignore[misc] # noqa: E731
        seconds.append(seconds_of(plan))
        runs.append(made[0])
    return _told("seconds of a plan against its runs", runs, seconds, {})


def _planned(suite: Any) -> int:
    cells = grid_of(suite).cells
    steps_of(cells)
    return len(cells)


def cluster_steps() -> tuple[list[Step], dict[str, float]]:
    """A study on paper: learners with the runs that ask them, and seconds of each, drawn between those of the reference."""
    draw = random.Random(0)
    any_spec = grid_of(suite_of("arithmetic", strategies="direct", seeds="0", family=False)).cells[0].spec
    steps, seconds = [], {}
    for i in range(CLUSTER_RUNS // (1 + RUNS_A_LEARNER)):
        above = f"learner-{i}"
        steps.append(Step(above, any_spec, None, None))
        seconds[above] = draw.uniform(*LEARNER_S)
        for j in range(RUNS_A_LEARNER):
            steps.append(Step(f"run-{i}-{j}", any_spec, above, None))
            seconds[f"run-{i}-{j}"] = draw.uniform(*RUN_S)
    return steps, seconds


def _cluster() -> dict[str, Any]:
    """Makespan of 10,000 steps on 100 workers, one try in fifty lost, over that of workers who never wait."""
    steps, seconds = cluster_steps()
    engine = simulated(steps, seconds, workers=CLUSTER_WORKERS, lost=LOST)
    sound = simulated(steps, seconds, workers=CLUSTER_WORKERS)
    least_s = engine.busy_s / CLUSTER_WORKERS
    facts = {
        "makespan_s": engine.clock_s, "without_losses_s": sound.clock_s, "work_s": sum(seconds.values()),
        "lost_work_s": engine.busy_s - sum(seconds.values()),
    }  # fmt: skip
    return result(
        f"makespan of {len(steps):,} steps, {CLUSTER_WORKERS} workers", engine.clock_s / least_s, 1.1, facts, at_most=True
    )
