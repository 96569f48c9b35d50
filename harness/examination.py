"""What a run asks: of each problem or document its jobs, and how their outcomes make a line; who answers wants about a question.

Knows tasks, strategies and lines; runs nothing. Requests of others are in `harness.inquiries`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from harness.backbone import Backbone
from harness.decoder import cells_per_token
from harness.documents import rolling_windows
from harness.jobs import Job, Library, Outcome
from harness.lines import Line, document_line, question_line
from harness.meter import other_conventions
from harness.problem import END, Document, Piece, Problem, Question, Text, Tokens
from harness.search_wants import Canonical, Check, Foresee, Forms
from harness.seeds import derive
from harness.spec import RunSpec
from harness.strategy import Strategy
from harness.stream import encode, opened
from harness.task import Task
from harness.trace import FACTS
from harness.wants import Examples, Judge, Reveal


@dataclass(frozen=True, slots=True)
class Examination:
    """What is asked: ids of the problems in order, the jobs of each, and how their outcomes make a line.

    solves: the first job is the strategy's asking, those behind it are instruments; else all are its asking.
    """

    ids: list[str]
    jobs: Callable[[int], list[Job]]
    line: Callable[[int, list[Outcome]], Line]
    solves: bool


def asked_problems(spec: RunSpec) -> list[Problem]:
    """The problems that a run asks, in order."""
    return list(spec.task.problems(spec.infer.split, seed=spec.seed, start=0, count=spec.infer.problems))


Sizes = Callable[[Strategy, Question, Text], tuple[int, int]]  # who asks, and what may be scored -> rows and cells of the job


def sizes_of(backbone: Backbone, *, bounded: bool) -> Sizes:
    """How much a problem holds at most. bounded: cells are worked out too, which takes the encoding of its prompt."""
    alphabet, each = backbone.alphabet, cells_per_token(backbone.strategy)

    def sizes(strategy: Strategy, question: Question, scored: Text) -> tuple[int, int]:
        held = strategy.holding(question)
        if not bounded:
            return held.rows, 0
        given = encode([opened(strategy.prompt(question), alphabet), scored], alphabet)
        texts = np.bincount(given.row[given.ids < alphabet.sayable_end], minlength=2).tolist()
        text_tokens = backbone.context_tokens
        if held.said_tokens is not None:
            text_tokens = min(text_tokens, texts[0] + max(held.said_tokens + 1, texts[1] + 1 + question.lines_cap_tokens))
        return held.rows, each * (text_tokens + held.inserted + int((given.ids >= alphabet.sayable_end).sum()))

    return sizes


def of_questions(spec: RunSpec, backbone: Backbone, problems: list[Problem], sizes: Sizes) -> Examination:
    """Two jobs a problem: to solve it, and, as an instrument that costs the strategy nothing, the likelihood of the key."""
    strategy, examples = spec.strategy, library_of(spec)
    cap_flops = math.inf if spec.infer.cap_flops is None else spec.infer.cap_flops

    def jobs(index: int) -> list[Job]:
        problem = problems[index]
        question, gold = problem.question, gold_text(problem)
        seed = derive(spec.seed, "ask", question.id)
        oracle, referee = oracle_of(spec.task, problem), referee_of(spec.task, question)
        held, scored = sizes(strategy, question, gold), sizes(strategy.learner(), question, gold)
        return [
            Job(f"{index}/0", lambda: strategy.solve(question), seed, cap_flops, oracle, examples, referee, *held),
            Job(f"{index}/1", lambda: strategy.score(question, (gold,)), seed, math.inf, oracle, examples, referee, *scored),
        ]

    def line(index: int, outcomes: list[Outcome]) -> Line:
        return question_line(spec.task, problems[index], outcomes[0], outcomes[1]) | conventions_of(backbone, outcomes[:1])

    return Examination([p.question.id for p in problems], jobs, line, solves=True)


def gold_text(problem: Problem) -> Text:
    """The key as a continuation."""
    answer = Piece(problem.key.answer, "answer", True)
    return (answer, Piece(END, "answer", True)) if problem.key.ends else (answer,)


def oracle_of(task: Task, problem: Problem) -> Callable[[Any], Any]:
    """Answers the wants that use the key."""

    def answer(want: Any) -> Any:
        if isinstance(want, Judge):
            return task.grade(problem, want.answer)
        if isinstance(want, Foresee):
            return task.leads_on(problem, want.lines)
        assert isinstance(want, Reveal)
        return problem.key.lines

    return answer


def referee_of(task: Task, question: Question) -> Callable[[Any], Any]:
    """Answers the wants that the task answers without the key."""

    def answer(want: Any) -> Any:
        if isinstance(want, Canonical):
            return task.canonical(want.answer)
        if isinstance(want, Forms):
            return task.grammar()
        assert isinstance(want, Check)
        return task.solves(str(question.text), want.answer)

    return answer


def library_of(spec: RunSpec) -> Library:
    """Gives worked examples of the train split, the same for every question of a seed."""

    @lru_cache(maxsize=64)
    def examples(want: Examples) -> tuple[Problem, ...]:
        return tuple(spec.task.problems("train", seed=spec.seed, start=want.start, count=want.count))

    return examples


def of_documents(spec: RunSpec, backbone: Backbone, documents: list[Document], sizes: Sizes) -> Examination:
    """A job for each window of a document."""
    alphabet, strategy = backbone.alphabet, spec.strategy
    window_tokens = spec.task.window_tokens

    def jobs(index: int) -> list[Job]:
        ids = alphabet.encode(documents[index].text).tolist()
        windows = rolling_windows(ids, prefix_id=alphabet.prefix_id, window_tokens=window_tokens)
        return [window_job(f"{index}/{w}", context, said) for w, (context, said) in enumerate(windows)]

    def window_job(name: str, context: list[int], said: list[int]) -> Job:
        question = Question(name, Tokens(tuple(context)), answer_cap_tokens=len(said), window=True)
        continuation: Text = (Piece(Tokens(tuple(said)), "answer", True),)
        rows, cells = sizes(strategy.learner(), question, continuation)
        seed = derive(spec.seed, "ask", name)
        return Job(name, lambda: strategy.score(question, (continuation,)), seed, rows=rows, cells=cells, opens=False)

    def line(index: int, outcomes: list[Outcome]) -> Line:
        return document_line(documents[index], outcomes) | conventions_of(backbone, outcomes)

    return Examination([d.id for d in documents], jobs, line, solves=False)


def conventions_of(backbone: Backbone, outcomes: Sequence[Outcome]) -> Line:
    """What a problem's cells cost by other habits of counting."""
    total = {"quadratic": 0, "non_embedding": 0}
    price = backbone.price.times(backbone.strategy.passes())
    for outcome in outcomes:
        facts = np.array(outcome.trace.cells, dtype=np.int64).reshape(-1, len(FACTS)).T
        index, row, read = (facts[FACTS.index(name)] for name in ("index", "row", "read"))
        found = other_conventions(
            outcome.ledger.total_flops, index=index, row=row, read=read, price=price, outputs=backbone.outputs
        )
        total = {name: total.get(name, 0) + flops for name, flops in found.items()}
    return {"conventions": total}
