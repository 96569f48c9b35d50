"""The task `file`: rows are read as written, splits are sound, errors name file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.problem import Problem
from harness.task import SPLITS, Split
from tasks._epochs import endless
from tasks.file import File

ROWS = [{"question": f"Capital {i}?", "answer": f"City {i}", "steps": [f"It is {i}.", f"So: City {i}"]} for i in range(100)]


def made(folder: Path, rows: list[Any], **settings: Any) -> File:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return File(path=str(path), **settings)


def all_of(task: File, split: Split, seed: int = 0, count: int = 1000) -> list[Problem]:
    return list(task.problems(split, seed=seed, start=0, count=count))


def asked(problems: list[Problem]) -> list[str]:
    return [str(p.question.text) for p in problems]


def test_every_row_is_in_one_split_and_no_split_is_empty(tmp_path: Path) -> None:
    task = made(tmp_path, ROWS)
    held_out = {split: asked(all_of(task, split)) for split in SPLITS[1:]}
    assert {split: len(x) for split, x in held_out.items()} == {"value": 5, "validation": 5, "test": 10}
    train = asked(all_of(task, "train", count=80))
    assert sorted([*train, *(q for x in held_out.values() for q in x)]) == sorted(str(r["question"]) for r in ROWS)
    assert task.provenance()["questions"] == {"train": 80, "value": 5, "validation": 5, "test": 10}


def test_splits_ignore_seed_and_order(tmp_path: Path) -> None:
    task, other = made(tmp_path, ROWS), tmp_path / "other"
    other.mkdir()
    for split in SPLITS[1:]:
        assert asked(all_of(task, split)) == asked(all_of(task, split, seed=9)) == asked(all_of(made(other, ROWS[::-1]), split))


def test_the_train_stream_permutes_every_epoch(tmp_path: Path) -> None:
    task = made(tmp_path, ROWS)
    stream = asked(all_of(task, "train", count=240))
    epochs = [stream[i : i + 80] for i in (0, 80, 160)]
    assert len({tuple(sorted(e)) for e in epochs}) == 1 and len(set(epochs[0])) == 80
    assert epochs[0] != epochs[1] and asked(all_of(task, "train", seed=1, count=80)) != epochs[0]


@given(st.integers(1, 7), st.integers(0, 30), st.integers(0, 30))
def test_the_train_stream_does_not_depend_on_how_it_is_asked_for(size: int, start: int, count: int) -> None:
    assert endless(size, 3, start, count) == endless(size, 3, 0, 60)[start : start + count]


def test_held_out_windows(tmp_path: Path) -> None:
    task = made(tmp_path, ROWS)
    assert list(task.problems("test", seed=0, start=4, count=3)) == all_of(task, "test")[4:7]
    assert list(task.problems("test", seed=0, start=10, count=3)) == []


def test_rows_become_problems(tmp_path: Path) -> None:
    rows = [
        {"q": "2+2?", "a": 4, "why": "two and two\n\nmakes 4", "split": "train", "difficulty": 2},
        {"q": "ü?", "a": "é" * 9, "why": ["so"], "split": "train"},
        *({"q": f"{i}?", "a": "x", "why": ["x"], "split": s} for i, s in enumerate(SPLITS[1:])),
    ]
    task = made(tmp_path, rows, question_key="q", answer_key="a", steps_key="why")
    problems = {p.question.text: p for p in all_of(task, "train", count=2)}
    assert problems["2+2?"].key.answer == "4" and problems["2+2?"].difficulty == 2
    assert problems["2+2?"].key.lines == ("two and two", "makes 4") and problems["2+2?"].question.id == "1"
    assert problems["ü?"].key.lines == ("so", "é" * 9) and problems["ü?"].difficulty == 0
    assert problems["2+2?"].question.answer_cap_tokens == 18 + 1  # bytes of the longest answer in the file, and the end
    assert problems["2+2?"].question.lines_cap_tokens == 21 + 1
    assert asked(all_of(task, "validation")) == ["1?"]
    assert not task.problems("train", seed=0, start=0, count=1, lines=False)[0].key.lines


def test_worked_lines_are_offered_if_every_row_has_them(tmp_path: Path) -> None:
    assert made(tmp_path, ROWS).offers() == {"prompt", "worked_lines"}
    bare = [{k: v for k, v in row.items() if k != "steps"} for row in ROWS[:1]]
    assert made(tmp_path, [*bare, *ROWS[1:]]).offers() == {"prompt"}
    assert made(tmp_path, [{**ROWS[0], "steps": " \n"}, *ROWS[1:]]).offers() == {"prompt"}


def test_named_splits_stay_and_missing_ones_are_cut_from_train(tmp_path: Path) -> None:
    rows = [{**row, "split": "test" if i < 30 else "train"} for i, row in enumerate(ROWS)]
    task = made(tmp_path, rows)
    assert sorted(asked(all_of(task, "test"))) == sorted(str(r["question"]) for r in ROWS[:30])
    assert len(all_of(task, "validation")) == 4 and len(all_of(task, "value")) == 4


def test_repetitions_are_dropped_and_told(tmp_path: Path) -> None:
    task = made(tmp_path, [*ROWS, {**ROWS[3], "question": " Capital 3? "}])
    assert task.provenance()["duplicates_dropped"] == 1
    assert sum(task.provenance()["questions"].values()) == 100


def test_grade_leaves_out_blanks_around_the_answer(tmp_path: Path) -> None:
    task = made(tmp_path, [{**row, "answer": f" {row['answer']}\n"} for row in ROWS])
    problem = all_of(task, "test")[0]
    right = str(problem.key.answer).strip()
    assert [task.grade(problem, a) for a in (right, f"\t{right} ", right.lower(), right.replace(" ", ""), "", None)] == [
        1,
        1,
        0,
        0,
        0,
        0,
    ]


GOOD = json.dumps(ROWS[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "a", ', r"rows.jsonl:3: not JSON"),
        ("[1]", r"rows.jsonl:3: wants a JSON object, got list"),
        ('{"question": "a"}', r"rows.jsonl:3: no 'answer'; the row has 'question'"),
        ('{"question": "a", "answer": 0.5}', r"rows.jsonl:3: 'answer' wants text"),
        ('{"question": " ", "answer": "b"}', r"rows.jsonl:3: 'question' wants text"),
        ('{"question": "a", "answer": "b", "steps": 3}', r"rows.jsonl:3: 'steps' wants a list"),
        ('{"question": "a", "answer": "b", "difficulty": "hard"}', r"rows.jsonl:3: difficulty wants a whole number, got 'hard'"),
        ('{"question": "a", "answer": "b", "split": "dev"}', r"rows.jsonl:3: unknown split 'dev'; legal: train, value"),
        ('{"question": "a", "answer": "b", "split": "test"}', r"rows.jsonl:1 names no split, line 3 does"),
        ('{"question": "Capital 0? ", "answer": "b"}', r"lines 1 and 3 ask the same and answer differently"),
        ('{"question": "a", "answer": "\\ud800"}', r"rows.jsonl:3: 'answer' holds half of a surrogate pair"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^task.path: .*" + message):
        made(tmp_path, [GOOD, "", line]).problems("train", seed=0, start=0, count=1)


def test_one_question_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "split": "train"}, {**ROWS[0], "split": "test"}]
    with pytest.raises(ValueError, match=r"^task.path: .* lines 1 and 2 put one question into two splits"):
        made(tmp_path, rows).offers()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"f\.jsonl' has too few questions"),
        (b"\xff\xfe", r"f\.jsonl' is not UTF-8"),
        (None, r"cannot read .*f\.jsonl': No such file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "f.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^task\.path: .*" + message):
        File(path=str(path)).problems("train", seed=0, start=0, count=1)


def test_without_a_file_it_can_be_listed_but_not_used() -> None:
    task = File()
    assert task.offers() == {"prompt"} and task.alphabet() == "bytes" and task.defaults()["model.size"] == "s"
    with pytest.raises(ValueError, match=r"^task.path: .*--set task.path="):
        task.problems("train", seed=0, start=0, count=1)
