"""Jobs for the session, and what it keeps of those under way. Knows no decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from harness import wants
from harness.alphabet import Alphabet
from harness.meter import Ledger
from harness.problem import Completion, Problem, Role, Special
from harness.rows import Trace
from harness.wants import Solver

Oracle = Callable[[Any], Any]  # answers Judge and Reveal
Library = Callable[[wants.Examples], tuple[Problem, ...]]


def no_examples(want: wants.Examples) -> tuple[Problem, ...]:
    """The library of a question that belongs to no task."""
    raise ValueError("there are no examples here: the question belongs to no task with problems")


@dataclass(frozen=True, slots=True)
class Job:
    """A problem to solve: solver makes a fresh generator; oracle answers wants that use the key (None: they are refused).

    examples: gives problems of the train split.
    """

    name: str
    solver: Callable[[], Solver[Any]]
    seed: int = 0
    limit_flops: float = np.inf
    oracle: Oracle | None = None
    examples: Library = no_examples


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. used_key: an oracle answered."""

    job: Job
    value: Any
    ledger: Ledger
    trace: Trace
    used_key: bool


@dataclass(slots=True)
class Live:
    """A job under way."""

    job: Job
    account: int
    rows: dict[int, int] = field(default_factory=dict)  # Row.number -> the decoder's row
    made: int = 0  # rows, ever
    drawn: int = 0  # completions, ever: each samples from a stream of its own
    trace: Trace = field(default_factory=Trace)
    used_key: bool = False


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
    without: list[int]  # columns of the head that are not said
    ids: list[int] = field(default_factory=list)
    nats: float = 0.0  # log-probability so far, so not above 0
    stopped_by: str | Special | None = None

    def __post_init__(self) -> None:
        self._stops = {self.alphabet.id_of(stop): stop for stop in self.want.stops}
        self._mark = None if self.want.mark is None else self.alphabet.id_of(self.want.mark)
        self._thinking = self._mark is not None

    def say(self, token: int, nats: float) -> Role:
        """Add a token; returns its role."""
        self.ids.append(token)
        self.nats += nats
        self.stopped_by = self._stops.get(token) or (self._met() if self.want.until else None)
        role: Role = "thought" if self._thinking else self.want.role
        self._thinking &= token != self._mark
        return role

    def _met(self) -> str | None:
        """The string that stops it, if what was said now holds one."""
        longest = max(len(text.encode()) for text in self.want.until)  # a token is a byte at least
        tail = self.alphabet.pieces(self.ids[-longest:])[-1]
        return next((text for text in self.want.until if isinstance(tail, str) and text in tail), None)

    def completion(self, stop: str) -> Completion:
        """What was said, without the stop."""
        pieces = self.alphabet.pieces(self.ids)
        if isinstance(self.stopped_by, Special):
            pieces = pieces[:-1]
        elif self.stopped_by is not None:
            last = str(pieces[-1])
            pieces = (*pieces[:-1], last[: last.rindex(self.stopped_by)])
        return Completion(pieces, tuple(self.ids), self.nats, stop, self.stopped_by)


@dataclass(slots=True)
class Waiting:
    """A fiber that waits for its feeds; ``done`` makes its result of the logits."""

    fiber: Fiber
    rows: set[int]
    done: Callable[[dict[int, Tensor]], Any]
