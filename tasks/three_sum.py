"""3SUM: do any three of the tuples sum to zero, modulo a number, in every coordinate?

Knows nothing of models or strategies; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import comb
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from harness.task import setting
from tasks._generated import EMPTY, Generated, whole_range
from tasks._pairs import LISTED, Bool, Int

LETTERS: Final = "abcdefghijklmnop"
CHANCE_TRIPLES: Final = 3.0  # expected in random tuples; beyond it, problems without any would be rare ones of a kind


@dataclass(frozen=True, kw_only=True)
class ThreeSum(Generated):
    """3SUM: whether some three of n tuples of digits sum to 0 modulo m in every coordinate: parallel, for fillers.

    ``a31b52c47d70e18f95=`` -> ``T`` or ``F``, each half the time: a triple is planted; for F, coordinates of one of its tuples
    are then changed (one, and with chance 1/2 each one more), and the whole is drawn again while some triple still sums to 0.
    Worked lines can be said in any order, since none needs another: for every pair its letters, its sum, and whether a third
    tuple is what the sum lacks (``ab83F``); the last line is ``=`` and the answer.
    The paper gives tuples as multi-hot vectors, one token each; here they are text. Beware of one coordinate: there the number
    of different tuples alone tells the answer in 69% of problems (6 digits), with two coordinates in 50%.
    """

    source: ClassVar[str] = "Pfau, Merrill, Bowman 2404.15758, section 3"
    difficulty_name: ClassVar[str] = "tuples"

    tuples: str = setting("6-8", doc="how many tuples: one number or a range such as 6-8, from 4 to 16; equal shares")
    dimension: int = setting(2, doc="coordinates of a tuple", low=1, high=6)
    modulus: int = setting(10, doc="sums are modulo this", low=2, high=10)

    def __post_init__(self) -> None:
        levels, values = self.levels(), self.modulus**self.dimension
        if values ** levels[0] <= LISTED:
            raise ValueError(f"tuples: {levels[0]} tuples of {values} values are too few problems; raise one of the settings")
        if comb(levels[-1], 3) > CHANCE_TRIPLES * values:
            most = max(n for n in range(3, 17) if comb(n, 3) <= CHANCE_TRIPLES * values)
            raise ValueError(f"tuples: above {most} tuples of {values} values nearly all problems are true; got {self.tuples!r}")

    def defaults(self) -> Mapping[str, Any]:
        """A small budget, at which direct is still at the floor; no larger one was piloted."""
        return {"model.size": "xs", "train.flops": 2e12, "train.problems_per_update": 64, "train.learning_rate": 2e-3}

    def alphabet(self) -> str:
        """Digits, the tuples' letters, answers and joints."""
        return f"chars:0123456789{LETTERS}TF=;"

    def levels(self) -> Sequence[int]:
        """The numbers of tuples."""
        return whole_range("tuples", self.tuples, low=4, high=len(LETTERS))

    def distinct(self, level: int) -> int:
        """About: all choices of tuples, each of which is true or false."""
        return int(self.modulus ** (self.dimension * level))

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """Rows (M, 1 + most tuples): whether true, then each tuple as a number, first coordinate first."""
        true, most = rng.random(len(levels)) < 0.5, max(self.levels())
        digits, missing = np.zeros((len(levels), most, self.dimension), dtype=np.int64), np.arange(len(levels))
        absent = np.arange(most) >= levels[:, None]
        while len(missing):
            digits[missing] = self._planted(rng, levels[missing], true[missing])
            wrong = ~true[missing]
            wrong[wrong] = self._solvable(digits[missing[wrong]], absent[missing[wrong]])
            missing = missing[wrong]
        numbers = digits @ self.modulus ** np.arange(self.dimension - 1, -1, -1)
        return np.concatenate([true[:, None], np.where(absent, EMPTY, numbers)], axis=1)

    def _planted(self, rng: np.random.Generator, levels: Int, true: Bool) -> Int:
        """Uniform tuples (M, most, D) with a triple that sums to 0, spoilt where the answer is to be false."""
        digits = rng.integers(self.modulus, size=(len(levels), max(self.levels()), self.dimension))
        order = np.where(np.arange(digits.shape[1]) < levels[:, None], rng.random(digits.shape[:2]), 2.0)
        first, second, third = np.argsort(order, axis=1)[:, :3].T  # three different places among those in use
        row = np.arange(len(levels))
        number = np.minimum(rng.geometric(0.5, size=len(levels)), self.dimension)
        spoilt = np.argsort(rng.random((len(levels), self.dimension)), axis=1) < number[:, None]
        change = np.where(spoilt & ~true[:, None], rng.integers(1, self.modulus, size=spoilt.shape), 0)
        digits[row, third] = (change - digits[row, first] - digits[row, second]) % self.modulus
        return digits

    def _solvable(self, digits: Int, absent: Bool) -> NDArray[np.bool_]:
        """Whether some three of the tuples that are there sum to 0."""
        triples = np.array(list(combinations(range(digits.shape[1]), 3)))
        zero = ~np.any(digits[:, triples].sum(axis=2) % self.modulus, axis=2)
        found: NDArray[np.bool_] = np.any(zero & ~np.any(absent[:, triples], axis=2), axis=1)
        return found

    def content(self, levels: Int, rows: Int) -> Int:
        """The tuples without their order."""
        return -np.sort(-rows[:, 1:], axis=1)

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``a31b52..=`` and T or F."""
        spelt = _spelt(self.modulus, self.dimension)
        tuples = "".join([letter + spelt[n] for letter, n in zip(LETTERS, row[1 : level + 1], strict=False)])
        return f"{tuples}=", "FT"[row[0]]

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """``ab83F`` for each pair, then ``=F``."""
        named, lines = list(zip(LETTERS, row[1 : level + 1], strict=False)), []
        for (a, x), (b, y) in combinations(named, 2):
            total, lacking = _pair(self.modulus, self.dimension, x, y)
            there = any(z == lacking and c not in (a, b) for c, z in named)
            lines.append(f"{a}{b}{total}{'FT'[there]}")
        return *lines, f"={'FT'[row[0]]}"

    def grammar(self) -> Mapping[str, str]:
        """T or F; a line is a pair's letters, sum, and whether it lacks a tuple that is there, or the answer."""
        letter, digits = f"[{LETTERS[: max(self.levels())]}]", f"[0-{self.modulus - 1}]{{{self.dimension}}}"
        return {"answer": "[TF]", "line": f"{letter}{letter}{digits}[TF]|=[TF]"}

    def caps(self) -> tuple[int, int]:
        """One letter; a line for each pair of the most tuples."""
        return 2, comb(max(self.levels()), 2) * (self.dimension + 4) + 3

    def parse(self, text: str) -> str:
        """``a31b52c47d70``, with or without ``=``, as a question; ValueError says what is legal."""
        most, digits = max(self.levels()), f"[0-{self.modulus - 1}]{{{self.dimension}}}"
        letters = text[:: self.dimension + 1].removesuffix("=")
        whole = re.fullmatch(f"(?:[a-z]{digits}){{3,{most}}}=?", text)
        if not whole or letters != LETTERS[: len(letters)]:
            legal = f"3 to {most} tuples of {self.dimension} digits below {self.modulus}, lettered a, b, c and so on"
            raise ValueError(f"not a question of this task: {text!r}; legal: {legal}")
        return text.removesuffix("=") + "="


@lru_cache(maxsize=8)
def _spelt(modulus: int, dimension: int) -> list[str]:
    """The digits of each tuple, by its number."""
    return ["".join(digits) for digits in product("0123456789"[:modulus], repeat=dimension)]


@lru_cache(maxsize=1 << 16)
def _pair(modulus: int, dimension: int, x: int, y: int) -> tuple[str, int]:
    """The digits of the sum of two tuples, and the number of the tuple that it lacks to 0."""
    spelt = _spelt(modulus, dimension)
    total = [(int(i) + int(j)) % modulus for i, j in zip(spelt[x], spelt[y], strict=True)]
    lacking = 0
    for digit in total:
        lacking = lacking * modulus + -digit % modulus
    return "".join(map(str, total)), lacking
