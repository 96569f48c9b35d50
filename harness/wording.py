"""How numbers and results are said: units, short numbers, one sentence a result. Knows rows; computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.stats import t_interval

if TYPE_CHECKING:
    from harness.comparison import Row


def count(value: float | None) -> str:
    """A large number, in three digits."""
    return "-" if value is None else f"{value:.3g}"


class Unit:
    """How scores are written: percent, or nats."""

    def __init__(self, is_share: bool) -> None:
        self._times, self._form, self._end = (100, ".1f", "%") if is_share else (1, ".4f", "")
        self.name = "points" if is_share else "nats"

    def one(self, value: float | None) -> str:
        return "-" if value is None else f"{value * self._times:{self._form}}{self._end}"

    def said(self, value: float) -> str:
        """A score outside a table, with its unit."""
        return f"{self.one(value)}{'' if self._end else f' {self.name}'}"

    def distance(self, value: float) -> str:
        """A difference of scores, with its unit."""
        return f"{value * self._times:g} {self.name}"

    def interval(self, value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
        if value is None:
            return "-"
        sign = "+" if signed else ""
        end = "" if signed else self._end
        middle = f"{value * self._times:{sign}{self._form}}{end}"
        if low is None or high is None:
            return middle
        return f"{middle} [{low * self._times:{sign}{self._form}}, {high * self._times:{sign}{self._form}}]"


def sentences(rows: Sequence[Row]) -> list[str]:
    """One sentence a result, with its interval; those of the greatest training budget first."""
    judged = [row for row in rows if row.verdict is not None and row.at is not None and row.comparator is not None]
    return [_sentence(row) for row in sorted(judged, key=lambda row: -row.train_flops)]


def _sentence(row: Row) -> str:
    assert row.verdict is not None and row.at is not None and row.comparator is not None
    unit, verdict, found = Unit(row.higher_is_better), row.verdict, row.verdict.difference
    ours, theirs = (unit.one(t_interval(list(at.scores.values())).value) for at in (row.at, row.comparator))
    cost = f"{count(row.at.cost)} {row.one.unit_of(row.place)} a problem"
    where = f"On {row.task} after {row.train_flops:.3g} training FLOPs, at {cost}"
    difference = unit.interval(found.value, found.low, found.high, signed=True)
    seeds = f"{verdict.seeds} seed{'s' if verdict.seeds != 1 else ''}"
    flips = f"; it flips {', '.join(row.shaky)}" if row.shaky else ""
    end = f"{difference} {unit.name} over {seeds} ({verdict.kind}, {verdict.reason}{flips})."
    return f"{where}, {row.arm.label} scores {ours}, plain training and asking {theirs}: {end}"
