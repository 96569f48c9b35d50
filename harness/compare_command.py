"""`compare` from a suite to its tables: plan, runs, rows, files. Knows the order alone."""

from __future__ import annotations

import os
from collections.abc import Mapping

from harness import show_compare
from harness.compare import Compared, compare, read
from harness.comparison_files import write_tuning
from harness.context_bounds import told_bounds
from harness.engines import Making
from harness.grid import Cell, Grid, arms_of, defaulted_lines, grid_of, name_of
from harness.long_twins import with_long
from harness.model_size import check_model
from harness.plots import draw
from harness.suite import Suite
from harness.telling import Pictures, write_all
from harness.tuning import Tuned, tuned_suite, tuning_cells
from harness.visible import to_stderr


def compare_suite(
    suite: Suite,
    how: Making,
    *,
    dry_run: bool,
    as_json: bool,
    pictures: Pictures = draw,
) -> int:
    """Returns the exit code: 1 if a run failed; verdicts never change it. pictures: draws them into a folder."""
    told, threads = list[Tuned](), how.threads
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the workers, before they import anything
    if any(block.tune for block in suite.blocks):
        trials = Grid(
            suite, tuple(tuple(arms_of(block)) for block in suite.blocks), (), tuple(tuning_cells(suite, threads=threads))
        )
        tried = _made(trials, how, title=f"{suite.name}, tuning", dry_run=dry_run, as_json=as_json)
        suite, told = tuned_suite(suite, tried.records if tried else {}, threads=threads)
    grid = grid_of(suite, threads=threads)
    found = _made(grid, how, title=suite.name, dry_run=dry_run, as_json=as_json)
    if found is None:
        return 0
    longer = with_long(suite, found.records)
    if longer is not None:
        suite, grid = longer, grid_of(longer, threads=threads)
        more = _made(grid, how, title=f"{suite.name}, long twins", dry_run=False, as_json=as_json)
        assert more is not None, "dry runs end above"
        found = more
    failed = {one.step.cell: f"failed: {name_of(one.step.cell, grid)}: {one.reason}" for one in found.failed if one.step.cell}
    notes = {n: _notes(n, grid, failed) for n in range(len(suite.blocks))}
    rows, paths = write_all(grid, found.records, results=how.results, target=how.results, notes=notes, pictures=pictures)
    for number, block in enumerate(suite.blocks):
        paths += write_tuning([one for one in told if one.block == number], how.results, block.name)
    return show_compare.print_compared(rows, found, grid, paths, as_json=as_json)


def _made(grid: Grid, how: Making, *, title: str, dry_run: bool, as_json: bool) -> Compared | None:
    """Say what is missing and what it will cost, and make it; None if that was all that was asked."""
    present = read(grid.cells, how.results, lambda line: to_stderr(f"left out: {line}"), url=how.url)
    missing, cost = [cell for cell in grid.cells if cell not in present], None
    count = how.workers or os.cpu_count() or 1
    if missing:
        if how.engine == "local":
            for spec in {(cell.spec.model, cell.spec.train.flops > 0): cell.spec for cell in missing}.values():
                check_model(spec)
        for line in defaulted_lines(grid):
            to_stderr(line)
        from harness.grid_cost import cost_of  # loads a model's library, which tables do not need

        for line in told_bounds(cell.spec.model for cell in missing):
            to_stderr(line)
        cost = cost_of(missing)
        show_compare.print_plan(show_compare.plan_json(grid, title, cost, len(present), count), as_json=as_json and dry_run)
    elif dry_run:
        to_stderr(f"{title}: all of its {len(grid.cells):,} runs are there")
    if dry_run:
        return None
    with show_compare.Display(grid, count) as display:
        return compare(grid, present, missing, cost, how, watcher=display)


def _notes(number: int, grid: Grid, failed: Mapping[Cell, str]) -> list[str]:
    """What a block's tables lack: arms that do not suit the task, runs that failed."""
    left_out = [line for at, line in grid.left_out if at == number]
    return left_out + [line for cell, line in failed.items() if any(place.block == number for place in cell.places)]
