"""What a comparison plans: arms, points, shared learners, and what is typed wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.cli import main
from harness.grid import grid_of, points_of
from harness.grid_cost import cost_of
from harness.schedule import steps_of
from harness.suite import Arm, Block, Suite, part_of, seeds_of, undeclared_seeds, words_of_seeds
from harness.suite_file import family_arms, read_suite, shipped, suite_of

TINY = {"model.layers": 1, "model.width": 16, "model.heads": 2, "train.problems_per_update": 8}


def block(*arms, **fields):
    given = {
        "task": "arithmetic",
        "name": "t",
        "train_flops": [1e8],
        "seeds": [0, 1],
        "settings": TINY,
        "with_family": False,
        "problems": 8,
    }
    return Block(arms=arms, **given | fields)


def grid(*blocks):
    return grid_of(Suite(name="test", blocks=blocks))


def test_every_arm_budget_and_seed_is_a_run_and_equal_ones_are_one():
    arms = [
        Arm(strategy="direct"),
        Arm(strategy="reasoning_tokens"),
        Arm(strategy="direct", name="again", settings={"train.warmup": 0.05}),
    ]
    found = grid(block(*arms, train_flops=[1e8, 2e8], validation=4))
    assert Counter(len(cell.places) for cell in found.cells) == {
        1: 8,
        2: 4,
    }  # direct's on validation and reasoning_tokens; direct's on test
    assert {cell.spec.train.flops for cell in found.cells} == {1e8, 2e8}
    assert {cell.spec.infer.problems for cell in found.cells if cell.spec.infer.split == "validation"} == {4}
    assert {cell.spec.infer.problems for cell in found.cells if cell.spec.infer.split == "test"} == {8}


def test_points_share_a_learner_and_are_asked_on_validation_too():
    arm = Arm(strategy="self_consistency", settings={"strategy.base": "direct"}, points={"strategy.samples": [2, 4]})
    found = grid(block(Arm(strategy="direct"), arm, seeds=[3]))
    assert len({cell.learner for cell in found.cells}) == 1
    splits = Counter((place.point, place.split) for cell in found.cells for place in cell.places)
    assert splits == {(p, s): 1 for p in ("", "samples=2", "samples=4") for s in ("validation", "test")}


def test_fewer_seeds_below_the_headline_and_budgets_of_an_arm():
    arms = [Arm(strategy="direct"), Arm(strategy="reasoning_tokens", budgets=[2e8])]
    found = grid(block(*arms, train_flops=[1e8, 2e8], seeds=[0, 1, 2], fewer_seeds=[0]))
    tests = Counter((p.arm, p.train_flops) for cell in found.cells for p in cell.places if p.split == "test")
    assert tests == {(0, 1e8): 1, (0, 2e8): 3, (1, 2e8): 3}


def test_the_family_has_the_baseline_once_and_leaves_out_what_does_not_suit():
    found = grid(block(Arm(strategy="direct"), Arm(strategy="reasoning_tokens"), with_family=True, seeds=[0]))
    labels = [arm.label for arm in found.arms[0]]
    assert labels == [arm.label for arm in family_arms()] + ["reasoning_tokens"] and labels.count("direct") == 1
    shapes = {
        arm.label: {c.spec.model.shape for c in found.cells for p in c.places if p.arm == n}
        for n, arm in enumerate(found.arms[0])
    }
    assert shapes["deep x4"] == {(4, 16, 2, 256)} and shapes["wide x2"] == {(1, 32, 2, 256)}
    wide = grid(
        block(Arm(strategy="reasoning_tokens"), with_family=True, settings={**TINY, "model.width": 8190, "model.heads": 2})
    )
    assert any("wide x2 is left out" in line for _, line in wide.left_out)


def test_dials_of_asking_are_searched_where_places_are_wanted():
    where = block(infer=["x1", "x4"])
    assert len(points_of(where, Arm(strategy="self_consistency"))) > 3
    assert points_of(where, Arm(strategy="direct")) == {"": {}}
    assert points_of(block(), Arm(strategy="self_consistency")) == {"": {}}
    assert points_of(where, Arm(strategy="self_consistency", settings={"strategy.samples": 4})) == {"": {}}


def test_the_plan_counts_learners_once_and_their_budgets():
    arm = Arm(strategy="self_consistency", settings={"strategy.base": "direct"}, points={"strategy.samples": [2, 4]})
    found = grid(block(Arm(strategy="direct"), arm, Arm(strategy="reasoning_tokens"), seeds=[0, 1]))
    cost = cost_of(found.cells)
    assert (cost.learners, cost.runs, cost.training_flops) == (4, len(found.cells), 4e8)
    assert set(cost.each_s) == {step.key for step in steps_of(found.cells)} and len(cost.each_s) == 4 + len(found.cells)
    assert cost.seconds == pytest.approx(sum(cost.each_s.values())) and cost.disk_bytes > 0


def test_seeds():
    assert seeds_of("0-2,7") == [0, 1, 2, 7] == seeds_of(["0-2", 7])
    for words in ("3-1", "a", "1,1", "-1", ""):
        with pytest.raises(ValueError, match="--seeds"):
            seeds_of(words)


SUITE = """
name = "two"
seeds = "0-1"
train_flops = [1e8]
problems = 8
with_family = false
settings = { "model.layers" = 1, "model.width" = 16, "model.heads" = 2 }

[[block]]
task = "arithmetic"
strategies = ["direct"]
[[block.arm]]
strategy = "reasoning_tokens"
name = "two thoughts"
settings = { "strategy.per_token" = 2 }
[block.primary]
train_flops = 1e8
margin = 0.03
expected = "no difference"
"""


def test_a_suite_file(tmp_path: Path):
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    suite = read_suite(path)
    (only,) = suite.blocks
    assert [arm.label for arm in only.arms] == ["direct", "two thoughts"] and only.primary.margin == 0.03
    assert only.seeds == [0, 1] and only.headline_flops == 1e8
    assert {c.spec.strategy.per_token for c in grid_of(suite).cells if hasattr(c.spec.strategy, "per_token")} == {2}


WRONG = [
    ('name = "two"', 'nam = "two"', "nam"),
    ("seeds = ", "seds = ", "seds"),
    ('seeds = "0-1"', 'seeds = "x"', "seeds"),
    ('task = "arithmetic"', "", "task"),
    ('strategy = "reasoning_tokens"', 'stratgy = "reasoning_tokens"', "did you mean strategy"),
    ("margin = 0.03", 'margin = "wide"', "margin"),
    ('task = "arithmetic"', 'task = "arithmetc"', "did you mean arithmetic"),
    ("per_token", "per_tokn", "did you mean per_token"),
    ("[[block]]", "[block]", "block"),
    ('name = "two"', "name = ", "suite"),
]


@pytest.mark.parametrize("right,wrong,words", WRONG, ids=lambda x: x[:12])
def test_a_wrong_suite_is_one_clear_line(right: str, wrong: str, words: str, tmp_path: Path, capsys):
    (tmp_path / "suite.toml").write_text(SUITE.replace(right, wrong, 1))
    assert main(["compare", "--suite", str(tmp_path / "suite.toml"), "--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and words in said.err and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "given",
    [
        [], ["--task", "arithmetc"], ["--task", "arithmetic", "--strategies", "direkt"],
        ["--task", "arithmetic", "--seeds", "4-1"],
        ["--task", "arithmetic", "--infer", "y2"], ["--task", "arithmetic", "--train-flops", "lots"],
        ["--task", "arithmetic", "--set", "strategy.per_token=2"], ["--suite", "missing.toml"],
        ["--suite", "missing.toml", "--task", "arithmetic"], ["--task", "arithmetic", "--strategies", ","],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_options_are_one_clear_line(given: list[str], tmp_path: Path, capsys):
    assert main(["compare", *given, "--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.out == "" and not (tmp_path / "results").exists()


def test_dry_run_prints_the_plan_and_makes_nothing(tmp_path: Path, capsys):
    options = [f"--set={key}={value}" for key, value in TINY.items()]
    words = ["compare", "--task", "arithmetic", "--strategies", "direct,reasoning_tokens", "--train-flops", "1e8", *options]
    assert main([*words, "--seeds", "0", "--dry-run", "--json", "--results", str(tmp_path / "results")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["runs"], plan["present"], plan["learners"], plan["training_flops"]) == (3, 0, 2, 2e8)
    assert not (tmp_path / "results").exists()


def test_without_strategies_all_that_suit_are_compared():
    found = suite_of("arithmetic").blocks[0]
    assert {"direct", "reasoning_tokens", "chain_of_thought"} <= {arm.strategy for arm in found.arms} and found.with_family
    assert "side_targets" in {arm.strategy for arm in found.arms}


def test_every_suite_that_ships_can_be_planned():
    assert "demo" in shipped()
    for name in shipped():
        suite = read_suite(Path(name))
        grid = grid_of(suite)
        assert suite.name == name and not grid.left_out
        assert len(grid.cells) == 46 if name == "smollm2" else len(grid.cells) > 50


def test_anytime_runs_are_capped_at_each_place():
    """Of every arm, at x1 and twice that; places in other currencies have no cap to give."""
    arms = (Arm(strategy="direct"), Arm(strategy="self_consistency", settings={"strategy.base": "direct"}))
    grid = grid_of(Suite(name="t", blocks=[block(*arms, infer=["x1", "x2", "flops:5e5"], anytime=True)]))
    caps = {place.cap: cell.spec.infer.cap_flops for cell in grid.cells for place in cell.places}
    assert set(caps) == {"x1", "x2", "flops:5e5"} and caps["x2"] == 2 * caps["x1"] > 0 and caps["flops:5e5"] == 5e5
    free = grid_of(Suite(name="t", blocks=[block(*arms, infer=["x1", "x2", "flops:5e5"])]))
    assert len({cell.learner for cell in grid.cells}) == len({cell.learner for cell in free.cells})
    assert len(grid.cells) == 3 * len(free.cells)


@pytest.mark.parametrize("infer", [[], ["passes:3"], ["x1", "tokens:9"]])
def test_anytime_wants_places_in_flops(infer: list[str]):
    with pytest.raises(ValueError, match=r"--anytime.*--infer x1"):
        grid_of(Suite(name="t", blocks=[block(Arm(strategy="direct"), infer=infer, anytime=True)]))


def test_a_suite_is_made_in_parts():
    """A task's blocks, some seeds; tables keep their names."""
    arms = (Arm(strategy="direct"),)
    first, second = block(*arms, seeds=[0, 1, 2], fewer_seeds=[0], name="a"), block(*arms, task="k_hop", name="b")
    whole = Suite(name="t", blocks=[first, second])
    part = part_of(whole, task="arithmetic", seeds="1-5")
    assert [(b.name, list(b.seeds), list(b.fewer_seeds)) for b in part.blocks] == [("a", [1, 2], [])]
    assert part_of(whole) == whole
    for wrong in ({"task": "parity"}, {"seeds": "7"}):
        with pytest.raises(ValueError, match=r"--task.*arithmetic, k_hop|--seeds.*\[0, 1, 2\]"):
            part_of(whole, **wrong)


@pytest.mark.parametrize("seeds", ["0-4", "0,3,7-9", "5", "0-1,3"])
def test_seeds_in_words(seeds: str):
    assert words_of_seeds(seeds_of(seeds)) == seeds


def test_seeds_that_a_suite_does_not_declare_are_told():
    """By what each block declares; nothing where all are declared, or none were asked for."""
    arms = (Arm(strategy="direct"),)
    first = block(*arms, seeds=[0, 1, 2], fewer_seeds=[0], name="a")
    others = [block(*arms, task=task, seeds=range(8), name=task) for task in ("k_hop", "parity")]
    whole = Suite(name="t", blocks=[first, *others])
    assert undeclared_seeds(whole, task=None, seeds="0-2") == undeclared_seeds(whole, task=None, seeds=None) == []
    lines = undeclared_seeds(whole, task=None, seeds="2,4-23")
    assert lines == [
        "--seeds: suite t declares 0-2 for arithmetic; not declared, so left out: 4-23",
        "--seeds: suite t declares 0-7 for k_hop, parity; not declared, so left out: 8-23",
    ]
    assert undeclared_seeds(whole, task="parity", seeds="0,9") == [
        "--seeds: suite t declares 0-7 for parity; not declared, so left out: 9"
    ]


def test_compare_says_which_seeds_are_not_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, where it goes on with the declared ones."""
    path = tmp_path / "small.toml"
    path.write_text(
        'name = "small"\nseeds = "0-2"\ntrain_flops = [2e7]\nwith_family = false\n[[block]]\ntask = "arithmetic"\n'
        'settings = { "model.size" = "xs", "model.width" = 16, "model.layers" = 1, "model.heads" = 2, '
        '"train.problems_per_update" = 8 }\n[[block.arm]]\nstrategy = "direct"\n'
    )
    words = ["compare", "--suite", str(path), "--results", str(tmp_path / "results"), "--dry-run"]
    assert main([*words, "--seeds", "2-23"]) == 0
    assert "--seeds: suite small declares 0-2 for arithmetic; not declared, so left out: 3-23" in capsys.readouterr().err
    assert main([*words, "--seeds", "2"]) == 0
    assert "not declared" not in capsys.readouterr().err
