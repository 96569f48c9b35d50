"""Answers of sums, differences and products as they are said, and the worked lines that lead to them.

Lines go from the least significant digit; no line holds a ";", with which strategies join them; the last one is "=" and the
answer exactly as it is said. Columns always name three digits, so that no line reads as a question with its answer:

    58+67 simple     8+7+0=15 | 5+6+1=12 | =125             column and carry = sum
          detailed   8+7+0=15,1,5 | 5+6+1=12,1,25 | =125    .. , carry, digits found so far
    37-52 simple     52>37 | 2-7-0=5,1 | 5-3-1=1,0 | =-15   (order, if swapped) column and borrow = digit, borrow
          detailed   52>37 | 2-7-0=5,1,5 | 5-3-1=1,0,15 | =-15
    23x47 simple     7>161 | 40>920>1081 | =1081            digit > partial product > sum so far
          detailed   3x7+0=21,2,1 | 2x7+2=16,1,61 | 7>161 | 3x4+0=12,1,2 | 2x4+1=9,0,92 | 40>920>1081 | =1081

In a product the longer operand (the first, if they are equally long) is multiplied by the digits of the other. Numbers inside
lines are written as usual; with reversed answers the digits found so far and the answer are reversed. Knows nothing of splits.
"""

from __future__ import annotations

from typing import Final

from tasks._pairs import OPERATIONS

SYMBOLS: Final = "0123456789+-x=,;>"  # every character of questions, answers, lines and between lines


def answer_of(sign: str, a: int, b: int, *, reverse: bool) -> str:
    """The answer as it is said: shortest form, minus sign first; reversed: then the least significant digit first."""
    value = a + b if sign == "+" else a - b if sign == "-" else a * b
    return said(value, reverse=reverse)


def said(value: int, *, reverse: bool) -> str:
    """A number as it is said."""
    if not reverse:
        return str(value)
    return ("-" if value < 0 else "") + str(abs(value))[::-1]


def worked_lines(sign: str, a: int, b: int, *, detailed: bool, reverse: bool) -> tuple[str, ...]:
    """The worked lines of one problem; ``sign`` is one of OPERATIONS."""
    steps = (_sum, _difference, _product)[OPERATIONS.index(sign)](a, b, detailed, reverse)
    steps.append("=" + answer_of(sign, a, b, reverse=reverse))
    return tuple(steps)


def _far(digit: int, so_far: str, reverse: bool) -> str:
    """The digits found so far, with one more."""
    return f"{so_far}{digit}" if reverse else f"{digit}{so_far}"


def _sum(a: int, b: int, detailed: bool, reverse: bool) -> list[str]:
    steps: list[str] = []
    carry, so_far = 0, ""
    while a or b or not steps:
        (a, x), (b, y) = divmod(a, 10), divmod(b, 10)
        total = x + y + carry
        step = f"{x}+{y}+{carry}={total}"
        carry = total // 10
        if detailed:
            so_far = _far(total % 10, so_far, reverse)
            step = f"{step},{carry},{so_far}"
        steps.append(step)
    return steps


def _difference(a: int, b: int, detailed: bool, reverse: bool) -> list[str]:
    swap = [f"{b}>{a}"] if a < b else []
    steps: list[str] = []
    borrow, so_far = 0, ""
    a, b = max(a, b), min(a, b)
    while a or not steps:
        (a, x), (b, y) = divmod(a, 10), divmod(b, 10)
        rest = x - y - borrow
        step = f"{x}-{y}-{borrow}={rest % 10},{int(rest < 0)}"
        borrow = int(rest < 0)
        if detailed:
            so_far = _far(rest % 10, so_far, reverse)
            step = f"{step},{so_far}"
        steps.append(step)
    return swap + steps


def _product(a: int, b: int, detailed: bool, reverse: bool) -> list[str]:
    if len(str(a)) < len(str(b)):
        a, b = b, a
    steps: list[str] = []
    total, zeros = 0, ""
    for factor in map(int, reversed(str(b))):
        if detailed:
            steps += _columns(a, factor, reverse)
        partial = int(f"{a * factor}{zeros}")
        total += partial
        steps.append(f"{factor}{zeros}>{partial}>{total}" if zeros else f"{factor}>{partial}")
        zeros += "0"
    return steps


def _columns(a: int, factor: int, reverse: bool) -> list[str]:
    """A number times one digit, digit by digit."""
    steps: list[str] = []
    carry, so_far = 0, ""
    while a or not steps:
        a, x = divmod(a, 10)
        total = x * factor + carry
        so_far = _far(total % 10, so_far, reverse)
        steps.append(f"{x}x{factor}+{carry}={total},{total // 10},{so_far}")
        carry = total // 10
    return steps
