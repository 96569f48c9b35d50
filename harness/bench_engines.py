"""How well grids use their workers: two against one on real runs, and what thousands of steps that do nothing take.

Wall seconds, since waiting is what an engine is there to avoid; so this needs two cores with nobody else at them. Workloads for
`harness.bench`; an engine that is not installed is not measured. Knows engines and grids; knows no table.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from harness.bench_turns import result
from harness.defaults import default
from harness.engines import Make, Making, Name, Outcome, drive, engine_of, make_step
from harness.grid import Cell
from harness.records import run_folder
from harness.schedule import Schedule, Step, steps_of
from harness.spec import make_spec

RUNS, NOTHINGS = 16, 5000
RUN_FLOPS = 5e10  # about 5 s of training: a process that begins takes as long to load its libraries
NOTHINGS_TARGET_S, START_TARGET_S, STEP_TARGET_S, MEMORY_TARGET_BYTES = 60.0, 1.0, 1.0, 50_000_000
TARGETS: dict[Name, float] = {"local": 1.8, "ray": 1.5}  # Ray's own processes share the cores
BYTES_OF_MAXRSS = 1024


class _Summed:
    """Adds up what steps took; one that fails is an error."""

    def __init__(self) -> None:
        self.own_s = 0.0

    def started(self, step: Step) -> None:
        """Nothing."""

    def again(self, outcome: Outcome) -> None:
        """Nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Its own seconds."""
        if outcome.reason is not None:
            raise RuntimeError(f"bench: {outcome.step.key}: {outcome.reason}")
        self.own_s += outcome.seconds


def nothing(spec: dict[str, Any], is_run: bool, how: Making) -> tuple[str | None, float]:
    """A step that does nothing."""
    return None, 0.0


def engine_measures() -> Iterator[dict[str, Any]]:
    """Of each engine that is installed."""
    engines: tuple[Name, ...] = get_args(Name)
    for engine in engines:
        if engine == "local" or find_spec(engine) is not None:
            yield from _of(engine)


def _of(engine: Name) -> Iterator[dict[str, Any]]:
    cells = [Cell(_small(seed), ()) for seed in range(RUNS)]
    seconds, written = {}, {}
    with tempfile.TemporaryDirectory() as folder:  # libraries are loaded once a command, however many the workers
        _made(Making(results=Path(folder), engine=engine, workers=1), [Step("nothing", _small(0), None, None)], nothing)
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            how = Making(results=Path(folder), engine=engine, workers=workers)
            seconds[workers] = _made(how, steps_of(cells))
            written[workers] = [(run_folder(how.results, c.spec) / "run.json").read_bytes() for c in cells]
            within_s = seconds[workers]["whole"] - seconds[workers]["start"]
            seconds[workers]["overhead"] = (within_s * workers - seconds[workers]["steps"]) / RUNS
    if written[1] != written[2]:
        raise RuntimeError(f"bench: {engine}: one worker and two do not write the same runs")
    one, two = (seconds[w]["whole"] for w in (1, 2))
    facts = {f"{k}_s_of_{w}": v for w, some in seconds.items() for k, v in some.items()}
    yield result(f"{engine}: {RUNS} runs, 2 workers", one / two, TARGETS[engine], facts)
    yield result(f"{engine}: s of engine a run", seconds[2]["overhead"], STEP_TARGET_S, facts, at_most=True)
    if engine == "local":
        yield result(f"{engine}: s to start", seconds[2]["start"], START_TARGET_S, facts, at_most=True)
    yield from _nothings(engine)


def _small(seed: int) -> Any:
    settings = {"model.size": "xs", "train.flops": RUN_FLOPS, "infer.problems": 500}
    return make_spec(strategy=default("baseline"), task="arithmetic", settings=settings, seed=seed)


def _made(how: Making, steps: list[Step], make: Make = make_step) -> dict[str, float]:
    """Seconds: of the whole, until the engine can take steps, and that the steps themselves took."""
    told, begun_s = _Summed(), time.monotonic()
    with engine_of(how, make) as engine:
        started_s = time.monotonic()
        drive(engine, Schedule(steps, {}), told)
        return {"whole": time.monotonic() - begun_s, "start": started_s - begun_s, "steps": told.own_s}


def _nothings(engine: Name) -> Iterator[dict[str, Any]]:
    """Thousands of steps that do nothing: how long they take, and what they leave in memory."""
    spec = _small(0)
    steps = [Step(f"nothing-{i}", spec, None, None) for i in range(NOTHINGS)]
    with tempfile.TemporaryDirectory() as folder:
        begun_s = time.monotonic()
        with engine_of(Making(results=Path(folder), engine=engine, workers=2), nothing) as made:
            drive(made, Schedule(steps[: NOTHINGS // 10], {}), _Summed())
            before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
            drive(made, Schedule(steps[NOTHINGS // 10 :], {}), _Summed())
            more_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS - before_bytes
        took_s = time.monotonic() - begun_s
    facts = {"more_bytes": more_bytes}
    yield result(f"{engine}: s of {NOTHINGS} steps that do nothing", took_s, NOTHINGS_TARGET_S, facts, at_most=True)
    yield result(f"{engine}: MB more after the first tenth", more_bytes / 1e6, MEMORY_TARGET_BYTES / 1e6, facts, at_most=True)
