"""Paths in star graphs: the task that plain next-token training cannot do.

Knows nothing of models or strategies; splits and streams are `_generated`'s.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial, perm
from typing import Any, ClassVar, Final

import numpy as np

from harness.task import setting
from tasks._generated import EMPTY, Generated, whole_range
from tasks._pairs import LISTED, Int

NAMES: Final = string.ascii_lowercase + string.ascii_uppercase + string.digits


@dataclass(frozen=True, kw_only=True)
class PathStar(Generated):
    """Path-star: in a star of arms, the path from the centre to the given end of one arm; plain next-token training guesses.

    ``cd|ab|be|ac/ae=`` -> ``abe``: edges in random order, then the centre and an arm's end; the answer is the whole path. Names
    are characters, drawn anew for every problem. Only the first step after the centre is a choice. Taught the next token alone,
    a model learns the other steps from the token before (each is one lookup), and is left with no signal but the end for the
    first: beyond short arms it stays at 1/``degree``, a guess among the arms. That is a limit of learning and no best constant
    answer: the reported floor is near 0.
    Worked lines are the way back from the end, where there is no choice: ``eb``, ``ba``, then the path.
    """

    source: ClassVar[str] = "Bachmann and Nagarajan 2403.06963, section 4"
    difficulty_name: ClassVar[str] = "length"

    degree: int = setting(2, doc="arms", low=2, high=12)
    lengths: str = setting("3-5", doc="nodes of an arm, the centre counted: a number or a range such as 3-5; equal shares")
    names: int = setting(26, doc="different names that nodes may have", low=5, high=len(NAMES))

    def __post_init__(self) -> None:
        for level in self.levels():
            if self._nodes(level) > self.names:
                least = self._nodes(level)
                raise ValueError(f"names: {self.degree} arms of {level} nodes want {least} names or more, got {self.names}")
            if self.distinct(level) <= LISTED:
                raise ValueError(f"names: {self.names} names give too few graphs with {self._nodes(level)} nodes; give more")

    def defaults(self) -> Mapping[str, Any]:
        """Piloted at the default settings: trained worked lines 91% right, direct 15% and still below its 1/``degree``."""
        return {"model.size": "xs", "train.flops": 2e12, "train.problems_per_update": 64, "train.learning_rate": 2e-3}

    def alphabet(self) -> str:
        """All names, and joints."""
        return f"chars:{NAMES}|/=;"

    def levels(self) -> Sequence[int]:
        """The lengths of the arms."""
        return whole_range("lengths", self.lengths, low=2, high=1 + (len(NAMES) - 1) // self.degree)

    def _nodes(self, level: int) -> int:
        return 1 + self.degree * (level - 1)

    def distinct(self, level: int) -> int:
        """Graphs with centre and end, whatever the order of their edges."""
        return perm(self.names, self._nodes(level)) // factorial(self.degree - 1)

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """Rows (M, 2 + most edges): centre, end, edges in order as from * names + to; nodes are indices of NAMES."""
        rows = np.full((len(levels), 1 + self._nodes(max(self.levels()))), EMPTY, dtype=np.int64)
        names = np.argsort(rng.random((len(levels), self.names)), axis=1)
        order = rng.random(rows.shape)
        for level in np.unique(levels).tolist():
            mine, edges = levels == level, self._nodes(level) - 1
            arms = names[mine, 1 : edges + 1].reshape(-1, self.degree, level - 1)
            before = np.concatenate([np.broadcast_to(names[mine, :1, None], (len(arms), self.degree, 1)), arms[..., :-1]], axis=2)
            edge = (before * self.names + arms).reshape(-1, edges)
            rows[mine, 0], rows[mine, 1] = names[mine, 0], arms[:, 0, -1]
            rows[mine, 2 : edges + 2] = np.take_along_axis(edge, np.argsort(order[mine, :edges], axis=1), axis=1)
        return rows

    def content(self, levels: Int, rows: Int) -> Int:
        """Centre, end and edges, without the edges' order."""
        return np.concatenate([rows[:, :2], -np.sort(-rows[:, 2:], axis=1)], axis=1)

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """``cd|ab|be|ac/ae=`` and the path."""
        edges = [NAMES[e // self.names] + NAMES[e % self.names] for e in row[2 : self._nodes(level) + 1]]
        return f"{'|'.join(edges)}/{NAMES[row[0]]}{NAMES[row[1]]}=", self._back(level, row)[::-1]

    def _back(self, level: int, row: list[int]) -> str:
        """The nodes from the end to the centre."""
        before = {e % self.names: e // self.names for e in row[2 : self._nodes(level) + 1]}
        path = [row[1]]
        while path[-1] != row[0]:
            path.append(before[path[-1]])
        return "".join([NAMES[node] for node in path])

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """The steps back, then the path."""
        back = self._back(level, row)
        return *(back[i : i + 2] for i in range(level - 1)), back[::-1]

    def grammar(self) -> Mapping[str, str]:
        """A path of names, as short or long as paths are; a line is one step, or the path."""
        name, lengths = f"[{NAMES[: self.names]}]", self.levels()
        path = f"{name}{{{min(lengths)},{max(lengths)}}}"
        return {"answer": path, "line": f"{name}{name}|{path}"}

    def caps(self) -> tuple[int, int]:
        """Of the longest arm."""
        longest = max(self.levels())
        return longest + 1, 3 * (longest - 1) + longest + 1

    def parse(self, text: str) -> str:
        """``cd|ab|be|ac/ae``, with or without ``=``, as a question; ValueError says what is legal."""
        legal = "legal: edges of two names, then centre and end, such as cd|ab|be|ac/ae="
        found = re.fullmatch(r"((?:\w\w\|)*\w\w)/(\w)(\w)=?", text, re.ASCII)
        if not found or "_" in text:
            raise ValueError(f"not a question of this task: {text!r}; {legal}")
        before = {edge[1]: edge[0] for edge in found[1].split("|")}
        node, steps = found[3], 0
        while node != found[2] and node in before and steps < len(before):
            node, steps = before[node], steps + 1
        if node != found[2] or not steps or steps >= max(self.levels()):
            most = max(self.levels())
            raise ValueError(f"no path of at most {most} nodes leads from {found[2]} to {found[3]} in {text!r}; {legal}")
        return text.removesuffix("=") + "="
