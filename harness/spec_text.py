"""Specs as people type them: the settings that differ from the defaults, and the command that makes a run.

Knows specs; reads and writes nothing.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from typing import Any

from harness import registry
from harness.plugin_spec import make_strategy, plugin_json
from harness.settings import to_json
from harness.spec import RunSpec, defaults_of, phase_json


def changed_settings(spec: RunSpec) -> dict[str, Any]:
    """The dotted settings that make this spec from its plugins' names: those that differ from the defaults."""
    plain = defaults_of(spec.task)
    strategy = make_strategy(registry.plugin_name(spec.strategy), {}, task=spec.task)  # which need not suit the task
    own, changed = spec.to_json(), _set_of(spec, "task")
    changed |= _strategy_settings(own["strategy"], plugin_json(strategy), "strategy")
    for group in ("model", "train", "infer"):
        changed |= {f"{group}.{k}": v for k, v in own[group].items() if plain[group].get(k) != v}
    if spec.pretraining is not None:
        before = phase_json(spec.pretraining)
        for kind in ("strategy", "task"):
            changed[f"pretraining.{kind}"] = before[kind]["name"]
            changed |= _strategy_settings(before[kind], {}, f"pretraining.{kind}")
        changed |= {f"pretraining.train.{k}": v for k, v in before["train"].items()}
    return changed


def defaulted_line(spec: RunSpec, given: Iterable[str]) -> str | None:
    """In a line, the defaults that a strategy has for a pretrained model that is taught nothing; None if there are none.

    given: the dotted settings that the user named.
    """
    named = set(given)
    chosen = {k: v for k, v in changed_settings(spec).items() if k.startswith("strategy.") and k not in named}
    if not spec.untaught or not chosen:
        return None
    words = " ".join(f"{key}={setting_text(value)}" for key, value in chosen.items())
    name = registry.plugin_name(spec.strategy)
    return f"{name}: {spec.model.path} is taught nothing, so its default is {words} (--set names another)"


def check_untaught(spec: RunSpec) -> None:
    """ValueError if a pretrained model, taught nothing, is asked in a way that it never learnt. A spec from a file may say so."""
    if not spec.untaught:
        return
    instead = spec.strategy.untaught(spec.task, given=frozenset(), key="strategy")
    if instead != spec.strategy:
        line = defaulted_line(dataclasses.replace(spec, strategy=instead), ())
        raise ValueError(f"strategy: it waits for specials that the model never learnt to say; {line}")


def _strategy_settings(own: dict[str, Any], plain: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Settings of a plugin in its JSON form that differ from ``plain``'s, a base's too; a base of another name is told whole."""
    changed: dict[str, Any] = {}
    for key, value in own.items():
        if key in ("name", "version") or plain.get(key) == value:
            continue
        if not isinstance(value, dict):
            changed[f"{prefix}.{key}"] = value
            continue
        before = plain.get(key) or {}
        alike = before.get("name") == value["name"]
        changed |= {} if alike else {f"{prefix}.{key}": value["name"]}
        changed |= _strategy_settings(value, before if alike else {}, f"{prefix}.{key}")
    return changed


def _set_of(spec: RunSpec, kind: registry.Kind) -> dict[str, Any]:
    """Settings of one plugin that differ from its own defaults."""
    plugin = getattr(spec, kind)
    defaults = {f.name: f.default for f in dataclasses.fields(plugin)}
    return {f"{kind}.{k}": v for k, v in to_json(plugin).items() if defaults[k] != v}


def command_line(spec: RunSpec) -> str:
    """The canonical command that makes this run, without --results and --json."""
    words = ["python", "-m", "harness", "run", "--strategy", registry.plugin_name(spec.strategy)]
    task = registry.title("task", plugin_json(spec.task))
    words += ["--task", task, "--seed", str(spec.seed), "--threads", str(spec.threads)]
    behind = f"task.{spec.task.argument}"
    for key, value in changed_settings(spec).items():
        words += ["--set", f"{key}={setting_text(value)}"] if key != behind or ":" not in task else []
    return shlex.join(words)


def setting_text(value: Any) -> str:
    """Spell a setting's value as it is typed."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
