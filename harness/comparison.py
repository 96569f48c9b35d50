"""From the records of a grid to the comparison: each arm against the comparator at equal FLOPs, seed by seed, with verdicts.

An arm's curve is the hull over its points, laid over validation (mean over seeds) and applied to each seed's test scores; the
comparator's is the hull over all its arms' points. Knows records and the rules of design; makes no run, writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.grid import Cell, Grid
from harness.hulls import Hull, Mixture, Point, hull
from harness.records import Record
from harness.suite import Arm, Block
from harness.verdicts import Comparison, Verdict, flips, judge, leave_one_out

MARGINS = {True: 0.02, False: 0.01}  # two points of accuracy, or nats
Currency = Literal["flops", "serial passes"]  # what is equal where two curves are compared; the first is the primary one
SCORES = ("accuracy", "nats_per_token")  # of questions, of documents


@dataclass(frozen=True, slots=True)
class At:
    """An arm at one place: the coin, its test scores and costs by seed; None for an arm that cannot be had that cheaply."""

    mixture: Mixture
    scores: Mapping[int, float]
    cost: float


@dataclass(frozen=True, slots=True)
class Row:
    """An arm at one place of one budget. target: what was to be spent on a problem; at: None where infeasible.

    comparator: the family there; verdict: None for the family itself and where one of both is infeasible. shaky: what the
    verdict's kind hangs on (another currency, a seed left out).
    """

    task: str
    train_flops: float
    place: str
    arm: Arm
    target: float
    at: At | None
    comparator: At | None
    verdict: Verdict | None
    shaky: tuple[str, ...]
    records: Mapping[int, Record]  # by seed: of the dearer point of the coin
    higher_is_better: bool
    floor: float | None


@dataclass(frozen=True, slots=True)
class Curves:
    """Of one block at one budget, in one currency: hulls by arm (-1: the comparator), test scores and costs by point and seed.

    names: of all points, each behind its arm's number.
    """

    hulls: Mapping[int, Hull]
    scores: Mapping[str, Mapping[int, float]]
    costs: Mapping[str, Mapping[int, float]]
    records: Mapping[str, Mapping[int, Record]]
    seeds: tuple[int, ...]
    names: tuple[tuple[int, str], ...]

    def at(self, arm: int, place: float) -> At | None:
        """An arm where a problem costs ``place``."""
        if arm not in self.hulls or (mixture := self.hulls[arm].at(place)) is None:
            return None
        scores = {seed: mixture.applied({n: by[seed] for n, by in self._of(mixture, self.scores)}) for seed in self.seeds}
        cost = mixture.applied({n: float(np.mean([by[s] for s in self.seeds])) for n, by in self._of(mixture, self.costs)})
        return At(mixture, scores, cost)

    def _of(self, mixture: Mixture, values: Mapping[str, Mapping[int, float]]) -> list[tuple[str, Mapping[int, float]]]:
        return [(name, values[name]) for name in {mixture.cheap.name, mixture.dear.name}]


COMPARATOR, OWN_COST = -1, "own cost"


@dataclass(frozen=True, slots=True)
class Measured:
    """A block (and its number) at one budget: its arms' curves in each currency; sample: any of its records."""

    number: int
    block: Block
    arms: Sequence[Arm]
    train_flops: float
    curves: Mapping[Currency, Curves]
    sample: Record

    @property
    def metric(self) -> str:
        """The score's name."""
        return next(name for name in SCORES if name in self.sample["metrics"])

    @property
    def is_accuracy(self) -> bool:
        """Higher is better, as a share; else nats."""
        return self.metric == SCORES[0]

    @property
    def floor(self) -> float | None:
        """The best constant's score, of one seed's problems."""
        value = self.sample["metrics"][self.metric]["floor"]
        return None if value is None else float(value)


def measured(grid: Grid, found: Mapping[Cell, Record]) -> list[Measured]:
    """What there is, by block and budget. Seeds of which a needed record is missing are left out of their budget."""
    every = []
    for number, block in enumerate(grid.suite.blocks):
        for train_flops in sorted(set(block.train_flops)):
            mine = _records(grid, found, number, train_flops)
            arms = grid.arms[number]
            curves: dict[Currency, Curves] = {c: curves_of(arms, mine, c) for c in ("flops", "serial passes")} if mine else {}
            if curves and curves["flops"].seeds:
                sample = next(iter(mine.values()))[curves["flops"].seeds[0]]
                every.append(Measured(number, block, arms, train_flops, curves, sample))
    return every


def compared(grid: Grid, found: Mapping[Cell, Record]) -> list[Row]:
    """Rows by block, budget, place and arm."""
    return [row for one in measured(grid, found) for row in _rows(one)]


def _records(
    grid: Grid, found: Mapping[Cell, Record], number: int, train_flops: float
) -> dict[tuple[int, str, str], dict[int, Record]]:
    """(arm, point, split) -> seed -> record, of one budget of a block."""
    mine: dict[tuple[int, str, str], dict[int, Record]] = {}
    for cell, record in found.items():
        for place in cell.places:
            if place.block == number and place.train_flops == train_flops:
                mine.setdefault((place.arm, place.point, place.split), {})[place.seed] = record
    return mine


def score_of(record: Record) -> float:
    """The score that is compared."""
    return float(next(record["metrics"][name]["value"] for name in SCORES if name in record["metrics"]))


def cost_of(record: Record, currency: Currency) -> float:
    """What a problem cost, on average."""
    infer = record["infer"]
    return float(infer["flops_per_problem"]["total"] if currency == "flops" else infer["serial_passes_per_problem"])


def curves_of(arms: Sequence[Arm], mine: Mapping[tuple[int, str, str], Mapping[int, Record]], currency: Currency) -> Curves:
    """Hulls over validation where there is a choice, else over the one point there is."""
    seeds = set.intersection(*(set(by) for by in mine.values()))
    named = {key: f"{arms[key[0]].label} [{key[1]}]" if key[1] else arms[key[0]].label for key in mine}
    higher = "accuracy" in next(iter(next(iter(mine.values())).values()))["metrics"]
    tests = {named[key]: by for key, by in mine.items() if key[2] == "test"}
    chosen = {key: mine.get((key[0], key[1], "validation"), mine[key]) for key in mine if key[2] == "test"}

    def point(key: tuple[int, str, str]) -> Point:
        by = [chosen[key][seed] for seed in sorted(seeds)]
        cost, score = (float(np.mean([f(r) for r in by])) for f in (lambda r: cost_of(r, currency), score_of))
        return Point(flops=cost, score=score, name=named[key])

    hulls: dict[int, Hull] = {}
    if seeds:
        family = [key for key in chosen if arms[key[0]].family]
        groups = {number: [key for key in chosen if key[0] == number] for number in range(len(arms))} | {COMPARATOR: family}
        hulls = {n: hull([point(k) for k in keys], higher_is_better=higher) for n, keys in groups.items() if keys}
    scores = {name: {s: score_of(r) for s, r in by.items()} for name, by in tests.items()}
    costs = {name: {s: cost_of(r, currency) for s, r in by.items()} for name, by in tests.items()}
    names = tuple((key[0], name) for key, name in named.items() if key[2] == "test")
    return Curves(hulls, scores, costs, tests, tuple(sorted(seeds)), names)


def _rows(one: Measured) -> list[Row]:
    """Rows of one budget: a Holm family for each place."""
    block, arms, curves = one.block, one.arms, one.curves["flops"]
    rows: list[Row] = []
    for place in block.infer or (OWN_COST,):
        there = [number for number in range(len(arms)) if number in curves.hulls]
        targets = {number: _target(place, curves, number) for number in there}
        pairs = {n: (curves.at(n, t), curves.at(COMPARATOR, t)) for n, t in targets.items()}
        judged = _judged(one, pairs)
        for number in there:
            at, comparator = pairs[number]
            verdict, shaky = judged.get(number, (None, ()))
            records = curves.records[at.mixture.dear.name] if at else {}
            floor = _mean([r["metrics"][one.metric]["floor"] for r in records.values()])
            rows.append(
                Row(
                    block.task, one.train_flops, place, arms[number], targets[number], at, comparator, verdict, shaky, records,
                    one.is_accuracy, floor,
                )
            )  # fmt: skip
    return rows


def _target(place: str, curves: Curves, arm: int) -> float:
    """FLOPs a problem of a place: a multiple of the comparator's cheapest point (x2), a number, or the arm's own cost."""
    if place == OWN_COST:
        return curves.hulls[arm].corners[-1].flops
    if place.startswith("x"):
        return float(place[1:]) * curves.hulls[COMPARATOR].corners[0].flops
    return float(place.removeprefix("flops:"))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


Pairs = Mapping[int, tuple[At | None, At | None]]


def _judged(one: Measured, pairs: Pairs) -> dict[int, tuple[Verdict, tuple[str, ...]]]:
    """Verdicts on the arms outside the comparator, and what each hangs on."""
    first, other = one.curves["flops"], one.curves["serial passes"]
    comparisons = {str(n): _comparison(one, first, *both) for n, both in _both(one.arms, pairs).items()}
    found = judge(comparisons)
    ends = {n: _target(OWN_COST, other, n) for n in pairs}
    other_pairs = {n: (other.at(n, end), other.at(COMPARATOR, end)) for n, end in ends.items()}
    others = judge({str(n): _comparison(one, other, *both) for n, both in _both(one.arms, other_pairs).items()})
    judged = {}
    for name, verdict in found.items():
        left_out = leave_one_out(comparisons, name) if verdict.seeds > 2 else ()
        seeds = {f"without seed {seed}": v for seed, v in zip(first.seeds, left_out, strict=False)}
        shaky = flips({"": verdict} | ({"at equal serial passes": others[name]} if name in others else {}) | seeds)
        judged[int(name)] = (verdict, () if verdict.kind == "void" else tuple(shaky))
    return judged


def _both(arms: Sequence[Arm], pairs: Pairs) -> dict[int, tuple[At, At]]:
    """Arms outside the comparator for which both curves are there."""
    return {n: (at, other) for n, (at, other) in pairs.items() if at and other and not arms[n].family}


def _comparison(one: Measured, curves: Curves, at: At, other: At) -> Comparison:
    """The differences of an arm and the comparator, with what the void rules look at: the comparator's baseline."""
    baseline = curves.records[curves.hulls[COMPARATOR].corners[0].name]
    declared = one.block.primary.margin if one.block.primary else None
    metrics = [baseline[seed]["metrics"][one.metric] for seed in curves.seeds]
    epochs = [r["train"]["epochs"] for r in baseline.values() if r["train"]["epochs"] is not None]
    return Comparison(
        differences=tuple(at.scores[seed] - other.scores[seed] for seed in curves.seeds),
        margin=declared or MARGINS[one.is_accuracy], higher_is_better=one.is_accuracy, is_accuracy=one.is_accuracy,
        baseline_score=float(np.mean([m["value"] for m in metrics])), baseline_floor=_mean([m["floor"] for m in metrics]) or 0.0,
        epochs=max(epochs, default=None),
    )  # fmt: skip
