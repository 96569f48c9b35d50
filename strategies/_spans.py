"""Spans of thoughts in a text: putting them into lessons, opening, running and closing them when asked, and what they are taught.

A thought is the one inserted-only special R, however many stand in a span. Knows pieces, wants and logits; knows no layout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.problem import BOT, END, EOT, THOUGHTS, Completion, Piece, Special, Text, Tokens, ended
from harness.strategy import PAUSE
from harness.wants import (
    Extend,
    Generate,
    Likelihood,
    Note,
    OutOfBudget,
    Rewind,
    Room,
    Row,
    Sampler,
    Saying,
    Score,
    Solver,
    Spell,
    Split,
    Step,
    Top,
    Unroll,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

OPEN, CLOSE = Piece(BOT, "thought", True), Piece(EOT, "thought", True)
THOUGHT_PIECE = Piece(THOUGHTS[0], "thought", True)  # as a target it is looked through: see `make_batch`


@dataclass(frozen=True, slots=True)
class Spans:
    """How spans are run when asked. threshold: chance of the top token below which one opens, None where the model opens."""

    two: bool
    cap: int
    one_shot: bool
    threshold: float | None

    @property
    def unsaid(self) -> tuple[Special, ...]:
        """Specials that are no part of the answer."""
        return (BOT, EOT) if self.two else (BOT,)

    def think(self, row: Row, *, following: int, forced: bool) -> Solver[int | None]:
        """Run a span if one opens here: the number of thoughts, 0 without a span, None if it was left open.

        following: text tokens for which the row must keep room. forced: close it at the cap in any case.
        """
        opens = yield from self._opens(row)
        room: int = yield Room(row)
        if not opens or room < following + (2 if self.two else 0):
            return 0
        first = (OPEN,) if self.two else (THOUGHT_PIECE,)
        chunk = (*first, *[THOUGHT_PIECE] * (self.cap - (0 if self.two else 1)))
        found = yield from (self._at_once(row, chunk) if self.one_shot else self._one_by_one(row, chunk))
        if self.two:
            if found is None and not forced:
                return None
            yield Extend(row, (CLOSE,))
            return self.cap if found is None else found
        return self.cap if found is None else found + 1

    def _opens(self, row: Row) -> Solver[bool]:
        """Whether the model thinks before its next token: by what stands before it alone."""
        if self.threshold is None:
            piece, _ = yield Top(row, without=(EOT,))
            return bool(piece == BOT)
        _, nats = yield Top(row, without=self.unsaid)
        return bool(nats < math.log(self.threshold))

    def _closes(self, step: Step) -> bool:
        return step.top == EOT if self.two else step.top != BOT

    def _at_once(self, row: Row, chunk: Text) -> Solver[int | None]:
        """The whole chunk in one pass, cut behind the first cell that closes the span: that cell's index, or None."""
        steps: list[Step] = yield Unroll(row, chunk)
        found = next((i for i, step in enumerate(steps) if self._closes(step)), None)
        if found is not None and found + 1 < len(steps):
            yield Rewind(row, steps[found].mark)
        return found

    def _one_by_one(self, row: Row, chunk: Text) -> Solver[int | None]:
        """The same, a pass for each cell."""
        for index, piece in enumerate(chunk):
            (step,) = yield Unroll(row, (piece,))
            if self._closes(step):
                return index
        return None

    def write(self, row: Row, sampler: Sampler, said: Saying) -> Solver[Completion]:
        """Say tokens until the end, thinking before each wherever a span opens; one that is left open ends it (stop "cap").

        The note "thoughts" counts them before each token that is said. Spans are greedy whatever the sampler, and are no part of
        the completion: the trace holds them.
        """
        ids: list[int] = []
        nats, stop = 0.0, "cap"
        try:
            while len(ids) < said.cap_tokens:
                thoughts = yield from self.think(row, following=1, forced=False)
                if thoughts is None:
                    break
                token: Completion = yield Generate(row, 1, sampler, without=self.unsaid)
                if not token.ids:
                    break
                ids, nats = [*ids, *token.ids], nats + token.logprob_nats
                yield Note("thoughts", (thoughts,))
                shut = bool(said.closes) and ended((yield Spell(ids)), said.closes)[1]
                if token.stop == "end" or shut or (said.cap_ends and len(ids) == said.cap_tokens):
                    stop = "end"
                    break
                if len(ids) < said.cap_tokens:
                    yield Extend(row, (Piece(Tokens(token.ids), "answer"),))
        except OutOfBudget:
            stop = "budget"
        whole, over = ended((yield Spell(ids)), said.closes)
        return Completion(whole, tuple(ids), nats, stop, END if over else None)

    def likelihood(self, row: Row, text: Text) -> Solver[Likelihood]:
        """Of a text's tokens given greedy spans: each among the text tokens alone, thinking before it from what stands before."""
        nats, count, greedy = 0.0, 0, True
        pieces: Text = yield Split(text)
        for at, piece in enumerate(pieces):
            thoughts = yield from self.think(row, following=len(pieces) - at, forced=True)
            (one,) = yield Score(row, ((piece,),), without=self.unsaid)
            nats, count, greedy = nats + one.nats, count + one.tokens, greedy and one.greedy
            yield Note("thoughts", (thoughts or 0,))
            if at + 1 < len(pieces):
                yield Extend(row, (piece,), scored=True)
        return Likelihood(nats, count, greedy)


def with_spans(text: Text, spans: dict[int, Text]) -> Text:
    """The text of one-token pieces with spans before the pieces at these indices."""
    return tuple(p for at, piece in enumerate(text) for p in (*spans.get(at, ()), piece))


def taught_places(text: Text) -> list[int]:
    """Indices of the tokens that are targets and have a token before them."""
    return [at for at, piece in enumerate(text) if piece.target and at]


def again_targets(cells: Any, *, column: int, opening: bool) -> Tensor:
    """Targets (R,), but ``column``, "think again", wherever a thought follows. opening: also at text tokens, "think"."""
    import torch

    layout, read = cells.layout, cells.reads.cells
    thought = layout.kind == PAUSE
    followed = np.append(thought[1:] & (layout.row[1:] == layout.row[:-1]), False)[read]
    if not opening:
        followed &= thought[read]
    return torch.where(torch.from_numpy(followed).to(cells.targets.device), column, cells.targets)


def marginal_loss(logits: Tensor, targets: Tensor, *, think: int, thoughts: int, ponder: float) -> Tensor:
    """sum_j p_j (CE_j + ponder j), a mean over places; logits (places * (thoughts + 1), V), a place's thoughts j in order.

    p_j = s_j prod_{l<j} (1 - s_l), where s_j, the chance of speaking, is what column ``think`` leaves, and the last thought
    always speaks. CE_j is among the text tokens: all columns but that one.
    """
    import torch

    text = logits.index_fill(1, torch.tensor([think], device=logits.device), -torch.inf).logsumexp(1)
    every = logits.logsumexp(1)
    nats = (text - logits.gather(1, targets[:, None]).squeeze(1)).view(-1, thoughts + 1)
    speak = (text - every).view(-1, thoughts + 1)
    again = (logits[:, think] - every).view(-1, thoughts + 1)
    silent = torch.cat([torch.zeros_like(again[:, :1]), again[:, :-1].cumsum(1)], 1)
    p = (silent + torch.cat([speak[:, :-1], torch.zeros_like(speak[:, :1])], 1)).exp()
    j = torch.arange(thoughts + 1, device=logits.device)
    loss: Tensor = (p * (nats + ponder * j)).sum(1).mean()
    return loss
