"""Packs: the records of many runs as one xz archive, the same bytes for the same records; and how a pack is read.

TARGET.tar.xz holds runs/TASK/STRATEGY/NAME/FILE, sorted by seed, split and path, so that answers to the same questions lie near
each other. Traces, the larger part, are kept of one seed. Files are read one at a time; what is compressed is held in memory
until it is written. Nothing in an archive is trusted: a name that is not such a path, or anything but a plain file, refuses all
of it before the first run is given. Knows names and archives; of a record only its place, seed and split.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness import records, storage
from harness.reading import check_plain, check_readable
from harness.records import RUN_PATH

SUFFIX = ".tar.xz"
KEPT = ("run.json", "problems.jsonl", "timing.json")  # of every run
OF_ONE_SEED = ("traces.jsonl", "attention.jsonl")
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 26}]  # as far back as runs of one seed lie
LARGEST_BYTES = 1 << 30  # of a file: far above any record
CHUNK_BYTES = 1 << 20

# What the libraries raise for damaged archives: a member's header may hold any bytes where they expect numbers and names.
DAMAGE = (EOFError, lzma.LZMAError, tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError, LookupError)

Told = Callable[[str], None]


class Odd(ValueError):
    """A pack holds what `pack` never writes."""


class Damaged(ValueError):
    """A pack cannot be read, or not to its end."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What a pack holds, in runs and bytes before and after compression, and what was left out and why."""

    path: Path
    runs: int
    content_bytes: int
    packed_bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    """A run to pack; entries sort as they lie in the pack."""

    seed: int
    split: str
    path: str  # from the results folder


def pack(target: Path, *, results: Path, task: str | None = None, traces_of_seed: int = 0, report: Told | None = None) -> Packed:
    """Write all complete runs, of one task or of all, as one archive. Spoilt ones are left out. ValueError if there are none."""
    if not target.name.endswith(SUFFIX) or target.name == SUFFIX:
        raise ValueError(f"TARGET: expected a name that ends in {SUFFIX}, got {str(target)!r}")
    entries, left_out = _entries(results, task)
    if not entries:
        raise ValueError(_nothing(results, task, left_out))
    compressed, content_bytes = io.BytesIO(), 0
    with (
        lzma.open(compressed, "wb", filters=FILTERS) as xz,
        tarfile.open(fileobj=xz, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for number, entry in enumerate(entries, start=1):
            names = sorted(KEPT + (OF_ONE_SEED if entry.seed == traces_of_seed else ()))
            content_bytes += sum(_add(tar, results, f"{entry.path}/{name}") for name in names)
            if report is not None:
                report(f"packed {number:,} of {len(entries):,}: {entry.path}")
    storage.make_folder(target.parent)
    storage.replace_file(target, compressed.getvalue())
    return Packed(target, len(entries), content_bytes, target.stat().st_size, tuple(left_out))


def _entries(results: Path, task: str | None) -> tuple[list[_Entry], list[str]]:
    """Whole runs in the pack's order, and what is wrong with the others."""
    entries, left_out = [], []
    for folder in records.run_folders(results, task=task):
        path = folder.relative_to(results).as_posix()
        try:
            record = records.check_place(records.read_run(folder), folder)
            for name in KEPT + OF_ONE_SEED:
                check_readable(folder / name)
        except ValueError as error:
            left_out.append(str(error))
            continue
        entries.append(_Entry(record["seed"], record["spec"]["infer"]["split"], path))
    return sorted(entries), left_out


def _nothing(results: Path, task: str | None, left_out: list[str]) -> str:
    """Why there is nothing to pack."""
    if left_out:
        return f"--results: all runs in {results} are spoilt, the first: {left_out[0]}"
    there = sorted({folder.parent.parent.name for folder in records.run_folders(results)})
    if task is None or not there:
        return f"--results: there is no complete run in {results}; name a folder that has some"
    return f"--task: {results} has no complete run of {task!r}; it has runs of: {', '.join(there)}"


def _add(tar: tarfile.TarFile, results: Path, path: str) -> int:
    """Add a file, if it is there, with nothing of whose it is and when it was made; its bytes."""
    if not (results / path).exists():
        return 0
    info = tarfile.TarInfo(path)
    info.mode, info.size = 0o644, (results / path).stat().st_size
    with open(results / path, "rb") as content:
        tar.addfile(info, content)
    return info.size


def unpacked(source: Path) -> Generator[tuple[str, Path], None, None]:
    """Runs of a pack: a run's path, and a folder where its files lie until the next one is asked for.

    ValueError, before the first one is given, if the pack is damaged or holds anything else.
    """
    _check(source)
    with tempfile.TemporaryDirectory() as scratch, contextlib.closing(_files(source)) as files:
        for run, group in itertools.groupby(files, key=lambda one: one[0]):
            folder = Path(scratch) / run
            storage.make_folder(folder)
            for _, name, content in group:
                with storage.writing(folder / name):
                    storage.write_bytes(folder / name, content.read())
            yield run, folder
            shutil.rmtree(folder)


def read_pack(source: Path) -> tuple[dict[str, records.Record], list[str]]:
    """Records of a pack by their runs' paths, read in place and checked against the files beside them; and what is left out.

    ValueError if the pack is damaged or holds anything else.
    """
    found: dict[str, records.Record] = {}
    left_out: list[str] = []
    seen: set[str] = set()
    with _sound(source), contextlib.closing(_files(source)) as files:
        for run, group in itertools.groupby(files, key=lambda one: one[0]):
            if run in seen:
                raise Odd(f"{source} holds {run} twice: it was not made by `pack`")
            seen.add(run)
            try:
                found[run] = _record_among(group, source / run)
            except ValueError as error:
                left_out.append(str(error))
    if not seen:
        raise ValueError(f"{source} holds no run; make it anew with `pack`")
    return found, left_out


def _record_among(group: Iterable[tuple[str, str, IO[bytes]]], folder: Path) -> records.Record:
    """The record among a run's files; ValueError if it is spoilt. All files are read, whatever is found."""
    content, hashes = b"", dict[str, str]()
    for _, name, file in group:
        read = file.read()
        hashes[name] = hashlib.sha256(read).hexdigest()
        content = read if name == records.RUN else content
    if records.RUN not in hashes:
        raise ValueError(f"{folder} has no {records.RUN}: it was not made by `pack`")
    path = folder / records.RUN
    record = records.check_run(records.parse_record(content, path, hashes.get), path)
    return records.check_place(record, folder)


def _check(source: Path) -> None:
    """Read a pack to its end; ValueError for what should not be there."""
    seen: dict[str, set[str]] = {}
    last = None
    with contextlib.closing(_files(source)) as files:
        for run, name, _ in files:
            if (run in seen and run != last) or name in seen.setdefault(run, set()):
                raise Odd(f"{source} holds {run}/{name} twice or apart from its run: it was not made by `pack`")
            seen[run].add(name)
            last = run
    if not seen:
        raise ValueError(f"{source} holds no run; make it anew with `pack`")


def _files(source: Path) -> Generator[tuple[str, str, IO[bytes]], None, None]:
    """A pack's files in order: run, name, and the content, to be read before the next one is asked for."""
    with _sound(source), _opened(source) as xz, tarfile.open(fileobj=xz, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            yield *_place(member, source), _plain(content, member, source)
        while xz.read(CHUNK_BYTES):  # to the end mark, whose absence tells that a part is missing
            pass


def _opened(source: Path) -> lzma.LZMAFile:
    """The decompressed stream; a pipe or a device is not waited for."""
    try:
        check_plain(source)
    except ValueError as error:
        raise Damaged(str(error)) from None
    return lzma.open(source)


@contextlib.contextmanager
def _sound(source: Path) -> Iterator[None]:
    """Turn the errors of a damaged or unreadable pack into ValueErrors, wherever its files are read."""
    try:
        yield
    except (Odd, Damaged):
        raise
    except OSError as error:
        raise ValueError(f"SOURCE: cannot read {source}: {error.strerror or error}") from None
    except DAMAGE as error:
        what = str(error) or type(error).__name__
        raise Damaged(f"{source} is truncated or damaged ({what}); fetch it again, or make it anew with `pack`") from None


def _place(member: Any, source: Path) -> tuple[str, str]:
    """Run and file of an entry; ValueError unless it is one that `pack` writes."""
    run, _, name = member.name.rpartition("/")
    if name not in KEPT + OF_ONE_SEED or not RUN_PATH.fullmatch(run):
        raise Odd(f"{source} holds {member.name!r}, which is no file of a run: it was not made by `pack`; nothing is taken")
    return run, name


def _plain(content: IO[bytes] | None, member: Any, source: Path) -> IO[bytes]:
    """An entry's content; ValueError for links, devices and what is too large."""
    if content is None or member.size > LARGEST_BYTES:
        what = "no plain file" if content is None else f"of {member.size:,} bytes"
        raise Odd(f"{source} holds {member.name!r}, which is {what}: it was not made by `pack`; nothing is taken")
    return content
