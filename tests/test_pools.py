"""The formulas over all subsets against every subset counted one by one, closed cases by hand, and what large pools do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.pools import Pool, average_at, best_at, curves, majority_at, pass_at, weighted_majority_at
from harness.stats import FloatArray

RIGHT = {"a", "b"}  # the groups that are right
Chosen = Sequence[int]


def pool_of(groups: str, scores: Sequence[float | None] | None = None, weights: Sequence[float] | None = None) -> Pool:
    """A letter a candidate: its group; a and b are right, '-' gave no answer."""
    return Pool(
        right=tuple(g in RIGHT for g in groups),
        groups=tuple(None if g == "-" else g for g in groups),
        scores=None if scores is None else tuple(scores),
        weights=None if weights is None else tuple(weights),
    )


@st.composite
def small_pools(draw: st.DrawFn) -> Pool:
    """Up to 7 candidates, two right groups and two wrong ones, with ties, silence, missing scores and weights that tie."""
    groups = draw(st.text("abcd-", min_size=1, max_size=7))
    size = len(groups)
    scores = draw(st.lists(st.sampled_from([None, -1.5, 0.0, 2.0]), min_size=size, max_size=size))
    weights = draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 1.0]), min_size=size, max_size=size))
    return pool_of(groups, scores, weights)


def counted(pool: Pool, score: Callable[[Pool, Chosen], Fraction]) -> list[float]:
    """The mean of a selector's score over all subsets of each size, in exact fractions."""
    means = []
    for n in range(1, pool.size + 1):
        scores = [score(pool, chosen) for chosen in combinations(range(pool.size), n)]
        means.append(float(sum(scores, Fraction(0)) / len(scores)))
    return means


def passes(pool: Pool, chosen: Chosen) -> Fraction:
    return Fraction(any(pool.right[i] for i in chosen))


def averages(pool: Pool, chosen: Chosen) -> Fraction:
    return Fraction(sum(pool.right[i] for i in chosen), len(chosen))


def votes(pool: Pool, chosen: Chosen, *, weighted: bool = False) -> Fraction:
    """Each leader's share of the credit. Weights are tenths, so that their sums tie exactly."""
    sums: dict[str, Fraction] = {}
    for i in chosen:
        group = pool.groups[i]
        if group is not None:
            weight = Fraction(round(10 * (pool.weights or ())[i]), 10) if weighted else Fraction(1)
            sums[group] = sums.get(group, Fraction(0)) + weight
    leaders = [group for group in sums if sums[group] == max(sums.values())]
    return Fraction(sum(group in RIGHT for group in leaders), max(len(leaders), 1))


def ranks(pool: Pool, chosen: Chosen) -> Fraction:
    """A candidate without an answer is taken only where nobody has one; one without a score where nobody else has one."""
    able = [i for i in chosen if pool.groups[i] is not None]
    scores = {i: (pool.scores or ())[i] for i in able}
    known = [s for s in scores.values() if s is not None]
    taken = [i for i in able if not known or scores[i] == max(known)]
    return Fraction(sum(pool.right[i] for i in taken), max(len(taken), 1))


def assert_near(found: FloatArray, wanted: Sequence[float]) -> None:
    assert found.dtype == np.float64 and found.shape == (len(wanted),)
    assert found == pytest.approx(list(wanted), rel=1e-11, abs=1e-15)


@settings(max_examples=150)
@given(small_pools())
def test_formulas_agree_with_every_subset_counted(pool: Pool) -> None:
    assert_near(pass_at(pool), counted(pool, passes))
    assert_near(average_at(pool), counted(pool, averages))
    assert_near(majority_at(pool), counted(pool, votes))
    assert_near(best_at(pool), counted(pool, ranks))


@settings(max_examples=100)
@given(small_pools())
def test_order_means_and_the_whole_pool(pool: Pool) -> None:
    """One candidate is its own selector, the whole pool is one subset, more tries never hurt, and no selector beats pass@n."""
    silent = [i for i, group in enumerate(pool.groups) if group is None]
    passed, voted, best = pass_at(pool), majority_at(pool), best_at(pool)
    for curve in (passed, voted, best):
        assert curve[0] == pytest.approx(average_at(pool)[0])
        assert (curve >= 0).all() and (curve <= 1).all()
    everyone = range(pool.size)
    assert voted[-1] == pytest.approx(float(votes(pool, everyone))) and best[-1] == pytest.approx(float(ranks(pool, everyone)))
    assert passed[-1] == float(any(pool.right)) and (np.diff(passed) >= 0).all()
    assert (voted <= passed + 1e-12).all() and (best <= passed + 1e-12).all()
    if len(silent) == pool.size:
        assert not passed.any() and not voted.any() and not best.any()


def test_pass_at_is_the_published_estimator() -> None:
    """3 right of 10: 1 - C(7, n) / C(10, n); exactly 1 once the wrong ones cannot fill the subset."""
    found = pass_at(pool_of("aaaccccccc"))
    assert_near(found, [1 - math.comb(7, n) / math.comb(10, n) for n in range(1, 11)])
    assert (found[7:] == 1.0).all()


def test_majority_by_hand() -> None:
    """Two right, one wrong: pairs give 1, 1/2, 1/2. Three groups of one tie: 1/3. Silence leaves the lone voter in charge."""
    assert_near(majority_at(pool_of("aac")), [2 / 3, 2 / 3, 1.0])
    assert_near(majority_at(pool_of("acd")), [1 / 3, 1 / 3, 1 / 3])
    assert_near(majority_at(pool_of("abc")), [2 / 3, 2 / 3, 2 / 3])
    assert_near(majority_at(pool_of("a--")), [1 / 3, 2 / 3, 1.0])
    assert_near(majority_at(pool_of("aaccc--")), counted(pool_of("aaccc--"), votes))
    assert majority_at(pool_of("aabbccdd"))[-1] == pytest.approx(0.5) and majority_at(pool_of("abbccc"))[-1] == 0.0


def test_best_by_hand() -> None:
    """The best-scored is wrong; the right ones come second and, tied with a wrong one, third."""
    assert_near(best_at(pool_of("cad", [3.0, 2.0, 1.0])), [1 / 3, 1 / 3, 0.0])
    assert_near(best_at(pool_of("acd", [1.0, 1.0, 0.0])), [1 / 3, 1 / 6 + 2 / 6, 1 / 2])
    assert_near(best_at(pool_of("abcd")), [0.5] * 4)  # no scores: all tie


def test_silent_candidates_never_win() -> None:
    """Neither in number nor with the best score nor with the largest weight."""
    pool = pool_of("-----a", [9.0] * 5 + [-9.0], [9.0] * 5 + [0.1])
    assert_near(majority_at(pool), [n / 6 for n in range(1, 7)])
    assert_near(best_at(pool), [n / 6 for n in range(1, 7)])
    assert weighted_majority_at(pool, seed=0)[0][-1] == 1.0


@pytest.mark.parametrize(("groups", "wanted"), [("a", [1.0]), ("c", [0.0]), ("-", [0.0]), ("---", [0.0] * 3), ("aba", [1.0] * 3)])
def test_pools_that_leave_nothing_to_choose(groups: str, wanted: list[float]) -> None:
    pool = pool_of(groups, [0.5] * len(groups))
    for found in (pass_at(pool), average_at(pool), majority_at(pool), best_at(pool), weighted_majority_at(pool, seed=1)[0]):
        assert_near(found, wanted)


def test_a_result_can_be_changed_without_harm() -> None:
    """Equal pools share their counting, not their arrays."""
    pool = pool_of("aac")
    for at in (pass_at, average_at, majority_at, best_at):
        before = at(pool).copy()
        at(pool)[:] = 7.0
        assert (at(pool) == before).all()


def test_large_pools_stay_exact() -> None:
    """N = 1024. Against one group of each kind the vote is a hypergeometric sum, in exact integers here; no n leaves [0, 1]."""
    pool = pool_of("a" * 40 + "c" * 60 + "-" * 924, np.linspace(1.0, 0.0, 1024).tolist())
    for curve in (pass_at(pool), majority_at(pool), best_at(pool)):
        assert np.isfinite(curve).all() and curve.min() >= 0 and curve.max() <= 1
        assert curve[0] == pytest.approx(40 / 1024, rel=1e-12)
    for n in (1, 2, 7, 100, 512, 900, 1023, 1024):
        won = Fraction(0)
        for v in range(1, 41):
            for w in range(v + 1):
                ways = math.comb(40, v) * math.comb(60, w) * (math.comb(924, n - v - w) if v + w <= n else 0)
                won += Fraction(ways, 2 if v == w else 1)
        assert majority_at(pool)[n - 1] == pytest.approx(float(won / math.comb(1024, n)), rel=1e-10, abs=1e-300)
    # The right ones are ranked first, so the best of n is right wherever any of n is.
    assert best_at(pool) == pytest.approx(pass_at(pool), rel=1e-10)


def test_many_groups_in_a_large_pool() -> None:
    """100 groups of very unlike sizes: at n = N the largest wins, and its wins never fall as n grows."""
    sizes = [64 // (i + 1) + 1 for i in range(100)]
    names = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    found = majority_at(Pool(right=tuple(name == "0" for name in names), groups=tuple(names)))
    assert np.isfinite(found).all() and found[0] == pytest.approx(sizes[0] / len(names)) and found[-1] == pytest.approx(1.0)
    assert (np.diff(found) >= -1e-12).all() and (found <= 1).all()
    everyone = majority_at(Pool(right=(True,) * len(names), groups=tuple(names)))
    assert everyone == pytest.approx(1.0, rel=1e-10)


def test_a_large_pool_of_which_no_two_agree() -> None:
    """All tie, in as many ways as there are: more than a float64 can count, unless as a share."""
    names = tuple(str(i) for i in range(1024))
    assert majority_at(Pool(right=(True,) * 1024, groups=names)) == pytest.approx(1.0, rel=1e-10)
    assert majority_at(Pool(right=(True,) * 3 + (False,) * 1021, groups=names)) == pytest.approx(3 / 1024, rel=1e-10)


@settings(max_examples=25)
@given(small_pools(), st.integers(0, 2**32 - 1))
def test_the_whole_pools_weighted_vote_is_exact(pool: Pool, seed: int) -> None:
    """Also where sums of the same weights in another order differ in the last bit."""
    mean, error = weighted_majority_at(pool, subsets=2, seed=seed)
    assert mean[-1] == pytest.approx(float(votes(pool, range(pool.size), weighted=True))) and error[-1] == 0.0
    for subsets in range(2, 12):  # a mean of equal numbers is not always that number
        mean, error = weighted_majority_at(pool_of("acd"), subsets=subsets, seed=seed)
        assert mean[-1] == 1 / 3 and error[-1] == 0.0


@pytest.mark.parametrize("groups", ["aaccdb-", "acacacd", "abcdabc"])
def test_the_weighted_vote_is_within_its_error(groups: str) -> None:
    """Four standard errors; the same seed gives the same, another seed something else."""
    weights = [0.1, 0.2, 0.3, 0.3, 1.0, 0.2, 0.3]
    pool = pool_of(groups, weights=weights)
    wanted = np.array(counted(pool, lambda p, chosen: votes(p, chosen, weighted=True)))
    mean, error = weighted_majority_at(pool, subsets=1500, seed=5)
    assert (np.abs(mean - wanted) <= 4 * error + 1e-12).all() and (error[:-1] < 0.5 / math.sqrt(1499) + 1e-12).all()
    spread = np.std([weighted_majority_at(pool, subsets=50, seed=seed)[0] for seed in range(60)], axis=0)
    typical = weighted_majority_at(pool, subsets=50, seed=0)[1]
    assert (spread[:-2] > 0.6 * typical[:-2]).all() and (spread[:-2] < 1.6 * typical[:-2]).all()
    again, other = weighted_majority_at(pool, subsets=1500, seed=5), weighted_majority_at(pool, subsets=1500, seed=6)
    assert (again[0] == mean).all() and (again[1] == error).all() and (other[0] != mean).any()


def test_without_weights_the_weighted_vote_estimates_the_plain_one() -> None:
    pool = pool_of("aaabcccdd--")
    mean, error = weighted_majority_at(pool, subsets=1500, seed=3)
    assert (np.abs(mean - majority_at(pool)) <= 4 * error + 1e-12).all() and mean[-1] == pytest.approx(majority_at(pool)[-1])


def test_curves_are_weighted_means_up_to_the_smallest_pool() -> None:
    """The longer pool keeps its own formulas: its pass@2 is of 4, not of 2."""
    pools = [pool_of("ac", [1.0, 0.0]), pool_of("accc", [0.0, 1.0, 2.0, 3.0])]
    rows = curves(pools, [3.0, 1.0])
    assert [list(row) for row in rows] == [["n", "pass", "average", "majority", "best"]] * 2
    assert rows[0] == pytest.approx(dict.fromkeys(rows[0], (3 * 0.5 + 0.25) / 4) | {"n": 1})
    wanted = {"n": 2, "pass": (3 + 0.5) / 4, "average": (1.5 + 0.25) / 4, "majority": (1.5 + 0.25) / 4, "best": 3 / 4}
    assert rows[1] == pytest.approx(wanted)
    assert all(type(value) is (int if name == "n" else float) for row in rows for name, value in row.items())
    assert curves([], []) == []


def test_curves_have_no_best_without_scores() -> None:
    """One score anywhere is enough to have one."""
    bare, unknown, scored = pool_of("ac"), pool_of("ac", [None, None]), pool_of("ac", [1.0, None])
    assert [row["best"] for row in curves([bare, unknown], [1.0, 1.0])] == [None, None]
    assert [row["best"] for row in curves([bare, scored], [1.0, 1.0])] == pytest.approx([0.5, 0.75])


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        Pool(right=(), groups=())
    with pytest.raises(ValueError, match="scores has 1 entries for 2"):
        pool_of("ac", [1.0])
    with pytest.raises(ValueError, match="one group differ in right"):
        Pool(right=(True, False), groups=("7", "7"))
    with pytest.raises(ValueError, match="without an answer is marked right"):
        Pool(right=(True, False), groups=(None, "7"))
    with pytest.raises(ValueError, match="NaN"):
        pool_of("ac", [1.0, math.nan])
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive and finite"):
            pool_of("ac", weights=[1.0, weight])
    with pytest.raises(ValueError, match="at most 1024"):
        majority_at(pool_of("a" * 1025))
    with pytest.raises(ValueError, match="at least 2"):
        weighted_majority_at(pool_of("ac"), subsets=1, seed=0)
    for weights in ([1.0], [-1.0, 2.0], [0.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="2 pools need as many weights"):
            curves([pool_of("a"), pool_of("c")], weights)
