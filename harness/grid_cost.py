"""What a grid will cost: training FLOPs, seconds, bytes. Runs one update a learner, to tell how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.grid import Cell, key_of
from harness.plugin_spec import bases_of
from harness.runs import Plan, plan
from harness.spec import RunSpec
from harness.strategy import Strategy

# Rates of asking against that of training's FLOPs, roughly (measured at xs and s): answers are written token by token, documents
# scored in whole windows.
ASKED_SHARE, SCORED_SHARE = 0.05, 0.35


@dataclass(frozen=True, slots=True)
class Cost:
    """What a grid costs, as foreseen: learners to be trained, runs to be asked, FLOPs, seconds of one worker, bytes."""

    learners: int
    runs: int
    training_flops: float
    seconds: float
    disk_bytes: float
    each_s: Mapping[str, float]  # by run, `key_of`


def cost_of(cells: Sequence[Cell]) -> Cost:
    """Foresee the cost of runs by one update of each learner, whatever its seed; pretraining once for all who share it."""
    plans: dict[str, Plan] = {}
    seen: set[str] = set()
    flops = seconds = disk = 0.0
    each: dict[str, float] = {}
    for cell in cells:
        spec = cell.spec
        fingerprint = spec.learner_fingerprint()
        if fingerprint not in plans:
            plans[fingerprint] = plan(spec.as_learner())
        made = plans[fingerprint]
        asked_s = _asked_s(spec, made)
        each[key_of(spec)] = asked_s
        if cell.learner not in seen:
            seen.add(cell.learner)
            flops += made.training_flops
            before = spec.pretrained()
            shared = before is not None and f"{before.learner_fingerprint()}-s{spec.seed}" in seen
            if before is not None:
                seen.add(f"{before.learner_fingerprint()}-s{spec.seed}")
                flops += 0 if shared or made.pretraining is None else made.pretraining.training_flops
            train_s = made.seconds - (made.pretraining.seconds if shared and made.pretraining else 0.0)
            each[key_of(spec)] += train_s
            seconds += train_s
        seconds += asked_s
        disk += made.disk_bytes
    return Cost(len(seen), len(cells), flops, seconds, disk, each)


def _asked_s(spec: RunSpec, made: Plan) -> float:
    """About how long all problems take, each attempt by itself."""
    rate = made.flops_per_update * made.updates / made.seconds if made.seconds and made.updates else 1e10
    share = SCORED_SHARE if spec.task.kind == "documents" else ASKED_SHARE
    return _attempts(spec.strategy) * made.asked_flops / (share * rate)


def _attempts(strategy: Strategy) -> int:
    """How many attempts a search makes, roughly."""
    if not any(bases_of(strategy).values()):
        return 1
    rows = getattr(strategy, "rows", None)
    return max(1, int(rows())) if callable(rows) else 1
