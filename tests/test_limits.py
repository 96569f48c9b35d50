"""Numbers and sizes that cannot be are refused in one line, before anything large is made of them."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main
from harness.devices import check_device
from harness.grid import MOST_RUNS, grid_of
from harness.learners import Means
from harness.legal import check_arm_name, check_file_name
from harness.refusal import Unsuited
from harness.spec import make_spec
from harness.suite import Arm, Block, Suite, seeds_of
from harness.suite_file import read_suite, shipped, suiting
from harness.sweep import sweep_suite
from harness.tuning import tuning_cells

COMPARE = ["compare", "--task", "arithmetic", "--strategies", "direct", "--dry-run"]
TINY = {"model.layers": 1, "model.width": 16, "model.heads": 2}
SUITE = """
name = "two"
seeds = "0-1"
train_flops = [1e8, 2e8]
problems = 8
[[block]]
task = "arithmetic"
[[block.arm]]
strategy = "self_consistency"
settings = { "strategy.base" = "direct" }
points = { "strategy.samples" = [2, 4] }
budgets = [1e8]
[block.primary]
train_flops = 1e8
margin = 0.03
"""


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a command is refused."""
    started_s = time.process_time()
    assert main(argv) == 2
    assert time.process_time() - started_s < 3
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and len(line) < 400
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "model.widht=32"], ["model.widht", "did you mean width"]),
        (["--set", "model.widht=32", "--train-flops", "1e9"], ["model.widht", "did you mean width"]),
        (["--set", "model.width=abc"], ["model.width", "a whole number from 4"]),
        (["--set", "model.width=30"], ["model", "multiple of heads"]),
        (["--set", "train.match=words"], ["train.match", "flops, tokens, examples"]),
        (["--set", "task.nothing=1"], ["task.nothing"]),
        (["--seeds", "0-10000000"], ["--seeds", "100,000"]),
        (["--seeds", "0-99999999999"], ["--seeds", "0 to 2147483647"]),
        (["--seeds", "²"], ["--seeds"]),
        (["--seeds", ""], ["--seeds"]),
        (["--problems", "-1"], ["--problems", "1 to 1,000,000"]),
        (["--problems", "2.5"], ["--problems"]),
        (["--problems", "5,7"], ["--problems"]),
        (["--problems", "nan"], ["--problems"]),
        (["--problems", "1e9"], ["--problems"]),
        (["--validation", "0"], ["--validation"]),
        (["--validation", "10000000"], ["--validation"]),
        (["--train-flops", "-1"], ["--train-flops"]),
        (["--train-flops", "nan"], ["--train-flops"]),
        (["--train-flops", "inf"], ["--train-flops"]),
        (["--train-flops", "1e25"], ["--train-flops", "1e+24"]),
        (["--train-flops", "1e9,1e9"], ["--train-flops", "named twice"]),
        (["--train-flops", ",".join(map(str, range(200_001))), "--seeds", "0"], ["runs", "200,000"]),
        (["--infer", "x0"], ["--infer"]),
        (["--infer", "x1,x1"], ["--infer", "named twice"]),
        (["--infer", ",".join(f"x{n}" for n in range(1, 1002))], ["--infer", "1000"]),
        (["--workers", "0"], ["--workers"]),
        (["--threads", "0"], ["--threads", "1 to 256"]),
        (["--threads", "100000"], ["--threads"]),
        (["--checkpoint-s", "nan"], ["--checkpoint-s", "finite"]),
        (["--checkpoint-s", "-1"], ["--checkpoint-s"]),
        (["--gpus", "nan"], ["--gpus", "finite"]),
        (["--gpus", "inf"], ["--gpus", "finite"]),
        (["--device", "mps"], ["--device", "cpu, cuda or cuda:N", "mps"]),
        (["--device", "cuda:99"], ["--device", "cuda:99", "legal: cpu"]),
        (["--device", "cuda:-1"], ["--device"]),
        (["--device", ""], ["--device"]),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_numbers_of_compare(words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An error that every arm would have is the user's, not a reason to leave arms out."""
    line = refused([*COMPARE, *words], capsys)
    assert all(word in line for word in said), line


@pytest.mark.parametrize(
    "argv",
    [
        ["compare", "--task", "arithmetic", "--set", "model.widht=32", "--dry-run"],
        ["compare", "--task", "arithmetic", "--strategies", "direct", "--family", "--set", "model.widht=32", "--dry-run"],
        ["sweep", "--task", "arithmetic", "--strategy", "direct", "--over", "model.width=16,32", "--set", "model.widht=3"],
    ],
)  # fmt: skip
def test_a_mistyped_setting_is_named_whoever_compares(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean width" in refused(argv, capsys)


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "--task", "arithmetic", "--strategy", "direct", "--device", "mps"],
        ["run", "--twin", "long", "--of", "nothing", "--device", "mps"],
        ["ask", "nothing", "1+1", "--device", "mps"],
        ["verify", "nothing", "--device", "mps"],
        ["sweep", "--task", "arithmetic", "--strategy", "direct", "--over", "model.width=16,32", "--device", "mps"],
    ],
    ids=lambda argv: argv[0],
)
def test_a_device_that_is_not_there_is_told_first(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--device: expected cpu, cuda or cuda:N, got 'mps'" in refused(argv, capsys)


def test_devices_are_checked_for_python_too() -> None:
    check_device("cuda:3", here=False)
    for name in ("mps", "cuda:9999", "CPU", "cuda:x", "cuda: 0"):
        with pytest.raises(ValueError, match="device"):
            Means(device=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["--seeds", "0-10000000"], ["--device", "mps"], ["--device", "cuda:7"], ["--set", "model.widht=3"]],
    ids=" ".join,
)
def test_a_command_is_refused_within_seconds_of_its_start(words: list[str]) -> None:
    """Three CPU seconds, imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", "harness", *COMPARE[:-1], *words]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def block(*arms: Arm, **fields: object) -> Suite:
    given = {"task": "arithmetic", "name": "t", "train_flops": [1e8], "seeds": [0], "settings": TINY, "with_family": False}
    return Suite(name="t", blocks=[Block(**{**given, "arms": arms, **fields})])  # type: ignore[arg-type]


def test_a_comparison_of_too_many_runs_is_refused_before_it_is_planned() -> None:
    """10^6 points of one arm; budgets, seeds and places of asking count alike; trials of tuning are refused too."""
    values = [n / 1e4 for n in range(1, 1001)]
    many = Arm(strategy="self_consistency", points={"strategy.temperature": values, "strategy.top_p": values})
    for suite in (
        block(many),
        block(Arm(strategy="direct"), seeds=list(range(MOST_RUNS + 1))),
        block(*(Arm(strategy="direct", name=f"{n}") for n in range(1001)), seeds=list(range(200))),
        block(Arm(strategy="direct"), seeds=list(range(2001)), infer=[f"x{n}" for n in range(1, 101)], anytime=True),
    ):
        for plan in (grid_of, tuning_cells):
            started_s = time.process_time()
            with pytest.raises(ValueError, match="200,000 are legal"):
                plan(suite, threads=1)
            assert time.process_time() - started_s < 1
    with pytest.raises(ValueError, match="--over: expected up to 1000 values"):
        words = "strategy.per_token=" + ",".join(map(str, range(10**6)))
        sweep_suite(
            strategy="direct",
            task="arithmetic",
            over=words,
            settings={},
            seeds=None,
            train_flops=None,
            problems=None,
            family=False,
        )


def test_a_large_file_is_no_suite(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.replace("[2, 4]", str(list(range(10**6)))))
    started_s = time.process_time()
    with pytest.raises(ValueError, match="larger than 1,000,000 bytes"):
        read_suite(path)
    assert time.process_time() - started_s < 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("problems = 8", "problems = -1", "problems: expected a whole number from 1"),
        ("problems = 8", "problems = 0", "problems: expected a whole number from 1"),
        ("problems = 8", "problems = true", "problems"),
        ("problems = 8", 'problems = "8"', "problems"),
        ("problems = 8", "problems = 8\nvalidation = 0", "validation: expected a whole number from 1"),
        ('[[block]]\n', '[[block]]\nproblems = "many"\n', "problems"),
        ('[[block]]\n', "[[block]]\nproblems = -5\n", "problems: expected a whole number"),
        ('[[block]]\n', "[[block]]\nvalidation = -5\n", "validation: expected a whole number"),
        ('[[block]]\n', "[[block]]\ntune = 3\n", "tune"),
        ('[[block]]\n', '[[block]]\nanytime = "no"\n', "anytime"),
        ('[[block]]\n', '[[block]]\nwith_family = "no"\n', "with_family"),
        ('[[block]]\n', "[[block]]\ninfer = [3]\n", "infer"),
        ('[[block]]\n', '[[block]]\ninfer = ["x0"]\n', "infer: expected places"),
        ('[[block]]\n', "[[block]]\nstrategies = 3\n", "strategies"),
        ('seeds = "0-1"', "seeds = [-1]", "seeds"),
        ('seeds = "0-1"', "seeds = []", "seeds"),
        ('seeds = "0-1"', "seeds = [1.5]", "seeds"),
        ('seeds = "0-1"', "seeds = [99999999999]", "seeds"),
        ('seeds = "0-1"', 'seeds = "0-10000000"', "100,000 seeds"),
        ('seeds = "0-1"', 'seeds = "0"\nfewer_seeds = []', "fewer_seeds"),
        ("[1e8, 2e8]", "[-1e8]", "train_flops"),
        ("[1e8, 2e8]", "[nan]", "train_flops"),
        ("[1e8, 2e8]", "[inf]", "train_flops"),
        ("[1e8, 2e8]", "[true]", "train_flops"),
        ("[1e8, 2e8]", "[1e8, 1e8]", "named twice"),
        ("[1e8, 2e8]", "[1e25]", "1e+24"),
        ("[1e8, 2e8]", "[3e8]", "primary: train_flops: expected one of"),
        ("[2, 4]", "[]", "points of strategy.samples: holds nothing"),
        ("[2, 4]", "[2, 2]", "named twice"),
        ("[2, 4]", "5", "points"),
        ("[2, 4]", "[-2]", "strategy.samples"),
        ("budgets = [1e8]", "budgets = []", "budgets: holds nothing"),
        ("[1e8, 2e8]", str([1e8, *(float(n) for n in range(1, 101))]), "train_flops: expected at most 100 budgets, got 101"),
        ('"strategy.base" = "direct" ', '"train.flops" = 1e9 ', "train.flops: all arms of a block have one"),
        ('"strategy.base" = "direct" ', '"infer.problems" = 7 ', "infer.problems: all arms of a block have one"),
        ("task = ", 'settings = { "train.flops" = 1e5 }\ntask = ', "train.flops: the block's train_flops says it too"),
        ("task = ", 'problems = 9\nsettings = { "infer.problems" = 5 }\ntask = ', "give problems alone"),
        ("budgets = [1e8]", "budgets = [nan]", "budgets"),
        ("budgets = [1e8]", "budgets = [-1]", "budgets"),
        ("budgets = [1e8]", "spends_flops = -1", "spends_flops"),
        ("budgets = [1e8]", "spends_flops = inf", "spends_flops"),
        ("margin = 0.03", "margin = -1", "margin"),
        ("margin = 0.03", "margin = nan", "margin"),
        ("margin = 0.03", "margin = 0", "margin: expected a number above 0"),
        ("train_flops = 1e8\nmargin", "train_flops = nan\nmargin", "primary"),
    ],
)  # fmt: skip
def test_numbers_of_suites(old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the top and of each block alike."""
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    assert grid_of(read_suite(path)).cells
    assert old in SUITE
    path.write_text(SUITE.replace(old, new, 1))
    assert said in refused(["compare", "--suite", str(path), "--dry-run"], capsys)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("task = ", 'settings = { "model.widht" = 3 }\ntask = ', "did you mean width"),
        ("task = ", 'settings = { "strategy.per_token" = 3 }\ntask = ', "per_token"),
        ('task = "arithmetic"\n[[block.arm]]\nstrategy = "self_consistency"\nsettings = { "strategy.base" = "direct" }\n',
         'task = "arithmetic"\nsettings = { "strategy.samples" = 3 }\n[[block.arm]]\nstrategy = "self_consistency"\n',
         "arithmetic, direct: strategy.samples: unknown setting"),
        ('"strategy.base" = "direct"', '"strategy.bse" = "direct"', "did you mean base"),
        ("budgets = [1e8]", "budgets = [3e8]", "asks for no run"),
        ("[[block.arm]]", '[[block.arm]]\nstrategy = "pause_tokens"\nname = "votes"\n[[block.arm]]', "votes is named twice"),
    ],
)  # fmt: skip
def test_mistakes_of_a_block_are_not_left_out(
    old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown setting, an empty grid, two arms of one name: exit 2, and nothing of them counts as there."""
    path = tmp_path / "suite.toml"
    family = "false" if "no run" in said else "true"
    path.write_text(SUITE.replace("problems = 8", f"problems = 8\nwith_family = {family}").replace(old, new, 1))
    assert said in refused(["compare", "--suite", str(path), "--dry-run"], capsys)


def test_reasons_of_the_contract_leave_an_arm_of_the_family_out() -> None:
    """A prompt that a task lacks, a shape that is fixed or at its limit; they are named, and other arms stay."""
    lacking = grid_of(block(Arm(strategy="direct"), task="language_model", with_family=True, problems=2))
    assert (
        any("filler is left out" in line and "needs a task with prompt" in line for _, line in lacking.left_out) and lacking.cells
    )
    tall = grid_of(block(Arm(strategy="direct"), with_family=True, settings={**TINY, "model.layers": 40}))
    assert [line for _, line in tall.left_out] == [
        "arithmetic: deep x4 is left out of the comparator: model.layers: x4 of 40 is above 96"
    ]
    with pytest.raises(Unsuited, match="needs a task with"):
        make_spec(strategy="filler", task="language_model")


def test_strategies_that_suit_are_told_from_settings_that_none_could_have() -> None:
    assert "filler" not in suiting("language_model", {}) and "direct" in suiting("language_model", {})
    with pytest.raises(ValueError, match="did you mean width"):
        suiting("arithmetic", {"model.widht": "3"})


def test_shipped_suites_and_names_are_legal() -> None:
    for suite in map(read_suite, map(Path, shipped())):
        assert grid_of(suite).cells
        for arm in itertools.chain.from_iterable(part.arms for part in suite.blocks):
            check_arm_name("name", arm.label)
        for part in suite.blocks:
            check_file_name("name", part.name)
    assert seeds_of(" 0-2, 7 ") == [0, 1, 2, 7]


def test_checking_nothing_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run and no table" in refused(["report", "--check", "--results", str(tmp_path)], capsys)
    assert "no run and no table" in refused(["report", "--check", "--results", str(tmp_path / "no")], capsys)


def test_an_empty_results_folder_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--results: expected a folder or a URL, got nothing" in refused(["list", "--runs", "--results", ""], capsys)
