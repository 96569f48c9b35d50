"""The one training loop: pretraining and finetuning, every strategy, every task.

It stops before the update that would pass its budget, follows the learning rate by the share of the budget that is spent, and can
be cut off anywhere: the same call goes on from the last checkpoint to the same weights. Knows no strategy and no task by name.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import storage
from harness.backbone import Backbone
from harness.feed import Batch, Feed, baseline_batch, direct_flops
from harness.meter import TRAINING_FACTOR
from harness.spec import TrainSpec
from harness.weights import load_state, pack, read_packed, state_of

LOG_EVERY_UPDATES = 10  # after the first ten, which are all logged
BETA1 = 0.9


@dataclass(slots=True)
class Spent:
    """What training has consumed so far."""

    updates: int = 0
    flops: int = 0
    examples: int = 0
    text_tokens: int = 0
    woven_tokens: int = 0
    supervised_tokens: int = 0
    stage: int = 0

    def add(self, batch: Batch, flops: int) -> None:
        """Book one update."""
        self.updates += 1
        self.flops += flops
        self.examples += batch.examples
        self.text_tokens += batch.text_tokens
        self.woven_tokens += batch.woven_tokens
        self.supervised_tokens += batch.supervised_tokens


@dataclass(frozen=True, slots=True)
class Target:
    """Where training stops: at FLOPs, or at what plain training would have consumed of text tokens or updates."""

    flops: float
    text_tokens: int | None = None
    updates: int | None = None

    def progress(self, spent: Spent) -> float:
        """Share of the target that is spent."""
        if self.updates is not None:
            return spent.updates / self.updates
        if self.text_tokens is not None:
            return spent.text_tokens / self.text_tokens
        return spent.flops / self.flops

    def allows(self, spent: Spent, batch: Batch, flops: int) -> bool:
        """Whether one more update stays within the target."""
        if self.updates is not None:
            return spent.updates < self.updates
        if self.text_tokens is not None:
            return spent.text_tokens + batch.text_tokens <= self.text_tokens
        return spent.flops + flops <= self.flops


Report = Callable[[Spent, float, float], None]  # spent so far, progress 0 to 1, loss in nats


def make_target(spec: TrainSpec, feed: Feed, backbone: Backbone) -> Target:
    """The target that ``spec.match`` asks for; for tokens and examples, plain training's consumption at ``spec.flops``."""
    if spec.match == "flops":
        return Target(spec.flops)
    outputs = len(backbone.alphabet.head_ids(()))
    flops, tokens, updates = 0, 0, 0
    while True:
        batch = baseline_batch(feed, updates)
        cost = TRAINING_FACTOR * direct_flops(batch, backbone.price, outputs=outputs)
        if flops + cost > spec.flops:
            break
        flops, tokens, updates = flops + cost, tokens + batch.text_tokens, updates + 1
    if updates == 0:
        raise ValueError(f"--train-flops: {spec.flops:.3g} is less than one update of plain training, {cost:.3g}")
    if spec.match == "tokens":
        return Target(spec.flops, text_tokens=tokens)
    return Target(spec.flops, updates=updates)


def learning_rate_at(spec: TrainSpec, progress: float) -> float:
    """Linear warm-up, then a cosine down to ``decay_to``."""
    if progress < spec.warmup:
        return spec.learning_rate * max(progress, 1e-3) / spec.warmup
    along = min((progress - spec.warmup) / (1 - spec.warmup), 1.0)
    return spec.learning_rate * (spec.decay_to + (1 - spec.decay_to) * 0.5 * (1 + math.cos(math.pi * along)))


def make_optimizer(backbone: Backbone, spec: TrainSpec) -> torch.optim.Optimizer:
    """AdamW; matrices and embeddings decay, vectors do not."""
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(BETA1, spec.beta2), fused=True)


class Trainer:
    """One phase of training in a folder.

    Files: ``checkpoint.safetensors`` (weights, optimizer, counts; replaced by rename every ``checkpoint_s`` seconds) and
    ``train.jsonl`` (a line for each logged update).
    """

    def __init__(
        self, *, backbone: Backbone, spec: TrainSpec, feed: Feed, folder: Path, checkpoint_s: float = 30.0, owner: str = ""
    ) -> None:
        self.backbone, self.spec, self.feed, self.folder = backbone, spec, feed, folder
        self.spent, self.optimizer = Spent(), make_optimizer(backbone, spec)
        self._checkpoint, self._log = folder / "checkpoint.safetensors", folder / "train.jsonl"
        self._checkpoint_s, self._owner = checkpoint_s, owner
        self._pending: list[str] = []

    def run(self, report: Report | None = None) -> Spent:
        """Train to the target, from the last checkpoint if there is one."""
        self._resume()
        if self.spec.flops == 0:  # asked as it is: there is nothing to teach
            storage.append(self._log, "")
            return self.spent
        target = make_target(self.spec, self.feed, self.backbone)
        saved_s = time.monotonic()
        while True:
            progress = target.progress(self.spent)
            result = self._update(target, progress)
            if result is None:
                break
            if report is not None:
                report(self.spent, target.progress(self.spent), result)
            if time.monotonic() - saved_s >= self._checkpoint_s:
                self._save()
                saved_s = time.monotonic()
        if self.spent.updates == 0:
            batch = self._batch(0.0)
            least = self._forward(batch, 0.0)[1]
            raise ValueError(f"--train-flops: {self.spec.flops:.3g} is less than one update, which takes {least:.3g}")
        self._flush()
        return self.spent

    def _batch(self, progress: float) -> Batch:
        model = self.backbone
        return self.feed.batch(model.strategy, self.spent.updates, progress=progress, device=model.device, backbone=model)

    def _forward(self, batch: Batch, progress: float) -> tuple[Tensor, int]:
        """Loss, and the FLOPs of the whole update."""
        strategy, cells = self.backbone.strategy, batch.cells
        states = strategy.forward(self.backbone, cells, None)
        loss = strategy.loss(self.backbone, states, cells, progress)
        return loss, batch.flops

    def _update(self, target: Target, progress: float) -> float | None:
        """One update; None if it would pass the target. Returns the loss in nats."""
        stage = self.backbone.strategy.stage(progress)
        if stage != self.spent.stage:
            self.spent.stage, self.optimizer = stage, make_optimizer(self.backbone, self.spec)
        batch = self._batch(progress)
        loss, flops = self._forward(batch, progress)
        if not target.allows(self.spent, batch, flops):
            return None
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"train.learning_rate: the loss is {value} at update {self.spent.updates}; use less than "
                f"{self.spec.learning_rate:g}, for example --set train.learning_rate={self.spec.learning_rate / 10:g}"
            )
        learned = [p for group in self.optimizer.param_groups for p in group["params"]]
        for parameter in learned:
            parameter.grad = None
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learned, self.spec.clip_norm, foreach=True)
        rate = learning_rate_at(self.spec, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.spent.add(batch, flops)
        self._note(value, rate, float(norm))
        return value

    def _note(self, loss: float, rate: float, norm: float) -> None:
        """Keep a line for the log; lines reach the file together with a checkpoint, never before it."""
        if self.spent.updates > LOG_EVERY_UPDATES and self.spent.updates % LOG_EVERY_UPDATES:
            return
        line: dict[str, float] = {
            "update": self.spent.updates,
            "spent_flops": self.spent.flops,
            "text_tokens": self.spent.text_tokens,
        }
        line |= {"loss_nats": loss, "learning_rate": rate, "gradient_norm": norm}
        self._pending.append(json.dumps(line) + "\n")

    def _flush(self) -> None:
        if self._pending:
            storage.append(self._log, "".join(self._pending))
            self._pending = []

    def _save(self) -> None:
        """Append the log, then replace the checkpoint, which records how long the log was."""
        self._flush()
        tensors = {f"weights/{k}": v for k, v in state_of(self.backbone).items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{k}": v.contiguous() for k, v in state.items()}
        log_bytes = self._log.stat().st_size if self._log.exists() else 0
        facts = {"owner": self._owner, "spent": asdict(self.spent), "log_bytes": log_bytes}
        storage.replace_file(self._checkpoint, pack(tensors, facts))

    def _resume(self) -> None:
        """Go back to the last checkpoint; what the log has beyond it is cut off."""
        if not self._checkpoint.exists():
            storage.remove(self._log)
            return
        tensors, facts = read_packed(self._checkpoint)
        if facts.get("owner") != self._owner or not {"spent", "log_bytes"} <= set(facts):
            raise ValueError(f"{self._checkpoint} is the checkpoint of another run; delete it and run again")
        load_state(self.backbone, {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")})
        self.spent = Spent(**facts["spent"])
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/", 2)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        for parameter, kept in self.optimizer.state.items():  # moments are stored the way their weights are
            for key, value in kept.items():
                kept[key] = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        logged = self._log.stat().st_size if self._log.exists() else 0
        if logged < facts["log_bytes"]:
            raise ValueError(f"{self._log} was cut short since its checkpoint; delete {self._checkpoint} to train anew")
        if logged > facts["log_bytes"]:
            storage.truncate(self._log, facts["log_bytes"])
