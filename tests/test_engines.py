"""Who makes a grid: the schedule by properties and a simulated cluster, the local engine and Ray on real runs, killed and all."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_compare import BROKEN, COMMAND, TINY, runs, tables

from harness.bench_scale import cluster_steps
from harness.cli import main
from harness.engines import Making, Outcome, drive, make_all
from harness.grid import Cell, grid_of
from harness.grid_cost import cost_of
from harness.locks import alone
from harness.ray_cluster import library
from harness.schedule import BACKOFF_S, ELSEWHERE_S, TRIES, Schedule, Step, steps_of
from harness.simulated import Simulated, simulated
from harness.spec import make_spec
from harness.suite_file import suite_of

NONE: frozenset[str] = frozenset()
SPEC = make_spec(strategy="direct", task="arithmetic")


@dataclass
class Heard:
    """What was told."""

    started_: list[str] = field(default_factory=list)
    ended_: list[Outcome] = field(default_factory=list)
    again_: list[str] = field(default_factory=list)

    def started(self, step: Step) -> None:
        self.started_.append(step.key)

    def ended(self, outcome: Outcome) -> None:
        self.ended_.append(outcome)

    def again(self, outcome: Outcome) -> None:
        self.again_.append(outcome.step.key)


def forest(needs: list[int]) -> list[Step]:
    """Steps of which the i-th needs an earlier one, or none."""
    keys = [f"step-{i}" for i in range(len(needs))]
    return [Step(keys[i], SPEC, keys[n % i] if i and n >= 0 else None, None) for i, n in enumerate(needs)]


FORESTS = st.lists(st.integers(-3, 20), min_size=1, max_size=25).map(forest)


@given(FORESTS, st.integers(1, 5), st.floats(0, 0.5), st.integers(0, 9), st.data())
def test_every_step_ends_once_and_behind_what_it_needs(steps, workers, lost, seed, data):
    """Made, or failed: by itself, with what it needed, or since it was lost too often."""
    seconds = {step.key: data.draw(st.floats(0.1, 9)) for step in steps}
    bad = data.draw(st.frozensets(st.sampled_from([step.key for step in steps]), max_size=3))
    engine, heard = Simulated(workers, seconds, lost=lost, seed=seed, bad=bad), Heard()
    drive(engine, Schedule(steps, seconds), heard)
    assert Counter(outcome.step.key for outcome in heard.ended_) == Counter(step.key for step in steps)
    reasons = {outcome.step.key: outcome.reason for outcome in heard.ended_}
    assert {key for key, reason in reasons.items() if reason is None} == set(engine.made)
    needs = {step.key: step.needs for step in steps}
    for key, reason in reasons.items():
        above = needs[key]
        if reason == "lost":
            assert heard.started_.count(key) == TRIES or reasons[above] == "lost"
        if reason == "bad":
            assert key in bad or reasons[above] == "bad"
        if above is not None and reasons[above] is not None:
            assert reason == reasons[above] and key not in heard.started_
    assert all(heard.started_.count(key) == 1 + heard.again_.count(key) for key in set(heard.started_))


@given(FORESTS, st.integers(1, 5), st.data())
def test_nobody_is_idle_while_something_could_be_made(steps, workers, data):
    """So no worse than twice the best, of which the longest chain and the mean load are bounds (Graham 1969)."""
    seconds = {step.key: data.draw(st.floats(0.1, 9)) for step in steps}
    engine = Simulated(workers, seconds)
    drive(engine, Schedule(steps, seconds), Heard())
    needs = {step.key: step.needs for step in steps}

    def chain(key: str | None) -> float:
        return 0.0 if key is None else seconds[key] + chain(needs[key])

    assert engine.clock_s <= sum(seconds.values()) / workers + max(chain(key) for key in needs) + 1e-9


def test_the_longest_way_goes_first():
    steps = forest([-1, 0, -1, -1])  # step-1 needs step-0
    seconds = {"step-0": 1.0, "step-1": 5.0, "step-2": 4.0, "step-3": 2.0}
    heard = Heard()
    drive(Simulated(1, seconds), Schedule(steps, seconds), heard)
    assert heard.started_ == ["step-0", "step-1", "step-2", "step-3"]


def test_a_lost_step_waits_longer_each_time():
    (step,) = forest([-1])
    schedule = Schedule([step], {})
    for tries in range(TRIES - 1):
        assert schedule.take(1, now_s=100.0 * tries) == [step] and schedule.lost(step, now_s=100.0 * tries)
        assert schedule.wait_s(now_s=100.0 * tries) == BACKOFF_S * 2**tries and schedule.take(1, now_s=100.0 * tries) == []
    assert schedule.take(1, now_s=1e6) == [step] and not schedule.lost(step, now_s=1e6)
    assert schedule.failed(step) == [step] and not schedule


def test_ten_thousand_steps_on_a_hundred_workers():
    """2,000 learners with 4 runs each, one try in fifty lost: within a tenth of what no schedule can beat, and in seconds."""
    steps, seconds = cluster_steps()
    begun_s = time.monotonic()
    engine = simulated(steps, seconds, workers=100, lost=0.02)
    assert time.monotonic() - begun_s < 20
    assert len(engine.made) == len(steps) == 10_000 and engine.busy_s > 1.005 * sum(seconds.values())
    assert engine.clock_s < 1.1 * engine.busy_s / 100


def test_a_forecast_waits_for_learners_as_the_workers_do():
    """One worker: all seconds in a row. Many: the longest way from a learner to its run."""
    cost = cost_of(cells_of(strategies="direct,self_consistency", seeds="0-1"))
    longest_s = max(cost.each_s[step.key] + cost.each_s.get(step.needs or "", 0.0) for step in cost.steps)
    assert cost.makespan_s(1) == pytest.approx(cost.seconds) and cost.makespan_s(99) == pytest.approx(longest_s)
    assert longest_s < cost.makespan_s(2) < cost.seconds


# Real steps


def cells_of(**fields):
    return grid_of(suite_of("arithmetic", settings=TINY | {"infer.problems": 4}, train_flops="1e7", validation=2, **fields)).cells


def test_learners_stand_before_the_runs_that_ask_them():
    cells = cells_of(strategies="direct,self_consistency", seeds="0-1")
    steps = steps_of(cells)
    places = {step.key: i for i, step in enumerate(steps)}
    assert all(step.needs is None or places[step.needs] < places[step.key] for step in steps)
    assert sum(step.cell is not None for step in steps) == len(cells) and len({step.key for step in steps}) == len(steps)
    spec = make_spec(strategy="pause_tokens", task="arithmetic", settings=TINY | {"strategy.pretraining": "pause"})
    before, learner, run = steps_of([Cell(spec, ())])
    assert (before.needs, learner.needs, run.needs) == (None, before.key, learner.key)


def test_what_is_made_elsewhere_keeps_no_worker_from_the_rest(tmp_path, monkeypatch):
    """Another process is at a learner and at the longest run: all others are made before those, which are then there."""
    monkeypatch.setattr("harness.schedule.ELSEWHERE_S", 0.2)
    cells = cells_of(strategies="direct,reasoning_tokens,self_consistency", seeds="0-1")
    steps = steps_of(cells)
    taken, run = steps[0].key, next(s for s in steps if s.cell is not None and s.needs != steps[0].key).key
    behind = {s.key for s in steps if s.needs == taken}
    held = ExitStack()
    for lock in (taken, f"run-{run}"):
        held.enter_context(alone(tmp_path, lock))
    own = Heard.again
    heard, others = Heard(), {s.key for s in steps} - {taken, run} - behind

    def again(self, outcome):
        own(self, outcome)
        if {o.step.key for o in heard.ended_} == others:
            held.close()

    monkeypatch.setattr(Heard, "again", again)
    late = threading.Timer(60, held.close)  # a worker that waited would wait for ever
    late.start()
    make_all(cells, Making(results=tmp_path, workers=1), expected_s={run: 9.0, taken: 5.0}, hearer=heard)
    late.cancel()
    ended = [o.step.key for o in heard.ended_]
    assert all(o.reason is None for o in heard.ended_) and set(ended[: len(others)]) == others and len(ended) == len(steps)
    assert set(heard.again_) == {taken, run}


def test_a_step_that_is_made_elsewhere_is_looked_for_however_long_that_takes():
    first, second = forest([-1, -1])
    schedule = Schedule([first, second], {first.key: 9.0})
    for tries in range(3 * TRIES):
        now_s = 100.0 * tries
        assert schedule.take(1, now_s=now_s) == [first]
        schedule.elsewhere(first, now_s=now_s)
        assert schedule.wait_s(now_s=now_s) == ELSEWHERE_S
    assert schedule.take(2, now_s=now_s + 0.1) == [second]
    schedule.made(second)
    assert schedule.take(2, now_s=now_s + ELSEWHERE_S) == [first]
    schedule.made(first)
    assert not schedule


@pytest.fixture
def deadly(tmp_path: Path) -> str:
    """A strategy whose asking kills the process."""
    path = tmp_path / "deadly.py"
    path.write_text(BROKEN.replace('raise RuntimeError("no idea")', "import os; os._exit(9)"))
    return str(path)


@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.slow
def test_a_step_that_always_dies_is_tried_again_and_told(engine, deadly, tmp_path, monkeypatch):
    if engine == "ray":
        pytest.importorskip("ray")
    monkeypatch.setattr("harness.schedule.BACKOFF_S", 0.05)
    cells, heard = cells_of(strategies=f"{deadly},direct", seeds="0"), Heard()
    make_all(cells, Making(results=tmp_path / "results", workers=2, engine=engine), expected_s={}, hearer=heard)
    runs = [o for o in heard.ended_ if o.step.cell is not None]
    reasons = {type(o.step.spec.strategy).__name__: o.reason for o in runs}
    assert reasons["Direct"] is None and "killed" in reasons["Broken"] and len(runs) == len(cells)
    assert set(Counter(heard.again_).values()) == {TRIES - 1}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("undisturbed")
    assert main([*COMMAND, "--workers", "2", "--results", str(results)]) == 0
    return results


@pytest.mark.slow
def test_ray_whose_workers_are_killed_makes_the_same(undisturbed: Path, tmp_path: Path):
    """Ten times a process that makes a step is killed, at random moments; none so often that it is given up."""
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "harness", *COMMAND, "--engine", "ray", "--workers", "2", "--checkpoint-s", "0"]
    with open(tmp_path.with_suffix(".txt"), "w") as said:
        process = subprocess.Popen([*command, "--results", str(tmp_path)], stdout=said, stderr=said)
    draw, killed = random.Random(7), Counter[bytes]()
    while process.poll() is None and killed.total() < 10:
        time.sleep(draw.uniform(0.2, 1.5))
        if steps := [(pid, title) for pid, title in ray_steps() if killed[title] < TRIES - 1]:
            pid, title = draw.choice(steps)
            os.kill(pid, signal.SIGKILL)
            killed[title] += 1
    assert process.wait(300) == 0, tmp_path.with_suffix(".txt").read_text()
    assert killed.total() == 10
    assert runs(tmp_path) == runs(undisturbed) and tables(tmp_path) == tables(undisturbed)


def ray_steps() -> list[tuple[int, bytes]]:
    """Processes of Ray that make a step of ours now, with its name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if re.match(rb"ray::(learner-)?[0-9a-f]{12}-s[0-9]", title):  # not Ray's own, nor those that wait
            found.append((int(folder.name), title.rstrip(b"\0 ")))
    return found


@pytest.mark.slow
def test_a_node_that_leaves_takes_its_steps_elsewhere(undisturbed: Path, tmp_path: Path):
    """Two nodes on this machine; once both are at work, the second is removed."""
    pytest.importorskip("ray")
    library()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        command = [sys.executable, "-m", "harness", *COMMAND, "--engine", "ray", "--address", cluster.address]
        with open(tmp_path.with_suffix(".txt"), "w") as said:
            process = subprocess.Popen([*command, "--results", str(tmp_path)], stdout=said, stderr=said)
        while process.poll() is None and len(ray_steps()) < 2:
            time.sleep(0.05)
        assert process.poll() is None, tmp_path.with_suffix(".txt").read_text()
        cluster.remove_node(second, allow_graceful=False)
        assert process.wait(300) == 0, tmp_path.with_suffix(".txt").read_text()
    finally:
        cluster.shutdown()
    assert runs(tmp_path) == runs(undisturbed) and tables(tmp_path) == tables(undisturbed)


def test_without_ray_it_is_said_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*COMMAND, "--engine", "ray", "--results", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "thinking-harness[ray]" in said and "--engine local" in said


def test_an_address_is_rays(tmp_path, capsys):
    assert main([*COMMAND, "--address", "auto", "--results", str(tmp_path)]) == 2
    assert "--engine ray" in capsys.readouterr().err
