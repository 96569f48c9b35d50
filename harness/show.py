"""What commands print: progress on stderr, tables on stdout. Knows what each command returns; computes nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TimeRemainingColumn
from rich.table import Table

from harness import registry
from harness.records import Record
from harness.screen import Screen, Words, console
from harness.spec import RunSpec
from harness.visible import count_on_stderr, say, say_json, to_stderr


class Bars:
    """A reporter that draws progress bars on stderr: loss, FLOPs spent of the budget, time left."""

    def __init__(self) -> None:
        self._progress = Progress(
            Words("{task.description}"), BarColumn(bar_width=30), Words("{task.fields[facts]}"),
            TimeRemainingColumn(), console=Screen(stderr=True), refresh_per_second=4,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._progress.stop()

    def _update(self, key: str, share: float, facts: str) -> None:
        if key not in self._tasks:
            self._progress.start()
            self._tasks[key] = self._progress.add_task(key, total=1.0, facts="")
        self._progress.update(self._tasks[key], completed=share, facts=facts)

    def training(self, spec: RunSpec, spent: Any, progress: float, loss_nats: float) -> None:
        """After each update."""
        facts = f"loss {loss_nats:.3f}  {spent.flops:.2e} of {spec.train.flops:.2e} FLOPs"
        self._update(f"train {registry.plugin_name(spec.strategy)}", progress, facts)

    def evaluating(self, spec: RunSpec, done: int, total: int) -> None:
        """After each problem."""
        self._update(f"test {registry.plugin_name(spec.strategy)}", done / total, f"{done} of {total} problems")


class Counter:
    """Counts what has been reported, on stderr."""

    def __init__(self, what: str) -> None:
        self._what, self._count = what, 0

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._count and sys.stderr.isatty():
            to_stderr("")

    def __call__(self, result: Any) -> None:
        self._count += 1
        if sys.stderr.isatty():
            count_on_stderr(f"{self._what}: {self._count}")


def print_plan(plan: Any, *, as_json: bool) -> None:
    """`--dry-run`."""
    if as_json:
        facts = _phase_facts(plan) | {"minutes": plan.seconds / 60, "disk_bytes": plan.disk_bytes}
        say_json(facts | {"pretraining": None if plan.pretraining is None else _phase_facts(plan.pretraining)})
        return
    for name, phase in (("pretraining", plan.pretraining), ("training", plan)):
        if phase is not None:
            say(f"{name}: {phase.training_flops:.3g} FLOPs, {phase.updates:,} updates of {phase.flops_per_update:.3g}")
    say(f"about {plan.seconds / 60:.1f} minutes of training here, {plan.disk_bytes / 1e6:.1f} MB of disk")


def _phase_facts(plan: Any) -> dict[str, Any]:
    """One phase of training, as it is foreseen."""
    return {"training_flops": plan.training_flops, "flops_per_update": plan.flops_per_update, "updates": plan.updates}


def print_asked(asked: Record, *, as_json: bool) -> None:
    """`ask`."""
    if as_json:
        say_json(asked)
        return
    out = console()
    table = Table(title="trace: the cells that were computed", title_justify="left")
    for column in ("cell", "kind", "text", "place", "head read", "ledger"):
        table.add_column(column)
    for number, cell in enumerate(asked["trace"]):
        text = "" if cell["text"] is None else repr(cell["text"])[1:-1]
        table.add_row(str(number), cell["kind"], text, str(cell["place"]), "yes" if cell["read"] else "", cell["class"])
    out.print(table)
    out.print(f"question {asked['question']!r}  said {asked['completion']!r}  answer {asked['answer']!r}")
    total = sum(asked["flops"].values())
    parts = ", ".join(f"{k} {v:,}" for k, v in asked["flops"].items() if v)
    tokens = f"{asked['text_tokens']} text + {asked['woven_tokens']} woven tokens; {asked['kv_bytes']:,} bytes of keys and values"
    out.print(f"FLOPs {total:,} ({parts}); serial passes {asked['serial_passes']:g}; {tokens}", soft_wrap=True)


def print_verified(found: Record, *, as_json: bool) -> int:
    """`verify`; 1 if any line differs."""
    if as_json:
        say_json(found)
    else:
        say(f"{found['equal']:,} of {found['problems']:,} problems equal: {found['run']}")
        if found["different"]:
            say("different: " + ", ".join(found["different"]))
    return 0 if found["equal"] == found["problems"] else 1


def print_exported(found: Record, *, as_json: bool) -> None:
    """`export`."""
    if as_json:
        say_json(found)
        return
    say(f"wrote {found['folder']}: {', '.join(found['files'])} ({found['parameters']:,} parameters)")
    if found["same_scores"]:
        say(f"stock transformers gives the same scores (largest difference {found['largest_difference_nats']:.1e} nats)")
    else:
        say(
            "this strategy is more than one pass over plain text, which an ordinary checkpoint cannot hold: scores there differ "
            f"by up to {found['largest_difference_nats']:.2g} nats"
        )


def print_checks(results: Sequence[Any], *, as_json: bool) -> int:
    """`check`; 1 if any failed."""
    failed = [r for r in results if r.status == "failed"]
    if as_json:
        say_json([r.to_json() for r in results])
        return 1 if failed else 0
    table = Table(title="checks by plugin", title_justify="left")
    statuses = ("passed", "failed", "known", "skipped")
    for column in ("strategy", "task", *statuses):
        table.add_column(column, justify="left" if column in ("strategy", "task") else "right")
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for r in results:
        row = counts.setdefault((r.strategy or "-", r.task or "-"), dict.fromkeys(statuses, 0))
        row[r.status] += 1
    for (strategy, task), row in counts.items():
        table.add_row(strategy, task, *(str(row[s]) for s in statuses))
    out = console()
    out.print(table)
    for r in failed:
        out.print(f"FAILED {r.check} (strategy {r.strategy}, task {r.task}): {r.message}", soft_wrap=True)
    for r in results:
        if r.status == "known":
            out.print(f"known {r.check} (strategy {r.strategy}, task {r.task}): {r.message}", soft_wrap=True)
    out.print(f"{sum(r.status == 'passed' for r in results)} passed, {len(failed)} failed")
    return 1 if failed else 0


def print_file_report(report: Any, *, as_json: bool) -> int:
    """`check FILE.py`; 1 if any check failed."""
    if as_json:
        say_json(report.to_json())
        return 0 if report.passed else 1
    out = console()
    out.print(f"{report.strategy}: {report.doc}", soft_wrap=True)
    seen = {True: "LEAKS: a later token changes what was said before", False: "no leak", None: "could not be told"}
    out.print(_facts_table("leaks", {f"when {path}": seen[leak] for path, leak in report.leaks.items()}))
    table = Table(title="mean gradient of a target's loss, by how far behind the place stands (nats)", title_justify="left")
    for column in ("targets ahead", "to the place's text", "to its thoughts"):
        table.add_column(column, justify="right")
    for d in report.gradient:
        table.add_row(str(d.distance), f"{d.text:.3g}", "none woven" if d.thoughts is None else f"{d.thoughts:.3g}")
    if report.gradient:
        out.print(table)
    ledger = {name: f"{value:,.0f}" for name, value in report.ledger.items() if value}
    multiples = {"asking, against direct's FLOPs": report.asking_multiple, "a training update": report.training_multiple}
    ledger |= {name: "-" if value is None else f"x{value:.2f}" for name, value in multiples.items()}
    out.print(_facts_table("ledger of one problem", ledger))
    for check in report.checks:
        if check.status == "failed":
            out.print(f"FAILED {check.check}: {check.message}", soft_wrap=True)
    passed = sum(check.status == "passed" for check in report.checks)
    failed = sum(check.status == "failed" for check in report.checks)
    out.print(f"{passed} checks passed, {failed} failed, in {report.seconds:.0f} s")
    return 0 if report.passed else 1


def _facts_table(title: str, facts: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def print_bench(result: Record, *, as_json: bool) -> int:
    """`bench`; always 0: figures are for reading."""
    if as_json:
        say_json(result)
        return 0
    table = Table(title="ratios measured in this run", title_justify="left")
    for column in ("measurement", "ratio", "target", "holds"):
        table.add_column(column)
    for row in result["results"]:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        target = "-" if row["target"] is None else str(row["target"])
        table.add_row(row["name"], ratio, target, {True: "yes", False: "no", None: "-"}[row["passed"]])
    console().print(table)
    return 0
