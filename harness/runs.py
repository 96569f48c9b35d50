"""run(spec): build, train, evaluate, record. Every step can be cut off and taken up again by the same call.

Knows the order of the steps and their files; knows no strategy, no task and no screen.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from harness import records, storage, summary
from harness.alphabet import Alphabet, make_alphabet
from harness.backbone import Backbone
from harness.evaluate import bit_stable, evaluate
from harness.feed import Feed
from harness.records import Record
from harness.spec import SCHEMA, RunSpec, command_line
from harness.train import Spent, Trainer
from harness.weights import load_state, make_backbone, pack, read_packed, state_of, weights_hash


class Reporter(Protocol):
    """Who is told how a run goes on (a progress bar, a test, nobody)."""

    def training(self, spec: RunSpec, spent: Spent, progress: float, loss_nats: float) -> None:
        """After each update."""

    def evaluating(self, spec: RunSpec, done: int, total: int) -> None:
        """After each problem."""


class Silent:
    """A reporter that says nothing."""

    def training(self, spec: RunSpec, spent: Spent, progress: float, loss_nats: float) -> None:
        """Nothing."""

    def evaluating(self, spec: RunSpec, done: int, total: int) -> None:
        """Nothing."""


def run(
    spec: RunSpec,
    *,
    results: Path,
    again: bool = False,
    device: str = "cpu",
    checkpoint_s: float = 30.0,
    reporter: Reporter | None = None,
) -> Record:
    """The run's record, with its timing added; made if it is not there yet. again: make it anew."""
    reporter = reporter or Silent()
    folder = records.run_folder(results, spec)
    if (folder / "run.json").exists() and not again:
        return records.read_run(folder, spec) | {"timing": records.read_timing(folder)}
    with compute_threads(spec.threads), storage.new_folders(results, folder, records.weights_folder(results, spec)):
        for name in ("run.json", *(("problems.jsonl",) if again else ())):
            storage.remove(folder / name)
        backbone, learner = learn(spec, results=results, again=again, device=device, checkpoint_s=checkpoint_s, reporter=reporter)
        started_s = time.monotonic()
        stable = bit_stable(spec, backbone)
        evaluate(spec, backbone, folder / "problems.jsonl", report=lambda a, b: reporter.evaluating(spec, a, b))
        return _record(spec, backbone, learner, folder, results, time.monotonic() - started_s, stable, device)


def learn(
    spec: RunSpec, *, results: Path, device: str, checkpoint_s: float, reporter: Reporter, again: bool = False
) -> tuple[Backbone, Record]:
    """The trained backbone and its learner.json: loaded if complete, else trained on from the last checkpoint."""
    folder = records.weights_folder(results, spec)
    before = spec.pretrained()
    first = None if before is None else learn(
        before, results=results, device=device, checkpoint_s=checkpoint_s, reporter=reporter
    )  # fmt: skip
    storage.make_folder(folder)
    if again:
        for name in ("learner.json", "checkpoint.safetensors"):
            storage.remove(folder / name)
    alphabet = first[0].alphabet if first else _alphabet(spec, folder)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed)
    if (folder / "learner.json").exists():
        learner = records.read_record(folder, name="learner.json")
        load_state(backbone, read_packed(folder / "model.safetensors")[0])
        return backbone.to(torch.device(device)).eval(), learner
    if first is not None:
        load_state(backbone, state_of(first[0]))
    backbone.to(torch.device(device))
    learner = _train(spec, backbone, folder, checkpoint_s, reporter, first[1] if first else None, device)
    return backbone.eval(), learner


def _train(
    spec: RunSpec, backbone: Backbone, folder: Path, checkpoint_s: float, reporter: Reporter, before: Record | None, device: str
) -> Record:
    """Train to the end, write the weights, then learner.json, then drop the checkpoint."""
    started_s = time.monotonic()
    feed = Feed(
        task=spec.task,
        alphabet=backbone.alphabet,
        seed=spec.seed,
        problems_per_update=spec.train.problems_per_update,
        context_tokens=spec.model.shape[3],
    )
    trainer = Trainer(backbone=backbone, spec=spec.train, feed=feed, folder=folder, checkpoint_s=checkpoint_s)
    spent = trainer.run(lambda s, p, loss: reporter.training(spec, s, p, loss))
    storage.replace_file(folder / "model.safetensors", pack(state_of(backbone), {"learner": spec.learner_fingerprint()}))
    records.write_json(folder / "timing.json", {"train_s": time.monotonic() - started_s, **machine(device)})
    learner = {
        "schema": SCHEMA,
        "learner": spec.learner_fingerprint(),
        "seed": spec.seed,
        "spec": spec.to_json(),
        "weights_sha256": weights_hash(backbone),
        "parameters": sum(p.numel() for p in backbone.parameters()),
        "train": _train_ledger(spec, spent, feed, before),
    }
    sealed = records.sealed(learner, folder, ("model.safetensors", "train.jsonl", "tokenizer.json"))
    records.write_json(folder / "learner.json", sealed)
    storage.remove(folder / "checkpoint.safetensors")
    return sealed


def _train_ledger(spec: RunSpec, spent: Spent, feed: Feed, before: Record | None) -> Record:
    epochs = None if feed.epoch_tokens is None else spent.text_tokens / feed.epoch_tokens
    return {
        "target_flops": spec.train.flops,
        "spent_flops": spent.flops,
        "updates": spent.updates,
        "examples": spent.examples,
        "text_tokens": spent.text_tokens,
        "woven_tokens": spent.woven_tokens,
        "supervised_tokens": spent.supervised_tokens,
        "epochs": epochs,
        "pretraining": None if before is None else {"learner": before["learner"]} | before["train"],
    }


def _alphabet(spec: RunSpec, folder: Path) -> Alphabet:
    """The task's alphabet; one that is trained is kept beside the weights."""
    kept = folder / "tokenizer.json"
    wanted = spec.task.alphabet()
    if not wanted.startswith("bpe:"):
        return make_alphabet(wanted)
    if kept.exists():
        return make_alphabet(wanted, tokenizer_json=kept.read_text(encoding="utf-8"))
    texts = [d.text for d in spec.task.documents("train")] if spec.task.kind == "documents" else _train_texts(spec)
    alphabet = make_alphabet(wanted, texts=texts)
    storage.replace_file(kept, alphabet.codec.tokenizer_json().encode())
    return alphabet


def _train_texts(spec: RunSpec) -> list[str]:
    """Text for a tokenizer from a task of questions: its first train problems."""
    problems = spec.task.problems("train", seed=spec.seed, start=0, count=10_000)
    return [f"{p.question.text}{p.key.answer}{' '.join(p.key.lines)}" for p in problems]


def _record(
    spec: RunSpec, backbone: Backbone, learner: Record, folder: Path, results: Path, evaluate_s: float, stable: bool, device: str
) -> Record:
    """Write timing.json and then run.json, whose presence means that the run is complete."""
    lines = records.read_lines(folder)
    weights = records.weights_folder(results, spec)
    storage.replace_file(folder / "train.jsonl", (weights / "train.jsonl").read_bytes())
    kind, outputs = spec.task.kind, backbone.outputs
    record = {
        "schema": SCHEMA,
        "complete": True,
        "command": command_line(spec),
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint(),
        "learner": spec.learner_fingerprint(),
        "seed": spec.seed,
        "threads": spec.threads,
        "model": {"parameters": learner["parameters"], "outputs": outputs, "weights_sha256": learner["weights_sha256"]},
        "train": learner["train"],
        "infer": summary.infer(lines),
        "metrics": summary.metrics(lines, kind=kind, outputs=outputs),
        "by_difficulty": summary.by_difficulty(lines, kind=kind, outputs=outputs),
        "data": dict(spec.task.provenance()),
        "known_failures": dict(spec.strategy.known_failures),
    }
    timing = {
        "train_s": records.read_timing(weights).get("train_s"),
        "evaluate_s": evaluate_s,
        "seconds_per_problem": evaluate_s / max(len(lines), 1),
        "bit_stable": stable,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **machine(device),
    }
    records.write_json(folder / "timing.json", timing)
    sealed = records.sealed(record, folder, ("problems.jsonl", "train.jsonl"))
    records.write_json(folder / "run.json", sealed)
    return sealed | {"timing": timing}


def machine(device: str) -> dict[str, Any]:
    """Where a run was made."""
    import transformers

    from harness import __version__

    return {
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "harness": __version__,
        "machine": platform.machine(),
    }


@contextmanager
def compute_threads(count: int) -> Iterator[None]:
    """Compute threads, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a run would cost. seconds are a guess from this machine's matmul rate."""

    training_flops: float
    flops_per_update: int
    updates: int
    seconds: float
    disk_bytes: int


def plan(spec: RunSpec) -> Plan:
    """Estimate a run by its first batch, without training (`--dry-run`)."""
    with compute_threads(spec.threads):
        alphabet = _dry_alphabet(spec)
        backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed)
        feed = Feed(
            task=spec.task,
            alphabet=alphabet,
            seed=spec.seed,
            problems_per_update=spec.train.problems_per_update,
            context_tokens=spec.model.shape[3],
        )
        batch = feed.batch(spec.strategy, 0, progress=0.0, device=backbone.device)
        started_s = time.monotonic()
        states = spec.strategy.forward(backbone, batch.cells, None)
        spec.strategy.loss(backbone, states, batch.cells, 0.0).backward()
        update_s = (time.monotonic() - started_s) * 1.2
    flops = batch.cells.bill.total_flops
    if flops > spec.train.flops:
        raise ValueError(f"--train-flops: {spec.train.flops:.3g} is less than one update, which takes {flops:.3g}")
    updates = math.floor(spec.train.flops / flops)
    parameters = sum(p.numel() for p in backbone.parameters())
    disk = 4 * parameters + 3000 * spec.infer.problems
    return Plan(spec.train.flops, flops, updates, updates * update_s, disk)


def _dry_alphabet(spec: RunSpec) -> Alphabet:
    wanted = (spec.pretraining or spec).task.alphabet()
    texts = [d.text for d in spec.task.documents("train")] if wanted.startswith("bpe:") and spec.task.kind == "documents" else ()
    return make_alphabet(wanted, texts=texts)
