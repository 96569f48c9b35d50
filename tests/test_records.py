"""Records that are truncated, edited, foreign or older are named, and never returned as if they were whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import records
from harness.spec import SCHEMA, make_spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed record that was never run."""
    spec = make_spec(strategy="direct", task="arithmetic")
    folder = records.run_folder(tmp_path, spec)
    folder.mkdir(parents=True)
    (folder / "problems.jsonl").write_text('{"id":"1+1="}\n')
    record: dict[str, Any] = dict.fromkeys(records.RUN_KEYS, 0)
    record |= {
        "schema": SCHEMA,
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint(),
        "seed": 0,
        "command": "",
        "learner": "",
    }
    record |= {"train": {}, "infer": {}, "metrics": {}, "by_difficulty": []}
    records.write_json(folder / "run.json", records.sealed(record, folder, ("problems.jsonl", "train.jsonl")))
    return folder


def test_a_whole_record_is_read(folder: Path) -> None:
    """And belongs to its spec."""
    assert records.read_run(folder, make_spec(strategy="direct", task="arithmetic"))["seed"] == 0
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*"))


def spoil(folder: Path, how: str) -> None:
    """Do to run.json or its files what should be noticed."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif how == "edited":
        path.write_text(json.dumps(record | {"seed": 1}))
    elif how == "foreign":
        path.write_text(json.dumps({"hello": "world"}))
    elif how == "older":
        path.write_text(json.dumps(record | {"schema": 0}))
    elif how == "lines":
        (folder / "problems.jsonl").write_text('{"id":"1+2="}\n')
    elif how == "binary":
        path.write_bytes(b"\xff\x00\x9f")
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("truncated", "truncated"), ("edited", "edited"), ("foreign", "not a record"), ("older", "schema"),
        ("lines", "problems.jsonl"), ("binary", "truncated or no JSON"), ("gone", "no complete run"),
    ],
)  # fmt: skip
def test_spoilt_records_are_named(folder: Path, how: str, word: str) -> None:
    """The error names the file and what is wrong with it."""
    spoil(folder, how)
    with pytest.raises(ValueError, match=word) as error:
        records.read_run(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_another_runs_record_is_refused(folder: Path) -> None:
    """A record that was copied into the wrong folder."""
    with pytest.raises(ValueError, match="another run"):
        records.read_run(folder, make_spec(strategy="direct", task="arithmetic", settings={"train.flops": 1e9}))
    with pytest.raises(ValueError, match="seed"):
        records.read_run(folder, make_spec(strategy="direct", task="arithmetic", seed=3))


def test_find_run_by_the_beginning_of_its_name(folder: Path, tmp_path: Path) -> None:
    """Or by path; otherwise the names that there are."""
    assert records.find_run(folder.name[:5], tmp_path) == folder
    assert records.find_run(str(folder), tmp_path) == folder
    with pytest.raises(ValueError, match=folder.name):
        records.find_run("zzz", tmp_path)


def test_ask_settings_share_a_learner() -> None:
    """A setting that changes only how the model is asked leaves the learner's fingerprint alone; a learn-setting does not."""
    plain = make_spec(strategy="direct", task="arithmetic")
    longer = make_spec(strategy="direct", task="arithmetic", settings={"task.longer": "4"})
    fewer = make_spec(strategy="direct", task="arithmetic", settings={"infer.problems": 7})
    other = make_spec(strategy="direct", task="arithmetic", settings={"task.digits": "1-2"})
    assert plain.learner_fingerprint() == longer.learner_fingerprint() == fewer.learner_fingerprint()
    assert len({s.fingerprint() for s in (plain, longer, fewer, other)}) == 4
    assert other.learner_fingerprint() != plain.learner_fingerprint()
    assert make_spec(strategy="direct", task="arithmetic", seed=1).fingerprint() == plain.fingerprint()


def test_lines_are_read_as_python_reads_json(tmp_path: Path) -> None:
    """The fast reader's way where it can, and what it refuses all the same."""
    said = ['{"a": 0.1, "b": [null, true, 123456789012345678901]}', '{"a": NaN, "b": "\\ud800"}', '{"a": 1e400, "b": "\u2028é"}']
    (tmp_path / "problems.jsonl").write_text("\n".join(said) + "\n", encoding="utf-8")
    assert repr(records.read_lines(tmp_path)) == repr([json.loads(line) for line in said])
    (tmp_path / "problems.jsonl").write_text('{"a": 1', encoding="utf-8")
    with pytest.raises(ValueError, match=r"problems\.jsonl, line 1, is truncated or no JSON"):
        records.read_lines(tmp_path)
