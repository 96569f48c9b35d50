"""The training budget of a run, and the default one of its task. Knows records and tasks; runs nothing."""

from __future__ import annotations

from harness.plugin_spec import plugin_from_json
from harness.records import Record
from harness.remedies import Budget
from harness.spec import defaults_of


def budget_of(record: Record, flops: float | None = None) -> Budget:
    """A record's training budget, or the given one, with the default of its task."""
    own = float(record["spec"]["train"]["flops"]) if flops is None else flops
    return Budget(flops=own, default_flops=_default_flops(record))


def _default_flops(record: Record) -> float | None:
    """The default training budget of a record's task; None where the task is not there, or at another version."""
    try:
        made = plugin_from_json("task", record["spec"]["task"], prefix="task")
    except ValueError:
        return None
    return float(defaults_of(made)["train"]["flops"])
