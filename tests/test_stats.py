"""Intervals against closed forms, and the numbers of run.json against hand-made lines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness import summary
from harness.documents import rolling_windows
from harness.stats import paired_difference, ratio, share


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson 1927, by hand."""
    z, p = 1.959963984540054, successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - reach, middle + reach


def test_share_is_wilson_on_equal_weights() -> None:
    """37 right of 200."""
    found = share([1.0] * 37 + [0.0] * 163, [1.0] * 200)
    low, high = wilson(37, 200)
    assert found.value == pytest.approx(0.185) and found.low == pytest.approx(low) and found.high == pytest.approx(high)


def test_share_uses_the_effective_number_on_unequal_weights() -> None:
    """Two lengths with equal shares, 10 and 90 problems: Kish's n."""
    weights = [1 / 10] * 10 + [1 / 90] * 90
    found = share([1.0] * 10 + [0.0] * 90, weights)
    effective = 2**2 / (10 / 100 + 90 / 8100)
    low, high = wilson(0.5 * effective, effective)
    assert found.value == pytest.approx(0.5) and (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert share([1.0], [0.0]).value is None


def test_ratio_is_a_ratio_of_sums_with_an_interval_around_it() -> None:
    """The same data give the same interval; it covers the truth about 95 times in 100."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        bottoms = rng.integers(1, 9, 120).astype(float)
        tops = bottoms * 0.7 + rng.normal(0, 1, 120)
        found = ratio(tops.tolist(), bottoms.tolist(), [1.0] * 120)
        assert found.value == pytest.approx(tops.sum() / bottoms.sum())
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.7 <= found.high
    assert hits >= 52
    assert ratio([1.0, 2.0], [1.0, 1.0], [1.0, 1.0]) == ratio([1.0, 2.0], [1.0, 1.0], [1.0, 1.0])


def test_paired_difference_on_equal_weights() -> None:
    """Mean and normal interval of the differences."""
    a, b = [1.0, 1.0, 0.0, 1.0] * 25, [1.0, 0.0, 0.0, 0.0] * 25
    found = paired_difference(a, b, [1.0] * 100)
    d = np.array(a) - np.array(b)
    reach = 1.959963984540054 * d.std() / 10
    assert (
        found.value == pytest.approx(0.5) and found.low == pytest.approx(0.5 - reach) and found.high == pytest.approx(0.5 + reach)
    )


def line(score: float, key: str, weight: float, difficulty: int = 1) -> dict[str, Any]:
    """A line of problems.jsonl, as far as summaries read it."""
    flops = {"prefill": 10, "think": 0, "answer": 5 * int(score), "score": 0, "verify": 0}
    return {
        "score": score, "key": key, "weight": weight, "difficulty": difficulty, "nats": 2.0, "targets": 4, "bytes": 8,
        "flops": flops, "conventions": {"quadratic": 20, "non_embedding": 5},
        "serial_passes": 3.0, "text_tokens": 5, "woven_tokens": 0, "kv_bytes": 64 * difficulty,
    }  # fmt: skip


def test_metrics_leave_held_out_lengths_out_of_the_mean() -> None:
    """Weight 0 counts in its own difficulty only; the floor is the commonest key's share."""
    lines = [line(1, "7", 1.0), line(0, "7", 1.0), line(0, "8", 2.0, 2), line(1, "9", 0.0, 3)]
    found = summary.metrics(lines, kind="questions", outputs=10)
    assert found["accuracy"]["value"] == pytest.approx(0.25) and found["accuracy"]["n"] == 3
    assert found["accuracy"]["floor"] == pytest.approx(0.5)
    assert found["answer_nats_per_token"]["value"] == pytest.approx(0.5)
    groups = summary.by_difficulty(lines, kind="questions", outputs=10)
    assert [(g["difficulty"], g["n"], g["headline"]) for g in groups] == [(1, 2, True), (2, 1, True), (3, 1, False)]
    assert groups[2]["metrics"]["accuracy"]["value"] == 1.0
    costs = summary.infer(lines)
    assert costs["flops_per_problem"]["total"] == pytest.approx((15 + 10 + 2 * 10) / 4) and costs["peak_kv_bytes"] == 192


def test_documents_give_nats_and_bits() -> None:
    """Sums over sums; the floor is ln V a token."""
    found = summary.metrics([line(0, "", 1.0)] * 3, kind="documents", outputs=257)
    assert found["nats_per_token"]["value"] == pytest.approx(0.5)
    assert found["nats_per_token"]["floor"] == pytest.approx(math.log(257))
    assert found["bits_per_byte"]["value"] == pytest.approx(2.0 / math.log(2) / 8)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 31, 40])
def test_windows_are_those_of_lm_eval(count: int) -> None:
    """Each token once, and the very windows of lm-eval's disjoint rolling ones."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    ids = list(range(100, 100 + count))
    ours = list(rolling_windows(ids, prefix_id=0, window_tokens=8))
    theirs = [make_disjoint_window(w) for w in get_rolling_token_windows(ids, 0, 8, 1)]
    assert ours == [(list(a), list(b)) for a, b in theirs]
    assert [t for _, said in ours for t in said] == ids
