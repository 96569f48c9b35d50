"""What only the lines of problems can tell: whether harder problems cost more; searchers of one checkpoint against each other.

Knows a block's measurements and where records lie. McNemar's test is for two searchers on one checkpoint: its p says nothing of
other training seeds, for which see the verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness import records
from harness.comparison import Measured
from harness.curves import PRIMARY
from harness.records import Record
from harness.verdicts import mcnemar, spearman

if TYPE_CHECKING:
    import pandas as pd


class _Asked(msgspec.Struct):
    """Of a problem's line, what is told here."""

    id: str
    weight: float
    difficulty: Any
    flops: dict[str, float]
    score: float | None = None  # a likelihood's line has none


def _lines(results: Path, record: Record) -> list[_Asked]:
    folder = records.folder_of(results, record)
    return [x for x in records.read_shaped(folder / "problems.jsonl", _Asked) if x.weight > 0]


def spending(one: Measured, results: Path) -> pd.DataFrame:
    """A row an arm's point: Spearman's rho of FLOPs spent on a problem and its difficulty, by seed; none where nothing varies."""
    import pandas as pd

    curves, rows = one.curves[PRIMARY], []
    for number, name in curves.names:
        by = curves.records[name]
        if len(by[curves.seeds[0]]["by_difficulty"]) < 2:
            continue
        found = [_rho(_lines(results, by[seed])) for seed in curves.seeds]
        known = [rho for rho in found if rho is not None]
        if known:
            mean, low, high = (f"{f(known):+.2f}" for f in (np.mean, min, max))
            facts = {
                "task": one.block.task,
                "training FLOPs": f"{one.train_flops:.3g}",
                "arm": one.arms[number].label,
                "point": name,
            }
            rows.append(facts | {"rho, mean of seeds": mean, "lowest": low, "highest": high, "seeds": str(len(known))})
    return pd.DataFrame(rows)


def _rho(lines: Sequence[_Asked]) -> float | None:
    found = spearman([sum(x.flops.values()) for x in lines], [x.difficulty for x in lines])
    return None if found is None else found.rho


def searchers(one: Measured, results: Path) -> pd.DataFrame:
    """A row a pair of ways to ask one checkpoint, if any is a search: by seed, problems that only one got right, and p."""
    import pandas as pd

    curves, rows = one.curves[PRIMARY], []
    right = {name: {s: _right(_lines(results, r)) for s, r in curves.records[name].items()} for name in _searched(one)}
    for a, b in combinations(right, 2):
        if len({_weights(curves.records[name][curves.seeds[0]]) for name in (a, b)}) == 1:
            cells = {f"seed {seed}": _pair(right[a][seed], right[b][seed]) for seed in curves.seeds}
            facts = {"task": one.block.task, "training FLOPs": f"{one.train_flops:.3g}", "first": a, "second": b}
            rows.append(facts | cells)
    return pd.DataFrame(rows)


def _searched(one: Measured) -> Iterator[str]:
    """Points that ask what a search asks too."""
    curves = one.curves[PRIMARY]
    first = {name: curves.records[name][curves.seeds[0]] for _, name in curves.names}
    searched = {_weights(r) for r in first.values() if r["search"] is not None}
    yield from (name for name, r in first.items() if _weights(r) in searched)


def _weights(record: Record) -> str:
    """The checkpoint that was asked; untrained, learners of several strategies are one."""
    return str(record["model"]["weights_sha256"])


def _right(lines: Sequence[_Asked]) -> Mapping[str, bool]:
    return {x.id: x.score is not None and x.score >= 1.0 for x in lines}


def _pair(a: Mapping[str, bool], b: Mapping[str, bool]) -> str:
    """b and c of McNemar, and its exact p."""
    shared = a.keys() & b.keys()
    only_a, only_b = sum(a[x] and not b[x] for x in shared), sum(b[x] and not a[x] for x in shared)
    return f"{only_a} / {only_b} (p {mcnemar(only_a, only_b):.2g})"
