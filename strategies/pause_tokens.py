"""pause_tokens: a few idle tokens between question and answer, in finetuning, in pretraining, or only when asked.

Knows where pauses stand, what they are made of and which phase of training comes before; that pauses carry no target and are paid
for as thinking follows from what they are: inserted-only specials with the role of a thought.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.problem import MAX_THOUGHTS, THOUGHTS, Piece, Problem, Question, Text, Tokens
from harness.strategy import Strategy, Woven, setting
from harness.task import Task
from harness.wants import Holding, Likelihood, Score, Solver, Start
from strategies import _pauses
from strategies._pauses import PAUSE_PIECE

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PauseTokens(Strategy):
    """Pause tokens: idle tokens before the answer, which is read at the last one.

    Questions: q <pause>^M a END, loss on a and END. Windows of documents: round(0.1 S) pauses at random places, trimmed to S
    positions; positions whose target is a pause carry no loss. With ``train.match=examples`` both pretraining recipes see equal
    total tokens, with ``tokens`` equal real ones. Deviation: the source's prefix is bidirectional, here all is causal.
    """

    source = "Goyal et al. 2310.02226, Think before you speak: training language models with pause tokens"
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"ask_pauses": (0, 1, 2, 4, 8, 10, 16, 20)}
    neutral: ClassVar[Mapping[str, Any]] = {
        "pauses": 0, "ask_pauses": None, "inserted": 0.0, "ask_inserted": 0.0, "pretraining": "none",
    }  # fmt: skip
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"place": "shared"}, {"ask_pauses": 3, "pauses": 2}, {"embed": "own"}, {"embed": "untrained"}, {"where": "before"},
    )  # fmt: skip

    pauses: int = setting(10, doc="pauses in training (M_ft); 0 is direct", low=0, high=256)
    ask_pauses: int | None = setting(None, doc="pauses when asked (M_inf); none: as trained", low=0, high=512, when="ask")
    embed: Literal["shared", "own", "untrained", "text"] = setting(
        "shared", doc="a pause's input: one learned vector, one per slot, an untrained one, or the text of mark (controls)"
    )
    mark: str = setting(".", doc="embed=text: what stands for a pause; it must be in the task's alphabet")
    place: Literal["own", "shared"] = setting("own", doc="positions: contiguous, or pauses have the question's last one")
    where: Literal["after", "before"] = setting("after", doc="pauses after the question, or before it (a control)")
    inserted: float = setting(0.1, doc="documents: pauses in training, as a share of a window's positions", low=0.0, high=1.0)
    ask_inserted: float = setting(0.0, doc="documents: the same when asked, a fixed pattern", low=0.0, high=1.0, when="ask")
    pretraining: Literal["none", "standard", "pause"] = setting(
        "none", doc="a phase before, on text of the task: plain, or with pauses inserted; shared by all who start from it"
    )

    def __post_init__(self) -> None:
        most, legal = max(self.pauses, self.ask_pauses or 0), "place=shared has no such limit"
        if self.embed == "own" and most > MAX_THOUGHTS:
            raise ValueError(f"embed: own has {MAX_THOUGHTS} vectors, got {most} pauses; legal for more: shared")
        if self.embed == "text" and (self.place == "shared" or not self.mark):
            raise ValueError("embed: text wants a mark and place=own, since a mark is text like any other")
        if self.embed in ("text", "untrained") and self.pretraining == "pause":
            raise ValueError(f"pretraining: pause teaches a vector that embed={self.embed} does not use; legal: none, standard")
        if self.pretraining == "pause" and not self.inserted:
            raise ValueError("pretraining: pause wants inserted above 0, such as 0.1")
        if self.place == "own" and self.embed != "text" and (self.ask_pauses or 0) > 2 * self.pauses:
            raise ValueError(f"ask_pauses: place=own has positions for 2 x {self.pauses} pauses, got {self.ask_pauses}; {legal}")
        if self.place == "own" and self.ask_inserted > 2 * self.inserted:
            raise ValueError(
                f"ask_inserted: place=own has positions for a share of 2 x {self.inserted:g}, got {self.ask_inserted:g}; {legal}"
            )

    def wording(self) -> Sequence[str]:
        """The mark."""
        return (self.mark,) if self.embed == "text" else ()

    def lessons(self, problem: Problem, *, progress: float, rng: np.random.Generator) -> list[Text]:
        """Pauses between question and answer, or inserted into a window."""
        (plain,) = super().lessons(problem, progress=progress, rng=rng)
        if not problem.question.window:
            return [self._paused(plain, self.pauses)]
        return [_pauses.window_with_pauses(plain, self.inserted, rng) if self.inserted else plain]

    def prompt(self, question: Question) -> Text:
        """The question with its pauses; a window as it is."""
        plain = super().prompt(question)
        count = self.pauses if self.ask_pauses is None else self.ask_pauses
        return plain if question.window else self._paused(plain, count)

    def _paused(self, text: Text, count: int) -> Text:
        """``count`` pauses behind the first piece, the question, or before it."""
        if self.embed == "text":
            pauses = (Piece(self.mark, "thought"),) * count
        else:
            pauses = tuple(Piece(THOUGHTS[i], "thought") for i in range(count)) if self.embed == "own" else (PAUSE_PIECE,) * count
        return (*pauses, *text) if self.where == "before" else (text[0], *pauses, *text[1:])

    def weave(self, ids: Any, roles: Any, places: Any) -> Woven:
        """Text as it is, at positions of its own or shared ones."""
        return _pauses.laid(ids, places, self.place)

    def positions(self, context_tokens: int) -> int:
        """Contiguous positions have room for twice the pauses of training, so that asking with more needs no other weights."""
        more = max(2 * self.pauses, int(np.ceil(2 * self.inserted * context_tokens)))
        return context_tokens + (more if self.place == "own" else 0)

    def parts(self, config: Any) -> Mapping[str, nn.Module]:
        """embed=untrained: the vector."""
        return {"pause": _pauses.untrained_vector(config)} if self.embed == "untrained" else {}

    def forward(self, backbone: Any, cells: Any, slots: Any) -> Tensor:
        """Once through the blocks."""
        return (_pauses.forward_with_vector if self.embed == "untrained" else super().forward)(backbone, cells, slots)

    def score(self, question: Question, continuations: tuple[Text, ...]) -> Solver[list[Likelihood]]:
        """As ever; in windows, with ``ask_inserted``, pauses stand in context and continuation, whose text alone is scored."""
        if not self.ask_inserted or not question.window:
            return (yield from super().score(question, continuations))
        rng = np.random.default_rng(zlib.crc32(question.id.encode()))
        row = yield Start(self._scattered(super().prompt(question), rng, fixed=1))
        likelihoods: list[Likelihood] = yield Score(row, tuple(self._scattered(c, rng, fixed=0) for c in continuations))
        return likelihoods

    def holding(self, question: Question) -> Holding:
        """In windows, pauses between the tokens too."""
        held = super().holding(question)
        if not self.ask_inserted or not question.window:
            return held
        assert isinstance(question.text, Tokens)
        tokens = len(question.text.ids) + question.answer_cap_tokens
        return replace(held, inserted=ceil(self.ask_inserted * tokens) + 2)

    def _scattered(self, text: Text, rng: np.random.Generator, *, fixed: int) -> Text:
        """Pauses at random places, the text whole and its last token last."""
        tokens = _pauses.count_tokens(text)
        pauses = round(self.ask_inserted * tokens)
        pattern = _pauses.random_pattern(tokens - 1, pauses, rng, fixed=min(fixed, tokens - 1))
        return _pauses.interleaved(text, np.append(pattern, False))

    def pretraining_phase(self, task_name: str, task: Task) -> Mapping[str, Any]:
        """Plain training, or that with pauses, on documents: the task's own, or those that `strings` makes of its problems."""
        if self.pretraining == "none":
            return {}
        recipe = {"strategy": "pause_tokens", "strategy.pauses": 0, "strategy.inserted": self.inserted}
        phase = recipe | {"strategy.place": self.place} if self.pretraining == "pause" else {}
        return {**phase, **_pauses.text_of(task_name, task)}
