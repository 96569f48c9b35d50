"""Suites: which arms are compared on which task, at which budgets and seeds, and what was declared before the run.

Knows names and settings as typed; reads no file, makes no spec and runs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is compared.

    settings: over the block's; points: settings of asking, each with its values, all combinations of which are points of the
    arm's curve; family: whether it belongs to the comparator, and only_for: of which arm alone (none: of all);
    budgets: the training budgets that it is given, none: all; spends_flops: what it is trained with in their place.
    """

    strategy: str
    name: str | None = None
    settings: Settings = field(default_factory=dict)
    points: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    family: bool = False
    only_for: str | None = None
    budgets: Sequence[float] | None = None
    spends_flops: float | None = None

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.name or self.strategy


@dataclass(frozen=True, kw_only=True)
class Primary:
    """The analysis that was declared before the run, of one task.

    train_flops: the headline budget; margin: within which scores are equivalent (a share of right answers, or nats); expected:
    the shape that was expected, in words.
    """

    train_flops: float
    margin: float | None = None
    expected: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One task's part of a suite.

    name: of its tables, the suite's where that has no other block; seeds: at every budget, or at the headline with fewer_seeds
    elsewhere; infer: places of the comparison, as multiples of x1 (see `harness.foreseen`), or numbers: flops:1e7, passes:12,
    tokens:40; none: each arm's own cost; anytime: no problem may spend more than its place, and drafts count; validation:
    problems on which points are chosen; tune: see `harness.tuning`.
    """

    task: str
    name: str
    arms: Sequence[Arm]
    train_flops: Sequence[float]
    seeds: Sequence[int]
    fewer_seeds: Sequence[int] | None = None
    problems: int | None = None
    validation: int = 500
    settings: Settings = field(default_factory=dict)
    infer: Sequence[str] = ()
    with_family: bool = True
    anytime: bool = False
    tune: bool = False
    primary: Primary | None = None

    @property
    def headline_flops(self) -> float:
        """The budget of the primary analysis: the declared one, else the highest."""
        return self.primary.train_flops if self.primary else max(self.train_flops)

    def seeds_at(self, train_flops: float) -> Sequence[int]:
        """Seeds of a budget."""
        fewer = self.fewer_seeds is not None and train_flops != self.headline_flops
        return self.fewer_seeds if fewer and self.fewer_seeds is not None else self.seeds


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A name, under which tables are written, and blocks."""

    name: str
    blocks: Sequence[Block]


def part_of(suite: Suite, *, task: str | None = None, seeds: str | None = None) -> Suite:
    """The blocks of a task, at some of their seeds: a comparison may be made in parts. ValueError names the legal ones."""
    tasks = list(dict.fromkeys(block.task for block in suite.blocks))
    if task is not None and task not in tasks:
        raise ValueError(f"--task: suite {suite.name} has no block of {task!r}; it has {', '.join(tasks)}")
    wanted = None if seeds is None else seeds_of(seeds)

    def kept(of: Sequence[int]) -> list[int]:
        return [seed for seed in of if wanted is None or seed in wanted]

    blocks = [
        dataclasses.replace(
            block, seeds=kept(block.seeds), fewer_seeds=None if block.fewer_seeds is None else kept(block.fewer_seeds)
        )
        for block in suite.blocks
        if task in (None, block.task)
    ]
    if not all(block.seeds for block in blocks):
        raise ValueError(f"--seeds: {seeds!r} has none of the suite's seeds; give some of {list(suite.blocks[0].seeds)}")
    return dataclasses.replace(suite, blocks=blocks)


def seeds_of(given: Any, option: str = "--seeds") -> list[int]:
    """Seeds from a list, or from words such as 0-4 or 0,3,7-9."""
    words = given if isinstance(given, list) else str(given).split(",")
    found: list[int] = []
    for word in map(str, words):
        first, dash, last = word.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise ValueError(f"{option}: expected seeds such as 0-4 or 0,3,7-9, got {given!r}")
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) != len(found):
        raise ValueError(f"{option}: a seed is named twice in {given!r}")
    return found
