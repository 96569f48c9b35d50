"""What one of several processes does for `test_ranks`: trains many small learners with the others and writes down their losses.

`python tests/ranked.py FOLDER` alone makes what they are held against; torchrun starts several.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch

from harness.alphabet import make_alphabet
from harness.feed import make_feed
from harness.ranks import Ranks, joined
from harness.spec import RunSpec, make_spec
from harness.train import Trainer
from harness.weights import make_backbone

TINY = {"model.layers": 2, "model.width": 16, "model.heads": 2, "train.problems_per_update": 9, "train.flops": 1e12}
CASES = {
    "direct": ("direct", {}),
    "thoughts": ("reasoning_tokens", {"per_token": 2}),
    "thoughts, learned": ("reasoning_tokens", {"per_token": 2, "emit": "learned", "gate": "learned", "horizon": 2}),
    "pauses": ("pause_tokens", {}),
    "lines": ("chain_of_thought", {}),
    "spans": ("thinking_spans", {}),
    "spans, learned": ("thinking_spans", {"placement": "learned", "delimiters": "none"}),
    "spans, where unsure": ("thinking_spans", {"placement": "low_confidence", "delimiters": "none"}),
    "loops": ("looped_depth", {"loops": 3}),
    "three tokens": ("multi_token", {"ahead": 3}),
    "heads": ("future_heads", {}),
    "side targets": ("side_targets", {"weight": 0.5}),
}
UPDATES = 50
STOP = "five updates more"


class Enough(Exception):
    """So many updates are made."""


def spec_of(case: str) -> RunSpec:
    strategy, fields = CASES[case]
    return make_spec(strategy=strategy, task="multi_step", settings=TINY | {f"strategy.{k}": v for k, v in fields.items()})


def trainer_of(spec: RunSpec, folder: Path, ranks: Ranks, *, parts: int = 1, device: str = "cpu") -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = make_alphabet(spec.alphabet)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed).to(torch.device(device))
    feed = make_feed(spec, backbone)
    return Trainer(
        backbone=backbone, spec=spec.train, feed=feed, folder=folder, checkpoint_s=0.0, owner="x", ranks=ranks, parts=parts
    )


def followed(trainer: Trainer, updates: int) -> list[list[float]]:
    """Losses and what was spent, update by update, of so many more."""
    found: list[list[float]] = []

    def report(spent, progress, loss):
        found.append([loss, spent.flops, spent.examples, spent.text_tokens, spent.woven_tokens, spent.supervised_tokens])
        if len(found) == updates + 1:  # the state is written behind a report
            raise Enough

    with contextlib.suppress(Enough):
        trainer.run(report)
    return found[:updates]


def made(ranks: Ranks, folder: Path) -> dict[str, list[list[float]]]:
    """Every case, whole and in three parts; with several ranks."""
    own = folder / f"rank-{ranks.rank}"
    found = {case: followed(trainer_of(spec_of(case), own / case, ranks), UPDATES) for case in CASES}
    in_parts = trainer_of(spec_of("thoughts"), own / "in parts", ranks, parts=3)
    return found | {"in parts": followed(in_parts, UPDATES)}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined("cpu") as (ranks, _):
        found = made(ranks, folder)
        sharded = Ranks(ranks._accelerator, sharded=True)
        case = trainer_of(spec_of("thoughts"), folder / f"rank-{ranks.rank}" / "sharded", sharded)
        found["sharded"] = followed(case, UPDATES)
        # what was begun alone goes on here, and is gone on with alone
        taken_up = trainer_of(spec_of("lines"), folder / f"resumed-{ranks.rank}", ranks)
        found["resumed"] = followed(taken_up, 10)
        split = trainer_of(spec_of("lines"), folder / f"resumed-sharded-{ranks.rank}", sharded)
        found["resumed, sharded"] = followed(split, 10)
        if ranks.first:
            (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
