"""`load_runs`: the table of runs says what the tables of the comparisons say, from the packs that a fresh clone has."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from records_made import reseal

import harness
from harness.api import load_runs
from harness.cli import main

ROOT = Path(__file__).parent.parent
TABLES = ROOT / "results" / "tables"
DEMO = "demo-arithmetic"


def clone(folder: Path, *names: str) -> Path:
    """A results folder as a fresh clone has it, with some of its packs and declarations."""
    for part in ("records", "tables"):
        (folder / part).mkdir(parents=True)
    for name in names:
        (folder / "records" / f"{name}.tar.xz").symlink_to(ROOT / "results" / "records" / f"{name}.tar.xz")
        (folder / "tables" / f"{name}.json").write_bytes((TABLES / f"{name}.json").read_bytes())
    return folder


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo on arithmetic, packed."""
    return clone(tmp_path_factory.mktemp("fresh") / "results", DEMO)


@pytest.fixture(scope="module")
def every(fresh: Path) -> pd.DataFrame:
    """All of its runs."""
    return load_runs(fresh, split="all")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs unpacked, with nothing beside them."""
    results = tmp_path_factory.mktemp("merged")
    assert main(["merge", str(ROOT / "results" / "records" / f"{DEMO}.tar.xz"), "--results", str(results)]) == 0
    return results


def test_two_lines_give_the_readmes_table(tmp_path: Path) -> None:
    """The scores of the headline, arm by arm, as the README shows them; nothing is written into the results folder."""
    results = clone(tmp_path / "results", "reference-k_hop")
    before = sorted(results.rglob("*"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(runs = .*\n.*\n)```", readme)
    names: dict[str, Any] = {"harness": harness}
    exec(code.replace('"results"', repr(str(results))), names)
    scores = names["scores"]
    shown = re.findall(r"^\| ([\w ]+?)(?: \([^|]*\))? \| ([\d.]+)% \[", readme, re.MULTILINE)
    shown = [(arm, score) for arm, score in shown if arm in scores.index]
    assert len(shown) == len(scores) == 21
    assert {arm: f"{100 * score:.1f}" for arm, score in scores.items()} == dict(shown)
    assert sorted(results.rglob("*")) == before


def test_arms_are_those_of_the_tables(every: pd.DataFrame) -> None:
    """Each arm and point of the main table, none of them mixed with twins of one strategy or with the validation split."""
    runs = every[(every.split == "test") & (every.metric == "accuracy")]
    numbers = pd.read_csv(TABLES / f"{DEMO}.csv")
    assert set(runs.arm) == set(numbers.arm) and set(runs.comparison) == {DEMO}
    one = numbers.set_index("arm")
    for arm, found in runs[~runs.arm.isin(["votes", "beam"])].groupby("arm"):
        assert found["value"].mean() == pytest.approx(one.score[arm], abs=1e-12)
        assert list(found.seed) == [0, 1, 2] and set(found.target_flops) == {1e12}
    assert round(100 * runs[runs.arm == "direct"]["value"].mean(), 1) == 66.6
    assert runs[runs.strategy == "direct"].arm.nunique() == 4


def test_scores_have_the_records_intervals_and_settings(every: pd.DataFrame) -> None:
    """The columns and their values, against the record of one run."""
    assert list(every.columns[:21]) == [
        "comparison", "arm", "task", "strategy", "fingerprint", "learner", "seed", "split", "problems", "metric", "value", "low",
        "high", "n", "floor", "target_flops", "train_flops", "infer_flops", "serial_passes", "text_tokens", "woven_tokens",
    ]  # fmt: skip
    settings = list(every.columns[21:])
    assert all(column.partition(".")[0] in ("model", "train", "infer", "strategy", "task") for column in settings)
    assert settings == sorted(settings, key=lambda c: ("model", "train", "infer", "strategy", "task").index(c.partition(".")[0]))
    row = every[(every.arm == "votes") & (every.split == "test") & (every.seed == 1) & (every["strategy.samples"] == 9)]
    row = row[row.metric == "accuracy"].iloc[0]
    assert row["strategy"] == "self_consistency" and row["strategy.base"] == "direct" and row["problems"] == 500
    assert row["low"] < row["value"] < row["high"] and row["n"] == 500 and math.isclose(row["floor"], 1 / 9)
    assert row["model.size"] == "xs" and row["train.flops"] == 1e12 and row["infer.problems"] == 500
    assert row["train.match"] == "flops" and row["train.precision"] == "fp32" and row["task.digits"] == "1-3"
    assert row["train_flops"] <= row["target_flops"] == 1e12


def test_the_split_is_chosen(fresh: Path, every: pd.DataFrame) -> None:
    """Test runs unless the others are asked for; runs on validation stand under the arm whose points they chose."""
    test, validation = load_runs(fresh), load_runs(fresh, split="validation")
    assert set(test.split) == {"test"} and set(validation.split) == {"validation"}
    assert len(test) + len(validation) == len(every) == 150
    assert set(validation.problems) == {200} and set(validation.comparison) == {DEMO}
    assert set(validation.arm) == {"direct", "deep x2", "deep x4", "wide x2", "votes", "beam", "filler"}
    with pytest.raises(ValueError, match="split: expected one of test, validation, all, got 'train'"):
        load_runs(fresh, split="train")  # type: ignore[arg-type]


def test_a_run_stands_in_each_of_its_comparisons(merged: Path, every: pd.DataFrame) -> None:
    """Two rows in two comparisons, one with nothing in none; packs beside the same unpacked runs add nothing."""
    alone = load_runs(merged, split="all")
    assert len(alone) == 150 and set(alone.comparison) == set(alone.arm) == {""} and set(alone.target_flops) == {1e12}
    tables = merged / "tables"
    tables.mkdir()
    declared = json.loads((TABLES / f"{DEMO}.json").read_bytes())
    (tables / f"{DEMO}.json").write_text(json.dumps(declared))
    pd.testing.assert_frame_equal(load_runs(merged, split="all"), every)
    (merged / "records").mkdir()
    (merged / "records" / "x.tar.xz").symlink_to(ROOT / "results" / "records" / f"{DEMO}.tar.xz")
    pd.testing.assert_frame_equal(load_runs(merged, split="all"), every)
    mine = [{**run, "arm": "plain", "train_flops": 2e12} for run in declared["runs"] if run["arm"] == "direct"]
    (tables / "other.json").write_text(json.dumps({**declared, "name": "other", "runs": mine}))
    direct = load_runs(merged).query("strategy == 'direct' and metric == 'accuracy' and `model.layers`.isna() and seed == 0")
    found = direct[~direct.arm.str.contains("wide")][["comparison", "arm", "target_flops", "train.flops"]]
    assert found.to_numpy().tolist() == [[DEMO, "direct", 1e12, 1e12], ["other", "plain", 2e12, 1e12]]
    assert set(load_runs(merged, split="validation").comparison) == {DEMO}  # an arm of one point has nothing to choose
    block = declared["block"] | {"validation": 199}
    (tables / f"{DEMO}.json").write_text(json.dumps(declared | {"block": block}))
    assert set(load_runs(merged, split="validation").comparison) == {""}  # points were chosen on other problems


def test_a_folder_without_runs_is_an_error(fresh: Path, tmp_path: Path) -> None:
    """Nothing there, only spoilt packs, or only runs on the other split."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"holds no complete run, neither below runs/ nor in packs below records/"):
            load_runs(folder)
    (tmp_path / "records").mkdir()
    whole = (fresh / "records" / f"{DEMO}.tar.xz").read_bytes()
    (tmp_path / "records" / "cut.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"holds no complete run.* left out: .*cut.tar.xz is truncated or damaged"):
        load_runs(tmp_path)


def test_spoilt_files_are_named_and_left_out(merged: Path, tmp_path: Path) -> None:
    """A record whose lines were changed, one that lacks what a row needs, a table's file of another form, a damaged pack."""
    here = [path for path in sorted((merged / "runs").rglob("*-s0")) if path.parent.name == "direct"][:3]
    for path in here:
        target = tmp_path / path.relative_to(merged)
        target.mkdir(parents=True)
        for file in path.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    changed, lacking, sound = (tmp_path / path.relative_to(merged) for path in here)
    (changed / "problems.jsonl").write_bytes(b"{}\n")
    reseal(lacking, lambda record: record | {"infer": {}})
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "odd.json").write_text('{"name": "odd", "runs": 3}')
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "odd.tar.xz").write_bytes(b"odd")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        table = load_runs(tmp_path, split="all")
    assert set(table.fingerprint) == {sound.name.partition("-")[0]}
    said = [str(one.message) for one in told]
    for path in (
        changed / "problems.jsonl",
        lacking / "run.json",
        tmp_path / "tables" / "odd.json",
        tmp_path / "records" / "odd.tar.xz",
    ):
        assert len([line for line in said if line.startswith("left out: ") and str(path) in line]) == 1, said
    split = set(table.split).pop()
    with warnings.catch_warnings(), pytest.raises(ValueError, match=f"it has runs on: {split}"):
        warnings.simplefilter("ignore")
        load_runs(tmp_path, split="test" if split == "validation" else "validation")


def test_a_packs_records_are_checked_as_they_are_read(merged: Path, tmp_path: Path) -> None:
    """Of a run whose file is not the one that its record names nothing is taken from a pack either."""
    from harness import packs

    results = tmp_path / "results"
    path = next(path for path in sorted((merged / "runs").rglob("*-s0")) if path.parent.name == "direct")
    target = results / path.relative_to(merged)
    target.mkdir(parents=True)
    for file in path.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    packs.pack(tmp_path / "sound.tar.xz", results=results)
    found, left_out = packs.read_pack(tmp_path / "sound.tar.xz")
    assert list(found) == [path.relative_to(merged).as_posix()] and not left_out
    whole = packs._entries(results, None)
    (target / "problems.jsonl").write_bytes(b"{}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "_entries", lambda *_: whole)
        packs.pack(tmp_path / "odd.tar.xz", results=results)
    found, left_out = packs.read_pack(tmp_path / "odd.tar.xz")
    assert not found and len(left_out) == 1 and "problems.jsonl is missing or was changed since the run" in left_out[0]
