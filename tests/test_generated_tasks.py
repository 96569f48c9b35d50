"""Tasks of drawn problems: right by solvers of another kind, split by content, in equal shares."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.alphabet import make_alphabet
from harness.settings import build
from harness.task import SPLITS
from tasks._generated import BLOCK, belongs, content_hash, whole_range

LETTERS = "abcdefghijklmnopqrstuvwxyz"
S3 = dict(zip("abcdef", ("abc", "acb", "bac", "bca", "cab", "cba"), strict=True))


def hop(question, fields):
    images, rest = question.split(":")
    assert sorted(images) == list(LETTERS[: int(fields.get("elements", 10))])
    at, goes = rest[-1], dict(zip(LETTERS, images, strict=False))
    said = []
    for _ in range(int(rest[:-1])):
        said.append(at + goes[at])
        at = goes[at]
    return at, said, int(rest[:-1])


def add(question, fields):
    numbers, m = [int(n) for n in question[:-1].split("+")], int(fields.get("modulus", 10))
    assert all(0 <= n < m for n in numbers)
    partial = [sum(numbers[: i + 1]) % m for i in range(len(numbers))]
    said = [f"{partial[i]}+{numbers[i + 1]}={partial[i + 1]}" for i in range(len(numbers) - 1)]
    return str(sum(numbers) % m), said, len(numbers)


def step(question, fields):
    m = int(fields.get("modulus", 3))
    whole, said = question[:-1], []
    length = len(re.findall(r"[-+x]", whole))
    while found := re.match(r"(\d+)([-+x])(\d+)", whole):  # rewrite the leftmost operation until a number is left
        a, sign, b = int(found[1]), found[2], int(found[3])
        assert a < m and b < m
        value = divmod({"+": a + b, "-": a - b, "x": a * b}[sign], m)[1]
        said.append(f"{a}{sign}{b}={value}")
        whole = f"{value}{whole[found.end() :]}"
    return whole, said, length


def odd(question, fields):
    bits = question[:-1]
    said = [f"{LETTERS[i]}{bit}>{bits[: i + 1].count('1') % 2}" for i, bit in enumerate(bits)]
    return str(bits.count("1") % 2), said, len(bits)


def compose(question, fields):
    spelled = fields.get("group", "S3") == "S5"
    word = question[:-1].split(".") if spelled else [S3[c] for c in question[:-1]]
    name = (lambda g: g) if spelled else {v: k for k, v in S3.items()}.get
    assert all(sorted(g) == list("abcde" if spelled else "abc") for g in word)
    products = [reduce(lambda g, h: "".join(h[LETTERS.index(c)] for c in g), word[: i + 1]) for i in range(len(word))]
    joint = "." if spelled else ""
    said = [f"{name(g)}{joint}{name(h)}>{name(gh)}" for g, h, gh in zip(products, word[1:], products[1:], strict=False)]
    return name(products[-1]), said, len(word)


CASES = [
    ("k_hop", {}, hop),
    ("k_hop", {"elements": "8", "hops": "2-5", "mix": "equal"}, hop),
    ("k_hop", {"elements": "26", "hops": "25"}, hop),
    ("modular_sum", {}, add),
    ("modular_sum", {"modulus": "13", "numbers": "2-12"}, add),
    ("multi_step", {}, step),
    ("multi_step", {"modulus": "12", "operations": "x+", "lengths": "1-2"}, step),
    ("multi_step", {"modulus": "2", "operations": "-", "lengths": "3-24"}, step),
    ("parity", {}, odd),
    ("parity", {"lengths": "1-26"}, odd),
    ("permutations", {}, compose),
    ("permutations", {"factors": "2-16"}, compose),
    ("permutations", {"group": "S5", "factors": "2-6"}, compose),
]
SMALL = [("k_hop", {"elements": "6", "hops": "1-3"}), ("modular_sum", {"modulus": "7", "numbers": "2-3"}),
         ("multi_step", {"modulus": "3", "lengths": "1-2"}), ("parity", {"lengths": "1-8"}),
         ("permutations", {"factors": "2-4"})]  # fmt: skip


def made(name, fields=None):
    return build(registry.find("task", name), fields or {}, prefix="task")


def texts(problems):
    return [p.question.text for p in problems]


@pytest.mark.parametrize(("name", "fields", "solve"), CASES)
def test_answers_lines_and_caps_are_right(name, fields, solve):
    task, alphabet = made(name, fields), make_alphabet(made(name, fields).alphabet())
    drawn = [*task.problems("train", seed=3, start=0, count=1000), *task.problems("test", seed=3, start=0, count=200)]
    longest = 0
    for p in drawn:
        answer, said, difficulty = solve(p.question.text, fields)
        assert (p.key.answer, list(p.key.lines), p.difficulty) == (answer, said, difficulty)
        assert p.key.lines[-1].endswith(answer) and not any(";" in line for line in said)
        lines = len(alphabet.encode(";".join(p.key.lines))) + 1
        assert lines <= p.question.lines_cap_tokens
        assert len(alphabet.encode(answer)) + 1 <= p.question.answer_cap_tokens
        assert task.parse(p.question.text) == task.parse(p.question.text.rstrip("=")) == p.question.text
        assert task.grade(p, answer) == 1.0 and task.grade(p, answer + "0") == 0.0
        longest = max(longest, lines)
    if (name, fields.get("modulus")) != ("modular_sum", "13"):  # its longest lines are too rare to be drawn
        assert longest == p.question.lines_cap_tokens


@pytest.mark.parametrize(("name", "fields", "solve"), CASES)
def test_streams_are_functions_of_seed_and_index(name, fields, solve):
    task = made(name, fields)
    for split in SPLITS:
        whole = task.problems(split, seed=1, start=0, count=90)
        assert [p.question.text for p in task.problems(split, seed=2, start=0, count=90)] != texts(whole)
        for start, count in ((0, 8), (13, 20), (89, 1)):
            part = task.problems(split, seed=1, start=start, count=count)
            assert [replace(p, weight=1.0) for p in part] == [replace(p, weight=1.0) for p in whole[start : start + count]]
        assert task.problems(split, seed=1, start=5, count=0) == []
    border = task.problems("train", seed=0, start=BLOCK - 3, count=6)
    assert [p for i in range(6) for p in task.problems("train", seed=0, start=BLOCK - 3 + i, count=1)] == border
    turns = list(task.turns())
    assert [p.difficulty for p in border] == [turns[i % len(turns)] for i in range(BLOCK - 3, BLOCK + 3)]


@pytest.mark.parametrize(("name", "fields"), SMALL)
def test_small_tasks_are_split_without_overlap_or_loss(name, fields):
    task = made(name, fields)
    held = {s: texts(task.problems(s, seed=0, start=0, count=10**6)) for s in SPLITS[1:]}
    for split, found in held.items():
        assert len(set(found)) == len(found) > 0
        assert sorted(found) == sorted(texts(task.problems(split, seed=7, start=0, count=10**6)))  # whatever the seed
        assert task.problems(split, seed=0, start=len(found), count=5) == []
    train = set(texts(task.problems("train", seed=0, start=0, count=12 * BLOCK, lines=False)))
    everything = [*train, *(t for found in held.values() for t in found)]
    assert len(set(everything)) == len(everything) == sum(task.distinct(level) for level in task.levels())


def test_levels_too_large_to_list_end_after_a_quarter_without_repetition():
    found = texts(made("parity", {"lengths": "18"}).problems("test", seed=0, start=0, count=10**6, lines=False))
    assert len(found) == 2**18 // 40 == len(set(found))
    train = texts(made("parity", {"lengths": "18"}).problems("train", seed=0, start=0, count=2 * BLOCK, lines=False))
    assert set(found).isdisjoint(train)


@pytest.mark.parametrize(("name", "fields", "solve"), CASES)
def test_shares_of_splits_and_levels(name, fields, solve):
    task = made(name, fields)
    rng, level = np.random.default_rng(0), max(task.levels())
    levels = np.full(20_000, level)
    content = task.content(levels, task.draw(rng, levels))
    shares = [belongs(split, content) for split in SPLITS]
    assert np.all(np.sum(shares, axis=0) == 1)
    distinct = len(np.unique(content, axis=0))
    for share, wanted in zip(shares, (0.8, 0.05, 0.05, 0.1), strict=True):
        assert share.mean() == pytest.approx(wanted, abs=5 * math.sqrt(wanted * (1 - wanted) / distinct))
    for count in (50, 997):
        problems = task.problems("test", seed=0, start=11, count=count)
        sums = defaultdict(float)
        for p in problems:
            sums[p.difficulty] += p.weight
        assert sum(sums.values()) == pytest.approx(len(problems))
        assert list(sums.values()) == pytest.approx([len(problems) / len(sums)] * len(sums))
    train = Counter(p.difficulty for p in task.problems("train", seed=0, start=0, count=50 * len(task.turns())))
    assert train == {level: 50 * task.turns().count(level) for level in task.levels()}


def test_easy_hops_have_larger_shares_in_training_if_wanted():
    assert Counter(made("k_hop", {"mix": "easy"}).turns()) == {1: 8, 2: 4, 3: 3, 4: 2, 5: 2, 6: 1, 7: 1, 8: 1}
    assert list(made("k_hop", {"mix": "equal"}).turns()) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("multi_step", {"lengths": "1-4"}, {"lengths": "3-9", "operations": "x-+"}),
        ("parity", {"lengths": "8-12"}, {"lengths": "12-20"}),
        ("modular_sum", {"numbers": "2-4"}, {"numbers": "3-8"}),
        ("permutations", {"factors": "2-5"}, {"factors": "4-9"}),
        ("k_hop", {"elements": "6", "hops": "1-3"}, {"elements": "6", "hops": "2-5"}),
    ],
)
def test_a_problem_stays_in_its_split_when_the_range_changes(name, one, other):
    held = set(texts(made(name, one).problems("test", seed=0, start=0, count=4000)))
    train = texts(made(name, other).problems("train", seed=0, start=0, count=3 * BLOCK, lines=False))
    assert held.isdisjoint(train)


@pytest.mark.parametrize(
    ("name", "fields", "part", "joint", "first"),  # a question's parts, and how many of them make a beginning that counts
    [
        ("multi_step", {"lengths": "1-6"}, r"^[0-9]|[-+x][0-9]", "", 4),
        ("parity", {"lengths": "8-14"}, "[01]", "", 10),
        ("permutations", {"factors": "2-7"}, "[a-f]", "", 4),
        ("modular_sum", {"numbers": "2-7"}, "[0-9]", "+", 5),
    ],
)
def test_lines_of_training_problems_state_no_held_out_problem(name, fields, part, joint, first):
    """A chain's lines answer its beginnings too; all that are long enough to be many must be of the train split."""
    task = made(name, fields)
    held = {t for s in SPLITS[1:] for t in texts(task.problems(s, seed=0, start=0, count=4000))}
    whole = [re.findall(part, t) for t in texts(task.problems("train", seed=0, start=0, count=10_000, lines=False))]
    stated = {joint.join(parts[:n]) + "=" for parts in whole for n in range(first, len(parts))}
    assert len(stated) > 500 and held.isdisjoint(stated)


def test_a_permutation_of_k_hop_is_in_one_split_with_all_its_hops():
    task = made("k_hop", {"elements": "7", "hops": "1-6"})
    owner: dict[str, str] = {}
    for split in SPLITS:
        for text in texts(task.problems(split, seed=0, start=0, count=8000)):
            assert owner.setdefault(text.split(":")[0], split) == split
    assert len(owner) == math.factorial(6)  # every one a single cycle


def test_empty_columns_do_not_change_a_hash():
    rows = np.array([[3, 1, 4], [3, 1, 0]])
    padded = np.concatenate([rows, np.full((2, 5), -1)], axis=1)
    assert np.array_equal(content_hash(rows), content_hash(padded))
    assert len(np.unique(content_hash(np.array([[3, 1, -1], [3, 1, 0], [1, 3, 0], [0, 3, 1]])))) == 4


@given(low=st.integers(0, 30), span=st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_ranges(low, span):
    text = f"{low}-{low + span}" if span else str(low)
    assert whole_range("hops", text, low=low, high=60) == range(low, low + span + 1)
    with pytest.raises(ValueError, match=rf"^hops: .*from {low + 1} to 60"):
        whole_range("hops", text, low=low + 1, high=60)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("k_hop", {"hops": "1-10"}, "hops: expected a number or a range"),
        ("k_hop", {"elements": "5"}, "task.elements: expected a whole number from 6 to 26"),
        ("modular_sum", {"numbers": "5-2"}, "numbers: expected a number or a range"),
        ("modular_sum", {"modulus": "2", "numbers": "2-3"}, "too few for four splits"),
        ("multi_step", {"operations": "+/"}, "operations: expected one or more of"),
        ("multi_step", {"operations": ""}, "operations: expected one or more of"),
        ("multi_step", {"lengths": "0-3"}, "lengths: expected a number or a range"),
        ("parity", {"lengths": "1-5"}, "only 32 different problems"),
        ("parity", {"lengths": "a"}, "lengths: expected a number or a range"),
        ("permutations", {"group": "S4"}, "one of S3, S5"),
        ("permutations", {"group": "S5", "factors": "2-11"}, "here from 2 to 10"),
    ],
)
def test_bad_settings_are_one_clear_error(name, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        made(name, fields)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("task")


@pytest.mark.parametrize(
    ("name", "bad"),
    [("k_hop", ["abc:1a", "bcdefghija:1k", "bcdefghijj:1a", "bcdefghija:01a", "bcdefghija:a"]),
     ("modular_sum", ["3", "3+10=", "3+04=", "3-4=", "", "3++4"]), ("multi_step", ["2", "2+3=", "2/1=", "02+1=", "2+1==", ""]),
     ("parity", ["", "=", "012=", "01=="]), ("permutations", ["a", "ag=", "a.b=", ""])],
)  # fmt: skip
def test_bad_questions_are_refused(name, bad):
    for text in bad:
        with pytest.raises(ValueError, match="not a question of this task"):
            made(name).parse(text)
