"""How arms rank when something else is equal: FLOPs, serial passes, tokens, seconds. Knows curves; judges nothing.

An arm's place is its mean lead over the comparator's curve where both cost what the arm costs itself, in that currency. Seconds
do not repeat, so they stand in a table of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.comparison import OWN_COST, Measured
from harness.curves import PRIMARY, UNITS, Currency
from harness.wording import Unit

if TYPE_CHECKING:
    import pandas as pd

REPEATABLE: tuple[Currency, ...] = (PRIMARY, "serial passes", "tokens")


def leads(one: Measured, currency: Currency) -> dict[int, float]:
    """By arm outside the comparator: how much better it scores at equal cost; above 0 is better, in points or nats."""
    curves, sign = one.curves[currency], 1.0 if one.is_accuracy else -1.0
    found = {}
    for number, arm in enumerate(one.arms):
        if arm.family or number not in curves.hulls:
            continue
        end = one.target(OWN_COST, curves, number)
        at, other = curves.at(number, end), curves.at(curves.rival(number), end)
        if at is not None and other is not None:
            found[number] = sign * float(np.mean([at.scores[seed] - other.scores[seed] for seed in curves.seeds]))
    return found


def rankings(every: Sequence[Measured], currencies: Sequence[Currency] = REPEATABLE) -> pd.DataFrame:
    """A row an arm of each budget; by currency its rank and its lead over the comparator."""
    import pandas as pd

    rows = []
    for one in every:
        by = {currency: leads(one, currency) for currency in currencies}
        order = sorted(by[currencies[0]], key=lambda n: -by[currencies[0]][n])
        order += [n for n in range(len(one.arms)) if n not in order and any(n in found for found in by.values())]
        for number in order:
            row = {"task": one.block.task, "training FLOPs": f"{one.train_flops:.3g}", "arm": one.arms[number].label}
            unit = Unit(one.is_accuracy)
            rows.append(
                row | {f"at equal {UNITS.get(currency, currency)}": _cell(by[currency], number, unit) for currency in currencies}
            )
    return pd.DataFrame(rows)


def _cell(found: Mapping[int, float], number: int, unit: Unit) -> str:
    """Rank and lead; equals share the better rank."""
    if number not in found:
        return "infeasible"
    rank = 1 + sum(lead > found[number] for lead in found.values())
    return f"{rank} ({unit.interval(found[number], None, None, signed=True)})"
