"""What the commands name when the user does not: `defaults.toml`, read once. Knows no plugin by itself."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def default(name: str) -> str:
    """A name of `defaults.toml`: baseline, partner, task, base_with_lines."""
    return str(_content()[name])


def family() -> list[dict[str, Any]]:
    """The comparator family's arms, as they are written there."""
    return [dict(arm) for arm in _content()["family"]]
