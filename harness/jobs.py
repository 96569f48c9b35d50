"""Jobs for the session, and what it keeps of those under way. Knows no decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from harness import wants
from harness.alphabet import Alphabet
from harness.grammar import Grammar
from harness.meter import Ledger
from harness.problem import ACCESS, END, Completion, Problem, Role, Special, Text
from harness.rows import Feed, Manner
from harness.stops import NONE, completion_of, met
from harness.trace import Trace
from harness.wants import Solver

Oracle = Callable[[Any], Any]  # answers Judge, Reveal and Foresee
Referee = Callable[[Any], Any]  # answers Check, Canonical and Forms, from the question and the task alone
Library = Callable[[wants.Examples], tuple[Problem, ...]]


def no_examples(want: wants.Examples) -> tuple[Problem, ...]:
    """The library of a question that belongs to no task."""
    raise ValueError("there are no examples here: the question belongs to no task with problems")


@dataclass(frozen=True, slots=True)
class Job:
    """A problem to solve: solver makes a fresh generator; oracle answers wants that use the key (None: they are refused).

    referee: answers wants about the question's answers; examples: gives problems of the train split. rows, cells: how many it
    holds at most, cells in one of its rows (cells 0: it is not told, and no bound on memory is kept). crop_tokens: of texts that
    rows start with only so many last tokens are kept; None: a text that does not fit is an error. opens: those texts begin with
    `Alphabet.bos_ids`; False: they are cut from the middle of a text. cut: what is asked has lost its beginning, because the
    context did not hold it. silent: tokens that are no part of the text that is said.
    """

    name: str
    solver: Callable[[], Solver[Any]]
    seed: int = 0
    limit_flops: float = np.inf
    oracle: Oracle | None = None
    examples: Library = no_examples
    referee: Referee | None = None
    rows: int = 1
    cells: int = 0
    crop_tokens: int | None = None
    opens: bool = True
    cut: bool = False
    silent: frozenset[int] = NONE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. access: the most that it used of ACCESS; truncated: the beginning of a text did not fit the context,
    and was left out."""

    job: Job
    value: Any
    ledger: Ledger
    trace: Trace
    access: str
    truncated: bool = False

    @property
    def used_key(self) -> bool:
        """Whether an oracle answered."""
        return self.access == "oracle"


@dataclass(slots=True)
class Live:
    """A job under way."""

    job: Job
    account: int
    rows: dict[int, int] = field(default_factory=dict)  # Row.number -> the decoder's row
    made: int = 0  # rows, ever
    drawn: int = 0  # completions, ever: each samples from a stream of its own
    notes: dict[str, list[float]] = field(default_factory=dict)
    access: int = 0  # index into ACCESS
    told_flops: int = 0  # that its solver knows of
    since: int = 0  # the pass before which it was opened
    grown: bool = False  # it has held as many rows as it may
    cropped: bool = False  # a text that a row started with was too long

    def use(self, access: str) -> None:
        """It was told something."""
        self.access = max(self.access, ACCESS.index(access))


@dataclass(slots=True)
class Fiber:
    """One generator of a job; gathered ones have a parent that waits for all of them."""

    live: Live
    solver: Solver[Any]
    parent: Fiber | None = None
    number: int = 0
    results: list[Any] = field(default_factory=list)
    waiting: int = 0


@dataclass(eq=False)
class Writing:
    """A row that is saying something."""

    fiber: Fiber
    want: wants.Generate
    alphabet: Alphabet
    cap: int
    key: int
    without: tuple[int, ...]  # columns of the head that are not said
    grammar: Grammar | None = None
    state: int = 0  # of the grammar
    ids: list[int] = field(default_factory=list)
    nats: float = 0.0  # log-probability so far, so not above 0
    stopped_by: str | Special | None = None
    closed: bool = False  # by a string that ends it as END does

    def __post_init__(self) -> None:
        self.nats = self.want.after_nats
        self._stops = {i: stop for stop in self.want.stops for i in self.alphabet.ids_of(stop)}
        self._mark = None if self.want.mark is None else self.alphabet.id_of(self.want.mark)
        self._thinking = self._mark is not None
        self.silent = self.fiber.live.job.silent

    def say(self, token: int, nats: float) -> Role:
        """Add a token; returns its role."""
        self.ids.append(token)
        self.nats += nats
        if self.grammar is not None:
            self.state = self.grammar.step(self.state, token)
        said: str | Special | None = self._stops.get(token)
        if said is None and self.want.until and (self._mark is None or self._thinking):
            said = met(self.alphabet, self.want.until, self.ids, self.silent)
        if said is None and self.want.closes and not self._thinking:
            self.closed = met(self.alphabet, self.want.closes, (*self.want.after, *self.ids), self.silent) is not None
        self.stopped_by = END if self.closed else said
        role: Role = "thought" if self._thinking else self.want.role
        self._thinking &= token != self._mark
        return role

    @property
    def ended(self) -> str | None:
        """How it has ended: "end" or "cap"; None: it has not."""
        if self.stopped_by is not None:
            return "end"
        if len(self.ids) < self.cap:
            return None
        return "end" if self.want.cap_ends and not self._thinking else "cap"

    @property
    def unread(self) -> bool:
        """Whether nothing is read behind its last token."""
        if self.stopped_by is not None:
            return self.closed or self.ids[-1] in self.alphabet.end_ids
        return self.want.role != "thought"

    def completion(self, stop: str) -> Completion:
        """What was said, without the stop."""
        closes = self.want.closes if self.closed else ()
        ids, silent = tuple(self.ids), self.silent
        return completion_of(self.alphabet, ids, self.nats, stop, self.stopped_by, closes=closes, silent=silent)


@dataclass(slots=True)
class Waiting:
    """A fiber that waits for its feeds; ``done`` makes its result of the logits."""

    fiber: Fiber
    rows: set[int]
    done: Callable[[dict[int, Tensor]], Any]


@dataclass(slots=True)
class Turn:
    """What is to be fed next, and who waits for it. due: texts by row, encoded together; feeds: tokens by row."""

    due: list[tuple[int, Text, Manner]] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)

    def rows(self) -> set[int]:
        """Rows that are fed."""
        return {f.row for f in self.feeds} | {due[0] for due in self.due}
