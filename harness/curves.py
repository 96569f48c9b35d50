"""Curves: what each arm of a comparison scores at what cost, as hulls over its points, in any currency of cost.

Hulls are laid over validation (mean over seeds) where there is a choice; their corners are then taken at what they cost and score
on test, seed by seed. Knows records of
one block at one budget; judges nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from harness.hulls import Hull, Mixture, Point, hull
from harness.records import Record
from harness.stats import Estimate, t_interval
from harness.suite import Arm

Currency = Literal["flops", "serial passes", "tokens", "quadratic FLOPs", "non-embedding FLOPs", "seconds"]
PRIMARY: Currency = "flops"
CURRENCIES: tuple[Currency, ...] = get_args(Currency)
OTHERS: tuple[Currency, ...] = ("serial passes", "quadratic FLOPs", "non-embedding FLOPs")  # under which a verdict may flip
SCORES = ("accuracy", "nats_per_token")  # of questions, of documents
UNITS: Mapping[Currency, str] = {"flops": "FLOPs"}  # how currencies are said, where otherwise than they are named
AS_CHEAP = 0.02  # answers differ in length: one that costs so much less is as cheap
COMPARATOR = -1  # its place among the arms


def own_comparator(arm: int) -> int:
    """The place of a comparator that is one arm's alone."""
    return COMPARATOR - 1 - arm


@dataclass(frozen=True, slots=True)
class At:
    """An arm at one place: the coin, its test scores and costs by seed; None for an arm that cannot be had that cheaply."""

    mixture: Mixture
    scores: Mapping[int, float]
    cost: float


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
        """An arm where a problem costs ``place``; what is a little below its cheapest point counts as that."""
        if arm not in self.hulls:
            return None
        cheapest = self.hulls[arm].corners[0].flops
        mixture = self.hulls[arm].at(cheapest if cheapest * (1 - AS_CHEAP) <= place < cheapest else place)
        if mixture is None:
            return None
        scores = {seed: mixture.applied({n: by[seed] for n, by in self._of(mixture, self.scores)}) for seed in self.seeds}
        cost = mixture.applied({n: float(np.mean([by[s] for s in self.seeds])) for n, by in self._of(mixture, self.costs)})
        return At(mixture, scores, cost)

    def score(self, name: str) -> Estimate:
        """A point's, over seeds."""
        by = self.records[name]
        return interval_of({s: self.scores[name][s] for s in self.seeds}, by, is_share=SCORES[0] in by[self.seeds[0]]["metrics"])

    def rival(self, arm: int) -> int:
        """The place of the comparator that an arm is held against: its own, where one of the family is its twin alone."""
        return own_comparator(arm) if own_comparator(arm) in self.hulls else COMPARATOR

    def best(self, arm: int, cap: float) -> At | None:
        """An arm's best point within a cap on every problem: no coin, which could only mix what each problem may spend."""
        if arm not in self.hulls:
            return None
        return self.at(arm, self.hulls[arm].corners[-1].flops)

    def _of(self, mixture: Mixture, values: Mapping[str, Mapping[int, float]]) -> list[tuple[str, Mapping[int, float]]]:
        return [(name, values[name]) for name in {mixture.cheap.name, mixture.dear.name}]


_FLOPS = {"flops": "total", "quadratic FLOPs": "quadratic", "non-embedding FLOPs": "non_embedding"}


def score_of(record: Record) -> float:
    """The score that is compared."""
    return float(next(record["metrics"][name]["value"] for name in SCORES if name in record["metrics"]))


def interval_of(scores: Mapping[int, float], by: Mapping[int, Record], *, is_share: bool) -> Estimate:
    """Of scores by seed: their mean with Student's interval, of shares no further than shares go, since over few seeds t knows no
    bounds; of a single seed with the interval over problems that its record has, if there is one."""
    found = t_interval(list(scores.values()))
    if len(scores) == 1 and by:
        metrics = by[next(iter(scores))]["metrics"]
        facts = next(metrics[name] for name in SCORES if name in metrics)
        return Estimate(found.value, facts["low"], facts["high"])
    if not is_share or found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))


def cost_of(record: Record, currency: Currency) -> float:
    """What a problem cost, on average."""
    infer = record["infer"]
    if currency == "serial passes":
        return float(infer["serial_passes_per_problem"])
    if currency == "tokens":
        return float(infer["text_tokens_per_problem"] + infer["woven_tokens_per_problem"])
    if currency == "seconds":
        return float(record["timing"].get("seconds_per_problem", 0.0))  # the one thing that may be gone
    return float(infer["flops_per_problem"][_FLOPS[currency]])


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
        groups = {number: [key for key in chosen if key[0] == number] for number in range(len(arms))}
        for number, label in [(None, None), *((n, arm.label) for n, arm in enumerate(arms))]:
            twins = any(arm.only_for == label for arm in arms)
            if number is None or twins:
                at = COMPARATOR if number is None else own_comparator(number)
                groups[at] = [key for key in chosen if arms[key[0]].family and arms[key[0]].only_for in (None, label)]
        hulls = {n: hull([point(k) for k in keys], higher_is_better=higher) for n, keys in groups.items() if keys}
        spent = {name: float(np.mean([cost_of(by[s], currency) for s in seeds])) for name, by in tests.items()}
        hulls = {n: _relaid(found, spent) for n, found in hulls.items()}
    scores = {name: {s: score_of(r) for s, r in by.items()} for name, by in tests.items()}
    costs = {name: {s: cost_of(r, currency) for s, r in by.items()} for name, by in tests.items()}
    names = tuple((key[0], name) for key, name in named.items() if key[2] == "test")
    return Curves(hulls, scores, costs, tests, tuple(sorted(seeds)), names)


def _relaid(found: Hull, spent: Mapping[str, float]) -> Hull:
    """The corners that validation chose, at what they cost on test, where they are compared."""
    corners: list[Point] = []
    for corner in sorted((dataclasses.replace(c, flops=spent[c.name]) for c in found.corners), key=lambda c: c.flops):
        if not corners or corner.flops > corners[-1].flops:
            corners.append(corner)
    return Hull(corners=tuple(corners))
