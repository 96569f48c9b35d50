"""Commands as a user types them: tables, JSON, and one clear line for every mistake."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import show_runs
from harness.cli import main
from harness.jsonl import lines_of
from harness.lines import cells_of
from harness.spec import make_spec

TINY = ["--set", "model.size=xs", "--set", "model.width=16", "--set", "model.heads=2", "--set", "model.layers=1"]
SMALL = [*TINY, "--set", "train.problems_per_update=8", "--train-flops", "2e7", "--problems", "12"]
RUN_KEYS = {
    "schema", "complete", "command", "spec", "fingerprint", "learner", "seed", "threads", "train", "infer", "metrics",
    "by_difficulty", "access", "search",
}  # fmt: skip
LINE_KEYS = {
    "id", "question", "completion", "answer", "key", "score", "difficulty", "flops", "serial_passes", "text_tokens",
    "woven_tokens", "kv_bytes", "stop", "notes", "access", "candidates",
}  # fmt: skip


def run_args(results: Path, strategy: str = "direct", task: str = "arithmetic") -> list[str]:
    """A run of seconds."""
    return ["run", "--strategy", strategy, "--task", task, "--results", str(results), *SMALL]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two comparable runs."""
    folder = tmp_path_factory.mktemp("results")
    for strategy in ("direct", "reasoning_tokens"):
        assert main(run_args(folder, strategy)) == 0
    return folder


def run_name(results: Path, strategy: str) -> str:
    """The only run of a strategy."""
    (folder,) = (results / "runs" / "arithmetic" / strategy).iterdir()
    return folder.name


def test_run_prints_one_table_and_where_the_files_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone, a run names the command that makes the other; beside it, their paired difference."""
    assert main(run_args(tmp_path)) == 0
    out = capsys.readouterr().out
    for words in (
        "accuracy [95%]",
        "floor",
        "length 3",
        "training FLOPs",
        "serial passes",
        "seconds per problem",
        "To compare, run:",
    ):
        assert words in out
    command = next(line for line in out.splitlines() if line.startswith("To compare, run:")).partition("run: ")[2]
    assert main([*shlex.split(command)[3:], "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "reasoning_tokens minus direct:" in out and "the same 12 problems" in " ".join(out.split())


def test_record_has_the_promised_keys(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """run.json, problems.jsonl and --json."""
    assert main([*run_args(results, "reasoning_tokens"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (folder,) = (results / "runs" / "arithmetic" / "reasoning_tokens").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert record.keys() >= RUN_KEYS and printed.keys() == record.keys() | {"timing"}
    wanted = {"target_flops", "spent_flops", "updates", "examples", "text_tokens", "woven_tokens", "supervised_tokens", "epochs"}
    assert wanted <= record["train"].keys()
    kinds = {"total", "prefill", "think", "answer", "score", "verify", "p50", "p95", "quadratic", "non_embedding"}
    assert kinds == record["infer"]["flops_per_problem"].keys()
    assert {"value", "low", "high", "n", "floor"} == record["metrics"]["accuracy"].keys()
    lines = [json.loads(line) for line in lines_of(folder / "problems.jsonl")]
    assert len(lines) == 12 and all(line.keys() >= LINE_KEYS for line in lines)
    traces = [json.loads(line) for line in lines_of(folder / "traces.jsonl")]
    assert [trace["id"] for trace in traces] == [line["id"] for line in lines]
    cells = cells_of(traces[0])
    assert {"t", "kind", "place", "role", "read", "class", "index", "row"} == cells[0].keys()
    thought = next(cell for cell in cells if cell["kind"] == "thought")
    assert thought["t"] is None and thought["class"] == "think"
    assert "--results" not in record["command"] and "--json" not in record["command"]


def test_canonical_command_makes_the_same_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command in the record resolves to its own fingerprint."""
    (folder,) = (results / "runs" / "arithmetic" / "direct").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert main([*shlex.split(record["command"])[3:], "--results", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == record["fingerprint"]


def test_spec_file_is_enough(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--spec takes a run.json; --seed may stand beside it."""
    (folder,) = (results / "runs" / "arithmetic" / "direct").iterdir()
    assert main(["run", "--spec", str(folder / "run.json"), "--results", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 0
    assert main(["run", "--spec", str(folder / "run.json"), "--task", "arithmetic"]) == 2


def test_a_run_at_its_floor_says_so_and_what_to_do(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below each arm's column, with the task's default budget; with --json on stderr."""
    assert main(run_args(results, "reasoning_tokens")) == 0
    out = " ".join(capsys.readouterr().out.split())
    for name in ("direct", "reasoning_tokens"):
        told = re.search(
            rf"{re.escape(name)} has not left its floor: its score of (\S+)% is not 5 points better than the floor of ", out
        )
        assert told, out
    remedy = "train with the task's default budget of 1e+12 FLOPs"
    assert out.count(remedy) == 2
    assert main([*run_args(results, "reasoning_tokens"), "--json"]) == 0
    printed = capsys.readouterr()
    floor, score = (json.loads(printed.out)["metrics"]["accuracy"][key] for key in ("floor", "value"))
    line = next(line for line in printed.err.splitlines() if "has not left its floor" in line)
    assert f"its score of {100 * score:.1f}% is not 5 points better than the floor of {100 * floor:.1f}%; {remedy}" in line


@pytest.mark.parametrize(
    "metrics,told",
    [
        ({"accuracy": {"value": 0.15, "floor": 0.1}}, "its score of 15.0% is not 5 points better than the floor of 10.0%"),
        ({"accuracy": {"value": 0.151, "floor": 0.1}}, None),
        ({"accuracy": {"value": 0.0, "floor": None}}, None),
        (
            {"nats_per_token": {"value": 5.50, "floor": 5.549}},
            "its score of 5.5000 nats is not 0.05 nats better than the floor of 5.5490",
        ),
        ({"nats_per_token": {"value": 2.7, "floor": 5.549}}, None),
        ({"bleu": {"value": 0.0}}, None),
    ],
)
def test_only_a_score_near_its_floor_is_told(metrics: dict[str, Any], told: str | None) -> None:
    """In the unit of the score; a metric without a floor says nothing."""
    spec = make_spec(strategy="direct", task="arithmetic", settings={"train.flops": 2e12}).to_json()
    line = show_runs.floor_line({"spec": spec, "metrics": metrics})
    assert (line is None) == (told is None)
    if told is not None and line is not None:
        assert told in line and "train with more than 2e+12 FLOPs (the task's default budget is 1e+12), or set easier" in line


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints FLOPs, minutes and disk."""
    assert main([*run_args(tmp_path / "r"), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["updates"] >= 1 and plan["minutes"] > 0 and plan["disk_bytes"] > 0
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("match", ["flops", "tokens", "examples"])
@pytest.mark.parametrize("strategy", ["reasoning_tokens", "chain_of_thought"])
def test_dry_run_foresees_what_is_matched(match: str, strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Updates and FLOPs are those of the run, whatever equals plain training's consumption at the budget."""
    words = [*run_args(tmp_path, strategy), "--match", match, "--json"]
    assert main([*words, "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    train = json.loads(capsys.readouterr().out)["train"]
    assert plan["updates"] == pytest.approx(train["updates"], abs=1)
    if match == "flops":
        assert plan["training_flops"] == 2e7
        return
    assert plan["training_flops"] == plan["updates"] * plan["flops_per_update"]
    assert plan["training_flops"] == pytest.approx(train["spent_flops"], rel=0.15)
    assert plan["training_flops"] > 3e7 or (match, strategy) == ("tokens", "chain_of_thought")  # whose lines are text themselves


def test_dry_run_refuses_a_budget_of_no_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where examples are matched an update may cost more than the budget, as long as one of plain training does not."""
    words = [*run_args(tmp_path, "reasoning_tokens"), "--dry-run", "--json"]
    assert main([*words, "--train-flops", "1.4e6", "--match", "examples"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["updates"] == 1 and plan["training_flops"] > 1.4e6
    for match, least in (("flops", "one update, which takes"), ("examples", "one update of plain training,")):
        assert main([*words, "--train-flops", "1e5", "--match", match]) == 2
        assert f"--train-flops: 1e+05 is less than {least}" in capsys.readouterr().err


def test_dry_run_tells_the_phase_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its FLOPs and updates, and what it matches."""
    words = [*run_args(tmp_path, "pause_tokens"), "--set", "strategy.pretraining=pause", "--dry-run"]
    words += ["--set", "pretraining.train.problems_per_update=8", "--set", "pretraining.train.flops=4e8"]
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    before = plan["pretraining"]
    assert before["training_flops"] == 4e8 and before["updates"] == int(4e8 / before["flops_per_update"]) > 1
    assert plan["training_flops"] == 2e7
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"pretraining: 4e+08 FLOPs, {before['updates']} updates of " in told and "training: 2e+07 FLOPs, " in told
    assert main([*words, "--set", "pretraining.train.match=examples", "--json"]) == 0
    matched = json.loads(capsys.readouterr().out)["pretraining"]
    assert matched["training_flops"] == matched["updates"] * matched["flops_per_update"] != 4e8


def test_ask_shows_trace_answer_and_ledgers(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table and as JSON; a question is completed to the task's prompt."""
    name = run_name(results, "reasoning_tokens")
    assert main(["ask", name, "12+34", "--results", str(results), "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked["question"] == "12+34=" and asked["flops"]["think"] > 0
    assert [c["text"] for c in asked["trace"] if c["kind"] == "text"][:6] == list("12+34=")
    assert main(["ask", name[:6], "12+34", "--results", str(results)]) == 0
    assert "serial passes" in capsys.readouterr().out


def test_verify_compares_every_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fresh evaluation equals the record."""
    assert main(["verify", run_name(results, "direct"), "--results", str(results), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] == found["problems"] == 12 and not found["different"]


def test_export_gives_stock_transformers_the_same_scores(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """direct does, thoughts cannot, and the command says so; the tokenizer reads questions as we do."""
    assert main(["export", run_name(results, "direct"), str(tmp_path / "d"), "--results", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_scores"] is True
    assert main(["export", run_name(results, "reasoning_tokens"), str(tmp_path / "t"), "--results", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_scores"] is False
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "d")
    ids = tokenizer("12+34=").input_ids
    assert tokenizer.decode(ids) == "12+34=" and len(ids) == 6
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "d")
    assert model.config.vocab_size == len(tokenizer)
    assert main(["export", run_name(results, "direct"), str(tmp_path / "d"), "--results", str(results)]) == 2


def test_new_strategy_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scaffold is a working strategy, and bad names are refused."""
    assert main(["new", "strategy", "my_idea", "--dir", str(tmp_path)]) == 0
    assert main(["check", str(tmp_path / "my_idea.py")]) == 0
    assert main(["new", "strategy", "my_idea", "--dir", str(tmp_path)]) == 2
    assert main(["new", "strategy", "My-Idea", "--dir", str(tmp_path)]) == 2
    assert main(["new", "strategy", "direct", "--dir", str(tmp_path)]) == 2


def test_list_names_every_plugin_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """As text and as JSON."""
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {s["name"]: s for s in found["strategies"]}
    assert {"direct", "reasoning_tokens", "future_heads"} <= names.keys()
    assert {"arithmetic", "language_model", "file"} <= {t["name"] for t in found["tasks"]}
    assert all(s["summary"] and s["source"] for s in names.values())
    per_token = next(s for s in names["reasoning_tokens"]["settings"] if s["name"] == "strategy.per_token")
    assert per_token["default"] == 1 and "0 to 64" in per_token["legal"] and per_token["when"] == "learn"
    assert main(["list"]) == 0
    assert "strategy.per_token=1" in capsys.readouterr().out


PLAIN = ["run", "--strategy", "direct", "--task", "arithmetic"]
THOUGHTS = ["run", "--strategy", "reasoning_tokens", "--task", "arithmetic"]
PAGES = ["run", "--strategy", "direct", "--task", "language_model"]
BAD = [
    (["run", "--strategy", "dirct", "--task", "arithmetic"], ["dirct", "did you mean direct?"]),
    (["run", "--strategy", "direct", "--task", "arithmatic"], ["did you mean arithmetic?", "language_model"]),
    (["run", "--strategy", "direct"], ["--task"]),
    ([*PLAIN, "--set", "strateg.x=1"], ["strateg.x", "strategy.NAME"]),
    ([*THOUGHTS, "--set", "strategy.per_tokn=1"], ["did you mean per_token?"]),
    ([*THOUGHTS, "--set", "strategy.per_token=99"], ["strategy.per_token", "0 to 64"]),
    ([*THOUGHTS, "--set", "strategy.per_token=x"], ["strategy.per_token", "whole"]),
    ([*THOUGHTS, "--set", "strategy.embed=x"], ["strategy.embed", "copy_bare"]),
    ([*PLAIN, "--set", "noequals"], ["--set", "KEY=VALUE"]),
    ([*PLAIN, "--set", "task.digits=9-1"], ["digits"]),
    ([*PLAIN, "--train-flops", "lots"], ["--train-flops", "a number"]),
    ([*PLAIN, "--train-flops", "nan"], ["--train-flops"]),
    ([*PLAIN, "--train-flops", "1e5"], ["--train-flops", "less than one update"]),
    ([*PLAIN, "--match", "luck"], ["--match", "tokens"]),
    ([*PLAIN, "--problems", "0"], ["--problems", "from 1"]),
    ([*PLAIN, "--seed", "-1"], ["--seed"]),
    ([*PLAIN, "--threads", "0"], ["--threads"]),
    ([*PLAIN, "--device", "tpu"], ["--device", "cpu"]),
    ([*PLAIN, "--set", "model.width=30"], ["heads", "width"]),
    ([*PLAIN, "--set", "model.path=/nowhere"], ["model.path", "/nowhere"]),
    ([*PLAIN, "--results", "/proc/nowhere"], ["--results"]),
    ([*PAGES, "--set", "task.window_tokens=999"], ["window_tokens", "context"]),
    ([*PAGES, "--set", "task.corpus=/nowhere.txt"], ["task.corpus", "pydoc"]),
    (["run", "--strategy", "direct", "--task", "file"], ["path"]),
    ([*PLAIN, "--bogus"], ["--bogus"]),
    (["run", "--spec", "/nowhere.json"], ["--spec"]),
    (["ask", "nothing", "1+1"], ["RUN", "no such run"]),
    (["verify", "nothing"], ["RUN"]),
    (["export", "nothing", "somewhere"], ["RUN"]),
    (["check", "/nowhere.py"], ["/nowhere.py"]),
    (["frobnicate"], ["frobnicate"]),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "words"), BAD, ids=[" ".join(a)[-60:] for a, _ in BAD])
def test_bad_input_is_one_clear_line(
    argv: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line on stderr that names the option or key and what is legal, nothing on stdout, nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    assert all(word in lines[0] for word in words), lines[0]
    assert captured.out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["--help"], ["list"], ["run", "--help"]])
def test_light_commands_import_nothing_heavy(command: list[str]) -> None:
    """--help and list load neither torch nor pandas, and stay far below a second of CPU."""
    code = (
        "import sys; from harness.cli import main; main(sys.argv[1:]);"
        "heavy = ('torch', 'transformers', 'pandas', 'scipy', 'matplotlib', 'datasets');"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_interrupt_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in training: exit 130, the same command, and then the same numbers as undisturbed."""
    from harness.train import Trainer

    plain = Trainer._update
    count = 0

    def interrupted(self: Trainer, *args: object) -> float | None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return plain(self, *args)  # type: ignore[arg-type]

    argv = [*run_args(tmp_path / "a"), "--checkpoint-s", "0"]
    monkeypatch.setattr(Trainer, "_update", interrupted)
    assert main(argv) == 130
    assert "same command" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "_update", plain)
    assert main([*argv, "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert main([*run_args(tmp_path / "b"), "--json"]) == 0
    undisturbed = json.loads(capsys.readouterr().out)
    assert {k: v for k, v in resumed.items() if k != "timing"} == {k: v for k, v in undisturbed.items() if k != "timing"}


def test_load_runs_is_tidy(results: Path) -> None:
    """A row for each run and metric; a damaged record is named and left out."""
    import harness

    table = harness.load_runs(results)
    assert set(table["metric"]) == {"accuracy", "answer_nats_per_token"} and len(table) == 4
    assert set(table["strategy"]) == {"direct", "reasoning_tokens"}
    assert (table["infer_flops"] > 0).all() and table["strategy.per_token"].dropna().eq(1).all()
