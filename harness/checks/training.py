"""Checks that train: a strategy can learn, cannot see what it should say, repeats itself, and survives a crash.

Trains tiny models for seconds. Knows the training loop and its files; knows no plugin.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness.backbone import Backbone
from harness.checks.context import LOOSE, Context, Fixed
from harness.examination import gold_text
from harness.feed import Feed, Share, baseline_batch, direct_flops
from harness.meter import TRAINING_FACTOR, gpt2_price
from harness.problem import Answer, Key, Problem, Question, Tokens
from harness.ranks import ALONE
from harness.session import Job
from harness.spec import TrainSpec
from harness.target import Spent
from harness.task import Split, Task, setting
from harness.train import Lesson, Trainer, weighed
from harness.weights import weights_hash

RANDOM_UPDATES, RANDOM_TOKENS = 200, 12
MEMORY_UPDATES = 150
FEW_UPDATES = 6


class Crash(BaseException):
    """Ends training as a kill would: nothing that handles errors sees it."""


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Task):
    """Texts of tokens that nothing can foretell, each token of the vocabulary equally likely."""

    source: ClassVar[str] = "checks"
    letters: str = setting("bytes", doc="alphabet")
    head_ids: tuple[int, ...] = setting((), doc="the vocabulary")

    def alphabet(self) -> str:
        """As given."""
        return self.letters

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """A first token as question, the others as answer."""
        rng = np.random.default_rng([seed, start, len(split)])
        drawn = np.array(self.head_ids)[rng.integers(0, len(self.head_ids), (count, RANDOM_TOKENS))].tolist()
        return [
            Problem(Question(f"{split}-{start + i}", Tokens(tuple(ids[:1])), window=True), Key(Tokens(tuple(ids[1:])), (), False))
            for i, ids in enumerate(drawn)
        ]


def trained(context: Context, feed: Feed, *, updates: int, name: str, rate: float = 3e-3, crash_at: int = 0) -> Backbone:
    """A tiny model after ``updates`` updates; crash_at: the update after which training is cut off once and taken up again."""
    folder = context.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    flops = float(sum(_plain_flops(context, feed, update) for update in range(updates)))
    spec = TrainSpec(flops=flops, match="examples", learning_rate=rate, weight_decay=0.0)
    if crash_at:
        with contextlib.suppress(Crash):
            _train_once(context, feed, spec, folder, crash_at)
    return _train_once(context, feed, spec, folder, 0)


def _train_once(context: Context, feed: Feed, spec: TrainSpec, folder: Path, crash_at: int) -> Backbone:
    """Train, from the folder's checkpoint if there is one."""
    backbone = context.backbone_of(context.strategy, lively=1.0)

    def report(spent: Spent, progress: float, loss_nats: float) -> None:
        if crash_at and spent.updates == crash_at:
            raise Crash

    trainer = Trainer(backbone=backbone, spec=spec, feed=feed, folder=folder, checkpoint_s=0.0 if crash_at else math.inf)
    trainer.run(report)
    return backbone.eval()


def _plain_flops(context: Context, feed: Feed, update: int) -> int:
    """What an update costs plain training."""
    layers, width, _, _ = context.spec.model.shape
    price, outputs = gpt2_price(layers=layers, width=width), len(context.alphabet.head_ids(()))
    return TRAINING_FACTOR * direct_flops(baseline_batch(feed, update), price, outputs=outputs)


def memorises(context: Context) -> None:
    """Eight lessons, taught again and again, are known: questions are answered, windows become likely."""
    feed = context.feed(Fixed(held=tuple(context.problems)))
    backbone = trained(context, feed, updates=MEMORY_UPDATES, name="memorises", rate=1e-2)
    advice = "check that `lessons` holds the answer as targets and that `readout` and `loss` use the same states"
    if context.task.kind == "documents":
        fresh = context.backbone_of(context.strategy, lively=1.0)
        before, after = (nats_per_token(context, b, context.problems) for b in (fresh, backbone))
        assert after < before / 4, f"eight windows have {after:.3f} nats a token after training, {before:.3f} before: {advice}"
        return
    jobs = [Job(str(at), _solver(context, p.question)) for at, p in enumerate(context.problems)]
    answers = {name: o.value for name, o in context.solve(jobs, backbone=backbone).items()}
    said = [(p, answers[str(at)]) for at, p in enumerate(context.problems)]
    grades = [context.task.grade(p, a.text if isinstance(a, Answer) else None) for p, a in said]
    wrong = [f"{p.question.text!r} -> {a.text!r}" for (p, a), grade in zip(said, grades, strict=True) if grade < 1]
    assert not wrong, f"{len(wrong)} of 8 lessons are not known after {MEMORY_UPDATES} updates ({wrong[0]}): {advice}"


def _solver(context: Context, question: Question) -> Any:
    return lambda: context.strategy.solve(question)


def nats_per_token(context: Context, backbone: Backbone, problems: Sequence[Problem]) -> float:
    """Of the keys, when asked."""

    def job(at: int, problem: Problem) -> Job:
        return Job(str(at), lambda: context.strategy.score(problem.question, (gold_text(problem),)))

    found = [o.value[0] for o in context.solve([job(at, p) for at, p in enumerate(problems)], backbone=backbone).values()]
    return float(sum(x.nats for x in found) / sum(x.tokens for x in found))


def random_tokens_teach_nothing(context: Context) -> None:
    """After 200 updates on random tokens, held-out ones have at least ln V - 0.01 nats: nothing sees what it should say."""
    task = RandomTokens(head_ids=tuple(context.alphabet.head_ids(())))
    backbone = trained(context, context.feed(task), updates=RANDOM_UPDATES, name="random", rate=1e-2)
    held_out = task.problems("test", seed=0, start=0, count=64)
    nats, floor = nats_per_token(context, backbone, held_out), math.log(len(task.head_ids))
    assert nats >= floor - 0.01, (
        f"random tokens got {nats:.3f} nats, less than ln V = {floor:.3f}: a target leaks into the cell where it is read; "
        "see no_leak_in_training, and count no inserted cell among the targets"
    )


def same_seed_same_weights(context: Context) -> None:
    """Training twice from one seed gives the same weights, bit for bit."""
    models = [trained(context, context.feed(context.task), updates=FEW_UPDATES, name=f"seed{i}") for i in range(2)]
    assert weights_hash(models[0]) == weights_hash(models[1]), (
        "two trainings from one seed differ: draw from the `rng` that `lessons` is given and from nothing else, and keep no "
        "state between calls"
    )


def parts_are_the_whole(context: Context) -> None:
    """An update that is taken in three parts has the loss and the FLOPs of the whole."""
    feed, strategy, backbone = context.feed(context.task), context.strategy, context.backbone
    lesson, found = Lesson(backbone, TrainSpec()), []
    for parts in (1, 3):
        share = Share(parts=parts)
        batches = feed.parts(strategy, 0, progress=0.5, device=backbone.device, backbone=backbone, share=share)
        losses = [float(lesson(b.cells, 0.5).detach()) * b.cells.share for b in weighed(batches, strategy, ALONE)]
        found.append((sum(losses), sum(batch.flops for batch in batches)))
    (whole, flops), (in_parts, flops_in_parts) = found
    assert math.isclose(whole, in_parts, rel_tol=LOOSE) and flops == flops_in_parts, (
        f"an update has a loss of {whole:.6g} and {flops:,} FLOPs, in three parts {in_parts:.6g} and {flops_in_parts:,}: a "
        "loss is a mean over the targets; one that has means over other things names their numbers in `loss_counts` and "
        "multiplies each by its own of cells.weights"
    )


def resumes(context: Context) -> None:
    """Training that is cut off and taken up again gives the weights and the log of undisturbed training."""
    feed = context.feed(context.task)
    whole = trained(context, feed, updates=FEW_UPDATES, name="whole")
    resumed = trained(context, feed, updates=FEW_UPDATES, name="resumed", crash_at=FEW_UPDATES // 2)
    logs = [(context.folder / name / "train.jsonl").read_bytes() for name in ("whole", "resumed")]
    assert weights_hash(whole) == weights_hash(resumed) and logs[0] == logs[1], (
        "training that was cut off ends elsewhere: lessons may depend on problem, progress and rng only, and `parts` must hold "
        "all that is learned, so that the checkpoint has it"
    )
