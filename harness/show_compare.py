"""What `compare` prints: its plan, how it goes, and what came of it. Knows grids and rows; computes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress
from rich.table import Table

from harness import registry
from harness.compare import Compared
from harness.comparison import Row
from harness.engines import Outcome
from harness.grid import Grid, name_of
from harness.schedule import Step
from harness.screen import Screen, Words, console
from harness.tables import shown
from harness.visible import say_json, to_stderr
from harness.wording import sentences

if TYPE_CHECKING:
    from harness.grid_cost import Cost

COLUMNS = ("arm", "FLOPs a problem", "score [95%]", "comparator", "difference [95%]", "verdict")


class Display:
    """A bar of runs on stderr, with those under way and the time left."""

    def __init__(self, grid: Grid, workers: int) -> None:
        self._grid, self._workers = grid, workers
        self._progress = Progress(
            Words("{task.description}"), BarColumn(bar_width=30), Words("{task.fields[facts]}"),
            console=Screen(stderr=True), refresh_per_second=2,
        )  # fmt: skip
        self._running: dict[str, str] = {}
        self._elsewhere: set[str] = set()
        self._expected: Mapping[str, float] = {}
        self._left_s = self._done_s = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begins(self, cost: Cost, present: int) -> None:
        """The bar, with what was there before."""
        self._expected, self._begun_s = cost.each_s, time.monotonic()
        self._left_s = sum(cost.each_s.values())
        self._progress.start()
        self._bar = self._progress.add_task("runs", total=cost.runs + present, completed=present, facts="")
        self._show()

    def started(self, step: Step) -> None:
        """One more under way."""
        self._running[step.key] = self._name(step)
        self._show()

    def ended(self, outcome: Outcome) -> None:
        """One less; a failure is told at once."""
        key = outcome.step.key
        self._running.pop(key, None)
        self._left_s -= self._expected.get(key, 0.0)
        self._done_s += self._expected.get(key, 0.0)
        if outcome.step.cell is not None:
            self._progress.advance(self._bar)
        if outcome.reason is not None:
            self._say(f"failed: {self._name(outcome.step)}: {outcome.reason}")
        self._show()

    def again(self, outcome: Outcome) -> None:
        """One that was lost waits for its next try, one that is made elsewhere for whoever makes it."""
        self._running.pop(outcome.step.key, None)
        if not outcome.elsewhere:
            self._say(f"lost, and tried again soon: {self._name(outcome.step)}: {outcome.reason}")
        elif outcome.step.key not in self._elsewhere:
            self._elsewhere.add(outcome.step.key)
            self._say(f"others first, since {outcome.reason}: {self._name(outcome.step)}")
        self._show()

    def _name(self, step: Step) -> str:
        if step.cell is not None:
            return name_of(step.cell, self._grid)
        return f"training {registry.plugin_name(step.spec.strategy)}, {step.spec.train.flops:.3g} FLOPs, seed {step.spec.seed}"

    def _say(self, line: str) -> None:
        self._progress.console.print(line, soft_wrap=True)

    def _show(self) -> None:
        task = self._progress.tasks[self._bar]
        pace = (time.monotonic() - self._begun_s) / self._done_s if self._done_s else 1 / self._workers
        left = f"about {max(self._left_s, 0.0) * pace / 60:.0f} min left"
        facts = f"{task.completed:.0f} of {task.total:.0f}, {left}; now: {' | '.join(self._running.values()) or 'none'}"
        self._progress.update(self._bar, facts=facts)


def plan_json(grid: Grid, title: str, cost: Cost, present: int, workers: int) -> dict[str, Any]:
    """The plan as JSON values."""
    return {
        "suite": title, "runs": len(grid.cells), "present": present, "missing": cost.runs, "learners": cost.learners,
        "training_flops": cost.training_flops, "minutes": cost.makespan_s(workers) / 60, "workers": workers,
        "disk_bytes": cost.disk_bytes, "left_out": [line for _, line in grid.left_out],
    }  # fmt: skip


def print_plan(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """The plan: on stdout as JSON, else on stderr, since the tables follow."""
    if as_json:
        say_json(facts)
        return
    for line in facts["left_out"]:
        to_stderr(line)
    runs = f"{facts['runs']:,} runs, {facts['present']:,} of them there; {facts['learners']:,} learners to train or load"
    pace = f"about {facts['minutes']:.0f} minutes with {facts['workers']} workers, {facts['disk_bytes'] / 1e6:.0f} MB of disk"
    to_stderr(f"{facts['suite']}: {runs}, {facts['training_flops']:.3g} training FLOPs; {pace}")


def print_compared(rows: Sequence[Row], compared: Compared, grid: Grid, paths: Sequence[Path], *, as_json: bool) -> int:
    """The tables in short, the sentences, the files; 1 if a run failed."""
    failed = [{"run": name_of(one.step.cell, grid), "reason": one.reason} for one in compared.failed if one.step.cell]
    if as_json:
        say_json({"sentences": sentences(rows), "files": [str(p) for p in paths], "failed": failed})
        return 1 if failed else 0
    out, table = console(), shown(rows)
    for (task, flops, place), group in table.groupby(["task", "training FLOPs", "place"], sort=False):
        drawn = Table(title=f"{task} after {flops} training FLOPs, compared at {place}", title_justify="left")
        for column in COLUMNS:
            drawn.add_column(column)
        for row in group.to_dict("records"):
            words = row | {"verdict": str(row["verdict"]).partition(" (")[0]}  # why: in the sentences below
            drawn.add_row(*(str(words[column]) for column in COLUMNS))
        out.print(drawn)
    for line in sentences(rows):
        out.print(line, soft_wrap=True)
    for one in failed:
        out.print(f"failed: {one['run']}: {one['reason']}", soft_wrap=True)
    for folder in dict.fromkeys(path.parent for path in paths):
        files = ", ".join(path.name for path in paths if path.parent == folder)
        out.print(f"wrote {folder}: {files}", soft_wrap=True)
    return 1 if failed else 0
