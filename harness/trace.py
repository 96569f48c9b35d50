"""Traces: every cell that was fed for a problem, in order, with the facts that its cost follows from.

The log keeps the cells of each forward pass as arrays; a problem's trace is cut out when it ends, so rows that fork, go back or
end cost nothing here. Knows facts and accounts; knows no rows' contents and no prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.cells import Layout

IntArray = NDArray[np.int64]
FACTS = ("embed", "kind", "place", "slot", "read", "charge", "index", "row", "role")  # index: cells before it in its row


@dataclass(frozen=True, slots=True)
class Trace:
    """Cells in the order in which they were fed (of one turn: row by row), one tuple of FACTS each, and noted numbers by name.

    Rows are counted as they were made. A row that forked off holds its parent's cells too, which are not listed again.
    """

    cells: list[tuple[int, ...]] = field(default_factory=list)
    notes: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: Trace) -> None:
        """Put another stretch behind this one."""
        self.cells.extend(other.cells)
        for name, values in other.notes.items():
            self.notes.setdefault(name, []).extend(values)


@dataclass(frozen=True, slots=True)
class _Pass:
    """The cells of one forward pass, an account's together. facts (len(FACTS), N); spans: account -> first and behind last."""

    turn: int
    facts: IntArray
    spans: dict[int, tuple[int, int]]
    notes: dict[str, NDArray[np.float64]]


class TraceLog:
    """The passes since the oldest problem under way was opened. kept False: none are, and traces are empty."""

    def __init__(self, *, kept: bool = True) -> None:
        self._kept = kept
        self._passes: list[_Pass] = []
        self._dropped = 0  # passes that no open problem was part of

    @property
    def now(self) -> int:
        """The number of the pass that comes next."""
        return self._dropped + len(self._passes)

    def add(
        self,
        layout: Layout,
        *,
        turn: int,
        accounts: IntArray,
        charge: IntArray,
        rows: IntArray,
        notes: Mapping[str, NDArray[np.float64]],
    ) -> None:
        """Keep a pass. accounts, charge, rows (N,): who pays, its class, and the number of the cell's row since all began."""
        if not self._kept:
            return
        named = (
            layout.embed, layout.kind, layout.place, layout.slot, layout.read, charge, layout.index, rows, layout.role,
        )  # fmt: skip
        order = np.argsort(accounts, kind="stable")
        ordered = accounts[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        ends = [*starts[1:].tolist(), len(ordered)]
        spans = dict(zip(ordered[starts].tolist(), zip(starts.tolist(), ends, strict=True), strict=True))
        facts = np.array(named, dtype=np.int64)[:, order]
        self._passes.append(_Pass(turn, facts, spans, {name: values[order] for name, values in notes.items()}))

    def take(self, account: int, since: int) -> Trace:
        """An account's cells from pass ``since`` on."""
        facts, turns, noted = [], [], []
        for one in self._passes[since - self._dropped :]:
            if (span := one.spans.get(account)) is not None:
                part = slice(*span)
                facts.append(one.facts[:, part])
                turns += [one.turn] * (span[1] - span[0])
                noted.append({name: values[part] for name, values in one.notes.items()} if one.notes else {})
        if not facts:
            return Trace()
        cells = np.concatenate(facts, axis=1)
        row = FACTS.index("row")
        order = np.lexsort((cells[row - 1], cells[row], turns))
        cells = cells[:, order]
        cells[row] = np.unique(cells[row], return_inverse=True)[1]
        sizes = [part.shape[1] for part in facts]
        return Trace(list(zip(*cells.tolist(), strict=True)), _joined(noted, sizes, order))

    def forget(self, before: int) -> None:
        """Drop passes whose number is below ``before``."""
        count = before - self._dropped
        if count > 64:  # not at every turn
            del self._passes[:count]
            self._dropped = before


def _joined(noted: list[dict[str, NDArray[np.float64]]], sizes: list[int], order: IntArray) -> dict[str, list[float]]:
    """Each note's numbers in the trace's order, without those cells that have none."""
    names = {name: None for notes in noted for name in notes}
    joined = {}
    for name in names:
        values = np.concatenate([n.get(name, np.full(size, np.nan)) for n, size in zip(noted, sizes, strict=True)])[order]
        joined[name] = values[~np.isnan(values)].tolist()
    return joined
