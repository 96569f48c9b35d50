"""Worked lines as text: how they are joined, how controls spoil them, and rows that are given lines instead of saying their own.

Knows strings and wants; knows no model.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from harness.problem import END, SEP, THOUGHTS, Completion, Piece, Problem, Question, Text
from harness.strategy import think_aloud
from harness.task import Task
from harness.wants import (
    Count,
    Extend,
    Fork,
    Gather,
    Generate,
    Likelihood,
    Mark,
    Reveal,
    Rewind,
    Room,
    Row,
    Sampler,
    Score,
    Solver,
)


def joined(lines: Sequence[str]) -> str:
    """Worked lines as one text, as every strategy that says them says them."""
    return ";".join(lines)


def lines_of(problem: Problem) -> str:
    """A problem's worked lines as one text."""
    return joined(problem.key.lines)


def shuffled(text: str, key: str) -> str:
    """The characters in an order drawn by ``key`` alone: the same length and the same letters, and no steps."""
    order = np.random.default_rng(zlib.crc32(key.encode())).permutation(len(text))
    return "".join(text[i] for i in order)


def fillers(lines: str) -> Text:
    """As many idle tokens as the lines have characters."""
    return tuple(Piece(THOUGHTS[0], "thought") for _ in lines)


def taught_lines(kind: str, problem: Problem) -> Text:
    """A problem's lines as a lesson has them: as they are ("gold"), "shuffled", or "filler", which are given and not learnt."""
    lines = lines_of(problem)
    text = shuffled(lines, problem.question.id) if kind == "shuffled" else lines
    return fillers(lines) if kind == "filler" else (Piece(text, "thought", True),)


def lines_behind(kind: str, question: Question, row: Row, sampler: Sampler, cap_tokens: int) -> Solver[Row]:
    """The row behind lines and <sep>. kind: its "own", "gold", "filler" (as many as gold has), or its own "shuffled"."""
    if kind == "own":
        return (yield from think_aloud(row, SEP, cap_tokens, sampler, answer_tokens=question.answer_cap_tokens))
    if kind == "shuffled":
        start = yield Mark(row)
        most: int = (yield Room(row)) - question.answer_cap_tokens - 1
        own: Completion = yield Generate(row, min(cap_tokens, most), sampler, "thought", (SEP, END))
        row = yield Rewind(row, start)
        given: Text = (Piece((yield from _within(shuffled(own.text, question.id), most)), "thought"),)
    else:
        gold = joined((yield Reveal("lines")))
        given = (Piece(gold, "thought"),) if kind == "gold" else fillers(gold)
    behind: Row = yield Extend(row, (*given, Piece(SEP, "thought")))
    return behind


def _within(text: str, tokens: int) -> Solver[str]:
    """The beginning of a text that takes at most so many tokens."""
    while (beyond := (yield Count(text)) - max(tokens, 0)) > 0:
        text = text[:-beyond]
    return text


def mean_likelihood(each: Sequence[Likelihood]) -> Likelihood:
    """-log of the mean probability of one continuation behind several thoughts."""
    least = min(x.nats for x in each)
    mean = sum(math.exp(least - x.nats) for x in each) / len(each)
    return Likelihood(least - math.log(mean), each[0].tokens, all(x.greedy for x in each))


def mean_over(
    samples: int, row: Row, continuations: tuple[Text, ...], thought: Callable[[Row], Solver[Row]]
) -> Solver[list[Likelihood]]:
    """Of each continuation, the mean probability behind ``samples`` thoughts of one started row."""

    def scored(one: Row) -> Solver[list[Likelihood]]:
        ready = yield from thought(one)
        likelihoods: list[Likelihood] = yield Score(ready, continuations)
        return likelihoods

    rows = yield Fork(row, samples)
    each = yield Gather(tuple(map(scored, rows)))
    return [mean_likelihood(column) for column in zip(*each, strict=True)]


def check_cap(cap_tokens: int | None, task: Task) -> None:
    """ValueError if a cap, where there is one, does not let the longest gold lines through."""
    if cap_tokens is None:
        return
    problems = task.problems("validation", seed=0, start=0, count=256, lines=False)
    least = max(p.question.lines_cap_tokens for p in problems)
    if cap_tokens < least:
        raise ValueError(f"strategy.cap_tokens: the longest worked lines take {least} tokens; give that or more, or none")
