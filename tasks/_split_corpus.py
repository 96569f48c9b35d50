"""A corpus in its splits: loaded, each text once, split by a hash of its content unless the source says how.

Loads through `_corpora`, splits through `_splits`; knows nothing of what is asked about the documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.problem import Document
from harness.task import SPLITS, Split
from tasks._corpora import load
from tasks._splits import content_hash, fill


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A corpus in its splits; equal to itself alone. splits: "by content hash", or which ones the source gave."""

    documents: Mapping[Split, Sequence[Document]]
    sha256: str
    duplicates: int
    splits: str

    def facts(self) -> dict[str, Any]:
        """For the record: sha256 of all documents, documents and bytes by split, duplicates dropped, who made the splits."""
        return {
            "sha256": self.sha256,
            "documents": {split: len(self.documents[split]) for split in SPLITS},
            "bytes": {split: sum(_size_bytes(d.text) for d in self.documents[split]) for split in SPLITS},
            "duplicates_dropped": self.duplicates,
            "splits": self.splits,
        }


def split_corpus(corpus: str, column: str) -> Corpus:
    """A corpus by name or path (see `_corpora`), in its splits; ValueError names ``task.corpus`` or ``task.column``."""
    path = Path(corpus)
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)
    return _loaded(corpus, column, stamp)


@lru_cache(maxsize=2)
def _loaded(corpus: str, column: str, stamp: tuple[int, int]) -> Corpus:
    """Load, drop duplicates, split. stamp: changes when a local file does, so that an edited one is read again."""
    found = load(corpus, column)
    kept = _distinct(found)
    texts = [text for _, text, _ in kept]
    given = [split for _, _, split in kept]
    try:
        splits = fill(texts, weights=[_size_bytes(t) for t in texts], given=given)
    except ValueError as error:
        raise ValueError(f"task.corpus: {corpus!r} is too small: {error}") from None
    documents = {
        s: [Document(name, text) for (name, text, _), mine in zip(kept, splits, strict=True) if mine == s] for s in SPLITS
    }
    own = sorted({s for s in given if s is not None}, key=SPLITS.index)
    digest = content_hash("".join(content_hash(text) for _, text, _ in found))
    return Corpus(documents, digest, len(found) - len(kept), f"given: {', '.join(own)}" if own else "by content hash")


def _distinct(found: Sequence[tuple[str, str, Split | None]]) -> list[tuple[str, str, Split | None]]:
    """Each text once, in the given order; of copies in several given splits the most held-out one stays."""
    rank: dict[Split | None, int] = {"test": 0, "validation": 1, "value": 2, "train": 3, None: 3}
    best: dict[str, int] = {}
    for i in sorted(range(len(found)), key=lambda i: rank[found[i][2]]):
        best.setdefault(found[i][1], i)
    return [found[i] for i in sorted(best.values())]


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
