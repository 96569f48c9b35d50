"""Merging: complete runs of another results folder, or of a pack, into this one; and an audit that makes some of them again.

A run is taken whole: it is read and checked where it lies, its files are copied, run.json last, so that a crash leaves a
half-made run and never a false one. Complete runs that are there are never changed. Knows records and files; the audit knows how
to run a spec.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness import records, storage
from harness.locks import Busy, alone
from harness.packs import OF_ONE_SEED, unpacked
from harness.reading import check_readable, read_bytes, read_json
from harness.records import RUN, Record, place_of
from harness.refusal import is_refusal

if TYPE_CHECKING:
    from harness.learners import Reporter

FILES = ("problems.jsonl", *OF_ONE_SEED, "train.jsonl", "timing.json", RUN)  # in the order in which they are copied
SHOWN_IDS = 10

Told = Callable[[str], None]
Outcome = Literal["merged", "present", "conflict"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of a merge: runs by their paths. left_out: what is wrong with runs that were not taken."""

    merged: tuple[str, ...]
    present: tuple[str, ...]
    conflicts: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audited:
    """A run that was made again. different: ids of problems whose lines differ; reason: what differs, None if nothing does."""

    run: str
    reason: str | None
    different: tuple[str, ...] = ()


def merge(source: Path, *, results: Path, report: Told | None = None) -> Merged:
    """Copy the complete runs that ``results`` lacks. ValueError if the source is no results folder and no sound pack.

    `storage.Unwritable`, a ValueError too, if a run cannot be written; those before it are kept.
    """
    told, left_out = report or (lambda _: None), []
    found: dict[Outcome, list[str]] = {"merged": [], "present": [], "conflict": []}
    with contextlib.closing(_runs(source, results)) as runs:
        for run, folder in runs:
            try:
                outcome = _merge_run(run, folder, results)
            except storage.Unwritable:
                raise  # the other runs could not be written either
            except (ValueError, Busy) as error:
                reason = f"{results / run} is being made just now; merge again later" if isinstance(error, Busy) else str(error)
                left_out.append(reason.replace(str(folder), f"{source}/{run}"))
                told(f"left out: {left_out[-1]}")
                continue
            found[outcome].append(run)
            told(f"{outcome}: {run}" + (_conflict(folder, results / run) if outcome == "conflict" else ""))
    return Merged(tuple(found["merged"]), tuple(found["present"]), tuple(found["conflict"]), tuple(left_out))


def _runs(source: Path, results: Path) -> Generator[tuple[str, Path], None, None]:
    """The paths of the source's runs, and where their files lie while they are looked at."""
    if not source.is_dir():
        if not source.exists():
            raise ValueError(f"SOURCE: there is no {source}; name a results folder or a pack")
        yield from unpacked(source)
        return
    if source.resolve() == results.resolve():
        raise ValueError(f"SOURCE: {source} is the results folder itself; name another one, or another --results")
    folders = list(records.run_folders(source))
    if not folders:
        raise ValueError(
            f"SOURCE: there is no complete run in {source}; name a results folder (the one that has `runs`) or a pack"
        )
    for folder in folders:
        yield folder.relative_to(source).as_posix(), folder


def _merge_run(run: str, folder: Path, results: Path) -> Outcome:
    """Take one run, unless it is there. ValueError if it is spoilt, Busy if someone makes it just now."""
    if _same(folder / RUN, results / run / RUN):
        return "present"
    if (place := place_of(_whole(folder))) != run:
        raise ValueError(f"{folder} holds the record of {place}; move it there")
    if records.is_there(results / run / RUN):
        return "conflict"
    with alone(results, f"run-{folder.name}", wait=False):
        if records.is_there(results / run / RUN):  # made since
            return "present" if _same(folder / RUN, results / run / RUN) else "conflict"
        _copy(folder, results / run)
    return "merged"


def _whole(folder: Path) -> Record:
    """A record that is sound and speaks of its own files alone: what others wrote is not followed elsewhere."""
    record = records.read_run(folder)
    foreign = sorted(record["files"].keys() - set(FILES))
    if foreign:
        raise ValueError(f"{folder / RUN} names a file that is not a run's ({foreign[0]}); leave this record out")
    for name in FILES:
        check_readable(folder / name)
    return record


def _same(one: Path, other: Path) -> bool:
    """Whether both files are there and hold the same bytes."""
    return one.is_file() and other.is_file() and read_bytes(one) == read_bytes(other)


def _copy(folder: Path, target: Path) -> None:
    """A run's files over what a half-made run may have left, run.json last; none of them is left if one cannot be written."""
    storage.make_folder(target)
    storage.sweep(target)
    try:
        for name in FILES:
            if (folder / name).exists():
                storage.replace_file(target / name, read_bytes(folder / name))
            else:
                storage.remove(target / name)
    except storage.Unwritable:
        with contextlib.suppress(OSError):
            for name in FILES:
                (target / name).unlink(missing_ok=True)
            target.rmdir()
        raise


def _conflict(folder: Path, kept: Path) -> str:
    """In what two records of one run differ, for people."""
    try:
        theirs, ours = (read_json(where / RUN) for where in (folder, kept))
        keys = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key) and key != "digest")
    except (OSError, ValueError, AttributeError):
        return f" (the record in {kept} cannot be read; it is kept)"
    return f" (another record is there, and kept; they differ in {', '.join(keys) or 'nothing but how they are written'})"


def audit(
    merged: Merged, count: int, *, results: Path, reporter: Reporter | None = None, trust_plugins: bool = False
) -> Iterator[Audited]:
    """Make some of the merged runs again from their specs, elsewhere, and compare. Which ones, their digests decide.

    trust_plugins: whether code to which only their records point may be run.
    """
    digests = {run: read_json(results / run / RUN)["digest"] for run in merged.merged}
    for run in sorted(digests, key=lambda one: hashlib.sha256(f"audit {digests[one]}".encode()).digest())[:count]:
        with tempfile.TemporaryDirectory() as scratch:
            yield _audited(run, results, Path(scratch), reporter, trust_plugins)


def _audited(run: str, results: Path, scratch: Path, reporter: Reporter | None, trust_plugins: bool) -> Audited:
    """One run, made again in a scratch folder."""
    from harness.runs import run as make

    before = records.read_run(results / run)
    try:
        spec = records.spec_of(before, trust_plugins=trust_plugins)
        after = make(spec, results=scratch, reporter=reporter)
    except ValueError as error:
        if not is_refusal(error):
            raise
        return Audited(run, f"it could not be made again: {error}")
    different = _different(results / run, records.run_folder(scratch, spec))
    return Audited(run, _reason(before, after, different), tuple(different))


def _different(one: Path, other: Path) -> list[str]:
    """Ids of problems whose lines are not the same, or are in one file alone."""
    lines = [{line["id"]: line for line in records.read_lines(folder)} for folder in (one, other)]
    return [name for name in lines[0] | lines[1] if lines[0].get(name) != lines[1].get(name)]


def _reason(before: Record, after: Record, different: list[str]) -> str | None:
    """What an audit found, in words."""
    words = [f"{name} differ" for name in ("metrics", "by_difficulty") if before[name] != after[name]]
    if different:
        more = f" and {len(different) - SHOWN_IDS:,} more" if len(different) > SHOWN_IDS else ""
        words.append(f"{len(different):,} problems differ: {', '.join(different[:SHOWN_IDS])}{more}")
    return "; ".join(words) or None
