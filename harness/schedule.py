"""What is made when: learners before the runs that ask them, that before which most has to come first.

Knows steps, seconds and what came of them. Knows no process, no machine and no clock: whoever makes the steps tells the time, so
that engines and simulations go by the same rules.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.grid import Cell, key_of
from harness.spec import RunSpec

TRIES = 4  # a step whose process was killed is begun again this often, less one
BACKOFF_S = 1.0  # before the second time; twice as long before each further one
ELSEWHERE_S = 2.0  # before looking again whether another process has made a step


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to make: a learner, or a run. key: its name. needs: the key of the step before it. cell: None of a learner."""

    key: str
    spec: RunSpec
    needs: str | None
    cell: Cell | None


def learner_key(spec: RunSpec) -> str:
    """The name of the step that trains a learner."""
    return f"learner-{spec.learner_fingerprint()}-s{spec.seed}"


def steps_of(cells: Sequence[Cell]) -> list[Step]:
    """All steps to these runs, each learner once; a model that is asked as it is needs none."""
    steps: dict[str, Step] = {}
    for cell in cells:
        needs = _learned(cell.spec.as_learner(), steps)
        steps[key_of(cell.spec)] = Step(key_of(cell.spec), cell.spec, needs, cell)
    return list(steps.values())


def _learned(spec: RunSpec, steps: dict[str, Step]) -> str | None:
    """The step that trains this learner, with those before it; None if there is nothing to train."""
    before = spec.pretrained()
    needs = None if before is None else _learned(before, steps)
    if spec.train.flops == 0:
        return needs
    key = learner_key(spec)
    steps.setdefault(key, Step(key, spec, needs, None))
    return key


class Schedule:
    """Which steps may begin, and what becomes of the others when one ends, fails, or is lost with its process."""

    def __init__(self, steps: Sequence[Step], expected_s: Mapping[str, float]) -> None:
        self._after: defaultdict[str, list[Step]] = defaultdict(list)
        for step in steps:
            if step.needs is not None:
                self._after[step.needs].append(step)
        self._ahead_s: dict[str, float] = {}
        for step in reversed(steps):  # what needs a step stands behind it
            behind_s = max((self._ahead_s[s.key] for s in self._after[step.key]), default=0.0)
            self._ahead_s[step.key] = expected_s.get(step.key, 0.0) + behind_s
        self._order = itertools.count()
        self._ready: list[tuple[float, int, Step]] = []
        self._later: list[tuple[float, int, Step]] = []  # by the second from which they may be tried again
        self._lost: defaultdict[str, int] = defaultdict(int)
        self._running: dict[str, Step] = {}
        self._left = {step.key for step in steps}
        for step in steps:
            if step.needs is None:
                self._put(step)

    def _put(self, step: Step) -> None:
        heapq.heappush(self._ready, (-self._ahead_s[step.key], next(self._order), step))

    def __bool__(self) -> bool:
        """Whether anything is left to be made, or under way."""
        return bool(self._left)

    def take(self, count: int, *, now_s: float) -> list[Step]:
        """Up to so many steps that may begin now; they count as under way."""
        while self._later and self._later[0][0] <= now_s:
            self._put(heapq.heappop(self._later)[2])
        taken = [heapq.heappop(self._ready)[2] for _ in range(min(count, len(self._ready)))]
        self._running |= {step.key: step for step in taken}
        return taken

    def wait_s(self, *, now_s: float) -> float | None:
        """Seconds until a step that was lost, or is made elsewhere, may be tried again; None if there is none."""
        return max(0.0, self._later[0][0] - now_s) if self._later else None

    def made(self, step: Step) -> None:
        """It is there: what needed it may begin."""
        self._end(step)
        for behind in self._after[step.key]:
            self._put(behind)

    def failed(self, step: Step) -> list[Step]:
        """It cannot be made; returns the steps that go with it, itself first."""
        self._end(step)
        gone = [step]
        for one in gone:  # grows as it goes
            behind = self._after[one.key]
            self._left -= {s.key for s in behind}
            gone += behind
        return gone

    def lost(self, step: Step, *, now_s: float) -> bool:
        """Its process was killed: it is tried again some time later. False if it was tried often enough; then it is to fail."""
        self._lost[step.key] += 1
        if self._lost[step.key] >= TRIES:
            return False
        self._put_off(step, now_s + BACKOFF_S * 2 ** (self._lost[step.key] - 1))
        return True

    def elsewhere(self, step: Step, *, now_s: float) -> None:
        """Another process is making it: others go first, and then it is looked for again, however long that takes."""
        self._put_off(step, now_s + ELSEWHERE_S)

    def _put_off(self, step: Step, until_s: float) -> None:
        del self._running[step.key]
        heapq.heappush(self._later, (until_s, next(self._order), step))

    def _end(self, step: Step) -> None:
        del self._running[step.key]
        self._left.remove(step.key)
