"""Checks of single arguments. Knows numbers and ranges; not what an argument means.

An argument that is not legal is a ValueError of one line: its name, what is legal, and what was given.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

MODEL_ARGUMENTS = (
    "pretrained", "strategy", "strategy.NAME", "task", "task.NAME", "model.NAME", "max_length", "max_gen_toks", "thought_tokens",
    "results", "responses", "batch_size", "max_batch_size", "device", "threads", "trust_plugins",
)  # fmt: skip


def check_model_arguments(names: Collection[str]) -> None:
    """Raise ValueError for a name that lm-eval's ``--model_args`` cannot have here, or if ``pretrained`` is not among them."""
    wrong = [name for name in names if "." not in name and name not in MODEL_ARGUMENTS]
    if wrong:
        raise ValueError(f"model_args: unknown argument {wrong[0]!r}; legal: {', '.join(MODEL_ARGUMENTS)}")
    if "pretrained" not in names:
        raise ValueError("model_args: name the run or the model that is asked, as pretrained=FOLDER")


def check_whole(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Raise ValueError unless ``value`` is a whole number from ``low`` to ``high``; a truth value is none."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(f"{name}: expected a whole number from {low}{'' if high is None else f' to {high:,}'}, got {value!r}")


def check_number(name: str, value: Any, *, low: float, high: float | None = None, open_low: bool = False) -> None:
    """Raise ValueError unless ``value`` is a finite number from ``low`` to ``high``; a truth value is none.

    open_low: ``low`` itself is not legal.
    """
    if not _finite(value) or value < low or (open_low and value == low) or (high is not None and value > high):
        limits = (f" above {low:g}" if open_low else f" from {low:g}") + ("" if high is None else f" to {high:g}")
        raise ValueError(f"{name}: expected a number{limits}, got {value!r}")


def _finite(value: Any) -> bool:
    """Return whether a value is a real number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number
        return False
