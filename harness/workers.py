"""Making many runs side by side on one machine: one process a core, each run in the process that is free.

A learner is trained by whoever comes first; runs that share it wait until it is there. A run that fails is told and stops no
other. Knows cells and processes; knows no table and no screen.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.grid import Cell, key_of

PARENT_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a run. reason: why it failed, None if its record is there."""

    cell: Cell
    reason: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Making:
    """How runs are made."""

    results: Path
    device: str = "cpu"
    checkpoint_s: float = 30.0
    max_kv_bytes: int | None = None


def make_all(
    cells: Sequence[Cell],
    how: Making,
    *,
    workers: int,
    expected_s: Mapping[str, float],
    started: Callable[[Cell], None],
    done: Callable[[Done], None],
) -> None:
    """Make all runs, those that take longest first; ``started`` and ``done`` are told as it goes."""
    waiting = sorted(cells, key=lambda cell: -expected_s.get(key_of(cell.spec), 0.0))
    while waiting:
        for cell in _in_one_pool(waiting, how, workers, started, done):  # each alone, so that the one at fault is known
            if _in_one_pool([cell], how, 1, started, done):
                done(Done(cell, "its process was killed (out of memory?)", 0.0))


def _in_one_pool(
    waiting: list[Cell], how: Making, workers: int, started: Callable[[Cell], None], done: Callable[[Done], None]
) -> list[Cell]:
    """Make runs, and take them off ``waiting``, until none is left or a process dies; returns those that were under way then."""
    running: dict[Future[tuple[str | None, float]], Cell] = {}
    trained: set[str] = set()
    with _pool(workers) as pool:
        try:
            while waiting or running:
                for cell in _ready(waiting, running.values(), trained)[: workers - len(running)]:
                    running[pool.submit(_make, cell.spec.to_json(), how)] = cell
                    waiting.remove(cell)
                    started(cell)
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    reason, seconds = future.result()
                    cell = running.pop(future)
                    trained.add(cell.learner)
                    done(Done(cell, reason, seconds))
        except BrokenProcessPool:
            return list(running.values())
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
    return []


def _ready(waiting: Sequence[Cell], running: Any, trained: set[str]) -> list[Cell]:
    """Runs that may begin: nobody is just training their learner."""
    taken = {cell.learner for cell in running} - trained
    ready = []
    for cell in waiting:
        if cell.learner not in taken:
            ready.append(cell)
            taken |= {cell.learner} - trained
    return ready


def _pool(workers: int) -> ProcessPoolExecutor:
    """Processes that end when this one does, however it ends."""
    context = multiprocessing.get_context("spawn")  # threads and a device do not survive a fork
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),))


def _begin(parent: int) -> None:
    """In a worker: leave when the parent is gone, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make(spec: dict[str, Any], how: Making) -> tuple[str | None, float]:
    """In a worker: make one run; (why it failed, seconds)."""
    from harness.runs import run
    from harness.spec import from_json

    begun_s = time.monotonic()
    try:
        run(from_json(spec), results=how.results, device=how.device, checkpoint_s=how.checkpoint_s, max_kv_bytes=how.max_kv_bytes)
    except Exception as error:  # one run's fault is not the others'
        return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error), time.monotonic() - begun_s
    return None, time.monotonic() - begun_s
