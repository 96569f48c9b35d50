"""The engine `local`: one process for each step that is under way, as many as there are cores; they are kept from step to step.

Each has a pool of its own, so that when one is killed it is known whose step it was. Knows processes; no table and no screen.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from harness.engines import KILLED, Make, Making, Outcome
from harness.schedule import Step

# What every step imports sooner or later, with all that it imports. Not pandas: a thread of its allocator would be forked too.
LOADED = ("harness.fork_server", "harness.runs", "harness.values", "scipy.stats", "transformers.models.gpt2.modeling_gpt2")


class Workers:
    """Processes of this machine; see `Engine`."""

    def __init__(self, how: Making, make: Make) -> None:
        self._how, self._make, self._count = how, make, how.workers or os.cpu_count() or 1
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[Future[tuple[str | None, float]], tuple[Step, ProcessPoolExecutor]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for _, process in self._running.values():
            for running in list((process._processes or {}).values()):
                running.terminate()
        for process in [*self._idle, *(process for _, process in self._running.values())]:
            process.shutdown()

    def now_s(self) -> float:
        """Seconds of this machine."""
        return time.monotonic()

    def free(self) -> int:
        """Processes that do nothing, or are yet to be begun."""
        return self._count - len(self._running)

    def start(self, step: Step) -> None:
        """Begin a step in a process that is free, or in a new one."""
        process = self._idle.pop() if self._idle else one_process()
        self._running[process.submit(self._make, step.spec.to_json(), step.cell is not None, self._how)] = step, process

    def wait(self, most_s: float | None) -> list[Outcome]:
        """Steps that ended."""
        if not self._running:
            time.sleep(most_s or 0.0)
        return [self._outcome(future) for future in wait(self._running, timeout=most_s, return_when=FIRST_COMPLETED).done]

    def _outcome(self, future: Future[tuple[str | None, float]]) -> Outcome:
        step, process = self._running.pop(future)
        try:
            outcome = Outcome(step, *future.result())
        except BrokenProcessPool:
            process.shutdown()
            return Outcome(step, KILLED, 0.0, lost=True)
        self._idle.append(process)
        return outcome


def one_process() -> ProcessPoolExecutor:
    """A process that ends when this one does, however it ends."""
    # Threads and a device do not survive a fork of this process; a server that has only loaded libraries has none, and libraries
    # take as long to load as many runs take.
    served = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if served else "spawn")
    context.set_forkserver_preload(list(LOADED))
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin)


def _begin() -> None:
    """In a worker: leave when the comparison's process is gone, and leave Ctrl-C to it.

    Workers and fork server all hold copies of the server's pipe: none would find it closed while another one waits for the same.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
