"""Parity of strings of bits.

Knows nothing of models or strategies, nor how the harness asks; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import xor
from typing import Any, ClassVar

from harness.task import setting
from tasks._generated import FACTS, Generated, whole_range
from tasks._pairs import Int

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class Parity(Generated):
    """Parity of a string of bits: is the number of ones odd? One line a bit.

    ``0110=`` is 0. Bits are uniform, lengths have equal shares. A worked line names a place (a, b, ..), its bit and the parity
    so far (``a0>0``, ``b1>1``): without the place, trained lines lost count of it. Strings with the same beginning are in the
    same split.
    """

    source: ClassVar[str] = "London and Kanade 2505.21024 (parity, which two layers learn with pauses and not without)"
    difficulty_name: ClassVar[str] = "length"

    lengths: str = setting("8-12", doc="bits: one number or a range such as 8-12, up to 26; equal shares")

    def __post_init__(self) -> None:
        self.levels()
        self.check_size()

    def defaults(self) -> Mapping[str, Any]:
        """Few problems an update: what trained lines want is updates, to learn where to look."""
        return {**super().defaults(), "train.problems_per_update": 16}

    def alphabet(self) -> str:
        """Bits, places, and what stands in and between lines."""
        return f"chars:01{LETTERS}=>;"

    def levels(self) -> Sequence[int]:
        """The lengths."""
        return whole_range("lengths", self.lengths, low=1, high=26)

    def bases(self, level: int) -> Sequence[int]:
        """The bits."""
        return [2] * level

    def content(self, levels: Int, rows: Int) -> Int:
        """The first bits, FACTS strings or more of them: so worked lines state no held-out string that is at least so long."""
        return rows[:, : (FACTS - 1).bit_length()]

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``0110=`` and its parity."""
        return "".join(map(str, row[:level])) + "=", str(sum(row[:level]) % 2)

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One line a bit: its place, the bit and the parity so far."""
        so_far = accumulate(row[:level], xor)
        return tuple([f"{place}{bit}>{parity}" for place, bit, parity in zip(LETTERS, row, so_far, strict=False)])

    def grammar(self) -> Mapping[str, str]:
        """A bit; a line is a place and two bits."""
        return {"answer": "[01]", "line": f"[{LETTERS[: max(self.levels())]}][01]>[01]"}

    def caps(self) -> tuple[int, int]:
        """A bit with its end; five tokens a line."""
        return 2, 5 * max(self.levels())

    def parse(self, text: str) -> str:
        """``0110`` or ``0110=`` as ``0110=``; ValueError says what is legal."""
        if not re.fullmatch("[01]+=?", text):
            raise ValueError(f"not a question of this task: {text!r}; legal: a string of bits such as 0110=")
        return text.rstrip("=") + "="
