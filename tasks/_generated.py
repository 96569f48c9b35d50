"""What tasks of drawn problems share: splits by content, an endless train stream, held-out streams, equal shares per level.

A level is a difficulty. A problem is a row of whole numbers (M, W); columns that it does not use hold EMPTY. A task is a subclass
that says how rows are drawn and how a row is put into words. Knows nothing of any one task.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.problem import Key, Problem, Question
from harness.task import Split, Task
from tasks._blocks import BLOCK, from_blocks
from tasks._pairs import BUCKETS, GOLDEN, LISTED, Bool, Int, buckets, falls_in, generator, mix

EMPTY: Final = -1
FEW: Final = 20  # a level with fewer problems is for training alone: it could not fill four splits
LEAST: Final = 200  # problems that some level must have, so that no split is empty
FACTS: Final = 1000  # worked lines may state problems of levels with fewer than these: they are facts that all lines are made of


def whole_range(name: str, text: str, *, low: int, high: int) -> range:
    """A setting such as "4" or "1-8" as a range; ValueError names the setting and what is legal."""
    found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
    if not low <= first <= last <= high:
        raise ValueError(f"{name}: expected a number or a range such as {low}-{high}, here from {low} to {high}, got {text!r}")
    return range(first, last + 1)


def below(number: int) -> str:
    """A regular expression for the whole numbers below one from 1 to 100, as people write them."""
    tens, ones = divmod(number, 10)
    if not tens:
        return f"[0-{number - 1}]"
    return "(?:[0-9]" + f"|[1-{tens - 1}][0-9]" * (tens > 1) + f"|{tens}[0-{ones - 1}]" * (ones > 0) + ")"


def content_hash(content: Int) -> NDArray[np.uint64]:
    """A 64-bit hash of each row: (M, K) -> (M,). EMPTY columns at its end change nothing."""
    h = np.full(len(content), GOLDEN)
    for column in content.T:
        h = np.where(column == EMPTY, h, mix(h * GOLDEN + column.astype(np.uint64)))
    return h


def belongs(split: Split, content: Int) -> Bool:
    """Whether problems with these contents (M, K) belong to a split: never a matter of a seed."""
    return falls_in(split, content_hash(content))


def longest_chain(after: Int, cost: Int, steps: int) -> int:
    """The most that ``steps`` steps can cost together, from any value on: step S leads from value V to ``after`` (V, S)."""
    so_far = np.zeros(len(after), dtype=np.int64)
    for _ in range(steps):
        following = np.full(len(after), np.iinfo(np.int64).min // 2)
        np.maximum.at(following, after, so_far[:, None] + cost)
        so_far = following
    return int(so_far.max())


@dataclass(frozen=True, kw_only=True)
class Generated(Task):
    """A task of drawn problems. Every level has an equal share; levels come in turn, so that every stretch has equal shares.

    To be given: `levels`, `said`, `worked`, `caps`, and either `bases` or `draw`, `distinct` and `every`. A problem is of the
    split that its `content` hashes to (80, 5, 5 and 10 percent). Held-out problems are distinct; a level that is used up is left
    out from there on, and `Problem.weight` keeps the levels' shares equal within the problems asked for.
    """

    def levels(self) -> Sequence[int]:
        """The difficulties, in the order in which they take turns when asked."""
        raise NotImplementedError

    def turns(self) -> Sequence[int]:
        """The difficulties in the order in which they take turns in training: each as often as its share wants."""
        return self.levels()

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """Question and answer of one problem."""
        raise NotImplementedError

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """Its worked lines."""
        raise NotImplementedError

    def caps(self) -> tuple[int, int]:
        """Tokens of the longest answer and of the longest worked lines, each with what ends it (lines: each line)."""
        raise NotImplementedError

    def bases(self, level: int) -> Sequence[int]:
        """How many values each column of a level has, where every combination is a problem."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """One problem for each of ``levels`` (M,) -> rows (M, W); W depends on the settings alone."""
        table = _bases(self)[levels - min(self.levels())]
        return np.where(table > 0, rng.integers(0, np.maximum(table, 1)), EMPTY)

    def distinct(self, level: int) -> int:
        """How many problems a level has."""
        return math.prod(self.bases(level))

    def every(self, level: int) -> Int:
        """All problems of a level that has at most LISTED."""
        bases = tuple(self.bases(level))
        rows = np.full((math.prod(bases), _bases(self).shape[1]), EMPTY, dtype=np.int64)
        rows[:, : len(bases)] = np.stack(np.unravel_index(np.arange(len(rows)), bases), axis=1)
        return rows

    def content(self, levels: Int, rows: Int) -> Int:
        """What decides the split (M, K), in a form that is the same for problems that are the same."""
        return rows

    def trainable(self, levels: Int, rows: Int) -> Bool:
        """Whether rows of the train split may be trained on: false where their worked lines state a held-out problem."""
        return np.ones(len(rows), dtype=bool)

    def defaults(self) -> Mapping[str, Any]:
        """A budget of one to three minutes on one core, with which the default settings of most of these tasks were piloted."""
        return {"model.size": "xs", "train.flops": 1.5e12, "train.problems_per_update": 64, "train.learning_rate": 3e-3}

    def offers(self) -> frozenset[str]:
        """A prompt and worked lines."""
        return frozenset({"prompt", "worked_lines"})

    def check_size(self) -> None:
        """ValueError if the settings leave so few problems that a split could be empty; for ``__post_init__``."""
        most = max(map(self.distinct, self.levels()))
        if most < LEAST:
            raise ValueError(f"only {most} different problems at any difficulty, too few for four splits; wants at least {LEAST}")

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """See Task.problems; a held-out window is the same whatever is asked after it, its weights apart."""
        if start < 0 or count < 1:
            return []
        if split != "train":
            return posed(self, *_window(self, split, seed, start, count), lines)
        return from_blocks(lambda block: _train_block(self, seed, block, lines), start, count)


def posed(task: Generated, levels: Int, rows: Int, weights: NDArray[np.float64], lines: bool) -> list[Problem]:
    """Rows as problems."""
    answer_cap, lines_cap = _caps(task)
    said, worked, made = task.said, task.worked, []
    for level, row, weight in zip(levels.tolist(), rows.tolist(), weights.tolist(), strict=True):
        text, answer = said(level, row)
        key = Key(answer, worked(level, row) if lines else ())
        made.append(Problem(Question(text, text, answer_cap, lines_cap), key, level, weight))
    return made


@lru_cache(maxsize=8)
def _caps(task: Generated) -> tuple[int, int]:
    return task.caps()


@lru_cache(maxsize=8)
def _bases(task: Generated) -> Int:
    """`bases` of all levels from the lowest on, 0 where a column is not used."""
    low, high = min(task.levels()), max(task.levels())
    wanted = {level: task.bases(level) for level in task.levels()}
    table = np.zeros((high - low + 1, max(map(len, wanted.values()))), dtype=np.int64)
    for level, bases in wanted.items():
        table[level - low, : len(bases)] = bases
    return table


@lru_cache(maxsize=8)
def _train_block(task: Generated, seed: int, block: int, lines: bool) -> list[Problem]:
    """Problems ``block * BLOCK ..`` of the train stream; the last few blocks are kept, since batches are smaller."""
    every = np.array(task.turns(), dtype=np.int64)
    few = np.array([task.distinct(level) < FEW for level in every.tolist()])
    turn = (block * BLOCK + np.arange(BLOCK)) % len(every)
    levels, free, rng = every[turn], few[turn], generator("train", seed, block)
    rows = task.draw(rng, levels)
    missing = np.arange(BLOCK)
    while len(missing := missing[~_allowed(task, levels[missing], rows[missing], free[missing])]):
        rows[missing] = task.draw(rng, levels[missing])
    return posed(task, levels, rows, np.ones(BLOCK), lines)


def _allowed(task: Generated, levels: Int, rows: Int, free: Bool) -> Bool:
    """Whether rows may be trained on. free: their level is for training alone."""
    good: Bool = free | belongs("train", task.content(levels, rows))
    good[good] = task.trainable(levels[good], rows[good])
    return good


@lru_cache(maxsize=64)
def _listed(task: Generated, level: int, split: Split) -> Int:
    """All problems of a level in a held-out split."""
    rows = task.every(level)
    return rows[belongs(split, task.content(np.full(len(rows), level), rows))]


def capacity(task: Generated, level: int, split: Split) -> int:
    """How many problems a held-out split has at a level: all where they are listed, else a quarter of those expected.

    A quarter, and at most 100,000, so that drawing without replacement stays quick.
    """
    number = task.distinct(level)
    if number < FEW:
        return 0
    return len(_listed(task, level, split)) if number <= LISTED else min(number * buckets(split) // (4 * BUCKETS), 100_000)


def _held_out(task: Generated, level: int, split: Split, seed: int, count: int) -> Int:
    """The first ``count`` problems of a level, distinct, in an order drawn by ``seed``; at most `capacity`."""
    if task.distinct(level) <= LISTED:
        rows = _listed(task, level, split)
        return rows[generator(split, seed, level).permutation(len(rows))[:count]]
    found, chunk, levels = np.zeros((0, 0), dtype=np.int64), 0, np.full(BLOCK, level)
    while len(found) < count:
        rows = task.draw(generator(split, seed, level, chunk), levels)
        rows = rows[belongs(split, task.content(levels, rows))]
        found = np.concatenate([found, rows]) if found.size else rows
        found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
        chunk += 1
        assert chunk < 20 or len(found), f"{type(task).__name__}: no {split} problem of level {level} in {chunk} draws"
    return found[:count]


def _window(task: Generated, split: Split, seed: int, start: int, count: int) -> tuple[Int, Int, NDArray[np.float64]]:
    """Problems ``start .. start+count-1`` of a held-out stream: levels (M,), rows (M, W), weights (M,).

    Fewer at the end of the stream. Weights are shares within the window: every level has the same sum; their mean is 1.
    """
    every, end = np.array(task.levels(), dtype=np.int64), start + count
    sizes = np.array([min(capacity(task, level, split), end) for level in every.tolist()])
    turn, which = np.concatenate([np.arange(n) for n in sizes]), np.repeat(np.arange(len(every)), sizes)
    chosen = np.lexsort((which, turn))[start:end]
    turn, which = turn[chosen], which[chosen]
    rows: Int = np.zeros((len(which), 0), dtype=np.int64)
    for w in np.unique(which):
        mine = which == w
        found = _held_out(task, int(every[w]), split, seed, int(turn[mine].max()) + 1)
        rows = rows if rows.size else np.zeros((len(which), found.shape[1]), dtype=np.int64)
        rows[mine] = found[turn[mine]]
    _, index, number = np.unique(which, return_inverse=True, return_counts=True)
    weights = len(which) / (max(len(number), 1) * number[index]) if len(which) else np.zeros(0)
    return every[which], rows, weights
