"""3SUM and path-star: brute force, what may not give the answer away, splits that do not touch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from harness.problem import Problem
from harness.settings import build
from harness.task import SPLITS, Split, Task
from tasks._generated import content_hash
from tasks.path_star import PathStar
from tasks.three_sum import ThreeSum

SUMS: list[dict[str, Any]] = [
    {},
    {"dimension": 1, "tuples": "6"},
    {"dimension": 3, "modulus": 7, "tuples": "5-10"},
    {"dimension": 6, "modulus": 2, "tuples": "4"},
]
STARS: list[dict[str, Any]] = [{}, {"degree": 5, "lengths": "2-4", "names": 62}, {"degree": 3, "lengths": "9", "names": 25}]


def posed(task: Task, split: Split = "train", count: int = 1500, seed: int = 0, lines: bool = True) -> list[Problem]:
    return list(task.problems(split, seed=seed, start=0, count=count, lines=lines))


def text(problem: Problem) -> str:
    assert isinstance(problem.question.text, str)
    return problem.question.text


def tuples(problem: Problem) -> list[tuple[int, ...]]:
    """The tuples, after checking their letters."""
    found = re.findall(r"([a-p])(\d+)", text(problem))
    assert "".join(letter for letter, _ in found) == "abcdefghijklmnop"[: len(found)]
    assert text(problem) == "".join(a + b for a, b in found) + "="
    return [tuple(map(int, digits)) for _, digits in found]


def is_zero(modulus: int, *some: tuple[int, ...]) -> bool:
    return not any(sum(column) % modulus for column in zip(*some, strict=True))


@pytest.mark.parametrize("settings", SUMS)
def test_three_sum_by_brute_force(settings: dict[str, Any]) -> None:
    task = build(ThreeSum, settings, prefix="task")
    true: Counter[int] = Counter()
    number: Counter[int] = Counter()
    for split in SPLITS:
        for problem in posed(task, split, 800, lines=False):
            values = tuples(problem)
            assert len(values) == problem.difficulty in task.levels()
            assert {len(v) for v in values} == {task.dimension} and max(map(max, values)) < task.modulus
            there = any(is_zero(task.modulus, *some) for some in combinations(values, 3))
            assert problem.key.answer == ("T" if there else "F")
            true[problem.difficulty] += there
            number[problem.difficulty] += 1
            assert task.parse(text(problem)) == text(problem) == task.parse(text(problem)[:-1])
    for level, n in number.items():
        assert abs(true[level] / n - 0.5) < 4 * 0.5 / n**0.5


@pytest.mark.parametrize("settings", SUMS)
def test_lines_of_three_sum_are_about_one_pair_each(settings: dict[str, Any]) -> None:
    task = build(ThreeSum, settings, prefix="task")
    longest = 0
    for problem in posed(task, "test", 300):
        values = dict(zip("abcdefghijklmnop", tuples(problem), strict=False))
        lines = list(problem.key.lines)
        assert lines.pop() == f"={problem.key.answer}"
        assert [line[:2] for line in lines] == ["".join(pair) for pair in combinations(values, 2)]
        for line in lines:
            pair = [values[line[0]], values[line[1]]]
            assert tuple(map(int, line[2:-1])) == tuple(sum(c) % task.modulus for c in zip(*pair, strict=True))
            third = any(is_zero(task.modulus, *pair, values[c]) for c in values if c not in line[:2])
            assert line[-1] == ("T" if third else "F")
        assert any(line.endswith("T") for line in lines) == (problem.key.answer == "T")
        longest = max(longest, sum(len(line) + 1 for line in problem.key.lines))
        assert problem.question.answer_cap_tokens == 2
    assert longest == problem.question.lines_cap_tokens


def test_false_problems_are_near_misses_and_no_place_gives_the_answer_away() -> None:
    task = ThreeSum(dimension=3, tuples="6")
    zeros: dict[str, list[int]] = {"T": [], "F": []}
    planted: Counter[int] = Counter()
    for problem in posed(task, "train", 6000, lines=False):
        values = tuples(problem)
        sums = [[sum(c) % 10 for c in zip(*some, strict=True)] for some in combinations(values, 3)]
        zeros[str(problem.key.answer)].append(max(s.count(0) for s in sums))
        if problem.key.answer == "T":
            planted.update(next(some for some, s in zip(combinations(range(6), 3), sums, strict=True) if not any(s)))
    assert set(zeros["T"]) == {3} and set(zeros["F"]) <= {0, 1, 2}
    near = zeros["F"].count(2) / len(zeros["F"])
    assert near > 0.55  # half change one coordinate of the triple; by chance alone about 0.42 would come so near
    assert len(planted) == 6 and max(planted.values()) < 1.12 * min(
        planted.values()
    )  # each place is as likely to belong to the triple


def test_problems_that_are_the_same_are_in_one_split() -> None:
    owner: dict[Any, Split] = {}
    for split in SPLITS:
        for problem in posed(ThreeSum(dimension=1, tuples="6"), split, 2500, lines=False):
            assert owner.setdefault(tuple(sorted(tuples(problem))), split) == split
    rng = np.random.default_rng(0)
    for task, start in ((ThreeSum(), 1), (PathStar(), 2)):
        levels = np.tile(np.array(task.levels()), 300)
        rows = task.draw(rng, levels)
        other = rows.copy()
        for row in other:  # another order of the same tuples or edges
            number = int((row[start:] >= 0).sum())
            row[start : start + number] = rng.permutation(row[start : start + number])
        assert (rows != other).any(axis=1).mean() > 0.9
        same = content_hash(task.content(levels, rows)) == content_hash(task.content(levels, other))
        assert same.all() and len(np.unique(content_hash(task.content(levels, rows)))) == 900


@pytest.mark.parametrize("settings", STARS)
def test_paths_by_brute_force(settings: dict[str, Any]) -> None:
    task = build(PathStar, settings, prefix="task")
    longest = (0, 0)
    for split in SPLITS:
        for problem in posed(task, split, 600):
            found = re.fullmatch(r"((?:\w\w\|)*\w\w)/(\w)(\w)=", text(problem))
            assert found
            after: dict[str, list[str]] = defaultdict(list)
            for edge in found[1].split("|"):
                after[edge[0]].append(edge[1])
            arms = [[found[2], first] for first in after[found[2]]]
            for arm in arms:
                while after[arm[-1]]:
                    (following,) = after[arm[-1]]
                    arm.append(following)
            assert len(arms) == task.degree and {len(arm) for arm in arms} == {problem.difficulty}
            nodes = {node for arm in arms for node in arm}
            assert len(nodes) == task.degree * (problem.difficulty - 1) + 1
            (path,) = ["".join(arm) for arm in arms if arm[-1] == found[3]]
            assert problem.key.answer == path
            back = path[::-1]
            assert problem.key.lines == (*[back[i] + back[i + 1] for i in range(len(back) - 1)], path)
            assert task.parse(text(problem)) == text(problem) == task.parse(text(problem)[:-1])
            longest = max(longest, (len(path) + 1, sum(len(line) + 1 for line in problem.key.lines)))
    assert longest == (problem.question.answer_cap_tokens, problem.question.lines_cap_tokens)


def test_nothing_but_the_path_tells_the_arm() -> None:
    """Neither the place nor the name of the first step tells which arm is asked for."""
    task = PathStar(lengths="4", names=10)
    first, names = Counter[int](), Counter[str]()
    for problem in posed(task, "train", 8000, lines=False):
        edges, asked = text(problem).rstrip("=").split("/")
        starting = [edge[1] for edge in edges.split("|") if edge[0] == asked[0]]
        first[starting.index(str(problem.key.answer)[1])] += 1
        names[str(problem.key.answer)[1]] += 1
    assert abs(first[0] / 8000 - 0.5) < 0.025
    assert max(names.values()) < 1.25 * min(names.values()) and len(names) == 10


def test_errors_name_what_is_legal() -> None:
    for make, named in (
        (lambda: ThreeSum(dimension=1), "tuples: above 6 tuples of 10 values"),
        (lambda: ThreeSum(tuples="3"), "tuples.*from 4 to 16"),
        (lambda: ThreeSum(dimension=1, modulus=2, tuples="4"), "too few problems"),
        (lambda: ThreeSum().parse("a31b52c4"), "legal: 3 to 8 tuples of 2 digits below 10"),
        (lambda: ThreeSum().parse("a31b52d47"), "legal"),
        (lambda: PathStar(degree=7), "names: 7 arms of 5 nodes want 29"),
        (lambda: PathStar(degree=2, lengths="3", names=5), "too few graphs"),
        (lambda: PathStar().parse("ab/ac"), "no path.*from a to c"),
        (lambda: PathStar().parse("ab|ba|cc/dc"), "no path"),
        (lambda: PathStar().parse("abc/ab"), "legal: edges of two names"),
    ):
        with pytest.raises(ValueError, match=named):
            make()
