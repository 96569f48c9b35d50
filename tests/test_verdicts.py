"""Verdicts by hand, numbers against scipy and statsmodels, and how often the whole procedure errs where the truth is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.remedies import Budget
from harness.verdicts import Comparison, fisher, flips, is_bimodal, judge, leave_one_out, mcnemar, solved_fraction, spearman

SPREAD = (0.003, -0.003, 0.002, -0.002, 0.001, -0.001, 0.004, -0.004)  # 8 seeds around 0
CLEAR = tuple(0.05 + x for x in SPREAD)
DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 4)), min_size=2, max_size=12)


def comparison(
    differences: Sequence[float],
    *,
    margin: float = 0.02,
    higher_is_better: bool = True,
    is_accuracy: bool = True,
    baseline_score: float = 0.5,
    baseline_floor: float = 0.1,
    epochs: float | None = None,
) -> Comparison:
    """One in which nothing is void, unless told."""
    return Comparison(
        differences=tuple(differences), margin=margin, higher_is_better=higher_is_better, is_accuracy=is_accuracy,
        baseline_score=baseline_score, baseline_floor=baseline_floor, epochs=epochs,
    )  # fmt: skip


def kind(differences: Sequence[float], **family: Comparison) -> str:
    """The verdict on these differences, alone or among others."""
    return judge({"it": comparison(differences), **family})["it"].kind


def test_each_kind_by_hand() -> None:
    """Eight seeds, a margin of two points."""
    assert kind(CLEAR) == "better" and kind([-x for x in CLEAR]) == "worse"
    assert kind(SPREAD) == "equivalent" and kind([x * 20 for x in SPREAD]) == "inconclusive"
    found = judge({"it": comparison([0.01 + x for x in SPREAD])})["it"]
    assert found.kind == "better" and found.within_margin and "within the margin" in found.reason
    assert not judge({"it": comparison(CLEAR)})["it"].within_margin


def test_lower_is_better_turns_the_direction() -> None:
    """In nats, the same difference is worse."""
    nats = comparison(
        CLEAR, margin=0.01, higher_is_better=False, is_accuracy=False, baseline_score=2.0, baseline_floor=math.log(257)
    )
    assert judge({"it": nats})["it"].kind == "worse"


@given(DIFFERENCES, st.floats(0.001, 0.5))
def test_the_numbers_are_those_of_scipy_and_statsmodels(differences: list[float], margin: float) -> None:
    """Paired t, its interval, two one-sided tests, and the power at the detectable difference."""
    from statsmodels.stats.weightstats import ttost_paired

    d = np.array(differences)
    found = judge({"it": comparison(differences, margin=margin)})["it"]
    assert found.seeds == len(d) and found.difference.value == pytest.approx(d.mean())
    if np.ptp(d) == 0:
        assert found.p == (0.0 if d[0] else 1.0) and found.sd == 0 and found.difference.low == found.difference.high
        return
    low, high = stats.ttest_1samp(d, 0).confidence_interval()
    assert (found.difference.low, found.difference.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert found.p == pytest.approx(stats.ttest_rel(d, np.zeros(len(d))).pvalue, abs=1e-9) == found.p_holm
    assert found.p_equivalence == pytest.approx(ttost_paired(d, np.zeros(len(d)), -margin, margin)[0], abs=1e-9)
    assert found.sd == pytest.approx(d.std(ddof=1)) and found.detectable is not None
    shift, limit = found.detectable / found.sd * math.sqrt(len(d)), stats.t.isf(0.025, len(d) - 1)
    assert stats.nct.sf(limit, len(d) - 1, shift) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.slow
@settings(max_examples=20)  # statsmodels takes its time
@given(st.lists(DIFFERENCES, min_size=1, max_size=7))
def test_holm_is_that_of_statsmodels(lists: list[list[float]]) -> None:
    """Over the family, whatever its order."""
    from statsmodels.stats.multitest import multipletests

    verdicts = list(judge({str(i): comparison(differences) for i, differences in enumerate(lists)}).values())
    expected = multipletests([v.p for v in verdicts], method="holm")[1]
    assert [v.p_holm for v in verdicts] == pytest.approx(list(expected), abs=1e-12)


def test_the_whole_declared_family_counts() -> None:
    """A p of 0.04 stands alone and falls among two, even if the other is void or has one seed."""
    weak = [0.026 + 10 * x for x in SPREAD]
    alone = judge({"it": comparison(weak)})["it"]
    assert alone.p is not None and 0.025 < alone.p < 0.05 and alone.kind == "better"
    assert kind(weak, other=comparison([x * 20 for x in SPREAD])) == "inconclusive"
    assert kind(weak, other=comparison([0.1])) == "inconclusive"
    assert kind(weak, other=comparison([x * 20 for x in SPREAD], baseline_score=0.9)) == "inconclusive"
    assert kind(weak, other=comparison(CLEAR)) == "better"


@pytest.mark.parametrize(
    "score, floor, epochs, void",
    [
        (0.2, 0.1, None, False), (0.199, 0.1, None, True), (0.8, 0.1, None, False), (0.801, 0.1, None, True),
        (0.55, 0.5, None, True), (0.551, 0.5, None, False), (0.45, 0.5, None, True),
        (0.5, 0.1, 4.0, False), (0.5, 0.1, 4.01, True),
    ],
)  # fmt: skip
def test_void_accuracies(score: float, floor: float, epochs: float | None, void: bool) -> None:
    """Outside 20-80%, within 5 points of the floor or below it, more than 4 epochs; however clear the difference is."""
    found = judge({"it": comparison(CLEAR, baseline_score=score, baseline_floor=floor, epochs=epochs)})["it"]
    assert (found.kind == "void") == void and found.reason and found.p is not None and found.p < 0.001
    few = judge({"it": comparison(CLEAR[:3], baseline_score=score, baseline_floor=floor, epochs=epochs)})["it"]
    assert few.kind == ("void" if void else "inconclusive")


@pytest.mark.parametrize(
    "score, floor, epochs, budget, words",
    [
        (0.111, 0.1111, None, Budget(flops=3e10, default_flops=1e12),
         "the baseline scores 11.1%, not 5 points better than its floor of 11.1%: train with the task's default budget of 1e+12 "
         "FLOPs"),
        (0.13, 0.1, None, Budget(flops=1e12, default_flops=1e12),
         "the baseline scores 13.0%, not 5 points better than its floor of 10.0%: train with more than 1e+12 FLOPs (the task's "
         "default budget is 1e+12), or set easier problems"),
        (0.19, 0.0, None, Budget(flops=2e12),
         "the baseline scores 19.0%, outside 20% to 80%: train with more than 2e+12 FLOPs, or set easier problems"),
        (0.9, 0.1, None, Budget(flops=2e12, default_flops=3e12),
         "the baseline scores 90.0%, outside 20% to 80%: set harder problems, or train with less than 2e+12 FLOPs"),
        (0.0, 0.09, None, Budget(flops=0.0, default_flops=3e12),
         "the baseline scores 0.0%, not 5 points better than its floor of 9.0%: nothing is trained here, so set easier problems "
         "or ask a stronger model"),
        (0.5, 0.1, 5.25, Budget(flops=2e12, default_flops=3e12),
         "the text was seen for 5.25 epochs, more than 4: train on a larger text, or with less than 2e+12 FLOPs"),
        (0.9, 0.1, None, None, "the baseline scores 90.0%, outside 20% to 80%"),
    ],
)  # fmt: skip
def test_a_void_verdict_says_what_to_do(
    score: float, floor: float, epochs: float | None, budget: Budget | None, words: str
) -> None:
    """In the unit of the table; the remedy names budgets."""
    it = comparison(CLEAR, baseline_score=score, baseline_floor=floor, epochs=epochs)
    found = judge({"it": dataclasses.replace(it, budget=budget)})["it"]
    assert (found.kind, found.reason) == ("void", words)


def test_a_void_verdict_in_nats() -> None:
    it = comparison(CLEAR, higher_is_better=False, is_accuracy=False, baseline_score=5.51, baseline_floor=5.549)
    found = judge({"it": dataclasses.replace(it, budget=Budget(flops=1e10, default_flops=3e12))})["it"]
    assert found.reason == (
        "the baseline scores 5.5100 nats, not 0.05 nats better than its floor of 5.5490 nats: train with the task's default "
        "budget of 3e+12 FLOPs"
    )


def test_void_nats() -> None:
    """There is no 20-80% in nats, and the floor is above."""
    for score, expected in ((0.9, "worse"), (5.49, "worse"), (5.51, "void"), (5.6, "void")):
        it = comparison(CLEAR, higher_is_better=False, is_accuracy=False, baseline_score=score, baseline_floor=5.55)
        assert judge({"it": it})["it"].kind == expected


def test_too_few_seeds() -> None:
    """Seven give an interval without a verdict, one a mean alone, none nothing."""
    seven, one, none = (judge({"it": comparison(CLEAR[:n])})["it"] for n in (7, 1, 0))
    assert {v.kind for v in (seven, one, none)} == {"inconclusive"} and seven.reason == one.reason == "fewer than 8 seeds"
    assert seven.difference.low is not None and seven.difference.low > 0 and seven.detectable is not None
    assert one.difference.value == pytest.approx(0.053) and none.difference.value is None
    assert (one.difference.low, one.sd, one.p, one.p_holm, one.p_equivalence, one.detectable) == (None,) * 6


@pytest.mark.parametrize("level, expected", [(0.0, "equivalent"), (0.01, "better"), (-0.03, "worse"), (1e-17, "equivalent")])
def test_equal_differences(level: float, expected: str) -> None:
    """No spread, no warning; what rounding leaves of a mixture is no difference."""
    rounding = [1e-17, 2e-17] * 4 if level == 1e-17 else [0.0] * 8
    assert kind([level + x for x in rounding]) == expected


@given(DIFFERENCES, st.permutations(range(12)))
def test_what_a_verdict_does_not_depend_on(differences: list[float], order: list[int]) -> None:
    """The order of seeds; and turned around, better is worse and the rest is as it was."""
    turned = {"better": "worse", "worse": "better"}
    first = judge({"it": comparison(differences)}, seeds_needed=2)["it"]
    mixed = [differences[i] for i in order if i < len(differences)]
    assert judge({"it": comparison(mixed)}, seeds_needed=2)["it"].p == pytest.approx(first.p)
    other = judge({"it": comparison([-x for x in differences])}, seeds_needed=2)["it"]
    assert other.kind == turned.get(first.kind, first.kind) and other.detectable == pytest.approx(first.detectable)


def test_leaving_seeds_out_and_flips() -> None:
    """One seed may hold a verdict up; eight seeds less one still get a verdict, seven never had one."""
    family = {"it": comparison(CLEAR), "held up": comparison([*CLEAR[:7], -0.1])}
    assert [v.kind for v in leave_one_out(family, "it")] == ["better"] * 8
    found = leave_one_out(family, "held up")
    assert [v.seeds for v in found] == [7] * 8
    ledgers = {"primary": judge(family)["held up"], **{f"without {i}": v for i, v in enumerate(found)}}
    assert ledgers["primary"].kind == "inconclusive" and found[7].kind == "better"
    assert flips(ledgers) == ["without 7"] and flips({}) == []
    small = judge({"it": comparison([0.01 + x for x in SPREAD])})["it"]  # better too, for another reason
    assert flips({"primary": judge(family)["it"], "passes": small}) == []
    assert {v.kind for v in leave_one_out({"it": comparison(CLEAR[:7])}, "it")} == {"inconclusive"}


@pytest.mark.parametrize(
    "change", [{"differences": [0.1, math.nan]}, {"margin": 0.0}, {"epochs": -1.0}, {"baseline_floor": math.inf}]
)
def test_what_is_no_comparison(change: dict[str, object]) -> None:
    """Each says what to give."""
    with pytest.raises(ValueError, match=r"give|leave out"):
        comparison(**{"differences": [0.1] * 8, **change})  # type: ignore[arg-type]


def simulated(rng: np.random.Generator, arms: int, gain: float) -> dict[str, Comparison]:
    """Arms against one comparator on 8 seeds: each arm's accuracy has an sd of 3 points over seeds, and 2,000 problems."""
    truth = 0.5 + rng.normal(0, 0.03, (arms + 1, 8))
    truth[1:] += gain
    scores = rng.binomial(2000, truth) / 2000
    means = float(scores[0].mean())
    return {f"arm {i}": comparison(scores[i] - scores[0], baseline_score=means) for i in range(1, arms + 1)}


@pytest.mark.parametrize("arms", [1, 5])
def test_a_true_null_is_rejected_at_most_5_times_in_100(arms: int) -> None:
    """Any better or worse in the whole family is an error; 2,000 families give an error of half a point."""
    rng = np.random.default_rng(1)
    families = [judge(simulated(rng, arms, 0.0)).values() for _ in range(2000)]
    wrong = np.mean([any(v.kind in ("better", "worse") for v in family) for family in families])
    print(f"false verdicts with {arms} arms: {wrong:.3f}")
    assert 0.02 < wrong < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("arms, least", [(1, 0.70), (5, 0.50)])
def test_power_at_five_points(arms: int, least: float) -> None:
    """Both arms vary by 3 points, so a difference by 4.5: 5 points are found 3 times in 4 alone, and half the time among five."""
    rng = np.random.default_rng(2)
    verdicts = [v for _ in range(600) for v in judge(simulated(rng, arms, 0.05)).values()]
    found = np.mean([v.kind == "better" for v in verdicts])
    print(f"power with {arms} arms: {found:.3f}, detectable {np.mean([v.detectable for v in verdicts]):.3f}")
    assert least < found < least + 0.15 and not any(v.kind == "worse" for v in verdicts)


def test_intervals_cover_and_equivalence_is_rarely_wrong() -> None:
    """95 of 100 intervals hold the truth; a true difference of the margin is called equivalent 5 times in 100 at most."""
    rng = np.random.default_rng(3)
    found = [judge({"it": comparison(0.02 + rng.normal(0, 0.01, 8))})["it"] for _ in range(2000)]
    held = np.mean([v.difference.low <= 0.02 <= v.difference.high for v in found])  # type: ignore[operator]
    assert held == pytest.approx(0.95, abs=0.015)
    assert np.mean([v.within_margin for v in found]) < 0.065


@pytest.mark.parametrize("b, c", [(14, 12), (120, 214), (122, 198), (235, 162), (139, 211), (0, 5), (7, 7)])
def test_mcnemar_is_the_exact_binomial(b: int, c: int) -> None:
    """Twice the smaller tail of a fair coin, and what scipy says."""
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar(b, c) == pytest.approx(min(1.0, 2 * tail)) and mcnemar(b, c) == stats.binomtest(b, b + c).pvalue
    assert mcnemar(c, b) == pytest.approx(mcnemar(b, c)) and mcnemar(0, 0) == 1.0
    with pytest.raises(ValueError, match="numbers of problems"):
        mcnemar(-1, 3)


def test_bimodal_cells() -> None:
    """Seeds that solve and seeds that do not; Fisher's tea tasting (4 cups of each kind, 3 told right) has p = 34 / 70."""
    phase = [0.11, 0.1, 0.13, 0.98, 0.99, 0.12, 1.0, 0.97]
    assert is_bimodal(phase) and is_bimodal([0.5, 0.51, 0.52, 0.1]) and not is_bimodal([0.5, 0.53, 0.47, 0.6])
    assert not is_bimodal([0.0, 0.3, 0.6, 0.9]) and not is_bimodal([0.1, 0.9]) and not is_bimodal([0.5] * 8)
    solved = solved_fraction(phase, 0.97)
    assert solved.value == 0.5 and solved.low == pytest.approx(0.215, abs=0.001) and solved_fraction([], 0.9).value is None
    assert fisher(3, 4, 1, 4) == pytest.approx(34 / 70) and fisher(8, 8, 0, 8) == pytest.approx(2 / math.comb(16, 8))
    for counts in ((5, 4, 1, 4), (0, 0, 1, 4), (-1, 4, 1, 4)):
        with pytest.raises(ValueError, match="give counts"):
            fisher(*counts)


def test_spearman_on_spending_and_difficulty() -> None:
    """By ranks, with ties as scipy has them; where nothing varies there is nothing to say."""
    found = spearman([1.0, 10.0, 100.0, 1e9, 1e9], [1, 2, 3, 4, 4])
    assert found is not None and found.rho == pytest.approx(1.0) and found.p < 0.001
    found, expected = spearman([3, 1, 2, 2], [1, 2, 3, 4]), stats.spearmanr([3, 1, 2, 2], [1, 2, 3, 4])
    assert found is not None and (found.rho, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert spearman([5.0] * 4, [1, 2, 3, 4]) is None and spearman([1, 2], [1, 2]) is None
    with pytest.raises(ValueError, match="one of each"):
        spearman([1.0, 2.0], [1.0])
