"""Countdown: join given numbers by + - * / to a target; many answers are right.

Knows nothing of models or strategies; ways are found by `_number_games`, answers graded by `_expressions`, splits and streams are
`_generated`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import comb
from typing import Any, ClassVar, Final

import numpy as np

from harness.problem import Problem
from harness.task import setting
from tasks import _expressions, _number_games
from tasks._generated import EMPTY, Generated, whole_range
from tasks._number_games import WHOLE, Way
from tasks._pairs import Int

MOST_OUTCOMES: Final = 50_000_000  # ways times choices of numbers: seconds to work out


@dataclass(frozen=True, kw_only=True)
class Countdown(Generated):
    """Countdown: join all the numbers by + - * / to the target; search, and any right expression counts.

    ``2 3 8>18=`` -> ``3*(8-2)``: an expression in which every number stands exactly once. The key is the first solution, in a
    fixed order, of an exact solver that tries every way with whole values above 0; other solutions are right too, with fractions
    or negative values as well (``-(2-8)*3``). Problems are uniform over all solvable pairs of a choice of numbers and a target;
    the numbers stand in ascending order, and problems with the same numbers are of the same split, whatever their targets.
    A worked line is one operation and what is left, ``8-2=6 (left: 3 6)``; the last one is the answer.
    """

    source: ClassVar[str] = "Stream of Search, Gandhi 2404.03683, section 3; here all numbers must be used, and all is tried"
    difficulty_name: ClassVar[str] = "numbers"

    numbers: str = setting("3", doc="how many numbers: 3, 4 or 3-4; equal shares")
    largest: int = setting(20, doc="largest number; with 4 numbers up to 30", low=10, high=100)
    largest_target: int = setting(50, doc="largest target", low=1, high=1000)

    def __post_init__(self) -> None:
        for level in self.levels():
            choices = comb(self.largest + level - 1, level)
            if choices * len(_number_games.ways(level, WHOLE)) > MOST_OUTCOMES:
                raise ValueError(f"largest: {level} numbers up to {self.largest} are too many to try all; give at most 30")
        self.check_size()

    def defaults(self) -> Mapping[str, Any]:
        """Piloted: trained worked lines 18% right (64 problems an update: 15%), the best constant answer 0.2%; wants more."""
        return {"model.size": "xs", "train.flops": 1.5e12, "train.problems_per_update": 32, "train.learning_rate": 3e-3}

    def alphabet(self) -> str:
        """Digits, signs, and what stands in worked lines."""
        return "chars:0123456789+-*/()>=;: left"

    def levels(self) -> Sequence[int]:
        """How many numbers."""
        return whole_range("numbers", self.numbers, low=3, high=4)

    def distinct(self, level: int) -> int:
        """Solvable problems, all counted."""
        return len(_solved(level, self.largest, self.largest_target)[0])

    def every(self, level: int) -> Int:
        """Rows (M, K + 2): numbers ascending (EMPTY behind them), target, which way leads there."""
        return self._rows(level, np.arange(self.distinct(level)))

    def _rows(self, level: int, which: Int) -> Int:
        solvable, way, choices = _solved(level, self.largest, self.largest_target)
        choice, target = np.divmod(solvable[which], self.largest_target + 1)
        rows = np.full((len(which), max(self.levels()) + 2), EMPTY, dtype=np.int64)
        rows[:, :level], rows[:, -2], rows[:, -1] = choices[choice], target, way[which]
        return rows

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """Rows as `every` has them."""
        rows = np.full((len(levels), max(self.levels()) + 2), EMPTY, dtype=np.int64)
        for level in np.unique(levels).tolist():
            mine = levels == level
            rows[mine] = self._rows(level, rng.integers(self.distinct(level), size=int(mine.sum())))
        return rows

    def content(self, levels: Int, rows: Int) -> Int:
        """The numbers alone, so that no split knows another one's."""
        return rows[:, :-2]

    def _way(self, level: int, row: list[int]) -> Way:
        return _number_games.ways(level, WHOLE)[row[-1]]

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``2 3 8>18=`` and the solution."""
        numbers = row[:level]
        return f"{' '.join(map(str, numbers))}>{row[-2]}=", _number_games.expression(numbers, self._way(level, row))

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One operation a line, then the solution."""
        return _number_games.lines(row[:level], self._way(level, row))

    def grammar(self) -> Mapping[str, str]:
        """An expression; a line is one operation with what is left, or the expression."""
        return _number_games.grammar(max(self.levels()), self.largest, fractions=False)

    def caps(self) -> tuple[int, int]:
        """Of the longest of all problems' solutions."""
        longest = np.zeros(2, dtype=np.int64)
        for level in self.levels():
            rows = self.every(level)
            rows = rows[np.argsort(rows[:, -1], kind="stable")]
            ends = np.flatnonzero(np.diff(rows[:, -1], prepend=EMPTY, append=EMPTY))
            for start, end in pairwise(ends.tolist()):
                found = _number_games.lengths(rows[start:end, :level], self._way(level, [int(rows[start, -1])]))
                longest = np.maximum(longest, [x.max() for x in found])
        return int(longest[0]) + 1, int(longest[1])

    def solves(self, question: str, answer: str | None) -> bool:
        """Whether an answer is right, by the question alone: a checker needs no key. ValueError if it is no question."""
        numbers, target = self.parse(question).rstrip("=").split(">")
        return _expressions.solves(answer, [int(n) for n in numbers.split(" ")], int(target))

    def offers(self) -> frozenset[str]:
        """A checker too: the question alone tells whether an answer is right."""
        return super().offers() | {"checker"}

    def canonical(self, answer: str) -> str:
        """The same expression in a normal form."""
        return _expressions.canonical(answer)

    def grade(self, problem: Problem, answer: str | None) -> float:
        """1 for any solution, else 0."""
        return float(self.solves(str(problem.question.text), answer))

    def leads_on(self, problem: Problem, lines: Sequence[str]) -> bool:
        """Whether the numbers that the lines leave can still be joined to the target."""
        numbers, target = str(problem.question.text).rstrip("=").split(">")
        return _number_games.leads_on([int(n) for n in numbers.split(" ")], lines, int(target))

    def parse(self, text: str) -> str:
        """``2 3 8>18``, with or without ``=``, as a question; ValueError says what is legal."""
        found = re.fullmatch(r"([1-9][0-9]{0,3}(?: [1-9][0-9]{0,3})*)>([1-9][0-9]{0,3})=?", text)
        numbers = [int(n) for n in found[1].split(" ")] if found else []
        if not found or len(numbers) not in self.levels() or max(numbers) > self.largest or int(found[2]) > self.largest_target:
            legal = f"{self.numbers} numbers up to {self.largest} and a target up to {self.largest_target}, such as 2 3 8>18="
            raise ValueError(f"not a question of this task: {text!r}; legal: {legal}")
        return f"{' '.join(map(str, sorted(numbers)))}>{found[2]}="


@lru_cache(maxsize=4)
def _solved(size: int, largest: int, largest_target: int) -> tuple[Int, Int, Int]:
    """Solvable problems (M,) as choice * (largest_target + 1) + target, the first way of each (M,), and the choices (N, size)."""
    choices = _number_games.multisets(largest, size)
    way = np.full((len(choices), largest_target + 1), EMPTY, dtype=np.int16)
    for number, (_, made) in enumerate(_number_games.outcomes(list(choices.T.copy()), WHOLE, _number_games.whole)):
        here = np.flatnonzero((made > 0) & (made <= largest_target))
        here = here[way[here, made[here]] == EMPTY]
        way[here, made[here]] = number
    solvable = np.flatnonzero(way.ravel() != EMPTY)
    return solvable, way.ravel()[solvable].astype(np.int64), choices
