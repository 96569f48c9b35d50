"""The reference harness for thinking strategies: one GPT-2, one training loop, matched compute.

Public API: `run`, `make_spec`, `load_runs`. Importing this package imports nothing heavy; each name loads when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import load_runs, make_spec, run

__all__ = ["load_runs", "make_spec", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("harness.api"), name)
