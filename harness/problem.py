"""What tasks and strategies exchange: pieces of text, questions, keys, problems.

Knows nothing of tokens, models or scoring; every other module may import it, it imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["prompt", "thought", "answer"]
ROLES: tuple[Role, ...] = ("prompt", "thought", "answer")
ACCESS = ("none", "checker", "oracle")  # what a search may use beside the model, from little to all


@dataclass(frozen=True, slots=True)
class Special:
    """A token that no text can spell, such as ``<sep>``: a user's literal "<sep>" stays plain text."""

    name: str


END = Special("<end>")  # end of text; also the prefix token of documents
SEP = Special("<sep>")  # between worked lines and answer
BOT = Special("<bot>")  # opens a span of thoughts
EOT = Special("<eot>")  # closes it
SAYABLE: tuple[Special, ...] = (SEP, BOT, EOT)  # what a strategy may opt into saying; END always is
MAX_THOUGHTS = 64
THOUGHTS: tuple[Special, ...] = tuple(Special(f"<t{i}>") for i in range(1, MAX_THOUGHTS + 1))
SPARE = Special("<spare>")
INSERTED: tuple[Special, ...] = (*THOUGHTS, SPARE)  # never sayable


@dataclass(frozen=True, slots=True)
class Tokens:
    """Text that is already encoded, such as a window of a document. text: what the tokens spell, where somebody may want to put
    words around it."""

    ids: tuple[int, ...]
    text: str | None = None


Content = str | Special | Tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text with a role. Encoded alone: no token spans two pieces.

    target: whether the model is taught to say it.
    """

    content: Content
    role: Role
    target: bool = False


Text = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """All that a strategy may see when it is asked.

    answer_cap_tokens, lines_cap_tokens: the most tokens that an answer (end of text included) and its worked lines can take,
    whatever the alphabet. closes: strings at which an answer ends as at end of text, and which are no part of it; cap_ends: an
    answer that its cap cuts off is one, as far as it came (so it is where somebody else poses the question). window: this is a
    stretch of a document that is modelled as it is: it asks nothing, and no words are put around it.
    """

    id: str
    text: Content
    answer_cap_tokens: int = 64
    lines_cap_tokens: int = 0
    closes: tuple[str, ...] = ()
    cap_ends: bool = False
    window: bool = False

    @property
    def words(self) -> str:
        """The text as people read it; ValueError if it is of tokens and nobody has said what they spell."""
        text = self.text.text if isinstance(self.text, Tokens) else self.text
        if text is None:
            raise ValueError(
                f"question {self.id!r}: its tokens have no text, so no words can be put around it; give Tokens a text"
            )
        return text if isinstance(text, str) else ""


@dataclass(frozen=True, slots=True)
class Key:
    """What only the harness sees when a strategy is asked.

    lines: worked steps, the last of which ends in the answer. ends: whether end of text follows the answer (not so in a window
    of a document).
    """

    answer: Content
    lines: tuple[str, ...] = ()
    ends: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its key.

    difficulty: the group in which scores are also reported. weight: its share in the mean; 0 keeps it out of the headline
    metric (longer held-out problems) but in its own difficulty.
    """

    question: Question
    key: Key
    difficulty: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is modelled as a whole."""

    id: str
    text: str


def closed(pieces: Sequence[str | Special], closes: Sequence[str]) -> tuple[str | Special, ...] | None:
    """Pieces up to where some strings cut the last of them off, one string after another; None where it holds none.

    The order of the strings matters where they overlap, as in lm-eval: "Qu: y" is cut by "y" and then by ": y" to "Qu: ".
    """
    last = pieces[-1] if pieces else ""
    if not isinstance(last, str) or not any(text in last for text in closes):
        return None
    kept = last
    for text in closes:
        kept = kept.partition(text)[0]
    return (*pieces[:-1], kept) if kept else tuple(pieces[:-1])


def ended(pieces: Sequence[str | Special], closes: Sequence[str]) -> tuple[tuple[str | Special, ...], bool]:
    """Pieces without what ends them, END or one of some strings; and whether anything does."""
    shut = closed(pieces, closes)
    if shut is not None:
        return shut, True
    return (tuple(pieces[:-1]), True) if pieces[-1:] == (END,) else (tuple(pieces), False)


def shown(pieces: Iterable[str | Special]) -> str:
    """Pieces as people read them."""
    return "".join(p if isinstance(p, str) else p.name for p in pieces)


@dataclass(frozen=True, slots=True)
class Completion:
    """What one attempt said.

    pieces: strings and the specials between them, without the stop that ended it; ids: all that was said, as tokens.
    stop: "end" (a stop was said), "cap", or "budget"; stopped_by: which stop it was.
    """

    pieces: tuple[str | Special, ...]
    ids: tuple[int, ...]
    logprob_nats: float
    stop: str
    stopped_by: str | Special | None = None

    @property
    def text(self) -> str:
        """The pieces as people read them."""
        return shown(self.pieces)


@dataclass(slots=True)
class Node:
    """A state of a search. parent: the number of the node that it continues, None for what all begins with.

    said: what it adds to its parent; nats, tokens: log-probability and number of all that was said up to here; value: what its
    evaluator gave, None if it was never asked; visits: how often it was chosen to be gone on from. final: it is a whole
    attempt, with this answer (None: it gave none); fate: see FATES; flops: what was spent on it and on its evaluation.
    """

    parent: int | None
    said: str = ""
    nats: float = 0.0
    tokens: int = 0
    value: float | None = None
    visits: int = 0
    final: bool = False
    answer: str | None = None
    fate: str = "open"
    flops: int = 0


FATES = ("open", "pruned", "duplicate", "cut", "ended", "chosen")  # cut: by a cap or the budget; chosen: the answer that counts


@dataclass(frozen=True, slots=True)
class Tree:
    """All states of a search. Its cost is the sum of theirs.

    pool: whether its final states are independent draws, so that what fewer of them would give can be told; weighted: draws whose
    values weigh their votes.
    """

    nodes: Sequence[Node]
    pool: Literal["none", "draws", "weighted"] = "none"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a solver: what is graded, what was said in full, and a search's tree. text None: no answer was given."""

    text: str | None
    completion: Completion | None = None
    notes: dict[str, Sequence[float]] = field(default_factory=dict)
    tree: Tree | None = None
