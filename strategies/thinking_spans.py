"""thinking_spans: the model opens a span inside the text, thinks, and closes it.

Knows where lessons have spans, what their cells are taught, and when one opens; the thought is one row of the shared table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.problem import BOT, EOT, MAX_THOUGHTS, THOUGHTS, Completion, Piece, Question, Special, Text
from harness.strategy import NOTHING, PAUSE, TEXT, THOUGHT, Sight, Strategy, View, Woven, plain_weave, setting
from harness.wants import Fork, Gather, Holding, Likelihood, Row, Sampler, Saying, Solver
from strategies._spans import CLOSE, OPEN, THOUGHT_PIECE, Spans, again_targets, marginal_loss, taught_places, with_spans

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2  # the inserted-only special -(k + KEPT) stands, in training alone, for the cap's thoughts of which later places see k


@dataclass(frozen=True, kw_only=True)
class ThinkingSpans(Strategy):
    """Thinking spans: the model opens and closes its own thinking inside the text.

    <bot> R^n <eot>, or, without delimiters, R^n and one more output that says "think". In a span that output (<bot>'s) says
    "think again"; R itself is never said. A span is greedy: it opens where that output is the most probable one, and closes at
    the first cell where <eot> is (without delimiters: where "think" is not).
    """

    source = "Bonetto 2024, the author's next step in the public discussion of Self-Reasoning Tokens (HN 40099941)"
    neutral: ClassVar[Mapping[str, Any]] = {"cap": 0}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"one_shot": True},
        {"before": "each", "span": 3, "lengths": "uniform", "one_shot": True},
        *({"delimiters": "none"} | more for more in ({"before": "each"}, {"one_shot": True})),
        *({"placement": "learned", "delimiters": "none", "cap": 3, "one_shot": shot} for shot in (False, True)),
        *({"placement": "low_confidence", "delimiters": "none", "threshold": 0.9, "one_shot": shot} for shot in (False, True)),
    )

    placement: Literal["given", "low_confidence", "learned"] = setting(
        "given", doc="where lessons have spans: at given places, where the model is unsure, or where it has learned to think"
    )
    delimiters: Literal["two", "none"] = setting("two", doc="<bot> and <eot>, or one more output; none unless placement=given")
    before: Literal["answer", "each"] = setting("answer", doc="given: a span before the first, or before each, taught token")
    span: int = setting(2, doc="given, low_confidence: thoughts in a lesson's span", low=0, high=1024)
    lengths: Literal["fixed", "uniform"] = setting("fixed", doc="a lesson's spans have `span` thoughts, or from 0 to as many")
    cap: int = setting(4, doc="most thoughts in a span; 0 is direct", low=0, high=1024)
    one_shot: bool = setting(False, doc="feed a span's cap of thoughts in one pass and cut it where it closes", when="ask")
    threshold: float = setting(0.5, doc="low_confidence: a span opens where the most probable token has less", low=1e-9, high=1.0)
    ponder: float = setting(0.01, doc="learned: cost in nats of each further thought before speaking", low=0.0, high=10.0)

    def __post_init__(self) -> None:
        if self.placement != "given" and self.delimiters == "two":
            raise ValueError(f"delimiters: placement={self.placement} has no tokens to open and close with; legal: none")
        if 0 < self.cap < self.span and self.placement != "learned":
            raise ValueError(f"cap: {self.cap} is less than a lesson's span of {self.span}; legal: at least that, or 0")
        if self.placement == "learned" and self.cap > MAX_THOUGHTS - KEPT:
            raise ValueError(f"cap: with placement=learned expected at most {MAX_THOUGHTS - KEPT}, got {self.cap}")

    @property
    def _spans(self) -> Spans:
        threshold = self.threshold if self.placement == "low_confidence" else None
        return Spans(self.delimiters == "two", self.cap, self.one_shot, threshold)

    def sayable(self) -> tuple[Special, ...]:
        """<bot> says "think" and "think again"."""
        return () if self.cap == 0 else (BOT, EOT) if self.delimiters == "two" else (BOT,)

    def revise(self, texts: list[Text], look: Any, rng: np.random.Generator) -> list[Text]:
        """The lessons with their spans, as far as the context has room for delimiters."""
        if self.cap == 0:
            return texts
        texts = look.tokens(texts)
        places = [taught_places(t) for t in texts]
        if self.placement == "low_confidence":
            sure = look.confidences(texts, without=(BOT,))
            places = [[at for at in p if s[at - 1] < self.threshold] for p, s in zip(places, sure, strict=True)]
        elif self.placement == "given":
            most = [1 if self.before == "answer" else len(p) for p in places]
            if self.delimiters == "two":
                most = [min(m, (look.context_tokens + 1 - len(t)) // 2) for m, t in zip(most, texts, strict=True)]
            places = [p[: max(m, 0)] for p, m in zip(places, most, strict=True)]
        return [with_spans(t, {at: self._taught_span(rng) for at in p}) for t, p in zip(texts, places, strict=True)]

    def _taught_span(self, rng: np.random.Generator) -> Text:
        """One span of a lesson. learned: how many of the cap's thoughts later places see, drawn uniformly."""
        if self.placement == "learned":
            return (Piece(THOUGHTS[KEPT - 1 + int(rng.integers(self.cap + 1))], "thought", True),)
        count = self.span if self.lengths == "fixed" else int(rng.integers(self.span + 1))
        thoughts = (THOUGHT_PIECE,) * count
        return (OPEN, *thoughts, CLOSE) if self.delimiters == "two" else thoughts

    def weave(self, ids: Any, roles: Any, places: Any) -> Woven:
        """Text as it is, thoughts too; in training with placement=learned, all of a place's thoughts, some for itself alone."""
        marks = ids <= -KEPT
        if not marks.any():
            return plain_weave(ids, places)
        lengths = np.where(marks, self.cap, 1)
        source = np.repeat(np.arange(len(ids)), lengths)
        within = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        thought, yes = marks[source], np.ones(len(source), dtype=bool)
        slot = np.where(thought, within + 1, 0)
        kind = np.where(thought, np.where(slot <= -ids[source] - KEPT, THOUGHT, PAUSE), TEXT)
        embed = np.where(thought, -1, ids[source])
        return Woven(source, kind, embed, np.full(len(source), NOTHING), places[source], slot, yes, yes)

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """Later places do not see the thoughts that a place has for itself alone."""
        alone = (k.kind == PAUSE) & (k.slot > 0)
        if self.placement != "learned" or not alone.any():
            return None
        later = q.place[:, :, None] > k.place[:, None, :]
        return Sight(look=((k.index[:, None, :] <= q.index[:, :, None]) & ~(alone[:, None, :] & later))[:, None])

    def loss(self, backbone: Any, states: Tensor, cells: Any, progress: float) -> Tensor:
        """Cross-entropy, "think again" wherever a thought follows; learned: over all numbers of thoughts by their chances."""
        if self.cap == 0:
            return super().loss(backbone, states, cells, progress)
        import torch.nn.functional as F

        logits, think = backbone.head(states, cells.reads), backbone.head_ids.index(backbone.alphabet.id_of(BOT))
        if self.placement == "learned":
            return marginal_loss(logits, cells.targets, think=think, thoughts=self.cap, ponder=self.ponder)
        opening = self.placement == "given"
        return F.cross_entropy(logits, again_targets(cells, column=think, opening=opening))

    def saying(self, question: Question) -> Saying | None:
        """None: spans stand between its tokens."""
        return super().saying(question) if self.cap == 0 else None

    def holding(self, question: Question) -> Holding:
        """A span before every token."""
        return Holding(1, None, self.cap * (question.answer_cap_tokens + 1))

    def attempt(self, question: Question, row: Row, sampler: Sampler) -> Solver[Completion]:
        """Say the answer, thinking before its tokens wherever a span opens."""
        said = Saying(question.answer_cap_tokens, closes=question.closes, cap_ends=question.cap_ends)
        return (yield from (self._spans.write(row, sampler, said) if self.cap else super().attempt(question, row, sampler)))

    def score(self, question: Question, continuations: tuple[Text, ...]) -> Solver[list[Likelihood]]:
        """Likelihoods given greedy spans."""
        if self.cap == 0:
            return (yield from super().score(question, continuations))
        rows = yield Fork((yield from self.ready(question)), len(continuations))
        found: list[Likelihood] = yield Gather(tuple(map(self._spans.likelihood, rows, continuations)))
        return found
