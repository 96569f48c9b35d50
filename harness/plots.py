"""The comparison in pictures: scores against what asking costs, and against what training cost.

results/plots/SUITE/NAME-BUDGET-flops.svg and .png, NAME-BUDGET-passes, NAME-learning, -difficulty, -heat, -thoughts, -tree-ARM,
-calibration-ARM. Knows curves; judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import difficulty_plots, record_plots, storage
from harness.comparison import Measured
from harness.curves import COMPARATOR, Currency, Curves
from harness.difficulty_plots import SCALE
from harness.figures import REFERENCE, STYLE, figure_of, files_of, label_of, looks, mean_of
from harness.hulls import Point, pareto
from harness.registry import short_name
from harness.worth import headline

INTERVAL = {False: "95% interval", True: "95% interval over problems"}  # of many seeds, of one
SAME_COST = 0.01  # a share of it: less is not seen on an axis
AXES: dict[Currency, tuple[str, str]] = {
    "flops": ("flops", "FLOPs a problem when asked (mean)"),
    "serial passes": ("passes", "serial passes a problem when asked (mean)"),
}


def draw(every: Sequence[Measured], folder: Path, results: Path) -> list[Path]:
    """All pictures of a block, written into a folder. results: where its records lie."""
    import matplotlib

    files: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE):
        for one in every:
            for currency, (short, label) in AXES.items():
                name = f"{one.block.name}-{one.train_flops:.3g}-{short}"
                files |= files_of(_against_cost(one, one.curves[currency], label), name)
        if len(every) > 1:
            files |= files_of(_learning(every), f"{every[0].block.name}-learning")
        last = headline(every)
        if by := difficulty_plots.scores_of(last):
            files |= files_of(difficulty_plots.lines(last, by), f"{last.block.name}-difficulty")
            files |= files_of(difficulty_plots.heat_map(last, by), f"{last.block.name}-heat")
        files |= record_plots.pictures(last, results)
    return storage.replace_files(folder, files)


def _against_cost(one: Measured, curves: Curves, label: str) -> Any:
    """Every arm's points with their seeds and intervals over them, its hull, and the comparator's."""
    figure = figure_of(7.6, 4.6)
    axes = figure.add_subplot()
    words, times = SCALE[one.is_accuracy]
    costs = [float(np.mean(list(by.values()))) for by in curves.costs.values()]
    edge = max(costs) * 1.35
    if COMPARATOR in curves.hulls:
        line = _scaled(_line(curves, COMPARATOR, edge), times)
        axes.plot(*line, color=REFERENCE, linewidth=5, alpha=0.35, solid_capstyle="round", label="comparator's curve")
    for number, (arm, look) in enumerate(zip(one.arms, looks(one.arms), strict=True)):
        names = [name for at, name in curves.names if at == number]
        if not names:
            continue
        x, middle, low, high = zip(*(point_of(curves, name, times) for name in names), strict=True)
        reach = [np.subtract(middle, low), np.subtract(high, middle)]
        seeds = [(curves.costs[name][s], curves.scores[name][s] * times) for name in names for s in curves.seeds]
        axes.scatter(*zip(*seeds, strict=True), s=9, color=look["color"], alpha=0.35, linewidth=0, zorder=2)
        axes.errorbar(x, middle, yerr=reach, linestyle="none", capsize=3, markersize=7, label=arm.label, zorder=3, **look)
        if len(names) > 1:
            axes.plot(*_scaled(_line(curves, number, None), times), color=look["color"], linewidth=1.2, zorder=2)
    best = _front(curves, one)
    axes.plot(*best, linestyle="none", marker="o", markersize=14, fillstyle="none", color="0.2", label="Pareto front", zorder=1)
    if one.floor is not None:
        axes.axhline(one.floor * times, color="0.6", linestyle=":", linewidth=1.2, label="floor")
    axes.set_xlim(min(costs) / 1.35, edge)
    log_axis(axes)
    axes.set(xlabel=label, ylabel=label_of(words, f"{mean_of(len(curves.seeds))}, {INTERVAL[len(curves.seeds) == 1]}"))
    axes.set_title(f"{short_name(one.block.task)} after {one.train_flops:.3g} training FLOPs", fontsize=12)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _front(curves: Curves, one: Measured) -> tuple[list[float], list[float]]:
    """Points that no other beats in cost or score without losing in the other, by costs that the picture can tell apart."""
    times, found = SCALE[one.is_accuracy][1], {name: point_of(curves, name, 1.0)[:2] for _, name in curves.names}
    points = [Point(flops=cost, score=score, name=name) for name, (cost, score) in found.items()]
    front = told_apart([found[name] for name in pareto(points, higher_is_better=one.is_accuracy)])
    return [cost for cost, _ in front], [score * times for _, score in front]


def told_apart(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Costs and scores, cheapest first, without those that a better one stands upon: at a cost that looks the same."""
    dearer = [cost for cost, _ in front[1:]] + [math.inf]
    return [point for point, after in zip(front, dearer, strict=True) if after > point[0] * (1 + SAME_COST)]


def log_axis(axes: Any, ticks: Sequence[float] | None = None) -> None:
    """A log axis whose ticks, 1, 2 and 5 of every decade or those given, are written as short numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if ticks is None else FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:g}" if x < 1e4 else f"{x:.3g}".replace("e+0", "e").replace("e+", "e"))
    )


def _scaled(line: tuple[list[float], list[float]], times: float) -> tuple[list[float], list[float]]:
    return line[0], [value * times for value in line[1]]


def point_of(curves: Curves, name: str, times: float) -> tuple[float, float, float, float]:
    """Cost, score and its interval."""
    found = curves.score(name)
    middle = (found.value or 0.0) * times
    low, high = (middle if end is None else end * times for end in (found.low, found.high))
    return float(np.mean([curves.costs[name][seed] for seed in curves.seeds])), middle, low, high


def _line(curves: Curves, number: int, edge: float | None) -> tuple[list[float], list[float]]:
    """A hull on test scores: straight between its corners, flat behind the last one up to an edge."""
    corners = curves.hulls[number].corners
    grid = np.geomspace(corners[0].flops, corners[-1].flops, 60) if len(corners) > 1 else np.array([corners[0].flops])
    line = [at for at in (curves.at(number, float(x)) for x in grid) if at is not None]
    x, y = [at.cost for at in line], [float(np.mean(list(at.scores.values()))) for at in line]
    return (x, y) if edge is None else ([*x, edge], [*y, y[-1]])


def _learning(every: Sequence[Measured]) -> Any:
    """Scores of every arm, at its best point on validation, against the training budget."""
    figure = figure_of(7.6, 4.6)
    axes = figure.add_subplot()
    words, times = SCALE[every[0].is_accuracy]
    for number, (arm, look) in enumerate(zip(every[0].arms, looks(every[0].arms), strict=True)):
        mine = [(one.train_flops, one.curves["flops"]) for one in every if number in one.curves["flops"].hulls]
        if not mine:
            continue
        x = [flops for flops, _ in mine]
        points = [point_of(curves, curves.hulls[number].corners[-1].name, times) for _, curves in mine]
        _, middle, low, high = zip(*points, strict=True)
        reach = [np.subtract(middle, low), np.subtract(high, middle)]
        axes.errorbar(x, middle, yerr=reach, capsize=3, markersize=7, label=arm.label, **look)
    log_axis(axes, [one.train_flops for one in every])
    axes.set(xlabel="training FLOPs", ylabel=label_of(words, "mean of seeds, 95% interval"))
    axes.set_title(short_name(every[0].block.task), fontsize=12)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure
