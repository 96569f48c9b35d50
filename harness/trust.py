"""Names of plugins in a declaration that stands beside tables: it came with the records, so it points to code as they do.

Names what a suite's block would import before anything of it is made. Knows blocks, names and settings; imports no foreign code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness import registry
from harness.plugin_spec import check_runs_no_code
from harness.suite import Block


def check_block(block: Block) -> None:
    """`registry.Untrusted` if making a block's runs would run code to which only its declaration points."""
    own = {key: [value] for key, value in block.settings.items()}
    _check_task(block.task, own, prefix="task")
    for arm in block.arms:
        registry.find("strategy", arm.strategy, trust_plugins=False)
        settings = own | {key: [value] for key, value in arm.settings.items()}
        for some in (own, settings, {key: list(values) for key, values in arm.points.items()}):
            _check_task(block.task, some, prefix="task")
            _check_settings(some)


def _check_settings(settings: Mapping[str, list[Any]]) -> None:
    """Settings that name strategies, such as a base, and the phase before."""
    for key, values in settings.items():
        group, _, name = key.partition(".")
        for value in map(str, values):
            if key == "pretraining.task":
                _check_task(value, settings, prefix="pretraining.task")
            elif (group == "strategy" or name.startswith("strategy")) and not registry.is_trusted(value):
                registry.find("strategy", value, trust_plugins=False)


def _check_task(text: str, settings: Mapping[str, list[Any]], *, prefix: str) -> None:
    """A task as it is typed, and the values that its settings may take."""
    name, typed = registry.typed("task", text)
    cls = registry.find("task", name, trust_plugins=False)
    for values in (typed, *_each(settings, prefix)):
        check_runs_no_code(cls, values, prefix=prefix)


def _each(settings: Mapping[str, list[Any]], prefix: str) -> Iterator[dict[str, Any]]:
    """The settings below a prefix, one value at a time."""
    for key, values in settings.items():
        if key.startswith(f"{prefix}."):
            yield from ({key.removeprefix(f"{prefix}."): value} for value in values)
