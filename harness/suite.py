"""Suites: which arms are compared on which task, at which budgets and seeds, and what was declared before the run.

Knows names and settings as typed; reads no file, makes no spec and runs nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.arguments import check_number, check_whole
from harness.legal import (
    GREATEST_SEED,
    MOST_FLOPS,
    MOST_PROBLEMS,
    check_distinct,
    check_file_name,
    shortened,
)

Settings = Mapping[str, Any]
MOST_SEEDS, MOST_BUDGETS = 100_000, 100
# Settings that a block says for all of its arms, and the names by which it does.
OF_BLOCK = {"train.flops": "train_flops (or the arm's spends_flops)", "infer.problems": "problems"}


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

    def __post_init__(self) -> None:
        where = f"arm {self.label!r}"
        for key in OF_BLOCK:
            if key in self.settings or key in self.points:
                raise ValueError(f"{where}: {key}: all arms of a block have one, its {OF_BLOCK[key]}; set it there")
        for key, values in self.points.items():
            check_distinct(f"{where}: points of {key}", values)
        if self.budgets is not None:
            _check_budgets(f"{where}: budgets", self.budgets)
        if self.spends_flops is not None:
            check_number(f"{where}: spends_flops", self.spends_flops, low=0, high=MOST_FLOPS)

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

    def __post_init__(self) -> None:
        check_number("primary: train_flops", self.train_flops, low=0, high=MOST_FLOPS)
        if self.margin is not None:
            check_number("primary: margin", self.margin, low=0, high=1e6, open_low=True)


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

    def __post_init__(self) -> None:
        check_file_name("name", self.name)
        _check_budgets("train_flops", self.train_flops)
        if "train.flops" in self.settings and {_number(self.settings["train.flops"])} != set(map(float, self.train_flops)):
            raise ValueError("train.flops: the block's train_flops says it too, and otherwise; give train_flops alone")
        if self.problems is not None and "infer.problems" in self.settings:
            raise ValueError("infer.problems: the block's problems says it too; give problems alone")
        if self.problems is not None:
            check_whole("problems", self.problems, low=1, high=MOST_PROBLEMS)
        check_whole("validation", self.validation, low=1, high=MOST_PROBLEMS)
        for key, seeds in (("seeds", self.seeds), ("fewer_seeds", self.fewer_seeds or ())):
            for seed in seeds:
                check_whole(key, seed, low=0, high=GREATEST_SEED)

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

    def __post_init__(self) -> None:
        check_file_name("name", self.name)


def _number(typed: Any) -> float | None:
    """A number as it is typed; None for anything else, which is refused where settings are read."""
    try:
        return float(typed)
    except (TypeError, ValueError, OverflowError):
        return None


def _check_budgets(key: str, budgets: Sequence[float]) -> None:
    check_distinct(key, budgets)
    for budget in budgets:
        check_number(key, budget, low=0, high=MOST_FLOPS)


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


def undeclared_seeds(suite: Suite, *, task: str | None, seeds: str | None) -> list[str]:
    """Lines that name the wanted seeds which blocks do not declare, so that `part_of` leaves them out."""
    wanted = [] if seeds is None else seeds_of(seeds)
    found: dict[tuple[str, str], list[str]] = {}
    for block in suite.blocks:
        missing = [seed for seed in wanted if seed not in block.seeds]
        if missing and task in (None, block.task):
            found.setdefault((words_of_seeds(missing), words_of_seeds(block.seeds)), []).append(block.task)
    return [
        f"--seeds: suite {suite.name} declares {declared} for {', '.join(tasks)}; not declared, so left out: {missing}"
        for (missing, declared), tasks in found.items()
    ]


def words_of_seeds(seeds: Sequence[int]) -> str:
    """Seeds as `seeds_of` takes them: 0-4 or 0,3,7-9."""
    stretches: list[list[int]] = []
    for seed in sorted(seeds):
        if stretches and seed == stretches[-1][-1] + 1:
            stretches[-1].append(seed)
        else:
            stretches.append([seed])
    return ",".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in stretches)


def seeds_of(given: Any, option: str = "--seeds") -> list[int]:
    """Seeds from a list, or from words such as 0-4 or 0,3,7-9."""
    words = given if isinstance(given, list) else str(given).split(",")
    found: list[int] = []
    for word in map(str, words):
        ends = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", word)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, -1)
        if not 0 <= first <= last <= GREATEST_SEED:
            raise ValueError(f"{option}: expected seeds from 0 to {GREATEST_SEED} such as 0-4 or 0,3,7-9, got {shortened(given)}")
        if len(found) + last - first >= MOST_SEEDS:
            raise ValueError(f"{option}: expected up to {MOST_SEEDS:,} seeds, got {shortened(given)}")
        found += range(first, last + 1)
    if not found:
        raise ValueError(f"{option}: expected seeds such as 0-4 or 0,3,7-9, got none")
    if len(set(found)) != len(found):
        raise ValueError(f"{option}: a seed is named twice in {shortened(given)}")
    return found
