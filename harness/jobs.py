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
from harness.problem import Completion
from harness.rows import Trace
from harness.wants import Solver

Oracle = Callable[[Any], Any]  # answers Judge and Reveal


@dataclass(frozen=True, slots=True)
class Job:
    """A problem to solve: solver makes a fresh generator; oracle answers wants that use the key (None: they are refused)."""

    name: str
    solver: Callable[[], Solver[Any]]
    seed: int = 0
    limit_flops: float = np.inf
    oracle: Oracle | None = None


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


@dataclass(slots=True, eq=False)
class Writing:
    """A row that is saying something."""

    fiber: Fiber
    want: wants.Generate
    stops: frozenset[int]
    cap: int
    key: int
    ids: list[int] = field(default_factory=list)
    nats: float = 0.0  # log-probability so far, so not above 0

    def completion(self, alphabet: Alphabet, stop: str) -> Completion:
        """What was said, without the stop token."""
        pieces = alphabet.pieces(self.ids)
        said_stop = stop == "end" and bool(pieces)
        return Completion(pieces[:-1] if said_stop else pieces, tuple(self.ids), self.nats, stop)


@dataclass(slots=True)
class Waiting:
    """A fiber that waits for its feeds; ``done`` makes its result of the logits."""

    fiber: Fiber
    rows: set[int]
    done: Callable[[dict[int, Tensor]], Any]
