"""Checks of the model under a strategy: no leak, one meaning of cached and whole, no influence of company, no unsayable word.

Runs on tiny untrained weights. Knows passes, reads and jobs; knows no plugin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.checks.context import (
    LOOSE,
    PLAIN,
    Context,
    NotApplicable,
    places_read,
    trained_states,
    watched,
)
from harness.checks.contract import changed
from harness.examination import gold_text
from harness.problem import END, INSERTED, SAYABLE, Answer, Piece, Question, Text, Tokens
from harness.session import Job, Outcome
from harness.strategy import Strategy
from harness.wants import Extend, Peek, Sampler, Score

HOT = Sampler(temperature=1.5)
CONTINUATION_TOKENS = 9
LEAKS = "changing token"  # how the message of a leak begins


def no_leak_in_training(context: Context) -> None:
    """Changing a later token leaves every earlier log-probability alone, bit for bit, on the training step's own path."""
    texts = context.texts
    before = _read_in_training(context, texts)
    ids = np.array([p.content.ids[0] for p in texts[0] if isinstance(p.content, Tokens)])
    words, places = np.flatnonzero(ids < context.alphabet.text_end), np.cumsum(ids < context.alphabet.sayable_end) - 1
    for at in sorted({int(words[1]), int(words[len(words) // 2]), int(words[-1])}):
        after = _read_in_training(context, [_with_other_token(context, texts[0], at), *texts[1:]])
        for (old, row, place), (new, new_row, new_place) in zip(before, after, strict=True):
            kept, new_kept = (row > 0) | (place < places[at]), (new_row > 0) | (new_place < places[at])
            assert torch.equal(old[torch.from_numpy(kept)], new[torch.from_numpy(new_kept)]), (
                f"{LEAKS} {at} of a text changes what was said before it: let no cell of an earlier place look at a later "
                "one (`sight`), and build a token's cells from that token alone (`weave`)"
            )


def _read_in_training(context: Context, texts: Sequence[Text]) -> list[tuple[Tensor, Any, Any]]:
    """Log-probabilities with row and place: by read state, and by text token as `readout` mixes them."""
    cells = context.batch(context.strategy, texts).cells
    states = trained_states(context, cells)
    row, place = places_read(cells)
    by_state = context.backbone.head(states, cells.reads).detach()
    said = context.strategy.readout(context.backbone, states, cells.reads).detach()
    if len(said) != len(row):
        first = np.unique(cells.reads.group.cpu().numpy(), return_index=True)[1]
        return [(by_state, row, place), (said, row[first], place[first])]
    return [(by_state, row, place), (said, row, place)]


def _with_other_token(context: Context, text: Text, at: int) -> Text:
    """The text with another text token at place ``at``."""
    piece = text[at]
    assert isinstance(piece.content, Tokens)
    other = Tokens(((piece.content.ids[0] + 1) % context.alphabet.text_end,))
    return (*text[:at], dataclasses.replace(piece, content=other), *text[at + 1 :])


def no_leak_when_asking(context: Context) -> None:
    """Changing a later token leaves every earlier log-probability alone, bit for bit, when a continuation is scored."""
    said = _continuation(context)
    before = _scored(context, said)[1]
    for at in (1, CONTINUATION_TOKENS // 2):
        after = _scored(context, _with_other_token(context, said, at))[1]
        kept = len(_scored(context, said[: at + 1])[1])  # what is read before that token is fed
        assert len(after) >= kept and torch.equal(before[:kept], after[:kept]), (
            f"{LEAKS} {at} of a continuation changes the probabilities before it: let no cell look at a later place"
        )


def _continuation(context: Context) -> Text:
    return tuple(Piece(Tokens((int(i),)), "answer") for i in context.random_ids(CONTINUATION_TOKENS, 2))


def _question(context: Context) -> Question:
    return context.problems[0].question


def _alone(context: Context, solver: Callable[[Strategy], Any]) -> tuple[Outcome, Tensor]:
    """A job in a session of its own, and all log-probabilities that were read out."""
    seen: list[Tensor] = []
    strategy = watched(context.strategy, seen)
    backbone = context.backbone
    try:
        backbone.strategy = strategy
        outcome = context.solve([Job("0", lambda: solver(strategy))], rows=1)["0"]
    finally:
        backbone.strategy = context.strategy
    return outcome, torch.cat(seen)


def _scored(context: Context, said: Text) -> tuple[Outcome, Tensor]:
    return _alone(context, lambda strategy: strategy.score(_question(context), (said,)))


def cached_is_whole(context: Context) -> None:
    """Feeding a continuation token by token gives what feeding it at once gives: cells, probabilities and bits."""
    said = _continuation(context)

    def whole_at_once(strategy: Strategy) -> Any:
        row = yield from strategy.ready(_question(context))
        return (yield Score(row, (said,)))

    def stepwise(strategy: Strategy) -> Any:
        row = yield from strategy.ready(_question(context))
        for piece in said[:-1]:
            row = yield Extend(row, (piece,))
        return (yield Peek(row, 1))

    (whole, at_once), (steps, one_by_one) = _alone(context, whole_at_once), _alone(context, stepwise)
    cells = [[cell[:5] for cell in o.trace.cells] for o in (whole, steps)]
    assert cells[0] == cells[1], "cells fed at once and one by one differ: weave each token by its own id, role and place only"
    assert context.same(at_once, one_by_one), (
        "probabilities fed at once and one by one differ: in `forward` use slots for everything that earlier cells leave, in "
        "`sight` use indices, places and kinds (never positions in the tensors), and give parts at least 16 outputs"
    )


def training_is_asking(context: Context) -> None:
    """The training path and the decoder give the same likelihood of a lesson's answer."""
    problem = context.problems[0]
    prompt, gold = context.strategy.prompt(problem.question), gold_text(problem)
    lessons = context.strategy.lessons(problem, progress=1.0, rng=np.random.default_rng(0))
    ids = [_ids(context, text) for text in (*lessons[:1], (*prompt, *gold))]
    own = any(getattr(type(context.strategy), name) is not getattr(Strategy, name) for name in ("ready", "revise"))
    if own or len(lessons) != 1 or ids[0] != ids[1]:
        raise NotApplicable("it is taught another text than prompt and answer")
    text = context.token_pieces(lessons[0])
    cells = context.batch(context.strategy, [text]).cells
    states = trained_states(context, cells)
    said = context.strategy.readout(context.backbone, states, cells.reads).detach()
    if len(said) != cells.reads.count:
        said = said[torch.from_numpy(cells.layout.read[cells.reads.cells])]
    answer = torch.tensor(_ids(context, gold))
    trained = -torch.log_softmax(said, -1)[-len(answer) :].gather(1, _columns(context, answer)).double().sum()
    asked = context.solve([Job("0", lambda: context.strategy.score(problem.question, (gold,)))])["0"].value[0]
    assert abs(float(trained) - asked.nats) <= LOOSE * len(answer), (
        f"a lesson's answer has {float(trained):.6f} nats in training and {asked.nats:.6f} when asked: `forward`, `sight` and "
        "`readout` must do the same with and without slots"
    )


def _ids(context: Context, text: Text) -> list[int]:
    return [p.content.ids[0] for p in context.token_pieces(text) if isinstance(p.content, Tokens)]


def _columns(context: Context, ids: Tensor) -> Tensor:
    """Columns (n, 1) of the head for token ids (n,)."""
    return torch.searchsorted(torch.tensor(context.backbone.head_ids), ids)[:, None]


def batched_is_alone(context: Context) -> None:
    """Solving many problems side by side gives what each gives alone: answer, trace and ledger."""
    jobs = _jobs(context, sampler=None)
    _compare(context, context.solve(jobs), jobs)


def company_changes_nothing(context: Context) -> None:
    """Among unequal neighbours that come and go, greedy or sampled, a problem gets what it gets alone."""
    jobs = [j for sampler in (None, HOT) for j in _jobs(context, sampler=sampler)] + _score_jobs(context)
    mixed = [jobs[i] for i in np.random.default_rng(0).permutation(len(jobs)).tolist()]
    _compare(context, context.solve(mixed, rows=5), jobs[::2])


def _jobs(context: Context, *, sampler: Sampler | None) -> list[Job]:
    """Each problem solved, or attempted by a sampler."""

    def made(at: int, question: Question) -> Job:
        if sampler is None:
            return Job(f"solve {at}", lambda: context.strategy.solve(question), seed=at)
        return Job(f"sample {at}", lambda: _attempt(context.strategy, question, sampler), seed=at)

    return [made(at, p.question) for at, p in enumerate(context.problems)]


def _attempt(strategy: Strategy, question: Question, sampler: Sampler) -> Any:
    row = yield from strategy.start(question)
    return (yield from strategy.attempt(question, row, sampler))


def _score_jobs(context: Context) -> list[Job]:
    """Likelihoods of continuations of unequal length, one and two at a time."""

    def made(at: int, question: Question) -> Job:
        said: tuple[Text, ...] = (_continuation(context)[: 1 + at], _continuation(context)[at:])
        return Job(f"score {at}", lambda: context.strategy.score(question, said[: 1 + at % 2]), seed=at)

    return [made(at, p.question) for at, p in enumerate(context.problems)]


def _compare(context: Context, together: dict[str, Outcome], jobs: Sequence[Job]) -> None:
    if not context.exact:
        raise NotApplicable("on this machine company changes bits of plain training too; compare tables, not bits")
    for job in jobs:
        alone, beside = context.solve([job], rows=1)[job.name], together[job.name]
        for what, a, b in (
            ("value", alone.value, beside.value),
            ("trace", alone.trace, beside.trace),
            ("ledger", alone.ledger.by_class(), beside.ledger.by_class()),
            ("serial passes", alone.ledger.serial_passes, beside.ledger.serial_passes),
        ):
            assert a == b, (
                f"{job.name}: {what} is {_short(a)} alone and {_short(b)} beside others: use no number of the batch (means, "
                "padding, counts), no generator but the sampler's, and give parts at least 16 outputs"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def inserted_is_unsayable(context: Context) -> None:
    """Thoughts and other inserted-only tokens are never in the head, so they are never said."""
    legal = (*SAYABLE, END)
    wrong = [s.name for s in context.strategy.sayable() if s not in legal]
    assert not wrong, f"sayable() names {', '.join(wrong)}; legal: {', '.join(s.name for s in SAYABLE)}"
    inserted = {context.alphabet.id_of(s) for s in INSERTED}
    assert not inserted & set(context.backbone.head_ids), "the head computes inserted-only tokens"
    allowed = set(context.alphabet.head_ids(context.strategy.sayable()))
    said = {i for o in context.solve(_jobs(context, sampler=HOT)).values() for i in o.value.ids}
    assert said <= allowed, f"said the ids {sorted(said - allowed)}, which are not sayable: leave the head to the backbone"


def neutral_is_plain(context: Context) -> None:
    """At its neutral settings a strategy equals plain training bit for bit, a search its base: answers, ledgers, gradients."""
    strategy = context.strategy
    if not strategy.neutral:
        raise NotApplicable("it declares no neutral settings")
    ours = dataclasses.replace(context, strategy=changed(strategy, strategy.neutral))
    learner = strategy.learner()
    plain = dataclasses.replace(context, strategy=PLAIN if learner is strategy else learner)
    which = ", ".join(f"{k}={v}" for k, v in strategy.neutral.items())
    mend = f"must be what plain training gives with {which}: return the contract's defaults there (super(), None, plain_weave)"
    solved = [c.solve([*_jobs(c, sampler=None), *_score_jobs(c)]) for c in (ours, plain)]
    for name, a in solved[0].items():
        b = solved[1][name]
        assert (_without_tree(a.value), a.trace.cells) == (b.value, b.trace.cells), f"answer and trace {mend}"
        assert (a.ledger.by_class(), a.ledger.serial_passes) == (b.ledger.by_class(), b.ledger.serial_passes), (
            f"the ledger {mend}"
        )
    (loss, slope), (plain_loss, plain_slope) = (_update(c) for c in (ours, plain))
    assert torch.equal(loss, plain_loss), f"the loss {mend}, got {float(loss)} and {float(plain_loss)}"
    assert torch.equal(slope, plain_slope), f"the gradient {mend}"


def _without_tree(value: Any) -> Any:
    """An answer without a search's tree."""
    return dataclasses.replace(value, tree=None) if isinstance(value, Answer) else value


def _update(context: Context) -> tuple[Tensor, Tensor]:
    """Loss of a first batch, and the gradient of the table of tokens."""
    feed = context.feed(context.task)
    backbone = context.backbone
    batch = feed.batch(context.strategy, 0, progress=0.0, device=backbone.device, backbone=backbone)
    context.backbone.zero_grad()
    states = context.strategy.forward(context.backbone, batch.cells, None)
    loss = context.strategy.loss(context.backbone, states, batch.cells, 0.0)
    loss.backward()
    grad: Tensor = context.backbone.model.transformer.wte.weight.grad
    return loss.detach(), grad.clone()
