"""Results that lie elsewhere: `--results` as a URL of anything that fsspec opens (s3://, gs://, file://, memory://).

Work goes on in a scratch folder of this machine; what is complete is uploaded, its files first and the record, which makes it
complete and holds their hashes, last. What is taken is held against its record first. So a torn upload, of files or of the
record, never reads as complete: it is made, or uploaded, again. Machines that share a URL do not wait for each other: two may
make the same run, and upload the same bytes. Knows files and records; makes no run.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import records
from harness.locks import alone
from harness.spec import RunSpec

RECORDS = {"runs": "run.json", "weights": "learner.json", "values": "value.json"}  # what makes a folder complete
LOCKS = {"runs": "run", "weights": "learner", "values": "value"}  # of their makers
PAGES = ("tables", "plots", "page", "index.html", "LOG.md", "README.md")
SCRATCH_VARIABLE = "HARNESS_SCRATCH"
DEPTH = {"runs": 3, "weights": 1, "values": 1}  # of a folder below its kind's


def is_url(results: str) -> bool:
    """Whether results lie elsewhere."""
    return "://" in results


def scratch_of(url: str) -> Path:
    """The folder of this machine in which work for a URL goes on; it stays, so that what was cut off can be gone on with."""
    root = os.environ.get(SCRATCH_VARIABLE) or Path.home() / ".cache" / "thinking-harness" / "scratch"
    return Path(root) / hashlib.sha256(url.encode()).hexdigest()[:12]


class Remote:
    """One URL, and its scratch folder ``local``, whose files have the same names below it."""

    def __init__(self, url: str) -> None:
        fsspec: Any = importlib.import_module("fsspec")
        self.url, self.local = url, scratch_of(url)
        try:
            self._files: Any
            self._files, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # fsspec says which package opens such a URL
            raise ValueError(f"--results: cannot open {url}: {error}") from None
        self._root = root.rstrip("/")
        with self._told():
            self._files.makedirs(self._root, exist_ok=True)
        self._old = self._pages()  # an older one than what may lie there by now

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(f"--results: {self.url}: {error}; what is complete here is kept in {self.local}") from None

    def _there(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.local).as_posix()}"

    def take(self, folder: Path) -> bool:
        """Download a folder of a run, a learner or a value model that is complete there and not here; whether it is here now."""
        kind = folder.relative_to(self.local).parts[0]
        record = RECORDS[kind]
        if (folder / record).exists():
            return True
        with self._told():
            if not self._files.exists(self._there(folder / record)):
                return False
        with alone(self.local, f"{LOCKS[kind]}-{folder.name}"):
            return self._taken(folder, record)

    def take_those(self, folders: Iterable[Path]) -> None:
        """`take` those of these that lie there at all: one listing for all that are beside each other, not a round trip each."""
        lying: dict[Path, set[str]] = {}
        for folder in folders:
            if folder.parent not in lying:
                lying[folder.parent] = self._names(folder.parent)
            if folder.name in lying[folder.parent]:
                self.take(folder)

    def _names(self, folder: Path) -> set[str]:
        """What lies in a folder there now, by name; nothing where there is no such folder."""
        with self._told():
            self._files.invalidate_cache(self._there(folder))
            try:
                return {str(path).rstrip("/").rpartition("/")[2] for path in self._files.ls(self._there(folder), detail=False)}
            except FileNotFoundError:
                return set()

    def _taken(self, folder: Path, record: str) -> bool:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".taken-", dir=folder.parent) as made:
            half = Path(made) / folder.name
            half.mkdir()
            with self._told():
                for path in self._files.find(self._there(folder)):
                    self._files.get_file(path, str(half / path.rpartition("/")[2]))
            try:
                records.read_record(half, name=record)
            except ValueError:  # torn, or being written: it is not there
                return False
            shutil.rmtree(folder, ignore_errors=True)  # what was begun here
            half.rename(folder)
        return True

    def give(self, folder: Path) -> None:
        """Upload a folder that is complete here, the record last; nothing if that record is there already."""
        record = RECORDS[folder.relative_to(self.local).parts[0]]
        if not (folder / record).exists():
            return
        with self._told():
            there = self._there(folder / record)
            if self._files.exists(there):
                if self._files.cat_file(there) == (folder / record).read_bytes():
                    return
                self._files.rm_file(there)  # another one, or a torn one: not complete while its files change
            self._files.makedirs(self._there(folder), exist_ok=True)
            names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != "." and p.name != record)
            for name in [*names, record]:
                self._files.put_file(str(folder / name), self._there(folder / name))

    def take_all(self, kinds: Sequence[str] = ("runs",)) -> None:
        """Download all that is complete, of these kinds, and the pages."""
        with self._told():
            found = [Path(path) for path in self._files.find(self._root)]
        below = [self.local / path.relative_to(self._root) for path in found]
        for path in below:
            kind, *inner = path.relative_to(self.local).parts
            if kind in kinds and path.name == RECORDS[kind] and len(inner) == DEPTH[kind] + 1:
                self.take(path.parent)
            elif kind in PAGES:  # another machine may have made it anew
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._told():
                    self._files.get_file(self._there(path), str(path))
        self._old = self._pages()

    def give_all(self) -> None:
        """Upload all runs that are complete here and not there, and the pages that were written since."""
        for kind, depth in DEPTH.items():
            for path in sorted((self.local / kind).glob("/".join(["*"] * depth + [RECORDS[kind]]))):
                self.give(path.parent)
        for path, written_ns in self._pages().items():
            if self._old.get(path) != written_ns:
                with self._told():
                    self._files.makedirs(self._there(path.parent), exist_ok=True)
                    self._files.put_file(str(path), self._there(path))

    def _pages(self) -> dict[Path, int]:
        """The pages here, and when each was written."""
        trees = (self.local / name for name in PAGES)
        paths = [path for tree in trees for path in ([tree] if tree.is_file() else sorted(tree.rglob("*"))) if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in paths}


def folders_of(results: Path, spec: RunSpec) -> list[Path]:
    """What a run needs and leaves: its learners, the first one first, its value model, and itself."""
    from harness.values import value_folder

    learners = [spec]
    while (before := learners[-1].pretrained()) is not None:
        learners.append(before)
    values = [] if spec.strategy.value_spec() is None else [value_folder(results, spec)]
    return [*(records.weights_folder(results, one) for one in reversed(learners)), *values, records.run_folder(results, spec)]


@contextmanager
def synced(url: str | None, spec: RunSpec) -> Iterator[None]:
    """While a run, or its learner, is made in the scratch folder of a URL: take what is there, give what is complete."""
    if url is None:
        yield
        return
    remote = Remote(url)
    *needed, own = folders_of(remote.local, spec)
    if not remote.take(own):
        for folder in needed:
            remote.take(folder)
    try:
        yield
    finally:
        for folder in (*needed, own):
            remote.give(folder)
