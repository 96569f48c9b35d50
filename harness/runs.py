"""run(spec): build, train, evaluate, record. Every step can be cut off and taken up again by the same call.

Knows the order of the steps and their files; knows no strategy, no task and no screen.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from harness import records, storage, summary, trainings
from harness.alphabet import Alphabet
from harness.askable import check_before_training, check_data
from harness.backbone import Backbone
from harness.evaluate import LINES, TRACES, evaluate
from harness.feed import Batch, direct_flops, make_feed
from harness.foreseen import costs_of, unit_flops
from harness.inquiries import asked_inquiries, check_asked, totals_of
from harness.inquiry_costs import request_costs
from harness.instrument import ATTENTION, write_attention
from harness.learners import Means, Reporter, Silent, learn, learner_alphabet, machine
from harness.locks import alone
from harness.meter import TRAINING_FACTOR
from harness.model_size import check_model
from harness.ranks import ALONE, Ranks
from harness.records import Record
from harness.refusal import is_refusal
from harness.spec import SCHEMA, RunSpec
from harness.spec_text import check_untaught, command_line
from harness.stability import bit_stable
from harness.target import foreseen_updates
from harness.values import brief, fitted, problems_of
from harness.weights import check_teachable, make_backbone


def run(
    spec: RunSpec,
    *,
    results: Path,
    again: bool = False,
    device: str = "cpu",
    checkpoint_s: float = 30.0,
    reporter: Reporter | None = None,
    max_kv_bytes: int | None = None,
    ranks: Ranks = ALONE,
    parts: int = 1,
    wait: bool = True,
) -> Record:
    """The run's record, with its timing added; made if it is not there yet. again: make it anew.

    max_kv_bytes: the most that keys and values may take when asking; it changes no number. ranks: the processes that make the run
    together; parts: in how many each of them takes an update. wait: for another process that makes it just now, rather than raise
    `Busy`.
    """
    reporter = reporter or Silent()
    means = Means(device=device, checkpoint_s=checkpoint_s, ranks=ranks, parts=parts)
    folder = records.run_folder(results, spec)
    if not again and (record := records.finished(results, spec)) is not None:
        return record
    check_untaught(spec)
    check_model(spec)
    taken, made = alone(results, f"run-{folder.name}", wait=wait), storage.new_folder(results, folder)
    with compute_threads(spec.threads), taken, made:
        if not again and (record := records.finished(results, spec)) is not None:
            return record  # made by whoever held the lock
        ranks.begin()
        storage.sweep(folder)
        ranks.mirror(results, folder)
        for name in ("run.json", *((LINES, TRACES) if again else ())):
            storage.remove(folder / name)
        check_before_training(spec)
        valued, value = spec.strategy.value_spec() is not None, None
        if valued:
            problems_of(spec)  # before training, not after it: ValueError if there are none to fit on
        check_asked(spec)
        backbone, learner = learn(spec, results=results, again=again, means=means, reporter=reporter)
        if not again:
            other = ranks.told(trainings.other_training(results, learner) if ranks.first else None)
            if other is not None:
                raise ValueError(other)
        if valued:
            told = partial(reporter.evaluating, spec.as_learner())  # whose attempts they are
            backbone.value, value = fitted(
                spec, backbone, learner, results=results, again=again, max_kv_bytes=max_kv_bytes, report=told, ranks=ranks
            )
        started_s = time.monotonic()
        stable = bit_stable(spec, backbone)
        told = partial(reporter.evaluating, spec)
        evaluate(spec, backbone, folder, report=told, max_kv_bytes=max_kv_bytes, ranks=ranks)
        write_attention(backbone, records.read_lines(folder, TRACES), folder / ATTENTION)
        timing = {"evaluate_s": time.monotonic() - started_s, "bit_stable": stable, "ranks": ranks.count, **machine(device)}
        return _record(spec, backbone, learner, value, folder, results, timing)


def _record(
    spec: RunSpec,
    backbone: Backbone,
    learner: Record,
    value: Record | None,
    folder: Path,
    results: Path,
    timing: Record,
) -> Record:
    """Write timing.json and then run.json, whose presence means that the run is complete."""
    lines = records.read_lines(folder)
    weights = records.weights_folder(results, spec)
    storage.replace_file(folder / "train.jsonl", (weights / "train.jsonl").read_bytes())
    kind, outputs, theirs = spec.task.kind, backbone.outputs, totals_of(spec, lines)
    shape = {} if spec.model.path is None else {"price": dataclasses.asdict(backbone.price)}  # else the spec tells it
    record = {
        "schema": SCHEMA,
        "complete": True,
        "command": command_line(spec),
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint(),
        "learner": spec.learner_fingerprint(),
        "seed": spec.seed,
        "threads": spec.threads,
        "model": {"parameters": learner["parameters"], "outputs": outputs, "weights_sha256": learner["weights_sha256"], **shape},
        "train": learner["train"],
        "infer": summary.infer(lines) | {"unit_flops": _unit(spec, backbone)},
        "metrics": summary.metrics(lines, kind=kind, outputs=outputs, theirs=theirs),
        "by_difficulty": summary.by_difficulty(lines, kind=kind, outputs=outputs, theirs=theirs),
        "access": summary.access(lines),
        "truncated_prompts": summary.truncated_prompts(lines),
        "search": summary.search(lines),
        "value": None if value is None else brief(value),
        "data": dict(spec.task.provenance()),
        "known_failures": dict(spec.strategy.known_failures),
    }
    timing = timing | {
        "train_s": records.read_timing(weights).get("train_s"),
        "seconds_per_problem": timing["evaluate_s"] / max(len(lines), 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    records.write_json(folder / "timing.json", timing)
    sealed = records.sealed(record, folder, (LINES, TRACES, ATTENTION, "train.jsonl"))
    records.write_json(folder / "run.json", sealed)
    return sealed | {"timing": timing}


def _unit(spec: RunSpec, backbone: Backbone) -> float | None:
    """x1 of the task on a model of this shape; None where the task has no validation problems."""
    try:
        return unit_flops(spec, backbone.alphabet, backbone.price)
    except ValueError as error:
        if not is_refusal(error):
            raise
        return None


@contextmanager
def compute_threads(count: int) -> Iterator[None]:
    """Compute threads, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would cost, its pretraining included. Seconds, of training, are a guess from one update a phase here.

    asked_flops: of all problems or documents, roughly: as in training, without its backward passes.
    """

    training_flops: float
    flops_per_update: int
    updates: int
    seconds: float
    disk_bytes: int
    asked_flops: float
    pretraining: Plan | None = None


LONG_S = 2.0  # of planning one run
BYTES_PER_CELL, BYTES_PER_LINE = 60, 650  # roughly: of traces and attention, and of problems.jsonl (measured)


def plan(spec: RunSpec) -> Plan:
    """Estimate a run by its first batch, without training (`--dry-run`)."""
    check_untaught(spec)
    check_model(spec)
    check_teachable(spec)
    check_asked(spec)
    earlier = spec.pretrained()
    before = None if earlier is None else plan(earlier)
    with compute_threads(spec.threads):
        alphabet = learner_alphabet(spec, None)
        backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed)
        check_data(spec, alphabet, backbone.context_tokens)
        feed = make_feed(spec, backbone)
        if spec.task.kind == "requests" and spec.train.flops == 0:
            return _plan_of_requests(spec, backbone, before)
        if backbone.as_it_is:
            batch = feed.batch(spec.strategy, 0, progress=0.0, device=backbone.device, backbone=backbone)
            return _plan_of_asking(spec, backbone, batch)
        update_s, begun_s = math.inf, time.monotonic()
        for turn in range(3):  # the first one is slow: libraries warm up
            started_s = time.monotonic()
            batch = feed.batch(spec.strategy, 0, progress=0.0, device=backbone.device, backbone=backbone)
            cells = dataclasses.replace(batch.cells, draw=None)  # an update of middling cost
            states = spec.strategy.forward(backbone, cells, None)
            spec.strategy.loss(backbone, states, cells, 0.0).backward()
            taken_s = (time.monotonic() - started_s) * 1.2
            update_s = taken_s if turn < 2 else min(update_s, taken_s)  # somebody else may have been busy
            if turn and time.monotonic() - begun_s > LONG_S:
                break
        updates = foreseen_updates(spec.train, feed, backbone, batch)
    flops = batch.flops
    training_flops = spec.train.flops if spec.train.match == "flops" else float(updates * flops)
    weights_bytes = 4 * sum(p.numel() for p in backbone.parameters())
    lines, tokens = _asked(spec, batch, alphabet)
    disk = weights_bytes * (1 if before is None else 2) + _lines_bytes(spec, batch, lines, tokens)  # a phase before is not asked
    asked_flops = flops / TRAINING_FACTOR * tokens / max(batch.text_tokens, 1)
    seconds = updates * update_s + (0.0 if before is None else before.seconds)
    return Plan(training_flops, flops, updates, seconds, disk, asked_flops, before)


def _plan_of_asking(spec: RunSpec, backbone: Backbone, batch: Batch) -> Plan:
    """Of a model that is never taught, and of which no weights are kept."""
    lines, tokens = _asked(spec, batch, backbone.alphabet)
    each = direct_flops(batch, backbone.price, outputs=backbone.outputs) / max(batch.text_tokens, 1)
    return Plan(0.0, 0, 0, 0.0, _lines_bytes(spec, batch, lines, tokens), each * tokens)


def _plan_of_requests(spec: RunSpec, backbone: Backbone, before: Plan | None) -> Plan:
    """Of requests that are asked by what was taught elsewhere: by formula, as plain asking."""
    costs, count = costs_of(spec, backbone.alphabet), len(asked_inquiries(spec))
    traced = min(spec.infer.traces, count) * costs.cells * BYTES_PER_CELL
    kept = 0 if backbone.as_it_is else 4 * sum(p.numel() for p in backbone.parameters()) * (1 if before is None else 2)
    seconds = 0.0 if before is None else before.seconds
    return Plan(0.0, 0, 0, seconds, int(traced + count * BYTES_PER_LINE) + kept, costs.flops(backbone.price) * count, before)


def _asked(spec: RunSpec, batch: Batch, alphabet: Alphabet) -> tuple[int, int]:
    """Problems or documents that are asked, and their tokens: a few problems stand for all."""
    if spec.task.kind == "documents":
        documents = list(spec.task.documents(spec.infer.split))[: spec.infer.problems]
        return len(documents), sum(len(alphabet.encode(d.text)) for d in documents)
    if spec.task.kind == "requests":
        costs = request_costs(spec, alphabet)
        return len(costs), sum(cells for cells, _, _ in costs)
    return spec.infer.problems, spec.infer.problems * batch.text_tokens // batch.examples


def _lines_bytes(spec: RunSpec, batch: Batch, lines: int, tokens: int) -> int:
    """Size of what is written of the problems, cells as in training."""
    cells_per_token = len(batch.cells.layout.index) / max(batch.text_tokens, 1)
    traced = min(spec.infer.traces / max(lines, 1), 1.0)
    return int(tokens * cells_per_token * traced * BYTES_PER_CELL + lines * BYTES_PER_LINE)
