"""Equal tuning: the same trials for every arm, chosen on validation at a seed of its own, its cost told."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_compare import COMPARE, TYPED

from harness.cli import main
from harness.grid import arms_of, key_of
from harness.suite import Arm, Block, Suite
from harness.tuning import expected_best, trials_of, tuned_suite, tuning_cells, tuning_seed

TINY = {"model.layers": 1, "model.width": 16, "model.heads": 2, "train.problems_per_update": 8, "train.learning_rate": 1e-3}
ARMS = (Arm(strategy="direct", family=True), Arm(strategy="self_consistency", settings={"strategy.base": "direct"}),
        Arm(strategy="reasoning_tokens"))  # fmt: skip


def suite(**fields) -> Suite:
    given_ = {"task": "arithmetic", "name": "t", "train_flops": [1e7, 3e7], "seeds": [0, 1, 4], "settings": TINY}
    block = Block(arms=ARMS, with_family=False, tune=True, **given_ | fields)
    return Suite(name="t", blocks=[block])


def test_every_arm_has_the_same_trials_and_shared_learners_are_trained_once():
    cells = tuning_cells(suite(), threads=1)
    assert {cell.spec.seed for cell in cells} == {5} == {tuning_seed(suite().blocks[0])}
    assert {cell.spec.infer.split for cell in cells} == {"validation"} and {cell.spec.train.flops for cell in cells} == {3e7}
    tried = {(c.spec.train.learning_rate, c.spec.train.problems_per_update) for c in cells}
    assert tried == set(itertools.product((0.000333, 0.001, 0.003), (4, 8, 16)))
    assert len(cells) == 18 and sorted({len(cell.places) for cell in cells}) == [1, 2]  # votes are tried as what they ask


def test_the_best_on_validation_is_taken_for_all_seeds_and_budgets():
    made = suite()
    cells = tuning_cells(made, threads=1)

    def record(cell) -> dict:
        accuracy = 0.5 + (cell.spec.train.learning_rate == 0.003) * 0.1 - 0.001 * cell.spec.train.problems_per_update
        return {"metrics": {"accuracy": {"value": accuracy}}, "train": {"spent_flops": 10}}

    chosen, told = tuned_suite(made, {cell: record(cell) for cell in cells}, threads=1)
    for arm in chosen.blocks[0].arms:
        assert arm.settings["train.learning_rate"] == 0.003 and arm.settings["train.problems_per_update"] == 4
    assert [one.flops for one in told] == [90.0] * 3 and [one.label for one in told] == [arm.label for arm in ARMS]
    assert [arm.family for arm in arms_of(chosen.blocks[0])] == [True, False, False]


def test_an_arm_whose_trials_failed_stays_as_it_was():
    made = suite()
    assert [arm.settings for arm in tuned_suite(made, {}, threads=1)[0].blocks[0].arms] == [arm.settings for arm in ARMS]


def test_documents_want_the_least_nats():
    made = suite(task="language_model")
    cells = tuning_cells(made, threads=1)
    found = {
        c: {"metrics": {"nats_per_token": {"value": c.spec.train.learning_rate}}, "train": {"spent_flops": 1}} for c in cells
    }
    assert {one.best.learning_rate for one in tuned_suite(made, found, threads=1)[1]} == {0.000333}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.integers(1, 9), st.booleans())
def test_expected_best_is_the_mean_over_all_choices(scores: list[float], k: int, higher: bool):
    """By trying every set of k."""
    best = max if higher else min
    wanted = np.mean([best(chosen) for chosen in itertools.combinations(scores, min(k, len(scores)))])
    assert expected_best(scores, k, higher_is_better=higher) == pytest.approx(wanted)


def test_trials_stand_around_the_specs_own():
    spec = tuning_cells(suite(), threads=1)[0].spec
    assert len(set(trials_of(spec))) == 9 and key_of(spec)


@pytest.mark.slow
def test_one_flag_tunes_compares_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = [*COMPARE, *TYPED, "--tune", "--workers", "1", "--results", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "arithmetic, tuning: 27 runs" in said and not (tmp_path / "runs").exists()
    assert main(command) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tables" / "arithmetic-tuning.csv").read_text())))
    assert [row["arm"] for row in rows] == ["direct", "reasoning_tokens", "self_consistency"] and {
        row["trials"] for row in rows
    } == {"9"}
    assert main(command) == 0 and "tables" in capsys.readouterr().out  # nothing is made again
