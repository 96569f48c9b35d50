"""A solver run without a model: what it feeds if everything that it lets a model say takes as long as it may, and a solver that
asks for the room that is left finds none.

So the texts of a question are known before anything is trained. Knows wants and pieces; knows no alphabet and no strategy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.problem import END, Completion, Text
from harness.refusal import is_refusal
from harness.wants import (
    Count,
    Drop,
    Examples,
    Extend,
    Fork,
    Gather,
    Generate,
    Likelihood,
    Mark,
    Note,
    Reveal,
    Rewind,
    Room,
    Row,
    Score,
    Solver,
    Start,
)

Stretch = Text | int  # what is fed to a row, or how many tokens the model may say there
NOTHING_SAID = Completion((), (), 0.0, "end", END)


@dataclass(slots=True)
class Rehearsal:
    """What the solvers of one question feed. supplies: answers `Examples` and `Reveal`; count: tokens of a text.

    fed: rows whose last stretch is fed, so that all of the row must fit into the context. read: rows whose last stretch is a
    likelihood's, of which the last token is not fed.
    """

    supplies: Callable[[Any], Any]
    count: Callable[[str], int] = len
    fed: list[tuple[Stretch, ...]] = field(default_factory=list)
    read: list[tuple[Stretch, ...]] = field(default_factory=list)
    _rows: list[tuple[Stretch, ...]] = field(default_factory=list)

    def follow(self, solver: Solver[Any]) -> tuple[bool, Any]:
        """Whether a solver was followed to its end, and what it returned; it is left at the first want that takes a model.

        A solver that fails is left too, since no model has answered it: its run tells the fault, and stops no other. What a
        solver refuses is told at once.
        """
        answer: Any = None
        while True:
            try:
                want = solver.send(answer)
            except StopIteration as stop:
                return True, stop.value
            except Exception as error:
                if isinstance(error, ValueError) and is_refusal(error):
                    raise
                return False, None
            known, answer = self._answer(want)
            if not known:
                solver.close()
                return False, None

    def _answer(self, want: Any) -> tuple[bool, Any]:
        """Whether a want is one that can be answered here, and its answer."""
        if isinstance(want, Start):
            self.fed.append((want.text,))
            return True, self._row((want.text,))
        if isinstance(want, (Examples, Reveal)):
            return True, self.supplies(want)
        if isinstance(want, Gather):
            return self._gathered(want)
        if isinstance(want, (Drop, Note)):
            return True, None
        if isinstance(want, Room):
            return True, 0
        if isinstance(want, Count):
            return True, self.count(want.text)
        if isinstance(want, (Extend, Generate, Score, Fork, Mark, Rewind)):
            return True, self._on_row(want, want.row.number)
        return False, None

    def _on_row(self, want: Extend | Generate | Score | Fork | Mark | Rewind, at: int) -> Any:
        row = self._rows[at]
        if isinstance(want, Mark):
            return row
        if isinstance(want, Fork):
            return [want.row, *(self._row(row) for _ in range(want.count - 1))]
        if isinstance(want, Score):
            self.read += [(*row, text) for text in want.continuations]
            return [Likelihood(0.0, 1, False) for _ in want.continuations]
        if isinstance(want, Rewind):
            self._rows[at] = want.mark
            return want.row
        if isinstance(want, Generate):
            self._rows[at] = (*row, max(want.cap_tokens, 0))
            return NOTHING_SAID
        self._rows[at] = (*row, want.text)
        self.fed.append(self._rows[at])
        return want.row

    def _gathered(self, want: Gather) -> tuple[bool, Any]:
        """Solvers that run side by side do alike: the first one stands for all."""
        first, *others = want.solvers
        for other in others:
            other.close()
        known, value = self.follow(first)
        return known, [value] * len(want.solvers)

    def _row(self, stretches: tuple[Stretch, ...]) -> Row:
        self._rows.append(stretches)
        return Row(len(self._rows) - 1)
