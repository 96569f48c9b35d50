"""Products of n-digit by m-digit numbers as the papers on internalised thoughts pose them.

Operands, splits and streams are arithmetic's (`_pairs`, `_stream`); only the grid of sizes and the texts are here. Knows nothing
of models or strategies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

import numpy as np

from harness.problem import Key, Problem, Question
from harness.task import Split, Task, setting
from tasks._blocks import from_blocks
from tasks._generated import whole_range
from tasks._pairs import ANY, TIMES, Int, Kind
from tasks._stream import Drawn, HeldOut, drawn_for_training
from tasks._worked import SYMBOLS

MOST: Final = 9  # digits of an operand, so that products fit into 64 bits
FLOPS: Final = {2: 1.2e12, 4: 6e12, MOST: 2.4e13}  # training budgets by the most digits; only the first was piloted


@dataclass(frozen=True, kw_only=True)
class Multiplication(Task):
    """Products of whole numbers of n x m digits, with partial products and running sums as worked lines.

    Differs from arithmetic with operations=x: every size n x m of the grid (or n x n alone) has an equal share and a score of
    its own, lines name no factors, and all numbers can be said as in the papers. Splits are the same in both tasks.

        plain     12x34= 408     48 | +360=408
        reversed  21x43= 8040    840 | +0630=8040

    A line is one partial product and, from the second on, the sum so far. reversed: every number, operands too, is written least
    significant digit first; the k-th partial product and the sum with it take n + k digits, the answer n + m, filled up with
    zeros: so the answer is the last sum, digit for digit. plain: numbers as people write them. The longer operand (the first, if
    equal) is multiplied by the digits of the other. Worked lines of training problems state no held-out product.
    """

    source: ClassVar[str] = "Deng 2311.01460 and 2405.14838 (their reversed data, without blanks)"
    difficulty_name: ClassVar[str] = "size"

    digits: str = setting("1-2", doc="digits of the longer operand: one number or a range such as 1-3, up to 9")
    sizes: Literal["equal", "grid"] = setting(
        "grid", doc="equal: n x n, difficulty n; grid: n x m for every m up to n, difficulty 10 n + m; equal shares"
    )
    numbers: Literal["plain", "reversed"] = setting("plain", doc="reversed: least significant digit first, filled up with zeros")

    def __post_init__(self) -> None:
        self._lengths()

    def _lengths(self) -> range:
        return whole_range("digits", self.digits, low=1, high=MOST)

    def _cells(self) -> list[list[Kind]]:
        """The sizes."""
        return [[(TIMES, n, m, ANY)] for n in self._lengths() for m in range(n if self.sizes == "equal" else 1, n + 1)]

    def defaults(self) -> Mapping[str, Any]:
        """A budget by the longest operand; at the default settings direct is right in 51% (89, 57 and 9% of the sizes)."""
        flops = next(flops for most, flops in FLOPS.items() if self._lengths()[-1] <= most)
        return {"model.size": "xs", "train.flops": flops, "train.problems_per_update": 128, "train.learning_rate": 2e-3}

    def offers(self) -> frozenset[str]:
        """A prompt and worked lines."""
        return frozenset({"prompt", "worked_lines"})

    def alphabet(self) -> str:
        """That of arithmetic, so that models can go from one task to the other."""
        return f"chars:{SYMBOLS}"

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """See Task.problems."""
        if start < 0 or count < 1:
            return []
        if split != "train":
            cells = tuple(map(tuple, self._cells()))
            return self._posed(HeldOut(cells, split, seed, frozenset()).window(start, count), lines)
        return from_blocks(lambda block: _train_block(self, seed, block, lines), start, count)

    def _posed(self, drawn: Drawn, lines: bool) -> list[Problem]:
        """Operands as problems; weights give every size that is there an equal share."""
        caps, made = _caps(self), []
        a, b = (np.array([len(str(n)) for n in column], dtype=np.int64) for column in (drawn.a.tolist(), drawn.b.tolist()))
        size = drawn.length if self.sizes == "equal" else 10 * np.maximum(a, b) + np.minimum(a, b)
        columns = (drawn.a, drawn.b, size, _equal_shares(size))
        for x, y, difficulty, weight in zip(*(c.tolist() for c in columns), strict=True):
            text = f"{self._said(x)}x{self._said(y)}="
            key = Key(self._said(x * y, len(str(x)) + len(str(y))), self._worked(x, y) if lines else ())
            made.append(Problem(Question(text, text, *caps), key, difficulty, weight))
        return made

    def _said(self, number: int, width: int = 0) -> str:
        """A number as it is written; width: digits that it takes where numbers are filled up."""
        return str(number) if self.numbers == "plain" else str(number)[::-1].ljust(width, "0")

    def _worked(self, a: int, b: int) -> tuple[str, ...]:
        """Partial products and running sums."""
        if len(str(a)) < len(str(b)):
            a, b = b, a
        lines, total, width = [], 0, len(str(a))
        for place, digit in enumerate(map(int, reversed(str(b)))):
            width += 1
            partial = a * digit * 10**place
            total += partial
            lines.append(f"+{self._said(partial, width)}={self._said(total, width)}" if place else self._said(partial, width))
        return tuple(lines)

    def grammar(self) -> Mapping[str, str]:
        """A number of as many digits as products have; a line is a partial product, from the second on with the sum so far."""
        most = 2 * self._lengths()[-1]
        number = f"(?:0|[1-9][0-9]{{0,{most - 1}}})" if self.numbers == "plain" else f"[0-9]{{2,{most}}}"
        return {"answer": number, "line": rf"{number}|\+{number}={number}"}

    def parse(self, text: str) -> str:
        """``12x34`` or ``12x34=`` as ``12x34=``; ValueError says what is legal."""
        number = "(0|[1-9][0-9]*)" if self.numbers == "plain" else "(0|[0-9]*[1-9])"
        if not re.fullmatch(rf"{number}x{number}=?", text):
            raise ValueError(f"not a question of this task: {text!r}; legal: numbers without needless zeros, such as 12x34=")
        return text.removesuffix("=") + "="


def _equal_shares(size: Int) -> Any:
    """Weights (M,) whose sum is the same for every size and whose mean is 1."""
    _, index, number = np.unique(size, return_inverse=True, return_counts=True)
    return len(size) / (max(len(number), 1) * number[index])


@lru_cache(maxsize=8)
def _train_block(task: Multiplication, seed: int, block: int, lines: bool) -> list[Problem]:
    """One block of the train stream; the last few are kept, since batches are smaller."""
    return task._posed(drawn_for_training(task._cells(), seed=seed, block=block, operations=(TIMES,)), lines)


@lru_cache(maxsize=8)
def _caps(task: Multiplication) -> tuple[int, int]:
    """Tokens of the longest answer and of the longest worked lines: no width shrinks as operands grow."""
    most = 10 ** task._lengths()[-1] - 1
    return len(str(most**2)) + 1, len(";".join(task._worked(most, most))) + 1
