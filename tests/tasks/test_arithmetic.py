"""Arithmetic: right answers, right worked lines, disjoint splits, equal shares. Counts and parses anew."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.problem import Key, Problem, Question
from harness.settings import build
from harness.task import SPLITS, Split
from tasks._carries import pairs_with, unrank
from tasks._pairs import in_split
from tasks._stream import BLOCK
from tasks.arithmetic import Arithmetic

MIXES: list[dict[str, Any]] = [
    {},
    {"answer": "reversed", "lines": "detailed"},
    {"operations": "-", "digits": "1-4"},
    {"operations": "-+", "digits": "2-4", "carries": "balanced", "answer": "reversed"},
    {"operations": "-", "carries": "balanced", "lines": "detailed"},
    {"operations": "x", "digits": "1-2"},
    {"operations": "x", "digits": "3", "lines": "detailed", "answer": "reversed"},
    {"operations": "+-x", "lines": "detailed", "longer": "4-5"},
    {"operations": "+-", "digits": "18", "lines": "detailed"},
]
HELD_OUT: tuple[Split, ...] = ("value", "validation", "test")


def operands(problem: Problem) -> tuple[int, str, int]:
    found = re.fullmatch(r"(\d+)([+\-x])(\d+)=", str(problem.question.text))
    assert found
    assert str(int(found[1])) == found[1] and str(int(found[3])) == found[3]  # no leading zeros
    return int(found[1]), found[2], int(found[3])


def unordered(problem: Problem) -> tuple[str, int, int]:
    a, sign, b = operands(problem)
    return sign, min(a, b), max(a, b)


def spoken(value: int, task: Arithmetic) -> str:
    digits = "".join(reversed(str(abs(value)))) if task.answer == "reversed" else str(abs(value))
    return "-" * (value < 0) + digits


def true_answer(problem: Problem, task: Arithmetic) -> str:
    a, sign, b = operands(problem)
    return spoken({"+": a + b, "-": a - b, "x": a * b}[sign], task)


def carries(problem: Problem) -> int:
    """Carries or borrows, counted on strings from the right."""
    a, sign, b = operands(problem)
    high, low = str(max(a, b)), str(min(a, b)).zfill(len(str(max(a, b))))
    number = carry = 0
    for x, y in zip(reversed(high), reversed(low), strict=True):
        carry = int(int(x) + int(y) + carry >= 10) if sign == "+" else int(int(x) < int(y) + carry)
        number += carry
    return number


def first(task: Arithmetic, split: Split, count: int, seed: int = 0) -> list[Problem]:
    return list(task.problems(split, seed=seed, start=0, count=count))


# Answers


def test_grade_agrees_with_python_on_10000_random_problems() -> None:
    rng, graded = random.Random(5), 0
    while graded < 10_000:
        task = Arithmetic(**rng.choice(MIXES))
        split = rng.choice(SPLITS)
        for problem in task.problems(split, seed=rng.randrange(2), start=rng.randrange(50), count=200):
            right = true_answer(problem, task)
            assert task.grade(problem, right) == 1.0
            for wrong in (f"0{right}", f"+{right}", f"{right} ", f"-{right}", f"{right}0", right[:-1], "", None):
                assert task.grade(problem, wrong) == 0.0, (problem, wrong)
            graded += 1


def test_reversed_answers_keep_the_sign_in_front() -> None:
    task = Arithmetic(operations="-", digits="2", answer="reversed")
    negative = next(p for p in first(task, "train", 100) if operands(p)[0] + 9 < operands(p)[2])
    value = operands(negative)[0] - operands(negative)[2]
    assert negative.key.answer == "-" + str(-value)[::-1]


# Worked lines, read by a parser of their own


def check_sum(a: int, b: int, steps: list[str], task: Arithmetic) -> None:
    assert len(steps) == max(len(str(a)), len(str(b)))
    for i, step in enumerate(steps):
        part = 10**i
        found = re.fullmatch(r"(\d)\+(\d)\+([01])=(\d+)(?:,([01]),(\d+))?", step)
        assert found, step
        x, y, c, total = (int(found[n]) for n in (1, 2, 3, 4))
        assert (x, y, c) == (a // part % 10, b // part % 10, (a % part + b % part) // part)
        assert total == x + y + c
        check_detail(found[5], found[6], total // 10, (a + b) % (10 * part), i + 1, task)


def check_detail(carry: str | None, so_far: str | None, true_carry: int, true_digits: int, width: int, task: Arithmetic) -> None:
    if task.lines == "simple":
        assert carry is None and so_far is None
        return
    digits = str(true_digits).zfill(width)
    assert carry == str(true_carry)
    assert so_far == (digits[::-1] if task.answer == "reversed" else digits)


def check_difference(a: int, b: int, steps: list[str], task: Arithmetic) -> None:
    if a < b:
        assert steps.pop(0) == f"{b}>{a}"
    a, b = max(a, b), min(a, b)
    assert len(steps) == len(str(a))
    for i, step in enumerate(steps):
        part = 10**i
        found = re.fullmatch(r"(\d)-(\d)-([01])=(\d),([01])(?:,(\d+))?", step)
        assert found, step
        x, y, c, digit, borrow = (int(found[n]) for n in (1, 2, 3, 4, 5))
        assert (x, y, c) == (a // part % 10, b // part % 10, int(a % part < b % part))
        assert x - y - c == digit - 10 * borrow
        check_detail(found[5] if found[6] else None, found[6], borrow, (a - b) % (10 * part), i + 1, task)


def check_product(a: int, b: int, steps: list[str], task: Arithmetic) -> None:
    if len(str(a)) < len(str(b)):
        a, b = b, a
    for i, digit in enumerate(reversed(str(b))):
        if task.lines == "detailed":
            for j in range(len(str(a))):
                check_product_column(a, int(digit), j, steps.pop(0), task)
        numbers = steps.pop(0).split(">")
        so_far = a * (b % 10 ** (i + 1))
        assert numbers[0] == digit + "0" * i
        assert numbers[1:] == [str(a * int(digit) * 10**i), str(so_far)][: 2 if i else 1]
    assert not steps


def check_product_column(a: int, digit: int, j: int, step: str, task: Arithmetic) -> None:
    found = re.fullmatch(r"(\d)x(\d)\+(\d)=(\d+),(\d),(\d+)", step)
    assert found, step
    x, y, c, total = (int(found[n]) for n in (1, 2, 3, 4))
    assert (x, y, c) == (a // 10**j % 10, digit, a % 10**j * digit // 10**j)
    assert total == x * y + c
    check_detail(found[5], found[6], total // 10, a * digit % 10 ** (j + 1), j + 1, task)


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_worked_lines_are_right_and_end_in_the_answer(mix: dict[str, Any]) -> None:
    task = Arithmetic(**mix)
    checks = {"+": check_sum, "-": check_difference, "x": check_product}
    for problem in [p for split in SPLITS for p in first(task, split, 600)]:
        a, sign, b = operands(problem)
        *steps, last = problem.key.lines
        assert last == "=" + true_answer(problem, task) == f"={problem.key.answer}"
        assert ";" not in "".join(problem.key.lines)
        checks[sign](a, b, steps, task)


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_caps_and_alphabet_hold(mix: dict[str, Any]) -> None:
    task = Arithmetic(**mix)
    symbols = set(task.alphabet().removeprefix("chars:"))
    for problem in [p for split in SPLITS for p in first(task, split, 2000)]:
        joined = ";".join(problem.key.lines)
        assert len(str(problem.key.answer)) + 1 <= problem.question.answer_cap_tokens
        assert len(joined) + 1 <= problem.question.lines_cap_tokens
        assert set(str(problem.question.text)) | set(str(problem.key.answer)) | set(joined) <= symbols


@pytest.mark.parametrize(
    ("sign", "longest_answer", "longest_lines"),
    [("+", "18", "9+9+0=18;=18"), ("-", "-9", "9>0;9-0-0=9,0;=-9"), ("x", "81", "9>81;=81")],
)
def test_caps_are_met_by_the_longest_problem(sign: str, longest_answer: str, longest_lines: str) -> None:
    question = first(Arithmetic(digits="1", operations=sign), "train", 1)[0].question
    assert (question.answer_cap_tokens, question.lines_cap_tokens) == (len(longest_answer) + 1, len(longest_lines) + 1)


def test_lines_can_be_left_out() -> None:
    for split in SPLITS:
        with_lines = first(Arithmetic(), split, 30)
        without = Arithmetic().problems(split, seed=0, start=0, count=30, lines=False)
        assert all(not p.key.lines for p in without) and all(p.key.lines for p in with_lines)
        assert [(p.question, p.key.answer) for p in without] == [(p.question, p.key.answer) for p in with_lines]


# Splits


def test_splits_are_disjoint_by_unordered_operands_for_every_seed_and_setting() -> None:
    seen: dict[Split, set[tuple[str, int, int]]] = defaultdict(set)
    for mix in MIXES:
        for seed in (0, 7):
            for split in SPLITS:
                problems = Arithmetic(**mix).problems(split, seed=seed, start=0, count=1000, lines=False)
                seen[split] |= {unordered(p) for p in problems}
    for i, split in enumerate(SPLITS):
        assert len(seen[split]) > 4000
        for other in SPLITS[i + 1 :]:
            assert not seen[split] & seen[other], (split, other)


def test_split_sizes_are_80_5_5_10_percent_and_ignore_order() -> None:
    a, b = np.divmod(np.arange(1_000_000), 1000)
    plus = np.zeros(len(a), dtype=np.int64)
    inside = {split: in_split(split, plus, a, b) for split in SPLITS}
    assert np.all(sum(x.astype(int) for x in inside.values()) == 1)
    for split, share in zip(SPLITS, (0.8, 0.05, 0.05, 0.1), strict=True):
        assert abs(inside[split].mean() - share) < 0.003
        assert np.array_equal(inside[split], in_split(split, plus, b, a))
    assert not np.array_equal(inside["test"], in_split("test", plus + 1, a, b))  # each operation for itself


def test_the_split_never_changes() -> None:
    """Records of old runs stay comparable: a change here raises Arithmetic.version."""
    a, b = np.divmod(np.arange(100), 10)
    held_out = [f"{x}{y}" for x, y, test in zip(a, b, in_split("test", np.zeros(100, np.int64), a, b), strict=True) if test]
    assert held_out == GOLDEN_TEST


def test_every_split_has_one_digit_problems() -> None:
    mixes: list[dict[str, Any]] = [{"operations": sign} for sign in "+-x"] + [{"operations": "+-", "carries": "balanced"}]
    for mix in mixes:
        for split in SPLITS:
            signs = {unordered(p)[0] for p in first(Arithmetic(digits="1", **mix), split, 1000)}
            assert signs == set(mix["operations"])


def test_worked_lines_of_training_problems_state_no_held_out_problem() -> None:
    """Products by one digit, and sums of partial products, of two or more digits."""
    task = Arithmetic(operations="+x", digits="1-4")
    stated: set[tuple[str, int, int]] = set()
    for problem in first(task, "train", 3 * BLOCK):
        a, sign, b = operands(problem)
        if sign == "+":
            continue
        if len(str(a)) < len(str(b)):
            a, b = b, a
        for line in problem.key.lines[:-1]:
            digit, *numbers = line.split(">")
            stated.add(("x", int(digit[0]), a))
            if len(numbers) == 2:
                partial, total = map(int, numbers)
                stated.add(("+", min(partial, total - partial), max(partial, total - partial)))
    stated = {(sign, low, high) for sign, low, high in stated if high > 9}
    held_out = {unordered(p) for split in HELD_OUT for p in first(task, split, 20_000)}
    assert len(stated) > 5000 and len(held_out) > 20_000
    assert not stated & held_out
    for sign, low, high in list(stated)[:2000]:
        assert in_split("train", *(np.array([n]) for n in ("+-x".index(sign), low, high)))[0]


# The train stream


@given(st.integers(BLOCK - 40, BLOCK + 40), st.integers(0, 200))
def test_training_problems_do_not_depend_on_how_they_are_asked_for(start: int, count: int) -> None:
    task = Arithmetic(operations="+-")
    assert list(task.problems("train", seed=3, start=start, count=count)) == WHOLE[start : start + count]


WHOLE = list(Arithmetic(operations="+-").problems("train", seed=3, start=0, count=2 * BLOCK))


def test_seeds_give_different_problems() -> None:
    for split in SPLITS:
        texts = [[p.question.text for p in first(Arithmetic(digits="5"), split, 100, seed)] for seed in (0, 1)]
        assert texts[0] != texts[1]


@pytest.mark.parametrize("mix", MIXES[:8], ids=str)
def test_training_shares_are_equal(mix: dict[str, Any]) -> None:
    task = Arithmetic(**mix)
    problems = first(task, "train", 6000)
    low, _, high = task.digits.partition("-")
    lengths = range(int(low), int(high or low) + 1)
    by_length = Counter(p.difficulty for p in problems)
    assert set(by_length) == set(lengths) and max(by_length.values()) - min(by_length.values()) <= len(task.operations)
    by_cell = Counter((operands(p)[1], p.difficulty) for p in problems)
    assert len(by_cell) == len(task.operations) * len(lengths) and max(by_cell.values()) - min(by_cell.values()) <= 1
    for length in lengths:
        mine = [operands(p) for p in problems if p.difficulty == length]
        assert {max(len(str(a)), len(str(b))) for a, _, b in mine} == {length}
        shorter = Counter(min(len(str(a)), len(str(b))) for a, _, b in mine)
        assert set(shorter) == set(range(1, length + 1))
        assert max(shorter.values()) - min(shorter.values()) <= 0.02 * len(mine) + len(task.operations) * length
        uneven = [(a, b) for a, _, b in mine if len(str(a)) != len(str(b))]
        assert not uneven or abs(sum(a > b for a, b in uneven) / len(uneven) - 0.5) < 0.12


@pytest.mark.parametrize("sign", ["+", "-"])
def test_balanced_carries_have_equal_shares(sign: str) -> None:
    task = Arithmetic(operations=sign, digits="1-4", carries="balanced")
    problems = first(task, "train", BLOCK)
    for length in range(1, 5):
        numbers = Counter(carries(p) for p in problems if p.difficulty == length)
        assert set(numbers) == set(range(length + 1 if sign == "+" else length))
        assert max(numbers.values()) - min(numbers.values()) <= length
    natural = first(Arithmetic(operations=sign, digits="4"), "train", BLOCK)
    assert Counter(carries(p) for p in natural)[4 if sign == "+" else 3] < BLOCK / 10


def test_pairs_with_given_carries_are_numbered_without_gaps() -> None:
    """Against brute force over all pairs of up to two digits, and of three with one."""
    for operation, sign in enumerate("+-"):
        for long in (1, 2, 3):
            for short in {1: (1,), 2: (1, 2), 3: (1,)}[long]:
                brute: dict[int, set[tuple[int, int]]] = defaultdict(set)
                for a in range(10 ** (long - 1) if long > 1 else 0, 10**long):
                    for b in range(10 ** (short - 1) if short > 1 else 0, 10**short):
                        if sign == "+" or a >= b:
                            brute[carries(Problem(Question("", f"{a}{sign}{b}="), Key("")))].add((a, b))
                for number, pairs in brute.items():
                    kind = np.array([[operation, long, short, number]])
                    assert pairs_with(kind)[0] == len(pairs)
                    a_, b_ = unrank(np.repeat(kind, len(pairs), axis=0), np.arange(len(pairs)))
                    assert set(zip(a_.tolist(), b_.tolist(), strict=True)) == pairs


@given(st.data())
def test_long_pairs_have_the_carries_they_are_asked_for(data: st.DataObject) -> None:
    operation, long = data.draw(st.integers(0, 1)), data.draw(st.integers(4, 9))
    kind = [operation, long, data.draw(st.integers(1, long)), data.draw(st.integers(0, long - operation))]
    rank = data.draw(st.integers(0, int(pairs_with(np.array([kind]))[0]) - 1))
    a, b = (int(n[0]) for n in unrank(np.array([kind]), np.array([rank])))
    problem = Problem(Question("", f"{a}{'+-'[operation]}{b}="), Key(""))
    assert [operation, len(str(a)), len(str(b)), carries(problem)] == kind and (operation == 0 or a >= b)


# Held-out streams


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("split", HELD_OUT)
def test_held_out_problems_are_distinct_and_prefixes_agree(mix: dict[str, Any], split: Split) -> None:
    task = Arithmetic(**mix)
    texts = [p.question.text for p in first(task, split, 1500, seed=2)]
    assert len(set(texts)) == len(texts)
    assert [p.question.text for p in first(task, split, 400, seed=2)] == texts[:400]
    window = task.problems(split, seed=2, start=350, count=300)
    assert [p.question.text for p in window] == texts[350:650]


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("count", [2000, 150])
def test_weights_sum_equally_by_length(mix: dict[str, Any], count: int) -> None:
    problems = first(Arithmetic(**mix), "test", count)
    counted = [p for p in problems if p.weight > 0]
    total: dict[tuple[int, str], float] = defaultdict(float)
    for problem in counted:
        total[problem.difficulty, operands(problem)[1]] += problem.weight
    assert np.allclose(list(total.values()), len(counted) / len(total))
    assert np.isclose(sum(p.weight for p in counted), len(counted))


def test_a_length_with_few_problems_is_used_up_and_weighted() -> None:
    problems = first(Arithmetic(), "test", 2000)
    one = [p for p in problems if p.difficulty == 1]
    every = [f"{a}+{b}=" for a in range(10) for b in range(10) if in_split("test", *np.array([[0], [a], [b]]))[0]]
    assert sorted(str(p.question.text) for p in one) == sorted(every)
    assert len(problems) == 2000
    assert np.isclose(sum(p.weight for p in one), 2000 / 3)
    number, weight = Counter[tuple[int, int]](), defaultdict[tuple[int, int], float](float)
    for problem in problems:
        a, _, b = operands(problem)
        number[problem.difficulty, len(str(min(a, b)))] += 1
        weight[problem.difficulty, len(str(min(a, b)))] += problem.weight
    for length in (1, 2, 3):  # within a length every length of the shorter operand has its share, used up or not
        shares = [weight[length, shorter] for shorter in range(1, length + 1)]
        assert np.allclose(shares, 2000 / 3 / length)
    assert max(number[3, n] for n in (1, 2, 3)) - min(number[3, n] for n in (1, 2, 3)) <= 1
    assert number[2, 1] < number[2, 2] / 2  # 11 to 99 with one digit: all there are


def test_a_finite_stream_ends_with_every_held_out_problem_given_once() -> None:
    problems = first(Arithmetic(digits="1-2"), "validation", 10**6)
    a, b = np.divmod(np.arange(10_000), 100)
    inside = in_split("validation", np.zeros(10_000, np.int64), a, b)
    assert {operands(p)[::2] for p in problems} == set(zip(a[inside].tolist(), b[inside].tolist(), strict=True))
    assert len(problems) == inside.sum()
    assert first(Arithmetic(digits="1-2"), "validation", 0) == []
    assert list(Arithmetic(digits="1-2").problems("validation", seed=0, start=10**5, count=5)) == []


@pytest.mark.parametrize("operation", ["+", "-"])
def test_balanced_held_out_streams_give_every_problem_once(operation: str) -> None:
    problems = first(Arithmetic(operations=operation, digits="1-2", carries="balanced"), "test", 10**6)
    a, b = np.divmod(np.arange(10_000), 100)
    inside = in_split("test", np.full(10_000, "+-".index(operation)), a, b)
    assert sorted(operands(p)[::2] for p in problems) == sorted(zip(a[inside].tolist(), b[inside].tolist(), strict=True))


def test_longer_lengths_are_in_the_test_only_and_weigh_nothing() -> None:
    task = Arithmetic(longer="4-5")
    for split in SPLITS:
        lengths = {p.difficulty for p in first(task, split, 500)}
        assert lengths == ({1, 2, 3, 4, 5} if split == "test" else {1, 2, 3})
    for problem in first(task, "test", 500):
        assert (problem.weight == 0) == (problem.difficulty > 3)
    assert first(task, "train", 50)[7].key == first(Arithmetic(), "train", 50)[7].key


# What people type


def test_parse() -> None:
    task = Arithmetic(operations="+x")
    assert task.parse("12+34") == task.parse("12+34=") == "12+34="
    assert task.parse("0x7") == "0x7="
    for bad in ("", "12", "12-3", "012+3", "12 + 3", "1+2+3", "12+34==", "1+", "a+b", "-1+2", "1٣+2", "12+34=\n"):
        with pytest.raises(ValueError, match=r"legal: .*12\+34=, 12x34="):
            task.parse(bad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operations": "*"}, r"task: operations: .*\+ - x.*'\*'"),
        ({"operations": ""}, "operations: "),
        ({"operations": "++"}, "each once"),
        ({"digits": "3-1"}, "digits: .* 1 to 18, got '3-1'"),
        ({"digits": "0-2"}, "digits: "),
        ({"digits": "two"}, "digits: "),
        ({"digits": "19"}, "1 to 18"),
        ({"digits": "10", "operations": "x"}, "1 to 9"),
        ({"digits": "10", "carries": "balanced"}, "1 to 9"),
        ({"operations": "+x", "carries": "balanced"}, "legal with x: natural"),
        ({"longer": "3"}, "longer: .* at least 4"),
        ({"longer": "many"}, "longer: "),
        ({"answer": "backwards"}, "task.answer: expected one of plain, reversed"),
        ({"digit": "3"}, "did you mean digits"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Arithmetic, settings, prefix="task")


@pytest.mark.parametrize("operations", ["+", "-", "x", "+-x"])
def test_default_updates_cost_at_most_2e10_flops(operations: str) -> None:
    """At 7e5 training FLOPs a token of size xs, with one thought a token (x2.24)."""
    for digits in (1, 2, 3, 4, 5, 9, 18)[: 6 if "x" in operations else 7]:
        task = Arithmetic(operations=operations, digits=str(digits))
        tokens = 2 * digits + 2 + (2 * digits if "x" in operations else digits + 1) + 1
        defaults = task.defaults()
        assert defaults["train.problems_per_update"] * tokens * 7e5 * 2.24 <= 2e10
        assert set(defaults) == {"model.size", "train.flops", "train.problems_per_update", "train.learning_rate"}


GOLDEN_TEST = ["04", "14", "23", "25", "29", "32", "40", "41", "52", "67", "76", "92"]
