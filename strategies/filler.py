"""filler: meaningless tokens where worked lines would stand; a control for strategies that say something there.

Knows what stands between question and answer; that fillers are given, and paid for as thinking, follows from their role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from harness.problem import SEP, Piece, Problem, Question, Text
from harness.strategy import Strategy, Woven, setting
from strategies._lines import lines_of
from strategies._pauses import PAUSE_PIECE, laid

MOST_FILLERS = 256
UNTOLD_FILLERS = 16  # where the task does not say how long worked lines can get


@dataclass(frozen=True, kw_only=True)
class Filler(Strategy):
    """Fillers: meaningless tokens in place of worked lines, as many as those could take.

    Lessons: q <filler>^n <sep> a END. With ``mixture``, that share of the problems, drawn one by one, is taught as q lines <sep>
    a END instead (the source: half, with lines that can be worked out in parallel); fillers alone are asked. How many fillers are
    asked with is not tied to training.
    """

    source = "Pfau, Merrill, Bowman 2404.15758, Let's think dot by dot"
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"ask_fillers": (0, 4, 8, 16, 32, 64)}
    neutral: ClassVar[Mapping[str, Any]] = {"fillers": 0, "ask_fillers": None, "sep": False, "mixture": 0.0}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"place": "own", "fillers": 6},
        {"fillers": 5, "ask_fillers": 2, "sep": False},
        {"mixture": 0.5},
    )

    fillers: int | None = setting(
        None, doc="fillers in training; none: as many tokens as the task's worked lines can take", low=0, high=MOST_FILLERS
    )
    ask_fillers: int | None = setting(None, doc="fillers when asked; none: as in training", low=0, high=MOST_FILLERS, when="ask")
    made_of: Literal["pause", "text"] = setting("pause", doc="a filler: a token that nobody can say, or the text of mark")
    mark: str = setting(".", doc="made_of=text: the filler; it must be in the task's alphabet")
    place: Literal["shared", "own"] = setting("shared", doc="positions of pauses: the question's last one, or contiguous")
    sep: bool = setting(True, doc="<sep> between fillers and answer, as between worked lines and answer")
    loss_on: Literal["answer", "all"] = setting("answer", doc="all: marks are targets too, as in the source")
    mixture: float = setting(0.0, doc="share of the problems that are taught with worked lines instead", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if self.made_of == "text" and (self.place == "own" or not self.mark):
            raise ValueError("made_of: text wants a mark and place=shared, since marks have positions like any other text")
        if self.made_of == "pause" and self.loss_on == "all":
            raise ValueError("loss_on: all wants made_of=text, since nobody can say a pause; legal with pauses: answer")

    def needs(self) -> frozenset[str]:
        """A prompt; worked lines for a mixture."""
        return frozenset({"prompt", "worked_lines"} if self.mixture else {"prompt"})

    def wording(self) -> Sequence[str]:
        """The mark."""
        return (self.mark,) if self.made_of == "text" else ()

    def lessons(self, problem: Problem, *, progress: float, rng: np.random.Generator) -> list[Text]:
        """Fillers, or worked lines, between question and answer."""
        (plain,) = super().lessons(problem, progress=progress, rng=rng)
        if self.mixture and rng.random() < self.mixture:
            lines: Text = (Piece(lines_of(problem), "thought", True),)
        else:
            lines = self._fillers(problem.question, self.fillers)
        return [(plain[0], *lines, *self._end, *plain[1:])]

    def prompt(self, question: Question) -> Text:
        """The question and its fillers."""
        count = self.fillers if self.ask_fillers is None else self.ask_fillers
        return (*super().prompt(question), *self._fillers(question, count), *self._end)

    def _fillers(self, question: Question, count: int | None) -> Text:
        """``count`` of them, or what worked lines could take at most."""
        if count is None:
            count = min(question.lines_cap_tokens or UNTOLD_FILLERS, MOST_FILLERS)
        one = Piece(self.mark, "thought", self.loss_on == "all") if self.made_of == "text" else PAUSE_PIECE
        return (one,) * count

    @property
    def _end(self) -> Text:
        return (Piece(SEP, "thought"),) if self.sep else ()

    def weave(self, ids: Any, roles: Any, places: Any) -> Woven:
        """Text as it is, at positions of its own or shared ones."""
        return laid(ids, places, self.place)

    def positions(self, context_tokens: int) -> int:
        """Contiguous positions have room for as many fillers as can be asked for, so that asking needs no other weights."""
        return context_tokens + (MOST_FILLERS if self.place == "own" else 0)
