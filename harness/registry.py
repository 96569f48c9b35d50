"""Names to plugin classes: strategies/NAME.py, tasks/NAME.py, an entry point, a file path/to/x.py, or pkg.mod:Class.

A file that would have a library's name ends in an underscore, which the plugin's name has not. A task whose class names an
`argument` may have it, and more settings, behind its name: NAME:VALUE,KEY=VALUE (`typed`). Knows how to find and load classes;
imports a plugin's module only when its name is asked for. A file or class that only a record names is a stranger's code: it is
imported only for a user who trusts it (`is_trusted`). Knows no plugin by name.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from harness.settings import unknown
from harness.strategy import Strategy
from harness.task import Task

Kind = Literal["strategy", "task"]
_PACKAGES = {"strategy": "strategies", "task": "tasks"}
_BASES: dict[str, type[Any]] = {"strategy": Strategy, "task": Task}


def names(kind: Kind) -> list[str]:
    """Names of all plugins of a kind, sorted; files that begin with _ are helpers and skipped."""
    package = importlib.import_module(_PACKAGES[kind])
    own = [m.name.removesuffix("_") for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    others = [e.name for e in entry_points(group=f"harness.{_PACKAGES[kind]}")]
    return sorted({*own, *others})


class Untrusted(ValueError):
    """A record names code that the user has not named; none of it was run."""


def is_trusted(name: str) -> bool:
    """Whether a plugin's class can be had without importing code to which this name alone points.

    True for plugins that ship or are installed by an entry point, and for files and modules that are loaded already: the user
    named those before.
    """
    if ":" in name:
        module_name, _, class_name = name.partition(":")
        first, *inner = module_name.split(".")
        ships = first in ("harness", *_PACKAGES.values()) and not any(part.startswith("__") for part in inner)
        module = sys.modules.get(module_name)
        return ships or (module is not None and inspect.isclass(vars(module).get(class_name)))
    return not name.endswith(".py") or _loaded(Path(name)) is not None


def find(kind: Kind, name: str, *, trust_plugins: bool = True) -> type[Any]:
    """The plugin class; ValueError lists the legal names.

    trust_plugins: False for a name that comes from a record: `Untrusted` if its code would have to be imported.
    """
    if not trust_plugins and not is_trusted(name):
        raise Untrusted(
            f"{kind} {name!r} is named by a record, not by you, so its code is not imported; read it, then add "
            "--trust-plugins (in Python: trust_plugins=True; in lm-eval: --model_args ..,trust_plugins=true)"
        )
    if ":" in name:
        module_name, _, class_name = name.partition(":")
        return _checked(kind, name, _imported(kind, name, module_name), class_name)
    if name.endswith(".py"):
        return _checked(kind, name, _from_file(kind, Path(name)))
    package = _PACKAGES[kind]
    if module := _file_of(package, name):
        return _checked(kind, name, importlib.import_module(module))
    for entry in entry_points(group=f"harness.{package}", name=name):
        return _checked(kind, name, _imported(kind, name, entry.module), entry.attr or None)
    raise unknown(kind, name, names(kind))


def _file_of(package: str, name: str) -> str:
    """This plugin's module, or nothing: a look-up by name, since a grid finds its plugins thousands of times."""
    if name.isidentifier() and not name.startswith("_") and not name.endswith("_"):
        for module in (f"{package}.{name}", f"{package}.{name}_"):
            spec = importlib.util.find_spec(module)
            if spec is not None and spec.has_location:  # a folder without __init__.py has none
                return module
    return ""


def typed(kind: Kind, text: str) -> tuple[str, dict[str, str]]:
    """A plugin as it is typed: its name, and the settings behind a colon, NAME:VALUE,KEY=VALUE.

    A comma that no KEY= follows belongs to the value before it. Where the first word is no plugin's name all of it is one.
    """
    name, colon, rest = text.partition(":")
    if not colon or name not in names(kind):
        return text, {}
    last = getattr(find(kind, name), "argument", "")
    if not last:
        raise ValueError(f"{kind} {text!r}: {name} takes nothing behind a colon; give its settings by --set {kind}.NAME=VALUE")
    first, *words = rest.split(",")
    settings = {last: first}
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            last = key.strip()
        settings[last] = value if equals else f"{settings[last]},{word}"
    return name, settings


def title(kind: Kind, plugin: Mapping[str, Any]) -> str:
    """A plugin in its JSON form as people call it: NAME, or NAME:VALUE."""
    name = str(plugin["name"])
    if ":" in name or name.endswith(".py"):
        return name
    try:
        value = plugin.get(getattr(find(kind, name), "argument", ""))
    except ValueError:  # it is not there any more
        value = None
    return f"{name}:{value}" if value else name


def tasks_that_offer(needed: frozenset[str]) -> list[str]:
    """Names of the tasks that offer all of this at their default settings."""
    able = []
    for name in names("task"):
        with contextlib.suppress(ValueError):  # a task may have no defaults, or be broken
            if needed <= find("task", name)().offers():
                able.append(name)
    return able


def plugin_name(instance: Any) -> str:
    """The name under which `find` gives this plugin's class."""
    module = type(instance).__module__
    prefix, _, rest = module.partition(".")
    if prefix in _PACKAGES.values() and rest:
        return rest.removesuffix("_")
    path = getattr(sys.modules.get(module), "__plugin_path__", None)
    return str(path) if path else f"{module}:{type(instance).__qualname__}"


def plugin_modules() -> set[str]:
    """Names of the modules of all plugin classes that have been loaded."""
    found, left = set[str](), list(_BASES.values())
    while left:
        subclasses = left.pop().__subclasses__()
        found |= {cls.__module__ for cls in subclasses}
        left += subclasses
    return found


def short_name(name: str) -> str:
    """A plugin's name as tables and pictures have it: of a file or a class without where it lies."""
    return Path(name).stem if name.endswith(".py") else name.rpartition(":")[2]


def _imported(kind: Kind, name: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # of any kind: a plugin is somebody else's, and its name may be anything
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{kind} {name!r}: cannot import {module_name or repr('')}: {reason}") from error


def _module_name(path: Path) -> str:
    """The name under which a plugin's file is imported."""
    return f"harness_plugin_{path.stem}"


def _loaded(path: Path) -> ModuleType | None:
    """The module of a plugin's file that was imported before; None if it was not."""
    module = sys.modules.get(_module_name(path))
    return module if getattr(module, "__plugin_path__", None) == str(path) else None


def _from_file(kind: Kind, path: Path) -> ModuleType:
    """Import an outsider's file under a name made from its path."""
    if not path.is_file():
        raise ValueError(f"{kind}: no file {str(path)!r}")
    if (loaded := _loaded(path)) is not None:
        return loaded
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__plugin_path__ = str(path)  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{kind} {str(path)!r} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _checked(kind: Kind, name: str, module: ModuleType, class_name: str | None = None) -> type[Any]:
    """The one plugin class of a module."""
    base = _BASES[kind]
    if class_name is not None:
        found = [getattr(module, class_name, None)]
    else:
        found = [
            c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__
        ]
    if len(found) != 1 or not inspect.isclass(found[0]) or not issubclass(found[0], base):
        what = f"class {class_name!r}" if class_name else "exactly one class"
        raise ValueError(f"{kind} {name!r}: {module.__name__} must define {what} that subclasses harness.{kind}.{base.__name__}")
    return found[0]


def first_line(cls: type[Any]) -> str:
    """The first line of a plugin's docstring."""
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]
