"""A learner of ours on the bench: made fresh, taught update by update, and asked. Knows no peer and no target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.alphabet import Alphabet, make_alphabet
from harness.backbone import Backbone
from harness.feed import Feed, make_feed
from harness.problem import Problem
from harness.session import Job, Session
from harness.spec import RunSpec, make_spec
from harness.target import Target
from harness.train import Trainer
from harness.weights import make_backbone

ENDLESS = Target(float("inf"))


@dataclass(frozen=True)
class Ours:
    """A learner under training, and what it is fed."""

    spec: RunSpec
    alphabet: Alphabet
    backbone: Backbone
    feed: Feed
    trainer: Trainer

    def update(self) -> None:
        """One update, exactly as `Trainer.run` makes it, data included."""
        self.trainer._update(ENDLESS, 0.5)

    def forward(self, update: int) -> torch.Tensor:
        """The loss on the batch of an update, whose gradient can be taken."""
        model = self.backbone
        batch = self.feed.batch(model.strategy, update, progress=0.5, device=model.device, backbone=model)
        loss: torch.Tensor = self.trainer._lesson(batch.cells, 0.5)
        return loss

    def loss(self, update: int) -> float:
        """The same as a number."""
        with torch.no_grad():
            return float(self.forward(update))


def learner(
    folder: Path, *, strategy: str, task: str, size: str, settings: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Ours:
    """A fresh learner at a steady learning rate."""
    steady = {"model.size": size, "train.warmup": 0, "train.decay_to": 1}
    spec = make_spec(strategy=strategy, task=task, settings=steady | dict(settings or {}))
    alphabet = make_alphabet(spec.alphabet)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed).to(torch.device(device))
    feed = make_feed(spec, backbone)
    trainer = Trainer(backbone=backbone, spec=spec.train, feed=feed, folder=folder)
    return Ours(spec, alphabet, backbone, feed, trainer)


def solve(ours: Ours, problems: Sequence[Problem], rows: int) -> list[list[int]]:
    """The tokens that we say to problems, ``rows`` of them side by side."""
    strategy = ours.spec.strategy
    jobs = (Job(str(i), lambda p=p: strategy.solve(p.question)) for i, p in enumerate(problems))  # type: ignore[misc]
    said = {int(o.job.name): list(o.value.completion.ids) for o in Session(ours.backbone, rows=rows).run(jobs)}
    return [said[i] for i in range(len(problems))]


def posed(ours: Ours, count: int) -> Sequence[Problem]:
    """The first test problems."""
    return ours.spec.task.problems("test", seed=ours.spec.seed, start=0, count=count)
