"""Learners that come with the harness are taken instead of being trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import learners, records
from harness.runs import run
from harness.spec import RunSpec, make_spec

TINY: dict[str, Any] = {"model.width": 16, "model.layers": 1, "model.heads": 2, "infer.problems": 4, "train.flops": 2e7}
TINY |= {"train.problems_per_update": 8}


class Untrained(learners.Silent):
    """Fails if anything is trained."""

    def training(self, spec: RunSpec, *_: object) -> None:
        raise AssertionError("it was trained")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run whose learner is shipped; its record."""
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY)
    record = run(spec, results=tmp_path / "maker")
    folder = tmp_path / "checkpoints"
    shutil.copytree(tmp_path / "maker" / "weights", folder)
    for name in ("timing.json", "checkpoint.safetensors"):
        for path in folder.glob(f"*/{name}"):
            path.unlink()
    monkeypatch.setattr(learners, "CHECKPOINTS", folder)
    return record


def test_a_shipped_learner_is_not_trained_and_gives_the_same_record(shipped: Any, tmp_path: Path) -> None:
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY)
    again = run(spec, results=tmp_path / "user", reporter=Untrained())
    assert {k: v for k, v in again.items() if k != "timing"} == {k: v for k, v in shipped.items() if k != "timing"}
    searched = make_spec(strategy="beam_search", task="arithmetic", settings=TINY | {"strategy.base": "direct"})
    assert run(searched, results=tmp_path / "other", reporter=Untrained())["learner"] == shipped["learner"]


def test_other_seeds_and_settings_are_trained(shipped: Any, tmp_path: Path) -> None:
    for other in ({"seed": 1}, {"settings": TINY | {"train.learning_rate": 3e-3}}):
        spec = make_spec(**({"strategy": "direct", "task": "arithmetic", "settings": TINY} | other))
        with pytest.raises(AssertionError, match="it was trained"):
            run(spec, results=tmp_path / "user", reporter=Untrained())


def test_again_trains_anew(shipped: Any, tmp_path: Path) -> None:
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY)
    with pytest.raises(AssertionError, match="it was trained"):
        run(spec, results=tmp_path / "user", reporter=Untrained(), again=True)


def test_what_ships_is_whole() -> None:
    """Each learner's record is sealed, of this schema, and small."""
    folders = sorted(learners.CHECKPOINTS.iterdir())
    assert folders
    for folder in folders:
        record = records.read_record(folder, name="learner.json")
        assert folder.name == f"{record['learner']}-s{record['seed']}"
        assert (folder / "model.safetensors").stat().st_size < 1_000_000
        assert {path.name for path in folder.iterdir()} == {"learner.json", *record["files"]}


HOPS, DIGITS = ("k_hop", {"task.elements": 8, "task.hops": "1-6"}), ("arithmetic", {"task.digits": "1-4"})
NUMBERS: tuple[str, dict[str, Any]] = ("countdown", {})


@pytest.mark.parametrize(
    ("strategy", "task", "least"),
    [
        ("direct", HOPS, 0.15), ("reasoning_tokens", HOPS, 0.1), ("chain_of_thought", HOPS, 0.95), ("direct", DIGITS, 0.25),
        ("reasoning_tokens", DIGITS, 0.2), ("direct", NUMBERS, 0.25), ("chain_of_thought", NUMBERS, 0.05),
    ],
)  # fmt: skip
def test_learners_of_the_reference_are_there(
    strategy: str, task: tuple[str, dict[str, Any]], least: float, tmp_path: Path
) -> None:
    """Under today's fingerprint: whoever changes what a learner is makes these anew."""
    settings = task[1] | {"model.size": "xs", "train.flops": 1e12, "infer.problems": 50}
    record = run(make_spec(strategy=strategy, task=task[0], settings=settings), results=tmp_path, reporter=Untrained())
    assert record["metrics"]["accuracy"]["value"] > least
