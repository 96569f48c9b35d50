"""The start-up self-test: whether answers are the same in any company on this machine, bit for bit. Knows the session only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.backbone import Backbone
from harness.problem import Piece, Question, Tokens
from harness.session import Job, Session
from harness.spec import RunSpec
from harness.stream import encode
from harness.wants import Extend, Peek, Start


def bit_stable(spec: RunSpec, backbone: Backbone) -> bool:
    """The start-up self-test: does company, or cutting a text into feeds, change any bit of a likelihood on this machine?"""
    rng = np.random.default_rng(0)
    most = backbone.context_tokens - _added(spec, backbone)
    drawn = [tuple(int(i) for i in rng.integers(0, backbone.alphabet.text_end, n)) for n in (3, 5, 9, 14, 21, 6)]
    texts = [text[:most] for text in drawn]
    questions = [Question(str(i), Tokens(t[:2]), window=True) for i, t in enumerate(texts)]

    def jobs(cuts: int) -> list[Job]:
        return [Job(q.id, _in_cuts(spec, q, t[2:], cuts)) for q, t in zip(questions, texts, strict=True)]

    together = {o.job.name: o.value for o in Session(backbone).run(jobs(1))}
    alone = {o.job.name: o.value for job in jobs(1) for o in Session(backbone, rows=1).run([job])}
    stepwise = {o.job.name: o.value for o in Session(backbone, rows=3).run(jobs(100))}
    return together == alone == stepwise


def _added(spec: RunSpec, backbone: Backbone) -> int:
    """Text tokens that the strategy puts around a question."""
    ids = encode([spec.strategy.prompt(Question("", Tokens((0,)), window=True))], backbone.alphabet).ids
    return int((ids < backbone.alphabet.sayable_end).sum()) - 1


def _in_cuts(spec: RunSpec, question: Question, said: tuple[int, ...], cuts: int) -> Callable[[], Any]:
    """A solver that feeds all but the last token in one or more pieces, then peeks. It does no thinking of its own."""

    def solver() -> Any:
        row = yield Start(spec.strategy.prompt(question))
        step = max(1, -(-len(said) // cuts))
        for start in range(0, len(said), step):
            row = yield Extend(row, (Piece(Tokens(said[start : start + step]), "answer"),))
        return (yield Peek(row, 5))

    return solver
