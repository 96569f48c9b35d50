"""Plugins by name, by file, by module:Class, by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness import registry
from harness.strategy import Strategy

OUTSIDER = '''"""An outsider's strategy."""
from dataclasses import dataclass
from harness.strategy import Strategy

@dataclass(frozen=True, kw_only=True)
class Mine(Strategy):
    """Mine."""
    source = "a test"
'''


def test_own_plugins_are_found_and_helpers_are_not() -> None:
    """Files that begin with _ are no plugins."""
    assert {"direct", "reasoning_tokens", "future_heads"} <= set(registry.names("strategy"))
    assert not any(name.startswith("_") for kind in ("strategy", "task") for name in registry.names(kind))
    with pytest.raises(ValueError, match="unknown strategy"):
        registry.find("strategy", "_per_target")


def test_a_file_that_must_not_have_a_librarys_name_has_an_underscore_more() -> None:
    """lm_eval is the library; the plugin's name goes on being its name, in lists and records."""
    assert "lm_eval" in registry.names("task") and "lm_eval_" not in registry.names("task")
    cls = registry.find("task", "lm_eval")
    assert cls.__module__ == "tasks.lm_eval_" and registry.plugin_name(cls()) == "lm_eval"
    with pytest.raises(ValueError, match="unknown task"):
        registry.find("task", "lm_eval_")


def test_a_file_is_a_plugin_whose_name_finds_it_again(tmp_path: Path) -> None:
    """The name in the spec is the path; loading twice gives one class."""
    path = tmp_path / "mine.py"
    path.write_text(OUTSIDER)
    cls = registry.find("strategy", str(path))
    assert registry.find("strategy", registry.plugin_name(cls())) is cls


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import nothing_of_the_kind", "cannot be imported"),
        ("x = 1", "exactly one class"),
        (OUTSIDER + "\n\nclass Two(Mine):\n    pass\n", "exactly one"),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path: Path, code: str, word: str) -> None:
    """One line that says what is wrong."""
    path = tmp_path / f"bad_{abs(hash(code)) % 1000}.py"
    path.write_text(code)
    with pytest.raises(ValueError, match=word) as error:
        registry.find("strategy", str(path))
    assert path.name in str(error.value)


def test_module_and_class() -> None:
    """pkg.mod:Class, and its errors."""
    assert registry.find("strategy", "strategies.direct:Direct").__name__ == "Direct"
    with pytest.raises(ValueError, match="cannot import"):
        registry.find("strategy", "no.such.module:Direct")
    with pytest.raises(ValueError, match="class 'Nothing'"):
        registry.find("strategy", "strategies.direct:Nothing")


def test_entry_points_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed and loaded like our own."""
    theirs = EntryPoint("theirs", "strategies.direct:Direct", "harness.strategies")

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [theirs] if group == theirs.group and name in (None, theirs.name) else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert "theirs" in registry.names("strategy") and "theirs" not in registry.names("task")
    assert issubclass(registry.find("strategy", "theirs"), Strategy)


def test_a_folder_of_other_files_is_no_plugin() -> None:
    """`tasks/yaml` holds tasks of lm-eval; as a package without __init__.py it could be imported."""
    assert (Path(registry.__file__).parent.parent / "tasks" / "yaml").is_dir() and "yaml" not in registry.names("task")
    for name in ("yaml", "_rows", "no.such", "__init__"):
        with pytest.raises(ValueError, match="unknown task"):
            registry.find("task", name)
