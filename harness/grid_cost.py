"""What a grid will cost: training FLOPs, seconds, bytes. Runs one update a learner, to tell how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.alphabet import Alphabet
from harness.askable import check_before_training
from harness.grid import Cell
from harness.plugin_spec import bases_of
from harness.runs import Plan, plan
from harness.schedule import Step, steps_of
from harness.simulated import simulated
from harness.spec import RunSpec
from harness.strategy import Strategy

# Rates of asking against that of training's FLOPs, roughly (measured at xs and s): answers are written token by token, documents
# scored in whole windows.
ASKED_SHARE, SCORED_SHARE = 0.05, 0.35
UNTRAINED_FLOPS_PER_S = 1e10  # of asking a model as it is: one of 135 M weights on one core, in lines of a batch


@dataclass(frozen=True, slots=True)
class Cost:
    """What a grid costs, as foreseen: learners to be trained, runs to be asked, FLOPs, seconds of one worker, bytes."""

    learners: int
    runs: int
    training_flops: float
    seconds: float
    disk_bytes: float
    steps: tuple[Step, ...]
    each_s: Mapping[str, float]  # by step

    def makespan_s(self, workers: int) -> float:
        """How long so many workers take, who must wait for learners now and then."""
        return simulated(self.steps, self.each_s, workers=workers).clock_s


def cost_of(cells: Sequence[Cell]) -> Cost:
    """Foresee the cost of runs by one update of each learner, whatever its seed."""
    plans: dict[str, Plan] = {}
    steps, flops, disk = steps_of(cells), 0.0, 0.0
    each: dict[str, float] = {}
    looked_at, alphabets = set[str](), dict[str, Alphabet]()
    for step in steps:
        fingerprint = step.spec.learner_fingerprint()
        if fingerprint not in plans:
            plans[fingerprint] = plan(step.spec.as_learner())
        made = plans[fingerprint]
        if step.cell is None:
            flops += made.training_flops
            each[step.key] = made.seconds - (made.pretraining.seconds if made.pretraining else 0.0)
        else:
            if step.spec.fingerprint() not in looked_at:
                looked_at.add(step.spec.fingerprint())
                check_before_training(step.spec, alphabets)
            disk += made.disk_bytes
            each[step.key] = _asked_s(step.spec, made)
    learners = sum(step.cell is None for step in steps)
    return Cost(learners, len(cells), flops, sum(each.values()), disk, tuple(steps), each)


def _asked_s(spec: RunSpec, made: Plan) -> float:
    """About how long all problems take, each attempt by itself."""
    if made.seconds and made.updates:
        share = SCORED_SHARE if spec.task.kind == "documents" else ASKED_SHARE
        rate = share * made.flops_per_update * made.updates / made.seconds
    else:
        rate = UNTRAINED_FLOPS_PER_S
    return _attempts(spec.strategy) * made.asked_flops / rate


def _attempts(strategy: Strategy) -> int:
    """How many attempts a search makes, roughly."""
    if not any(bases_of(strategy).values()):
        return 1
    rows = getattr(strategy, "rows", None)
    return max(1, int(rows())) if callable(rows) else 1
