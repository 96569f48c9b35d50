"""Products of permutations of three or five things: the word problems of S3 and S5.

Knows nothing of models or strategies, nor how the harness asks; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal

from harness.task import setting
from tasks._generated import FACTS, Generated, whole_range
from tasks._pairs import Int


@dataclass(frozen=True, kw_only=True)
class Permutations(Generated):
    """Products of n permutations of S3 or S5, the first one applied first: serial, one line a product of two.

    S5: a permutation is spelled by where it takes a, b, c, d and e, so ``bacde.acbde=`` swaps a and b, then b and c: ``cabde``.
    S3: the permutations abc, acb, bac, bca, cab and cba are the letters a to f, so ``cb=`` is bac, then acb: ``e``. A worked line
    multiplies the running product by the next permutation (``cb>e``). Permutations are uniform, the numbers n have equal shares.
    Words with the same beginning are in the same split.
    """

    source: ClassVar[str] = "Li 2402.12875 (permutation composition); the word problem of S5 is NC1-complete (Barrington 1989)"
    difficulty_name: ClassVar[str] = "factors"

    group: Literal["S3", "S5"] = setting("S3", doc="permutations of three things (6, a letter each) or of five (120, spelled)")
    factors: str = setting("3-8", doc="factors of a product: one number or a range such as 3-8, up to 16 (S5: 10); equal shares")

    def __post_init__(self) -> None:
        self.levels()
        self.check_size()

    def defaults(self) -> Mapping[str, Any]:
        """Few problems an update: what trained lines want is updates, to learn where to look."""
        return {**super().defaults(), "train.problems_per_update": 16}

    def alphabet(self) -> str:
        """One alphabet for both groups."""
        return "chars:abcdef.=>;"

    def levels(self) -> Sequence[int]:
        """The numbers of factors."""
        return whole_range("factors", self.factors, low=2, high=16 if self.group == "S3" else 10)

    def bases(self, level: int) -> Sequence[int]:
        """The factors, as indices of `_table`."""
        return [len(_table(self.group))] * level

    def content(self, levels: Int, rows: Int) -> Int:
        """The first factors, FACTS words or more of them: so worked lines state no held-out word that is at least so long."""
        return rows[:, : next(n for n in range(1, 16) if self.distinct(n) >= FACTS)]

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``cb=`` and the product."""
        names, table, product = _names(self.group), _table(self.group), row[0]
        for factor in row[1:level]:
            product = table[product][factor]
        return self._joint.join([names[i] for i in row[:level]]) + "=", names[product]

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One line a product of two: ``cb>e``."""
        names, table, joint = _names(self.group), _table(self.group), self._joint
        products = accumulate(row[:level], lambda g, h: table[g][h])
        steps = zip(pairwise(products), row[1:level], strict=True)
        return tuple([f"{names[g]}{joint}{names[h]}>{names[after]}" for (g, after), h in steps])

    @property
    def _joint(self) -> str:
        return "" if self.group == "S3" else "."

    def grammar(self) -> Mapping[str, str]:
        """A permutation, in S5 five letters of which some may be equal; a line is a product of two."""
        one = "[a-f]" if self.group == "S3" else "[a-e]{5}"
        return {"answer": one, "line": f"{one}{re.escape(self._joint)}{one}>{one}"}

    def caps(self) -> tuple[int, int]:
        """All permutations of a group are spelled with as many letters."""
        width = len(_names(self.group)[0])
        return width + 1, (max(self.levels()) - 1) * (3 * width + len(self._joint) + 2)

    def parse(self, text: str) -> str:
        """``cb`` or ``cb=`` as ``cb=``; ValueError says what is legal."""
        names, word = _names(self.group), text.removesuffix("=")
        factors = word.split(".") if self.group == "S5" else list(word)
        if len(factors) < 2 or set(factors) - set(names):
            legal = "two or more letters from a to f, such as cb=" if self.group == "S3" else "such as bacde.acbde="
            raise ValueError(f"not a question of this task: {text!r}; legal: {legal}")
        return word + "="


@lru_cache(maxsize=2)
def _images(group: str) -> list[tuple[int, ...]]:
    """The permutations in the order of the alphabet, each as the images of 0, 1, .."""
    return list(itertools.permutations(range(int(group[1]))))


@lru_cache(maxsize=2)
def _table(group: str) -> list[list[int]]:
    """The index of every product [first][second]."""
    images = _images(group)
    index = {g: i for i, g in enumerate(images)}
    return [[index[tuple(h[x] for x in g)] for h in images] for g in images]


@lru_cache(maxsize=2)
def _names(group: str) -> list[str]:
    """How the permutations are written."""
    return list("abcdef") if group == "S3" else ["".join("abcde"[x] for x in g) for g in _images(group)]
