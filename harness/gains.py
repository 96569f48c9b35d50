"""How much training compute an idea is worth, and which arm is the cheapest for a number of questions.

Knows FLOPs and scores, and answers with an inequality where the comparator was not measured; knows no strategy or record.
The comparator's curve is linear in log FLOPs between its budgets, through scores made monotone by isotonic regression. A running
maximum would keep each lucky peak and so flatter the comparator; isotonic regression averages neighbours that are out of order.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context

import numpy as np

from harness.stats import RESAMPLES, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Where a ratio lies: low = high where it is known; low = 0 or high = inf where it is bounded from one side only."""

    low: float
    high: float

    @property
    def text(self) -> str:
        """As it is printed: '4.0x', '> 4.0x', '< 0.25x', '1.0x to 2.0x'. Two digits; bounds are rounded to the safe side."""
        if self.low == self.high:
            return _two_digits(self.low, ROUND_HALF_EVEN)
        low, high = _two_digits(self.low, ROUND_FLOOR), _two_digits(self.high, ROUND_CEILING)
        if math.isinf(self.high):
            return f"> {low}" if self.low else "unknown"
        return f"{low} to {high}" if self.low else f"< {high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedCurve:
    """A training seed: the comparator's score at each training budget, the strategy's score, and what its training spent."""

    comparator_flops: tuple[float, ...]
    comparator_scores: tuple[float, ...]
    score: float
    spent_flops: float

    def __post_init__(self) -> None:
        if not len(self.comparator_flops) == len(set(self.comparator_flops)) == len(self.comparator_scores) > 0:
            raise ValueError("the comparator needs at least one training budget, each given once and with one score")
        numbers = (*self.comparator_flops, self.spent_flops, *self.comparator_scores, self.score)
        if not all(map(math.isfinite, numbers)) or min(*self.comparator_flops, self.spent_flops) <= 0:
            raise ValueError("training FLOPs must be positive and scores finite; leave out arms and seeds that have none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Each seed's gain, their median, and its 95% bootstrap interval over seeds; None below 2 seeds."""

    by_seed: tuple[Gain, ...]
    median: Gain
    interval: Gain | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What an arm scores, what its training costs once, and what each question costs."""

    name: str
    score: float
    train_flops: float
    question_flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Winners:
    """total_flops of the arms that score enough and the cheapest, at each Q; changes: (exact Q, the cheapest from there on)."""

    total_flops: dict[str, tuple[float, ...]]
    winners: tuple[str | None, ...]
    changes: tuple[tuple[float, str], ...]


def gain(seed: SeedCurve, *, higher_is_better: bool) -> Gain:
    """Training FLOPs that the comparator needs for the strategy's score / training FLOPs that the strategy spent."""
    from scipy.optimize import isotonic_regression

    order, sign = np.argsort(seed.comparator_flops), 1 if higher_is_better else -1
    flops = [seed.comparator_flops[i] / seed.spent_flops for i in order]
    curve, wanted = isotonic_regression(sign * np.take(seed.comparator_scores, order)).x, sign * seed.score
    level = len(curve) > 1 and curve[0] == curve[1]  # at a floor, say: less training might have done as well
    if wanted < curve[0] or (level and wanted == curve[0]):
        return Gain(low=0.0, high=flops[0])
    if wanted > curve[-1]:
        return Gain(low=flops[-1], high=math.inf)
    after = int(np.searchsorted(curve, wanted))
    needed = flops[after]  # of a level stretch the first budget
    if curve[after] > wanted:
        part = float((wanted - curve[after - 1]) / (curve[after] - curve[after - 1]))
        needed = flops[after - 1] * (flops[after] / flops[after - 1]) ** part
    return Gain(low=needed, high=needed)


def gains(seeds: Sequence[SeedCurve], *, higher_is_better: bool) -> Gains:
    """Gains over seeds; what is only bounded for a seed is only bounded in the median and the interval too, where it matters."""
    if not seeds:
        raise ValueError("no seeds; give at least one seed's curve")
    found = tuple(gain(seed, higher_is_better=higher_is_better) for seed in seeds)
    lows, highs = np.array([(g.low, g.high) for g in found]).T
    median = Gain(low=float(_median(lows)), high=float(_median(highs)))
    drawn = np.random.default_rng(0).integers(len(seeds), size=(RESAMPLES, len(seeds)))
    # Medians that were drawn, since between a finite one and an infinite one lies no number.
    low = float(np.percentile(_median(lows[drawn]), 2.5, method="lower"))
    high = float(np.percentile(_median(highs[drawn]), 97.5, method="higher"))
    return Gains(by_seed=found, median=median, interval=Gain(low=low, high=high) if len(seeds) > 1 else None)


def winner_by_questions(
    arms: Sequence[Candidate], questions: Sequence[float], *, wanted: float, higher_is_better: bool
) -> Winners:
    """The cheapest arm by train_flops + Q question_flops that scores `wanted` or better, at each number Q of questions."""
    numbers = (*questions, *(arm.train_flops for arm in arms), *(arm.question_flops for arm in arms))
    if len({arm.name for arm in arms}) < len(arms) or not all(0 <= x < math.inf for x in numbers):
        raise ValueError("name each arm differently; numbers of questions and FLOPs must be finite and not negative")
    able = [arm for arm in arms if (arm.score >= wanted if higher_is_better else arm.score <= wanted)]
    totals = {arm.name: tuple(arm.train_flops + q * arm.question_flops for q in questions) for arm in able}
    changes = _changes(able)
    winners = tuple(changes[bisect_right(changes, q, key=lambda x: x[0]) - 1][1] if changes else None for q in questions)
    return Winners(total_flops=totals, winners=winners, changes=tuple(changes))


def _changes(arms: Sequence[Candidate]) -> list[tuple[float, str]]:
    """The lower envelope of the arms' straight lines over the number of questions."""
    changes: list[tuple[float, str]] = []
    now, rivals = 0.0, [(arm.train_flops, arm.question_flops, arm) for arm in arms]
    while rivals:
        now, _, best = min(rivals, key=lambda rival: (rival[0], rival[1], rival[2].name))
        changes.append((now if changes else 0.0, best.name))
        saved = [(best.question_flops - arm.question_flops, arm) for arm in arms if arm.question_flops < best.question_flops]
        rivals = [((arm.train_flops - best.train_flops) / saving, arm.question_flops, arm) for saving, arm in saved]
    return changes


def _median(ratios: FloatArray) -> FloatArray:
    """Over the last axis; of the two in the middle the geometric mean, so that inverse ratios have the inverse median."""
    ranked, n = np.sort(ratios), ratios.shape[-1]
    return np.asarray(np.sqrt(ranked[..., (n - 1) // 2] * ranked[..., n // 2]))


def _two_digits(ratio: float, rounding: str) -> str:
    # Through twelve digits, lest 3.9999999999999996 be rounded down to 3.9.
    return f"{Context(prec=2, rounding=rounding).create_decimal(f'{ratio:.11e}'):f}x"
