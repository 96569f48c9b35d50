"""Plain training with the training FLOPs that an arm spent, where tokens or examples are matched instead of FLOPs.

Such a twin joins the comparator of its own arm alone: to another arm it would be a rival with more training. Knows suites and
records; makes no run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from harness.defaults import default
from harness.grid import Cell, arms_of
from harness.records import Record, training_flops
from harness.suite import Arm, Block, Suite


def with_long(suite: Suite, found: Mapping[Cell, Record]) -> Suite | None:
    """The suite with a long twin for each arm and budget that has records; None where nothing is matched but FLOPs."""
    blocks = list(suite.blocks)
    for number, block in enumerate(suite.blocks):
        arms = arms_of(block)
        if block.settings.get("train.match", "flops") != "flops" and any(arm.family for arm in arms):
            twins = list(_twins(number, block, arms, found))
            blocks[number] = dataclasses.replace(block, arms=[*arms, *twins], with_family=False)
    return None if blocks == list(suite.blocks) else dataclasses.replace(suite, blocks=blocks)


def _twins(number: int, block: Block, arms: list[Arm], found: Mapping[Cell, Record]) -> Iterator[Arm]:
    spent: dict[tuple[str, float], list[float]] = {}
    for cell, record in found.items():
        for place in cell.places:
            if place.block == number and not arms[place.arm].family:
                spent.setdefault((arms[place.arm].label, place.train_flops), []).append(training_flops(record["train"]))
    for (label, budget), flops in spent.items():
        yield Arm(
            strategy=default("baseline"), name=f"long as {label}", family=True, only_for=label, budgets=[budget],
            spends_flops=float(f"{np.mean(flops):.4g}"), settings={"train.match": "flops"},
        )  # fmt: skip
