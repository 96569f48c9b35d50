"""Checks of the ledgers: the meter counts what an independent recount finds, budgets hold, and little compute still answers.

The recount here uses the trace and the model's shape alone, not the meter's own code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.checks.context import Context, NotApplicable, trained_states
from harness.meter import CLASSES, Ledger
from harness.problem import Answer, Question
from harness.session import Job, Outcome
from harness.slots import FACTS
from harness.strategy import PAUSE, THOUGHT
from harness.wants import Start


def meter_is_recount(context: Context) -> None:
    """A ledger is what its trace says: L (24 D^2 + 4 D c) a pass and cell, 2 D V where the head is read, by class."""
    jobs = [Job(f"solve {at}", _solver(context, p.question)) for at, p in enumerate(context.problems[:4])]
    for name, outcome in context.solve(jobs).items():
        counted, ledger = recount(context, outcome), outcome.ledger
        mend = (
            "let `passes` say how often `forward` goes through the blocks, and run the backbone's own blocks, head and parts "
            "only, so that the meter sees everything"
        )
        assert counted["flops"] == ledger.by_class(), f"{name}: booked {ledger.by_class()}, recounted {counted['flops']}: {mend}"
        for fact in ("text_tokens", "woven_tokens", "peak_kv_bytes"):
            booked = getattr(ledger, fact)
            assert counted[fact] == booked, f"{name}: {fact} booked {booked}, recounted {counted[fact]}: {mend}"


def _solver(context: Context, question: Question) -> Any:
    return lambda: context.strategy.solve(question)


def recount(context: Context, outcome: Outcome) -> dict[str, Any]:
    """FLOPs by class and tokens, from the trace of one row and the model's shape."""
    model, passes = context.backbone.model.config, context.strategy.passes()
    outputs = len(context.alphabet.head_ids(context.strategy.sayable()))
    cells = [dict(zip(FACTS, cell, strict=True)) for cell in outcome.trace.cells]
    places = [cell["place"] for cell in cells]
    if places != sorted(places):
        raise NotApplicable("the trace holds several rows, whose cells do not say how many stand before them")
    flops = dict.fromkeys(CLASSES, 0)
    for count, cell in enumerate(cells, 1):
        blocks = passes * model.n_layer * (24 * model.n_embd**2 + 4 * model.n_embd * count)
        flops[CLASSES[cell["charge"]]] += blocks + (2 * model.n_embd * outputs if cell["read"] else 0)
    woven = sum(cell["kind"] in (THOUGHT, PAUSE) for cell in cells)
    kv_bytes = len(cells) * 2 * model.n_layer * passes * model.n_embd * 4
    return {"flops": flops, "text_tokens": len(cells) - woven, "woven_tokens": woven, "peak_kv_bytes": kv_bytes}


def training_meter_is_recount(context: Context) -> None:
    """An update costs three times the forward of the cells that it feeds and of the heads that it reads."""
    model, passes = context.backbone.model.config, context.strategy.passes()
    outputs = len(context.alphabet.head_ids(context.strategy.sayable()))
    cells = context.batch(context.strategy, context.texts).cells
    states = trained_states(context, cells)
    context.strategy.loss(context.backbone, states, cells, 0.0)
    before = cells.layout.index.astype(object) + 1  # whole numbers of any size
    blocks = int((model.n_layer * (24 * model.n_embd**2 + 4 * model.n_embd * before)).sum())
    counted = 3 * (passes * blocks + 2 * model.n_embd * outputs * len(cells.reads.cells))
    booked = cells.bill.total_flops
    assert booked == counted, (
        f"an update books {booked} FLOPs, recounted {counted}: let `passes` say how often `forward` goes through the blocks, "
        "and call backbone.head once on what is read"
    )


def never_above_budget(context: Context) -> None:
    """Whatever a problem may spend, it never spends more."""
    question = context.problems[0].question
    full = _run(context, question, np.inf).ledger.total_flops
    for share in (0.0, 0.2, 0.5, 0.8, 0.99, 1.0):
        limit = int(share * full)
        spent = _run(context, question, limit).ledger.total_flops
        assert spent <= limit, (
            f"spent {spent} of {limit} FLOPs: `passes` must say how often `forward` goes through the blocks, since the session "
            "refuses a forward by that"
        )
    assert _run(context, question, full).ledger.total_flops == full, "with just enough to spend it must end as without a limit"


def _run(context: Context, question: Question, limit_flops: float) -> Outcome:
    return context.solve([Job("0", _solver(context, question), limit_flops=limit_flops)])["0"]


def answers_on_little(context: Context) -> None:
    """With the prompt's cost and one token's, there is still an answer: the draft so far."""
    question = context.problems[0].question
    prompt = context.solve([Job("0", lambda: _prefill(context, question))])["0"]
    outcome = _run(context, question, prompt.ledger.total_flops + _token_flops(context, prompt.ledger))
    assert isinstance(outcome.value, Answer) and outcome.value.completion is not None, (
        f"with prefill and one token to spend, solve returned {outcome.value!r}: it must return an Answer with what was said; "
        "Generate gives back what it has when the budget ends, any other want raises OutOfBudget, which `solve` must catch"
    )


def _prefill(context: Context, question: Question) -> Any:
    yield Start(context.strategy.prompt(question))


def _token_flops(context: Context, prompt: Ledger) -> int:
    """What one more text token costs, with the cells that come with it."""
    model = context.backbone.model.config
    one = np.zeros(1, dtype=np.int64)
    cells = max(len(context.strategy.weave(one, one + role, one).source) for role in range(3))
    count = prompt.text_tokens + prompt.woven_tokens + 2 * cells
    each = context.strategy.passes() * model.n_layer * (24 * model.n_embd**2 + 4 * model.n_embd * count)
    return int(cells * (each + 2 * model.n_embd * context.backbone.outputs))
