"""`compare` on real runs: interrupted, killed, side by side, with a run that fails; and the locks that keep makers apart."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import compare, locks, records
from harness.cli import main
from harness.learners import Means, Silent, learn
from harness.locks import Busy, alone
from harness.runs import run
from harness.spec import make_spec

TINY = {"model.layers": 1, "model.width": 16, "model.heads": 2, "train.problems_per_update": 8}
TYPED = [f"--set={key}={value}" for key, value in TINY.items()]
COMPARE = ["compare", "--task", "arithmetic", "--strategies", "direct,reasoning_tokens,self_consistency", "--seeds", "0-1",
           "--train-flops", "2e7", "--problems", "6", "--validation", "4"]  # fmt: skip
COMMAND = [*COMPARE, *TYPED]
BROKEN = '''
"""broken: fails when it is asked."""
from dataclasses import dataclass
from harness.strategy import Strategy

@dataclass(frozen=True, kw_only=True)
class Broken(Strategy):
    """Fails when it is asked."""
    source = "tests"
    def solve(self, question):
        raise RuntimeError("no idea")
        yield
'''


def tables(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((results / "tables").iterdir()) if "timing" not in path.name}


def runs(results: Path) -> dict[str, bytes]:
    """All that is not timing, of finished runs and learners; locks and half-written files are none of it."""
    kept = (p for p in results.rglob("*") if p.is_file() and "timing" not in p.name)
    return {str(p.relative_to(results)): p.read_bytes() for p in kept}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("undisturbed")
    assert main([*COMMAND, "--workers", "1", "--results", str(results)]) == 0
    return results


def test_a_complete_grid_makes_nothing_again(undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    before = runs(undisturbed)
    monkeypatch.setattr(compare, "make_all", lambda *_, **__: pytest.fail("nothing is to be made"))
    assert main([*COMMAND, "--results", str(undisturbed)]) == 0
    assert runs(undisturbed) == before and not (undisturbed / "locks").exists()


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same(undisturbed: Path, tmp_path: Path):
    assert main([*COMMAND, "--workers", "3", "--results", str(tmp_path)]) == 0
    assert runs(tmp_path) == runs(undisturbed)


def started(results: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", *COMMAND, "--workers", "2", "--checkpoint-s", "0", "--results", str(results)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def killed(results: Path, after_s: float) -> bool:
    """Start the comparison and kill it, its workers too, some time later; whether it had not ended by itself."""
    process = started(results)
    try:
        process.wait(after_s)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def cut_off(results: Path, times: int, longest_s: float) -> int:
    draw = random.Random(0)
    return sum(killed(results, draw.uniform(3, longest_s)) for _ in range(times))


@pytest.mark.slow
def test_killed_at_20_moments_it_writes_the_same(undisturbed: Path, tmp_path: Path):
    results = tmp_path / "results"
    assert cut_off(results, 20, 9) >= 5
    assert main([*COMMAND, "--workers", "2", "--results", str(results)]) == 0
    assert runs(results) == runs(undisturbed)


@pytest.mark.slow
def test_two_comparisons_at_once_share_their_work(undisturbed: Path, tmp_path: Path):
    both = [started(tmp_path), started(tmp_path)]
    assert [process.wait(240) for process in both] == [0, 0]
    assert runs(tmp_path) == runs(undisturbed)


@pytest.mark.slow
def test_a_run_that_fails_stops_no_other(undisturbed: Path, tmp_path: Path, capsys):
    (tmp_path / "broken.py").write_text(BROKEN)
    words = [str(tmp_path / "broken.py") if w == "direct,reasoning_tokens,self_consistency" else w for w in COMMAND]
    words[words.index(str(tmp_path / "broken.py"))] += ",reasoning_tokens"
    results = tmp_path / "results"
    assert main([*words, "--workers", "1", "--results", str(results)]) == 1
    said = capsys.readouterr()
    assert "RuntimeError: no idea" in said.out and "RuntimeError: no idea" in said.err
    assert "no idea" in (results / "tables" / "arithmetic.md").read_text()
    assert len(list((results / "runs" / "arithmetic" / "reasoning_tokens").glob("*/run.json"))) == 2
    assert main([*words, "--workers", "1", "--results", str(results)]) == 1  # and is tried again


# Locks


def test_whoever_finds_a_run_taken_leaves_its_folder_alone(tmp_path: Path):
    """It is still empty when its maker has just begun."""
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY)
    folder = records.run_folder(tmp_path, spec)
    with alone(tmp_path, f"run-{folder.name}"):
        folder.mkdir(parents=True)
        with pytest.raises(Busy):
            run(spec, results=tmp_path, wait=False)
        with pytest.raises(Busy), alone(tmp_path, f"run-{folder.name}", wait=False):
            pass
        assert folder.is_dir()
    weights = records.weights_folder(tmp_path, spec)
    with alone(tmp_path, f"learner-{weights.name}"):
        weights.mkdir(parents=True)
        with pytest.raises(Busy):
            learn(spec, results=tmp_path, means=Means(), reporter=Silent(), wait=False)
        assert weights.is_dir()
    with alone(tmp_path / "new", "a"):
        pass
    assert not (tmp_path / "new").exists()


def hold(results: Path, name: str, held: object, let_go: object) -> None:
    with alone(results, name):
        held.set()
        let_go.wait(60)


def test_a_lock_keeps_others_out_until_its_holder_ends_however_it_ends(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, "run-a", held, let_go))
    other.start()
    assert held.wait(60)
    with pytest.raises(Busy), alone(tmp_path, "run-a", wait=False):
        pass
    with alone(tmp_path, "run-b", wait=False):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert (tmp_path / "locks" / "run-a.lock").exists()  # what it left is taken over
    begun_s = time.monotonic()
    with alone(tmp_path, "run-a"):
        assert time.monotonic() - begun_s < 10 * locks.POLL_S
    assert not (tmp_path / "locks").exists()


def test_waiting_ends_when_the_holder_lets_go(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, "run-a", held, let_go))
    other.start()
    assert held.wait(60)
    let_go.set()
    with alone(tmp_path, "run-a"):
        assert (tmp_path / "locks" / "run-a.lock").exists()
    other.join()
    assert other.exitcode == 0 and not (tmp_path / "locks").exists()
