"""Budgets that suit the mixes of `arithmetic`: one table. Knows nothing of problems.

Each row is meant to put direct at 20-80% within minutes of one core at size xs (2 layers of 64). Piloted, one seed each: + of
1-3 digits 67% at 1e12; + of 1-5 digits 75% at 2.5e12; - of 1-3 digits 61% and x of 1-2 digits 60% at 1.2e12; +-x of 1-2 digits
49% at 1.2e12. The other rows go on from these by the number of digits and have not been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# operations, most digits of an operand: training FLOPs, problems per update, learning rate
_TABLE = (
    ("+", 3, 1e12, 128, 2e-3),
    ("+", 5, 2.5e12, 128, 2e-3),
    ("+", 9, 8e12, 128, 2e-3),
    ("+", 18, 2.4e13, 64, 2e-3),
    ("-", 3, 1.2e12, 128, 2e-3),
    ("-", 5, 4e12, 128, 2e-3),
    ("-", 9, 1.2e13, 128, 2e-3),
    ("-", 18, 3.6e13, 64, 2e-3),
    ("x", 2, 1.2e12, 128, 2e-3),
    ("x", 4, 6e12, 128, 2e-3),
    ("x", 9, 2.4e13, 64, 2e-3),
)


def defaults_for(operations: str, longest_digits: int) -> Mapping[str, Any]:
    """The first row that is as hard as the mix: its hardest operation (x, then -, then +) and its longest operand."""
    hardest = next(sign for sign in "x-+" if sign in operations)
    for sign, most_digits, flops, problems, rate in _TABLE:
        if sign == hardest and longest_digits <= most_digits:
            return {
                "model.size": "xs",
                "train.flops": flops,
                "train.problems_per_update": problems,
                "train.learning_rate": rate,
            }
    raise ValueError(f"no defaults for {operations!r} with {longest_digits} digits")
