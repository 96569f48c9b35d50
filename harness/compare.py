"""compare(suite): plan the grid, make what is missing, and hand the records on. Can be cut off anywhere and taken up again.

Knows the order of the steps; the runs' making is `workers`, what is said of them `comparison` and `tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness import records
from harness.grid import Cell, Grid
from harness.records import Record
from harness.workers import Done, Making, make_all

if TYPE_CHECKING:
    from harness.grid_cost import Cost


class Watcher(Protocol):
    """Who is told how a comparison goes."""

    def begins(self, cost: Cost, present: int, workers: int) -> None:
        """Before anything is made."""

    def started(self, cell: Cell) -> None:
        """A run has begun."""

    def done(self, done: Done) -> None:
        """A run has ended."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What there is after a comparison: records by cell, and runs that failed."""

    records: dict[Cell, Record]
    failed: tuple[Done, ...]


def read(cells: Sequence[Cell], results: Path, left_out: Callable[[str], None]) -> dict[Cell, Record]:
    """The records that are there. A spoilt one is told, and its run fails when it is made: --again is for the user to say."""
    found = {}
    for cell in cells:
        try:
            record = records.finished(results, cell.spec)
        except ValueError as error:
            left_out(str(error))
            continue
        if record is not None:
            found[cell] = record
    return found


def compare(
    grid: Grid,
    present: dict[Cell, Record],
    missing: Sequence[Cell],
    cost: Cost | None,
    how: Making,
    *,
    workers: int,
    watcher: Watcher,
) -> Compared:
    """Make the runs that are missing and read them. cost: of those, None where none is."""
    failed: list[Done] = []
    if missing and cost is not None:

        def done(one: Done) -> None:
            watcher.done(one)
            if one.reason is not None:
                failed.append(one)

        watcher.begins(cost, len(present), workers)
        make_all(missing, how, workers=min(workers, len(missing)), expected_s=cost.each_s, started=watcher.started, done=done)
    every = present | read(missing, how.results, lambda _: None)  # a spoilt one has failed above
    return Compared({cell: every[cell] for cell in grid.cells if cell in every}, tuple(failed))
