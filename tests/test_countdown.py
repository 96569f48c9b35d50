"""Countdown and game of 24: a scorer that no text can harm, solvers against brute force of another kind, splits by numbers."""

from __future__ import annotations

import json
import re
import tarfile
import time
from collections import defaultdict
from fractions import Fraction
from functools import lru_cache
from itertools import combinations_with_replacement, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.settings import build
from harness.task import SPLITS
from tasks import _number_games
from tasks._expressions import MOST_CHARS, MOST_NESTING, canonical, solves, value
from tasks.countdown import Countdown
from tasks.game_of_24 import GameOf24

COUNTDOWNS: list[dict[str, Any]] = [
    {}, {"numbers": "3-4", "largest": 10}, {"largest": 60, "largest_target": 100}, {"largest": 10, "largest_target": 5},
]  # fmt: skip


def worked_out(text: str) -> Fraction | None:
    """What an expression comes to, by the shunting yard: an evaluator of another kind. None: division by zero.

    A minus sign that no value stands before (``~`` on the stack) is worked out before all other signs.
    """
    values: list[Fraction] = []
    signs: list[str] = []
    before = "("

    def reduce() -> None:
        sign, b = signs.pop(), values.pop()
        a = Fraction(0) if sign == "~" else values.pop()
        values.append(a + b if sign == "+" else a - b if sign in "-~" else a * b if sign == "*" else a / b)

    try:
        for token in re.findall(r"\d+|[-+*/()]", text):
            if token.isdigit():
                values.append(Fraction(token))
            elif token == ")":
                while signs[-1] != "(":
                    reduce()
                signs.pop()
            else:
                if token == "-" and before in "(+-*/":
                    token = "~"
                while token not in "(~" and signs and signs[-1] != "(" and (signs[-1] in "*/~" or token in "+-"):
                    reduce()
                signs.append(token)
            before = token.replace("~", "-")
        while signs:
            reduce()
    except ZeroDivisionError:
        return None
    (made,) = values
    return made


def mixed(left: str, right: str, sign: str) -> str:
    return f"({left}){sign}({right})" if sign == "/" else f"({left}){sign}{right}" if sign == "*" else f"{left}{sign}({right})"


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    negated = st.builds("{}{}".format, st.sampled_from(["-", "- "]), st.integers(0, 30)) | inner.map("-({})".format)
    return st.builds(mixed, inner, inner, st.sampled_from("+-*/")) | negated


trees = st.recursive(st.integers(0, 30).map(str), grown, max_leaves=8)


@given(trees, st.sampled_from(["", " ", "\n", " \r\n", "\t\n\n"]))
def test_expressions_are_worked_out_as_by_another_evaluator(text: str, behind: str) -> None:
    numbers, expected, text = [int(n) for n in re.findall(r"\d+", text)], worked_out(text), text + behind
    assert value(text) == expected
    if expected is None:
        assert canonical(text) == text and not solves(text, numbers, 0)
        return
    target = int(expected) if expected.denominator == 1 else 0
    assert solves(text, numbers, target) == (expected == target)
    assert not solves(text, numbers, target + 1)
    assert not solves(text, [*numbers, 1], target) and not solves(text, numbers[1:], target)
    assert worked_out(canonical(text)) == expected
    assert canonical(canonical(text)) == canonical(text)
    assert sorted(re.findall(r"\d+", canonical(text))) == sorted(re.findall(r"\d+", text))


@given(trees, trees, trees, st.sampled_from(["+-", "*/"]))
def test_the_normal_form_forgets_order_and_parentheses(a: str, b: str, c: str, signs: str) -> None:
    join, inverse = signs
    same = [f"({x}){join}({y}){inverse}({z})" for x, y, z in ((a, b, c), (b, a, c))]
    same += [f"({a}){inverse}({c}){join}({b})", f"({a}){inverse}(({c}){inverse}({b}))", f"(({b}) {join} (({a}))) {inverse} ({c})"]
    if all(value(text) is not None for text in (*same, f"1/({b})")):
        assert len({canonical(text) for text in same}) == 1


def test_the_normal_form_keeps_what_differs() -> None:
    texts = ["8-2-3", "8-(2-3)", "8*2-3", "8*(2-3)", "8/2*3", "8/(2*3)", "8-2*3", "(8-2)*3", "(2-8)*3", "8+2*3"]
    assert len({canonical(text) for text in texts}) == len(texts)
    assert canonical("(8-2)*(3+1)") == canonical("((1+3)) * (8-2)") == "(1+3)*(8-2)"
    assert canonical("1/0") == "1/0" and canonical("hello") == "hello" and canonical("1/(1/(2-2))") == "1/(1/(2-2))"


ATTACKS: list[Any] = [
    None, 24, 24.0, b"8*3", ["8*3"], "", " ", "()", "(", ")(", "8*3)", "((8*3)", "8*", "*8", "8 3", "8(3)", "(8)(3)", "(8,3)",
    "8*3,", "[8*3]", "8*3;8*3", "8*3#", "\n8*3", "8*3\n8*3", "8*\n3", "8\t*3", "8*3\0", "8*3=24", "8*3==24", "8*3 if 1 else 0",
    "8**3", "8//3", "8%3", "8@3", "8<<3", "8|3", "8^3", "~8", "not 8", "-8*3", "+8*3", "8*+3", "8--3", "--8*3", "- -8*3", "8*--3",
    "8*3-", "-", "--", "-()", "-+8*3", "~-8*3", "-8**-3", "8-*3", "\u22128*\u22123", "8.0*3", "8e0*3", "8.*3",
    "0x8*3", "0o10*3", "08*3", "008*3", "8_0*3", "8*3j", "8l*3", "True*24", "a*b", "x", "8*(y:=3)", "abs(8)*3",
    "__import__('os').system('true')", "exec('1')", "(8).real*3", "8*3 .real", "f'{8*3}'", "'8*3'", "*8,3", "8 and 3", "8*3 3",
    "\uff19*3", "\uff18*3", "٨*٣", "8\u00d73", "8\u22123", "8\u22173", "८*3", "²", "8\u200b*3", "8\u00a0*3", "9" * 5000,
    "(" * 10_000 + "8*3" + ")" * 10_000, "-" * 10_000 + "8*3", "8*3" + "+0" * 10_000, "(" * 90 + "8*3" + ")" * 90, "(" * 199,
    "(" * 100 + ")" * 100, "1+" * 99 + "1", "8*3*1", "8*3/1", "24", "12*2", "8*3+0", "8+3", "3*8*8/8", "8/(3-3)", "8*3/0",
    "9" * 100 + "*3", "9**9**9**9", "lambda:8*3",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: repr(a)[:30])
def test_attacks_score_nothing(attack: Any) -> None:
    start = time.perf_counter()
    assert solves(attack, [3, 8], 24) is False
    assert Countdown().solves("3 8 8>8=", attack) is False and GameOf24().solves("3 3 8 8=", attack) is False
    assert isinstance(canonical(str(attack)), str)
    assert time.perf_counter() - start < 0.5
    assert solves("8*3", [3, 8], 24) and solves(" ( 3 * 8 )", [8, 3], 24)


@given(st.text(max_size=40) | st.text("0123456789+-*/() _.,e", max_size=40) | st.text("(8*3)/-0", max_size=300))
def test_no_text_raises(text: str) -> None:
    found = value(text)
    canonical(text)
    if found is None:
        assert not solves(text, [3, 8], 24)
    else:
        said = text.rstrip(" \t\r\n")
        assert len(text) <= MOST_CHARS and set(said) <= set("0123456789+-*/() ") and found == worked_out(text)


def test_minus_signs_and_line_ends_are_right_where_the_value_is() -> None:
    countdown, game = Countdown(), GameOf24()
    for answer in (
        "-(2-8)*3",
        "- (2-8) * 3",
        "-3*(2-8)",
        "3*-(2-8)",
        "3*(-2+8)",
        "(-2+8)*3",
        "-(-3)*(8-2)",
        "-(3*(2-8))",
        "-3*-(8-2)",
    ):
        assert countdown.solves("2 3 8>18=", answer), answer
        assert countdown.solves("2 3 8>18=", f"{answer}\n") and countdown.solves("2 3 8>18=", f"{answer} \r\n\n"), answer
        assert not countdown.solves("2 3 8>19=", answer) and not countdown.solves("2 3 9>18=", answer), answer
    assert (
        game.solves("1 3 4 6=", "-6/(3/4-1)") and game.solves("1 3 4 6=", "6/-(3/4-1)\n") and game.solves("3 3 8 8", "-8/(8/3-3)")
    )
    assert countdown.solves("2 3 8>13=", "8-(-2-3)") and not countdown.solves("2 3 8>13=", "8--(2+3)")
    assert not game.solves("1 3 4 6=", "6/(3/4-1)") and not game.solves("1 3 4 6=", "-(6/(1-3/4))")
    problem = countdown.problems("test", seed=0, start=0, count=1)[0]
    key = str(problem.key.answer)
    assert countdown.grade(problem, f"-(-({key}))\n") == 1 and countdown.grade(problem, f"-({key})") == 0


def test_lines_with_negative_values_lead_on_where_they_are_true() -> None:
    numbers = [2, 3, 8]
    for lines, target in (
        (["2-8=-6 (left: 3 -6)"], -18), (["2-8=-6 (left: -6 3)"], 9), (["2-8=-6 (left: 3 -6)", "3-(-6)=9 (left: 9)"], 9),
        (["2-8=-6 (left: 3 -6)", "-6*3=-18 (left: -18)"], -18),
        (["3-8=-5 (left: 2 -5)", "(-5)/2=-5/2 (left: -5/2)"], Fraction(-5, 2)),
        (["2/8=1/4 (left: 3 1/4)", "3-(1/4)=11/4 (left: 11/4)"], Fraction(11, 4)), (["8-2=6 (left: 3 6)"], 18),
    ):  # fmt: skip
        assert _number_games.leads_on(numbers, lines, target), lines
        assert not _number_games.leads_on(numbers, lines, 1000)
    for line in (
        "2-8=6 (left: 3 6)", "2-8=-6 (left: 3 6)", "2-8=-6 (left: 3 - -6)", "2-8=-6 (left: 3 / -6)", "2-8=-6 (left: 3 -6 -6)",
        "2--8=10 (left: 3 10)", "2-(8=-6 (left: 3 -6)", "-2-8=-10 (left: 3 -10)", "2/0=0 (left: 3 0)", "(2-8)*3",
    ):  # fmt: skip
        assert not any(_number_games.leads_on(numbers, [line], target) for target in range(-40, 40)), line


def test_minus_signs_in_the_normal_form() -> None:
    same = [
        ("-(2-8)", "8-2", "-2+8", "8+-2", "8-(-(-2))", "-(-8)-2"),
        ("-(2-8)*3", "-((2-8)*3)", "3*-(2-8)", "(2-8)*-3", "-(-3)*-(2-8)", "-((3)*(2-8))"),
        ("-2-3", "-(2+3)", "-3+-2"),
        ("-4*(2+3)", "4*(-2-3)", "-(2+3)*4", "(-(2+3))*4\n"),
        ("1-4/(2+3)", "1+4/(-2-3)", "1+-4/(2+3)", "-(4/(2+3)-1)"),
    ]
    assert [canonical(texts[0]) for texts in same] == ["8-2", "-(2-8)*3", "-2-3", "-(2+3)*4", "1-4/(2+3)"]
    for texts in same:
        assert {canonical(text) for text in texts} == {canonical(texts[0])}
    assert len({canonical(text) for text in ("-8*3", "8*3", "-(2-8)*3", "-(8-2)*3", "-2-3", "2-3", "-2+3")}) == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference-countdown", "smollm2-countdown"])
def test_committed_answers_keep_their_scores(name: str) -> None:
    """Every answer in the records that ship, and every answer that a search there chose from, is graded as it was."""
    task, graded, differ = Countdown(), 0, []
    solved = lru_cache(maxsize=None)(task.solves)
    with tarfile.open(Path(__file__).parent.parent / "results" / "records" / f"{name}.tar.xz", mode="r:xz") as pack:
        for member in pack:
            content = pack.extractfile(member) if member.name.endswith("/problems.jsonl") else None
            for line in map(json.loads, content or ()):
                found = line["candidates"] or {"answers": {}, "scores": {}}
                said = [(line["answer"], line["score"]), *((a, found["scores"][at]) for at, a in found["answers"].items())]
                graded += len(said)
                differ += [
                    (member.name, line["id"], answer) for answer, score in said if solved(line["id"], answer) != (score == 1)
                ]
    assert differ == [] and graded > 1000


def test_guards_end_where_they_say() -> None:
    deep = "(" * MOST_NESTING + "1" + ")" * MOST_NESTING
    assert value(deep) == 1 and value(f"({deep})") is None
    assert value("0+3") == value("30") / 10 == 3 and not any(map(value, ("00+3", "3+00", "3+(00)", "03", "3+0_0")))
    assert value("1" * MOST_CHARS) is not None and value("1" * (MOST_CHARS + 1)) is None


def test_every_solvable_puzzle_of_24_is_there_and_solved() -> None:
    task = GameOf24(ranks=1)
    rows = task.every(1).tolist()
    assert len(rows) == len({tuple(row[:4]) for row in rows}) == 1362
    for row in rows:
        question, answer = task.said(1, row)
        assert question == " ".join(map(str, row[:4])) + "=" and row[:4] == sorted(row[:4])
        assert task.solves(question, answer) and worked_out(answer) == 24
        assert sorted(map(int, re.findall(r"\d+", answer))) == row[:4]
    known = {tuple(map(int, q.split())) for q in ("1 3 4 6", "3 3 8 8", "1 5 5 5", "4 4 10 10", "3 3 7 7", "2 5 5 10")}
    assert known <= {tuple(row[:4]) for row in rows}
    assert not {(1, 1, 1, 1), (1, 6, 7, 8), (3, 4, 6, 7)} & {tuple(row[:4]) for row in rows}
    assert task.solves("1 3 4 6=", "6/(1-3/4)") and not task.solves("1 3 4 6=", "6*4") and task.solves("3 3 8 8", "8/(3-8/3)")


def test_ranks_go_from_many_solutions_to_few() -> None:
    every = {tuple(row[:4]): rank for rank in (1, 2, 3) for row in GameOf24(ranks=3).every(rank).tolist()}
    assert len(every) == 1362 and {sum(r == rank for r in every.values()) for rank in (1, 2, 3)} == {454}
    assert every[2, 3, 4, 12] == 1 and every[3, 3, 8, 8] == every[1, 3, 4, 6] == 3


def reachable(numbers: tuple[int, ...]) -> set[int]:
    """Targets that some order, signs and parentheses reach by whole numbers above 0: by subsets, not by pairs of what is left."""
    if len(numbers) == 1:
        return set(numbers)
    made: set[int] = set()
    for order in set(permutations(numbers)):
        for cut in range(1, len(order)):
            for a, b in product(reachable(tuple(sorted(order[:cut]))), reachable(tuple(sorted(order[cut:])))):
                made |= {a + b, a * b} | ({a - b} if a > b else set()) | ({a // b} if a % b == 0 else set())
    return made


def test_countdown_has_all_solvable_problems() -> None:
    for task, size in ((Countdown(largest=10, largest_target=30), 3), (Countdown(numbers="4", largest=10), 4)):
        rows, most = task.every(size), task.largest_target
        found = defaultdict(set)
        for row in rows[:, : size + 1].tolist():
            found[tuple(row[:size])].add(row[size])
        sets = list(combinations_with_replacement(range(1, 11), size))
        for numbers in sets if size == 3 else sets[:: len(sets) // 12]:
            assert found[numbers] == {n for n in reachable(numbers) if n <= most}
        assert sum(map(len, found.values())) == len(rows) == task.distinct(size)


TASKS = [*((Countdown, settings) for settings in COUNTDOWNS), (GameOf24, {}), (GameOf24, {"ranks": 6})]


@pytest.mark.parametrize("kind, settings", TASKS)
def test_keys_lines_and_caps(kind: Any, settings: dict[str, Any]) -> None:
    task = build(kind, settings, prefix="task")
    longest = [0, 0]
    for split in SPLITS:
        for problem in task.problems(split, seed=1, start=0, count=600):
            question, key = str(problem.question.text), str(problem.key.answer)
            given_, _, target = question.rstrip("=").partition(">")
            left = [Fraction(n) for n in given_.split()]
            assert worked_out(key) == int(target or 24) and sorted(map(int, re.findall(r"\d+", key))) == sorted(left)
            assert task.grade(problem, key) == task.grade(problem, canonical(key)) == 1
            assert task.grade(problem, f"{key}+0") == task.grade(problem, given_) == 0
            assert task.parse(question) == task.parse(question[:-1]) == question
            *steps, last = problem.key.lines
            assert last == key and len(steps) == len(left) - 1
            for step in steps:
                said = re.fullmatch(r"(\d+|\(\d+/\d+\))([-+*/])(\d+|\(\d+/\d+\))=([\d/]+) \(left: ([\d/ ]+)\)", step)
                assert said
                a, b, made = (Fraction(said[i].strip("()")) for i in (1, 3, 4))
                assert worked_out(f"{said[1]}{said[2]}{said[3]}") == made >= 0
                left.remove(a)
                left.remove(b)
                left.append(made)
                assert [Fraction(n) for n in said[5].split()] == left
            assert left == [int(target or 24)]
            sizes = len(key) + 1, sum(len(line) + 1 for line in problem.key.lines)
            longest = [max(x) for x in zip(longest, sizes, strict=True)]
            assert longest[0] <= problem.question.answer_cap_tokens and longest[1] <= problem.question.lines_cap_tokens


@pytest.mark.parametrize("task", [Countdown(largest=10), Countdown(numbers="4", largest=10), GameOf24()])
def test_caps_are_those_of_the_longest_problem(task: Any) -> None:
    rows = [(level, row) for level in task.levels() for row in task.every(level).tolist()]
    lines = max(sum(len(line) + 1 for line in task.worked(level, row)) for level, row in rows)
    assert task.caps() == (max(len(task.said(level, row)[1]) for level, row in rows) + 1, lines)


@pytest.mark.parametrize("kind, settings", TASKS)
def test_no_two_splits_know_the_same_numbers(kind: Any, settings: dict[str, Any]) -> None:
    owner: dict[tuple[str, ...], str] = {}
    task = build(kind, settings, prefix="task")
    for split in SPLITS:
        for seed in (0, 1):
            found = task.problems(split, seed=seed, start=0, count=12_000, lines=False)
            assert len(found) == 12_000 or split != "train"
            questions = [str(p.question.text) for p in found]
            assert questions and (split == "train" or len(set(questions)) == len(questions))
            for question in questions:
                numbers = tuple(sorted(question.rstrip("=").split(">")[0].split()))
                assert owner.setdefault(numbers, split) == split
    if kind is GameOf24:
        assert len(owner) == 1362


def test_bad_settings_and_questions_say_what_is_legal() -> None:
    for settings, words in (({"numbers": "5"}, "from 3 to 4"), ({"numbers": "4", "largest": 31}, "at most 30"),
                            ({"largest": 9}, "from 10 to 100"), ({"largest_target": 0}, "from 1 to 1000")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            build(Countdown, settings, prefix="task")
    for text in ("", "1 2 3", "1 2>3=", "1 2 3 4>5", "0 1 2>3", "1 2 21>3", "1 2 3>51", "1 2 3>4==", "1 2 3>٤", "01 2 3>4"):
        with pytest.raises(ValueError, match="legal: 3 numbers up to 20"):
            Countdown().parse(text)
    for text in ("", "1 2 3", "1 2 3 14", "0 1 2 3", "1 2 3 4>24", "1,2,3,4", "1 2 3 4 5"):
        with pytest.raises(ValueError, match="from 1 to 13"):
            GameOf24().parse(text)
    assert Countdown().parse("8 3 2>18") == "2 3 8>18=" and GameOf24().parse("6 4 3 1") == "1 3 4 6="
    assert registry.find("task", "game_of_24") is not None and "countdown" in registry.tasks_that_offer(
        frozenset({"worked_lines"})
    )


def test_whole_and_fraction_joins_agree() -> None:
    a, b = (np.random.default_rng(i).integers(1, 40, size=500) for i in (0, 1))
    one, mark = np.ones_like(a), a * 1.5
    for sign in "+-*/\\":
        made = _number_games.ratio(_number_games.Ratio(a, one, mark), _number_games.Ratio(b, one, mark), sign)
        expected = [_number_games.joined(x, y, sign)[1] for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert [Fraction(n, d) for n, d in zip(made.above.tolist(), made.below.tolist(), strict=True)] == expected
        if sign != "\\":
            whole = [int(x) if x.denominator == 1 else 0 for x in map(Fraction, expected)]
            assert _number_games.whole(a, b, sign).tolist() == whole
        none = _number_games.Ratio(a, 0 * one, mark)
        for x, y in ((none, made), (made, none), (none, none)):
            assert not any(_number_games.ratio(x, y, other).below.any() for other in "+-*/\\")
