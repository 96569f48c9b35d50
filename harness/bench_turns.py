"""Contenders that take turns, and the ratios of their seconds (CPU, or of another clock). Knows nothing of what they do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Clock = Callable[[], float]


def result(
    name: str, ratio: float | None, target: float | None, details: Mapping[str, Any], *, at_most: bool = False
) -> dict[str, Any]:
    passed = ratio is None or target is None or (ratio <= target if at_most else ratio >= target)
    return {"name": name, "ratio": ratio, "target": target, "at_most": at_most, "passed": passed, "details": dict(details)}


def seconds_of(call: Callable[[], Any], clock: Clock = time.process_time) -> float:
    start = clock()
    call()
    return clock() - start


def turns(
    contenders: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = False, clock: Clock = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each contender by round. A round before them is not kept, unless all are warm from being checked."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + (not warm)):
        for name, call in contenders.items():
            seconds[name].append(seconds_of(call, clock))
    return {name: values[-rounds:] for name, values in seconds.items()}


def over(seconds: Mapping[str, Sequence[float]], upper: str, lower: str) -> float:
    """The median over rounds of one contender's seconds over another's."""
    return statistics.median(a / b for a, b in zip(seconds[upper], seconds[lower], strict=True))


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {f"{name}_s": statistics.median(values) for name, values in seconds.items()}


def same(name: str, values: Sequence[float], tolerance: float) -> float:
    """The largest difference between contenders' numbers; an error where it is too large."""
    difference = max(values) - min(values)
    if not difference <= tolerance:
        raise RuntimeError(f"bench: {name}: the contenders do not agree: {list(values)}")
    return difference


def line_of(result: Mapping[str, Any]) -> str:
    """One result as people read it."""
    target = result["target"]
    asked = (
        ""
        if target is None
        else f"  ({'at most' if result['at_most'] else 'at least'} {target:g}: {'yes' if result['passed'] else 'NO'})"
    )
    value = "not measured" if result["ratio"] is None else f"{result['ratio']:.2f}"
    return f"{result['name']:<44} {value}{asked}"
