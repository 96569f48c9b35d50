"""Intervals that describe one run; verdicts between strategies are elsewhere. Knows numbers only; scipy does the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval; None where there is no data."""

    value: float | None
    low: float | None
    high: float | None


def share(scores: Sequence[float], weights: Sequence[float]) -> Estimate:
    """Weighted mean of 0-or-1 scores with Wilson's interval, at Kish's effective number of problems."""
    from statsmodels.stats.proportion import proportion_confint

    w = np.asarray(weights, dtype=np.float64)
    if w.sum() <= 0:
        return Estimate(None, None, None)
    p = float(np.average(np.asarray(scores, dtype=np.float64), weights=w))
    effective = float(w.sum() ** 2 / (w**2).sum())
    low, high = proportion_confint(p * effective, effective, alpha=0.05, method="wilson")
    return Estimate(p, float(low), float(high))


def t_interval(values: Sequence[float]) -> Estimate:
    """Mean of a few independent values, one a training seed, with Student's 95% interval; none with fewer than two."""
    from scipy.special import stdtrit

    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return Estimate(None, None, None)
    mean = float(x.mean())
    if len(x) < 2:
        return Estimate(mean, None, None)
    reach = float(stdtrit(len(x) - 1, 0.975)) * float(x.std(ddof=1)) / float(np.sqrt(len(x)))
    return Estimate(mean, mean - reach, mean + reach)


def ratio(tops: Sequence[float], bottoms: Sequence[float], weights: Sequence[float]) -> Estimate:
    """Sum of tops over sum of bottoms (both weighted) with a percentile bootstrap over problems, always of the same draws."""
    top, bottom = (np.asarray(x, dtype=np.float64) * np.asarray(weights) for x in (tops, bottoms))
    if bottom.sum() <= 0:
        return Estimate(None, None, None)
    value = float(top.sum() / bottom.sum())
    if len(top) < 2:
        return Estimate(value, None, None)
    from scipy.stats import bootstrap

    def statistic(a: FloatArray, b: FloatArray, axis: int = -1) -> FloatArray:
        total: FloatArray = a.sum(axis=axis) / np.maximum(b.sum(axis=axis), 1e-300)
        return total

    result = bootstrap(
        (top, bottom), statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, batch=200, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return Estimate(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def paired_difference(ours: Sequence[float], theirs: Sequence[float], weights: Sequence[float]) -> Estimate:
    """Weighted mean difference on the same problems, with a normal 95% interval. Describes two runs of one seed: no verdict."""
    from scipy.stats import norm

    w = np.asarray(weights, dtype=np.float64)
    d = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if w.sum() <= 0 or len(d) < 2:
        return Estimate(None, None, None)
    mean = float(np.average(d, weights=w))
    error = float(np.sqrt((w**2 * (d - mean) ** 2).sum()) / w.sum())
    reach = float(norm.ppf(0.975)) * error
    return Estimate(mean, mean - reach, mean + reach)
