"""An engine on paper: its steps take the seconds that are told, and its clock jumps from one end to the next.

For forecasts, and for seeing how the schedule fares with more workers than are at hand. Steps may be lost at random, or fail.
Makes nothing.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Collection, Mapping, Sequence

from harness.engines import Outcome, drive
from harness.schedule import Schedule, Step


class Simulated:
    """So many workers. lost: how likely a try is lost, at a random moment of its seconds. bad: keys of steps that always fail.

    clock_s: now; busy_s: what all workers together have worked, lost tries included; made: keys, in the order of their ends.
    """

    def __init__(
        self,
        workers: int,
        seconds: Mapping[str, float],
        *,
        lost: float = 0.0,
        seed: int = 0,
        bad: Collection[str] = (),
    ) -> None:
        self._workers, self._seconds, self._lost, self._bad = workers, seconds, lost, frozenset(bad)
        self.clock_s, self.busy_s = 0.0, 0.0
        self.made: dict[str, None] = {}
        self._running: list[tuple[float, int, Step, bool]] = []
        self._draw, self._count = random.Random(seed), 0

    def __enter__(self) -> Simulated:
        return self

    def __exit__(self, *error: object) -> None:
        self._running.clear()

    def now_s(self) -> float:
        """Its clock."""
        return self.clock_s

    def free(self) -> int:
        """How many more steps it can take now."""
        return self._workers - len(self._running)

    def start(self, step: Step) -> None:
        """Begin a step, whose needs are made."""
        assert step.needs is None or step.needs in self.made, f"{step.key} begins before {step.needs}"
        lost = self._draw.random() < self._lost
        seconds = self._seconds[step.key] * (self._draw.random() if lost else 1.0)
        self._count += 1
        self.busy_s += seconds
        heapq.heappush(self._running, (self.clock_s + seconds, self._count, step, lost))

    def wait(self, most_s: float | None) -> list[Outcome]:
        """Let the clock jump to the next end, or so many seconds on if that is sooner."""
        if not self._running or (most_s is not None and self._running[0][0] > self.clock_s + most_s):
            assert most_s is not None, "nothing is under way and nothing will be"
            self.clock_s += most_s
            return []
        self.clock_s, _, step, lost = heapq.heappop(self._running)
        if lost:
            return [Outcome(step, "lost", 0.0, lost=True)]
        if step.key in self._bad:
            return [Outcome(step, "bad", 0.0)]
        self.made[step.key] = None
        return [Outcome(step, None, 0.0)]


class _Deaf:
    """Hears nothing."""

    def started(self, step: Step) -> None:
        pass

    def ended(self, outcome: Outcome) -> None:
        pass

    def again(self, outcome: Outcome) -> None:
        pass


def simulated(steps: Sequence[Step], seconds: Mapping[str, float], *, workers: int, lost: float = 0.0) -> Simulated:
    """All steps made on paper, by the same loop and schedule as on any engine; its clock says how long they take."""
    engine = Simulated(workers, seconds, lost=lost)
    drive(engine, Schedule(steps, seconds), _Deaf())
    return engine
