"""Pairs of numbers with a given number of carries (borrows, for differences): counted and numbered, column by column.

The pairs of a kind (operation, digits of the longer and the shorter number, carries) are numbered 0, 1, 2, ..; `unrank` gives the
pair with a number. So a uniform number draws a uniform pair, and all numbers list them all. For differences the longer number
is the greater one. Knows nothing of splits, problems or seeds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

MOST_DIGITS_BALANCED: Final = 9  # so that the number of pairs fits into 64 bits
FREE, NOT_ZERO, ABSENT = range(3)  # what a column may hold of a number
_DIGITS: Final = {FREE: range(10), NOT_ZERO: range(1, 10), ABSENT: range(1)}


def _mode(digits: Int, column: int) -> Int:
    """What column (0: ones) of a number with so many digits may hold: no leading zero, the number 0 itself apart."""
    top = (digits == column + 1) & (digits > 1)
    return np.where(digits <= column, ABSENT, np.where(top, NOT_ZERO, FREE))


@lru_cache(maxsize=1)
def _columns() -> tuple[Int, Int]:
    """Digit pairs of a column by [operation, mode, mode, carry in, carry out]: how many, and which (.., 100, 2)."""
    number, which = np.zeros((2, 3, 3, 2, 2), dtype=np.int64), np.zeros((2, 3, 3, 2, 2, 100, 2), dtype=np.int64)
    for operation, long, short, carry in np.ndindex(2, 3, 3, 2):
        for x in _DIGITS[long]:
            for y in _DIGITS[short]:
                out = int(x + y + carry > 9) if operation == 0 else int(x - y - carry < 0)
                cell = (operation, long, short, carry, out)
                which[(*cell, number[cell])] = x, y
                number[cell] += 1
    return number, which


@lru_cache(maxsize=1)
def _ways() -> Int:
    """Pairs by [operation, digits of the longer, of the shorter, column, carry in, carries left], from that column upwards."""
    most = MOST_DIGITS_BALANCED
    ways = np.zeros((2, most + 1, most + 1, most + 1, 2, most + 1), dtype=np.int64)
    ways[0, :, :, most, :, 0] = 1
    ways[1, :, :, most, 0, 0] = 1  # a difference ends without a borrow: the longer number is the greater one
    number, digits = _columns()[0], np.arange(most + 1)
    for column in range(most - 1, -1, -1):
        mode = _mode(digits, column)
        for operation, carry in np.ndindex(2, 2):
            cells = number[operation, :, :, carry][mode[:, None], mode[None, :]]  # (longer, shorter, carry out)
            ways[operation, :, :, column, carry] += cells[..., :1] * ways[operation, :, :, column + 1, 0]
            ways[operation, :, :, column, carry, 1:] += cells[..., 1:] * ways[operation, :, :, column + 1, 1, :-1]
    return ways


def pairs_with(kinds: Int) -> Int:
    """How many pairs each kind has: (M, 4) -> (M,). A kind: operation (0 sums, 1 differences), digits of the longer and of the
    shorter number, carries."""
    operation, long, short, carries = kinds.T
    found: Int = _ways()[operation, long, short, 0, 0, carries]
    return found


def unrank(kinds: Int, rank: Int) -> tuple[Int, Int]:
    """The pairs (longer number, shorter number) with the numbers ``rank`` (M,) of their kinds (M, 4).

    0 <= rank < pairs_with(kinds).
    """
    operation, long, short, carries = kinds.T
    ways, (number, which) = _ways(), _columns()
    a, b, carry, left = (np.zeros(len(rank), dtype=np.int64) for _ in range(4))
    left += carries
    for column in range(int(long.max(initial=0))):
        cell = (operation, _mode(long, column), _mode(short, column), carry)
        without = number[(*cell, 0)] * ways[operation, long, short, column + 1, 0, left]  # pairs with no carry out of here
        carry = (rank >= without).astype(np.int64)
        left = left - carry
        index, rank = np.divmod(rank - carry * without, ways[operation, long, short, column + 1, carry, left])
        pair = which[(*cell, carry, index)]
        a, b = a + pair[:, 0] * 10**column, b + pair[:, 1] * 10**column
    return a, b
