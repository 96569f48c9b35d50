"""Where tokens or examples are matched, each arm is held against plain training with the FLOPs that the arm spent."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from test_compare import COMPARE, TYPED
from test_comparison import SEEDS, WOBBLE, record

from harness.cli import main
from harness.comparison import measured, rows_of
from harness.grid import Cell, Grid, Place, grid_of
from harness.long_twins import with_long
from harness.suite import Arm, Block, Suite

ARMS = (Arm(strategy="direct", family=True), Arm(strategy="reasoning_tokens"), Arm(strategy="pause_tokens"))


def suite(match: str = "tokens", **fields) -> Suite:
    settings = {"train.match": match, "model.layers": 1, "model.width": 16, "model.heads": 2}
    given = {"task": "arithmetic", "name": "t", "train_flops": [1e8], "seeds": [0, 1], "settings": settings, "arms": ARMS}
    return Suite(name="t", blocks=[Block(**given | {"with_family": False} | fields)])


def found(made: Suite) -> dict:
    """Records of a grid: thoughts spend twice the budget, pauses thrice, a little more at seed 1."""
    factors = {"direct": 1, "reasoning_tokens": 2, "pause_tokens": 3}
    records = {}
    for cell in grid_of(made).cells:
        label = made.blocks[0].arms[cell.places[0].arm].label
        records[cell] = {"train": {"spent_flops": factors[label] * 1e8 + 2e6 * cell.spec.seed, "pretraining": None}}
    return records


@pytest.mark.parametrize("match", ["tokens", "examples"])
def test_every_arm_has_a_twin_that_spends_what_it_spent(match: str):
    made = suite(match)
    longer = with_long(made, found(made))
    twins = longer.blocks[0].arms[3:]
    assert [(arm.label, arm.only_for, arm.spends_flops) for arm in twins] == [
        ("long as reasoning_tokens", "reasoning_tokens", 2.01e8), ("long as pause_tokens", "pause_tokens", 3.01e8),
    ]  # fmt: skip
    specs = {p.arm: cell.spec for cell in grid_of(longer).cells for p in cell.places if p.arm >= 3}
    assert {(spec.train.flops, spec.train.match) for spec in specs.values()} == {(2.01e8, "flops"), (3.01e8, "flops")}
    assert {p.train_flops for cell in grid_of(longer).cells for p in cell.places} == {1e8}


def test_nobody_has_one_where_flops_are_matched_or_no_family_is_there():
    assert with_long(suite("flops"), found(suite("flops"))) is None
    alone = suite(arms=[Arm(strategy="reasoning_tokens")])
    assert with_long(alone, {}) is None


def test_a_twin_is_a_rival_of_its_own_arm_alone():
    """Plain training scores 40%, with the idea's FLOPs 60%: the idea, at 55%, is worse, and another at 55% better."""
    arms = [Arm(strategy="direct", family=True), Arm(strategy="idea"), Arm(strategy="other"),
            Arm(strategy="direct", name="long as idea", family=True, only_for="idea")]  # fmt: skip
    block = Block(task="toy", name="toy", arms=arms, train_flops=[1e9], seeds=list(SEEDS))
    scores, records = (0.40, 0.55, 0.55, 0.60), {}
    for (arm, score), seed in itertools.product(enumerate(scores), SEEDS):
        for split in ("test", "validation") if arms[arm].family else ("test",):
            place = Place(block=0, arm=arm, train_flops=1e9, seed=seed, point="", split=split)
            records[Cell((arm, seed, split), (place,))] = record(score + WOBBLE[seed], 100.0)
    (one,) = measured(Grid(Suite(name="t", blocks=[block]), (tuple(arms),), (), tuple(records)), records)
    verdicts = {row.arm.label: row.verdict.kind for row in rows_of(one) if row.verdict}
    assert verdicts == {"idea": "worse", "other": "better"}


@pytest.mark.slow
def test_compare_makes_them_after_the_arms(tmp_path: Path, capsys):
    words = [w if w != "direct,reasoning_tokens,self_consistency" else "reasoning_tokens" for w in COMPARE]
    command = [*words, *TYPED, "--family", "--match", "tokens", "--workers", "1", "--results", str(tmp_path)]
    assert main(command) == 0
    facts = json.loads((tmp_path / "tables" / "arithmetic.json").read_text())
    assert "long as reasoning_tokens" in {run["arm"] for run in facts["runs"]}
    assert main(["report", "--check", "--results", str(tmp_path)]) == 0
