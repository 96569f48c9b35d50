"""Arithmetic in English: short stories with two or three numbers.

The stories are `_stories`', splits and streams `_generated`'s; knows nothing of models or strategies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from harness.task import setting
from tasks._generated import EMPTY, Generated, belongs, whole_range
from tasks._pairs import BEYOND, Bool, Int
from tasks._stories import NAMES, OBJECTS, STORIES, all_numbers, applied

STORY, NUMBERS, NAME, OTHER, OBJECT = 0, slice(1, 4), 4, 5, 6  # columns of a row


@dataclass(frozen=True, kw_only=True)
class WordProblems(Generated):
    """Word problems: arithmetic in English from 17 stories, one or two steps of + - and x with small numbers.

    ``Ann has 12 pens, gets 7, loses 3. How many?`` -> ``16``, worked ``12+7=19``, ``19-3=16``. Names and objects vary;
    numbers are at least 2 (factors up to 12), values on the way at least 1. Steps have equal shares, so have the stories of a
    step and a story's numbers. The split goes by the numbers alone, in whatever order: no story is asked with the numbers of a
    held-out problem in training, and no line of a training problem states a step with those of a held-out one.
    """

    source: ClassVar[str] = "own; in the manner of MultiArith, Roy and Roth 1608.01413"
    difficulty_name: ClassVar[str] = "steps"

    steps: str = setting("1-2", doc="steps: 1, 2 or 1-2; equal shares")
    most: int = setting(20, doc="highest number to add or take away", low=20, high=60)

    def __post_init__(self) -> None:
        self.levels()

    def defaults(self) -> Mapping[str, Any]:
        """Piloted: direct 13% (one step 19%), floor 6%; with numbers up to 40 still at the floor after 4.5e12."""
        return {"model.size": "xs", "train.flops": 3.5e12, "train.problems_per_update": 64, "train.learning_rate": 2e-3}

    def alphabet(self) -> str:
        """The characters of the stories, and of lines."""
        told = "".join([*(s.text for s in STORIES), *NAMES, *OBJECTS])
        return "chars:" + "".join(sorted(set(told) - set("{}") | set("0123456789+-x=;")))

    def levels(self) -> Sequence[int]:
        """The numbers of steps."""
        return whole_range("steps", self.steps, low=1, high=2)

    def distinct(self, level: int) -> int:
        """All texts."""
        return sum(
            len(all_numbers(story, self.most))
            * (len(NAMES) if "{n}" in story.text else 1)
            * (len(NAMES) - 1 if "{m}" in story.text else 1)
            * len(OBJECTS)
            for story in map(STORIES.__getitem__, _told(level))
        )

    def draw(self, rng: np.random.Generator, levels: Int) -> Int:
        """Rows (M, 7): story, three numbers, first and second name, objects."""
        rows = np.full((len(levels), 7), EMPTY, dtype=np.int64)
        for level in self.levels():
            told = np.array(_told(level))
            rows[levels == level, STORY] = told[rng.integers(len(told), size=int(np.sum(levels == level)))]
        name, other = rng.integers(len(NAMES), size=len(levels)), rng.integers(1, len(NAMES), size=len(levels))
        rows[:, OBJECT] = rng.integers(len(OBJECTS), size=len(levels))
        chance = rng.random(len(levels))
        for index in np.unique(rows[:, STORY]).tolist():
            mine, story = rows[:, STORY] == index, STORIES[index]
            numbers = all_numbers(story, self.most)
            rows[mine, 1 : 1 + numbers.shape[1]] = numbers[(chance[mine] * len(numbers)).astype(np.int64)]
            rows[mine, NAME] = name[mine] if "{n}" in story.text else EMPTY
            rows[mine, OTHER] = (name + other)[mine] % len(NAMES) if "{m}" in story.text else EMPTY
        return rows

    def content(self, levels: Int, rows: Int) -> Int:
        """The numbers, largest first."""
        return -np.sort(-rows[:, NUMBERS], axis=1)

    def trainable(self, levels: Int, rows: Int) -> Bool:
        """Whether both steps have numbers of the train split."""
        good = np.ones(len(rows), dtype=bool)
        for index in np.unique(rows[levels == 2, STORY]).tolist():
            mine = rows[:, STORY] == index
            numbers = rows[mine, NUMBERS]
            first = applied(STORIES[index].operations, numbers)[:, 0]
            pairs = numbers[:, :2], np.stack([first, numbers[:, 2]], axis=1)
            good[mine] = np.all([belongs("train", -np.sort(-pair, axis=1)) for pair in pairs], axis=0)
        return good

    def said(self, level: int, row: list[int]) -> tuple[str, str]:
        """The story and the last value."""
        _, a, b, c, name, other, thing = row
        text = STORIES[row[STORY]].text.format(a=a, b=b, c=c, n=NAMES[name], m=NAMES[other], o=OBJECTS[thing])
        return text, str(self._steps(level, row)[-1][-1])

    def _steps(self, level: int, row: list[int]) -> list[tuple[int, str, int, int]]:
        """Left number, operation, right number and value of each step."""
        steps, x = [], row[1]
        for sign, y in zip(STORIES[row[STORY]].operations, row[2 : 2 + level], strict=True):
            value = x + y if sign == "+" else x - y if sign == "-" else x * y
            steps.append((x, sign, y, value))
            x = value
        return steps

    def worked(self, level: int, row: list[int]) -> tuple[str, ...]:
        """``12+7=19``, ``19-3=16``."""
        return tuple([f"{x}{sign}{y}={value}" for x, sign, y, value in self._steps(level, row)])

    def grammar(self) -> Mapping[str, str]:
        """A number; a line is one step. No value of any story has more than three digits."""
        number = "[1-9][0-9]{0,2}"
        return {"answer": number, "line": f"{number}[+x-]{number}={number}"}

    def caps(self) -> tuple[int, int]:
        """The longest answer and lines of all numbers of all stories."""
        found = [_widths(index, self.most) for level in self.levels() for index in _told(level)]
        return max(answer for answer, _ in found) + 1, max(lines for _, lines in found)

    def parse(self, text: str) -> str:
        """A story in the characters of this task's; ValueError says what is legal."""
        wrong = sorted(set(text) - set(self.alphabet().removeprefix("chars:")))
        if wrong or not text.endswith("?") or len(re.findall("[0-9]+", text)) < 2:
            unknown = f" (unknown characters: {' '.join(map(repr, wrong))})" if wrong else ""
            raise ValueError(
                f"not a question of this task: {text!r}{unknown}; legal: two or three numbers in a story such as "
                f"{self.said(1, [0, 12, 7, EMPTY, 0, EMPTY, 0])[0]}"
            )
        return text


@lru_cache(maxsize=2)
def _told(level: int) -> tuple[int, ...]:
    """The stories of so many steps."""
    return tuple(i for i, story in enumerate(STORIES) if len(story.operations) == level)


@lru_cache(maxsize=256)
def _widths(index: int, most: int) -> tuple[int, int]:
    """Of a story: digits of its longest answer, tokens of its longest worked lines, what ends each line included."""
    numbers = all_numbers(STORIES[index], most)
    values = applied(STORIES[index].operations, numbers)
    digits = [np.searchsorted(BEYOND, n, side="right") for n in (numbers, values)]
    steps = values.shape[1]
    tokens = digits[0].sum(axis=1) + digits[1].sum(axis=1) + digits[1][:, :-1].sum(axis=1) + 3 * steps
    return int(digits[1][:, -1].max()), int(tokens.max())
