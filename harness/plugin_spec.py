"""Plugins as names and settings: from what is typed or recorded to instances, and back; a setting may be a strategy itself.

Knows contracts and the registry; loads no model.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from harness import registry
from harness.settings import build, hints, to_json
from harness.strategy import Strategy
from harness.task import Task


def plugin_json(plugin: Strategy | Task, *, asked: bool = True) -> dict[str, Any]:
    """A plugin as name, version and settings; without its ask-settings if ``asked`` is False."""
    left_out = set() if asked else {f.name for f in dataclasses.fields(plugin) if f.metadata.get("when") == "ask"}
    values = {k: v for k, v in to_json(plugin).items() if k not in left_out}
    values |= {name: plugin_json(base, asked=asked) for name, base in bases_of(plugin).items() if base is not None}
    assert not {"name", "version"} & values.keys(), "a plugin's settings must not be called name or version"
    return {"name": registry.plugin_name(plugin), "version": plugin.version, **values}


def bases_of(plugin: Strategy | Task) -> dict[str, Strategy | None]:
    """The settings of a plugin that are strategies themselves, and what they are."""
    hinted = hints(type(plugin))
    fields = [f.name for f in dataclasses.fields(plugin) if Strategy in typing.get_args(hinted[f.name])]
    return {name: getattr(plugin, name) for name in fields}


def with_bases(strategy: Strategy, task: Task) -> Strategy:
    """A strategy with the bases that it leaves to the task."""
    made: dict[str, Any] = {
        name: make_strategy(type(strategy).left_open(task)[name], {}, task=task)
        for name, base in bases_of(strategy).items()
        if base is None
    }
    return dataclasses.replace(strategy, **made) if made else strategy


def make_strategy(name: str, settings: Mapping[str, Any], *, task: Task, prefix: str = "strategy") -> Strategy:
    """A strategy from its name and settings, those of its base as ``base.NAME``; a base that is not named is left to the task."""
    cls: type[Strategy] = registry.find("strategy", name)
    bases = bases_of(cls())
    below = {key: value for key, value in settings.items() if key.partition(".")[0] in bases}
    plain: Strategy = build(cls, {key: value for key, value in settings.items() if key not in below}, prefix=prefix)
    made = {}
    for field in bases:
        chosen = str(below.get(field, "none"))
        named = cls.left_open(task)[field] if chosen.lower() in ("none", "null") else chosen
        own = {key.removeprefix(f"{field}."): value for key, value in below.items() if key.startswith(f"{field}.")}
        made[field] = make_strategy(named, own, task=task, prefix=f"{prefix}.{field}")
    return dataclasses.replace(plain, **made) if made else plain


def plugin_from_json(kind: registry.Kind, spec: Mapping[str, Any], *, prefix: str, trust_plugins: bool = False) -> Any:
    """The plugin that `plugin_json` wrote; ValueError if its version has changed since. prefix: its key, for errors.

    trust_plugins: whether code that only the spec points to may be run; else that is `registry.Untrusted`.
    """
    values = dict(spec)
    cls = registry.find(kind, str(values.pop("name")), trust_plugins=trust_plugins)
    if not trust_plugins:
        check_runs_no_code(cls, values, prefix=prefix)
    if values.pop("version", None) != cls.version:
        raise ValueError(f"{prefix} {spec['name']} is at version {cls.version}, the spec was written by another")
    bases = {
        key: plugin_from_json("strategy", value, prefix=f"{prefix}.{key}", trust_plugins=trust_plugins)
        for key, value in values.items()
        if isinstance(value, dict)
    }
    return build(cls, values | bases, prefix=prefix)


def check_runs_no_code(cls: type[Any], values: Mapping[str, Any], *, prefix: str) -> None:
    """`registry.Untrusted` if a setting that may run code has another value than its default."""
    for field in dataclasses.fields(cls):
        if field.metadata.get("runs_code") and values.get(field.name, field.default) != field.default:
            raise registry.Untrusted(
                f"{prefix}.{field.name}={values[field.name]!r} may run code and is named by a record, not by you, so it is not "
                "used; read what it names, then add --trust-plugins (in Python: trust_plugins=True; in lm-eval: --model_args "
                "..,trust_plugins=true)"
            )
