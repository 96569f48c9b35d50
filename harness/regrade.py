"""Answers of records graded once more: the task makes the questions and keys again from its settings and the seed, and grades.

Every line must be of the question that stands at its place, with its key, difficulty and weight, and with the score that the task
gives to its answer; so must the candidates of a search. Texts and requests of lm-eval have no key to grade by and are counted as
not graded again. Knows records and tasks; loads no model, and cannot tell whether a model said an answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from harness import registry
from harness.plugin_spec import plugin_from_json
from harness.problem import Problem
from harness.records import Record
from harness.spec import canonical
from harness.summary import kind_of
from harness.task import Task

Line = dict[str, Any]
KEPT_EXAMINATIONS = 64  # their problems are kept: runs of one task and seed ask the same ones
GIVEN = ("id", "question", "key", "difficulty", "weight", "score")  # of a line: what its task gives
FACTS = itemgetter(*GIVEN)
FAULTS = (KeyError, TypeError, AttributeError, IndexError, ValueError)


@dataclass(frozen=True, slots=True)
class Regraded:
    """What came of one record. graded, ungraded: numbers of its lines; left_out: why answers that have a key were not graded."""

    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    graded: int = 0
    ungraded: int = 0


@dataclass(slots=True)
class _Examination:
    """The problems of a task, split and seed, and the grades that answers have got so far."""

    task: Task
    problems: Sequence[Problem]
    grades: dict[tuple[int, str | None], float] = field(default_factory=dict)
    votes: dict[str, str] = field(default_factory=dict)

    def grade(self, at: int, answer: str | None) -> float:
        key = (at, answer)
        found = self.grades.get(key)
        if found is None:
            found = self.grades[key] = self.task.grade(self.problems[at], answer)
        return found

    def vote(self, answer: str) -> str:
        if answer not in self.votes:
            self.votes[answer] = self.task.canonical(answer)
        return self.votes[answer]


class Regrader:
    """Grades the answers of many records; what several of them need is made once.

    trust_plugins: whether the code of a task to which only a record points may be run.
    """

    def __init__(self, *, trust_plugins: bool = False) -> None:
        self._trust_plugins = trust_plugins
        self._made: OrderedDict[str, _Examination] = OrderedDict()

    def regrade(self, record: Record, lines: Sequence[Line]) -> Regraded:
        """Grade a record's lines again."""
        try:
            kind = registry.find("task", record["spec"]["task"]["name"], trust_plugins=self._trust_plugins).kind
            if kind != "questions":
                return Regraded(tuple(_of_kind(kind, lines)), ungraded=len(lines))
            made = self._examination(record["spec"])
        except ValueError as error:  # its plugin or its data are not here, or not to be trusted
            return Regraded(left_out=(f"answers were not graded again: {error}",), ungraded=len(lines))
        except Exception as error:  # of whatever kind: a task is anybody's code
            reason = f"answers were not graded again, its task raised {type(error).__name__}: {error}"
            return Regraded(left_out=(reason,), ungraded=len(lines))
        wrong = list(_of_kind(kind, lines))
        if len(lines) != len(made.problems):
            wrong.append(f"problems.jsonl has {len(lines):,} lines, its task asks {len(made.problems):,} problems")
        for at, line in enumerate(lines[: len(made.problems)]):
            wrong += _differences(made, at, line)
        return Regraded(tuple(wrong), graded=len(lines))

    def _examination(self, spec: Mapping[str, Any]) -> _Examination:
        """The problems that a run asked."""
        infer, seed = spec["infer"], spec["seed"]
        key = canonical([spec["task"], infer["split"], infer["problems"], seed])
        if key not in self._made:
            task: Task = plugin_from_json("task", spec["task"], prefix="task", trust_plugins=self._trust_plugins)
            problems = list(task.problems(infer["split"], seed=seed, start=0, count=infer["problems"]))
            self._made[key] = _Examination(task, problems)
        self._made.move_to_end(key)
        while len(self._made) > KEPT_EXAMINATIONS:
            self._made.popitem(last=False)
        return self._made[key]


def _of_kind(kind: str, lines: Sequence[Line]) -> Iterator[str]:
    """Lines of another kind than the task's: they would be summed up by other metrics."""
    others = [line.get("id") for line in lines if kind_of(line) != kind]
    if others:
        yield f"problem {others[0]!r}: its line is not of the kind {kind}, which its task asks ({len(others):,} such lines)"


def _differences(made: _Examination, at: int, line: Line) -> Iterator[str]:
    """Where a line says other than the task."""
    problem = made.problems[at]
    question = problem.question
    try:
        score = made.grade(at, line["answer"])
        again = (question.id, question.text, problem.key.answer, problem.difficulty, problem.weight, score)
        if FACTS(line) != again:
            for name, value in zip(GIVEN, again, strict=True):
                if line[name] != value:
                    yield f"problem {line['id']!r}: {name}: its line has {line[name]!r}, its task gives {value!r}"
        if line["candidates"] is not None:
            yield from _candidate_differences(made, at, line)
    except FAULTS as error:
        yield f"problem {problem.question.id!r}: its line cannot be graded: {type(error).__name__}: {error}"


def _candidate_differences(made: _Examination, at: int, line: Line) -> Iterator[str]:
    """Where the candidates of a search have other grades than the task gives, or vote together otherwise."""
    candidates = line["candidates"]
    answers, recorded = candidates["answers"], candidates["scores"]
    scores = {node: made.grade(at, answer) for node, answer in answers.items()}
    if recorded != scores:
        wrong = sorted(node for node in scores | recorded if scores.get(node) != recorded.get(node))
        yield (
            f"problem {line['id']!r}: candidates.scores: its line has {recorded.get(wrong[0])!r} for node {wrong[0]}, its task "
            f"gives {scores.get(wrong[0])!r} ({len(wrong):,} nodes differ)"
        )
    votes = {node: made.vote(answer) for node, answer in answers.items() if answer is not None}
    if candidates["votes"] != votes and _groups(candidates["votes"]) != _groups(votes):
        yield f"problem {line['id']!r}: candidates.votes: its line counts other answers together than its task does"


def _groups(votes: Mapping[str, str]) -> set[frozenset[str]]:
    """The nodes that vote together: forms count by being equal alone, and a task may come to write them otherwise."""
    groups: dict[str, set[str]] = {}
    for node, form in votes.items():
        groups.setdefault(form, set()).add(node)
    return {frozenset(nodes) for nodes in groups.values()}
