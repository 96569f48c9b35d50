"""`compare` from a suite to its tables: plan, runs, rows, files. Knows the order alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import show_compare
from harness.compare import Compared, compare, read
from harness.comparison import Measured, Row, measured, rows_of
from harness.comparison_files import write
from harness.grid import Grid, grid_of
from harness.grid_cost import cost_of
from harness.plots import draw
from harness.show import to_stderr
from harness.suite import Suite
from harness.workers import Making

Pictures = Callable[[Sequence[Measured], Path, Path], list[Path]]  # of a block, into a folder, from the records in another


def compare_suite(
    suite: Suite,
    how: Making,
    *,
    workers: int | None,
    threads: int,
    dry_run: bool,
    as_json: bool,
    pictures: Pictures = draw,
) -> int:
    """Returns the exit code: 1 if a run failed; verdicts never change it. pictures: draws them into a folder."""
    grid = grid_of(suite, threads=threads)
    present = read(grid.cells, how.results, lambda line: to_stderr(f"left out: {line}"))
    missing = [cell for cell in grid.cells if cell not in present]
    cost, count = cost_of(missing), workers or os.cpu_count() or 1
    if missing:
        plan = show_compare.plan_json(grid, cost, len(present), count)
        show_compare.print_plan(plan, as_json=as_json and dry_run)
    elif dry_run:
        to_stderr(f"{suite.name}: all of its {len(grid.cells):,} runs are there")
    if dry_run:
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the workers, before they import anything
    with show_compare.Display(grid) as display:
        found = compare(grid, present, missing, cost, how, workers=count, watcher=display)
    rows, paths = write_all(grid, found, how.results, pictures)
    return show_compare.print_compared(rows, found, grid, paths, as_json=as_json)


def write_all(grid: Grid, found: Compared, results: Path, pictures: Pictures = draw) -> tuple[list[Row], list[Path]]:
    """A comparison's pictures and tables, block by block, from records alone; rows and paths."""
    every, rows, paths = measured(grid, found.records), list[Row](), list[Path]()
    for number in range(len(grid.suite.blocks)):
        mine = [one for one in every if one.number == number]
        if mine:
            drawn = pictures(mine, results / "plots" / grid.suite.name, results)
            said = [row for one in mine for row in rows_of(one)]
            notes = _notes(number, grid, found)
            paths += [*drawn, *write(said, mine, results, suite=grid.suite.name, plots=drawn, notes=notes)]
            rows += said
    return rows, paths


def _notes(number: int, grid: Grid, found: Compared) -> list[str]:
    """What a block's tables lack: arms that do not suit the task, runs that failed."""
    failed = [one for one in found.failed if any(place.block == number for place in one.cell.places)]
    left_out = [line for at, line in grid.left_out if at == number]
    return left_out + [f"failed: {show_compare.name_of(one.cell, grid)}: {one.reason}" for one in failed]
