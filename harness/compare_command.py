"""`compare` from a suite to its tables: plan, runs, rows, files. Knows the order alone."""

from __future__ import annotations

import os
from collections.abc import Mapping

from harness import show_compare
from harness.compare import compare, read
from harness.grid import Cell, Grid, grid_of, name_of
from harness.plots import draw
from harness.show import to_stderr
from harness.suite import Suite
from harness.telling import Pictures, write_all
from harness.workers import Making


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
    cost, count = None, workers or os.cpu_count() or 1
    if missing:
        from harness.grid_cost import cost_of  # loads a model's library, which tables do not need

        cost = cost_of(missing)
        plan = show_compare.plan_json(grid, cost, len(present), count)
        show_compare.print_plan(plan, as_json=as_json and dry_run)
    elif dry_run:
        to_stderr(f"{suite.name}: all of its {len(grid.cells):,} runs are there")
    if dry_run:
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the workers, before they import anything
    with show_compare.Display(grid) as display:
        found = compare(grid, present, missing, cost, how, workers=count, watcher=display)
    failed = {one.cell: f"failed: {name_of(one.cell, grid)}: {one.reason}" for one in found.failed}
    notes = {n: _notes(n, grid, failed) for n in range(len(suite.blocks))}
    rows, paths = write_all(grid, found.records, results=how.results, target=how.results, notes=notes, pictures=pictures)
    return show_compare.print_compared(rows, found, grid, paths, as_json=as_json)


def _notes(number: int, grid: Grid, failed: Mapping[Cell, str]) -> list[str]:
    """What a block's tables lack: arms that do not suit the task, runs that failed."""
    left_out = [line for at, line in grid.left_out if at == number]
    return left_out + [line for cell, line in failed.items() if any(place.block == number for place in cell.places)]
