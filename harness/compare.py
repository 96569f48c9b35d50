"""compare(suite): plan the grid, make what is missing, and hand the records on. Can be cut off anywhere and taken up again.

Knows the order of the steps; the runs' making is `workers`, what is said of them `comparison` and `tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import records
from harness.grid import Cell, Cost, Grid
from harness.records import Record
from harness.workers import Done, Making, make_all


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


def missing_of(grid: Grid, results: Path, left_out: Callable[[str], None]) -> list[Cell]:
    """Cells whose run is still to be made. A spoilt record is told, and fails when it is made: --again is for the user to say."""
    missing = []
    for cell in grid.cells:
        try:
            if records.finished(results, cell.spec) is None:
                missing.append(cell)
        except ValueError as error:
            left_out(str(error))
    return missing


def compare(grid: Grid, missing: Sequence[Cell], cost: Cost, how: Making, *, workers: int, watcher: Watcher) -> Compared:
    """Make the runs that are missing and read all that are there."""
    failed: list[Done] = []
    if missing:

        def done(one: Done) -> None:
            watcher.done(one)
            if one.reason is not None:
                failed.append(one)

        watcher.begins(cost, len(grid.cells) - len(missing), workers)
        make_all(missing, how, workers=min(workers, len(missing)), expected_s=cost.each_s, started=watcher.started, done=done)
    return Compared(_read(grid.cells, how.results), tuple(failed))


def _read(cells: Sequence[Cell], results: Path) -> dict[Cell, Record]:
    """The records that are there and whole."""
    found = {}
    for cell in cells:
        try:
            record = records.finished(results, cell.spec)
        except ValueError:
            continue  # named already
        if record is not None:
            found[cell] = record
    return found
