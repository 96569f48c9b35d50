"""The one training loop: pretraining and finetuning, every strategy, every task, on any number of ranks.

It stops before the update that would pass its budget, follows the learning rate by the share of the budget that is spent, and can
be cut off anywhere: the same call goes on from the last checkpoint to the same weights. An update's texts may be shared among
ranks and taken in parts: the problems, the FLOPs and, up to the order of sums, the losses are the same. Knows no strategy and
no task by name.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from harness import storage
from harness.backbone import Backbone
from harness.cells import Cells
from harness.checkpoint import Checkpoint, load_moments
from harness.feed import Batch, Feed, Share
from harness.precision import casting, multiplying
from harness.ranks import ALONE, Ranks
from harness.spec import TrainSpec
from harness.strategy import Strategy
from harness.target import Amount, Spent, Target, learning_rate_at, make_target
from harness.weights import whole

LOG_EVERY_UPDATES = 10  # after the first ten, which are all logged
BETA1 = 0.9
MOST_PARTS = 1024  # of an update, one after another

Report = Callable[[Spent, float, float], None]  # spent so far, progress 0 to 1, loss in nats


def make_optimizer(backbone: Backbone, spec: TrainSpec) -> torch.optim.Optimizer:
    """AdamW; matrices and embeddings decay, vectors do not."""
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(BETA1, spec.beta2), fused=True)


class Lesson(nn.Module):
    """Cells -> their loss: one module, whose gradients ranks exchange."""

    def __init__(self, backbone: Backbone, spec: TrainSpec, *, sharded: bool = False) -> None:
        super().__init__()
        self.backbone, self._precision, self._sharded = backbone, spec.precision, sharded

    def forward(self, cells: Cells, progress: float) -> Tensor:
        """The loss of a pass; books its FLOPs on the cells' bill."""
        backbone = self.backbone
        if self._sharded:
            backbone.find_weights()  # they are whole only now
        with casting(self._precision, backbone.device):
            states = backbone.strategy.forward(backbone, cells, None)
            return backbone.strategy.loss(backbone, states, cells, progress)


class Trainer:
    """One phase of training in a folder, where it leaves a `Checkpoint` every ``checkpoint_s`` seconds.

    ranks: the processes that train together. parts: in how many an update is taken by each of them, one after another; where a
    GPU's memory does not suffice for one, twice as many are tried (by a process alone).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        spec: TrainSpec,
        feed: Feed,
        folder: Path,
        checkpoint_s: float = 30.0,
        owner: str = "",
        ranks: Ranks = ALONE,
        parts: int = 1,
    ) -> None:
        self.backbone, self.spec, self.feed, self.ranks, self.parts = backbone, spec, feed, ranks, parts
        self.spent, self.optimizer = Spent(), make_optimizer(backbone, spec)
        self._lesson: nn.Module = Lesson(backbone, spec, sharded=ranks.sharded)
        self._checkpoint, self._checkpoint_s, self._saved_s = Checkpoint(folder, owner=owner), checkpoint_s, 0.0

    def run(self, report: Report | None = None) -> Spent:
        """Train to the target, from the last checkpoint if there is one."""
        self.spent, moments = self._checkpoint.read(self.backbone)
        if self.spec.flops == 0:  # asked as it is: there is nothing to teach
            storage.append(self._checkpoint.log, "")
            return self.spent
        target = make_target(self.spec, self.feed, self.backbone)
        self._lesson = self.ranks.wrapped(self._lesson)
        self.optimizer = make_optimizer(self.backbone, self.spec)  # wrapping may have split the weights
        if moments:
            load_moments(self.optimizer, moments)
        with multiplying(self.spec.precision):
            self._follow(target, report)
        if self.spent.updates == 0:
            least = self.ranks.summed([sum(batch.flops for batch in self._tried(0.0))])[0]
            raise ValueError(f"--train-flops: {self.spec.flops:.3g} is less than one update, which takes {least:.3g}")
        self._checkpoint.flush()
        return self.spent

    def _follow(self, target: Target, report: Report | None) -> None:
        """Update after update, until the next one would pass the target."""
        self._saved_s = time.monotonic()
        while True:
            progress = target.progress(self.spent)
            loss, due = self._fitting_update(target, progress)
            if loss is None:
                return
            if report is not None:
                report(self.spent, target.progress(self.spent), loss)
            if due:
                self._checkpoint.write(self.backbone, self.optimizer, self.spent, keep=self.ranks.first)
                self._saved_s = time.monotonic()

    def _fitting_update(self, target: Target, progress: float) -> tuple[float | None, bool]:
        """An update in as many parts as fit into the GPU's memory."""
        while True:
            try:
                return self._update(target, progress)
            except torch.OutOfMemoryError:
                if self.ranks.count > 1 or self.parts >= MOST_PARTS:
                    raise ValueError(
                        f"--parts: an update in {self.parts} parts does not fit into the device's memory; use more"
                    ) from None
                self.parts *= 2
            torch.cuda.empty_cache()

    def _batches(self, progress: float) -> list[Batch]:
        """This rank's share of the next update, laid out."""
        model, share = self.backbone, Share(self.ranks.rank, self.ranks.count, self.parts)
        at = self.spent.updates
        batches = self.feed.parts(model.strategy, at, progress=progress, device=model.device, backbone=model, share=share)
        return batches if self.ranks.count * self.parts == 1 else weighed(batches, model.strategy, self.ranks)

    def _tried(self, progress: float) -> list[Batch]:
        """The same, after a forward pass of each part, which prices it."""
        batches = self._batches(progress)
        for batch in batches:
            self._lesson(batch.cells, progress)
        return batches

    def _update(self, target: Target, progress: float) -> tuple[float | None, bool]:
        """One update; returns the loss in nats, None if it would pass the target, and whether a checkpoint is due."""
        stage = self.backbone.strategy.stage(progress)
        if stage != self.spent.stage:
            self.spent.stage, self.optimizer = stage, make_optimizer(self.backbone, self.spec)
        learned = [p for group in self.optimizer.param_groups for p in group["params"]]
        for parameter in learned:
            parameter.grad = None
        batches, value = self._batches(progress), 0.0
        for batch in batches[:-1]:
            with self.ranks.quiet(self._lesson):
                value += self._backward(self._loss(batch, progress))
        loss = self._loss(batches[-1], progress)
        amount, due = self._amount(batches)
        if not target.allows(self.spent, amount):
            return None, False
        value = self.ranks.total(value + float(loss.detach()))
        self._check_finite(value)
        self._backward(loss)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(learned, self.spec.clip_norm, foreach=True)))
        rate = learning_rate_at(self.spec, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.spent.add(amount)
        self._note(value, rate, norm)
        return value, due

    def _loss(self, batch: Batch, progress: float) -> Tensor:
        """A part's own share of the update's loss."""
        loss: Tensor = self._lesson(batch.cells, progress)
        return loss if batch.cells.share == 1.0 else loss * batch.cells.share

    def _backward(self, loss: Tensor) -> float:
        """Add up gradients, which wrapped modules average over ranks; returns the loss."""
        (loss if self.ranks.count == 1 else loss * self.ranks.count).backward()
        return float(loss.detach())

    def _amount(self, batches: Sequence[Batch]) -> tuple[Amount, bool]:
        """What the update consumes, over all ranks; and whether the first one has not saved for long."""
        due = self.ranks.first and time.monotonic() - self._saved_s >= self._checkpoint_s
        own = [(b.flops, b.examples, b.text_tokens, b.woven_tokens, b.supervised_tokens) for b in batches]
        *counts, late = self.ranks.summed([*map(sum, zip(*own, strict=True)), int(due)])
        return Amount(*counts), bool(late)

    def _check_finite(self, value: float) -> None:
        if not math.isfinite(value):
            raise ValueError(
                f"train.learning_rate: the loss is {value} at update {self.spent.updates}; use less than "
                f"{self.spec.learning_rate:g}, for example --set train.learning_rate={self.spec.learning_rate / 10:g}"
            )

    def _note(self, loss: float, rate: float, norm: float) -> None:
        if self.spent.updates > LOG_EVERY_UPDATES and self.spent.updates % LOG_EVERY_UPDATES:
            return
        line: dict[str, float] = {
            "update": self.spent.updates,
            "spent_flops": self.spent.flops,
            "text_tokens": self.spent.text_tokens,
        }
        line |= {"loss_nats": loss, "learning_rate": rate, "gradient_norm": norm}
        self._checkpoint.note(json.dumps(line) + "\n")


def weighed(batches: Sequence[Batch], strategy: Strategy, ranks: Ranks) -> list[Batch]:
    """An update's parts, on all ranks, that know what share of its targets they hold, so that their losses add up to its loss."""
    counts = [(len(batch.cells.targets), *strategy.loss_counts(batch.cells)) for batch in batches]
    totals = ranks.summed([sum(column) for column in zip(*counts, strict=True)])
    shares = [[n / max(total, 1) for n, total in zip(own, totals, strict=True)] for own in counts]
    cells = [replace(b.cells, share=own[0], weights=_relative(own)) for b, own in zip(batches, shares, strict=True)]
    return [replace(batch, cells=c) for batch, c in zip(batches, cells, strict=True)]


def _relative(shares: Sequence[float]) -> tuple[float, ...]:
    """Shares of the further counts over the share of the targets, by which the whole loss is multiplied."""
    first, *others = shares
    return tuple(share / first if first else 0.0 for share in others)
