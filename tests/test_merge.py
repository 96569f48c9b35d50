"""Merging: whole runs or none, whatever happens on the way; what is there stays; an audit makes runs again."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from records_made import TINY, contents, reseal, written

from harness import records, registry, storage
from harness.cli import main
from harness.locks import alone
from harness.merging import Merged, audit, merge
from harness.packs import KEPT, OF_ONE_SEED, pack
from harness.runs import run
from harness.spec import SCHEMA, make_spec

CHANGES = ("write_bytes", "rename", "remove")  # every change of a file that a merge makes


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three runs."""
    for seed in range(3):
        written(tmp_path / "source", seed=seed)
    return tmp_path / "source"


def runs_of(results: Path) -> list[str]:
    """Paths of complete runs, each of which must be whole."""
    for folder in records.run_folders(results):
        records.read_run(folder)
    return [folder.relative_to(results).as_posix() for folder in records.run_folders(results)]


def test_a_pack_comes_out_as_it_went_in(source: Path, tmp_path: Path) -> None:
    """Equal bytes of every file that is kept, and packing again gives the same pack."""
    packed = pack(tmp_path / "p.tar.xz", results=source)
    merged = merge(packed.path, results=tmp_path / "new")
    assert merged == Merged(tuple(runs_of(source)), (), (), ())
    before, after = contents(source), contents(tmp_path / "new")
    seeds = {run: records.read_run(source / run)["seed"] for run in runs_of(source)}
    kept = {f"{run}/{name}" for run in seeds for name in (*KEPT, *(OF_ONE_SEED if seeds[run] == 0 else ()))}
    assert after == {name: before[name] for name in kept}
    assert pack(tmp_path / "q.tar.xz", results=tmp_path / "new").path.read_bytes() == packed.path.read_bytes()


def test_a_folder_is_copied_whole(source: Path, tmp_path: Path) -> None:
    """With what a pack leaves out, and nothing that is not of a run; a second merge changes nothing."""
    (source / "runs" / "notes.txt").write_text("mine")
    first = next(records.run_folders(source))
    (first / "more.txt").write_text("mine")
    (source / "weights").mkdir()
    (source / "weights" / "model").write_text("large")
    assert len(merge(source, results=tmp_path / "new").merged) == 3
    again = merge(source, results=tmp_path / "new")
    assert (len(again.present), again.merged) == (3, ())
    theirs = {name: data for name, data in contents(source).items() if not name.endswith(("notes.txt", "more.txt", "model"))}
    assert contents(tmp_path / "new") == theirs


@pytest.mark.slow
def test_a_crash_at_any_change_leaves_whole_runs_only(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next merge completes what is missing, from a folder and from a pack."""
    monkeypatch.setattr(storage.os, "fsync", lambda _: None)  # minutes, and no matter here
    shutil.rmtree(source / runs_of(source)[2])
    packed, results = pack(tmp_path / "p.tar.xz", results=source).path, tmp_path / "crashed"
    for origin, changes in ((source, 24), (packed, 28)):
        whole = tmp_path / f"whole {origin.name}"
        seen = _crashing(monkeypatch, -1, "before", partial(merge, origin, results=whole))
        assert len(seen) == changes
        for at, name in enumerate(seen):
            for when in ("before", "within", "after") if name == "write_bytes" else ("after",):
                with pytest.raises(Crash):
                    _crashing(monkeypatch, at, when, partial(merge, origin, results=results))
                assert set(runs_of(results)) <= set(runs_of(source))
                merged = merge(origin, results=results)
                assert len(merged.merged) + len(merged.present) == 2 and not merged.left_out
                assert _but_temporary(results) == contents(whole), (at, when)
                shutil.rmtree(results)


def _crashing(monkeypatch: pytest.MonkeyPatch, crash_at: int, when: str, act: Any) -> list[str]:
    """Act with a crash at one change of a file; the changes that were seen."""
    seen: list[str] = []

    def wrapped(name: str, change: Any) -> Any:
        def changed(path: Path, *rest: Any) -> None:
            seen.append(name)
            if len(seen) - 1 == crash_at:
                if when != "before":
                    change(
                        path, *(part[: len(part) // 2] if when == "within" and isinstance(part, bytes) else part for part in rest)
                    )
                raise Crash
            change(path, *rest)

        return changed

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(storage, name, wrapped(name, getattr(storage, name)))
        act()
    return seen


def _but_temporary(results: Path) -> dict[str, bytes]:
    """All but what a crash left under names that nobody reads."""
    return {name: data for name, data in contents(results).items() if not name.endswith(".tmp")}


def test_half_made_runs_are_replaced_whole(source: Path, tmp_path: Path) -> None:
    """What a half-made run left beside is not mixed with the merged one: traces that the pack does not have go."""
    packed = pack(tmp_path / "p.tar.xz", results=source, traces_of_seed=9).path
    half = tmp_path / "new" / runs_of(source)[0]
    half.mkdir(parents=True)
    for name in ("problems.jsonl", "traces.jsonl"):
        (half / name).write_text("torn")
    merge(packed, results=tmp_path / "new")
    assert runs_of(tmp_path / "new") == runs_of(source) and not (half / "traces.jsonl").exists()


def test_conflicts_keep_what_is_there(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Same run, other numbers: told with what differs, exit code 1, and the rest is merged."""
    results = tmp_path / "new"
    mine = written(results, seed=1, score=0)
    before = contents(mine)
    assert main(["merge", str(source), "--results", str(results)]) == 1
    out, err = capsys.readouterr()
    name = mine.relative_to(results).as_posix()
    assert f"conflict: {name}" in out and "2 merged" in out and "1 in conflict" in out
    assert "files" in err and "metrics" in err
    assert contents(mine) == before and len(runs_of(results)) == 3
    (mine / "run.json").write_text("torn")
    assert merge(source, results=results).conflicts == (name,) and (mine / "run.json").read_text() == "torn"


def test_spoilt_foreign_and_older_runs_are_left_out(source: Path, tmp_path: Path) -> None:
    """Each is named by where it lies in the source, from a folder and from a pack."""
    older, edited, moved = records.run_folders(source)
    packed = pack(tmp_path / "p.tar.xz", results=source)
    reseal(older, lambda record: record | {"schema": SCHEMA - 1})
    (edited / "problems.jsonl").write_text("")
    moved.rename(source / "runs" / "arithmetic" / "direct" / "0123456789ab-s7")
    found = merge(source, results=tmp_path / "new")
    assert (found.merged, len(found.left_out)) == ((), 3)
    for word in ("schema", "problems.jsonl is missing or was changed", "0123456789ab-s7 holds the record of"):
        assert sum(word in line for line in found.left_out) == 1, found.left_out
    assert all(line.startswith(str(source)) for line in found.left_out) and not (tmp_path / "new").exists()
    spoilt = written(tmp_path / "other", seed=5)
    (spoilt / "run.json").unlink()
    assert merge(packed.path, results=tmp_path / "new").left_out == ()


def test_spoilt_runs_in_a_pack_are_named_by_the_pack(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed by somebody who did not look."""
    folder = next(records.run_folders(source))
    (folder / "problems.jsonl").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(records, "read_run", lambda path: json.loads((path / "run.json").read_text()))
        packed = pack(tmp_path / "p.tar.xz", results=source)
    found = merge(packed.path, results=tmp_path / "new")
    assert len(found.merged) == 2 and len(found.left_out) == 1
    assert found.left_out[0].startswith(f"{packed.path}/{folder.relative_to(source).as_posix()}/problems.jsonl")


def test_what_is_being_made_is_left_out(source: Path, tmp_path: Path) -> None:
    """Somebody holds its lock; the others are merged."""
    results = tmp_path / "new"
    name = next(records.run_folders(source)).name
    with alone(results, f"run-{name}"):
        found = merge(source, results=results)
    assert len(found.merged) == 2 and "being made just now" in found.left_out[0] and name in found.left_out[0]
    assert len(merge(source, results=results).merged) == 1


def test_sources_that_are_none(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and exit code 2 each."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar.xz").write_text("hello")
    for given, word in (("gone", "there is no"), ("empty", "no complete run"), ("text.tar.xz", "damaged"), ("source", "itself")):
        assert main(["merge", str(tmp_path / given), "--results", str(source)]) == 2
        err = capsys.readouterr().err
        assert word in err and err.count("\n") == 1


def test_records_that_are_made_up_are_left_out(source: Path, tmp_path: Path) -> None:
    """A record's list of files is not followed elsewhere; nor is a spec that is none."""
    folder = next(records.run_folders(source))
    (folder.parent / "evil").write_text("x")
    record = json.loads((folder / "run.json").read_text())
    record["files"]["../evil"] = storage.sha256(folder.parent / "evil")
    record["digest"] = records.seal(record)
    records.write_json(folder / "run.json", record)
    other = list(records.run_folders(source))[1]
    reseal(other, lambda record: record | {"spec": [], "fingerprint": "0123456789ab"})
    found = merge(source, results=tmp_path / "new")
    assert len(found.merged) == 1 and not list((tmp_path / "new").rglob("evil"))
    assert "../evil" in found.left_out[0] and "is not a record of a run" in found.left_out[1]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was truly made."""
    results = tmp_path_factory.mktemp("real")
    run(make_spec(strategy="direct", task="arithmetic", settings=TINY | {"infer.problems": 6}), results=results)
    return results


def test_an_audit_makes_runs_again(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An honest record is equal; exit code 0, and nothing but the run is left."""
    argv = ["merge", str(real), "--results", str(tmp_path / "new"), "--audit", "3"]
    assert main([*argv, "--json"]) == 0
    (audited,) = json.loads(capsys.readouterr().out)["audited"]
    assert audited["reason"] is None and audited["different"] == []
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"runs"}
    assert main(argv) == 0  # nothing was merged now, so nothing is audited
    assert "0 merged" in capsys.readouterr().out


def test_an_audit_tells_forged_lines(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A score that was made better, all hashes mended: the problem is named, exit code 1."""
    forged = tmp_path / "forged"
    shutil.copytree(real, forged)
    (folder,) = records.run_folders(forged)
    lines = records.read_lines(folder)
    lines[3]["score"] = 1.0 - lines[3]["score"]
    (folder / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    reseal(folder, lambda record: record)
    assert main(["merge", str(forged), "--results", str(tmp_path / "new"), "--audit", "1"]) == 1
    out = capsys.readouterr().out
    assert "1 problems differ" in out and lines[3]["id"] in out and "0 of 1 made again are equal" in out


def test_which_runs_are_audited(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many, the same ones every time, and those that cannot be made are told."""
    results = tmp_path / "new"
    merged = merge(source, results=results)

    def refuse(record: Any, **_: Any) -> Any:
        return registry.find("strategy", "gone")

    monkeypatch.setattr(records, "spec_of", refuse)
    found = [[one.run for one in audit(merged, count, results=results)] for count in (1, 2, 9, 2)]
    assert [len(some) for some in found] == [1, 2, 3, 2] and found[1] == found[3] == found[2][:2]
    assert all("could not be made again: unknown strategy" in (one.reason or "") for one in audit(merged, 2, results=results))
