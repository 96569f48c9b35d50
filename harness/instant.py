"""Answers to the wants that take no forward pass: looking at what stands ready, marks, tokens of a text, keys, notes.

Knows rows and their distributions; feeds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness import search_wants, wants
from harness.backbone import Backbone
from harness.decoder import Decoder
from harness.jobs import Fiber
from harness.meter import VERIFY
from harness.problem import Special
from harness.sampling import barred, best, log_probabilities
from harness.stream import tokens_of
from harness.wants import OutOfBudget

VALUED = "values"  # the note of all that a value model gave


class Instant:
    """The answers by type of want, over one decoder."""

    def __init__(self, backbone: Backbone, decoder: Decoder) -> None:
        self._alphabet, self._decoder = backbone.alphabet, decoder
        self._sayable, self._context = backbone.strategy.sayable(), backbone.context_tokens
        self._columns: dict[tuple[Special, ...], tuple[int, ...]] = {}
        self._head_ids = np.array(backbone.head_ids)
        self.answers: dict[type, Callable[[Fiber, Any], Any]] = {
            wants.Peek: self._peek, wants.Top: self._top, wants.Room: self._room, wants.Split: self._split,
            wants.Spell: self._spell, wants.Mark: self._mark, wants.Rewind: self._rewind, wants.Note: self._note,
            wants.Count: self._count, search_wants.Values: self._values, search_wants.Spent: self._spent,
            search_wants.LastState: self._last_state,
            **dict.fromkeys((wants.Judge, wants.Reveal, search_wants.Foresee), self._consult),
            **dict.fromkeys((search_wants.Check, search_wants.Canonical, search_wants.Forms), self._refer),
            wants.Examples: lambda fiber, want: fiber.live.job.examples(want),
        }  # fmt: skip

    def columns(self, specials: tuple[Special, ...]) -> tuple[int, ...]:
        """The head's columns of those specials that it has."""
        if specials not in self._columns:  # asked for with every row that writes
            ids = np.array([i for s in specials for i in self._alphabet.ids_of(s)], dtype=np.int64)
            self._columns[specials] = tuple(int(c) for c in self._alphabet.head_columns(ids, self._sayable) if c >= 0)
        return self._columns[specials]

    def piece(self, column: int) -> str | Special:
        """What a column of the head says."""
        return self._alphabet.pieces([int(self._head_ids[column])])[0]

    def _peek(self, fiber: Fiber, want: wants.Peek) -> Any:
        row = fiber.live.rows[want.row.number]
        logits = self._decoder.logits[row : row + 1]
        columns = best(logits[0], want.k)
        nats = log_probabilities(logits)[0][columns]
        return [(int(self._head_ids[i]), float(v)) for v, i in zip(nats, columns.tolist(), strict=True)]

    def _top(self, fiber: Fiber, want: wants.Top) -> Any:
        row = fiber.live.rows[want.row.number]
        nats = log_probabilities(barred(self._decoder.logits[row : row + 1], self.columns(want.without)))[0]
        column = int(nats.argmax())
        return self.piece(column), float(nats[column])

    def _room(self, fiber: Fiber, want: wants.Room) -> Any:
        return self._context - int(self._decoder.texts[fiber.live.rows[want.row.number]])

    def _split(self, fiber: Fiber, want: wants.Split) -> Any:
        return tokens_of([want.text], self._alphabet)[0]

    def _spell(self, fiber: Fiber, want: wants.Spell) -> Any:
        return self._alphabet.pieces(want.ids, silent=fiber.live.job.silent)

    def _count(self, fiber: Fiber, want: wants.Count) -> Any:
        return len(self._alphabet.encode(want.text))

    def _mark(self, fiber: Fiber, want: wants.Mark) -> Any:
        return self._decoder.mark(fiber.live.rows[want.row.number])

    def _rewind(self, fiber: Fiber, want: wants.Rewind) -> Any:
        self._decoder.rewind(fiber.live.rows[want.row.number], want.mark)
        return want.row

    def _consult(self, fiber: Fiber, want: Any) -> Any:
        if fiber.live.job.oracle is None:
            raise ValueError(f"{type(want).__name__} needs the key, and this question has none")
        fiber.live.use("oracle")
        return fiber.live.job.oracle(want)

    def _refer(self, fiber: Fiber, want: Any) -> Any:
        if fiber.live.job.referee is None:
            raise ValueError(f"{type(want).__name__} needs a task, and this question belongs to none")
        if isinstance(want, search_wants.Check):
            fiber.live.use("checker")
        return fiber.live.job.referee(want)

    def _values(self, fiber: Fiber, want: search_wants.Values) -> Any:
        model = self._decoder.backbone.value
        if model is None:
            raise ValueError("Values needs a value model: let the strategy's `value_spec` ask for one")
        rows = [fiber.live.rows[row.number] for row in want.rows]
        flops = model.flops_per_state
        if not self._decoder.accounts.pay(fiber.live.account, VERIFY, len(rows) * flops):
            return OutOfBudget(fiber.live.job.name)
        self._decoder.spent_flops[rows] += flops
        chances = model.chances(self._decoder.states[rows])
        fiber.live.notes.setdefault(VALUED, []).extend(chances)
        return chances

    def _last_state(self, fiber: Fiber, want: search_wants.LastState) -> Any:
        states = self._decoder.states
        if not states.shape[1]:
            raise ValueError("LastState needs a session that keeps states: Session(.., keep_states=True)")
        return states[fiber.live.rows[want.row.number]].float().cpu().numpy().copy()

    def _spent(self, fiber: Fiber, want: search_wants.Spent) -> Any:
        live = fiber.live
        rows = [live.rows[row.number] for row in want.rows]
        if not rows:
            spent = [int(self._decoder.accounts.flops[live.account].sum()) - live.told_flops]
        else:
            spent = self._decoder.spent_flops[rows].astype(int).tolist()
            self._decoder.spent_flops[rows] = 0
        live.told_flops += sum(spent)
        return spent

    def _note(self, fiber: Fiber, want: wants.Note) -> Any:
        fiber.live.notes.setdefault(want.name, []).extend(float(v) for v in want.values)
