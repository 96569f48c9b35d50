"""Checks of tasks: splits that repeat and do not touch, grades, caps and alphabets that are true.

Knows problems and documents; knows no model.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.checks.context import Context, NotApplicable
from harness.problem import Document, Problem, Tokens
from harness.summary import metrics
from harness.task import SPLITS, Split

MANY = 300


def _problems(context: Context, split: Split, *, seed: int = 0, count: int = MANY, start: int = 0) -> list[Problem]:
    if context.task.kind != "questions":
        raise NotApplicable("it poses no questions")
    return list(context.task.problems(split, seed=seed, start=start, count=count))


def _documents(context: Context, split: Split) -> list[Document]:
    if context.task.kind != "documents":
        raise NotApplicable("it holds no documents")
    return list(context.task.documents(split))


def problems_repeat(context: Context) -> None:
    """A problem is a function of settings, split, seed and index: asking again, or for a slice, gives the same ones."""
    for split in SPLITS:
        whole = _problems(context, split, count=40)
        mend = f"{split} problems must depend on settings, split, seed and index alone: derive a generator from those"
        assert _problems(context, split, count=40) == whole, mend
        for start, count in ((0, 7), (3, 11), (len(whole) - 2, 2)):
            part = _problems(context, split, start=start, count=count)
            assert _weightless(part) == _weightless(whole[start : start + count]), (
                f"problems {start}..{start + count - 1} differ in a slice: {mend}"
            )
        bare = list(context.task.problems(split, seed=0, start=0, count=40, lines=False))
        without = [dataclasses.replace(p, key=dataclasses.replace(p.key, lines=())) for p in whole]
        assert bare == without, "lines=False must leave Key.lines empty and nothing else changed"


def _weightless(problems: list[Problem]) -> list[Problem]:
    """Weights are shares of what is asked, so they may differ in a slice."""
    return [dataclasses.replace(p, weight=1.0) for p in problems]


def splits_disjoint(context: Context) -> None:
    """No question is in two splits, whatever the seeds, and held-out questions are distinct."""
    asked: dict[Any, Split] = {}
    for split in SPLITS:
        for seed in (0, 1):
            found = [p.question.text for p in _problems(context, split, seed=seed)]
            assert found, f"the {split} split is empty: every split wants problems"
            if split != "train":
                assert len(set(found)) == len(found), f"the {split} split asks a question twice: draw without repetition"
            both = [text for text in found if asked.setdefault(text, split) != split]
            assert not both, (
                f"{both[0]!r} is in {asked[both[0]]} and in {split}: assign each question to one split by a hash of its content"
            )


def grades(context: Context) -> None:
    """The key is right; nothing, and no answer, is wrong."""
    for problem in _problems(context, "test", count=50):
        key = problem.key.answer
        assert isinstance(key, str) and key, f"the key of {problem.question.text!r} is {key!r}: give text that is not empty"
        assert context.task.grade(problem, key) == 1.0, f"grade gives its own key {key!r} less than 1: compare what is meant"
        for nothing in ("", None):
            grade = context.task.grade(problem, nothing)
            assert grade == 0.0, f"grade({nothing!r}) is {grade} for {problem.question.text!r}: no answer is worth 0"


def worked_lines_end_in_answer(context: Context) -> None:
    """If worked lines are offered, every problem has them and the last one ends in the answer."""
    if "worked_lines" not in context.task.offers():
        raise NotApplicable("it offers no worked lines")
    for problem in _problems(context, "train", count=50):
        lines, key = problem.key.lines, str(problem.key.answer)
        assert lines, f"{problem.question.text!r} has no worked lines: give Key.lines, or do not offer 'worked_lines'"
        assert lines[-1].rstrip().endswith(key.strip()), f"the last line {lines[-1]!r} must end in the answer {key!r}"


def floor_reported(context: Context) -> None:
    """The score of the best constant answer can be told: some test problem counts in the mean, and weights are not negative."""
    problems = _problems(context, "test", count=MANY)
    assert min(p.weight for p in problems) >= 0, "weights of problems must not be negative"
    lines: list[dict[str, Any]] = [
        {"key": p.key.answer, "weight": p.weight, "score": context.task.grade(p, None), "nats": 1.0, "targets": 1}
        for p in problems
    ]
    floor = metrics(lines, kind=context.task.kind, outputs=2)["accuracy"]["floor"]
    assert floor is not None and 0 < floor <= 1, "no test problem counts in the mean: give some of them a weight above 0"


def caps_are_bounds(context: Context) -> None:
    """answer_cap_tokens and lines_cap_tokens hold every answer and every problem's worked lines, each with what ends it."""
    for split in SPLITS:
        for problem in _problems(context, split, count=100):
            question = problem.question
            answer = len(context.alphabet.encode(str(problem.key.answer))) + 1
            assert answer <= question.answer_cap_tokens, (
                f"the answer {problem.key.answer!r} takes {answer} tokens with its end, answer_cap_tokens is "
                f"{question.answer_cap_tokens}: raise it to the longest answer that any problem can have"
            )
            lines = sum(len(context.alphabet.encode(line)) + 1 for line in problem.key.lines)
            assert lines <= question.lines_cap_tokens, (
                f"the worked lines of {question.text!r} take {lines} tokens with their ends, lines_cap_tokens is "
                f"{question.lines_cap_tokens}: raise it to the longest lines that any problem can have"
            )


def alphabet_spells_all(context: Context) -> None:
    """The task's alphabet encodes every text and gives it back."""
    if context.task.kind == "questions":
        some = [p for split in SPLITS for p in _problems(context, split, count=50)]
        texts = [str(t) for p in some for t in (p.question.text, p.key.answer, *p.key.lines) if not isinstance(t, Tokens)]
    else:
        texts = [d.text for split in SPLITS for d in _documents(context, split)[:5]]
    for text in texts:
        try:
            again = context.alphabet.pieces(context.alphabet.encode(text).tolist())
        except ValueError as error:
            raise AssertionError(f"alphabet() cannot encode {text[:60]!r}: {error}") from None
        assert "".join(map(str, again)) == text, (
            f"alphabet() does not give {text[:60]!r} back: use bytes, or name every character"
        )


def parse_knows_its_questions(context: Context) -> None:
    """A question of the task, typed as it stands, is understood as itself."""
    for problem in _problems(context, "test", count=20):
        text = problem.question.text
        if isinstance(text, str):
            assert context.task.parse(text) == text, (
                f"parse({text!r}) gives {context.task.parse(text)!r}; leave prompts as they are"
            )


def documents_disjoint(context: Context) -> None:
    """Every split has documents, none is empty, none is in two splits, and they come in a fixed order."""
    owner: dict[str, Split] = {}
    for split in SPLITS:
        found = _documents(context, split)
        assert found, f"the {split} split holds no documents"
        assert found == _documents(context, split), f"the {split} documents come in another order the second time: sort them"
        for document in found:
            assert document.text.strip(), f"document {document.id!r} is empty: leave it out"
            first = owner.setdefault(document.text, split)
            assert first == split, f"document {document.id!r} is in {first} and in {split}: split by a hash of the content"
