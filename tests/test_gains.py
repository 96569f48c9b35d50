"""Gains and crossing points by hand, and what they may not depend on."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gains import Candidate, Gain, SeedCurve, gain, gains, winner_by_questions

BUDGETS = (1e12, 4e12, 16e12)


def seed(score: float, scores: tuple[float, ...] = (0.2, 0.4, 0.8), spent_flops: float = 4e12) -> SeedCurve:
    """A strategy that spent 4e12, against a comparator that was trained with 1, 4 and 16e12."""
    return SeedCurve(comparator_flops=BUDGETS[: len(scores)], comparator_scores=scores, score=score, spent_flops=spent_flops)


def text(found: SeedCurve, *, higher_is_better: bool = True) -> str:
    """A gain as it is printed."""
    return gain(found, higher_is_better=higher_is_better).text


@pytest.mark.parametrize(
    "score, expected",
    [(0.2, "0.25x"), (0.3, "0.50x"), (0.4, "1.0x"), (0.6, "2.0x"), (0.8, "4.0x"), (0.81, "> 4.0x"), (0.19, "< 0.25x")],
)
def test_gains_by_hand(score: float, expected: str) -> None:
    """Halfway in score is halfway in log FLOPs; outside the budgets the gain is bounded, however far outside."""
    assert text(seed(score)) == expected


def test_where_lower_is_better() -> None:
    """Nats: 1.0 was never reached, 3.5 always."""
    found = [text(seed(score, (3.0, 2.0, 1.5)), higher_is_better=False) for score in (2.5, 1.0, 3.5)]
    assert found == ["0.50x", "> 4.0x", "< 0.25x"]


def test_scores_out_of_order_are_averaged() -> None:
    """A lucky middle budget counts half: 0.6 and 0.5 become 0.55 at both, of which the first is taken."""
    uneven = (0.2, 0.6, 0.5)
    assert text(seed(0.55, uneven)) == "1.0x" and text(seed(0.58, uneven)) == "> 4.0x"
    assert text(seed(0.2 + 0.35 / 2, uneven)) == "0.50x"


def test_a_level_floor_bounds_the_gain() -> None:
    """Nobody solved it at 1e12 and 4e12, nor does the strategy: less might have done too. One budget alone is a point."""
    assert text(seed(0.0, (0.0, 0.0, 0.9))) == "< 0.25x" and text(seed(0.45, (0.0, 0.0, 0.9))) == "2.0x"
    assert [text(seed(score, (0.5,))) for score in (0.5, 0.6, 0.4)] == ["0.25x", "> 0.25x", "< 0.25x"]


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (12.4, 12.4, "12x"), (1234.0, 1234.0, "1200x"), (0.0123, 0.0123, "0.012x"), (3.99, math.inf, "> 3.9x"),
        (0.0, 0.251, "< 0.26x"), (3.9999999999999996, math.inf, "> 4.0x"), (1.0, 2.0, "1.0x to 2.0x"), (0.0, math.inf, "unknown"),
    ],
)  # fmt: skip
def test_how_a_gain_is_printed(low: float, high: float, expected: str) -> None:
    """Two digits; a bound never claims more than is known."""
    assert Gain(low=low, high=high).text == expected


def test_the_order_of_budgets_does_not_matter() -> None:
    """Each score goes with its own budget."""
    mixed = SeedCurve(comparator_flops=(16e12, 1e12, 4e12), comparator_scores=(0.8, 0.2, 0.4), score=0.6, spent_flops=4e12)
    assert gain(mixed, higher_is_better=True) == gain(seed(0.6), higher_is_better=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=3), st.floats(-0.5, 1.5), st.floats(-0.5, 1.5), st.floats(1, 1e3))
def test_a_better_score_and_less_spent_are_worth_more(scores: list[float], one: float, other: float, times: float) -> None:
    """Within the budgets, always; and mirrored scores give the same."""
    low, high = (gain(seed(score, tuple(scores)), higher_is_better=True) for score in sorted((one, other)))
    assert low.low <= high.low * (1 + 1e-9) and low.high <= high.high * (1 + 1e-9)
    dear = gain(seed(one, tuple(scores), spent_flops=4e12 * times), higher_is_better=True)
    cheap = gain(seed(one, tuple(scores)), higher_is_better=True)
    assert (dear.low * times, dear.high * times) == (pytest.approx(cheap.low), pytest.approx(cheap.high))
    for x in (cheap.low, cheap.high):
        assert x in (0, math.inf) or 0.25 * (1 - 1e-9) <= x <= BUDGETS[len(scores) - 1] / 4e12 * (1 + 1e-9)
    assert gain(seed(-one, tuple(-x for x in scores)), higher_is_better=False) == cheap


def test_the_median_over_seeds_carries_inequalities() -> None:
    """Of 1.0, 2.0 and > 4.0 the median is 2.0; where the middle is bounded, so is the median."""

    def median(*scores: float) -> str:
        return gains([seed(score) for score in scores], higher_is_better=True).median.text

    assert median(0.4, 0.6, 0.9) == "2.0x" and median(0.6, 0.9, 0.9) == "> 4.0x" and median(0.1, 0.1, 0.6) == "< 0.25x"
    assert median(0.3, 0.6) == "1.0x" and median(0.4, 0.9) == "> 2.0x" and median(0.1, 0.9) == "unknown"
    bounded = [seed(0.0, (0.1,)), seed(0.4), seed(0.8, spent_flops=1e12)]  # < 0.25, 1 and 16
    assert gains(bounded, higher_is_better=True).median.text == "1.0x"
    wide = [seed(0.0, spent_flops=1e11), seed(0.3), seed(0.4)]  # < 10, 0.5 and 1
    assert gains(wide, higher_is_better=True).median.text == "0.50x to 1.0x"


def test_the_interval_over_seeds() -> None:
    """The same each time, around the median, bounded where seeds are; none for one seed."""
    scores = (0.3, 0.4, 0.5, 0.5, 0.6, 0.6, 0.7, 0.9)
    found = gains([seed(score) for score in scores], higher_is_better=True)
    assert found == gains([seed(score) for score in scores], higher_is_better=True)
    assert found.interval is not None and found.interval.low <= found.median.low <= found.median.high <= found.interval.high
    assert [g.text for g in found.by_seed][-1] == "> 4.0x" and 0.5 < found.interval.low < 1.5 and found.interval.high < math.inf
    most = gains([seed(score) for score in (0.6, 0.9, 0.9, 0.9)], higher_is_better=True)
    assert most.interval is not None and most.interval.text == "> 2.0x"
    assert gains([seed(0.4)], higher_is_better=True).interval is None


def test_the_interval_covers() -> None:
    """True median 2, log-normal over 8 seeds: a bootstrap of a median over 8 holds it about 9 times in 10. It only describes."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        scores = 0.6 + rng.normal(0, 0.05, 8)
        interval = gains([seed(float(score)) for score in scores], higher_is_better=True).interval
        assert interval is not None
        held += interval.low <= 2.0 <= interval.high
    assert 0.88 < held / 400 < 0.99


@pytest.mark.parametrize(
    "change", [{"score": math.nan}, {"spent_flops": 0.0}, {"comparator_flops": (1.0, 1.0)}, {"comparator_scores": (0.1,)},
               {"comparator_flops": (0.0, 1.0)}, {"comparator_flops": (), "comparator_scores": ()}],
)  # fmt: skip
def test_what_is_no_curve(change: dict[str, object]) -> None:
    """Each says what is needed."""
    given_: dict[str, object] = {
        "comparator_flops": (1.0, 2.0),
        "comparator_scores": (0.1, 0.2),
        "score": 0.1,
        "spent_flops": 1.0,
    }
    with pytest.raises(ValueError, match=r"needs|must be positive"):
        SeedCurve(**{**given_, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no seeds"):
        gains([], higher_is_better=True)


def arm(name: str, train_flops: float, question_flops: float, score: float = 0.9) -> Candidate:
    """One that reaches 0.8."""
    return Candidate(name=name, score=score, train_flops=train_flops, question_flops=question_flops)


def test_winners_by_hand() -> None:
    """Searching is dear a question, training is dear once; the one in the middle never wins, and the bad one never counts."""
    arms = [arm("search", 100, 10), arm("trained", 1000, 1), arm("middle", 700, 5), arm("bad", 0, 0, score=0.7)]
    found = winner_by_questions(arms, [1, 10, 99, 100, 1000], wanted=0.8, higher_is_better=True)
    assert found.changes == ((0.0, "search"), (100.0, "trained"))
    assert found.winners == ("search", "search", "search", "trained", "trained")
    assert found.total_flops["middle"] == (705, 750, 1195, 1200, 5700) and "bad" not in found.total_flops
    assert winner_by_questions(arms, [1], wanted=0.7, higher_is_better=True).winners == ("bad",)


def test_no_winner_where_no_arm_reaches_the_score() -> None:
    """And lower is better where it is."""
    arms = [arm("a", 1, 1, score=2.0), arm("b", 2, 2, score=1.0)]
    found = winner_by_questions(arms, [0, 1e9], wanted=0.5, higher_is_better=False)
    assert (found.winners, found.changes, found.total_flops) == ((None, None), (), {})
    assert winner_by_questions(arms, [5], wanted=1.0, higher_is_better=False).winners == ("b",)


def test_arms_that_cost_the_same() -> None:
    """Three lines through one point change once; equal lines go by name; equal training goes to the cheaper question."""
    three = [arm("a", 0, 4), arm("b", 2, 3), arm("c", 6, 1)]
    assert winner_by_questions(three, [], wanted=0.8, higher_is_better=True).changes == ((0.0, "a"), (2.0, "c"))
    same = [arm("z", 1, 1), arm("y", 1, 1), arm("x", 1, 2)]
    assert winner_by_questions(same, [0, 7], wanted=0.8, higher_is_better=True).winners == ("y", "y")


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 50)), min_size=1, max_size=6))
def test_no_arm_is_cheaper_than_the_winner(costs: list[tuple[int, int]]) -> None:
    """At any number of questions; and at each change the two cost the same."""
    arms = {str(i): arm(str(i), train, question) for i, (train, question) in enumerate(costs)}
    questions = [0.0, *np.logspace(-2, 5, 60).tolist()]
    found = winner_by_questions(list(arms.values()), questions, wanted=0.8, higher_is_better=True)
    for i, winner in enumerate(found.winners):
        assert winner is not None
        assert found.total_flops[winner][i] <= min(total[i] for total in found.total_flops.values()) * (1 + 1e-9)
    for (_, before), (at, after) in pairwise(found.changes):
        one, other = (arms[name].train_flops + at * arms[name].question_flops for name in (before, after))
        assert one == pytest.approx(other) and arms[after].question_flops < arms[before].question_flops
    assert [at for at, _ in found.changes] == sorted({at for at, _ in found.changes})


def test_what_cannot_be_compared() -> None:
    """Names given twice, and negative numbers."""
    for arms, questions in (([arm("a", 1, 1)] * 2, [1.0]), ([arm("a", -1, 1)], [1.0]), ([arm("a", 1, 1)], [-1.0])):
        with pytest.raises(ValueError, match="name each arm differently"):
            winner_by_questions(arms, questions, wanted=0.8, higher_is_better=True)
