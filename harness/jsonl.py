"""Lines of JSONL files. A line ends at "\\n" alone: other characters that Unicode calls line ends may stand in a JSON string.

`str.splitlines` also splits at U+2028, U+2029, U+0085 and others, and text mode at "\\r": so files are read as bytes, here.
Knows no records.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, each without its end."""
    with open(path, "rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def whole_lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file that are ended, each without its end: a torn last line is left out. None if there is no file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
