"""Several processes train and ask together as one does: losses, FLOPs, problems, files; whatever number of them goes on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranked import CASES, UPDATES, followed, spec_of, trainer_of

from harness.cli import main
from harness.feed import Share
from harness.jsonl import lines_of
from harness.ranks import ALONE
from harness.runs import run
from harness.spec import from_json, make_spec
from harness.train import Lesson

TESTS = Path(__file__).parent


def launch(*words: str, processes: int = 2, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Start so many processes of a command, as torchrun does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 8))
def test_every_text_is_taught_once(texts, ranks, parts):
    if texts < ranks:
        with pytest.raises(ValueError, match="problems_per_update"):
            Share(0, ranks, parts).slices(texts)
        return
    shares = [Share(rank, ranks, parts).slices(texts) for rank in range(ranks)]
    taught = [list(range(texts))[part] for share in shares for part in share]
    assert sorted(itertools.chain.from_iterable(taught)) == list(range(texts)) and all(taught)
    assert len({len(share) for share in shares}) == 1 and len(shares[0]) <= parts  # all ranks take as many steps
    assert max(map(len, taught)) - min(map(len, taught)) <= 1


def equal(found: list[list[float]], expected: list[list[float]]) -> None:
    assert len(found) == len(expected)
    assert [row[1:] for row in found] == [row[1:] for row in expected]
    np.testing.assert_allclose([row[0] for row in found], [row[0] for row in expected], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_ranks_train_as_one_and_any_number_goes_on(tmp_path):
    """One test, since what two processes find takes them a minute: every case, in parts, with split weights, taken up again."""
    alone = {case: followed(trainer_of(spec_of(case), tmp_path / case, ALONE), UPDATES) for case in CASES}
    followed(trainer_of(spec_of("lines"), tmp_path / "begun", ALONE), 20)
    for name in ("resumed-0", "resumed-1", "resumed-sharded-0", "resumed-sharded-1"):
        shutil.copytree(tmp_path / "begun", tmp_path / name)
    launch(str(TESTS / "ranked.py"), str(tmp_path))
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    for case in CASES:
        equal(found[case], alone[case])
    for how in ("in parts", "sharded"):
        equal(found[how], alone["thoughts"])
    for name, place in (("resumed", "resumed-0"), ("resumed, sharded", "resumed-sharded-0")):
        equal(found[name], alone["lines"][20:30])
        equal(followed(trainer_of(spec_of("lines"), tmp_path / place, ALONE), 20), alone["lines"][30:])


@pytest.mark.parametrize("case", ["side targets", "spans, where unsure", "direct"])
def test_parts_of_one_process_train_as_the_whole(case, tmp_path):
    whole = followed(trainer_of(spec_of(case), tmp_path / "whole", ALONE), 20)
    equal(followed(trainer_of(spec_of(case), tmp_path / "parts", ALONE, parts=4), 20), whole)


def test_an_update_that_does_not_fit_is_taken_in_more_parts(monkeypatch, tmp_path):
    """As if memory sufficed for three of the nine problems."""
    whole = followed(trainer_of(spec_of("direct"), tmp_path / "whole", ALONE), 10)
    forward = Lesson.forward

    def scarce(self, cells, progress):
        if cells.shape[0] > 3:
            raise torch.OutOfMemoryError("no more")
        return forward(self, cells, progress)

    monkeypatch.setattr(Lesson, "forward", scarce)
    trainer = trainer_of(spec_of("direct"), tmp_path / "scarce", ALONE)
    equal(followed(trainer, 10), whole)
    assert trainer.parts == 4


def test_an_update_that_never_fits_is_told(monkeypatch, tmp_path):
    def none(self, cells, progress):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(Lesson, "forward", none)
    with pytest.raises(ValueError, match="--parts"):
        trainer_of(spec_of("direct"), tmp_path, ALONE).run()


@pytest.mark.slow
def test_bf16_trains_nearly_the_same_and_is_another_learner(tmp_path):
    for case in ("direct", "thoughts, learned", "spans", "loops"):
        spec = spec_of(case)
        exact = followed(trainer_of(spec, tmp_path / case, ALONE), 20)
        rough = replace(spec, train=replace(spec.train, precision="bf16"))
        found = followed(trainer_of(rough, tmp_path / f"{case} rough", ALONE), 20)
        assert [row[1:] for row in found] == [row[1:] for row in exact] and found != exact
        np.testing.assert_allclose([row[0] for row in found], [row[0] for row in exact], rtol=0.03)
        assert rough.learner_fingerprint() != spec.learner_fingerprint()
        assert "precision" not in spec.to_json()["train"] and from_json(rough.to_json()) == rough


# Whole runs

SETTINGS = {"model.size": "xs", "train.flops": 2e10, "infer.problems": 41}
SPEC = make_spec(strategy="reasoning_tokens", task="arithmetic", settings=SETTINGS)
TYPED = ["--strategy", "reasoning_tokens", "--task", "arithmetic", *(f"--set={key}={value}" for key, value in SETTINGS.items())]
BY_ALL = ["-m", "harness", "run", *TYPED]


def files(folder: Path) -> dict[str, bytes]:
    """All but timings."""
    kept = (p for p in folder.rglob("*") if p.is_file() and "timing" not in p.name)
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("lone")
    run(SPEC, results=results)
    return results


@pytest.mark.slow
def test_three_processes_ask_as_one_does(lone, tmp_path):
    """The learner is there, half of the lines too."""
    shutil.copytree(lone, tmp_path / "results")
    (folder,) = (tmp_path / "results").glob("runs/*/*/*")
    for name in ("run.json", "attention.jsonl"):
        (folder / name).unlink()
    lines = [line + b"\n" for line in lines_of(folder / "problems.jsonl")]
    (folder / "problems.jsonl").write_bytes(b"".join(lines[:10]))
    launch(*BY_ALL, "--results", str(tmp_path / "results"), processes=3)
    assert files(tmp_path / "results") == files(lone)


@pytest.mark.slow
def test_a_run_by_two_is_written_by_one_and_is_there_for_all(lone, tmp_path):
    said = launch(*BY_ALL, "--json", "--results", str(tmp_path)).stdout
    record = json.loads(said)
    alone = run(SPEC, results=lone)
    assert record["train"] == alone["train"] and record["timing"]["ranks"] == 2
    assert files(tmp_path).keys() == files(lone).keys()
    nats = [one["metrics"]["answer_nats_per_token"]["value"] for one in (record, alone)]
    assert nats[0] == pytest.approx(nats[1], abs=1e-2)
    assert json.loads(launch(*BY_ALL, "--json", "--results", str(tmp_path)).stdout) == record  # nothing is made again
    assert main(["run", *TYPED, "--results", str(tmp_path)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_that_are_killed_are_gone_on_with_by_one(rank, lone, tmp_path):
    results = tmp_path / "results"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *BY_ALL]
    begun = subprocess.Popen(
        [*command, "--checkpoint-s", "0", "--results", str(results)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not list(results.glob("weights/*/checkpoint.safetensors")):
        assert begun.poll() is None
        time.sleep(0.02)
    os.kill(ranks_of(begun.pid)[rank], signal.SIGKILL)
    assert begun.wait(100) != 0
    record, alone = run(SPEC, results=results), run(SPEC, results=lone)
    assert record["train"] == alone["train"] and files(results).keys() == files(lone).keys()
    losses = [
        [json.loads(line)["loss_nats"] for line in lines_of(next(folder.glob("weights/*/train.jsonl")))]
        for folder in (results, lone)
    ]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-4)


def ranks_of(launcher: int) -> list[int]:
    """The processes that a launcher has started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            facts = dict(x.split(b"=", 1) for x in (folder / "environ").read_bytes().split(b"\0") if b"=" in x)
        except (OSError, ValueError):
            continue
        if parent == launcher and b"RANK" in facts:
            found[int(facts[b"RANK"])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
def test_mistakes_of_several_are_told(tmp_path):
    few = launch(*BY_ALL, "--set", "train.problems_per_update=1", "--results", str(tmp_path), check=False)
    assert few.returncode != 0 and "error: train.problems_per_update: an update of 1 texts" in few.stderr


def test_mistakes_are_told(monkeypatch, tmp_path, capsys):
    words = ["run", *TYPED, "--results", str(tmp_path)]
    assert main([*words, "--shard"]) == 2
    assert "torchrun" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["list"]) == 2
    assert "only `run`" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main(words) == 2
    assert "thinking-harness[accelerate]" in capsys.readouterr().err
