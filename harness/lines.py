"""Lines of problems.jsonl and traces.jsonl: what the record says of one problem or document. Knows outcomes; runs nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.meter import CLASSES, Ledger, summed
from harness.problem import ACCESS, FATES, ROLES, Answer, Document, Problem, Tree
from harness.strategy import KINDS, THOUGHT
from harness.task import Task
from harness.trace import FACTS, Trace
from harness.wants import Likelihood

if TYPE_CHECKING:
    from harness.jobs import Outcome

Line = dict[str, Any]
KIND_LETTERS, CLASS_LETTERS = "xtps", "ptasv"  # text, thought, pause, special; prefill, think, answer, score, verify
KIND_OF, CLASS_OF = dict(zip(KIND_LETTERS, KINDS, strict=True)), dict(zip(CLASS_LETTERS, CLASSES, strict=True))
ROLE_OF = {role[0]: role for role in ROLES}
TRACE_COLUMNS = ("t", "kind", "place", "role", "read", "class", "index", "row")
AS_LETTERS = ("kind", "role", "read", "class")
NATS_DIGITS = 6  # of a tree's nodes


def question_line(task: Task, problem: Problem, solved: Outcome, scored: Outcome) -> Line:
    """The record's line of one problem."""
    answer = solved.value if isinstance(solved.value, Answer) else Answer(None)
    completion = answer.completion
    likelihood: Likelihood = scored.value[0]
    return {
        "id": problem.question.id,
        "question": problem.question.text,
        "completion": None if completion is None else completion.text,
        "answer": answer.text,
        "key": problem.key.answer,
        "score": task.grade(problem, answer.text),
        "difficulty": problem.difficulty,
        "weight": problem.weight,
        **ledger_json(solved.ledger),
        "stop": "budget" if completion is None else completion.stop,
        "access": solved.access,
        "notes": solved.trace.notes | {k: list(v) for k, v in answer.notes.items()},
        "nats": likelihood.nats,
        "targets": likelihood.tokens,
        "candidates": None if answer.tree is None else candidates_json(task, problem, answer.tree),
    }


def tree_json(tree: Tree) -> Line:
    """A search's whole tree in columns over its nodes."""
    nodes = tree.nodes
    return {
        "parent": [node.parent for node in nodes],
        "said": [node.said for node in nodes],
        "nats": [round(node.nats, NATS_DIGITS) for node in nodes],
        "tokens": [node.tokens for node in nodes],
        "value": [node.value for node in nodes] if any(node.value is not None for node in nodes) else None,
        "visits": [node.visits for node in nodes],
        "fate": [FATES.index(node.fate) for node in nodes],
        "flops": [node.flops for node in nodes],
    }


def candidates_json(task: Task, problem: Problem, tree: Tree) -> Line:
    """What a search on a problem ended in."""
    return ended_json(tree, lambda answer: task.grade(problem, answer), task.canonical)


def ended_json(tree: Tree, grade: Callable[[str | None], float], canonical: Callable[[str], str]) -> Line:
    """What a search ended in, by the number of the node: answers, their grades and forms for votes, and what ranked them."""
    finals = {str(at): node for at, node in enumerate(tree.nodes) if node.final}
    valued = any(node.value is not None for node in tree.nodes)
    return {
        "pool": tree.pool,
        "nodes": len(tree.nodes),
        "answers": {at: node.answer for at, node in finals.items()},
        "scores": {at: grade(node.answer) for at, node in finals.items()},
        "votes": {at: canonical(node.answer) for at, node in finals.items() if node.answer is not None},
        "nats": {at: round(node.nats, NATS_DIGITS) for at, node in finals.items()},
        "tokens": {at: node.tokens for at, node in finals.items()},
        "value": {at: node.value for at, node in finals.items()} if valued else None,
    }


def written(line: Line) -> str:
    """A line of a file."""
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def trace_json(trace: Trace) -> Line:
    """Cells in columns, as the record holds them. kind, role, class: a letter a cell (KIND_LETTERS, a role's first,
    CLASS_LETTERS); read: "1" where the head was read; t: ids, None for thoughts; index: cells that stand before it in its row."""
    columns = dict(zip(FACTS, map(list, zip(*trace.cells, strict=True)), strict=True)) if trace.cells else {}
    kinds = columns.get("kind", [])
    return {
        "t": [None if kind == THOUGHT else i for i, kind in zip(columns.get("embed", []), kinds, strict=True)],
        "kind": "".join(KIND_LETTERS[kind] for kind in kinds),
        "place": columns.get("place", []),
        "role": "".join(ROLES[role][0] for role in columns.get("role", [])),
        "read": "".join("01"[read] for read in columns.get("read", [])),
        "class": "".join(CLASS_LETTERS[charge] for charge in columns.get("charge", [])),
        "index": columns.get("index", []),
        "row": columns.get("row", []),
    }


def trace_line(name: str, outcomes: Sequence[Outcome]) -> Line:
    """The record's line of a problem's trace, of all its outcomes one behind another, with the tree of what was searched."""
    answer = outcomes[0].value if outcomes else None
    tree = answer.tree if isinstance(answer, Answer) else None
    cells = _joined([trace_json(outcome.trace) for outcome in outcomes])
    return {"id": name, **cells, "tree": None if tree is None else tree_json(tree)}


def _joined(traces: Sequence[Line]) -> Line:
    """Traces one behind another."""
    joined: Line = {}
    for name in TRACE_COLUMNS:
        parts = [trace[name] for trace in traces]
        joined[name] = "".join(parts) if name in AS_LETTERS else [x for part in parts for x in part]
    return joined


def windows_of(trace: Line) -> list[int]:
    """The window of each cell: each begins with the first cell of its first row, where a text is asked in several of them."""
    starts = [index == 0 and row == 0 for index, row in zip(trace["index"], trace["row"], strict=True)]
    return [count - 1 for count in itertools.accumulate(starts)]


def cells_of(trace: Line) -> list[Line]:
    """A recorded trace, cell by cell, in words."""
    named = {
        "kind": [KIND_OF[k] for k in trace["kind"]],
        "role": [ROLE_OF[r] for r in trace["role"]],
        "read": [r == "1" for r in trace["read"]],
        "class": [CLASS_OF[c] for c in trace["class"]],
    }
    columns = (named.get(name, trace[name]) for name in TRACE_COLUMNS)
    return [dict(zip(TRACE_COLUMNS, cell, strict=True)) for cell in zip(*columns, strict=True)]


def ledger_json(ledger: Ledger) -> Line:
    """A ledger as the record holds it."""
    return {
        "flops": ledger.by_class(),
        "serial_passes": ledger.serial_passes,
        "text_tokens": ledger.text_tokens,
        "woven_tokens": ledger.woven_tokens,
        "kv_bytes": ledger.peak_kv_bytes,
    }


def joined_json(outcomes: Sequence[Outcome], *, stop: str) -> Line:
    """What jobs that belong together cost, were told and noted, as the record holds it."""
    notes: dict[str, list[float]] = {}
    for outcome in outcomes:
        answered = outcome.value.notes if isinstance(outcome.value, Answer) else {}
        for name, values in (outcome.trace.notes | dict(answered)).items():
            notes.setdefault(name, []).extend(values)
    access = max((o.access for o in outcomes), key=ACCESS.index, default=ACCESS[0])
    return {**ledger_json(summed(o.ledger for o in outcomes)), "stop": stop, "access": access, "notes": notes}


def document_line(document: Document, outcomes: list[Outcome]) -> Line:
    """The record's line of one document: its windows one after another."""
    likelihoods: list[Likelihood] = [o.value[0] for o in outcomes]
    nats, targets = sum(x.nats for x in likelihoods), sum(x.tokens for x in likelihoods)
    return {
        "id": document.id,
        "question": None,
        "completion": None,
        "answer": None,
        "key": None,
        "score": nats / max(targets, 1),
        "difficulty": 0,
        "weight": 1.0,
        **joined_json(outcomes, stop="end"),
        "nats": nats,
        "targets": targets,
        "bytes": len(document.text.encode()),
        "candidates": None,
        "windows": [o.ledger.text_tokens + o.ledger.woven_tokens for o in outcomes],
    }
