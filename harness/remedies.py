"""Scores that are too near an end of their scale to tell arms apart, and what to do about it. Knows numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

ABOVE_FLOOR = 0.05
SAME = 1e-12  # numbers that differ by less differ by rounding; the smallest real step is one problem in thousands


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A training budget, and the task's default one; None where that is not known."""

    flops: float
    default_flops: float | None = None


def is_at_floor(score: float, floor: float, *, higher_is_better: bool) -> bool:
    """Whether a score is not clearly better than the best constant's."""
    return (score - floor if higher_is_better else floor - score) <= ABOVE_FLOOR + SAME


def to_raise(budget: Budget) -> str:
    """What to do about a score that is too low."""
    if not budget.flops:
        return "nothing is trained here, so set easier problems or ask a stronger model"
    if budget.default_flops is None:
        return f"train with more than {budget.flops:.3g} FLOPs, or set easier problems"
    if budget.flops < budget.default_flops:
        return f"train with the task's default budget of {budget.default_flops:.3g} FLOPs"
    more = f"train with more than {budget.flops:.3g} FLOPs (the task's default budget is {budget.default_flops:.3g})"
    return f"{more}, or set easier problems"


def to_lower(budget: Budget) -> str:
    """What to do about a score that is too high."""
    return f"set harder problems, or train with less than {budget.flops:.3g} FLOPs" if budget.flops else "set harder problems"


def to_shorten(budget: Budget) -> str:
    """What to do where a text was seen too often."""
    return f"train on a larger text, or with less than {budget.flops:.3g} FLOPs"
