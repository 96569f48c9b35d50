"""The only ways this project changes files: whole files by rename, and lines appended. Knows no formats.

Every write goes through these few functions, so that tests can crash before and after each of them.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


class Unwritable(ValueError):
    """A file that could not be written, in one line with the reason. read_only: it may not be, wherever there is room."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"--results: cannot write {path}: {error.strerror or error}; what was written before is kept")
        self.read_only = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a write into `Unwritable`."""
    try:
        yield
    except OSError as error:
        raise Unwritable(path, error) from None


def make_folder(path: Path) -> None:
    """Make a folder; `Unwritable` if that cannot be."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(root: Path, path: Path) -> Iterator[None]:
    """Make a folder below ``root``; if still empty afterwards, because of an error say, it is removed with empty parents.

    Whoever calls it holds the lock of what goes into it (`harness.locks`), since an empty folder may be somebody's.
    """
    make_folder(path)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: it stays
            while path != root:
                path.rmdir()
                path = path.parent


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file's content in place, and to disk. Not atomic: for temporary names."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def rename(source: Path, target: Path) -> None:
    """Move a file over another, atomically."""
    os.replace(source, target)


def replace_file(path: Path, data: bytes) -> None:
    """Give a file new content: readers see the old or the new, whole. `Unwritable`, with nothing left, if that cannot be."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_bytes(temporary, data)
        rename(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()  # half a file would keep a full disk full
        raise Unwritable(path, error) from None


def replace_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Give files of a folder, which is made, new content by name; their paths."""
    make_folder(folder)
    for name, data in files.items():
        replace_file(folder / name, data)
    return [folder / name for name in files]


def append(path: Path, text: str) -> None:
    """Add text to the end of a file; `Unwritable` if that cannot be, and the file ends where it did."""
    try:
        before = path.stat().st_size if path.exists() else None
        with open(path, "a", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        with suppress(OSError):
            if before is None:
                path.unlink()
            else:
                os.truncate(path, before)
        raise Unwritable(path, error) from None


def truncate(path: Path, size_bytes: int) -> None:
    """Cut a file to its first ``size_bytes``."""
    with writing(path), open(path, "r+b") as file:
        file.truncate(size_bytes)


def remove(path: Path) -> None:
    """Delete a file if it is there."""
    with writing(path):
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what processes that are gone, or this one when it was cut off, left half-written."""
    for path in sorted(folder.glob(".*.tmp")):
        process = path.name.split(".")[-2]
        if not process.isdigit() or int(process) == os.getpid() or not alive(int(process)):
            remove(path)


def alive(process: int) -> bool:
    """Whether a process of this machine still runs; where that cannot be told, it does."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sha256(path: Path) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
