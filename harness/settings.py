"""Settings: the typed, documented fields of specs and plugins, and how they are read from strings or JSON.

Knows how to turn ``{"per_token": "2"}`` into a frozen dataclass, or into one clear ValueError; not what any field means.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from harness.refusal import is_refusal

T = TypeVar("T")
When = Literal["learn", "ask"]


def setting(
    default: Any,
    *,
    doc: str,
    when: When = "learn",
    low: float | None = None,
    high: float | None = None,
    late: bool = False,
    runs_code: bool = False,
) -> Any:
    """A field of a spec or plugin.

    when: "learn" if it changes what is trained, "ask" if only how the trained model is asked (sweeping it retrains nothing).
    low, high: the legal range, both ends included. late: came when there were records; left out of JSON at its default, so that
    these keep their names. runs_code: a value may make the plugin run code that it holds or points to, so one from a record is
    taken only for a user who trusts it.
    """
    facts = {"doc": doc, "when": when, "low": low, "high": high, "late": late, "runs_code": runs_code}
    return dataclasses.field(default=default, metadata=facts)


def did_you_mean(word: str, legal: Iterable[str]) -> str:
    """' (did you mean X?)' or nothing."""
    close = difflib.get_close_matches(word, list(legal), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def unknown(kind: str, word: str, legal: Iterable[str]) -> ValueError:
    """The error for a name that is not one of the legal ones."""
    names = sorted(legal)
    return ValueError(f"unknown {kind} {word!r}{did_you_mean(word, names)}; legal: {', '.join(names) or 'none'}")


def legal_values(field: dataclasses.Field[Any], hint: Any) -> str:
    """The legal values of a field in words: 'one of a, b', 'a whole number from 0 to 64'."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(a) for a in args)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [a for a in args if a is not type(None)]
        return legal_values(field, inner[0]) + (" or none" if len(inner) < len(args) else "")
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    low, high = field.metadata.get("low"), field.metadata.get("high")
    limits = (f" from {low:g}" if low is not None else "") + (f" to {high:g}" if high is not None else "")
    return names.get(hint, f"a {getattr(hint, '__name__', hint)}".lower()) + limits


def convert(value: Any, hint: Any, field: dataclasses.Field[Any], key: str) -> Any:
    """``value`` (a string from the command line, or JSON) as the field's type; ValueError naming ``key`` and the legal values."""
    if any(
        isinstance(value, kind) for kind in typing.get_args(hint) if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ):
        return value  # a plugin is a setting of another one
    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in typing.get_args(hint):
        return None
    if isinstance(value, str) and value.lower() in ("true", "false") and bool in (hint, *typing.get_args(hint)):
        value = value.lower() == "true"
    try:
        result = msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"{key}: expected {legal_values(field, hint)}, got {value!r}") from None
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        low, high = field.metadata.get("low"), field.metadata.get("high")
        outside = (low is not None and result < low) or (high is not None and result > high)
        if outside or not math.isfinite(result):
            raise ValueError(f"{key}: expected {legal_values(field, hint)}, got {value!r}")
    return result


def hints(cls: type[Any]) -> Mapping[str, Any]:
    """Resolved type hints of a dataclass's fields."""
    return _hints(typing.cast(Hashable, cls))


@functools.cache  # a grid asks tens of thousands of times, and each answer is a millisecond of evaluated text
def _hints(cls: Hashable) -> Mapping[str, Any]:
    return types.MappingProxyType(typing.get_type_hints(cls))


def build(cls: type[T], values: Mapping[str, Any], *, prefix: str) -> T:
    """An instance of the frozen dataclass ``cls`` from strings or JSON values; missing ones take their defaults.

    Raises ValueError that names ``prefix.key`` and the legal keys or values. Checks across fields belong in the class's
    ``__post_init__``, whose ValueErrors get the prefix too.
    """
    legal = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    types_ = hints(cls)
    for name in values:
        if name not in legal:
            raise ValueError(f"{prefix}.{name}: {unknown('setting', name, legal)}")
    converted = {name: convert(v, types_[name], legal[name], f"{prefix}.{name}") for name, v in values.items()}
    try:
        return cls(**converted)
    except ValueError as error:
        if not is_refusal(error, also=(cls.__module__.partition(".")[0],)):
            raise
        raise ValueError(f"{prefix}: {error}") from None


def to_json(instance: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass as plain JSON values, in their order."""
    fields = [f for f in dataclasses.fields(instance) if not f.metadata.get("late") or getattr(instance, f.name) != f.default]
    values = {f.name: getattr(instance, f.name) for f in fields}
    values = {name: to_json(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
    return typing.cast(dict[str, Any], msgspec.to_builtins(values))
