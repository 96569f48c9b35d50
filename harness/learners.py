"""Learners: what was trained, kept under results/weights so that many runs share it.

Loads a complete one, goes on from a checkpoint, or trains from the pretraining run that the spec names. Knows files and the order
of the steps; knows no strategy, no task and no screen.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from harness import records, registry, shapes, storage
from harness.alphabet import KEPT, Alphabet, make_alphabet
from harness.backbone import Backbone
from harness.devices import check_device
from harness.feed import Feed, make_feed
from harness.locks import alone
from harness.ranks import ALONE, Ranks
from harness.records import Record
from harness.spec import SCHEMA, RunSpec
from harness.strategy import Strategy
from harness.target import Spent
from harness.train import Trainer
from harness.weights import check_teachable, load_state, make_backbone, pack, read_packed, state_hash, state_of, weights_hash

CHECKPOINTS = Path(__file__).parent / "checkpoints"  # learners that come with the harness, as they lie under results/weights


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """By what means a run is made: nothing here is part of its spec.

    checkpoint_s: between two states on disk. ranks: the processes that make it together; parts: in how many each of them takes an
    update.
    """

    device: str = "cpu"
    checkpoint_s: float = 30.0
    ranks: Ranks = ALONE
    parts: int = 1

    def __post_init__(self) -> None:
        check_device(self.device)


def learn(
    spec: RunSpec, *, results: Path, means: Means, reporter: Reporter, again: bool = False, wait: bool = True
) -> tuple[Backbone, Record]:
    """The trained backbone and its learner.json: loaded if complete, else trained on from the last checkpoint.

    wait: for another process that trains it just now, rather than raise `Busy`.
    """
    folder = records.weights_folder(results, spec)
    with alone(results, f"learner-{folder.name}", wait=wait), storage.new_folder(results, folder):
        return _learned(spec, folder, results, means, reporter, again)


def _learned(
    spec: RunSpec, folder: Path, results: Path, means: Means, reporter: Reporter, again: bool
) -> tuple[Backbone, Record]:
    """The same, with nobody else at it."""
    asks, spec = spec.strategy, spec.as_learner()
    check_teachable(spec)
    storage.sweep(folder)
    means.ranks.mirror(results, folder)
    if again:
        for name in ("learner.json", "checkpoint.safetensors"):
            storage.remove(folder / name)
    else:
        _take_shipped(folder)
    complete, before = (folder / "learner.json").exists(), spec.pretrained()
    first = None
    if before is not None and not complete:
        first = learn(before, results=results, means=means, reporter=reporter)
    alphabet = learner_alphabet(spec, folder, first=first[0].alphabet if first else None)
    _check_wording(asks, alphabet)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed)
    if complete:
        learner = _complete(spec, folder)
        _take_weights(backbone, learner, folder, spec)
        storage.remove(folder / "checkpoint.safetensors")  # left behind if the process ended just before this
        return backbone.to(torch.device(means.device)).eval(), learner
    if first is not None:
        load_state(backbone, state_of(first[0]))
    backbone.to(torch.device(means.device))
    return _train(spec, backbone, folder, means, reporter, first[1] if first else None)


def load(spec: RunSpec, *, results: Path, device: str) -> tuple[Backbone, Record]:
    """A complete learner, and its learner.json; nothing is written, so that the folder may be one that cannot be written to."""
    asks, spec = spec.strategy, spec.as_learner()
    check_teachable(spec)
    folder = records.weights_folder(results, spec)
    learner = _complete(spec, folder)
    alphabet = learner_alphabet(spec, folder if (folder / "tokenizer.json").exists() else None)
    _check_wording(asks, alphabet)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed)
    _take_weights(backbone, learner, folder, spec)
    return backbone.to(torch.device(device)).eval(), learner


def _complete(spec: RunSpec, folder: Path) -> Record:
    """A complete learner's record; ValueError if it is spoilt, or another learner's."""
    path = folder / "learner.json"
    learner = records.read_record(folder, name=path.name)
    records.check_shape(learner, shapes.Learner, path)
    if (learner["learner"], learner["seed"]) != (spec.learner_fingerprint(), spec.seed):
        raise ValueError(f"{path} is the record of another learner; move it away, or use --again to make it anew")
    return learner


def _take_weights(backbone: Backbone, learner: Record, folder: Path, spec: RunSpec) -> None:
    """A complete learner's weights, which must be those that its record names.

    Of a model that is asked as it is none are kept: they must be what they were.
    """
    if not backbone.as_it_is:
        state, _ = read_packed(folder / "model.safetensors")
        if state_hash(state) != learner["weights_sha256"]:
            raise ValueError(
                f"{folder / 'model.safetensors'} holds other weights than {folder / 'learner.json'} names by their sha256; move "
                f"{folder} away, or use --again to train the learner anew"
            )
        load_state(backbone, state)
    elif weights_hash(backbone) != learner["weights_sha256"]:
        raise ValueError(
            f"model.path: the weights of {spec.model.path} are not those that {folder / 'learner.json'} names by their sha256; "
            "put them back, or use --again to ask the new ones"
        )


def _take_shipped(folder: Path) -> None:
    """Copy a learner that comes with the harness, so that it need not be trained; learner.json, which makes it complete, last."""
    shipped = CHECKPOINTS / folder.name
    if (folder / "learner.json").exists() or not (shipped / "learner.json").exists():
        return
    names = sorted(path.name for path in shipped.iterdir() if path.name != "learner.json")
    for name in [*names, "learner.json"]:
        storage.replace_file(folder / name, (shipped / name).read_bytes())


def _check_wording(strategy: Strategy, alphabet: Alphabet) -> None:
    """ValueError if the alphabet cannot spell the strategy's own words: before training, not after it."""
    try:
        alphabet.encode_many(list(strategy.wording()))
    except ValueError as error:
        raise ValueError(
            f"strategy {registry.plugin_name(strategy)} has words in its prompts that the alphabet cannot spell ({error}); "
            "choose a task in bytes, or --set model.alphabet=bytes"
        ) from None


def _train(
    spec: RunSpec, backbone: Backbone, folder: Path, means: Means, reporter: Reporter, before: Record | None
) -> tuple[Backbone, Record]:
    """Train to the end, write the weights, then learner.json, then drop the checkpoint."""
    started_s = time.monotonic()
    feed = make_feed(spec, backbone)
    trainer = Trainer(
        backbone=backbone, spec=spec.train, feed=feed, folder=folder, checkpoint_s=means.checkpoint_s, owner=folder.name,
        ranks=means.ranks, parts=means.parts,
    )  # fmt: skip
    spent = trainer.run(lambda s, p, loss: reporter.training(spec, s, p, loss))
    if means.ranks.sharded:
        backbone = _joined(spec, backbone, means.device)
    if not backbone.as_it_is:  # else they are loaded again from where they lie
        storage.replace_file(folder / "model.safetensors", pack(state_of(backbone), {"learner": spec.learner_fingerprint()}))
    timing = {"train_s": time.monotonic() - started_s, "ranks": means.ranks.count, "parts": trainer.parts}
    records.write_json(folder / "timing.json", timing | machine(means.device))
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
    return backbone.eval(), sealed


def _joined(spec: RunSpec, split: Backbone, device: str) -> Backbone:
    """A backbone of which every rank has all weights, from one whose weights are split among them."""
    whole = make_backbone(spec.model, strategy=spec.strategy, alphabet=split.alphabet, seed=spec.seed)
    load_state(whole, state_of(split))
    return whole.to(torch.device(device))


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


def learner_alphabet(spec: RunSpec, folder: Path | None, *, first: Alphabet | None = None) -> Alphabet:
    """The alphabet of the learner's first phase; one that is trained, or a model's own, is kept beside the weights in ``folder``.

    first: the alphabet of the pretraining run, if that has just been loaded.
    """
    root, wanted = spec.pretrained() or spec, spec.alphabet
    if not wanted.startswith(KEPT):
        return make_alphabet(wanted)
    kept = None if folder is None else folder / "tokenizer.json"
    if kept is not None and kept.exists():
        try:
            return make_alphabet(wanted, tokenizer_json=kept.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare ones
            raise ValueError(f"{kept} is damaged ({type(error).__name__}); delete it and use --again") from None
    alphabet = first or make_alphabet(wanted, texts=_train_texts(root) if wanted.startswith("bpe:") else ())
    if kept is not None:
        storage.replace_file(kept, alphabet.kept_json().encode())
    return alphabet


def _train_texts(spec: RunSpec) -> list[str]:
    """Text for a tokenizer: the train documents, or a task's first train problems."""
    if spec.task.taught_as == "documents":
        return [document.text for document in spec.task.documents("train")]
    problems = spec.task.problems("train", seed=spec.seed, start=0, count=10_000)
    return [f"{p.question.text}{p.key.answer}{' '.join(p.key.lines)}" for p in problems]


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
