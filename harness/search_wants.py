"""What a search may want beside the other wants: beams, values, costs, and what a task can say of answers.

Knows nothing of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.problem import Completion, Role, Special
from harness.wants import Row


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One of a beam's endings. score: log-probability / tokens said ** alpha; node: where it stands among the beam's nodes;
    row: where it can be gone on from, if the beam was to ``keep`` rows."""

    completion: Completion
    score: float
    node: int
    row: Row | None = None


@dataclass(slots=True)
class Prefixes:
    """All prefixes that a beam kept, one token longer than their parents each: columns of equal length.

    parent: index of the prefix before it, -1 behind the row that the beam began with; id, said: its last token; nats: its
    log-probability; flops: what feeding its last token cost; before_flops: thoughts that the row still owed.
    """

    parent: list[int] = field(default_factory=list)
    id: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)
    before_flops: int = 0

    def ids(self, node: int, *, most: int | None = None) -> tuple[int, ...]:
        """What a prefix says, or its ``most`` last tokens."""
        ids: list[int] = []
        while node >= 0 and len(ids) != most:
            ids.append(self.id[node])
            node = self.parent[node]
        return tuple(ids[::-1])


@dataclass(frozen=True, slots=True)
class Beam:
    """-> (list[Hypothesis], Prefixes). The endings that keeping ``width`` prefixes finds, best first: at least ``count``.

    Uses the row up. The other settings are Generate's. A stop finishes only within the ``width`` best of the next prefixes; all
    ends when no prefix can still become better than the ``count`` best endings, at alpha above 0 however long it grows. until:
    each string must be held by single tokens. keep: the ``count`` best endings' rows live on, their stops fed, END apart (and
    what ends it as END does).
    """

    row: Row
    cap_tokens: int
    width: int
    count: int = 1
    alpha: float = 0.0
    grammar: str | None = None
    role: Role = "answer"
    mark: Special | None = None
    until: tuple[str, ...] = ()
    after: tuple[int, ...] = ()
    after_nats: float = 0.0
    keep: bool = False
    closes: tuple[str, ...] = ()
    cap_ends: bool = False


@dataclass(frozen=True, slots=True)
class Values:
    """-> list[float]: the value model's chance of success behind each row, charged as verification."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class LastState:
    """-> float32 array (D,): the row's last state, which a value model would rate; for fitting one."""

    row: Row


@dataclass(frozen=True, slots=True)
class Spent:
    """-> list[int]: FLOPs on cells of each row's own, and on its values, since it was made or last asked.

    With no rows: [all that the problem has spent and nobody was told of], on rows that were dropped, say.
    """

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """-> bool: whether an answer is right, by the question alone; for tasks that offer a "checker". The record says so."""

    answer: str


@dataclass(frozen=True, slots=True)
class Canonical:
    """-> str: the form in which equal answers are equal, for votes."""

    answer: str


@dataclass(frozen=True, slots=True)
class Foresee:
    """-> bool: whether worked lines can still lead to a right answer. Uses the key: the record is marked as an oracle's."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forms:
    """-> Mapping[str, str]: the task's grammar, see `Task.grammar`: the form of answers and lines, and nothing of the key."""


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """A value model that is to be there: what it is fitted on, and its size.

    problems: of the value split; prefixes are sampled from the base at ``temperature``, one attempt a problem, and each of their
    states (behind every worked line, and at the start) is rated by the share of ``rollouts`` sampled attempts from there that
    are right. hidden: width of its one hidden layer; epochs: how often each state is met.
    """

    problems: int
    rollouts: int
    temperature: float
    hidden: int
    epochs: int
