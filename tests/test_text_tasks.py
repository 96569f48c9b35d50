"""Word problems and multiplication: right answers and lines, splits that do not touch. Reads texts and solves anew."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from harness.problem import Problem
from harness.settings import build
from harness.task import SPLITS, Split, Task
from tasks._stories import STORIES
from tasks.arithmetic import Arithmetic
from tasks.multiplication import Multiplication
from tasks.word_problems import WordProblems

HELD_OUT: tuple[Split, ...] = ("value", "validation", "test")


def posed(task: Task, split: Split = "train", count: int = 2000, seed: int = 0, lines: bool = True) -> list[Problem]:
    return list(task.problems(split, seed=seed, start=0, count=count, lines=lines))


def text(problem: Problem) -> str:
    assert isinstance(problem.question.text, str)
    return problem.question.text


def assert_caps(task: Task, *, slack: int | None) -> None:
    """No answer and no lines are above their caps; slack: tokens of lines' caps that need not be reached."""
    found = [p for split in SPLITS for p in posed(task, split, 2000)]
    answers = [len(str(p.key.answer)) + 1 - p.question.answer_cap_tokens for p in found]
    lines = [sum(len(line) + 1 for line in p.key.lines) - p.question.lines_cap_tokens for p in found]
    assert max(answers) <= 0 and max(lines) <= 0
    assert slack is None or (max(answers) == 0 and max(lines) >= -slack)


# multiplication


def value(written: str, task: Multiplication) -> int:
    return int(written if task.numbers == "plain" else written[::-1])


def operands(problem: Problem, task: Multiplication) -> tuple[int, int]:
    a, b = text(problem).removesuffix("=").split("x")
    return value(a, task), value(b, task)


PRODUCTS: list[dict[str, Any]] = [
    {},
    {"numbers": "reversed", "sizes": "equal", "digits": "1-3"},
    {"digits": "2-3"},
    {"numbers": "reversed", "digits": "9"},
]


@pytest.mark.parametrize("settings", PRODUCTS)
def test_products_partial_products_and_sums_are_right(settings: dict[str, Any]) -> None:
    task = build(Multiplication, settings, prefix="task")
    for split in SPLITS:
        for problem in posed(task, split, 1500):
            a, b = operands(problem, task)
            assert value(str(problem.key.answer), task) == a * b
            long, short = (a, b) if len(str(a)) >= len(str(b)) else (b, a)
            size = len(str(long)), len(str(short))
            assert problem.difficulty == (size[0] if task.sizes == "equal" else 10 * size[0] + size[1])
            total = 0
            assert len(problem.key.lines) == size[1]
            for place, line in enumerate(problem.key.lines):
                partial, _, after = line.partition("=")
                digit = short // 10**place % 10
                total += long * digit * 10**place
                assert value(partial.removeprefix("+"), task) == long * digit * 10**place
                assert line.startswith("+") == (place > 0) == bool(after)
                assert not after or value(after, task) == total
                if task.numbers == "reversed":
                    assert all(len(n) == size[0] + 1 + place for n in (partial.removeprefix("+"), after) if n)
    assert_caps(task, slack=None if settings.get("digits") == "9" else 0)


def test_reversed_texts_are_the_papers() -> None:
    """Its data: 5 1 6 * 0 4 9||0 0 0 0 + 0 0 6 4 2 ( 0 0 6 4 2 ) + 0 0 5 3 5 5 #### 0 0 1 8 7 5, and so on."""
    task = Multiplication(numbers="reversed", digits="3", sizes="equal")
    assert task._worked(615, 940) == ("0000", "+00642=00642", "+005355=001875")
    assert task._worked(319, 213) == ("7590", "+09130=74140", "+008360=749760")
    assert Multiplication()._worked(123, 456) == ("738", "+6150=6888", "+49200=56088")


def test_products_are_in_the_splits_of_arithmetic_and_lines_state_none_that_is_held_out() -> None:
    grid = Multiplication(sizes="grid", digits="1-2")
    held_out = {tuple(sorted(operands(p, grid))) for split in HELD_OUT for seed in (0, 1) for p in posed(grid, split, 4000, seed)}
    assert len(held_out) > 700
    others = posed(Arithmetic(operations="x", digits="1-2"), "train", 8000, lines=False)
    assert not held_out & {tuple(sorted(operands(p, grid))) for p in others}
    for a, b in (operands(p, grid) for p in posed(grid, "train", 8000, lines=False)):
        assert tuple(sorted((a, b))) not in held_out
        long, short = (a, b) if len(str(a)) >= len(str(b)) else (b, a)
        assert long < 10 or not held_out & {tuple(sorted((long, int(digit)))) for digit in str(short)}


def test_sizes_have_equal_shares() -> None:
    for task in (Multiplication(digits="1-3", sizes="equal"), Multiplication(digits="1-3")):
        for split in SPLITS:
            weight: Counter[int] = Counter()
            for p in posed(task, split, 3000):
                weight[p.difficulty] += p.weight  # type: ignore[assignment]
            assert len(weight) == (3 if task.sizes == "equal" else 6)
            assert max(weight.values()) - min(weight.values()) <= (1 if split == "train" else 1e-9) * 1.0


# word problems

NUMBER = r"(\d+)"
READINGS: list[tuple[str, Callable[..., int]]] = [
    (r"\w+ has N \w+ and gets N\. How many", lambda a, b: a + b),
    (r"\w+ finds N \w+, \w+ finds N\. How many", lambda a, b: a + b),
    (r"N \w+ lie here, N there\. How many", lambda a, b: a + b),
    (r"\w+ has N \w+ and loses N\. How many", lambda a, b: a - b),
    (r"Of N \w+, N are sold\. How many stay", lambda a, b: a - b),
    (r"\w+ has N \w+, \w+ has N\. How many more", lambda a, b: a - b),
    (r"\w+ has N bags of N \w+\. How many", lambda a, b: a * b),
    (r"N boxes hold N \w+ each\. How many", lambda a, b: a * b),
    (r"\w+ buys N \w+ a day\. How many in N days", lambda a, b: a * b),
    (r"\w+ has N \w+, gets N, then N\. How many", lambda a, b, c: a + b + c),
    (r"\w+ has N \w+, gets N, loses N\. How many", lambda a, b, c: a + b - c),
    (r"\w+ has N \w+, sells N, buys N\. How many", lambda a, b, c: a - b + c),
    (r"Of N \w+, \w+ takes N, \w+ takes N\. How many stay", lambda a, b, c: a - b - c),
    (r"\w+ has N bags of N \w+ and N more\. How many", lambda a, b, c: a * b + c),
    (r"\w+ buys N boxes of N \w+, loses N\. How many", lambda a, b, c: a * b - c),
    (r"A box holds N red and N blue \w+\. How many in N", lambda a, b, c: (a + b) * c),
    (r"Of N \w+ a box, \w+ takes N\. How many stay in N", lambda a, b, c: (a - b) * c),
]


def numbers(problem: Problem) -> tuple[int, ...]:
    return tuple(sorted(map(int, re.findall(NUMBER, text(problem)))))


def test_stories_are_read_and_solved() -> None:
    task, seen = WordProblems(), Counter[str]()
    for split in SPLITS:
        for problem in posed(task, split, 1000):
            matches = [(r, s, m) for r, s in READINGS if (m := re.fullmatch(r.replace("N", NUMBER) + r"\?", text(problem)))]
            assert len(matches) == 1, text(problem)
            reading, solve, match = matches[0]
            seen[reading] += 1
            assert problem.key.answer == str(solve(*map(int, match.groups()))) and int(problem.key.answer) > 0
            steps = [re.fullmatch(r"(\d+)([-+x])(\d+)=(\d+)", line) for line in problem.key.lines]
            for step in steps:
                assert step
                a, b = int(step[1]), int(step[3])
                assert int(step[4]) == {"+": a + b, "-": a - b, "x": a * b}[step[2]] > 0
            assert problem.difficulty == len(steps) == len(match.groups()) - 1
            assert len(steps) == 1 or steps[0][4] == steps[1][1]  # type: ignore[index]
            assert steps[-1] and steps[-1][4] == problem.key.answer
            assert sorted(int(n) for n in match.groups()) == list(numbers(problem)) and numbers(problem)[0] >= 2
            told = story_of(text(problem))
            names = set(re.findall(r"\b[A-Z][a-z]+\b", text(problem))) - {"How", "Of", "A"}
            assert len(names) == ("{n}" in told) + ("{m}" in told)
    assert len(seen) == len(STORIES) == len(READINGS) and min(seen.values()) > 80
    assert_caps(task, slack=2)


def story_of(told: str) -> str:
    """The story's own text, by its words that are not filled in."""
    found = [s.text for s in STORIES if re.fullmatch(re.sub(r"\\{\w\\}", r"\\w+", re.escape(s.text)), told)]
    assert len(found) == 1
    return found[0]


@pytest.mark.slow
def test_no_numbers_of_a_held_out_story_are_in_training() -> None:
    owner: dict[tuple[int, ...], Split] = {}
    for task in (WordProblems(), WordProblems(most=50), WordProblems(most=40), WordProblems(steps="2", most=60)):
        for split in SPLITS:
            for problem in posed(task, split, 2500, lines=False):
                assert owner.setdefault(numbers(problem), split) == split
    held_out = {n for n, split in owner.items() if split != "train" and len(n) == 2}
    stated = {
        tuple(sorted(map(int, re.findall(NUMBER, line)[:2])))
        for p in posed(WordProblems(most=50), "train", 8000)
        for line in p.key.lines
    }
    assert len(held_out) > 100 and len(stated) > 1000 and not held_out & stated


def test_errors_name_what_is_legal() -> None:
    for make, named in (
        (lambda: Multiplication(digits="3-11"), "digits.*from 1 to 9"),
        (lambda: Multiplication().parse("012x3"), "legal.*12x34="),
        (lambda: WordProblems().parse("What is love?"), "legal.*Ann has 12 pens and gets 7"),
        (lambda: WordProblems(steps="3"), "steps.*from 1 to 2"),
    ):
        with pytest.raises(ValueError, match=named):
            make()
    assert Multiplication().parse("12x30") == "12x30=" and Multiplication(numbers="reversed").parse("21x03=") == "21x03="
