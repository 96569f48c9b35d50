"""The training budget of a run, and the default one of its task. Knows records and tasks; runs nothing."""

from __future__ import annotations

import json
from functools import lru_cache

from harness.plugin_spec import plugin_from_json
from harness.records import Record
from harness.remedies import Budget
from harness.spec import canonical, defaults_of


def budget_of(record: Record, flops: float | None = None) -> Budget:
    """A record's training budget, or the given one, with the default of its task."""
    own = float(record["spec"]["train"]["flops"]) if flops is None else flops
    return Budget(flops=own, default_flops=_default_flops(canonical(record["spec"]["task"])))


@lru_cache(maxsize=64)
def _default_flops(task: str) -> float | None:
    """The default training budget of a task in its JSON form; None where that is not there, or at another version."""
    try:
        made = plugin_from_json("task", json.loads(task), prefix="task")
    except ValueError:
        return None
    return float(defaults_of(made)["train"]["flops"])
