"""Where training stops: at FLOPs, or at what plain training would have consumed of text tokens or updates.

Knows counts of what is consumed; knows no weights and no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.backbone import Backbone
from harness.feed import Batch, Feed, baseline_batch, direct_flops
from harness.meter import TRAINING_FACTOR
from harness.spec import TrainSpec


@dataclass(frozen=True, slots=True)
class Amount:
    """What one update consumes."""

    flops: int
    examples: int
    text_tokens: int
    woven_tokens: int
    supervised_tokens: int


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

    def add(self, amount: Amount) -> None:
        """Book one update."""
        self.updates += 1
        self.flops += amount.flops
        self.examples += amount.examples
        self.text_tokens += amount.text_tokens
        self.woven_tokens += amount.woven_tokens
        self.supervised_tokens += amount.supervised_tokens


@dataclass(frozen=True, slots=True)
class Target:
    """Where training stops."""

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

    def allows(self, spent: Spent, amount: Amount) -> bool:
        """Whether one more update stays within the target."""
        if self.updates is not None:
            return spent.updates < self.updates
        if self.text_tokens is not None:
            return spent.text_tokens + amount.text_tokens <= self.text_tokens
        return spent.flops + amount.flops <= self.flops


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


def foreseen_updates(spec: TrainSpec, feed: Feed, backbone: Backbone, batch: Batch) -> int:
    """Roughly how many updates training takes to its target, by its first batch; ValueError if not one fits."""
    if spec.flops == 0:
        return 0
    if spec.match == "flops":
        updates = math.floor(spec.flops / batch.flops)
    else:
        plain = baseline_batch(feed, 0)
        cost = TRAINING_FACTOR * direct_flops(plain, backbone.price, outputs=len(backbone.alphabet.head_ids(())))
        updates = math.floor(spec.flops / cost)
        if updates == 0:
            raise ValueError(f"--train-flops: {spec.flops:.3g} is less than one update of plain training, {cost:.3g}")
        if spec.match == "tokens":
            updates = math.floor(updates * plain.text_tokens / batch.text_tokens)
    if updates == 0:
        raise ValueError(f"--train-flops: {spec.flops:.3g} is less than one update, which takes {batch.flops:.3g}")
    return updates


def learning_rate_at(spec: TrainSpec, progress: float) -> float:
    """Linear warm-up, then a cosine down to ``decay_to``."""
    if progress < spec.warmup:
        return spec.learning_rate * max(progress, 1e-3) / spec.warmup
    along = min((progress - spec.warmup) / (1 - spec.warmup), 1.0)
    return spec.learning_rate * (spec.decay_to + (1 - spec.decay_to) * 0.5 * (1 + math.cos(math.pi * along)))
