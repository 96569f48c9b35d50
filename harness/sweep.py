"""sweep: one setting over a range, on one strategy and task, against what each value truly costs.

A sweep is a comparison whose arms are one strategy's at the setting's values; here are its suite and its picture. Knows suites
and curves; makes no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import storage
from harness.comparison import Measured
from harness.curves import Curves
from harness.difficulty_plots import SCALE
from harness.figures import STYLE, figure_of, files_of, label_of, look_of, mean_of
from harness.legal import MOST_PROBLEMS, check_distinct, whole_of
from harness.plots import log_axis, point_of
from harness.records import folder_name
from harness.registry import short_name
from harness.suite import Arm, Block, Settings, Suite, seeds_of
from harness.suite_file import SEEDS, default_flops, numbers

WIDE = 30.0  # times the least value: a range that is drawn on a log axis
BUDGET = "train.flops"
MOST_VALUES = 1000


def over_of(words: str) -> tuple[str, list[str]]:
    """The setting and its values, from KEY=V1,V2,..; ValueError otherwise."""
    key, equals, values = words.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or "." not in key or len(found) < 2:
        raise ValueError(f"--over: expected a setting and two or more values, such as strategy.per_token=0,1,2,3, got {words!r}")
    if len(found) > MOST_VALUES:
        raise ValueError(f"--over: expected up to {MOST_VALUES} values, got {len(found):,}")
    check_distinct("--over", found)
    return key, found


def sweep_suite(
    *,
    strategy: str,
    task: str,
    over: str,
    settings: Settings,
    seeds: str | None,
    train_flops: str | None,
    problems: str | None,
    family: bool,
) -> Suite:
    """The suite of a sweep: an arm for each value; over the budget itself, one arm at each. ValueError names the option."""
    key, values = over_of(over)
    if key in settings:
        raise ValueError(f"--set: {key} is what is swept; leave it out")
    budgets = default_flops(task, settings) if train_flops is None else numbers(train_flops, "--train-flops")
    shared = {k: v for k, v in settings.items() if not k.startswith("strategy.")}
    own = {k: v for k, v in settings.items() if k.startswith("strategy.")}
    if key == BUDGET:
        budgets, arms = numbers(",".join(values), "--over"), [Arm(strategy=strategy, name=short_name(strategy), settings=own)]
    else:
        arms = [Arm(strategy=strategy, name=f"{key.rpartition('.')[2]}={v}", settings={**own, key: v}) for v in values]
    count = None if problems is None else whole_of(problems, "--problems", low=1, high=MOST_PROBLEMS)
    name = "-".join(folder_name(part) for part in ("sweep", short_name(task), short_name(strategy), key))
    block = Block(
        task=task, name=name, arms=arms, settings=shared, problems=count, train_flops=budgets,
        seeds=seeds_of(SEEDS if seeds is None else seeds), with_family=family,
    )  # fmt: skip
    return Suite(name=name, blocks=[block])


def draw_sweep(every: Sequence[Measured], folder: Path, results: Path, key: str, values: Sequence[str]) -> list[Path]:
    """Score by value, and by what a value costs when asked; a pair of panels for each budget (one for all, over the budget)."""
    import matplotlib

    files: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE):
        if key == BUDGET:
            points = [(f"{one.train_flops:.3g}", one.curves["flops"], _own(one, 0)) for one in every]
            files |= files_of(_panels(every[0], points, key), "sweep") if every else {}
        for one in every if key != BUDGET else ():
            mine = [(value, one.curves["flops"], _own(one, at)) for at, value in enumerate(values)]
            files |= files_of(_panels(one, mine, key), f"sweep-{one.train_flops:.3g}")
    return storage.replace_files(folder, files)


def _own(one: Measured, at: int) -> str | None:
    """The name of the at-th of the swept arms' point, if it is there."""
    label = one.block.arms[at].label
    names = [name for number, name in one.curves["flops"].names if one.arms[number].label == label]
    return names[0] if names else None


def _panels(one: Measured, points: Sequence[tuple[str, Curves, str | None]], key: str) -> Any:
    figure = figure_of(9.2, 4.2)
    by_value, by_cost = figure.subplots(1, 2, sharey=True)
    words, times = SCALE[one.is_accuracy]
    there = [(value, *point_of(curves, name, times)) for value, curves, name in points if name is not None]
    labels, costs, middle, low, high = zip(*there, strict=True)
    reach = [np.subtract(middle, low), np.subtract(high, middle)]
    look = look_of(short_name(one.block.arms[0].strategy))
    x = _axis(by_value, labels)
    for axes, places in ((by_value, x), (by_cost, costs)):
        axes.errorbar(places, middle, yerr=reach, capsize=3, markersize=7, **look)
        if one.floor is not None:
            axes.axhline(one.floor * times, color="0.6", linestyle=":", linewidth=1.2, label="floor")
            axes.legend(frameon=False, fontsize=9)
    for label, cost, score in zip(labels, costs, middle, strict=True):
        by_cost.annotate(label, (cost, score), xytext=(5, 6), textcoords="offset points", fontsize=9)
    log_axis(by_cost)
    by_value.set(xlabel=key, ylabel=label_of(words, f"{mean_of(len(points[0][1].seeds))}, 95%"))
    by_cost.set(xlabel="FLOPs a problem when asked (mean)")
    figure.suptitle(f"{short_name(one.block.arms[0].strategy)} on {short_name(one.block.task)}", fontsize=12)
    return figure


def _axis(axes: Any, labels: Sequence[str]) -> list[float]:
    """Where values stand: as numbers, on a log axis where their range is wide; or one after another."""
    try:
        values = [float(label) for label in labels]
    except ValueError:
        axes.set_xticks(range(len(labels)), [label.replace("$", r"\$") for label in labels])
        return [float(place) for place in range(len(labels))]
    if min(values) > 0 and max(values) / min(values) >= WIDE:
        log_axis(axes, values)
    return values
