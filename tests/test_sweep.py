"""Sweeps: which runs they ask for, what is typed wrong, and their pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_comparison import WOBBLE, record

from harness.cli import main
from harness.comparison import measured
from harness.grid import Cell, Grid, Place, grid_of
from harness.sweep import draw_sweep, sweep_suite

TINY = {"model.layers": "1", "model.width": "16", "model.heads": "2", "train.problems_per_update": "8"}


def suite(**fields):
    given = {
        "strategy": "reasoning_tokens", "task": "arithmetic", "over": "strategy.per_token=0,1,3", "settings": TINY,
        "seeds": "0-1", "train_flops": "1e8", "problems": "8", "family": False,
    }  # fmt: skip
    return sweep_suite(**given | fields)


def test_a_value_is_an_arm():
    grid = grid_of(suite())
    assert {(c.spec.strategy.per_token, c.spec.seed) for c in grid.cells} == {(v, s) for v in (0, 1, 3) for s in (0, 1)}
    assert {c.spec.infer.split for c in grid.cells} == {"test"}  # nothing is chosen
    assert [arm.label for arm in grid.arms[0]] == ["per_token=0", "per_token=1", "per_token=3"]


def test_a_setting_of_asking_retrains_nothing_and_budgets_are_one_arm():
    votes = grid_of(
        suite(strategy="self_consistency", over="strategy.temperature=0.5,1", settings={**TINY, "strategy.base": "direct"})
    )
    assert len(votes.cells) == 4 and len({c.learner for c in votes.cells}) == 2
    budgets = grid_of(suite(over="train.flops=1e8,2e8"))
    assert [arm.label for arm in budgets.arms[0]] == ["reasoning_tokens"]
    assert {c.spec.train.flops for c in budgets.cells} == {1e8, 2e8}
    assert len(grid_of(suite(over="task.digits=1,1-2")).cells) == 6 - 2


def test_the_family_comes_where_it_is_asked_for():
    assert "deep x2" in [arm.label for arm in grid_of(suite(family=True)).arms[0]]


@pytest.mark.parametrize(
    "words",
    [["--over", "per_token"], ["--over", "per_token=1,2"], ["--over", "strategy.per_token=1"],
     ["--over", "strategy.per_token=1,1"],
     ["--over", "strategy.per_tokn=1,2"], ["--over", "strategy.per_token=1,many"],
     ["--over", "strategy.per_token=1,2", "--set", "strategy.per_token=3"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_words_are_one_clear_line(words: list[str], tmp_path: Path, capsys):
    command = ["sweep", "--task", "arithmetic", "--strategy", "reasoning_tokens", *words, "--results", str(tmp_path / "results")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and not (tmp_path / "results").exists()


def drawn(made, folder, key, values, budgets=(1e9,)):
    found = {}
    (block,) = made.blocks
    for budget in budgets:
        for at in range(len(block.arms)):
            for seed in (0, 1):
                place = Place(block=0, arm=at, train_flops=budget, seed=seed, point="", split="test")
                found[Cell((at, seed, budget), (place,))] = record(0.4 + 0.1 * at + WOBBLE[seed], 100.0 * (at + 1))
    grid = Grid(made, (tuple(block.arms),), (), tuple(found))
    return draw_sweep(measured(grid, found), folder, folder, key, values)


@pytest.mark.parametrize(
    "key,values", [("strategy.per_token", "0,1,3"), ("train.learning_rate", "1e-4,1e-3,1e-2"), ("strategy.emit", "first,last")]
)
def test_pictures(key: str, values: str, tmp_path: Path):
    paths = drawn(suite(over=f"{key}={values}", train_flops="1e9"), tmp_path, key, values.split(","))
    assert [path.name for path in paths] == ["sweep-1e+09.png", "sweep-1e+09.svg"]
    words = paths[1].read_text()
    assert key in words and "FLOPs a problem" in words and all(value in words for value in values.split(",")[1:])


def test_a_sweep_of_budgets_is_one_picture(tmp_path: Path):
    made = suite(over="train.flops=1e9,2e9")
    assert [p.name for p in drawn(made, tmp_path, "train.flops", ["1e9", "2e9"], budgets=(1e9, 2e9))] == [
        "sweep.png",
        "sweep.svg",
    ]
