"""Who makes the steps of a grid: processes of this machine (`local`), or a Ray cluster (`ray`). One loop drives both.

An engine starts steps, says how many more it can take, and tells what came of them; what is made when, what is tried again and
what fails with what is the schedule's. Knows no table and no screen.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from harness.grid import Cell
from harness.refusal import is_refusal
from harness.schedule import Schedule, Step, steps_of
from harness.settings import unknown
from harness.visible import to_stderr

Name = Literal["local", "ray"]
KILLED = "its process was killed (out of memory?)"
ELSEWHERE = "another process is making it"  # another compare on the same results, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How runs are made.

    url: where results lie, if elsewhere; ``results`` is then its scratch folder here. workers: steps at once at most, None for as
    many as there are cores. address: of a Ray cluster, None for one of this machine alone. gpus: how much of a GPU a step takes.
    """

    results: Path
    url: str | None = None
    device: str = "cpu"
    threads: int = 1
    checkpoint_s: float = 30.0
    max_kv_bytes: int | None = None
    engine: Name = "local"
    workers: int | None = None
    address: str | None = None
    gpus: float = 1.0

    def __post_init__(self) -> None:
        if self.address is not None and self.engine != "ray":
            raise ValueError("--address: is that of a Ray cluster; add --engine ray")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step. reason: why it is not there, None if it is. lost: its process went, and it may be tried again."""

    step: Step
    reason: str | None
    seconds: float
    lost: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether somebody else is at it, so that others may be made meanwhile."""
        return self.reason == ELSEWHERE


Make = Callable[[dict[str, Any], bool, Making], tuple[str | None, float]]  # spec, whether a run, how -> why not, seconds


class Hearer(Protocol):
    """Who is told how it goes on."""

    def started(self, step: Step) -> None:
        """A step has begun."""

    def ended(self, outcome: Outcome) -> None:
        """A step is made, or will not be."""

    def again(self, outcome: Outcome) -> None:
        """A step was lost, or is made elsewhere, and will be tried again."""


class Engine(Protocol):
    """Makes steps side by side. As a context it stops what is under way when it is left, and lets go of all that it holds."""

    def __enter__(self) -> Engine: ...
    def __exit__(self, *error: object) -> None: ...
    def now_s(self) -> float:
        """Its clock."""

    def free(self) -> int:
        """How many more steps it can take now."""

    def start(self, step: Step) -> None:
        """Begin a step."""

    def wait(self, most_s: float | None) -> list[Outcome]:
        """Wait until a step ends, for so many seconds at most if given, and tell of those that ended."""


def make_all(cells: Sequence[Cell], how: Making, *, expected_s: Mapping[str, float], hearer: Hearer) -> None:
    """Make all runs and the learners that they ask; a run that fails stops no other."""
    with engine_of(how, make_step) as engine:
        drive(engine, Schedule(steps_of(cells), expected_s), hearer)


def drive(engine: Engine, schedule: Schedule, hearer: Hearer) -> None:
    """Hand an engine the steps of a schedule until none is left."""
    while schedule:
        for step in schedule.take(engine.free(), now_s=engine.now_s()):
            engine.start(step)
            hearer.started(step)
        for outcome in engine.wait(schedule.wait_s(now_s=engine.now_s())):
            _settle(outcome, schedule, hearer, engine.now_s())


def _settle(outcome: Outcome, schedule: Schedule, hearer: Hearer, now_s: float) -> None:
    if outcome.reason is None:
        schedule.made(outcome.step)
        hearer.ended(outcome)
    elif outcome.elsewhere:
        schedule.elsewhere(outcome.step, now_s=now_s)
        hearer.again(outcome)
    elif outcome.lost and schedule.lost(outcome.step, now_s=now_s):
        hearer.again(outcome)
    else:
        for step in schedule.failed(outcome.step):
            hearer.ended(Outcome(step, outcome.reason, outcome.seconds if step is outcome.step else 0.0))


def engine_of(how: Making, make: Make) -> Engine:
    """The engine of that name, which calls ``make`` in its processes; imports what it needs."""
    if how.engine == "local":
        from harness.workers import Workers

        return Workers(how, make)
    if how.engine == "ray":
        from harness.ray_cluster import Cluster

        return Cluster(how, make)
    raise unknown("engine", how.engine, get_args(Name))


def make_step(spec: dict[str, Any], is_run: bool, how: Making) -> tuple[str | None, float]:
    """In a worker: train a learner or make a run; (why it failed, seconds)."""
    from harness.learners import Means, Silent, learn
    from harness.locks import Busy
    from harness.remote import scratch_of, synced
    from harness.runs import run
    from harness.spec import from_json

    begun_s, made = time.monotonic(), from_json(spec, trust_plugins=True)  # a suite's own
    results = how.results if how.url is None else scratch_of(how.url)  # another machine may have another one
    try:
        with synced(how.url, made):
            if is_run:
                run(
                    made, results=results, wait=False,
                    device=how.device, checkpoint_s=how.checkpoint_s, max_kv_bytes=how.max_kv_bytes,
                )  # fmt: skip
            else:
                means = Means(device=how.device, checkpoint_s=how.checkpoint_s)
                learn(made, results=results, means=means, reporter=Silent(), wait=False)
    except Busy:
        return ELSEWHERE, time.monotonic() - begun_s
    except Exception as error:  # one step's fault is not the others'
        return _reason(error), time.monotonic() - begun_s
    return None, time.monotonic() - begun_s


def _reason(error: Exception) -> str:
    """Say why a step failed; a fault that is no refusal shows its traceback on stderr too."""
    if isinstance(error, ValueError) and is_refusal(error):
        return str(error)
    for line in "".join(traceback.format_exception(error)).splitlines():
        to_stderr(line)
    return f"{type(error).__name__}: {error}"
