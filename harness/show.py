"""What commands print: progress on stderr, tables on stdout. Knows records; computes nothing but differences of two of them."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness import records, registry, stats
from harness.records import Record
from harness.spec import RunSpec, make_spec

WIDTH = 118


def console() -> Console:
    """Standard output; as wide as the terminal, or wide enough for our tables."""
    out = Console(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Console(width=WIDTH, highlight=False)


def to_stderr(line: str) -> None:
    """One line of progress."""
    print(line, file=sys.stderr, flush=True)


class Bars:
    """A reporter that draws progress bars on stderr: loss, FLOPs spent of the budget, time left."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=4,
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
            print(file=sys.stderr)

    def __call__(self, result: Any) -> None:
        self._count += 1
        if sys.stderr.isatty():
            print(f"\r{self._what}: {self._count}", end="", file=sys.stderr, flush=True)


# A run, alone or beside others


def print_runs(record: Record, spec: RunSpec, results: Path) -> None:
    """The run's table; beside it the comparable runs that are there, with their paired differences."""
    baseline, others = _comparable(spec, results)
    shown = [record] if spec == baseline else [r for r in others if r["spec"] == baseline.to_json()] + [record]
    if spec == baseline:
        shown += [r for r in others if r["fingerprint"] != record["fingerprint"]][:4]
    out = console()
    out.print(_runs_table(shown))
    for other in shown[1:]:
        out.print(_difference(shown[0], other, results))
    if len(shown) == 1:
        _suggest(out, spec, baseline)
    for shown_record in shown:
        folder = records.run_folder(results, records.spec_of(shown_record))
        out.print(f"[dim]{_name(shown_record)}: {folder}[/dim]", soft_wrap=True)


def _comparable(spec: RunSpec, results: Path) -> tuple[RunSpec, list[Record]]:
    """The baseline's spec for this run, and complete runs that differ from this one in their strategy alone."""
    names = _defaults()
    own = spec.to_json()
    strategy = make_spec(strategy=names["baseline"], task=names["task"]).strategy
    import dataclasses

    baseline = dataclasses.replace(spec, strategy=strategy)
    found = []
    for folder in records.run_folders(results):
        try:
            record = records.read_run(folder) | {"timing": records.read_timing(folder)}
        except ValueError as error:
            to_stderr(f"left out: {error}")
            continue
        if {k: v for k, v in record["spec"].items() if k != "strategy"} == {k: v for k, v in own.items() if k != "strategy"}:
            found.append(record)
    return baseline, found


def _defaults() -> dict[str, str]:
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def _suggest(out: Console, spec: RunSpec, baseline: RunSpec) -> None:
    """Name the command that makes the run beside this one."""
    import dataclasses

    from harness.spec import command_line

    partner = baseline
    if spec == baseline:
        names = _defaults()
        partner = dataclasses.replace(spec, strategy=make_spec(strategy=names["partner"], task=names["task"]).strategy)
    out.print(f"To compare, run: {command_line(partner)}", soft_wrap=True)


def _name(record: Record) -> str:
    """The strategy with its settings that are not default."""
    strategy = dict(record["spec"]["strategy"])
    name, _ = strategy.pop("name"), strategy.pop("version")
    defaults = _plugin_defaults(name)
    changed = [f"{k}={v}" for k, v in strategy.items() if defaults.get(k) != v]
    return f"{name} ({', '.join(changed)})" if changed else name


def _plugin_defaults(strategy: str) -> dict[str, Any]:
    """A strategy's default settings."""
    import dataclasses

    try:
        return {f.name: f.default for f in dataclasses.fields(registry.find("strategy", strategy))}
    except ValueError:
        return {}


def _runs_table(shown: Sequence[Record]) -> Table:
    """Rows are facts, columns are runs."""
    first = shown[0]["spec"]
    title = f"{first['task']['name']}, seed {first['seed']}, {shown[0]['infer']['problems']:,} test problems"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for record in shown:
        table.add_column(_name(record), justify="right")
    for label, cells in _rows(shown):
        table.add_row(label, *cells)
    return table


def _rows(shown: Sequence[Record]) -> list[tuple[str, list[str]]]:
    rows: list[tuple[str, list[str]]] = []
    for name in shown[0]["metrics"]:
        found = [r["metrics"][name] for r in shown]
        show = _percent if name == "accuracy" else _number
        rows.append((f"{_words(name)} [95%]", [_interval(m, show) for m in found]))
        floors = [show(m["floor"]) for m in found]
        label = (
            "floor: the commonest answer" if name == "accuracy" else "floor: uniform guess, ln V" if "nats" in name else "floor"
        )
        rows.append((f"  {label}", floors))
    rows += _difficulty_rows(shown)
    train, infer = [r["train"] for r in shown], [r["infer"] for r in shown]
    rows.append(("training FLOPs", [f"{t['spent_flops']:.3g}" for t in train]))
    rows.append(("  updates, examples", [f"{t['updates']:,}, {t['examples']:,}" for t in train]))
    if any(t["epochs"] is not None for t in train):
        rows.append(("  epochs of unique text", ["-" if t["epochs"] is None else f"{t['epochs']:.2f}" for t in train]))
    rows.append(("inference FLOPs per problem", [f"{i['flops_per_problem']['total']:.3g}" for i in infer]))
    for part in ("prefill", "think", "answer", "score", "verify"):
        if any(i["flops_per_problem"][part] for i in infer):
            rows.append((f"  {part}", [f"{i['flops_per_problem'][part]:.3g}" for i in infer]))
    rows.append(("serial passes per problem", [f"{i['serial_passes_per_problem']:.2f}" for i in infer]))
    tokens = [f"{i['text_tokens_per_problem']:.1f} + {i['woven_tokens_per_problem']:.1f}" for i in infer]
    rows.append(("text + woven tokens per problem", tokens))
    rows.append(("seconds per problem", [_seconds(r["timing"].get("seconds_per_problem")) for r in shown]))
    rows.append(("seconds of training", [_seconds(r["timing"].get("train_s")) for r in shown]))
    return rows


def _difficulty_rows(shown: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The headline metric of each difficulty, if there are several."""
    name = next(iter(shown[0]["metrics"]))
    groups = [{g["difficulty"]: g for g in r["by_difficulty"]} for r in shown]
    if len(groups[0]) < 2:
        return []
    word = getattr(registry.find("task", shown[0]["spec"]["task"]["name"]), "difficulty_name", "difficulty")
    rows = []
    for difficulty in sorted(groups[0]):
        first = groups[0][difficulty]
        label = f"  {word} {difficulty} (n {first['n']:,}{'' if first['headline'] else ', held-out length'})"
        rows.append((label, [_percent(g[difficulty]["metrics"][name]["value"]) if difficulty in g else "-" for g in groups]))
    return rows


def _difference(base: Record, other: Record, results: Path) -> str:
    """One sentence: the paired difference of the headline metric on the same problems."""
    name = next(iter(base["metrics"]))
    ours, theirs = (records.read_lines(records.run_folder(results, records.spec_of(r))) for r in (other, base))
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a["id"] == b["id"] and a["weight"] > 0]
    weights = [a["weight"] for a, _ in both]
    if name == "accuracy":
        d = stats.paired_difference([a["score"] for a, _ in both], [b["score"] for _, b in both], weights)
        unit, scale = "points of accuracy", 100.0
    else:
        d = stats.ratio([a["nats"] - b["nats"] for a, b in both], [a["targets"] for a, _ in both], weights)
        unit, scale = "nats per text token (less is better)", 1.0
    if d.value is None or d.low is None or d.high is None:
        return ""
    digits = 1 if scale == 100 else 4
    low, value, high = (f"{x * scale:+.{digits}f}" for x in (d.low, d.value, d.high))
    cost = other["infer"]["flops_per_problem"]["total"] / base["infer"]["flops_per_problem"]["total"]
    return (
        f"[bold]{_name(other)} minus {_name(base)}: {value} {unit}[/bold] (95% {low} to {high}, the same {len(both):,} problems),"
        f" at {other['train']['spent_flops'] / base['train']['spent_flops']:.2f}x its training FLOPs"
        f" and {cost:.2f}x its inference FLOPs. One training seed describes; it decides nothing."
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 1 else f"{value:.1f}"


def _interval(metric: Record, show: Any) -> str:
    if metric["low"] is None:
        return str(show(metric["value"]))
    return f"{show(metric['value'])} [{show(metric['low'])}, {show(metric['high'])}]"


# Other commands


def print_plan(plan: Any, *, as_json: bool) -> None:
    """`--dry-run`."""
    facts = {
        "training_flops": plan.training_flops,
        "flops_per_update": plan.flops_per_update,
        "updates": plan.updates,
        "minutes": plan.seconds / 60,
        "disk_bytes": plan.disk_bytes,
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print(f"training: {facts['training_flops']:.3g} FLOPs, {plan.updates:,} updates of {plan.flops_per_update:.3g}")
    print(f"about {facts['minutes']:.1f} minutes of training here, {plan.disk_bytes / 1e6:.1f} MB of disk")


def print_asked(asked: Record, *, as_json: bool) -> None:
    """`ask`."""
    if as_json:
        print(json.dumps(asked, indent=1, ensure_ascii=False))
        return
    out = console()
    table = Table(title="trace: the cells that were computed", title_justify="left")
    for column in ("cell", "kind", "text", "place", "head read", "ledger"):
        table.add_column(column)
    for number, cell in enumerate(asked["trace"]):
        text = "" if cell["text"] is None else repr(cell["text"])[1:-1]
        table.add_row(str(number), cell["kind"], text, str(cell["place"]), "yes" if cell["read"] else "", cell["class"])
    out.print(table, markup=False)
    out.print(f"question {asked['question']!r}  said {asked['completion']!r}  answer {asked['answer']!r}", markup=False)
    total = sum(asked["flops"].values())
    parts = ", ".join(f"{k} {v:,}" for k, v in asked["flops"].items() if v)
    out.print(f"FLOPs {total:,} ({parts}); serial passes {asked['serial_passes']:g}; "
              f"{asked['text_tokens']} text + {asked['woven_tokens']} woven tokens; {asked['kv_bytes']:,} bytes of keys and values",
              markup=False, soft_wrap=True)  # fmt: skip


def print_verified(found: Record, *, as_json: bool) -> int:
    """`verify`; 1 if any line differs."""
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{found['equal']:,} of {found['problems']:,} problems equal: {found['run']}")
        if found["different"]:
            print("different: " + ", ".join(found["different"]))
    return 0 if found["equal"] == found["problems"] else 1


def print_exported(found: Record, *, as_json: bool) -> None:
    """`export`."""
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(f"wrote {found['folder']}: {', '.join(found['files'])} ({found['parameters']:,} parameters)")
    if found["same_scores"]:
        print(f"stock transformers gives the same scores (largest difference {found['largest_difference_nats']:.1e} nats)")
    else:
        print(
            "this strategy weaves thoughts in, which an ordinary checkpoint cannot hold: its scores there differ "
            f"by up to {found['largest_difference_nats']:.2g} nats"
        )


def print_checks(results: Sequence[Any], *, as_json: bool) -> int:
    """`check`; 1 if any failed."""
    failed = [r for r in results if r.status == "failed"]
    if as_json:
        print(json.dumps([r.to_json() for r in results], indent=1))
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
        out.print(f"FAILED {r.check} (strategy {r.strategy}, task {r.task}): {r.message}", markup=False, soft_wrap=True)
    for r in results:
        if r.status == "known":
            out.print(f"known {r.check} (strategy {r.strategy}, task {r.task}): {r.message}", markup=False, soft_wrap=True)
    out.print(f"{sum(r.status == 'passed' for r in results)} passed, {len(failed)} failed")
    return 1 if failed else 0


def print_file_report(report: Any, *, as_json: bool) -> int:
    """`check FILE.py`; 1 if any check failed."""
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
        return 0 if report.passed else 1
    out = console()
    out.print(f"{report.strategy}: {report.doc}", markup=False, soft_wrap=True)
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
            out.print(f"FAILED {check.check}: {check.message}", markup=False, soft_wrap=True)
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
        print(json.dumps(result, indent=1))
        return 0
    table = Table(title="ratios measured in this run", title_justify="left")
    for column in ("measurement", "ratio", "target", "holds"):
        table.add_column(column)
    for row in result["measurements"]:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        target = "-" if row["target"] is None else str(row["target"])
        table.add_row(row["name"], ratio, target, {True: "yes", False: "no", None: "-"}[row["passed"]])
    console().print(table)
    return 0
