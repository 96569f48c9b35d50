"""Looking at a finished run: ask its learner a question, evaluate it once more, load it. Knows records and the session."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from pathlib import Path
from typing import Any

from harness import records, storage, trainings
from harness.askable import check_question
from harness.backbone import Backbone
from harness.evaluate import TRACES, evaluate
from harness.examination import library_of, referee_of, sizes_of
from harness.learners import Reporter, load
from harness.lines import cells_of, ledger_json, trace_json
from harness.problem import Answer, Question, shown
from harness.records import Record
from harness.runs import compute_threads
from harness.seeds import derive
from harness.session import Job, Session
from harness.spec import RunSpec
from harness.values import loaded, value_folder

DEFAULT_RESULTS = Path("results")


def load_run(name: str, *, results: Path, device: str, trust_plugins: bool = False) -> tuple[RunSpec, Backbone, Path]:
    """Spec, trained backbone (with the value model that it is asked with) and folder of a run; ValueError if weights are gone.

    trust_plugins: whether code to which only the run's record points may be run.
    """
    folder = records.find_run(name, results)
    record = records.read_run(folder)
    spec = records.spec_of(record, trust_plugins=trust_plugins)
    root = _root(folder, spec, results)
    return spec, load_spec(spec, record, results=root, device=device), folder


def _root(folder: Path, spec: RunSpec, given: Path) -> Path:
    """The results folder that holds a run's weights: the one in which the run lies, or else the given one."""
    own = records.results_of(folder)
    if own is None or own.resolve() == given.resolve():
        return given
    there = [root for root in (own, given) if (records.weights_folder(root, spec) / "learner.json").exists()]
    return there[0] if there else own


def load_spec(spec: RunSpec, record: Record, *, results: Path, device: str) -> Backbone:
    """The trained backbone that a spec asks, with its value model. record: of the run whose learner it is.

    ValueError if weights are gone, or are another training's than the run's.
    """
    weights = records.weights_folder(results, spec)
    command = f"{record['command']} --again" + ("" if results == DEFAULT_RESULTS else f" --results {shlex.quote(str(results))}")
    if not (weights / "learner.json").exists():
        raise ValueError(f"RUN: the weights {weights} are not there; make them again with: {command}")
    trainings.check_asked(record, weights, command=command)
    valued = None if spec.strategy.value_spec() is None else value_folder(results, spec)
    if valued is not None and not (valued / "value.json").exists():
        raise ValueError(f"RUN: the value model {valued} is not there; make it again with: {command}")
    backbone, learner = load(spec, results=results, device=device)
    if valued is not None:
        backbone.value, _ = loaded(spec, backbone, learner, results=results)
    return backbone


def ask_run(name: str, text: str, *, results: Path, device: str, trust_plugins: bool = False) -> dict[str, Any]:
    """One question's trace, answer and ledgers, as the record holds them. trust_plugins: see `load_run`."""
    spec, backbone, _ = load_run(name, results=results, device=device, trust_plugins=trust_plugins)
    parsed = spec.task.parse(text)
    example = spec.task.problems("test", seed=spec.seed, start=0, count=1)[0].question if spec.task.kind == "questions" else None
    caps = (example.answer_cap_tokens, example.lines_cap_tokens) if example else (64, 0)
    question = Question("asked", parsed, *caps)
    check_question(spec, question, backbone.alphabet, backbone.context_tokens)
    rows, _ = sizes_of(backbone, bounded=False)(spec.strategy, question, ())
    job = Job(
        "asked", lambda: spec.strategy.solve(question), derive(spec.seed, "ask", parsed), examples=library_of(spec),
        referee=referee_of(spec.task, question), rows=rows,
    )  # fmt: skip
    with compute_threads(spec.threads):
        outcome = next(iter(Session(backbone, reference_layers=spec.model.reference_layers).run([job])))
    answer = outcome.value if isinstance(outcome.value, Answer) else Answer(None)
    cells = cells_of(trace_json(outcome.trace))
    for cell in cells:
        cell["text"] = None if cell["t"] is None else shown(backbone.alphabet.pieces([cell["t"]]))
    completion = None if answer.completion is None else answer.completion.text
    return {
        "question": parsed,
        "answer": answer.text,
        "completion": completion,
        "trace": cells,
        **ledger_json(outcome.ledger),
        "access": outcome.access,
        "tree": None if answer.tree is None else [dataclasses.asdict(node) for node in answer.tree.nodes],
        "notes": outcome.trace.notes,
    }


def verify_run(name: str, *, results: Path, device: str, reporter: Reporter, trust_plugins: bool = False) -> dict[str, Any]:
    """Evaluate once more and compare lines: {problems, equal, different: ids of the first ten}. trust_plugins: see `load_run`."""
    spec, backbone, folder = load_run(name, results=results, device=device, trust_plugins=trust_plugins)
    before = records.read_lines(folder)
    with tempfile.TemporaryDirectory() as scratch, compute_threads(spec.threads):
        evaluate(spec, backbone, Path(scratch), report=lambda done, total: reporter.evaluating(spec, done, total))
        after = records.read_lines(Path(scratch))
        traced = [
            a["id"] for a, b in zip(*(records.read_lines(f, TRACES) for f in (folder, Path(scratch))), strict=False) if a != b
        ]
    different = sorted({a["id"] for a, b in zip(before, after, strict=False) if a != b} | set(traced))
    missing = abs(len(before) - len(after))
    return {
        "run": str(folder),
        "problems": len(before),
        "equal": len(before) - len(different) - missing,
        "different": different[:10],
        "problems_jsonl_sha256": storage.sha256(folder / "problems.jsonl"),
    }
