"""From the records of a grid to the comparison: each arm against the comparator at equal FLOPs, seed by seed, with verdicts.

An arm's curve is the hull over its points, laid over validation (mean over seeds) and applied to each seed's test scores; the
comparator's is the hull over all its arms' points. Knows records and the rules of design; makes no run, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness import registry, trainings
from harness.budgets import budget_of
from harness.curves import COMPARATOR, CURRENCIES, OTHERS, PRIMARY, SCORES, UNITS, At, Currency, Curves, curves_of
from harness.grid import Cell, Grid
from harness.records import Record
from harness.remedies import Budget
from harness.suite import Arm, Block
from harness.verdicts import Comparison, Verdict, flips, judge, leave_one_out

MARGINS = {True: 0.02, False: 0.01}  # two points of accuracy, or nats


OWN_COST = "own cost"
PLACES: Mapping[str, Currency] = {"flops": "flops", "passes": "serial passes", "tokens": "tokens"}


@dataclass(frozen=True, slots=True)
class Measured:
    """A block (and its number) at one budget: its arms' curves in each currency; sample: any of its records.

    capped: of an anytime comparison, the curves of each place's own runs; mixed: a line for each learner of which its runs asked
    several trainings.
    """

    number: int
    block: Block
    arms: Sequence[Arm]
    train_flops: float
    curves: Mapping[Currency, Curves]
    sample: Record
    capped: Mapping[str, Curves] = field(default_factory=dict)
    mixed: tuple[str, ...] = ()

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
        """The best constant's score on test, mean over seeds."""
        curves = self.curves[PRIMARY]
        by = curves.records[curves.names[0][1]]
        return _mean([by[seed]["metrics"][self.metric]["floor"] for seed in curves.seeds])

    @property
    def plain(self) -> str:
        """The point of plain training and asking: the comparator's cheapest in FLOPs, whatever is equal."""
        return self.curves[PRIMARY].hulls[COMPARATOR].corners[0].name

    @property
    def unit_flops(self) -> float:
        """x1: the formula's cost of asking plain training's model; the family's deeper and wider models have greater ones."""
        curves = self.curves[PRIMARY]
        units = [r["infer"]["unit_flops"] for by in curves.records.values() for r in by.values()]
        known = [float(unit) for unit in units if unit is not None]
        return min(known) if known else curves.hulls[COMPARATOR].corners[0].flops

    @property
    def budget(self) -> Budget:
        """The training budget, and the task's default one."""
        return budget_of(self.sample, self.train_flops)

    @property
    def difficulty_name(self) -> str:
        """What the task's difficulty counts."""
        return str(registry.find("task", self.sample["spec"]["task"]["name"], trust_plugins=False).difficulty_name)

    def unit_of(self, place: str) -> str:
        """What costs are counted in at a place."""
        currency = currency_of(place)
        return UNITS.get(currency, currency)

    def target(self, place: str, curves: Curves, arm: int) -> float:
        """What a problem may cost at a place: a multiple of x1, a number of the place's currency, or the arm's own cost."""
        if place == OWN_COST:
            return curves.hulls[arm].corners[-1].flops
        if place.startswith("x"):
            return float(place[1:]) * self.unit_flops
        return float(place.partition(":")[2])


@dataclass(frozen=True, slots=True)
class Row:
    """An arm at one place of one budget. target: what was to be spent on a problem; at: None where infeasible.

    comparator: the family there; verdict: None for the family itself and where one of both is infeasible. shaky: what the
    verdict's kind hangs on (another currency, a seed left out). records: by seed, of the dearer point of the coin.
    """

    one: Measured
    place: str
    number: int
    target: float
    at: At | None
    comparator: At | None
    verdict: Verdict | None
    shaky: tuple[str, ...]
    records: Mapping[int, Record]
    floor: float | None

    @property
    def task(self) -> str:
        """The task as it was named."""
        return self.one.block.task

    @property
    def train_flops(self) -> float:
        """The training budget."""
        return self.one.train_flops

    @property
    def arm(self) -> Arm:
        """The arm."""
        return self.one.arms[self.number]

    @property
    def higher_is_better(self) -> bool:
        """Whether scores are accuracies."""
        return self.one.is_accuracy


def currency_of(place: str) -> Currency:
    """What is equal at a place: passes:12 and tokens:40 name theirs, all others are FLOPs."""
    return PLACES.get(place.partition(":")[0], PRIMARY)


def measured(grid: Grid, found: Mapping[Cell, Record]) -> list[Measured]:
    """What there is, by block and budget. Seeds of which a needed record is missing are left out of their budget."""
    every = []
    for number, block in enumerate(grid.suite.blocks):
        for train_flops in sorted(set(block.train_flops)):
            mine = _records(grid, found, number, train_flops)
            arms = grid.arms[number]
            curves = {c: curves_of(arms, mine, c) for c in CURRENCIES} if mine else {}
            if curves and curves[PRIMARY].seeds:
                sample = next(iter(mine.values()))[curves[PRIMARY].seeds[0]]
                capped = {
                    p: curves_of(arms, _records(grid, found, number, train_flops, p), PRIMARY)
                    for p in block.infer
                    if block.anytime
                }
                every.append(Measured(number, block, arms, train_flops, curves, sample, capped, _mixed(arms, mine)))
    return every


def _mixed(arms: Sequence[Arm], mine: Mapping[tuple[int, str, str], Mapping[int, Record]]) -> tuple[str, ...]:
    """A line for each learner of which several trainings were asked."""
    named = [
        (arms[number].label + (f" [{point}]" if point else "") + (f" ({split})" if split != "test" else ""), seed, record)
        for (number, point, split), by in mine.items()
        for seed, record in by.items()
    ]
    return tuple(trainings.mixed(trainings.named_records(named)))


def _records(
    grid: Grid, found: Mapping[Cell, Record], number: int, train_flops: float, cap: str | None = None
) -> dict[tuple[int, str, str], dict[int, Record]]:
    """(arm, point, split) -> seed -> record, of one budget of a block; cap: of one place of an anytime comparison only."""
    mine: dict[tuple[int, str, str], dict[int, Record]] = {}
    for cell, record in found.items():
        for place in cell.places:
            if place.block == number and place.train_flops == train_flops and cap in (None, place.cap):
                point = ", ".join(filter(None, (place.point, place.cap and f"within {place.cap}")))
                mine.setdefault((place.arm, point, place.split), {})[place.seed] = record
    return mine


def rows_of(one: Measured) -> list[Row]:
    """Rows of one budget: a Holm family for each place."""
    rows: list[Row] = []
    for place in one.block.infer or (OWN_COST,):
        curves = one.capped[place] if one.block.anytime else one.curves[currency_of(place)]
        there = [number for number in range(len(one.arms)) if number in curves.hulls]
        targets = {number: one.target(place, curves, number) for number in there}
        at = curves.best if one.block.anytime else curves.at
        pairs = {n: (at(n, t), at(curves.rival(n), t)) for n, t in targets.items()}
        judged = _judged(one, curves, pairs)
        for number in there:
            ours, comparator = pairs[number]
            verdict, shaky = judged.get(number, (None, ()))
            records = curves.records[ours.mixture.dear.name] if ours else {}
            floor = _mean([r["metrics"][one.metric]["floor"] for r in records.values()])
            rows.append(Row(one, place, number, targets[number], ours, comparator, verdict, shaky, records, floor))
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


Pairs = Mapping[int, tuple[At | None, At | None]]


def _judged(one: Measured, curves: Curves, pairs: Pairs) -> dict[int, tuple[Verdict, tuple[str, ...]]]:
    """Verdicts on the arms outside the comparator, and what each hangs on."""
    comparisons = {str(n): _comparison(one, curves, *both) for n, both in _both(one.arms, pairs).items()}
    found = judge(comparisons)
    others = {currency: _judged_at_own_cost(one, one.curves[currency], pairs) for currency in OTHERS}
    judged = {}
    for name, verdict in found.items():
        left_out = leave_one_out(comparisons, name) if verdict.seeds > 2 else ()
        seeds = {f"without seed {seed}": v for seed, v in zip(curves.seeds, left_out, strict=False)}
        ledgers = {f"at equal {currency}": by[name] for currency, by in others.items() if name in by}
        shaky = flips({"": verdict} | ledgers | seeds)
        judged[int(name)] = (verdict, () if verdict.kind == "void" else tuple(shaky))
    return judged


def _judged_at_own_cost(one: Measured, curves: Curves, arms: Iterable[int]) -> dict[str, Verdict]:
    """Verdicts where each arm is compared at what it costs itself in another currency."""
    ends = {n: one.target(OWN_COST, curves, n) for n in arms}
    pairs = {n: (curves.at(n, end), curves.at(curves.rival(n), end)) for n, end in ends.items()}
    return judge({str(n): _comparison(one, curves, *both) for n, both in _both(one.arms, pairs).items()})


def _both(arms: Sequence[Arm], pairs: Pairs) -> dict[int, tuple[At, At]]:
    """Arms outside the comparator for which both curves are there."""
    return {n: (at, other) for n, (at, other) in pairs.items() if at and other and not arms[n].family}


def _comparison(one: Measured, curves: Curves, at: At, other: At) -> Comparison:
    """The differences of an arm and the comparator, with what the void rules look at: the comparator's baseline."""
    own = curves.hulls[COMPARATOR].corners[0].name  # of an anytime place, which has points of its own
    baseline = curves.records[one.plain if one.plain in curves.records else own]
    declared = one.block.primary.margin if one.block.primary else None
    metrics = [baseline[seed]["metrics"][one.metric] for seed in curves.seeds]
    epochs = [r["train"]["epochs"] for r in baseline.values() if r["train"]["epochs"] is not None]
    return Comparison(
        differences=tuple(at.scores[seed] - other.scores[seed] for seed in curves.seeds),
        margin=declared or MARGINS[one.is_accuracy], higher_is_better=one.is_accuracy, is_accuracy=one.is_accuracy,
        baseline_score=float(np.mean([m["value"] for m in metrics])), baseline_floor=_mean([m["floor"] for m in metrics]) or 0.0,
        epochs=max(epochs, default=None), budget=one.budget,
    )  # fmt: skip
