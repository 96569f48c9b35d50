"""Sums of several numbers modulo one: a parallel task, beside the serial ones.

Knows nothing of models or strategies, nor how the harness asks; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar

import numpy as np

from harness.task import setting
from tasks._generated import EMPTY, FACTS, Generated, below, longest_chain, whole_range
from tasks._pairs import Int


@dataclass(frozen=True, kw_only=True)
class ModularSum(Generated):
    """Sums of n numbers modulo one: parallel, since no number has to wait for another.

    ``3+9+4=`` modulo 10 is 6. All numbers are below ``modulus`` and uniform, the counts n have equal shares. A worked line adds
    one number to the running sum (``3+9=2``, ``2+4=6``). The first numbers of a sum decide its split, whatever their order.
    """

    source: ClassVar[str] = "Li 2402.12875 (modular addition, the task without need of chains of thought)"
    difficulty_name: ClassVar[str] = "numbers"

    modulus: int = setting(10, doc="all is modulo this", low=2, high=100)
    numbers: str = setting("2-4", doc="numbers in a sum: one number or a range such as 2-4, up to 24; equal shares")

    def __post_init__(self) -> None:
        self.levels()
        self.check_size()

    def alphabet(self) -> str:
        """Digits, signs, and what joins lines."""
        return "chars:0123456789+=;"

    def levels(self) -> Sequence[int]:
        """How many numbers are added."""
        return whole_range("numbers", self.numbers, low=2, high=24)

    def bases(self, level: int) -> Sequence[int]:
        """The numbers, in order."""
        return [self.modulus] * level

    def content(self, levels: Int, rows: Int) -> Int:
        """The first numbers, sorted, FACTS selections or more of them: so lines state no held-out sum of so many numbers."""
        first = next(n for n in range(2, 10_000) if math.comb(self.modulus + n - 1, n) >= FACTS)
        stem = rows[:, :first]
        least = np.sort(np.where(stem == EMPTY, self.modulus, stem), axis=1)  # EMPTY last
        return np.where(least == self.modulus, EMPTY, least)

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``3+9+4=`` and the sum."""
        return "+".join(map(str, row[:level])) + "=", str(sum(row[:level]) % self.modulus)

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One line for every number but the first: ``3+9=2``, ``2+4=6``."""
        sums = accumulate(row[:level], lambda a, b: (a + b) % self.modulus)
        return tuple([f"{a}+{n}={b}" for (a, b), n in zip(pairwise(sums), row[1:level], strict=True)])

    def grammar(self) -> Mapping[str, str]:
        """A number below the modulus; a line is one sum of two."""
        number = below(self.modulus)
        return {"answer": number, "line": rf"{number}\+{number}={number}"}

    def caps(self) -> tuple[int, int]:
        """By the widths of all numbers below the modulus."""
        value = np.arange(self.modulus)
        width, after = 1 + (value > 9), (value[:, None] + value) % self.modulus
        cost = width[:, None] + width + width[after] + 3
        return int(width[-1]) + 1, longest_chain(after, cost, max(self.levels()) - 1)

    def parse(self, text: str) -> str:
        """``3+9+4`` or ``3+9+4=`` as ``3+9+4=``; ValueError says what is legal."""
        numbers = text.removesuffix("=").split("+")
        if len(numbers) < 2 or any(not re.fullmatch("0|[1-9][0-9]{0,8}", n) or int(n) >= self.modulus for n in numbers):
            raise ValueError(f"not a question of this task: {text!r}; legal: numbers below {self.modulus} such as 1+0+1=")
        return "+".join(numbers) + "="
