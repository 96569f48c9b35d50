"""The table of `run`: one run, or comparable ones side by side with their paired differences.

Knows records and their lines. Loads no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from harness import records, registry, stats, trainings
from harness.budgets import budget_of
from harness.curves import SCORES
from harness.defaults import default
from harness.records import Record
from harness.remedies import ABOVE_FLOOR, is_at_floor, to_raise
from harness.screen import console, styled
from harness.spec import RunSpec, from_json, make_spec
from harness.spec_text import command_line
from harness.visible import to_stderr
from harness.wording import Unit


def print_runs(record: Record, spec: RunSpec, results: Path, *, options: Sequence[str] = ()) -> None:
    """Print the run's table; beside it the comparable runs that are there, with their paired differences.

    options: those of the command line that a printed command must repeat, such as --results.
    """
    baseline, others = _comparable(spec, results)
    shown = [record] if spec == baseline else [r for r in others if r["spec"] == baseline.to_json()] + [record]
    if spec == baseline:
        shown += [r for r in others if r["fingerprint"] != record["fingerprint"]][:4]
    out = console()
    out.print(_runs_table(shown))
    for line in trainings.mixed(trainings.named_records((_name(one), one["seed"], one) for one in shown)):
        out.print(line, soft_wrap=True)
    for other in shown[1:]:
        out.print(_difference(shown[0], other, results))
    for line in filter(None, map(floor_line, shown)):
        out.print(line, soft_wrap=True)
    partner = _partner(spec, baseline) if len(shown) == 1 else None
    if partner is not None:
        out.print(f"To compare, run: {command_line(partner)}{''.join(f' {word}' for word in options)}", soft_wrap=True)
    for shown_record in shown:
        folder = records.folder_of(results, shown_record)
        out.print(styled((f"{_name(shown_record)}: {folder}", "dim")), soft_wrap=True)


def floor_line(record: Record) -> str | None:
    """Say that a run has not left its floor, and what to do; None where it has, or where no floor is known."""
    name = next((name for name in SCORES if name in record["metrics"]), None)
    metric = record["metrics"][name] if name is not None else {}
    if metric.get("value") is None or metric.get("floor") is None:
        return None
    is_share = name == "accuracy"
    score, floor, unit = metric["value"], metric["floor"], Unit(is_share)
    if not is_at_floor(score, floor, higher_is_better=is_share):
        return None
    short = f"its score of {unit.said(score)} is not {unit.distance(ABOVE_FLOOR)} better than the floor of {unit.said(floor)}"
    return f"{_name(record)} has not left its floor: {short}; {to_raise(budget_of(record))}"


def _comparable(spec: RunSpec, results: Path) -> tuple[RunSpec, list[Record]]:
    """The baseline's spec for this run, and complete runs that differ from this one in their strategy alone."""
    own = spec.to_json()
    strategy = make_spec(strategy=default("baseline"), task=default("task")).strategy
    baseline = dataclasses.replace(spec, strategy=strategy)
    found = []
    for folder in records.run_folders(results, task=registry.title("task", own["task"])):
        try:
            record = records.check_place(records.read_measured(folder), folder)
        except ValueError as error:
            to_stderr(f"left out: {error}")
            continue
        if {k: v for k, v in record["spec"].items() if k != "strategy"} == {k: v for k, v in own.items() if k != "strategy"}:
            found.append(record)
    return baseline, found


def _partner(spec: RunSpec, baseline: RunSpec) -> RunSpec | None:
    """Find the run that this one is to be held against: the baseline; of the baseline, one that must be taught."""
    partner = baseline
    if spec == baseline and not spec.train.flops:
        return None  # nothing is taught here, so what must be taught is no partner
    if spec == baseline:
        partner = dataclasses.replace(spec, strategy=make_spec(strategy=default("partner"), task=default("task")).strategy)
    try:
        return from_json(partner.to_json(), trust_plugins=True)  # checks that it suits the task and the settings
    except ValueError:
        return None


def _name(record: Record) -> str:
    """The strategy with its settings that are not default."""
    return _named(record["spec"]["strategy"])


def _named(plugin: Record) -> str:
    """A strategy's name with what is not default, a base's too."""
    strategy = dict(plugin)
    name, _ = strategy.pop("name"), strategy.pop("version")
    defaults = _plugin_defaults(name)
    shown = {k: _named(v) if isinstance(v, dict) else v for k, v in strategy.items()}
    changed = [f"{k}={v}" for k, v in shown.items() if defaults.get(k) != v]
    return f"{name} ({', '.join(changed)})" if changed else name


def _plugin_defaults(strategy: str) -> dict[str, Any]:
    """A strategy's default settings; none of a strategy that cannot be had, or whose code only a record names."""
    try:
        cls = registry.find("strategy", strategy, trust_plugins=False)
        return {f.name: f.default for f in dataclasses.fields(cls)}
    except ValueError:
        return {}


def _runs_table(shown: Sequence[Record]) -> Table:
    """Rows are facts, columns are runs."""
    first = shown[0]["spec"]
    title = f"{registry.title('task', first['task'])}, seed {first['seed']}, {shown[0]['infer']['problems']:,} test problems"
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
        if all("aggregation" in m for m in found):  # a metric of somebody else's, of which no floor is known
            continue
        floors = [show(m["floor"]) for m in found]
        label = (
            "floor: the commonest answer" if name == "accuracy" else "floor: uniform guess, ln V" if "nats" in name else "floor"
        )
        rows.append((f"  {label}", floors))
    rows += _difficulty_rows(shown)
    rows += _search_rows(shown)
    train, infer = [r["train"] for r in shown], [r["infer"] for r in shown]
    rows.append(("training FLOPs", [f"{t['spent_flops']:.3g}" for t in train]))
    rows.append(("  updates, examples", [f"{t['updates']:,}, {t['examples']:,}" for t in train]))
    if any(t["epochs"] is not None for t in train):
        rows.append(("  epochs of unique text", ["-" if t["epochs"] is None else f"{t['epochs']:.2f}" for t in train]))
    rows += _value_rows(shown)
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


def _value_rows(shown: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """What value models cost before anything was asked, and how good their chances are, if there are any."""
    found = [r.get("value") for r in shown]
    if not any(found):
        return []
    costs = ["-" if v is None else f"{v['flops']['rollouts'] + v['flops']['fitting']:.3g} ({_times(v['ratio'])})" for v in found]
    scores = ["-" if v is None else f"{_number(v['brier'])} ({_number(v['brier_of_constant'])})" for v in found]
    return [("value model FLOPs (x learner's training)", costs), ("  Brier score (constant)", scores)]


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}x"


def _search_rows(shown: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """What candidates held, if anything was searched, and what a search was told."""
    found = [r["search"] for r in shown]
    if not any(found):
        return []
    held = [None if s is None else s for s in found]
    rows = [
        ("coverage: any candidate right [95%]", ["-" if s is None else _interval(s["coverage"], _percent) for s in held]),
        ("  gap to the chosen one", ["-" if s is None else _percent(s["gap"]) for s in held]),
        ("  candidates, nodes per problem", ["-" if s is None else f"{s['candidates']:.1f}, {s['nodes']:.1f}" for s in held]),
    ]
    if any(r["access"] != "none" for r in shown):
        rows.append(("  told by", [r["access"] for r in shown]))
    return rows


def _difficulty_rows(shown: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The headline metric of each difficulty, if there are several."""
    name = next(iter(shown[0]["metrics"]))
    groups = [{g["difficulty"]: g for g in r["by_difficulty"]} for r in shown]
    if len(groups[0]) < 2:
        return []
    task = registry.find("task", shown[0]["spec"]["task"]["name"], trust_plugins=False)  # the run's own: loaded by now
    word = getattr(task, "difficulty_name", "difficulty")
    rows = []
    for difficulty in sorted(groups[0]):
        first = groups[0][difficulty]
        label = f"  {word} {difficulty} (n {first['n']:,}{'' if first['headline'] else ', held-out length'})"
        rows.append((label, [_percent(g[difficulty]["metrics"][name]["value"]) if difficulty in g else "-" for g in groups]))
    return rows


def _difference(base: Record, other: Record, results: Path) -> Text:
    """One sentence: the paired difference of the headline metric on the same problems."""
    name = next(iter(base["metrics"]))
    ours, theirs = (records.read_lines(records.folder_of(results, r)) for r in (other, base))
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a["id"] == b["id"] and a["weight"] > 0]
    weights = [a["weight"] for a, _ in both]
    if name == "accuracy":
        d = stats.paired_difference([a["score"] for a, _ in both], [b["score"] for _, b in both], weights)
        unit, scale = "points of accuracy", 100.0
    else:
        d = stats.ratio([a["nats"] - b["nats"] for a, b in both], [a["targets"] for a, _ in both], weights)
        unit, scale = "nats per text token (less is better)", 1.0
    if d.value is None or d.low is None or d.high is None:
        return styled()
    digits = 1 if scale == 100 else 4
    low, value, high = (f"{x * scale:+.{digits}f}" for x in (d.low, d.value, d.high))
    training = _ratio(other["train"]["spent_flops"], base["train"]["spent_flops"], "training FLOPs")
    asked, theirs_asked = (r["infer"]["flops_per_problem"]["total"] for r in (other, base))
    asking = _ratio(asked, theirs_asked, "inference FLOPs")
    return styled(
        (f"{_name(other)} minus {_name(base)}: {value} {unit}", "bold"),
        f" (95% {low} to {high}, the same {len(both):,} problems), at {training} and {asking}. "
        "One training seed describes; it decides nothing.",
    )


def _ratio(ours: float, theirs: float, what: str) -> str:
    """Say what one run spent as a multiple of another's; nothing has no multiple."""
    if theirs:
        return f"{ours / theirs:.2f}x its {what}"
    return f"{ours:.3g} {what} against none" if ours else f"no {what} in either"


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
