"""The primary analysis: a verdict on each comparison of a declared family, from one difference a training seed.

Knows numbers and rules; knows no strategy, task or record. The baseline is whatever the void rules look at. In order:
1. void: the text was seen for more than 4 epochs, or the baseline is not 0.05 better than its floor, or outside 20-80%, with
   what to do about it;
2. inconclusive: fewer than 8 seeds;
3. better or worse: two-sided paired t over seeds, p < 0.05 after Holm over the whole family;
4. equivalent: two one-sided t tests (TOST) place the mean within the margin, p < 0.05, not adjusted for the family;
5. inconclusive. Beside it stands the difference that 8 times in 10 would have been found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np

from harness.remedies import ABOVE_FLOOR, SAME, Budget, is_at_floor, to_lower, to_raise, to_shorten
from harness.stats import Estimate, share
from harness.wording import Unit

SEEDS_NEEDED = 8
ALPHA = 0.05
POWER = 0.8
LEAST_ACCURACY, MOST_ACCURACY = 0.2, 0.8  # of the baseline; beyond, differences are squeezed
MOST_EPOCHS = 4.0
GAP = 0.2
Kind = Literal["better", "worse", "equivalent", "inconclusive", "void"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A strategy less its comparator, one difference a training seed, all in the score's unit. ValueError on what is no number.

    margin: the half-width of equivalence, 0.02 (two points) or 0.01 nats. baseline_score, baseline_floor: means over the seeds.
    is_accuracy: a share of 1, so that the rule of 20-80% holds. epochs: how often the training text was seen, None if generated.
    budget: of the training, by which a void verdict says what to do; None: it says what is wrong alone.
    """

    differences: tuple[float, ...]
    margin: float
    higher_is_better: bool
    is_accuracy: bool
    baseline_score: float
    baseline_floor: float
    epochs: float | None = None
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.differences, self.baseline_score, self.baseline_floor))):
            raise ValueError("a difference, score or floor is not a finite number; leave out seeds of which an arm is infeasible")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"the margin is {self.margin}; give a positive one, such as 0.02 for two points")
        if self.epochs is not None and not self.epochs >= 0:
            raise ValueError(f"epochs is {self.epochs}; give how often the text was seen, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of one comparison, and what it rests on. None where there are too few seeds (1 gives a mean alone).

    difference: the mean with its 95% t interval. p: of the paired t, p_holm: over the family, p_equivalence: TOST. detectable:
    the mean found with 80% power at this n and sd, alpha 0.05 two-sided before Holm. within_margin: by TOST, whatever the kind.
    """

    kind: Kind
    reason: str
    seeds: int
    difference: Estimate
    sd: float | None
    p: float | None
    p_holm: float | None
    p_equivalence: float | None
    detectable: float | None
    within_margin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Spearman's rho with a two-sided p."""

    rho: float
    p: float


def judge(family: Mapping[str, Comparison], *, seeds_needed: int = SEEDS_NEEDED) -> dict[str, Verdict]:
    """A verdict for each comparison by name. Holm counts the whole declared family, void or short of seeds too (p = 1 below 2).

    seeds_needed: fewer get no verdict; at least 2, and lower than 8 only to see whether a verdict hangs on one seed.
    """
    if seeds_needed < 2:
        raise ValueError(f"seeds_needed is {seeds_needed}; a verdict needs at least 2 seeds")
    measured = {name: _measured(comparison) for name, comparison in family.items()}
    adjusted = _holm([1.0 if verdict.p is None else verdict.p for verdict in measured.values()])
    verdicts = {}
    for (name, found), p_holm in zip(measured.items(), adjusted, strict=True):
        found = found if found.p is None else replace(found, p_holm=p_holm)
        kind, reason = _ruled(family[name], found, seeds_needed)
        verdicts[name] = replace(found, kind=kind, reason=reason)
    return verdicts


def leave_one_out(family: Mapping[str, Comparison], name: str) -> tuple[Verdict, ...]:
    """Verdicts on one comparison with each of its seeds left out in turn; the rest of the family stays as it is.

    The minimum of 8 seeds is asked of the whole, not of what is left.
    """
    whole = family[name].differences
    needed = max(2, len(whole) - 1) if len(whole) >= SEEDS_NEEDED else SEEDS_NEEDED
    fewer = [replace(family[name], differences=whole[:i] + whole[i + 1 :]) for i in range(len(whole))]
    return tuple(judge({**family, name: comparison}, seeds_needed=needed)[name] for comparison in fewer)


def flips(verdicts: Mapping[str, Verdict]) -> list[str]:
    """Names (other ledgers, seeds left out) under which the verdict's kind differs from that of the first, the primary one."""
    first = next(iter(verdicts.values()), None)
    return [name for name, verdict in verdicts.items() if first is not None and verdict.kind != first.kind]


def solved_fraction(scores: Sequence[float], threshold: float) -> Estimate:
    """Share of seeds that score at least the threshold, with Wilson's interval; for cells in which seeds either solve or fail."""
    return share([float(score >= threshold) for score in scores], [1.0] * len(scores))


def fisher(solved_a: int, n_a: int, solved_b: int, n_b: int) -> float:
    """Fisher's exact two-sided p that seeds of a and b solve equally often. ValueError unless 0 <= solved <= n and n > 0."""
    from scipy.stats import fisher_exact

    if not (0 <= solved_a <= n_a > 0 and 0 <= solved_b <= n_b > 0):
        raise ValueError(f"{solved_a} of {n_a} and {solved_b} of {n_b} seeds solved; give counts of at least one seed each")
    return float(fisher_exact(np.array([[solved_a, n_a - solved_a], [solved_b, n_b - solved_b]])).pvalue)


def is_bimodal(accuracies: Sequence[float]) -> bool:
    """Whether seeds fall into two groups: the widest gap between neighbours is at least 20 points and wider than either group.

    Never with fewer than 4 seeds. One seed alone may be a group.
    """
    ranked = sorted(accuracies)
    if len(ranked) < 4:
        return False
    gap, cut = max((high - low, i) for i, (low, high) in enumerate(pairwise(ranked)))
    return gap >= GAP - SAME and gap > max(ranked[cut] - ranked[0], ranked[-1] - ranked[cut + 1])


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p of b problems that one alone got right and c that the other did; 1 where neither did.

    For two searchers on one checkpoint only: pooled over training seeds it rejects a true null far too often.
    """
    from scipy.stats import binomtest

    if b < 0 or c < 0:
        raise ValueError(f"counts are {b} and {c}; give numbers of problems")
    return float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0


def spearman(spent: Sequence[float], difficulty: Sequence[float]) -> Correlation | None:
    """Whether more is spent on harder problems. None where either is constant or there are fewer than 3 problems."""
    from scipy.stats import spearmanr

    if len(spent) != len(difficulty):
        raise ValueError(f"{len(spent)} spendings for {len(difficulty)} difficulties; give one of each a problem")
    if len(spent) < 3 or len(set(spent)) < 2 or len(set(difficulty)) < 2:
        return None
    found = spearmanr(spent, difficulty)
    return Correlation(rho=float(found.statistic), p=float(found.pvalue))


def _measured(comparison: Comparison) -> Verdict:
    """All numbers but those of the family; the kind is still open."""
    from scipy.special import stdtr, stdtrit  # t's distribution and its inverse, a hundred times faster than scipy.stats.t

    values = np.asarray(comparison.differences, dtype=np.float64)
    n = len(values)
    mean = float(values.mean()) if n else None
    found = Verdict(
        kind="inconclusive", reason="", seeds=n, difference=Estimate(mean, None, None), sd=None, p=None, p_holm=None,
        p_equivalence=None, detectable=None, within_margin=False,
    )  # fmt: skip
    if n < 2 or mean is None:
        return found
    sd = 0.0 if float(np.ptp(values)) < SAME else float(values.std(ddof=1))
    error, df = sd / math.sqrt(n), n - 1
    p = 2 * float(stdtr(df, -_t(abs(mean), error)))
    p_equivalence = float(stdtr(df, -_t(comparison.margin - abs(mean), error)))
    reach = float(stdtrit(df, 1 - ALPHA / 2)) * error
    return replace(
        found, difference=Estimate(mean, mean - reach, mean + reach), sd=sd, p=p, p_equivalence=p_equivalence,
        detectable=_detectable_in_sds(n) * sd, within_margin=p_equivalence < ALPHA,
    )  # fmt: skip


def _t(distance: float, error: float) -> float:
    """Distance in standard errors; without an error any real distance is infinitely many, and none is 0."""
    if error > 0:
        return distance / error
    return 0.0 if abs(distance) < SAME else math.copysign(math.inf, distance)


@lru_cache(maxsize=64)
def _detectable_in_sds(seeds: int) -> float:
    """The mean, in sds, that a paired t test finds with 80% power: the noncentral t solved by statsmodels."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(nobs=seeds, alpha=ALPHA, power=POWER))


def _holm(ps: Sequence[float]) -> list[float]:
    """Holm 1979, adjusted. By hand, since statsmodels' function collects garbage at each call, which takes 70 ms."""
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = adjusted[i] = min(1.0, max(least, ps[i] * (len(ps) - rank)))
    return adjusted


def _ruled(comparison: Comparison, found: Verdict, seeds_needed: int) -> tuple[Kind, str]:
    """The rules of the top, in their order."""
    void = _void(comparison)
    if void:
        return "void", void
    if found.seeds < seeds_needed:
        return "inconclusive", f"fewer than {seeds_needed} seeds"
    assert found.p_holm is not None and found.p_equivalence is not None and found.difference.value is not None
    if found.p_holm < ALPHA:
        inside = ", within the margin" if found.within_margin else ""
        return "better" if (found.difference.value > 0) == comparison.higher_is_better else "worse", f"p after Holm{inside}"
    if found.within_margin:
        return "equivalent", "within the margin by TOST"
    return "inconclusive", "neither a difference nor equivalence is shown"


def _void(comparison: Comparison) -> str:
    """Why no verdict can be given, in the table's unit, and what to do; or nothing."""
    score, floor, unit = comparison.baseline_score, comparison.baseline_floor, Unit(comparison.is_accuracy)
    if comparison.epochs is not None and comparison.epochs > MOST_EPOCHS:
        wrong = f"the text was seen for {comparison.epochs:.3g} epochs, more than {MOST_EPOCHS:g}"
        return _with_remedy(wrong, comparison, to_shorten)
    if is_at_floor(score, floor, higher_is_better=comparison.higher_is_better):
        wrong = f"the baseline scores {unit.said(score)}, not {unit.distance(ABOVE_FLOOR)} better than its floor of "
        return _with_remedy(wrong + unit.said(floor), comparison, to_raise)
    if comparison.is_accuracy and not LEAST_ACCURACY - SAME <= score <= MOST_ACCURACY + SAME:
        wrong = f"the baseline scores {unit.said(score)}, outside {100 * LEAST_ACCURACY:g}% to {100 * MOST_ACCURACY:g}%"
        return _with_remedy(wrong, comparison, to_raise if score < LEAST_ACCURACY else to_lower)
    return ""


def _with_remedy(wrong: str, comparison: Comparison, remedy: Callable[[Budget], str]) -> str:
    return wrong if comparison.budget is None else f"{wrong}: {remedy(comparison.budget)}"
