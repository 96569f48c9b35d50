"""The value model that searches ask for, in one place: what is the same wherever a state is valued. Knows numbers alone."""

from __future__ import annotations

from harness.search_wants import ValueSpec

TEMPERATURE, HIDDEN, EPOCHS = 1.0, 64, 2  # more epochs learn the problems by heart (measured on countdown)


def value_spec(problems: int, rollouts: int) -> ValueSpec:
    """Fitted on so many problems, each state rated by so many rollouts."""
    return ValueSpec(problems, rollouts, TEMPERATURE, HIDDEN, EPOCHS)
