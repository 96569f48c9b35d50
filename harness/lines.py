"""Lines of problems.jsonl: what the record says of one problem or document. Knows outcomes and ledgers; runs nothing."""

from __future__ import annotations

from typing import Any

from harness.jobs import Outcome
from harness.meter import CLASSES, Ledger
from harness.problem import Answer, Document, Problem
from harness.slots import FACTS
from harness.strategy import KINDS, THOUGHT
from harness.task import Task
from harness.wants import Likelihood

Line = dict[str, Any]


def question_line(task: Task, problem: Problem, solved: Outcome, scored: Outcome) -> Line:
    """The record's line of one problem."""
    answer = solved.value if isinstance(solved.value, Answer) else Answer(None)
    completion = answer.completion
    likelihood: Likelihood = scored.value[0]
    return {
        "id": problem.question.id,
        "question": problem.question.text,
        "trace": trace_json(solved),
        "completion": None if completion is None else completion.text,
        "answer": answer.text,
        "key": problem.key.answer,
        "score": task.grade(problem, answer.text),
        "difficulty": problem.difficulty,
        "weight": problem.weight,
        **ledger_json(solved.ledger),
        "stop": "budget" if completion is None else completion.stop,
        "oracle": solved.used_key,
        "notes": solved.trace.notes | {k: list(v) for k, v in answer.notes.items()},
        "nats": likelihood.nats,
        "targets": likelihood.tokens,
    }


def trace_json(outcome: Outcome) -> list[Line]:
    """Cells as the record holds them."""
    names = dict(enumerate(FACTS))
    cells = []
    for cell in outcome.trace.cells:
        facts = {names[i]: value for i, value in enumerate(cell)}
        cells.append(
            {
                "t": None if facts["kind"] == THOUGHT else facts["embed"],
                "kind": KINDS[facts["kind"]],
                "place": facts["place"],
                "read": bool(facts["read"]),
                "class": CLASSES[facts["charge"]],
            }
        )
    return cells


def ledger_json(ledger: Ledger) -> Line:
    """A ledger as the record holds it."""
    return {
        "flops": ledger.by_class(),
        "serial_passes": ledger.serial_passes,
        "text_tokens": ledger.text_tokens,
        "woven_tokens": ledger.woven_tokens,
        "kv_bytes": ledger.peak_kv_bytes,
    }


def document_line(document: Document, outcomes: list[Outcome]) -> Line:
    """The record's line of one document: its windows one after another."""
    likelihoods: list[Likelihood] = [o.value[0] for o in outcomes]
    nats, targets = sum(x.nats for x in likelihoods), sum(x.tokens for x in likelihoods)
    total = Ledger()
    notes: dict[str, list[float]] = {}
    for outcome in outcomes:
        total.flops += outcome.ledger.flops
        total.serial_passes += outcome.ledger.serial_passes
        total.text_tokens += outcome.ledger.text_tokens
        total.woven_tokens += outcome.ledger.woven_tokens
        total.peak_kv_bytes = max(total.peak_kv_bytes, outcome.ledger.peak_kv_bytes)
        for name, values in outcome.trace.notes.items():
            notes.setdefault(name, []).extend(values)
    return {
        "id": document.id,
        "question": None,
        "trace": [cell for outcome in outcomes for cell in trace_json(outcome)],
        "completion": None,
        "answer": None,
        "key": None,
        "score": nats / max(targets, 1),
        "difficulty": 0,
        "weight": 1.0,
        **ledger_json(total),
        "stop": "end",
        "oracle": any(o.used_key for o in outcomes),
        "notes": notes,
        "nats": nats,
        "targets": targets,
        "bytes": len(document.text.encode()),
        "windows": [o.ledger.text_tokens + o.ledger.woven_tokens for o in outcomes],
    }
