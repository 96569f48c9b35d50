"""Equal tuning: every arm gets the same trials (learning rate times batch), one seed of its own, chosen on validation.

Arms that share a learner share its trials. What it cost is reported, and the best score that k trials would have found (Dodge
1909.03004), so that nobody wins by more tries. Knows suites and records; makes no run.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.curves import score_of
from harness.grid import Cell, Place, arms_of, check_block, check_size, key_of, put, settings_of
from harness.records import Record
from harness.refusal import Unsuited
from harness.spec import RunSpec, make_spec
from harness.suite import Arm, Block, Suite
from harness.wording import Unit, count

if TYPE_CHECKING:
    import pandas as pd

RATES = (1 / 3, 1.0, 3.0)  # times the task's learning rate
BATCHES = (0.5, 1.0, 2.0)  # times the task's problems per update
SHOWN_TRIALS = (1, 3, 9)


@dataclass(frozen=True, slots=True)
class Trial:
    """A setting of training that an arm is tried at."""

    learning_rate: float
    problems_per_update: int

    @property
    def settings(self) -> dict[str, Any]:
        """As settings of a spec."""
        return {"train.learning_rate": self.learning_rate, "train.problems_per_update": self.problems_per_update}


def trials_of(spec: RunSpec) -> list[Trial]:
    """The grid around a spec's own rate and batch."""
    rate, batch = spec.train.learning_rate, spec.train.problems_per_update
    return [Trial(float(f"{rate * r:.3g}"), max(1, round(batch * b))) for r, b in itertools.product(RATES, BATCHES)]


def tuning_seed(block: Block) -> int:
    """A seed that is not compared."""
    return max([*block.seeds, *(block.fewer_seeds or ())], default=-1) + 1


def tuning_cells(suite: Suite, *, threads: int) -> list[Cell]:
    """The trials of all arms at the headline budget, asked plainly on validation; equal ones are one run."""
    check_size(suite)
    found: dict[str, Cell] = {}
    for number, block in enumerate(suite.blocks):
        check_block(block, threads=threads)
        for index, arm in enumerate(arms_of(block)):
            for spec, trial in _trials(block, arm, threads):
                place = Place(
                    block=number, arm=index, train_flops=block.headline_flops, seed=spec.seed, split="validation",
                    point=f"learning rate {trial.learning_rate:g}, batch {trial.problems_per_update}",
                )  # fmt: skip
                put(found, spec, place)
    return list(found.values())


def _trials(block: Block, arm: Arm, threads: int) -> Iterator[tuple[RunSpec, Trial]]:
    """Of one arm; none for an arm of the family that does not suit the task."""
    try:
        settings = settings_of(block, arm, {"train.flops": block.headline_flops})
        settings |= {"infer.split": "validation", "infer.problems": block.validation}
        own = make_spec(strategy=arm.strategy, task=block.task, settings=settings)
    except Unsuited:
        if not arm.family:
            raise
        return
    for trial in trials_of(own):
        tried = settings | trial.settings
        seed = tuning_seed(block)
        yield make_spec(strategy=arm.strategy, task=block.task, settings=tried, seed=seed, threads=threads).as_learner(), trial


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found for an arm: its trials' validation scores, and the best; flops: that all its trials were trained with."""

    block: int
    label: str
    scores: Mapping[Trial, float]
    best: Trial
    flops: float
    is_accuracy: bool


def tuned_suite(suite: Suite, found: Mapping[Cell, Record], *, threads: int) -> tuple[Suite, list[Tuned]]:
    """The suite with every arm at its best trial, and what was found; an arm whose trials failed stays as it was."""
    by_key = {key_of(cell.spec): record for cell, record in found.items()}
    blocks, told = [], []
    for number, block in enumerate(suite.blocks):
        arms = []
        for arm in arms_of(block):
            records = {t: by_key[key_of(s)] for s, t in _trials(block, arm, threads) if key_of(s) in by_key}
            if records:
                told.append(_chosen(number, arm, records))
                arm = dataclasses.replace(arm, settings={**arm.settings, **told[-1].best.settings})
            arms.append(arm)
        blocks.append(dataclasses.replace(block, arms=arms, with_family=False))
    return dataclasses.replace(suite, blocks=blocks), told


def _chosen(number: int, arm: Arm, records: Mapping[Trial, Record]) -> Tuned:
    is_accuracy = "accuracy" in next(iter(records.values()))["metrics"]
    scores = {trial: score_of(record) for trial, record in records.items()}
    best = (max if is_accuracy else min)(scores, key=lambda trial: scores[trial])
    flops = sum(float(record["train"]["spent_flops"]) for record in records.values())
    return Tuned(number, arm.label, scores, best, flops, is_accuracy)


def expected_best(scores: Sequence[float], trials: int, *, higher_is_better: bool) -> float:
    """The mean of the best of so many trials drawn from these without repeating one."""
    ranked = np.sort(scores) if higher_is_better else -np.sort(-np.asarray(scores))
    n, k = len(ranked), min(trials, len(scores))
    from scipy.special import comb

    chances = comb(np.arange(n), k - 1) / comb(n, k)  # that the i-th is drawn, and all others from below it
    return float(chances @ ranked)


def table(told: Sequence[Tuned]) -> pd.DataFrame:
    """A row an arm: what was chosen, what k trials would have found, what tuning cost."""
    import pandas as pd

    rows = []
    for one in told:
        unit, scores = Unit(one.is_accuracy), list(one.scores.values())
        best = {
            f"expected best of {k}": unit.one(expected_best(scores, k, higher_is_better=one.is_accuracy)) for k in SHOWN_TRIALS
        }
        facts = {"arm": one.label, "trials": str(len(scores)), "learning rate": f"{one.best.learning_rate:g}"}
        facts |= {"problems an update": str(one.best.problems_per_update), "validation score": unit.one(one.scores[one.best])}
        rows.append(facts | best | {"training FLOPs of tuning": count(one.flops)})
    return pd.DataFrame(rows)
