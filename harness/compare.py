"""compare(suite): plan the grid, make what is missing, and hand the records on. Can be cut off anywhere and taken up again.

Knows the order of the steps; the runs' making is `engines`, what is said of them `comparison` and `tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness import records
from harness.engines import Hearer, Making, Outcome, make_all
from harness.grid import Cell, Grid
from harness.records import Record
from harness.remote import Remote
from harness.schedule import Step

if TYPE_CHECKING:
    from harness.grid_cost import Cost


class Watcher(Hearer, Protocol):
    """Who is told how a comparison goes."""

    def begins(self, cost: Cost, present: int) -> None:
        """Before anything is made."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What there is after a comparison: records by cell, and runs that failed."""

    records: dict[Cell, Record]
    failed: tuple[Outcome, ...]


def read(cells: Sequence[Cell], results: Path, left_out: Callable[[str], None], *, url: str | None = None) -> dict[Cell, Record]:
    """The records that are there. A spoilt one is told, and its run fails when it is made: --again is for the user to say.

    url: where results lie, if elsewhere; what is complete there is taken first.
    """
    found = {}
    if url is not None:
        Remote(url).take_those(records.run_folder(results, cell.spec) for cell in cells)
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
    watcher: Watcher,
) -> Compared:
    """Make the runs that are missing and read them. cost: of those, None where none is."""
    failed: list[Outcome] = []
    if missing and cost is not None:
        watcher.begins(cost, len(present))
        told = _Failures(watcher, failed)
        make_all(missing, how, expected_s=cost.each_s, hearer=told)
    every = present | read(missing, how.results, lambda _: None, url=how.url)  # a spoilt one has failed above
    return Compared({cell: every[cell] for cell in grid.cells if cell in every}, tuple(failed))


@dataclass(frozen=True, slots=True)
class _Failures:
    """Hands on what it hears, and keeps the runs that failed."""

    hearer: Hearer
    failed: list[Outcome]

    def started(self, step: Step) -> None:
        self.hearer.started(step)

    def again(self, outcome: Outcome) -> None:
        self.hearer.again(outcome)

    def ended(self, outcome: Outcome) -> None:
        self.hearer.ended(outcome)
        if outcome.reason is not None and outcome.step.cell is not None:
            self.failed.append(outcome)
