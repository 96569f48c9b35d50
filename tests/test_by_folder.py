"""A run given by its folder: its weights are found in the results folder that it lies in, wherever the command is started."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from records_made import TINY

from harness import records, twins
from harness.cli import main
from harness.runs import run
from harness.spec import RunSpec, make_spec


def spec_of() -> RunSpec:
    return make_spec(strategy="direct", task="arithmetic", settings=TINY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one run, far from where commands are started."""
    results = tmp_path_factory.mktemp("far") / "of mine"
    run(spec_of(), results=results)
    return results


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def commands(run_name: str, free: Path) -> list[list[str]]:
    return [["ask", run_name, "1+2="], ["verify", run_name], ["export", run_name, str(free)]]


@pytest.mark.parametrize("given", ["folder", "file", "relative", "within", "link to it", "link to results", "linked runs"])
def test_weights_are_found(given: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --results, and nothing is made where the command is started."""
    folder = records.run_folder(made, spec_of())
    names = {"folder": str(folder), "file": str(folder / "run.json"), "within": "."}
    if given in ("relative", "link to results"):
        (tmp_path / "linked").symlink_to(made)
        name = str(records.run_folder(Path("..") / "linked", spec_of()))
    elif given == "linked runs":  # the runs lie on another disk, say, and the weights beside the link
        shutil.copytree(made / "runs", tmp_path / "archive")
        shutil.copytree(made / "weights", tmp_path / "mine" / "weights")
        (tmp_path / "mine" / "runs").symlink_to(tmp_path / "archive")
        name = str(records.run_folder(tmp_path / "mine", spec_of()))
    elif given == "link to it":
        (tmp_path / "run").symlink_to(folder)
        name = str(tmp_path / "run")
    else:
        name = names[given]
    if given == "within":
        monkeypatch.chdir(folder)
    for words in commands(name, tmp_path / "exported"):
        assert main(words) == 0, words
    assert list((tmp_path / "here").iterdir()) == []


def test_a_folder_that_was_copied_elsewhere_needs_results(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that lies in no results folder, or in one without its weights, is asked with those of --results."""
    lone = shutil.copytree(records.run_folder(made, spec_of()), tmp_path / "lone")
    other = shutil.copytree(records.run_folder(made, spec_of()), records.run_folder(tmp_path / "other", spec_of()))
    for folder in (lone, other):
        for words in commands(str(folder), tmp_path / f"exported {folder.name}"):
            assert main([*words, "--results", str(made)]) == 0
        assert main(["ask", str(folder), "1+2="]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "the weights results/weights/" in said[-2]
    there = records.weights_folder(tmp_path / "other", spec_of())
    assert f"the weights {there} are not there" in said[-1] and f"--again --results {tmp_path / 'other'}" in said[-1]


def test_by_name_the_results_folder_is_the_given_one(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = records.run_folder(made, spec_of()).name
    assert main(["ask", name[:6], "1+2=", "--results", str(made)]) == 0
    assert main(["ask", name[:6], "1+2="]) == 2 and "no such run" in capsys.readouterr().err


def test_a_folder_near_the_root_is_in_no_results_folder(tmp_path: Path) -> None:
    for folder in (Path("/"), Path("/x"), Path("/runs/x"), tmp_path):
        assert records.results_of(folder) is None
    assert records.results_of(Path("/r/runs/t/s/n")) == Path("/r") == records.results_of(Path("/r/runs/t/s/../s/n"))


def test_a_twin_takes_the_tokenizer_from_beside_its_run(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --twin --of FOLDER`: what was trained there is not trained again."""
    seen: list[Path | None] = []
    own: Any = twins.learner_alphabet
    monkeypatch.setattr(twins, "learner_alphabet", lambda spec, folder: (seen.append(folder), own(spec, None))[1])
    beside = records.weights_folder(made, spec_of()) / "tokenizer.json"
    beside.write_text("{}")
    twins.make_twin("deep", str(records.run_folder(made, spec_of())), results=Path("results"))
    beside.unlink()
    assert seen == [beside.parent]
