"""Scores by difficulty, in pictures: a line an arm, and a heat map of arms and levels. Knows measurements; judges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.comparison import Measured
from harness.curves import PRIMARY
from harness.figures import figure_of, label_of, looks, mean_of
from harness.registry import short_name

SCALE = {True: ("right answers (%)", 100.0), False: ("nats a token, lower is better", 1.0)}
Scores = Mapping[str, Mapping[int, float]]  # arm -> difficulty -> mean over seeds


def scores_of(one: Measured) -> Scores:
    """Of each arm's dearest point, by difficulty; arms without a point, and blocks of one difficulty, have none."""
    curves, found = one.curves[PRIMARY], dict[str, dict[int, float]]()
    for number, arm in enumerate(one.arms):
        if number not in curves.hulls:
            continue
        by = curves.records[curves.hulls[number].corners[-1].name]
        cells: dict[int, list[float]] = {}
        for seed in curves.seeds:
            for part in by[seed]["by_difficulty"]:
                cells.setdefault(part["difficulty"], []).append(part["metrics"][one.metric]["value"])
        if len(cells) > 1:
            found[arm.label] = {level: float(np.mean(values)) for level, values in sorted(cells.items())}
    return found


def lines(one: Measured, found: Scores) -> Any:
    """A line an arm."""
    figure = figure_of(7.6, 4.6)
    axes = figure.add_subplot()
    words, times = SCALE[one.is_accuracy]
    for arm, look in zip(one.arms, looks(one.arms), strict=True):
        if by := found.get(arm.label):
            axes.plot(list(by), [score * times for score in by.values()], label=arm.label, markersize=7, **look)
    if one.floor is not None:
        axes.axhline(one.floor * times, color="0.6", linestyle=":", linewidth=1.2, label="floor of the whole")
    levels = sorted({level for by in found.values() for level in by})
    axes.set_xticks(levels)
    axes.set(xlabel=one.difficulty_name, ylabel=label_of(words, mean_of(len(one.curves[PRIMARY].seeds))))
    axes.set_title(f"{short_name(one.block.task)} after {one.train_flops:.3g} training FLOPs", fontsize=12)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def heat_map(one: Measured, found: Scores) -> Any:
    """Arms down, difficulties across, each score written in its field."""
    words, times = SCALE[one.is_accuracy]
    levels = sorted({level for by in found.values() for level in by})
    table = np.array([[by.get(level, np.nan) * times for level in levels] for by in found.values()])
    figure = figure_of(2.8 + 0.75 * len(levels), 1.6 + 0.32 * len(found))
    axes = figure.add_subplot()
    high = 100.0 if one.is_accuracy else float(np.nanmax(table))
    image = axes.imshow(table, cmap="cividis", aspect="auto", vmin=0.0 if one.is_accuracy else float(np.nanmin(table)), vmax=high)
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            ink = "black" if value > (image.norm.vmin + image.norm.vmax) / 2 else "white"
            axes.text(
                column,
                row,
                f"{value:.0f}" if one.is_accuracy else f"{value:.2f}",
                ha="center",
                va="center",
                color=ink,
                fontsize=9,
            )
    axes.set_xticks(range(len(levels)), [str(level) for level in levels])
    axes.set_yticks(range(len(found)), list(found), fontsize=9)
    axes.grid(visible=False)
    axes.set(xlabel=one.difficulty_name)
    # Over the whole figure: the fields of few difficulties are narrower than it.
    figure.suptitle(f"{short_name(one.block.task)} after {one.train_flops:.3g} training FLOPs\n{words}", fontsize=11)
    return figure
