"""Following a permutation that stands in the question, hop by hop.

Knows nothing of models or strategies, nor how the harness asks; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from harness.task import setting
from tasks._generated import Generated, whole_range
from tasks._pairs import Int

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class KHop(Generated):
    """Follow a permutation, given in the question, k times from an element: serial, one line a hop.

    ``cadb:3b`` says that a goes to c, b to a, c to d and d to b, and asks where 3 hops from b lead: to a, to c, to d; so d. A
    worked line is one hop (``ba``). The permutation is one cycle through all elements, drawn uniformly: else an element would
    often be its own answer. Starts are uniform. The permutation alone decides the split, so no line of a training problem states
    a hop of a held-out one.

    Two choices let something be learned at size xs. An element stands right before its image is said: with a sign between them
    (``3b=``, ``b>a``) trained lines stayed at their floor. And low numbers of hops have larger shares in training (``mix``): with
    equal ones direct stayed at its floor even for one hop. (Both seen at 1.5e12 FLOPs, one seed.)
    """

    source: ClassVar[str] = "own; hops in the manner of Sanford 2402.09268 (k-hop induction heads)"
    difficulty_name: ClassVar[str] = "hops"

    elements: int = setting(10, doc="elements of the permutation, named a, b, ..; more than hops", low=6, high=26)
    hops: str = setting("1-8", doc="hops: one number or a range such as 1-8; equal shares when asked")
    mix: Literal["equal", "easy"] = setting("easy", doc="shares of hops in training; easy: k hops have a share as 1/k")

    def __post_init__(self) -> None:
        self.levels()

    def defaults(self) -> Mapping[str, Any]:
        """Twice the usual: at 1.5e12 FLOPs trained lines are not yet right for the rare 7 and 8 hops."""
        return {**super().defaults(), "train.flops": 3e12}

    def alphabet(self) -> str:
        """One alphabet for all settings."""
        return f"chars:{LETTERS}0123456789:;"

    def levels(self) -> Sequence[int]:
        """The numbers of hops."""
        return whole_range("hops", self.hops, low=1, high=self.elements - 1)

    def turns(self) -> Sequence[int]:
        """Equal shares, or every number of hops about as often as its inverse wants."""
        hops = self.levels()
        return hops if self.mix == "equal" else [k for k in hops for _ in range(round(hops[-1] / k))]

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """The element that each one goes to, then the start: (M, elements + 1)."""
        cycle = np.argsort(rng.random((len(levels), self.elements)), axis=1)
        return self._rows(cycle, rng.integers(self.elements, size=len(levels)))

    def _rows(self, cycle: Int, start: Int) -> Int:
        """The elements in the order of a round (M, elements) and starts (M,) as rows."""
        rows = np.concatenate([cycle, start[:, None]], axis=1)
        np.put_along_axis(rows, cycle, np.roll(cycle, -1, axis=1), axis=1)
        return rows

    def distinct(self, level: int) -> int:
        """Every cycle with every start."""
        return math.factorial(self.elements - 1) * self.elements

    def every(self, level: int) -> Int:
        """Every cycle with every start."""
        rounds = np.array(list(itertools.permutations(range(1, self.elements))), dtype=np.int64)
        cycles = np.concatenate([np.zeros((len(rounds), 1), dtype=np.int64), rounds], axis=1)
        starts = np.repeat(np.arange(self.elements), len(cycles))
        return self._rows(np.tile(cycles, (self.elements, 1)), starts)

    def content(self, levels: Int, rows: Int) -> Int:
        """The permutation."""
        return rows[:, : self.elements]

    def _path(self, level: int, row: list[int]) -> str:
        """The elements that are met, the start included."""
        at = row[self.elements]
        path = LETTERS[at]
        for _ in range(level):
            at = row[at]
            path += LETTERS[at]
        return path

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``cadb:3b`` and where that leads."""
        images = "".join([LETTERS[i] for i in row[: self.elements]])
        path = self._path(level, row)
        return f"{images}:{level}{path[0]}", path[-1]

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """One line a hop: ``ba``, ``ac``, ``cd``."""
        path = self._path(level, row)
        return tuple([a + b for a, b in itertools.pairwise(path)])

    def grammar(self) -> Mapping[str, str]:
        """An element; two of them a line."""
        element = f"[{LETTERS[: self.elements]}]"
        return {"answer": element, "line": element * 2}

    def caps(self) -> tuple[int, int]:
        """An element with its end; as many lines as there are hops."""
        return 2, 3 * max(self.levels())

    def parse(self, text: str) -> str:
        """``cadb:3b`` as it stands; ValueError says what is legal."""
        names = LETTERS[: self.elements]
        found = re.fullmatch(rf"([{names}]+):([0-9]{{1,9}})([{names}])", text)
        if not found or sorted(found[1]) != list(names) or str(int(found[2])) != found[2]:
            example = names[1:] + names[0] + ":2a"
            raise ValueError(
                f"not a question of this task: {text!r}; legal: where each of {names} goes, a colon, hops, a start: {example}"
            )
        return text
