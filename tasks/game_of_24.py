"""Game of 24: join four numbers by + - * / to 24; many answers are right.

Knows nothing of models or strategies; ways are found by `_number_games`, answers graded by `_expressions`, splits and streams are
`_generated`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

import numpy as np

from harness.problem import Problem
from harness.task import setting
from tasks import _expressions, _number_games
from tasks._generated import EMPTY, Generated
from tasks._number_games import FRACTIONS, Ratio, Way
from tasks._pairs import Int

TARGET: Final = 24
LARGEST: Final = 13
NUMBERS: Final = 4


@dataclass(frozen=True, kw_only=True)
class GameOf24(Generated):
    """Game of 24: all 1,362 solvable puzzles of four numbers from 1 to 13; search, and any right expression counts.

    ``1 3 4 6=`` -> ``6/(1-3/4)``: an expression with the value 24 in which every number stands exactly once. The key is the first
    solution, in a fixed order, of a solver that tries every way; a step of it is never negative, but a fraction where need be.
    Other solutions may have negative steps, ``-6/(3/4-1)``.
    The difficulty is a rank: puzzles in the order of how many different solutions they have, the most (rank 1) first, cut into
    equal parts; the paper ranks by the time that people take. Splits are by puzzle and small: 129 for test, 62 for validation, 70
    for values; the other 1,101 are for training, again and again.
    A worked line is one operation and what is left, ``3/4=3/4 (left: 1 6 3/4)``; the last one is the answer.
    """

    source: ClassVar[str] = "Tree of Thoughts, Yao 2305.10601, section 4.1"
    difficulty_name: ClassVar[str] = "rank"

    ranks: int = setting(5, doc="into how many ranks of difficulty the puzzles are cut", low=1, high=6)

    def __post_init__(self) -> None:
        self.check_size()

    def defaults(self) -> Mapping[str, Any]:
        """As countdown; not piloted."""
        return {"model.size": "xs", "train.flops": 1.5e12, "train.problems_per_update": 32, "train.learning_rate": 3e-3}

    def alphabet(self) -> str:
        """Digits, signs, and what stands in worked lines."""
        return "chars:0123456789+-*/()=;: left"

    def levels(self) -> Sequence[int]:
        """The ranks."""
        return range(1, self.ranks + 1)

    def distinct(self, level: int) -> int:
        """Puzzles of a rank."""
        return len(self.every(level))

    def every(self, level: int) -> Int:
        """Rows (M, 5): the numbers, ascending, and which way leads to 24."""
        rows, solutions = _solved()
        ranked = rows[np.argsort(-solutions, kind="stable")]
        return np.array_split(ranked, self.ranks)[level - 1]

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """Rows as `every` has them."""
        rows = np.zeros((len(levels), NUMBERS + 1), dtype=np.int64)
        for level in np.unique(levels).tolist():
            mine, every = levels == level, self.every(level)
            rows[mine] = every[rng.integers(len(every), size=int(mine.sum()))]
        return rows

    def content(self, levels: Int, rows: Int) -> Int:
        """The numbers."""
        return rows[:, :NUMBERS]

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``1 3 4 6=`` and the solution."""
        return f"{' '.join(map(str, row[:NUMBERS]))}=", _number_games.expression(row[:NUMBERS], _way(row))

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One operation a line, then the solution."""
        return _number_games.lines(row[:NUMBERS], _way(row))

    def grammar(self) -> Mapping[str, str]:
        """An expression; a line is one operation with what is left, fractions among it, or the expression."""
        return _number_games.grammar(NUMBERS, LARGEST, fractions=True)

    def caps(self) -> tuple[int, int]:
        """Of the longest solutions."""
        rows = _solved()[0].tolist()
        answers = [len(self.said(1, row)[1]) for row in rows]
        return max(answers) + 1, max(sum(len(line) + 1 for line in self.worked(1, row)) for row in rows)

    def solves(self, question: str, answer: str | None) -> bool:
        """Whether an answer is right, by the question alone: a checker needs no key. ValueError if it is no question."""
        return _expressions.solves(answer, [int(n) for n in self.parse(question).rstrip("=").split(" ")], TARGET)

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
        """Whether the numbers that the lines leave can still be joined to 24."""
        return _number_games.leads_on([int(n) for n in str(problem.question.text).rstrip("=").split(" ")], lines, TARGET)

    def parse(self, text: str) -> str:
        """``1 3 4 6``, with or without ``=``, as a question; ValueError says what is legal."""
        found = re.fullmatch(r"([1-9][0-9]?(?: [1-9][0-9]?){3})=?", text)
        numbers = sorted(int(n) for n in found[1].split(" ")) if found else []
        if not numbers or numbers[-1] > LARGEST:
            raise ValueError(f"not a question of this task: {text!r}; legal: four numbers from 1 to {LARGEST}, such as 1 3 4 6=")
        return f"{' '.join(map(str, numbers))}="


def _way(row: list[int]) -> Way:
    return _number_games.ways(NUMBERS, FRACTIONS)[row[-1]]


@lru_cache(maxsize=1)
def _solved() -> tuple[Int, Int]:
    """Rows (M, 5) of all solvable puzzles, and how many different solutions each has (M,).

    Solutions are different if they are as formulas: if they also differ where other numbers stand for the puzzle's.
    """
    choices = _number_games.multisets(LARGEST, NUMBERS)
    others, one = 1 + np.random.Generator(np.random.PCG64(TARGET)).random(LARGEST + 1), np.ones(len(choices), dtype=np.int64)
    columns = [Ratio(column, one, others[column]) for column in choices.T.copy()]
    way, formulas = np.full(len(choices), EMPTY, dtype=np.int64), []
    for number, (_, made) in enumerate(_number_games.outcomes(columns, FRACTIONS, _number_games.ratio)):
        here = np.flatnonzero((made.below != 0) & (made.above == TARGET * made.below))
        formulas.append(np.stack([here, np.round(made.mark[here], 6)], axis=1))
        here = here[way[here] == EMPTY]
        way[here] = number
    different = np.unique(np.concatenate(formulas), axis=0)[:, 0].astype(np.int64)
    solvable = np.flatnonzero(way != EMPTY)
    return np.column_stack([choices, way])[solvable], np.bincount(different, minlength=len(choices))[solvable]
