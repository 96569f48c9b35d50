"""What a solver may want of the model, and the solver types.

A solver is a generator: it yields one want at a time and is sent its result. It never calls the model, so the session can batch
the wants of all live problems into few forwards. Knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from harness.arguments import check_number, check_whole
from harness.problem import END, Role, Special, Text

R = TypeVar("R")
Solver = Generator[Any, Any, R]


class OutOfBudget(Exception):
    """A forward pass that would take a problem past its budget was refused: raised where a solver wanted it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A handle on one sequence being decoded; the session alone knows what is behind it."""

    number: int


@dataclass(frozen=True, slots=True)
class Sampler:
    """How the next token is chosen. temperature 0: the most probable one; the other defaults truncate nothing.

    min_p: least probability, as a share of the most probable token's (Nguyen 2407.01082, section 3). typical: mass of the
    tokens kept, those whose surprise is nearest to the entropy first, in (0, 1] (Meister 2202.00666, equation 12). grammar: the
    pattern (`harness.grammar`) of all that may be said from where the answer begins; what it forbids has no probability.
    Whoever makes one, a field out of its range is a ValueError that names both.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical: float = 1.0
    grammar: str | None = None

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, low=0.0)
        check_whole("top_k", self.top_k, low=0)
        check_number("top_p", self.top_p, low=0.0, open_low=True, high=1.0)
        check_number("min_p", self.min_p, low=0.0, high=1.0)
        check_number("typical", self.typical, low=0.0, open_low=True, high=1.0)
        if self.grammar is not None and not isinstance(self.grammar, str):
            raise ValueError(f"grammar: expected a pattern or None, got {self.grammar!r}")


GREEDY = Sampler()


@dataclass(frozen=True, slots=True)
class Saying:
    """What an attempt says in one go: at most ``cap_tokens``, up to and including ``mark`` as thought; ``joint`` stands between
    its worked lines, where a search may look and choose ("": there are none). closes, cap_ends: see Question."""

    cap_tokens: int
    mark: Special | None = None
    joint: str = ""
    closes: tuple[str, ...] = ()
    cap_ends: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """What a problem holds at most, solved or scored: ``rows`` at once, in each of them ``said_tokens`` behind the prompt (None:
    up to the context), and ``inserted`` tokens that are no text."""

    rows: int = 1
    said_tokens: int | None = None
    inserted: int = 0


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of one continuation: nats = -sum log p over its text tokens; greedy: every token was the most probable one."""

    nats: float
    tokens: int
    greedy: bool


@dataclass(frozen=True, slots=True)
class Start:
    """-> Row. Feed a prompt; the next token's distribution stands ready afterwards. verifies: the row is an evaluator's, and
    whatever is fed to it is charged as verification."""

    text: Text
    verifies: bool = False


@dataclass(frozen=True, slots=True)
class Extend:
    """-> Row (the same). Feed more text to a row. scored: its answer tokens are a likelihood's, and charged as such."""

    row: Row
    text: Text
    scored: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What stands behind one token of an unrolled text: a mark for Rewind, and the most probable next token there."""

    mark: Any
    top: str | Special


@dataclass(frozen=True, slots=True)
class Unroll:
    """-> list[Step], one for each token. Feed text to a row in one pass, so that it may be cut behind any of its tokens."""

    row: Row
    text: Text


@dataclass(frozen=True, slots=True)
class Generate:
    """-> Completion. Say tokens until one of ``stops`` or ``cap_tokens``. All is fed but what nothing is read behind: END, and an
    answer's last token at its cap.

    role: "thought" for worked lines, whose cost counts as thinking; "answer" for what is graded. mark: what is said up to and
    including this special is thought, what comes after has the ``role``. until: strings that stop it too, the last token fed;
    the completion's pieces end before the string; not behind the mark, if there is one. closes: strings that end it as END
    does, behind the mark only, if there is one; cap_ends: its cap ends it as well. without: specials that are not said here;
    their probability is shared out among the other tokens. after, after_nats: what was said before this, where it is the rest
    of an attempt: grammars go on from there, and the completion's log-probability is that of all.
    """

    row: Row
    cap_tokens: int
    sampler: Sampler = GREEDY
    role: Role = "answer"
    stops: tuple[Special, ...] = (END,)
    mark: Special | None = None
    until: tuple[str, ...] = ()
    without: tuple[Special, ...] = ()
    after: tuple[int, ...] = ()
    after_nats: float = 0.0
    closes: tuple[str, ...] = ()
    cap_ends: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """-> list[Likelihood], one per continuation, each given the row; the row itself is used up.

    Pieces with the role "thought" are fed where they stand, and charged as thinking; they are no part of the likelihood.
    One continuation of one token needs no forward pass, and leaves the row as it was. without: see Generate.
    """

    row: Row
    continuations: tuple[Text, ...]
    without: tuple[Special, ...] = ()


@dataclass(frozen=True, slots=True)
class Peek:
    """-> list[(token id, log-probability)]: the row's ``k`` most probable next tokens, best first; of equals the first."""

    row: Row
    k: int


@dataclass(frozen=True, slots=True)
class Top:
    """-> (piece, log-probability): the row's most probable next token. without: see Generate."""

    row: Row
    without: tuple[Special, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """-> int: how many more text tokens the row can hold."""

    row: Row


@dataclass(frozen=True, slots=True)
class Split:
    """-> Text: the same text, a piece for each token."""

    text: Text


@dataclass(frozen=True, slots=True)
class Spell:
    """-> the pieces of token ids, as in a Completion."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Fork:
    """-> list[Row]: ``count`` rows that continue from this one, the first is the row itself. verifies: the others, see Start."""

    row: Row
    count: int
    verifies: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """-> an opaque mark of the row's present state, for Rewind."""

    row: Row


@dataclass(frozen=True, slots=True)
class Rewind:
    """-> Row. Take the row back to a mark; what was computed since stays charged."""

    row: Row
    mark: Any


@dataclass(frozen=True, slots=True)
class Drop:
    """-> None. The row is no longer needed."""

    row: Row


@dataclass(frozen=True, slots=True)
class Gather:
    """-> list: the results of several solvers that run side by side."""

    solvers: tuple[Solver[Any], ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """-> float: the grade of an answer. Uses the key: the record is marked as an oracle's."""

    answer: str


@dataclass(frozen=True, slots=True)
class Reveal:
    """-> the key's worked lines. Uses the key: the record is marked as an oracle's."""

    what: Literal["lines"] = "lines"


@dataclass(frozen=True, slots=True)
class Examples:
    """-> tuple[Problem, ...]: problems ``start`` .. ``start + count - 1`` of the train split, with their worked lines."""

    count: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """-> int: how many tokens a text has in the model's alphabet."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """-> None. Keep a named list of numbers for the record, e.g. values of tree nodes."""

    name: str
    values: Sequence[float] = field(default_factory=tuple)
