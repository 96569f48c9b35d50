"""Checks of the ledgers: the meter counts what an independent recount finds, budgets hold, and little compute still answers.

The recount here uses the trace, the model's shape and the shapes of what runs, not the meter's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.backbone import Backbone
from harness.checks.context import Context, trained_states
from harness.instant import VALUED
from harness.meter import CLASSES, Ledger
from harness.problem import Answer, Question
from harness.session import Job, Outcome
from harness.strategy import PAUSE, THOUGHT
from harness.trace import FACTS
from harness.wants import Start


def meter_is_recount(context: Context) -> None:
    """A ledger is what its trace says: L (24 D^2 + 4 D c) a pass and cell, 2 D V where the head is read, parts, by class."""
    jobs = [Job(f"solve {at}", _solver(context, p.question)) for at, p in enumerate(context.problems[:4])]
    for name, outcome in context.solve(jobs).items():
        counted, ledger = recount(context, outcome), outcome.ledger
        mend = (
            "let `passes` say how often `forward` goes through the blocks and `part_uses` how often parts run, and run the "
            "backbone's own blocks, head and parts only, so that the meter sees everything"
        )
        assert counted["flops"] == ledger.by_class(), f"{name}: booked {ledger.by_class()}, recounted {counted['flops']}: {mend}"
        for fact in sorted(counted.keys() - {"flops"}):
            booked = getattr(ledger, fact)
            assert counted[fact] == booked, f"{name}: {fact} booked {booked}, recounted {counted[fact]}: {mend}"


def _solver(context: Context, question: Question) -> Any:
    return lambda: context.strategy.solve(question)


def recount(context: Context, outcome: Outcome) -> dict[str, Any]:
    """FLOPs by class and tokens, from the trace and the model's shape; the bytes held, where all is one row."""
    model, passes = context.backbone.model.config, context.strategy.passes()
    outputs = len(context.alphabet.head_ids(context.strategy.sayable()))
    cells = [dict(zip(FACTS, cell, strict=True)) for cell in outcome.trace.cells]
    flops, (per_cell, per_read) = dict.fromkeys(CLASSES, 0), _asked_parts(context)
    for cell in cells:
        blocks = passes * model.n_layer * (24 * model.n_embd**2 + 4 * model.n_embd * (cell["index"] + 1))
        reads = 2 * model.n_embd * outputs + per_read if cell["read"] else 0
        flops[CLASSES[cell["charge"]]] += blocks + per_cell + reads
    flops["verify"] += _values_asked(outcome) * (context.backbone.value.flops_per_state if context.backbone.value else 0)
    woven = sum(cell["kind"] in (THOUGHT, PAUSE) for cell in cells)
    facts = {"flops": flops, "text_tokens": len(cells) - woven, "woven_tokens": woven}
    if [cell["index"] for cell in cells] == list(range(len(cells))):  # one row that never went back
        facts["peak_kv_bytes"] = len(cells) * 2 * model.n_layer * passes * model.n_embd * 4
    return facts


def _values_asked(outcome: Outcome) -> int:
    """How often a value model was asked: once for each state that it rated."""
    return len(outcome.trace.notes.get(VALUED, ()))


def _asked_parts(context: Context) -> tuple[int, int]:
    """FLOPs of the strategy's parts for each cell and for each read, from the shapes of their matrices."""
    total = [0, 0]
    for name, times in context.strategy.part_uses(context.backbone.model.config.n_layer).items():
        if name in context.backbone.parts:
            total = [t + n * _matrix_flops(context.backbone, name) for t, n in zip(total, times, strict=True)]
    return total[0], total[1]


def _matrix_flops(backbone: Backbone, part: str) -> int:
    """FLOPs of a part on one state."""
    matrices = [m for m in backbone.parts[part].modules() if isinstance(m, torch.nn.Linear)]
    return sum(2 * m.in_features * m.out_features for m in matrices)


def training_meter_is_recount(context: Context) -> None:
    """An update costs three times the forward of what it runs (once, where nothing is learned), and runs nothing unbooked."""
    cells = context.batch(context.strategy, context.texts).cells
    with _running(context.backbone) as ran:
        states = trained_states(context, cells)
        context.strategy.loss(context.backbone, states, cells, 0.0)
    before = cells.layout.index.astype(object) + 1  # whole numbers of any size
    model, outputs = context.backbone.model.config, len(context.alphabet.head_ids(context.strategy.sayable()))
    blocks = int((model.n_layer * (24 * model.n_embd**2 + 4 * model.n_embd * before)).sum())
    each = {"head": 2 * model.n_embd * outputs} | {part: _matrix_flops(context.backbone, part) for part in context.backbone.parts}
    counted = 0
    for what, rows, learning in ran.calls:
        counted += (3 if learning else 1) * (blocks if what == "blocks" else rows * each[what])
    booked = cells.bill.total_flops
    assert booked == counted, f"an update books {booked} FLOPs, recounted {counted}: give `part` and `head` what pays for them"
    assert not ran.outside_flops, (
        f"an update multiplies matrices of {ran.outside_flops} FLOPs outside of backbone.blocks, head and part, where nobody "
        "books them: make them a part (see `parts`)"
    )


class _Ran:
    """calls: (blocks, head or a part's name; rows; whether gradient flows). outside_flops: of matrices multiplied elsewhere."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, bool]] = []
        self.outside_flops = 0


@contextmanager
def _running(backbone: Backbone) -> Iterator[_Ran]:
    """Watch what runs on a backbone, by torch's own counter."""
    ran, inside, depth = _Ran(), 0, 0
    with FlopCounterMode(display=False) as counter:

        def watched(method: str) -> Callable[..., Any]:
            own = getattr(backbone, method)

            def call(*args: Any, **rest: Any) -> Any:
                nonlocal inside, depth
                name, states = args[:2] if method == "part" else (method, args[0])
                ran.calls.append((name, len(states), torch.is_grad_enabled()))
                before, depth = counter.get_total_flops(), depth + 1
                result = own(*args, **rest)
                depth -= 1
                inside += counter.get_total_flops() - before if depth == 0 else 0  # a gate is a part within the blocks
                return result

            return call

        for method in ("blocks", "head", "part"):
            setattr(backbone, method, watched(method))
        try:
            yield ran
        finally:
            for method in ("blocks", "head", "part"):
                delattr(backbone, method)
            ran.outside_flops = counter.get_total_flops() - inside


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
    return int(cells * (each + 2 * model.n_embd * context.backbone.outputs + sum(_asked_parts(context))))
