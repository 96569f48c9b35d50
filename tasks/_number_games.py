"""Number games solved by brute force: every way to join some numbers, for many puzzles at once, and ways put into words.

A way is a tuple of steps (i, j, sign): the values at places i < j of those that are left are taken away, and what they make comes
last. The larger one stands first; ``\\`` is the smaller by the larger. So no value is negative, and no puzzle is lost: what needs
a negative value can be had without, its sign moved outwards. Knows nothing of tasks and splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks._pairs import Int

T = TypeVar("T")
Number = int | Fraction
Way = tuple[tuple[int, int, str], ...]

WHOLE: Final = "+-*/"  # signs where all values are whole numbers above 0
FRACTIONS: Final = "+-*/\\"
RANK: Final = {"+": 1, "-": 1, "*": 2, "/": 2}  # a number's is 3
LEFT: Final = " (left: {})"


def multisets(largest: int, size: int) -> Int:
    """All choices of numbers from 1 on, ascending: (N, size)."""
    return np.array(list(combinations_with_replacement(range(1, largest + 1), size)), dtype=np.int64)


def outcomes(values: list[T], signs: str, join: Callable[[T, T, str], T], way: Way = ()) -> Iterator[tuple[Way, T]]:
    """Every way to join all values by ``join``, and its outcome, in a fixed order."""
    if len(values) == 1:
        yield way, values[0]
        return
    for i, j in combinations(range(len(values)), 2):
        rest = [v for place, v in enumerate(values) if place not in (i, j)]
        for sign in signs:
            yield from outcomes([*rest, join(values[i], values[j], sign)], signs, join, (*way, (i, j, sign)))


@lru_cache(maxsize=8)
def ways(size: int, signs: str) -> list[Way]:
    """All ways in the order of `outcomes`."""
    return [way for way, _ in outcomes([0] * size, signs, lambda a, b, sign: 0)]


def whole(a: Int, b: Int, sign: str) -> Int:
    """Joins whole numbers above 0, (M,) each; 0 stands for what is not one and stays so."""
    high, low = np.maximum(a, b), np.minimum(a, b)
    if sign == "/":
        quotient = high // np.maximum(low, 1)
        return np.where(quotient * low == high, quotient, 0)
    return np.where(low == 0, 0, high + low if sign == "+" else high - low if sign == "-" else high * low)


class Ratio(NamedTuple):
    """Values as fractions, not reduced; none where ``below`` is 0. mark: the same formula of other numbers, to tell formulas."""

    above: Int  # (M,)
    below: Int
    mark: NDArray[np.float64]


def ratio(a: Ratio, b: Ratio, sign: str) -> Ratio:
    """Joins fractions from 0 on; ``below`` is 0 where there is no value, and stays so."""
    first = a.above * b.below >= b.above * a.below
    high, low = (Ratio(*(np.where(c, x, y) for x, y in zip(a, b, strict=True))) for c in (first, ~first))
    if sign == "*":
        return Ratio(high.above * low.above, high.below * low.below, high.mark * low.mark)
    if sign in "+-":
        by = 1 if sign == "+" else -1
        return Ratio(high.above * low.below + by * low.above * high.below, high.below * low.below, high.mark + by * low.mark)
    top, under = (high, low) if sign == "/" else (low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Ratio(top.above * under.below, top.below * under.above * (under.below != 0), top.mark / under.mark)


def joined(a: Number, b: Number, sign: str) -> tuple[bool, Number]:
    """Whether the first one stands first, and what two values make."""
    first = (a >= b) != (sign == "\\")
    x, y = (a, b) if first else (b, a)
    if sign in "+*":
        return first, x + y if sign == "+" else x * y
    if sign == "-":
        return first, x - y
    return first, x // y if x % y == 0 else Fraction(x) / y


def expression(numbers: Sequence[int], way: Way) -> str:
    """A way as one expression, without idle parentheses."""
    left: list[tuple[Number, str, int]] = [(n, str(n), 3) for n in numbers]
    for i, j, sign in way:
        b, a = left.pop(j), left.pop(i)
        first, made = joined(a[0], b[0], sign)
        x, y = (a, b) if first else (b, a)
        sign = "/" if sign == "\\" else sign
        rank = RANK[sign]
        text = f"({x[1]})" if x[2] < rank else x[1]
        text += sign + (f"({y[1]})" if y[2] < rank + (sign in "-/") else y[1])
        left.append((made, text, rank))
    return left[0][1]


def lines(numbers: Sequence[int], way: Way) -> tuple[str, ...]:
    """A way in words, one operation a line, with the numbers that are left: ``8-2=6 (left: 3 1 6)``; then the expression.

    Fractions stand in parentheses where they are joined: ``6/(3/4)=8``.
    """
    left, said = list[Number](numbers), []
    for i, j, sign in way:
        b, a = left.pop(j), left.pop(i)
        first, made = joined(a, b, sign)
        left.append(made)
        x, y = (str(n) if n.denominator == 1 else f"({n})" for n in ((a, b) if first else (b, a)))
        said.append(f"{x}{'/' if sign == chr(92) else sign}{y}={made}" + LEFT.format(" ".join(map(str, left))))
    return *said, expression(numbers, way)


def lengths(numbers: Int, way: Way) -> tuple[Int, Int]:
    """Characters (M,) of `expression`, and of `lines` with one more for each line's end; numbers (M, K), whole values only."""
    left = [(column, _digits(column), 3) for column in numbers.T]
    said: Int = np.zeros(len(numbers), dtype=np.int64)
    for i, j, sign in way:
        b, a = left.pop(j), left.pop(i)
        rank, made = RANK[sign], whole(a[0], b[0], sign)
        last = rank + (sign in "-/")
        parentheses = np.where(a[0] >= b[0], (a[2] < rank) + (b[2] < last) * 1, (b[2] < rank) + (a[2] < last) * 1)
        left.append((made, a[1] + b[1] + 1 + 2 * parentheses, rank))
        fixed = len(LEFT.format("")) + len(left) - 1 + 3  # with the sign, the = and the line's end
        said += fixed + _digits(a[0]) + _digits(b[0]) + _digits(made) + np.sum([_digits(x) for x, *_ in left], axis=0)
    return left[0][1], said + left[0][1] + 1


def _digits(n: Int) -> Int:
    """How many digits whole numbers below 10^18 have."""
    return np.searchsorted(10 ** np.arange(1, 18), n, side="right") + 1
