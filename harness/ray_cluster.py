"""The engine `ray`: steps as tasks of a Ray cluster, which may be this machine alone or many that share the results folder.

A step declares what it takes (threads, a share of a GPU, memory), and Ray finds it a place. Ray retries nothing: what is lost is
told, and the schedule decides. Knows Ray's tasks and resources; knows no table and no screen.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from typing import Any

from harness.engines import KILLED, Make, Making, Outcome
from harness.schedule import Step

STEP_BYTES = 1_000_000_000  # what a process with torch and a small model holds, roughly, beside keys and values
POLL_S = 1.0  # between looks at a cluster that has no place at all
RESOURCES_S = 1.0  # for so long what a cluster has is taken for known


def library() -> Any:
    """Ray; ValueError says how to get it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # a busy machine takes longer than Ray expects
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ValueError(
            "--engine ray: Ray is not installed; pip install 'thinking-harness[ray]', or use --engine local"
        ) from None


class Cluster:
    """As many steps at once as the cluster has cores for, and no more than were asked for; see `Engine`."""

    def __init__(self, how: Making, make: Make) -> None:
        self._ray, self._how, self._make = library(), how, make
        self._running: dict[Any, Step] = {}
        self._places, self._seen_s = 0, -RESOURCES_S

    def __enter__(self) -> Cluster:
        own = {} if self._how.address else {"num_cpus": self._own_cores(), "include_dashboard": False}
        try:
            self._ray.init(address=self._how.address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
        except Exception as error:  # Ray raises plain ones
            address = self._how.address
            where = f"--address: no Ray cluster at {address!r}" if address else "--engine ray: it does not start"
            raise ValueError(f"{where}: {str(error).splitlines()[0]}") from None
        self._task = self._ray.remote(self._make)
        return self

    def __exit__(self, *error: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()

    def _own_cores(self) -> int:
        return (self._how.workers or os.cpu_count() or 1) * self._how.threads

    def now_s(self) -> float:
        """Seconds of this machine."""
        return time.monotonic()

    def free(self) -> int:
        """What the cluster has now, since nodes come and go, less what is under way."""
        if self.now_s() - self._seen_s >= RESOURCES_S:
            self._places, self._seen_s = int(self._ray.cluster_resources().get("CPU", 0)) // self._how.threads, self.now_s()
        return max(0, min(self._how.workers or self._places, self._places) - len(self._running))

    def start(self, step: Step) -> None:
        """Hand a step to the cluster."""
        memory = STEP_BYTES + (self._how.max_kv_bytes or 0)
        gpus = self._how.gpus if self._how.device.startswith("cuda") else 0
        task = self._task.options(num_cpus=step.spec.threads, num_gpus=gpus, memory=memory, max_retries=0, name=step.key)
        self._running[task.remote(step.spec.to_json(), step.cell is not None, self._how)] = step

    def wait(self, most_s: float | None) -> list[Outcome]:
        """Steps that ended."""
        if not self._running:
            time.sleep(POLL_S if most_s is None else min(POLL_S, most_s))
            return []
        some, _ = self._ray.wait(list(self._running), num_returns=1, timeout=most_s)
        ended, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0) if some else ([], [])
        return [self._outcome(reference) for reference in ended]

    def _outcome(self, reference: Any) -> Outcome:
        step, errors = self._running.pop(reference), self._ray.exceptions
        try:
            return Outcome(step, *self._ray.get(reference))
        except errors.RayTaskError as error:  # its own fault: it was not begun, or its answer could not be sent
            return Outcome(step, str(error).strip().splitlines()[-1], 0.0)
        except errors.RayError:
            return Outcome(step, KILLED, 0.0, lost=True)
