"""sampling: what is left in the output softmax of a model that is taught as direct: drawn answers, and CoT decoding.

Knows how an answer is sought, by samplers and by forked rows; lessons, cells and passes are the contract's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from harness.problem import END, Answer, Completion, Piece, Question, Tokens
from harness.strategy import Strategy, setting
from harness.wants import Drop, Extend, Fork, Gather, Note, OutOfBudget, Peek, Room, Row, Sampler, Solver, Spell

Draft = tuple[Completion, float]  # with its confidence


@dataclass(frozen=True, kw_only=True)
class Sampling(Strategy):
    """Sampling: one drawn answer, or CoT decoding; taught as direct, so that only asking differs.

    CoT decoding (branches above 0): the most probable first tokens are each continued greedily (the samplers' settings have no
    effect), and the answer with the greatest mean of p(top 1) - p(top 2) over its tokens wins, END apart; of equals, the more
    probable first token's. The first token's margin is the same for all. A branch that met its cap or the budget's end
    wins only where none ended. Likelihoods are the untruncated model's. Over direct alone as yet: it wraps no other strategy.
    """

    source = "Wang & Zhou 2402.10200, section 2.2 (CoT decoding); min-p: Nguyen 2407.01082; typical: Meister 2202.00666"
    neutral: ClassVar[Mapping[str, Any]] = {"temperature": 0.0, "branches": 0}
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

    @property
    def sampler(self) -> Sampler:
        """As the settings have it."""
        return Sampler(self.temperature, self.top_k, self.top_p, self.min_p, self.typical)

    def solve(self, question: Question) -> Solver[Answer]:
        """One drawn answer, or the branches' most confident one."""
        try:
            row = yield from self.start(question)
            if self.branches:
                completion = yield from self._most_confident(question, row)
            else:
                completion = yield from self.attempt(question, row, self.sampler)
        except OutOfBudget:
            completion = Completion((), (), 0.0, "budget")
        return Answer(self.read(completion), completion)

    def _most_confident(self, question: Question, row: Row) -> Solver[Completion]:
        """CoT decoding from a started row; notes every branch's confidence."""
        room: int = yield Room(row)
        cap = min(question.answer_cap_tokens, room)
        if cap <= 0:
            return Completion((), (), 0.0, "cap")
        best: list[tuple[int, float]] = yield Peek(row, max(self.branches, 2))
        first = best[: self.branches]
        rows: list[Row] = yield Fork(row, len(first))
        both = zip(rows, first, strict=True)
        drafts: list[Draft] = yield Gather(tuple(_greedy_from(r, token, nats, _margin(best), cap) for r, (token, nats) in both))
        yield Note("confidence", [confidence for _, confidence in drafts])
        return max(drafts, key=lambda draft: (("cap", "budget", "end").index(draft[0].stop), draft[1]))[0]


def _margin(best: Sequence[tuple[int, float]]) -> float:
    """p(top 1) - p(top 2)."""
    return math.exp(best[0][1]) - math.exp(best[1][1])


def _greedy_from(row: Row, token: int, nats: float, margin: float, cap_tokens: int) -> Solver[Draft]:
    """Say a token, then the most probable ones, as Generate does: END and the last one at the cap are not fed. Drops the row."""
    ids, margins, total_nats, stop = [token], [margin], nats, "cap"
    try:
        while (yield Spell(ids[-1:]))[-1] != END and len(ids) < cap_tokens:
            yield Extend(row, (Piece(Tokens((ids[-1],)), "answer"),))
            best: list[tuple[int, float]] = yield Peek(row, 2)
            ids.append(best[0][0])
            margins.append(_margin(best))
            total_nats += best[0][1]
    except OutOfBudget:
        stop = "budget"
    pieces = yield Spell(ids)
    ended = pieces[-1] == END
    yield Drop(row)
    margins = margins[:-1] if ended else margins
    said = Completion(pieces[:-1] if ended else pieces, tuple(ids), total_nats, "end" if ended else stop, END if ended else None)
    return said, fmean(margins) if margins else 0.0
