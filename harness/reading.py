"""Files that may hold anything, read whole or refused in one line that names the file: JSON values, and bytes.

What lies in a results folder may be damaged, or made by others: a folder or a pipe where a file should be, text that is no UTF-8,
JSON that is nested too deeply. Knows no records.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NoReturn


def read_bytes(path: Path) -> bytes:
    """Return a file's content. FileNotFoundError if it is not there; ValueError if it cannot be read."""
    try:
        check_plain(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def check_plain(path: Path) -> None:
    """Raise a ValueError for what is no plain file: reading a pipe or a device may never end. OSError as `os.stat` has it."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} cannot be read: it is {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}")


def check_readable(path: Path) -> None:
    """Raise a ValueError for a file that is there and cannot be read."""
    try:
        check_plain(path)
        path.open("rb").close()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """Return a file's JSON value. FileNotFoundError if it is not there; ValueError if it cannot be read or is no JSON."""
    return parsed(read_bytes(path), str(path))


def parsed(text: bytes | str, where: str, *, numbers_only: bool = True) -> Any:
    """Return the JSON value of a text; ValueError begins with ``where``. numbers_only: NaN and Infinity are refused."""
    try:
        return json.loads(text, parse_constant=_refused if numbers_only else None)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply to be read") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is truncated or no JSON (no UTF-8 at byte {error.start})") from None
    except ValueError as error:
        raise ValueError(f"{where} is truncated or no JSON ({error})") from None


def _refused(name: str) -> NoReturn:
    raise ValueError(f"it has a number that is {name}")
