"""Whole attempts drawn side by side, and votes among their answers: what strategies that sample and choose share.

Knows wants and trees; knows no task. A vote is cast by an answer; an attempt without one casts none and never wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.growing import Growing
from harness.problem import Completion, Question
from harness.search_wants import Canonical, Spent, Values
from harness.strategy import Strategy
from harness.wants import Drop, Fork, Gather, Row, Sampler, Solver


def drawn(
    base: Strategy, question: Question, row: Row, tree: Growing, sampler: Sampler, *, count: int, last: bool, valued: bool = False
) -> Solver[list[int]]:
    """The numbers of ``count`` attempts from a started row. last: the row is given up, else it can be drawn from again.

    valued: their nodes' values are the value model's.
    """
    rows: list[Row] = yield Fork(row, count if last else count + 1)
    tree.nodes[0].flops += (yield Spent((row,)))[0]  # thoughts that were owed before the rows parted
    numbers = [tree.add(0) for _ in range(count)]

    def attempt(number: int, mine: Row) -> Solver[None]:
        completion: Completion = yield from base.attempt(question, mine, sampler)
        node = tree.end(number, completion)
        node.said = completion.text
        if valued:
            (node.value,) = yield Values((mine,))
        node.flops += (yield Spent((mine,)))[0]
        yield Drop(mine)

    yield Gather(tuple(map(attempt, numbers, rows if last else rows[1:])))
    return [number for number in numbers if tree.nodes[number].final]


def groups(tree: Growing, numbers: Sequence[int]) -> Solver[dict[str, list[int]]]:
    """Attempts by the form of their answers, in the order in which forms came."""
    found: dict[str, list[int]] = {}
    for number in numbers:
        answer = tree.nodes[number].answer
        if answer is not None:
            form: str = yield Canonical(answer)
            found.setdefault(form, []).append(number)
    return found


def mean_logprob(tree: Growing, number: int) -> float:
    """Nats a token."""
    node = tree.nodes[number]
    return node.nats / max(node.tokens, 1)


def winner(tree: Growing, votes: dict[str, list[int]], weights: dict[int, float] | None = None) -> int:
    """The most probable attempt of the answer with most votes (or weight); of equals the more probable sum, then the first."""

    def strength(members: list[int]) -> tuple[float, float]:
        cast = float(len(members)) if weights is None else math.fsum(weights[n] for n in members)
        return cast, math.fsum(tree.nodes[n].nats for n in members)

    best = max(votes.values(), key=strength)
    return max(best, key=lambda n: tree.nodes[n].nats)
