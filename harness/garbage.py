"""What nobody needs in a results folder, and removing it. A complete run is never touched.

Always: what processes that are gone left half-written, stale locks, half-made runs, checkpoints of complete learners, and weights
and value models that no complete run refers to. On request also those that a run's command makes again. What somebody works on is
left alone: a thing is removed under its own lock, and weights only while nobody holds any lock, since a run reads its learner's
files once more at its end. Knows names and locks; of a record only what it refers to.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness import records, storage
from harness.locks import Busy, alone
from harness.reading import read_json
from harness.records import RUN, Record

SETTLED_S = 60.0  # a folder changed since then may belong to a process that has not taken its lock yet
NAME = re.compile(r"[0-9a-f]{12}-s[0-9]+")
SEALS = {"weights": "learner.json", "values": "value.json"}  # what makes a folder complete; it goes first
LOCKS = {"weights": "learner", "values": "value"}
TEMPORARY, STALE, HALF_MADE, CHECKPOINTS = "temporary files", "stale locks", "half-made runs", "checkpoints of complete learners"
WHOLE = {"weights": "weights", "values": "value models"}


@dataclass(frozen=True, slots=True)
class Waste:
    """Something to remove: files, in this order, and the folder where that ends with them. lock: what must be held meanwhile."""

    what: str
    path: Path
    files: tuple[Path, ...]
    bytes: int
    lock: str | None


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed (or would be), and what was left alone and why."""

    removed: tuple[Waste, ...]
    kept: tuple[str, ...]

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Kind -> how many, how many bytes."""
        counts: dict[str, tuple[int, int]] = {}
        for one in self.removed:
            count, size = counts.get(one.what, (0, 0))
            counts[one.what] = (count + 1, size + one.bytes)
        return counts


def collect(results: Path, *, weights: bool = False, dry_run: bool = False, trust_plugins: bool = False) -> Collected:
    """Remove what nobody needs; weights: those that a run's command makes again too; dry_run: only say so.

    trust_plugins: whether code to which only records point may be run, to see whether their commands make weights again.
    ValueError if there is no such folder.
    """
    if not results.is_dir():
        raise ValueError(f"--results: there is no folder {results}; name the one to clear")
    removed: list[Waste] = []
    kept: list[str] = []
    gone: set[Path] = set()
    for waste in _wastes(results, weights, kept, trust_plugins):
        if waste.path in gone:
            continue  # part of what goes already
        if _held(results, waste.lock):
            kept.append(f"{waste.path}: somebody is at work on it")
        elif dry_run or _remove(waste, results):
            removed.append(waste)
            gone |= {waste.path, *waste.files}
        else:
            kept.append(f"{waste.path}: somebody has just begun to work on it")
    return Collected(tuple(removed), tuple(kept))


def _wastes(results: Path, weights: bool, kept: list[str], trust_plugins: bool) -> Iterator[Waste]:
    """All of it, looked for as it is asked for; folders before single files in them."""
    yield from _stale(results)
    yield from _half_made(results)
    yield from _unneeded(results, weights, kept, trust_plugins)
    yield from _checkpoints(results)
    yield from _temporary(results)


def _folders(results: Path, pattern: str) -> Iterator[Path]:
    """Folders of runs, learners or value models; nothing that bears another name, and no links."""
    for path in sorted(results.glob(pattern)):
        if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path


def _waste(what: str, path: Path, lock: str | None, *, first: str = "") -> Waste:
    """All of a folder, or one file. first: the file that goes before the others."""
    found = (p for p in path.rglob("*") if p.is_symlink() or not p.is_dir()) if path.is_dir() else iter((path,))
    files = tuple(sorted(found, key=lambda p: (p.name != first, p)))
    size = 0
    for file in files:
        with contextlib.suppress(OSError):  # somebody is at work there, who will be met below
            size += file.lstat().st_size
    return Waste(what, path, files, size, lock)


def _settled(folder: Path) -> bool:
    """Whether nothing has changed there just now."""
    try:
        return time.time() - max(p.lstat().st_mtime for p in (folder, *folder.rglob("*"))) >= SETTLED_S
    except OSError:  # something went away meanwhile
        return False


def _temporary(results: Path) -> Iterator[Waste]:
    """What writers that are gone left half-written, anywhere, as `storage.sweep` tells it."""
    for path in sorted(results.rglob(".*.tmp")):
        process = path.name.split(".")[-2]
        if path.is_file() and not (process.isdigit() and storage.alive(int(process))):
            yield _waste(TEMPORARY, path, None)


def _half_made(results: Path) -> Iterator[Waste]:
    """Folders of runs without run.json."""
    for folder in _folders(results, "runs/*/*/*"):
        if not records.is_there(folder / RUN) and _settled(folder):
            yield _waste(HALF_MADE, folder, f"run-{folder.name}")


def _checkpoints(results: Path) -> Iterator[Waste]:
    """States of training that are of no more use."""
    for folder in _folders(results, "weights/*"):
        if (folder / SEALS["weights"]).exists() and (folder / "checkpoint.safetensors").exists():
            yield _waste(CHECKPOINTS, folder / "checkpoint.safetensors", f"learner-{folder.name}")


def _stale(results: Path) -> Iterator[Waste]:
    """Locks that nobody holds."""
    for path in sorted(results.glob("locks/*.lock")):
        if not _held(results, path.stem):
            yield _waste(STALE, path, path.stem)


def _unneeded(results: Path, weights: bool, kept: list[str], trust_plugins: bool) -> Iterator[Waste]:
    """Weights and value models that no complete run refers to; with ``weights`` those that its command makes again."""
    folders = [(kind, folder) for kind in SEALS for folder in _folders(results, f"{kind}/*")]
    if not folders:
        return
    needed, unclear = _references(results)
    busy = _at_work(results)
    if busy or unclear:
        reason = f"{', '.join(busy)} is being made" if busy else f"not every run tells what it refers to ({unclear[0]})"
        kept.append(f"weights and value models: {reason}")
        return
    for kind, folder in folders:
        references = needed.get(f"{kind}/{folder.name}", [])
        why_not = "" if not references else _unmakeable(references, trust_plugins) if weights else "a complete run refers to it"
        if not why_not and _settled(folder):
            yield _waste(WHOLE[kind], folder, f"{LOCKS[kind]}-{folder.name}", first=SEALS[kind])
        elif why_not and weights:
            kept.append(f"{folder}: {why_not}")


def _references(results: Path) -> tuple[dict[str, list[Record]], list[str]]:
    """Weights and value models (as KIND/NAME) -> the records of complete runs that refer to them; runs that cannot be read."""
    needed: dict[str, list[Record]] = {}
    unclear = []
    for folder in records.run_folders(results):
        try:
            record = read_json(folder / RUN)
            for name in _referred(record):
                needed.setdefault(name, []).append(record)
        except ValueError as error:
            unclear.append(str(error))
        except (OSError, LookupError, TypeError, AttributeError) as error:
            unclear.append(f"{folder / RUN}: {type(error).__name__}: {error}")
    return needed, unclear


def _referred(record: Record) -> Iterator[str]:
    """What a run refers to: its learner, the pretraining run's, its value model; needs no plugin's code."""
    yield f"weights/{record['learner']}-s{record['seed']}"
    if record["value"] is not None:
        yield f"values/{record['value']['fingerprint']}-s{record['seed']}"
    if record["spec"]["pretraining"] is not None:
        yield f"weights/{record['train']['pretraining']['learner']}-s{record['seed']}"


def _unmakeable(references: list[Record], trust_plugins: bool) -> str:
    """Why none of these runs' commands would make the weights again; empty if one would."""
    reason = ""
    for record in references:
        try:
            path = records.spec_of(record, trust_plugins=trust_plugins).model.path
        except (ValueError, LookupError, TypeError) as error:
            reason = f"its run cannot be made again: {error}"
            continue
        if path is None or Path(path).exists():
            return ""
        reason = f"it was made from {path}, which is not there"
    return reason


def _held(results: Path, lock: str | None) -> bool:
    """Whether somebody holds a lock; makes no file."""
    path = results / "locks" / f"{lock}.lock"
    if lock is None or not path.exists():
        return False
    probe = FileLock(path, timeout=0)
    try:
        probe.acquire()
    except Timeout:
        return True
    except OSError:  # no file that anybody could hold: a folder, or one that belongs to somebody else
        return True
    probe.release()
    return False


def _at_work(results: Path) -> list[str]:
    """Names of the locks that are held."""
    return [path.stem for path in sorted(results.glob("locks/*.lock")) if _held(results, path.stem)]


def _remove(waste: Waste, results: Path) -> bool:
    """Remove it; False if somebody else came first, or if it has become complete meanwhile."""
    if waste.what in WHOLE.values() and _at_work(results):
        return False
    try:
        with contextlib.nullcontext() if waste.lock is None else alone(results, waste.lock, wait=False):
            if waste.what == HALF_MADE and records.is_there(waste.path / RUN):
                return False
            for path in waste.files:
                storage.remove(path)
            if waste.path.is_dir():
                _remove_folders(waste.path, results)
    except Busy:
        return False
    return True


def _remove_folders(folder: Path, results: Path) -> None:
    """Remove empty folders: those below, this one, and those above that it leaves empty."""
    below = sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True)
    above = [path for path in folder.parents if path.is_relative_to(results) and path != results]
    for path in (*below, folder, *above):
        try:
            path.rmdir()
        except OSError:  # something is in it
            return
