"""Pictures of what single records hold: thoughts by place, an example of each search's tree, calibration of value models.

Knows a block's measurements at its headline, and where records lie; judges nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness import calibration, records
from harness.comparison import Measured
from harness.curves import PRIMARY
from harness.figures import figure_of, files_of, looks
from harness.lines import windows_of
from harness.problem import FATES
from harness.records import Record
from harness.registry import short_name

MOST_PLACES, MOST_NODES, MOST_CHARACTERS = 60, 40, 22
FATE_COLOURS = dict(zip(FATES, ("#0072B2", "#D55E00", "#009E73", "#999999", "#CC79A7", "#E69F00"), strict=False))


def pictures(one: Measured, results: Path) -> dict[str, bytes]:
    """Files by name; what has nothing to show is left out."""
    files: dict[str, bytes] = {}
    name, firsts = one.block.name, list(_first_records(one))
    thoughts = {label: by for label, r in firsts if (by := thoughts_by_place(_lines(results, r, "traces.jsonl")))}
    if thoughts:
        files |= files_of(_thoughts(one, thoughts), f"{name}-thoughts")
    for label, record in firsts:
        if record["search"] is not None:
            trees = {x["id"]: x["tree"] for x in _lines(results, record, "traces.jsonl") if _worth_drawing(x["tree"])}
            lines = [x for x in _lines(results, record) if x["id"] in trees]
            if lines:  # the first that it got right, if any
                shown = next((x for x in lines if x["score"] >= 1.0), lines[0])
                files |= files_of(_tree(shown, trees[shown["id"]], label), f"{name}-tree-{_plain(label)}")
        if record["value"] is not None:
            drawn = calibration.diagram(record["value"]["calibration"])
            files |= {f"{name}-calibration-{_plain(label)}.{end}": drawn[f"reliability.{end}"] for end in ("png", "svg")}
    return files


def _first_records(one: Measured) -> Iterator[tuple[str, Record]]:
    """Each arm's dearest point's record of the first seed."""
    curves = one.curves[PRIMARY]
    for number, arm in enumerate(one.arms):
        if number in curves.hulls:
            yield arm.label, curves.records[curves.hulls[number].corners[-1].name][curves.seeds[0]]


def _lines(results: Path, record: Record, name: str = "problems.jsonl") -> list[Record]:
    return records.read_lines(records.folder_of(results, record), name)


def _plain(label: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in label)[-50:]


def thoughts_by_place(traces: list[Record]) -> Mapping[int, float]:
    """Mean number of thoughts and pauses at each place of text, over the sequences that have that place; empty without any.

    A sequence is a row of a window: a document is asked in several windows, and a search in several rows.
    """
    counts, seen = defaultdict[int, float](float), defaultdict[int, int](int)
    for trace in traces:
        for _, _, place in set(zip(windows_of(trace), trace["row"], trace["place"], strict=True)):
            seen[place] += 1
        for place, kind in zip(trace["place"], trace["kind"], strict=True):
            counts[place] += kind in "tp"
    found = {place: counts[place] / seen[place] for place in sorted(seen) if place < MOST_PLACES}
    return found if any(found.values()) else {}


def _thoughts(one: Measured, found: Mapping[str, Mapping[int, float]]) -> Any:
    figure = figure_of(7.6, 4.2)
    axes = figure.add_subplot()
    for arm, look in zip(one.arms, looks(one.arms), strict=True):
        if by := found.get(arm.label):
            axes.plot(list(by), list(by.values()), label=arm.label, markersize=4, linewidth=1.2, **look)
    axes.set(xlabel="place in the text (token)", ylabel="thoughts and pauses there (mean)")
    top = 1.08 * max(max(by.values()) for by in found.values())
    axes.set_ylim(-0.04 * top, top)
    axes.set_title(f"{short_name(one.block.task)} after {one.train_flops:.3g} training FLOPs, one seed", fontsize=12)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _worth_drawing(tree: Record | None) -> bool:
    return tree is not None and 4 <= len(tree["parent"]) <= MOST_NODES


def _tree(line: Record, tree: Record, label: str) -> Any:
    """Levels from left to right; a node shows what was said there."""
    from matplotlib.lines import Line2D

    x, y = _layout(tree["parent"])
    height = max(np.bincount(x))
    figure = figure_of(2.2 * (max(x) + 1) + 1.5, 0.42 * height + 1.6)
    axes = figure.add_subplot()
    for node, parent in enumerate(tree["parent"]):
        if parent is not None:
            axes.plot([x[parent], x[node]], [y[parent], y[node]], color="0.75", linewidth=1, zorder=1)
    fates = [FATES[at] for at in tree["fate"]]
    for node, fate in enumerate(fates):
        right = line["candidates"]["scores"].get(str(node), 0.0) >= 1.0
        axes.scatter(x[node], y[node], s=90 if right else 45, marker="*" if right else "o", color=FATE_COLOURS[fate], zorder=2)
        words = tree["said"][node].strip().replace("\n", "; ")
        shown = words if len(words) <= MOST_CHARACTERS else words[: MOST_CHARACTERS - 1] + "…"
        axes.annotate(shown.replace("$", r"\$"), (x[node], y[node]), xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.set_xlim(-0.3, max(x) + 0.9)
    axes.set_axis_off()
    marks = [Line2D([], [], linestyle="none", marker="o", color=FATE_COLOURS[fate], label=fate) for fate in dict.fromkeys(fates)]
    marks.append(Line2D([], [], linestyle="none", marker="*", markersize=10, color="0.3", label="a right answer"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)
    axes.set_title(f"{label} on {str(line['question']).strip()}", fontsize=11, loc="left")
    return figure


def _layout(parents: list[int | None]) -> tuple[list[int], list[float]]:
    """Level and height of each node: leaves one below the other, parents amid their children."""
    level: list[int] = []
    children: dict[int, list[int]] = defaultdict(list)
    for node, parent in enumerate(parents):
        level.append(0 if parent is None else level[parent] + 1)
        if parent is not None:
            children[parent].append(node)
    height, following = [0.0] * len(parents), 0.0
    stack = [(node, False) for node, parent in reversed(list(enumerate(parents))) if parent is None]
    while stack:
        node, done = stack.pop()
        if children[node] and not done:
            stack += [(node, True), *((child, False) for child in reversed(children[node]))]
        elif children[node]:
            height[node] = float(np.mean([height[child] for child in children[node]]))
        else:
            height[node], following = -following, following + 1.0
    return level, height
