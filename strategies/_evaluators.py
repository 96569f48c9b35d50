"""What states of a search are worth: evaluators by name, each a solver from states to values.

Knows wants, trees and the words of `_prompts.toml`; knows no task. What an evaluator runs is booked as verification.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from harness.growing import Growing
from harness.problem import Piece, Question
from harness.search_wants import Check, Foresee, Spent, Values
from harness.wants import Drop, Judge, Likelihood, Row, Score, Solver, Start
from strategies._prompting import templates
from strategies._states import State

WORDS = ("verbal", "vote")  # evaluators that ask the model in words
Rated = Solver[list[float]]


def evaluated(name: str, question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Solver[None]:
    """Give every state its value; higher is better. accuracy: of the noisy oracle."""
    if not states:
        return
    values: list[float] = yield from EVALUATORS[name](question, states, tree, accuracy)
    for state, value in zip(states, values, strict=True):
        tree.nodes[state.number].value = value


def _logprob(question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Rated:
    """The log-probability of all that was said."""
    return [state.nats for state in states]
    yield


def _value(question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Rated:
    """The value model's chance of success."""
    rows = tuple(state.row for state in states if state.row is not None)
    assert len(rows) == len(states), "every state has a row to be rated on"
    values: list[float] = yield Values(rows)
    yield from _charged(states, tree)
    return values


def _charged(states: Sequence[State], tree: Growing) -> Solver[None]:
    """What was spent on the states' rows is theirs."""
    spent = yield Spent(tuple(state.row for state in states if state.row is not None))
    for state, flops in zip(states, spent, strict=True):
        tree.nodes[state.number].flops += flops


def _checker(question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Rated:
    """Whole attempts: whether the question says that they are right. Others: their probability, so none is above a right one."""
    values = []
    for state in states:
        answer = tree.nodes[state.number].answer
        right = state.final and answer is not None and (yield Check(answer))
        values.append(float(right) if state.final else math.exp(state.nats))
    return values


def _noisy_oracle(question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Rated:
    """Whether a right answer can still come of a state, told rightly in a share ``accuracy`` of states, drawn by their hash."""
    values = []
    for state in states:
        node = tree.nodes[state.number]
        if state.final:
            truth = node.answer is not None and (yield Judge(node.answer)) >= 1.0
        else:
            truth = yield Foresee(state.lines)
        drawn = random.Random(f"{question.id}/{state.ids}").random()  # a text seeds by its sha512
        values.append(float(truth == (drawn < accuracy)))
    return values


def _verbal(question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Rated:
    """The probabilities of words such as sure and impossible, weighted (Yao 2305.10601, section 4.1; weights of its code)."""
    template = templates()["verbal"]
    values = []
    for state in states:
        text = template["say"].format(question=question.words, lines="\n".join(state.lines))
        shares = yield from _shares(text, list(template["weights"]), state, tree)
        values.append(math.fsum(share * weight for share, weight in zip(shares, template["weights"].values(), strict=True)))
    return values


def _vote(question: Question, states: Sequence[State], tree: Growing, accuracy: float) -> Rated:
    """The probability of each state's number, when the model is asked which of them is best; it stands for many drawn votes."""
    template = templates()["vote"]
    listed = "".join(template["item"].format(number=i, lines="; ".join(s.lines)) for i, s in enumerate(states, 1))
    text = template["say"].format(question=question.words, listed=listed)
    return (yield from _shares(text, [f" {i}" for i in range(1, len(states) + 1)], states[0], tree))


def _shares(text: str, words: Sequence[str], state: State, tree: Growing) -> Rated:
    """The probabilities of words behind a text, made to sum to 1; what they cost is the state's."""
    row: Row = yield Start((Piece(text, "prompt"),), verifies=True)
    scored: list[Likelihood] = yield Score(row, tuple((Piece(word, "answer", True),) for word in words))
    tree.nodes[state.number].flops += (yield Spent((row,)))[0]
    yield Drop(row)
    least = min(x.nats for x in scored)
    weights = [math.exp(least - x.nats) for x in scored]
    return [weight / math.fsum(weights) for weight in weights]


EVALUATORS: dict[str, Callable[[Question, Sequence[State], Growing, float], Rated]] = {
    "logprob": _logprob, "value": _value, "checker": _checker, "verbal": _verbal, "vote": _vote, "noisy_oracle": _noisy_oracle,
}  # fmt: skip


def rank(state: State, tree: Growing) -> tuple[float, float]:
    """Higher is better: the value, among equals the log-probability."""
    value = tree.nodes[state.number].value
    return (state.nats if value is None else value), state.nats


def wording() -> Sequence[str]:
    """What evaluators say to the model."""
    verbal, vote = templates()["verbal"], templates()["vote"]
    return [verbal["say"], *verbal["weights"], vote["say"], vote["item"]]
