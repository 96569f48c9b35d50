"""Cloze: the next word of real text, exactly.

Finds its questions through `_next_words` in a corpus that `_split_corpus` has split; knows nothing of models or strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.problem import Key, Problem, Question
from harness.task import SPLITS, Split, Task, setting
from tasks._epochs import endless
from tasks._next_words import Gap, Gaps, clipped, gaps, last_word
from tasks._split_corpus import split_corpus


@dataclass(frozen=True, kw_only=True)
class Cloze(Task):
    """Cloze: the next word of real text, from the characters before it; right is that word exactly, case included.

    A word: letters, with apostrophes and hyphens between them, that stands free (blank before, blank or punctuation after).
    Documents are split before questions are cut from them, as in language_model; a context that stands in two splits belongs to
    the more held-out one. Questions have their natural shares: the floor is the share of the most frequent word. Difficulty: the
    digits of the word's rank by frequency in the train split (1: the nine most frequent; a word that train lacks ranks last).

    Worked lines for "..the value of " + "the":

        hints      t | 3 | the                  first letter, number of letters, word
        spelling   t | th | the                 one letter more each
        followers  of>the,a,an | the            last word > the words (at most three, of those asked) that most often came next
                                                in the other questions of the train split

    The train stream goes through its questions again and again, each time in a new order; held-out splits have a fixed order.
    """

    source: ClassVar[str] = "own; exact match of the last word as in LAMBADA, Paperno 1606.06031"
    difficulty_name: ClassVar[str] = "rank_digits"

    corpus: str = setting("pydoc", doc="pydoc, shakespeare, a text file's path, a folder, or datasets:NAME[:CONFIG]")
    column: str = setting("text", doc="the column that holds the text, for datasets")
    characters: int = setting(32, doc="most characters of text before the word", low=8, high=900)
    frequent: int = setting(50, doc="asked are the so many most frequent words of the train split; 0: all", low=0, high=100_000)
    lines: Literal["hints", "spelling", "followers"] = setting(
        "hints", doc="what worked lines say: first letter and length, its spelling, or likely followers"
    )
    tokens: Literal["bytes", "gpt2"] = setting("bytes", doc="alphabet: bytes, or GPT-2's BPE")

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """Short contexts of pydoc, which is always there."""
        return {"corpus": "pydoc", "characters": 16}

    def defaults(self) -> Mapping[str, Any]:
        """Piloted at the default settings: direct 26%, where the word that most often follows the last one is right in 34%."""
        return {"model.size": "xs", "train.flops": 2e12, "train.problems_per_update": 64, "train.learning_rate": 2e-3}

    def offers(self) -> frozenset[str]:
        """A prompt and worked lines."""
        return frozenset({"prompt", "worked_lines"})

    def data_rows(self, split: Split) -> int:
        """Questions of a split."""
        return len(self._gaps.by_split[split])

    def origin(self, identity: str) -> str:
        """The corpus, and which question."""
        return f"task.corpus: {self.corpus!r}: question {identity}"

    def alphabet(self) -> str:
        """See the field ``tokens``."""
        return self.tokens

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """See Task.problems. ValueError names ``task.corpus``."""
        found = self._gaps
        caps, size = _caps(found, self.lines), len(found.by_split[split])
        places = endless(size, seed, start, count) if split == "train" else range(size)[start : start + count]
        return [self._problem(found, split, i, caps, lines) for i in places]

    def _problem(self, found: Gaps, split: Split, place: int, caps: tuple[int, int], lines: bool) -> Problem:
        context, word = gap = found.by_split[split][place]
        key = Key(word, _worked(self.lines, gap, found, split) if lines else ())
        rank = found.rank.get(word, len(found.rank) + 1)
        return Problem(Question(f"{split}-{place}", context, *caps), key, len(str(rank)))

    def parse(self, text: str) -> str:
        """Any text, as running text that ends in a blank, cut to its last ``characters``; ValueError if it holds none."""
        if not text.strip():
            raise ValueError("not a question of this task: no text; legal: any text whose next word is wanted")
        return clipped(" ".join(text.split()) + " ", self.characters)

    def provenance(self) -> Mapping[str, Any]:
        """Corpus, facts about its documents, questions by split."""
        questions = {split: len(self._gaps.by_split[split]) for split in SPLITS}
        return {"corpus": self.corpus} | split_corpus(self.corpus, self.column).facts() | {"questions": questions}

    @property
    def _gaps(self) -> Gaps:
        try:
            return gaps(split_corpus(self.corpus, self.column), self.characters, self.frequent)
        except ValueError as error:
            raise error if str(error).startswith("task.") else ValueError(f"task.corpus: {self.corpus!r}: {error}") from None


def _worked(kind: str, gap: Gap, found: Gaps, split: Split) -> tuple[str, ...]:
    """Worked lines; the last one is the word."""
    context, word = gap
    if kind == "spelling":
        return tuple(word[:n] for n in range(1, len(word) + 1))
    if kind == "hints":
        return word[0], str(len(word)), word
    last = last_word(context)
    return f"{last}>{','.join(found.likely(last, besides=word if split == 'train' else None))}", word


@lru_cache(maxsize=4)
def _caps(found: Gaps, kind: str) -> tuple[int, int]:
    """Tokens of the longest answer and of the longest worked lines of any question, each with the token that ends it."""
    answer = max(len(word) for split in SPLITS for _, word in found.by_split[split])
    joined = (";".join(_worked(kind, gap, found, split)) for split in SPLITS for gap in found.by_split[split])
    return answer + 1, max(len(text.encode()) for text in joined) + 1
