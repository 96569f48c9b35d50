"""Word problems as data: what is told, with which numbers, by whom and of what. Knows nothing of splits, seeds or problems.

A story's operations are applied from left to right to its numbers a, b and c. Numbers go from 2 to the story's highs, where None
stands for a highest number that is the task's; every value on the way is at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

NAMES: Final = ("Ann", "Ben", "Cid", "Dora", "Eve", "Finn", "Gus", "Hana", "Ivy", "Jon", "Kim", "Leo")
OBJECTS: Final = ("pens", "cups", "keys", "nuts", "eggs", "hats", "toys", "figs", "maps", "coins", "books", "shells")
LEAST_NUMBER: Final = 2


@dataclass(frozen=True, slots=True)
class Story:
    """operations: of + - x, one or two; text: with {a} {b} {c} for numbers, {n} and {m} for names, {o} for objects."""

    operations: str
    text: str
    highs: tuple[int | None, ...]

    def highest(self, most: int) -> list[int]:
        """The highest values of its numbers, where the task's highest number is ``most``."""
        return [most if high is None else high for high in self.highs]


FREE: Final = (None, None, None)
STORIES: Final = (  # short, since every character is a token
    Story("+", "{n} has {a} {o} and gets {b}. How many?", FREE[:2]),
    Story("+", "{n} finds {a} {o}, {m} finds {b}. How many?", FREE[:2]),
    Story("+", "{a} {o} lie here, {b} there. How many?", FREE[:2]),
    Story("-", "{n} has {a} {o} and loses {b}. How many?", FREE[:2]),
    Story("-", "Of {a} {o}, {b} are sold. How many stay?", FREE[:2]),
    Story("-", "{n} has {a} {o}, {m} has {b}. How many more?", FREE[:2]),
    Story("x", "{n} has {a} bags of {b} {o}. How many?", (9, 12)),
    Story("x", "{a} boxes hold {b} {o} each. How many?", (9, 12)),
    Story("x", "{n} buys {a} {o} a day. How many in {b} days?", (9, 12)),
    Story("++", "{n} has {a} {o}, gets {b}, then {c}. How many?", FREE),
    Story("+-", "{n} has {a} {o}, gets {b}, loses {c}. How many?", FREE),
    Story("-+", "{n} has {a} {o}, sells {b}, buys {c}. How many?", FREE),
    Story("--", "Of {a} {o}, {n} takes {b}, {m} takes {c}. How many stay?", FREE),
    Story("x+", "{n} has {a} bags of {b} {o} and {c} more. How many?", (9, 12, None)),
    Story("x-", "{n} buys {a} boxes of {b} {o}, loses {c}. How many?", (9, 12, None)),
    Story("+x", "A box holds {a} red and {b} blue {o}. How many in {c}?", (12, 12, 9)),
    Story("-x", "Of {a} {o} a box, {n} takes {b}. How many stay in {c}?", (20, 20, 9)),
)


def applied(operations: str, numbers: Int) -> Int:
    """Values after each operation: (M, 1 + S) -> (M, S)."""
    values = [numbers[:, 0]]
    for i, sign in enumerate(operations, 1):
        x, y = values[-1], numbers[:, i]
        values.append(x + y if sign == "+" else x - y if sign == "-" else x * y)
    return np.stack(values[1:], axis=1)


@lru_cache(maxsize=64)
def all_numbers(story: Story, most: int) -> Int:
    """All numbers (M, 1 + S) with which a story can be told."""
    highs = story.highest(most)
    grid = np.indices([high - LEAST_NUMBER + 1 for high in highs]).reshape(len(highs), -1).T + LEAST_NUMBER
    return grid[np.all(applied(story.operations, grid) > 0, axis=1)]
