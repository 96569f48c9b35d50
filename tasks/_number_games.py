"""Number games solved by brute force: every way to join some numbers, for many puzzles at once, and ways put into words.

A way is a tuple of steps (i, j, sign): the values at places i < j of those that are left are taken away, and what they make comes
last. The larger one stands first; ``\\`` is the smaller by the larger. So no value is negative, and no puzzle is lost: what needs
a negative value can be had without, its sign moved outwards. Knows nothing of tasks and splits.
"""

from __future__ import annotations

import re
from collections import Counter
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


SAID: Final = r"\d+(?:/\d+)?"
STEP: Final = re.compile(rf"(-?{SAID}|\(-?{SAID}\))([-+*/])({SAID}|\(-?{SAID}\))=(-?{SAID}) \(left: ([-0-9/ ]+)\)")


def leads_on(numbers: Sequence[int], said: Sequence[str], target: int) -> bool:
    """Whether worked lines, each of them true and of numbers that are left, leave numbers that can be joined to a target.

    The order of the numbers left is free, and they may be negative (``2-8=-6 (left: 3 -6)``). An expression as a line can end an
    attempt only, so it leads nowhere.
    """
    left = [Fraction(n) for n in numbers]
    for line in said:
        found = STEP.fullmatch(line)
        if found is None:
            return False
        a, b, made = (_fraction(found[i].strip("()")) for i in (1, 3, 4))
        for used in (a, b):
            if used is None or used not in left:
                return False
            left.remove(used)
        if a is None or b is None or made is None or made != _made(a, b, found[2]):
            return False
        left.append(made)
        if Counter(map(_fraction, found[5].split())) != Counter(left):
            return False
    return _can_make(tuple(sorted(left)), Fraction(target))


def _fraction(text: str) -> Fraction | None:
    """A number that was said; None if it divides by zero or is none."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def _made(a: Fraction, b: Fraction, sign: str) -> Fraction | None:
    """What a step comes to."""
    if sign == "/":
        return a / b if b else None
    return a + b if sign == "+" else a - b if sign == "-" else a * b


@lru_cache(maxsize=1 << 16)
def _can_make(left: tuple[Fraction, ...], target: Fraction) -> bool:
    """Whether some way joins all numbers to the target."""
    if len(left) == 1:
        return left[0] == target
    for i, j in combinations(range(len(left)), 2):
        rest = [v for place, v in enumerate(left) if place not in (i, j)]
        for a, b in ((left[i], left[j]), (left[j], left[i])):
            made = {_made(a, b, sign) for sign in WHOLE}
            if any(m is not None and _can_make(tuple(sorted([*rest, m])), target) for m in made):
                return True
    return False


def grammar(most: int, largest: int, *, fractions: bool) -> dict[str, str]:
    """The forms of `expression` and of `lines`, as Task.grammar has them, for up to ``most`` numbers up to ``largest``.

    An answer has ``most`` numbers at most, so it ends; parentheses hold two or more of them, and never all. fractions: whether
    lines hold them.
    """
    given, any_whole = (f"[1-9][0-9]{{0,{len(str(n)) - 1}}}" for n in (largest, largest**most))
    whole = f"(?:0|{any_whole})"
    value = f"{whole}(?:/{whole})?" if fractions else whole
    term = rf"(?:{whole}|\({whole}/{whole}\))" if fractions else whole
    answer = "|".join(_forms(most, given))
    step = rf"{term}[+*/-]{term}={value} \(left: {value}(?: {value}){{0,{most - 2}}}\)"
    return {"answer": answer, "line": f"{step}|{answer}"}


def _forms(most: int, number: str) -> list[str]:
    """Regular expressions for expressions of exactly 1, 2, .. ``most`` numbers: each is a first term, a sign, and the rest."""
    forms, terms, rests = [number], [number], [number]
    for n in range(2, most + 1):
        forms.append("|".join([f"{terms[i]}[+*/-]{rests[n - i - 2]}" for i in range(n - 1)]))
        terms.append(rf"\((?:{forms[-1]})\)")
        rests.append(f"(?:{forms[-1]}|{terms[-1]})")
    return forms


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
