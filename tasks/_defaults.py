"""Budgets that suit the mixes of `arithmetic`: one table. Knows nothing of problems.

Each row is meant to put direct at 20-80% within minutes of one core, with no update above 2e10 FLOPs under direct and one
thought a token (a token costs about 5e6 training FLOPs at size s, a problem has 3 to 4 tokens per digit).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# operations, most digits of an operand: training FLOPs, problems per update, learning rate
_TABLE = (
    ("+", 3, 1e12, 128, 2e-3),
    ("+", 5, 6e12, 64, 1e-3),
    ("+", 9, 1.2e13, 32, 1e-3),
    ("+", 18, 2.4e13, 16, 1e-3),
    ("-", 3, 6e12, 128, 1e-3),
    ("-", 5, 1.2e13, 64, 1e-3),
    ("-", 9, 2.4e13, 32, 1e-3),
    ("-", 18, 4.8e13, 16, 1e-3),
    ("x", 2, 6e12, 128, 1e-3),
    ("x", 4, 1.2e13, 64, 1e-3),
    ("x", 9, 4.8e13, 32, 1e-3),
)


def defaults_for(operations: str, longest_digits: int) -> Mapping[str, Any]:
    """The first row that is as hard as the mix: its hardest operation (x, then -, then +) and its longest operand."""
    hardest = next(sign for sign in "x-+" if sign in operations)
    for sign, most_digits, flops, problems, rate in _TABLE:
        if sign == hardest and longest_digits <= most_digits:
            return {
                "model.size": "s",
                "train.flops": flops,
                "train.problems_per_update": problems,
                "train.learning_rate": rate,
            }
    raise ValueError(f"no defaults for {operations!r} with {longest_digits} digits")
