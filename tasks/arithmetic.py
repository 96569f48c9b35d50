"""Sums, differences and products of whole numbers: questions, answers and worked lines.

Puts texts to the operand pairs of `_stream`; knows nothing of models or strategies, nor how the harness asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from harness.problem import Key, Problem, Question
from harness.task import Split, Task, setting
from tasks._blocks import from_blocks
from tasks._carries import MOST_DIGITS_BALANCED
from tasks._defaults import defaults_for
from tasks._pairs import MOST_DIGITS, OPERATIONS
from tasks._stream import Drawn, HeldOut, drawn_for_training, kinds_of
from tasks._worked import SYMBOLS, answer_of, worked_lines


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """Arithmetic: whole numbers added, subtracted or multiplied, split by unordered operands.

    Every length (digits of the longer operand) has an equal share; the shorter operand's digits are uniform from 1 to that
    length, the order random. An answer is a number in its shortest form: no leading zeros (0 itself apart), no plus sign, no
    spaces; reversed, its digits stand least significant first behind the sign, so nothing but 0 ends in a zero. Only exactly
    that is right.

    A pair of operands belongs to one split per operation, whatever the order, seed and settings; longer lengths are for the test
    split alone. Held-out problems are distinct: where a length has few, all are used, and `Problem.weight` keeps the lengths'
    shares equal within the problems asked for. Worked lines of training problems state no held-out problem of two or more digits
    (columns, the one-digit facts and their borrows, are in all of them: under worked lines judge length 1 apart). A kind of
    problem that has no pair in a held-out split leaves its share to the others of its length.
    """

    source: ClassVar[str] = "own; worked lines in the manner of Nye 2112.00114 and Lee 2307.03381"
    difficulty_name: ClassVar[str] = "length"

    operations: str = setting("+", doc="which of + - x are asked, for example +-; equal shares")
    digits: str = setting("1-3", doc="digits of the longer operand: one number or a range such as 1-3; equal shares")
    answer: Literal["plain", "reversed"] = setting("plain", doc="how answers are said; reversed: least significant digit first")
    carries: Literal["natural", "balanced"] = setting(
        "natural", doc="balanced: equal shares of every possible number of carries (or borrows) within a length; not with x"
    )
    lines: Literal["simple", "detailed"] = setting("simple", doc="how much each worked line says")
    longer: str = setting("", when="ask", doc="longer lengths in the test only, outside the mean: a number, a range or empty")

    def __post_init__(self) -> None:
        if not self.operations or len(set(self.operations)) < len(self.operations) or set(self.operations) - set(OPERATIONS):
            raise ValueError(f"operations: expected one or more of + - x, each once, such as +-, got {self.operations!r}")
        if self.carries == "balanced" and "x" in self.operations:
            raise ValueError("carries: balanced counts the carries of + and - only; legal with x: natural")
        lengths = self._lengths("digits")
        if self.longer and self._lengths("longer")[0] <= lengths[-1]:
            raise ValueError(f"longer: expected lengths above digits, so at least {lengths[-1] + 1}, got {self.longer!r}")

    def _lengths(self, name: Literal["digits", "longer"]) -> range:
        """The lengths of a setting; ValueError names it and the legal ones."""
        text = self.digits if name == "digits" else self.longer
        most = MOST_DIGITS_BALANCED if "x" in self.operations or self.carries == "balanced" else MOST_DIGITS
        found = re.fullmatch(r"([0-9]{1,2})(?:-([0-9]{1,2}))?", text)
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= low <= high <= most:
            raise ValueError(f"{name}: expected a number or a range such as 1-3, here from 1 to {most}, got {text!r}")
        return range(low, high + 1)

    @property
    def _longest(self) -> int:
        """The most digits that any operand can have."""
        return self._lengths("longer" if self.longer else "digits")[-1]

    def defaults(self) -> Mapping[str, Any]:
        """A budget that suits the mix; see `_defaults`."""
        return defaults_for(self.operations, self._lengths("digits")[-1])

    def offers(self) -> frozenset[str]:
        """A prompt and worked lines."""
        return frozenset({"prompt", "worked_lines"})

    def alphabet(self) -> str:
        """One alphabet for all settings, so that models can go from one mix to another."""
        return f"chars:{SYMBOLS}"

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """See Task.problems; a held-out window is the same whatever is asked after it, its weights apart."""
        if start < 0 or count < 1:
            return []
        if split != "train":
            longer = self._lengths("longer") if self.longer and split == "test" else range(0)
            cells = self._cells([*self._lengths("digits"), *longer])
            drawn = HeldOut(tuple(map(tuple, cells)), split, seed, frozenset(longer)).window(start, count)
            return self._posed(drawn, lines)
        return from_blocks(lambda block: _train_block(self, seed, block, lines), start, count)

    def _cells(self, lengths: Sequence[int]) -> list[list[tuple[int, int, int, int]]]:
        """The kinds of problems by cell (length, operation)."""
        balanced = self.carries == "balanced"
        return [kinds_of(o, n, balanced=balanced) for n in lengths for o in range(3) if OPERATIONS[o] in self.operations]

    def _posed(self, drawn: Drawn, lines: bool) -> list[Problem]:
        """Drawn operands as problems."""
        answer_cap, lines_cap = _caps(self)
        reverse, detailed = self.answer == "reversed", self.lines == "detailed"
        columns = (drawn.operation, drawn.a, drawn.b, drawn.length, drawn.weight)
        posed = []
        for operation, a, b, length, weight in zip(*(c.tolist() for c in columns), strict=True):
            sign = OPERATIONS[operation]
            text = f"{a}{sign}{b}="
            steps = worked_lines(sign, a, b, detailed=detailed, reverse=reverse) if lines else ()
            key = Key(answer_of(sign, a, b, reverse=reverse), steps)
            posed.append(Problem(Question(text, text, answer_cap, lines_cap), key, length, weight))
        return posed

    def grammar(self) -> Mapping[str, str]:
        """A number as answers are said; a line is of a kind that `_worked` shows for the operations that are asked."""
        most, minus = self._longest, "-?" if "-" in self.operations else ""
        digits = max({"+": most + 1, "-": most, "x": 2 * most}[sign] for sign in self.operations)
        answer, operand, product = _number(digits, minus, reverse=self.answer == "reversed"), _number(most), _number(2 * most)
        far = f",[0-9]{{1,{most}}}" if self.lines == "detailed" else ""
        carry, column = (f",[01]{far}", rf"|[0-9]x[0-9]\+[0-8]=[1-8]?[0-9],[0-8]{far}") if far else ("", "")
        kinds = {
            "+": rf"[0-9]\+[0-9]\+[01]=1?[0-9]{carry}",
            "-": f"{operand}>{operand}|[0-9]-[0-9]-[01]=[0-9],[01]{far}",
            "x": f"[0-9]0{{0,{most - 1}}}>{product}(?:>{product})?{column}",
        }
        return {"answer": answer, "line": "|".join([*(kinds[sign] for sign in self.operations), f"={answer}"])}

    def parse(self, text: str) -> str:
        """``12+34`` or ``12+34=`` as ``12+34=``; ValueError says what is legal."""
        if not re.fullmatch(rf"(0|[1-9][0-9]*)[{re.escape(self.operations)}](0|[1-9][0-9]*)=?", text):
            legal = ", ".join(f"12{sign}34=" for sign in self.operations)
            raise ValueError(f"not a question of this task: {text!r}; legal: numbers without leading zeros, such as {legal}")
        return text.rstrip("=") + "="


def _number(digits: int, minus: str = "", *, reverse: bool = False) -> str:
    """A regular expression for the whole numbers of up to so many digits; reverse: the last digit first."""
    return f"(?:0|{minus}[0-9]{{0,{digits - 1}}}[1-9])" if reverse else f"(?:0|{minus}[1-9][0-9]{{0,{digits - 1}}})"


@lru_cache(maxsize=8)
def _train_block(task: Arithmetic, seed: int, block: int, lines: bool) -> list[Problem]:
    """One block of the train stream; the last few are kept, since batches are smaller."""
    operations = tuple(o for o in range(3) if OPERATIONS[o] in task.operations)
    drawn = drawn_for_training(task._cells(task._lengths("digits")), seed=seed, block=block, operations=operations)
    return task._posed(drawn, lines)


@lru_cache(maxsize=8)
def _caps(task: Arithmetic) -> tuple[int, int]:
    """Tokens of the longest answer and of the longest worked lines, each with the token that ends it.

    No width shrinks as operands grow, and a negative difference adds the line that orders them, so the extremes are the bounds.
    """
    low, high = 10 ** (task._longest - 1) if task._longest > 1 else 0, 10**task._longest - 1
    reverse, detailed = task.answer == "reversed", task.lines == "detailed"
    extremes = [(sign, low if sign == "-" else high, high) for sign in task.operations]
    answers = [len(answer_of(sign, a, b, reverse=reverse)) for sign, a, b in extremes]
    joined = [len(";".join(worked_lines(sign, a, b, detailed=detailed, reverse=reverse))) for sign, a, b in extremes]
    return max(answers) + 1, max(joined) + 1
