"""A learner that two machines trained is two models: they are not asked, searched or compared as one without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from records_made import TINY, reseal

from harness import records
from harness.asked_model import load
from harness.cli import main
from harness.comparison import measured, rows_of
from harness.comparison_files import write
from harness.grid import grid_of
from harness.listing import runs as listed
from harness.merging import merge
from harness.recheck import check_records
from harness.runs import run
from harness.spec import make_spec
from harness.suite import Arm, Block, Suite
from harness.weights import pack, read_packed, state_hash

SEARCH = {"strategy.base": "direct", "strategy.samples": 2}


def spec_of(strategy: str = "direct", **settings: Any) -> Any:
    return make_spec(strategy=strategy, task="arithmetic", settings=TINY | settings)


def search_of(samples: int) -> Any:
    return spec_of("best_of_n", **SEARCH | {"strategy.samples": samples})


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two results folders: `a` with a run, `b` with a search over the same learner, which came out otherwise there."""
    place = tmp_path_factory.mktemp("machines")
    run(spec_of(), results=place / "a")
    shutil.copytree(place / "a" / "weights", place / "b" / "weights")
    train_otherwise(place / "b")
    run(search_of(2), results=place / "b")
    return place


def train_otherwise(results: Path) -> None:
    """What another machine's training gives: a sound learner whose weights differ."""
    folder = records.weights_folder(results, spec_of())
    state, facts = read_packed(folder / "model.safetensors")
    state = {name: tensor * 1.5 for name, tensor in state.items()}
    (folder / "model.safetensors").write_bytes(pack(state, facts))
    reseal_learner(folder, weights_sha256=state_hash(state))


def reseal_learner(folder: Path, **changed: Any) -> None:
    record = json.loads((folder / "learner.json").read_text()) | changed
    kept = {key: value for key, value in record.items() if key not in ("files", "digest")}
    records.write_json(folder / "learner.json", records.sealed(kept, folder, tuple(record["files"])))


@pytest.fixture
def results(machines: Path, tmp_path: Path) -> Path:
    """The first machine's folder, with the other one's search merged into it."""
    shutil.copytree(machines / "a", tmp_path / "a")
    assert len(merge(machines / "b", results=tmp_path / "a").merged) == 1
    return tmp_path / "a"


def test_a_run_is_not_asked_with_other_weights(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, which names the folder to move away and --again; the run whose weights lie there is asked."""
    theirs, own = records.run_folder(results, search_of(2)), records.run_folder(results, spec_of())
    weights = records.weights_folder(results, spec_of())
    for words in (["ask", str(theirs), "1+2="], ["verify", str(theirs)], ["export", str(theirs), str(tmp_path / "e")]):
        assert main([*words, "--results", str(results)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"move {weights} away" in said and "--again" in said and str(results) in said
        assert main([words[0], str(own), *words[2:], "--results", str(results)]) == 0
        capsys.readouterr()
    with pytest.raises(ValueError, match=r"another training.*--again"):
        load(str(theirs), settings={}, device="cpu")
    assert load(str(own), settings={}, device="cpu").results == results


def test_a_new_search_is_refused_while_another_trainings_run_is_there(results: Path) -> None:
    """The line names the run to move away; moved away, or made anew here, it is in nobody's way."""
    theirs = records.run_folder(results, search_of(2))
    with pytest.raises(ValueError, match=r"another training.*--again") as error:
        run(search_of(3), results=results)
    assert f"move {theirs} away" in str(error.value) and "\n" not in str(error.value)
    assert not (records.run_folder(results, search_of(3)) / "run.json").exists()
    assert run(search_of(2), results=results)["complete"], "a complete run is read as it is"
    kept = records.weights_folder(results, spec_of())
    run(search_of(2), results=results, again=True)
    assert run(search_of(3), results=results)["model"] == records.read_run(theirs)["model"]
    assert kept.exists()


def test_runs_can_be_made_anew_one_by_one(results: Path) -> None:
    """--again is let through while runs of another training are still there: making each of them anew is the cure."""
    model = {"weights_sha256": "f" * 64}
    reseal(records.run_folder(results, spec_of()), lambda record: record | {"model": record["model"] | model})
    assert run(search_of(2), results=results, again=True)["complete"]
    assert len(check_records(results).mixed) == 1
    run(spec_of(), results=results, again=True)
    assert check_records(results).sound


def test_a_search_trained_here_beside_merged_records_alone(machines: Path, tmp_path: Path) -> None:
    """No weights came with them: what is trained here is another training, and is refused after it is there."""
    merge(machines / "b", results=tmp_path)
    with pytest.raises(ValueError, match=r"another training"):
        run(search_of(3), results=tmp_path)
    shutil.rmtree(records.run_folder(tmp_path, search_of(2)))
    assert run(search_of(3), results=tmp_path)["complete"]


def test_other_seeds_and_learners_are_no_matter(results: Path) -> None:
    spec = make_spec(strategy="best_of_n", task="arithmetic", settings=TINY | SEARCH, seed=1)
    assert run(spec, results=results)["complete"]
    assert run(spec_of(**{"train.learning_rate": 2e-3}), results=results)["complete"]


def test_weights_must_be_those_that_their_record_names(machines: Path, tmp_path: Path) -> None:
    """Other weights with a mended seal."""
    shutil.copytree(machines / "a", tmp_path / "a")
    folder = records.weights_folder(tmp_path / "a", spec_of())
    shutil.copy(records.weights_folder(machines / "b", spec_of()) / "model.safetensors", folder)
    reseal_learner(folder)
    with pytest.raises(ValueError, match=r"holds other weights than .*learner\.json names.*--again"):
        run(search_of(3), results=tmp_path / "a")
    assert main(["ask", str(records.run_folder(tmp_path / "a", spec_of())), "1+2="]) == 2


def test_records_that_do_not_name_weights_are_read(results: Path) -> None:
    """As they were written before."""
    for spec in (search_of(2), spec_of()):
        folder = records.run_folder(results, spec)
        reseal(folder, lambda record: record | {"model": {k: v for k, v in record["model"].items() if k != "weights_sha256"}})
    assert run(search_of(3), results=results)["complete"] and check_records(results).mixed == ()
    assert main(["ask", str(records.run_folder(results, search_of(2))), "1+2="]) == 0


def test_a_check_names_them(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The learner whose trainings were mixed, and the run whose weights do not lie there."""
    theirs, own = (records.run_folder(results, spec).relative_to(results).as_posix() for spec in (search_of(2), spec_of()))
    assert main(["report", "--check", "--results", str(results)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("differs")]
    learner = spec_of().learner_fingerprint()
    assert len(lines) == 2 and lines[0].startswith(f"differs: {theirs}: weights/{learner}-s0 holds another training")
    assert lines[1].startswith(f"differs: Learner {learner} of seed 0 was trained 2 times")
    assert theirs in lines[1] and own in lines[1]


def test_a_list_says_that_the_weights_are_not_there(results: Path) -> None:
    rows, _ = listed(results)
    assert {row.strategy: row.weights for row in rows} == {"direct": True, "best_of_n": False}


def test_tables_name_them(machines: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A comparison of one learner's trainings says so above its tables, as does the table of a run; else neither does."""
    arms = [Arm(strategy="direct", family=True), Arm(strategy="best_of_n", settings=SEARCH)]
    block = Block(
        task="arithmetic", name="t", arms=arms, train_flops=[TINY["train.flops"]], seeds=[0], with_family=False,
        settings={key: value for key, value in TINY.items() if key.startswith(("model.", "train.problems"))},
        problems=TINY["infer.problems"], validation=TINY["infer.problems"],
    )  # fmt: skip
    grid = grid_of(Suite(name="t", blocks=[block]))
    own = shutil.copytree(machines / "a", tmp_path / "own")
    (chosen,) = (cell.spec for cell in grid.cells if cell.spec.infer.split == "validation")
    run(chosen, results=own)
    shutil.copytree(records.run_folder(own, chosen), records.run_folder(results, chosen))
    for folder, is_mixed in ((results, True), (own, False)):
        found = {cell: run(cell.spec, results=folder) for cell in grid.cells}
        every = measured(grid, found)
        written = write([row for one in every for row in rows_of(one)], every, folder, folder, suite="t", plots=[])
        (page,) = [path.read_text() for path in written if path.name == "t.md"]
        line = f"Learner {spec_of().learner_fingerprint()} of seed 0 was trained 2 times"
        assert (line in page) == is_mixed
        assert not is_mixed or all(name in page for name in ("by best_of_n", "by direct, direct (validation)"))
        settings = [word for key, value in (TINY | SEARCH).items() for word in ("--set", f"{key}={value}")]
        words = ["run", "--strategy", "best_of_n", "--task", "arithmetic", *settings, "--results", str(folder)]
        capsys.readouterr()
        assert main(words) == 0
        assert (line in " ".join(capsys.readouterr().out.split())) == is_mixed
