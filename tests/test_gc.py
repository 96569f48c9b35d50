"""gc: exactly what nobody needs goes; complete runs, and what somebody works on, stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from records_made import TINY, contents, reseal, written

from harness import garbage, records
from harness.cli import main
from harness.garbage import CHECKPOINTS, HALF_MADE, STALE, TEMPORARY, WHOLE, collect
from harness.locks import alone
from harness.runs import run
from harness.spec import make_spec

NAME = "0123456789ab-s0"


def put(path: Path, data: str = "12345") -> Path:
    """A file, its folders made, as old as can be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)
    settle(path.parent)
    return path


def settle(folder: Path) -> None:
    """As if nothing had changed there for an hour."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (path.lstat().st_mtime - 3600,) * 2, follow_symlinks=False)


def learner(results: Path, name: str, *, complete: bool = True, checkpoint: bool = False) -> Path:
    """A learner's folder."""
    folder = results / "weights" / name
    put(folder / "model.safetensors")
    if complete:
        put(folder / "learner.json")
    if checkpoint:
        put(folder / "checkpoint.safetensors")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A complete run with its learner and value model."""
    folder = written(tmp_path)
    reseal(folder, lambda record: record | {"value": {"fingerprint": "abcabcabcabc"}})
    learner(tmp_path, weights_of(folder))
    put(tmp_path / "values" / "abcabcabcabc-s0" / "value.json")
    return tmp_path


def weights_of(folder: Path) -> str:
    record = json.loads((folder / "run.json").read_text())
    return f"{record['learner']}-s{record['seed']}"


def goes(results: Path, *kinds: str, weights: bool = False) -> None:
    """A dry run tells these kinds and changes nothing; a real one removes the same and nothing else; then nothing is left."""
    before = contents(results)
    told = collect(results, weights=weights, dry_run=True)
    assert contents(results) == before
    done = collect(results, weights=weights)
    assert done == told and sorted(one.what for one in done.removed) == sorted(kinds)
    gone = {file.relative_to(results).as_posix() for one in done.removed for file in one.files}
    assert contents(results) == {name: data for name, data in before.items() if name not in gone}
    assert sum(one.bytes for one in done.removed) == sum(len(before[name]) for name in gone)
    assert {kind: count for kind, (count, _) in done.by_kind().items()} == {kind: kinds.count(kind) for kind in set(kinds)}
    assert collect(results, weights=weights).removed == ()


def test_what_is_needed_stays(results: Path) -> None:
    """Also files that are not ours."""
    put(results / "runs" / "notes.txt")
    put(results / "runs" / "arithmetic" / "direct" / "backup of mine" / "problems.jsonl")
    put(results / "weights" / "mine" / "model.safetensors")
    put(results / "plots" / "suite" / "picture.svg")
    goes(results)


def test_half_made_runs_go(results: Path) -> None:
    """With their folders; those that have just begun stay."""
    half = put(results / "runs" / "k_hop" / "direct" / NAME / "problems.jsonl").parent
    put(half / "traces.jsonl")
    young = results / "runs" / "k_hop" / "looped" / NAME.replace("0", "1")
    young.mkdir(parents=True)
    goes(results, HALF_MADE)
    assert not half.parent.exists() and young.exists()


def test_what_is_linked_stays(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link is nobody's half-made run, and what a link in one points to is not touched."""
    elsewhere = put(tmp_path_factory.mktemp("elsewhere") / "data").parent
    (results / "runs" / "arithmetic" / "direct" / NAME).symlink_to(elsewhere)
    half = put(results / "runs" / "arithmetic" / "direct" / NAME.replace("0", "1") / "problems.jsonl").parent
    (half / "link").symlink_to(elsewhere)
    settle(half)
    assert [one.what for one in collect(results).removed] == [HALF_MADE]
    assert (elsewhere / "data").exists() and not half.exists()


def test_temporary_files_go(results: Path) -> None:
    """Those of processes that are gone, wherever they lie; those of one that runs stay."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder,) = records.run_folders(results)
    for where in (folder, results / "tables", results / "weights" / weights_of(folder)):
        put(where / f".x.json.{gone.pid}.tmp")
    alive = put(results / "tables" / f".x.json.{os.getppid()}.tmp")
    goes(results, TEMPORARY, TEMPORARY, TEMPORARY)
    assert alive.exists()


def test_checkpoints_of_complete_learners_go(results: Path) -> None:
    (folder,) = records.run_folders(results)
    checkpoint = put(results / "weights" / weights_of(folder) / "checkpoint.safetensors")
    goes(results, CHECKPOINTS)
    assert not checkpoint.exists()


def test_weights_and_value_models_that_no_run_refers_to_go(results: Path) -> None:
    """Half-trained ones too, each as one thing; a spoilt run's stay, since nobody knows which they are."""
    (folder,) = records.run_folders(results)
    learner(results, NAME)
    learner(results, NAME.replace("s0", "s1"), checkpoint=True)
    learner(results, NAME.replace("s0", "s2"), complete=False, checkpoint=True)
    put(results / "values" / NAME / "value.json")
    whole = (folder / "run.json").read_bytes()
    (folder / "run.json").write_text("torn")
    found = collect(results, dry_run=True)
    assert {one.what for one in found.removed} == {CHECKPOINTS} and "not every run tells" in found.kept[0]
    (folder / "run.json").write_bytes(whole)
    goes(results, *[WHOLE["weights"]] * 3, WHOLE["values"])
    assert [path.name for path in (results / "weights").iterdir()] == [weights_of(folder)]


def test_all_weights_go_on_request(results: Path) -> None:
    """Those that a run's command makes again, and no others."""
    alien = written(results, seed=1)
    learner(results, weights_of(alien))
    gone = written(results, seed=2, model__path=str(results / "gone"))
    learner(results, weights_of(gone))
    record = json.loads((alien / "run.json").read_text())
    record["spec"]["strategy"]["version"] = 99
    reseal(alien, lambda _: record)
    goes(results, WHOLE["weights"], WHOLE["values"], weights=True)
    kept = collect(results, weights=True).kept
    assert len(kept) == 2 and any("version" in line for line in kept) and any("is not there" in line for line in kept)
    assert {path.name for path in (results / "weights").iterdir()} == {weights_of(alien), weights_of(gone)}


def test_what_is_worked_on_stays(results: Path) -> None:
    """The run of a lock that is held; and all weights, since who makes a run reads its learner's files at the end."""
    half = put(results / "runs" / "k_hop" / "direct" / NAME / "problems.jsonl").parent
    learner(results, NAME)
    other = put(results / "runs" / "k_hop" / "direct" / NAME.replace("0", "2") / "problems.jsonl").parent
    with alone(results, f"run-{NAME}"):
        before = contents(results)
        found = collect(results, weights=True)
        assert [one.path for one in found.removed] == [other]
        assert [line for line in found.kept if str(half) in line] and any(f"run-{NAME} is being made" in x for x in found.kept)
        assert set(contents(results)) == {name for name in before if other.name not in name}
    goes(results, HALF_MADE, WHOLE["weights"])


def test_stale_locks_go(results: Path) -> None:
    """A lock file that a killed process left; one that is held stays."""
    put(results / "locks" / "run-x.lock", "")
    with alone(results, "run-y"):
        assert [one.path.name for one in collect(results).removed] == ["run-x.lock"]
        assert [path.name for path in (results / "locks").iterdir()] == ["run-y.lock"]
    put(results / "locks" / f"run-{NAME}.lock", "")
    put(results / "runs" / "k_hop" / "direct" / NAME / "problems.jsonl")
    goes(results, STALE, HALF_MADE)
    assert not (results / "locks").exists()


def test_a_run_that_was_completed_meanwhile_stays(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the lock."""
    half = put(results / "runs" / "k_hop" / "direct" / NAME / "problems.jsonl").parent

    def held(where: Path, lock: str | None) -> bool:
        (half / "run.json").write_text("{}")
        return False

    monkeypatch.setattr(garbage, "_held", held)
    assert collect(results).removed == () and (half / "problems.jsonl").exists()


def test_a_real_run_keeps_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its pretraining's weights too; what gc took is made again by the same command, to the same weights."""
    settings = TINY | {
        "pretraining.task": "arithmetic",
        "pretraining.train.flops": 1e7,
        "pretraining.train.problems_per_update": 8,
    }
    spec = make_spec(strategy="direct", task="arithmetic", settings=settings)
    record = run(spec, results=tmp_path)
    settle(tmp_path)
    assert len(list((tmp_path / "weights").iterdir())) == 2
    assert main(["gc", "--results", str(tmp_path)]) == 0
    assert "nothing to remove" in capsys.readouterr().out and len(list((tmp_path / "weights").iterdir())) == 2
    assert main(["gc", "--results", str(tmp_path), "--weights", "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {one["what"] for one in printed["removed"]} == {"weights"} and len(printed["removed"]) == 2
    assert main(["gc", "--results", str(tmp_path), "--weights"]) == 0
    assert "weights: 2, " in capsys.readouterr().out and not (tmp_path / "weights").exists()
    assert records.finished(tmp_path, spec) == record
    again = run(spec, results=tmp_path, again=True)
    assert again["model"]["weights_sha256"] == record["model"]["weights_sha256"] and again["digest"] == record["digest"]


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["gc"], ["list", "--runs"]):
        assert main([*argv, "--results", str(tmp_path / "gone")]) == 2
        err = capsys.readouterr().err
        assert "--results" in err and err.count("\n") == 1
