"""What a selector would get from n of a problem's N candidates, for every n: averages over all subsets of size n, by formula.
Only the weighted vote is sampled. Knows which candidates are right and how they vote; not what they say, nor what they cost.

A vote needs no sampling because subsets can be counted. Say the leader has v votes. A group of c candidates that does not reach v
gives C(c, j) x^j for j < v; one that ties gives C(c, v) x^v. The coefficient of x^n in the product over the groups counts the
subsets of size n. Terms are positive, so nothing cancels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np

from harness.stats import FloatArray

LARGEST = 1024  # candidates that a vote is counted for: 2^-1024 is about the smallest share of all subsets that a float64 holds
SAME = 1e-9  # relative; sums of the same weights in another order differ by less, and are a tie
Tally = tuple[tuple[int, bool], ...]  # (candidates, right) of each group


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The N candidates of one problem; ValueError on contradictions.

    right: whether each is right. groups: the canonical answer each votes for; None gave no answer, casts no vote and never wins.
    scores: what a ranking goes by, larger is better; None ranks behind all numbers. weights: positive, of the weighted vote.
    """

    right: tuple[bool, ...]
    groups: tuple[str | None, ...]
    scores: tuple[float | None, ...] | None = None
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.right:
            raise ValueError("a pool needs at least one candidate; leave out problems that were not answered")
        for name, column in (("groups", self.groups), ("scores", self.scores), ("weights", self.weights)):
            if column is not None and len(column) != len(self.right):
                raise ValueError(f"{name} has {len(column)} entries for {len(self.right)} candidates; give one for each")
        verdicts = set(zip(self.groups, map(bool, self.right), strict=True))
        if (None, True) in verdicts:
            raise ValueError("a candidate without an answer is marked right; give it a group or mark it wrong")
        if len(verdicts) > len(set(self.groups)):
            raise ValueError("candidates of one group differ in right; group by an answer that decides whether it is right")
        if any(x is not None and math.isnan(x) for x in self.scores or ()):
            raise ValueError("a score is NaN; give None where a candidate has none")
        if not all(0 < x < math.inf for x in self.weights or ()):
            raise ValueError("weights must be positive and finite; give a candidate without a vote the group None")

    @property
    def size(self) -> int:
        """N, the number of candidates."""
        return len(self.right)


def pass_at(pool: Pool) -> FloatArray:
    """(N,) chance that one of n is right: 1 - C(N-c, n) / C(N, n), c of N being right (Chen et al. 2021, equation 1)."""
    n = np.arange(1, pool.size + 1)
    k = np.arange(pool.size - sum(pool.right) + 1, pool.size + 1)
    missed: FloatArray = np.maximum(0.0, 1 - n[:, None] / k).prod(axis=1)  # the ratio as a product of c factors, as Chen does
    return 1 - missed


def average_at(pool: Pool) -> FloatArray:
    """(N,) chance that one taken at random is right: the same for each n."""
    return np.full(pool.size, sum(pool.right) / pool.size)


def best_at(pool: Pool) -> FloatArray:
    """(N,) chance that the best-scored of n is right. Ties share the credit; those without an answer are taken last."""
    scores = pool.scores or (None,) * pool.size
    rows = zip(pool.groups, scores, pool.right, strict=True)
    # Larger is better, first by having an answer, then by having a score, then by the score.
    ranked = sorted((((g is not None, s is not None, s or 0.0), float(r)) for g, s, r in rows), reverse=True)
    credit: list[float] = []
    for _, tied in groupby(ranked, key=lambda row: row[0]):
        found = [r for _, r in tied]
        credit += [sum(found) / len(found)] * len(found)
    chances: FloatArray = _top(pool.size) @ np.array(credit)
    return np.minimum(chances, 1.0)


@lru_cache(maxsize=8)
def _top(size: int) -> FloatArray:
    """(N, N) chance C(N-1-i, n-1) / C(N, n) that the candidate of rank i (from 0) is the best of n; rows are n - 1."""
    n, i = np.arange(1, size + 1)[:, None], np.arange(1, size)
    steps = np.maximum(0.0, (size - i - n + 1) / (size - i))  # from rank i - 1 to rank i
    chances: FloatArray = np.cumprod(np.hstack([n / size, steps]), axis=1)
    return chances


def majority_at(pool: Pool) -> FloatArray:
    """(N,) expected score of a plain vote of n. Groups that tie for the lead share the credit; no votes at all score 0.

    ValueError beyond N = 1024, where float64 cannot hold the smallest share of all subsets.
    """
    if pool.size > LARGEST:
        raise ValueError(f"a vote is counted for at most {LARGEST} candidates, and this pool has {pool.size}; split it")
    verdicts = dict(zip(pool.groups, map(bool, pool.right), strict=True))
    votes = Counter(pool.groups)
    silent = votes.pop(None, 0)
    # All that matters are the sizes of the groups, and many problems share those.
    return _majority(tuple(sorted((count, verdicts[group]) for group, count in votes.items())), silent).copy()


@lru_cache(maxsize=1 << 14)
def _majority(tally: Tally, silent: int) -> FloatArray:
    """`majority_at` from the sizes of the groups. silent: candidates that cast no vote. The sum runs over the leader's votes."""
    size = silent + sum(count for count, _ in tally)
    credit = np.zeros(size + 1)
    for votes in range(1, max((count for count, right in tally if right), default=0) + 1):
        tall = tuple(x for x in tally if x[0] >= votes)
        # Groups that cannot reach the lead are as free as those who cast no vote: (1 + x)^rest.
        led = np.convolve(_led(tall, votes), _shares(size - sum(count for count, _ in tall)))
        credit[: len(led)] += led
    return np.minimum(credit[1:] / _shares(size)[1:], 1.0)


def _led(tall: Tally, votes: int) -> FloatArray:
    """(votes * groups + 1,) by number of voters: share of subsets where a right group leads with `votes`, its credit shared."""
    width = (votes - 1) * len(tall) + 1
    # [t, 0]: t groups have `votes`, none more. [t, 1]: so do t groups besides one right group, which takes the credit.
    # Columns count the voters of the other groups only, since t tells the rest.
    state = np.zeros((len(tall) + 1, 2, width))
    state[0, 0, 0] = 1.0
    for done, (count, right) in enumerate(tall):
        shares, before = _shares(count), state[: done + 1].copy()
        level = shares[votes] * before
        # No row ever fills more than `width`, so all rows are multiplied in one go and none runs into the next.
        state[: done + 1] = np.convolve(before.ravel(), shares[:votes])[: before.size].reshape(before.shape)
        state[1 : done + 2] += level
        if right:
            state[: done + 1, 1] += level[:, 0]
    led = np.zeros(votes * len(tall) + width)
    for others in range(len(tall)):
        start = (others + 1) * votes
        led[start : start + width] += state[others, 1] / (others + 1)
    return led[: votes * len(tall) + 1]


@lru_cache(maxsize=LARGEST + 1)
def _shares(count: int) -> FloatArray:
    """(count + 1,) C(count, j) / 2^count: as shares of all subsets the numbers cannot overflow, and 2^N cancels in the end."""
    return np.array([math.comb(count, j) / (1 << count) for j in range(count + 1)])


def weighted_majority_at(pool: Pool, *, subsets: int = 200, seed: int) -> tuple[FloatArray, FloatArray]:
    """(N,) mean and (N,) standard error of a weighted vote of n, over `subsets` random subsets; n = N is exact, with error 0.

    The first n of one random order are a subset of size n, so each n sees equally many, and the means at two n are correlated.
    Without weights it estimates `majority_at`. ValueError for fewer than two subsets.
    """
    if subsets < 2:
        raise ValueError(f"{subsets} subsets have no standard error; take at least 2")
    rng = np.random.default_rng(seed)
    ballots, right = _ballots(pool)
    drawn = np.array([_vote(ballots[rng.permutation(pool.size)], right) for _ in range(subsets)])
    mean, error = drawn.mean(axis=0), drawn.std(axis=0, ddof=1) / math.sqrt(subsets)
    mean[-1], error[-1] = _vote(ballots, right)[-1], 0.0
    return mean, error


def _ballots(pool: Pool) -> tuple[FloatArray, FloatArray]:
    """(N, groups) the weight that each candidate gives each group; (groups,) 1 where a group is right. At least one group."""
    names = sorted({group for group in pool.groups if group is not None}) or [""]
    column = {name: i for i, name in enumerate(names)}
    ballots, right = np.zeros((pool.size, len(names))), np.zeros(len(names))
    for row, group in enumerate(pool.groups):
        if group is not None:
            ballots[row, column[group]] = 1.0 if pool.weights is None else pool.weights[row]
            right[column[group]] = float(pool.right[row])
    return ballots, right


def _vote(ballots: FloatArray, right: FloatArray) -> FloatArray:
    """(N,) score of the vote of the first n ballots."""
    sums = ballots.cumsum(axis=0)
    top = sums.max(axis=1, keepdims=True)
    leads = (sums >= top * (1 - SAME)) & (top > 0)
    score: FloatArray = leads @ right / np.maximum(leads.sum(axis=1), 1)
    return score


def curves(pools: Sequence[Pool], weights: Sequence[float]) -> list[dict[str, float | None]]:
    """A row {n, pass, average, majority, best} for each n up to the smallest pool; weighted means over the problems.

    best is None where no candidate has a score. ValueError on weights that make no mean.
    """
    if not pools:
        return []
    if len(weights) != len(pools) or min(weights) < 0 or not 0 < sum(weights) < math.inf:
        raise ValueError(f"{len(pools)} pools need as many weights, none negative and one positive; got {list(weights)[:5]}..")
    size = min(pool.size for pool in pools)
    columns: dict[str, list[float | None]] = {}
    for name, at in (("pass", pass_at), ("average", average_at), ("majority", majority_at), ("best", best_at)):
        columns[name] = np.average([at(pool)[:size] for pool in pools], axis=0, weights=weights).tolist()
    if all(score is None for pool in pools for score in pool.scores or ()):
        columns["best"] = [None] * size
    return [{"n": n + 1} | {name: column[n] for name, column in columns.items()} for n in range(size)]
