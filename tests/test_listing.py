"""`list --runs`: a row for each complete run, from run.json alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from records_made import reseal, written

from harness.cli import main
from harness.listing import runs
from harness.recheck import check_records
from harness.records import seal
from harness.run_table import _records


def facts(value: float, *, name: str = "accuracy", **spec: Any) -> Any:
    """What a list wants of a record."""

    def change(record: dict[str, Any]) -> dict[str, Any]:
        command = "python -m harness run --strategy direct --task arithmetic --set train.flops=1e+09 --set 'task.digits=1-2' "
        return record | {
            "metrics": {name: {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 2, "floor": 0.0}},
            "train": {"spent_flops": 5e8},
            "infer": {"flops_per_problem": {"total": 123.0}},
            "command": command + "--set infer.split=validation --set strategy.per_token=3",
        }

    return change


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three runs of two tasks, one with weights."""
    for seed, value in ((1, 0.5), (0, 0.25)):
        folder = written(tmp_path, seed=seed, split="validation")
        reseal(folder, facts(value))
    reseal(written(tmp_path, task="k_hop"), facts(1.5, name="nats_per_token"))
    learner = json.loads((folder / "run.json").read_text())["learner"]
    (tmp_path / "weights" / f"{learner}-s0").mkdir(parents=True)
    (tmp_path / "weights" / f"{learner}-s0" / "learner.json").write_text("{}")
    return tmp_path


def test_rows(results: Path) -> None:
    """Sorted, with the settings that have no column of their own."""
    rows, left_out = runs(results)
    assert [(row.task, row.seed, row.split, row.weights, row.value) for row in rows] == [
        ("arithmetic", 0, "validation", True, 0.25),
        ("arithmetic", 1, "validation", False, 0.5),
        ("k_hop", 0, "test", False, 1.5),
    ]
    assert left_out == [] and rows[0].settings == {"task.digits": "1-2", "strategy.per_token": "3"}
    assert (rows[0].train_flops, rows[0].infer_flops) == (5e8, 123.0)


def test_table_and_json(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--runs", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    for words in ("25.0% [15.0, 35.0]", "1.500 [1.400, 1.600]", "task.digits=1-2, per_token=3", "yes", "3 complete runs"):
        assert words in out
    assert main(["list", "--runs", "--results", str(results), "--task", "k_hop", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["task"] == "k_hop" and row["metric"] == "nats_per_token" and Path(row["folder"]).is_dir()


def test_spoilt_runs_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torn, edited, of another schema, no record: on stderr, and the others are listed. Other files are not read."""
    paths = [written(results, seed=seed) / "run.json" for seed in range(2, 6)]
    paths[0].write_text("torn")
    paths[1].write_text(paths[1].read_text().replace('"seed": 3', '"seed": 4'))
    reseal(paths[2].parent, lambda record: record | {"schema": 1})
    paths[3].write_text("[1]")
    for path in results.rglob("problems.jsonl"):
        path.unlink()
    assert main(["list", "--runs", "--results", str(results)]) == 0
    out, err = capsys.readouterr()
    assert "3 complete runs" in out and err.count("\n") == 4
    for path, word in zip(paths, ("truncated", "edited", "schema", "no record of a run"), strict=True):
        assert any(str(path) in line and word in line for line in err.splitlines())


def test_mistakes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    for argv, word in ((["--runs", "--task", "parity"], "runs of: arithmetic, k_hop"), (["--task", "parity"], "--runs")):
        assert main(["list", *argv, "--results", str(results)]) == 2
        err = capsys.readouterr().err
        assert word in err and err.count("\n") == 1
    (results / "empty").mkdir()
    assert main(["list", "--runs", "--results", str(results / "empty")]) == 0
    assert "0 complete runs" in capsys.readouterr().out


def test_many_runs_take_seconds(results: Path) -> None:
    """As many as a large comparison has."""
    path = next(results.glob("runs/arithmetic/*/*/run.json"))
    record = json.loads(path.read_text())
    for seed in range(10, 1010):
        folder = path.parent.with_name(f"{record['fingerprint']}-s{seed}")
        folder.mkdir()
        moved = record | {"seed": seed, "spec": record["spec"] | {"seed": seed}}
        (folder / "run.json").write_text(json.dumps(moved | {"digest": seal(moved)}))
    begun_s = time.monotonic()
    assert len(runs(results)[0]) == 1003
    assert time.monotonic() - begun_s < 10


def test_a_copy_of_a_runs_folder_is_no_run_of_its_own(tmp_path: Path) -> None:
    """Beside the run, and below another task's name: told by every reader of all runs, and counted by none."""
    folder = written(tmp_path)
    reseal(folder, facts(0.5))
    whole, _ = runs(tmp_path)
    shutil.copytree(folder, folder.with_name(folder.name + ".bak"))
    shutil.copytree(tmp_path / "runs" / "arithmetic", tmp_path / "runs" / "old")
    rows, left_out = runs(tmp_path)
    assert rows == whole and len(rows) == 1
    assert len(left_out) == 3 and all("delete it if it is a copy" in line for line in left_out)
    others = [*check_records(tmp_path).spoilt.values(), *_records(tmp_path)[1]]
    assert sum("delete it if it is a copy" in line for line in others) == 6
