"""Chains of sums and products modulo a number, worked out from left to right.

Knows nothing of models or strategies, nor how the harness asks; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import numpy as np

from harness.task import setting
from tasks._generated import EMPTY, FACTS, Generated, below, longest_chain, whole_range
from tasks._pairs import Int

SIGNS = "+-x"


@dataclass(frozen=True, kw_only=True)
class MultiStep(Generated):
    """Chains of + - x modulo a number, worked out from left to right: serial, one line a step.

    A question is a number and ``length`` operations with an operand each, all below ``modulus``; the answer is the last running
    value (``2+2x2=`` modulo 3 is 2), and a worked line is one step of it (``2+2=1``, ``1x2=2``). The operations and operands are
    uniform, the lengths have equal shares.
    """

    source: ClassVar[str] = "own; evidence for serial tasks in Li 2402.12875"
    difficulty_name: ClassVar[str] = "length"

    modulus: int = setting(3, doc="all is modulo this", low=2, high=100)
    operations: str = setting("+-x", doc="which of + - x stand in a chain, for example +x")
    lengths: str = setting("2-6", doc="operations in a chain: one number or a range such as 2-6, up to 24; equal shares")

    def __post_init__(self) -> None:
        if not self.operations or len(set(self.operations)) < len(self.operations) or set(self.operations) - set(SIGNS):
            raise ValueError(f"operations: expected one or more of + - x, each once, such as +x, got {self.operations!r}")
        self.levels()
        self.check_size()

    def alphabet(self) -> str:
        """Digits, operations, and what joins lines."""
        return "chars:0123456789+-x=;"

    def levels(self) -> Sequence[int]:
        """The lengths."""
        return whole_range("lengths", self.lengths, low=1, high=24)

    def bases(self, level: int) -> Sequence[int]:
        """The first number, then operation and operand, as one column, of every step."""
        return [self.modulus, *[len(self.operations) * self.modulus] * level]

    def content(self, levels: Int, rows: Int) -> Int:
        """The first steps, FACTS of them or more: so worked lines state no held-out chain that is at least so long."""
        steps = next(n for n in range(1, 25) if self.distinct(n) >= FACTS)
        sign, n = np.divmod(rows[:, 1 : steps + 1], self.modulus)
        named = np.array([SIGNS.index(s) for s in self.operations], dtype=np.int64)[sign] * self.modulus + n
        return np.concatenate([rows[:, :1], np.where(sign < 0, EMPTY, named)], axis=1)

    def _steps(self, row: list[int], level: int) -> list[tuple[str, int]]:
        return [(self.operations[x // self.modulus], x % self.modulus) for x in row[1 : level + 1]]

    def _values(self, first: int, steps: list[tuple[str, int]]) -> list[int]:
        """The running values, the first number included."""

        def after(value: int, step: tuple[str, int]) -> int:
            sign, n = step
            return (value + n if sign == "+" else value - n if sign == "-" else value * n) % self.modulus

        return list(accumulate(steps, after, initial=first))

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``2+2x2=`` and the last running value."""
        steps = self._steps(row, level)
        text = "".join([str(row[0]), *[f"{sign}{n}" for sign, n in steps], "="])
        return text, str(self._values(row[0], steps)[-1])

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One line a step: ``2+2=1``, ``1x2=2``."""
        steps = self._steps(row, level)
        values = self._values(row[0], steps)
        return tuple(f"{a}{sign}{n}={b}" for a, (sign, n), b in zip(values, steps, values[1:], strict=False))

    def grammar(self) -> Mapping[str, str]:
        """A number below the modulus; a line is one operation on such numbers."""
        number, signs = below(self.modulus), "|".join(map(re.escape, self.operations))
        return {"answer": number, "line": f"{number}(?:{signs}){number}={number}"}

    def caps(self) -> tuple[int, int]:
        """By the widths of all numbers below the modulus."""
        value = np.arange(self.modulus)
        width, a = 1 + (value > 9), value[:, None]
        made = {"+": a + value, "-": a - value, "x": a * value}
        after = np.concatenate([made[sign] % self.modulus for sign in self.operations], axis=1)
        cost = width[:, None] + np.tile(width, len(self.operations)) + width[after] + 3
        return int(width[-1]) + 1, longest_chain(after, cost, max(self.levels()))

    def parse(self, text: str) -> str:
        """``2+2x2`` or ``2+2x2=`` as ``2+2x2=``; ValueError says what is legal."""
        found = re.fullmatch(rf"([0-9]{{1,9}})((?:[{re.escape(self.operations)}][0-9]{{1,9}})+)=?", text)
        numbers = re.findall("[0-9]+", text)
        if not found or any(str(int(n)) != n or int(n) >= self.modulus for n in numbers):
            raise ValueError(
                f"not a question of this task: {text!r}; legal: numbers below {self.modulus} joined by {self.operations}, "
                f"such as 1{self.operations[0]}1{self.operations[-1]}1="
            )
        return text.rstrip("=") + "="
