"""sampling: what is left in the output softmax: one drawn answer, or CoT decoding over the first tokens.

Knows how an answer is sought, by samplers and by forked rows; everything that is taught is the base's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, ClassVar

from harness.growing import STOPS, Growing
from harness.problem import END, Answer, Completion, Piece, Question, Tokens, closed, ended
from harness.search import Search, split_saying
from harness.search_wants import Spent
from harness.strategy import setting
from harness.wants import Drop, Extend, Fork, Gather, Note, OutOfBudget, Peek, Room, Row, Sampler, Saying, Solver, Spell

Draft = tuple[Completion, float]  # with its confidence


@dataclass(frozen=True, kw_only=True)
class Sampling(Search):
    """Sampling: one drawn answer, or CoT decoding.

    CoT decoding (branches above 0): the most probable first tokens are each continued greedily (the samplers' settings have no
    effect), and the answer with the greatest mean of p(top 1) - p(top 2) over its tokens wins, END apart; of equals, the more
    probable first token's. Where the base says worked lines first, the answer's tokens are those behind them. A branch that met
    its cap or the budget's end wins only where none ended. Likelihoods are the untruncated model's.
    """

    version = 2
    source = "Wang & Zhou 2402.10200, section 2.2 (CoT decoding); min-p: Nguyen 2407.01082; typical: Meister 2202.00666"
    neutral: ClassVar[Mapping[str, Any]] = {"temperature": 0.0, "branches": 0, "grammar": False}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"top_k": 4, "top_p": 0.9}, {"min_p": 0.1}, {"typical": 0.8}, {"branches": 1}, {"branches": 5},
    )  # fmt: skip
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"branches": (0, 2, 4, 8, 16)}

    temperature: float = setting(1.0, when="ask", doc="logits are divided by it; 0: greedy", low=0.0, high=10.0)
    top_k: int = setting(0, when="ask", doc="draw among so many tokens; 0: all", low=0, high=1 << 20)
    top_p: float = setting(1.0, when="ask", doc="draw among the most probable tokens of this mass", low=1e-9, high=1.0)
    min_p: float = setting(0.0, when="ask", doc="least probability, as a share of the best token's", low=0.0, high=1.0)
    typical: float = setting(1.0, when="ask", doc="draw among the most typical tokens of this mass", low=1e-9, high=1.0)
    branches: int = setting(0, when="ask", doc="CoT decoding over so many first tokens; 0: sampling", low=0, high=64)

    def __post_init__(self) -> None:
        if self.grammar and self.branches:
            raise ValueError("grammar: CoT decoding follows the model's own most probable tokens; legal with branches: false")

    @property
    def splits(self) -> bool:
        """CoT decoding branches on the first token."""
        return self.branches > 0

    def rows(self) -> int:
        """The branches."""
        return max(1, self.branches)

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """One drawn answer, or the branches' most confident one."""
        if self.branches:
            return (yield from self._most_confident(question, row, tree))
        plain = Sampler(self.temperature, self.top_k, self.top_p, self.min_p, self.typical)
        sampler = yield from self.sampler(question, plain)
        completion = yield from self.asked.attempt(question, row, sampler)
        return tree.chosen(_ended(tree, completion, (yield Spent((row,)))[0]))

    def _most_confident(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """CoT decoding from a started row; every branch's confidence is its value, and noted."""
        said = split_saying(self.asked, question)
        room: int = yield Room(row)
        assert said is not None
        cap = min(said.cap_tokens, room)
        if cap <= 0:
            return tree.chosen(_ended(tree, Completion((), (), 0.0, "cap"), 0))
        best: list[tuple[int, float]] = yield Peek(row, max(self.branches, 2))
        first = best[: self.branches]
        rows: list[Row] = yield Fork(row, len(first))
        tree.nodes[0].flops += (yield Spent((row,)))[0]
        numbers = [tree.add(0) for _ in first]
        both = zip(rows, first, numbers, strict=True)
        mark = replace(said, cap_tokens=cap)
        solvers = (_greedy_from(r, token, nats, _margin(best), mark, tree, number) for r, (token, nats), number in both)
        drafts: list[Draft] = yield Gather(tuple(solvers))
        yield Note("confidence", [confidence for _, confidence in drafts])
        for number, (completion, confidence) in zip(numbers, drafts, strict=True):
            tree.end(number, completion).value = confidence
        winner = max(zip(drafts, numbers, strict=True), key=lambda d: (STOPS.index(d[0][0].stop), d[0][1]))
        return tree.chosen(winner[1])


def _ended(tree: Growing, completion: Completion, flops: int) -> int:
    """A whole attempt as a node of its own."""
    number = tree.add(0, completion.text, flops=flops)
    tree.end(number, completion)
    return number


def _margin(best: Sequence[tuple[int, float]]) -> float:
    """p(top 1) - p(top 2)."""
    return math.exp(best[0][1]) - math.exp(best[1][1])


def _greedy_from(row: Row, token: int, nats: float, margin: float, saying: Saying, tree: Growing, number: int) -> Solver[Draft]:
    """Say a token, then the most probable ones, as Generate does: END and the last one at the cap are not fed. Drops the row."""
    ids, margins, total_nats, stop = [token], [margin], nats, "cap"
    role, answered = ("answer" if saying.mark is None else "thought"), 0
    try:
        while (last := (yield Spell(ids[-1:]))[-1]) != END and len(ids) < saying.cap_tokens:
            if role == "answer" and saying.closes and closed((yield Spell(ids)), saying.closes) is not None:
                break
            yield Extend(row, (Piece(Tokens((ids[-1],)), role),))  # type: ignore[arg-type]
            if last == saying.mark and role == "thought":
                role, answered = "answer", len(ids)
            best: list[tuple[int, float]] = yield Peek(row, 2)
            ids.append(best[0][0])
            margins.append(_margin(best))
            total_nats += best[0][1]
    except OutOfBudget:
        stop = "budget"
    pieces = yield Spell(ids)
    whole, over = ended(pieces, saying.closes if role == "answer" else ())
    tree.nodes[number].said, tree.nodes[number].flops = "".join(map(str, pieces)), (yield Spent((row,)))[0]
    yield Drop(row)
    margins = (margins[:-1] if pieces[-1] == END else margins)[answered:]
    if over or (saying.cap_ends and role == "answer" and stop == "cap"):
        stop = "end"
    said = Completion(whole, tuple(ids), total_nats, stop, END if over else None)
    return said, fmean(margins) if margins else 0.0
