"""Places in running text where a plain word comes next, by split; each context once in all splits.

Running text: a document with every stretch of white space as one blank. Knows nothing of alphabets, worked lines or streams.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from harness.task import SPLITS, Split
from tasks._split_corpus import Corpus
from tasks._splits import content_hash

Gap = tuple[str, str]  # context, which ends in a blank; the word that comes next
# Letters, with apostrophes and hyphens between them, after a blank; then at most punctuation before the next blank.
NEXT_WORD: Final = re.compile(r"(?<= )[A-Za-z]+(?:['-][A-Za-z]+)*(?=[.,;:!?)\"']*(?: |$))")
FOLLOWERS: Final = 3


@dataclass(frozen=True, eq=False)
class Gaps:
    """Gaps by split, ordered by a hash of their contexts, and what the train split says of words; equal to itself alone.

    rank: of each word of the train split, by falling frequency from 1 (equal ones by spelling).
    """

    by_split: Mapping[Split, Sequence[Gap]]
    rank: Mapping[str, int]

    def likely(self, last: str, *, besides: str | None = None) -> list[str]:
        """The words that most often came next after a last word in the train split, at most FOLLOWERS.

        besides: count one occurrence of this word less, so that a train question does not tell its own answer.
        """
        return _by_frequency(self._after.get(last, Counter()) - Counter([besides] if besides else []))[:FOLLOWERS]

    @cached_property
    def _after(self) -> Mapping[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {}
        for context, word in self.by_split["train"]:
            counts.setdefault(last_word(context), Counter())[word] += 1
        return counts


def last_word(context: str) -> str:
    """What stands before the last blank."""
    return context.rstrip(" ").rpartition(" ")[2]


def clipped(text: str, characters: int) -> str:
    """At most the last so many characters, from a word border on; a single word that is longer is cut."""
    if len(text) <= characters:
        return text
    tail = text[-characters:]
    return tail if text[-characters - 1] == " " or " " not in tail[:-1] else tail.partition(" ")[2]


@lru_cache(maxsize=4)
def gaps(corpus: Corpus, characters: int, frequent: int) -> Gaps:
    """All gaps of a corpus. characters: of context; frequent: only the so many most frequent words of train (0: all).

    A context that stands in several splits belongs to the most held-out one; its first word stays. ValueError if a split
    has none.
    """
    found = {s: [gap for d in corpus.documents[s] for gap in _of_text(d.text, characters)] for s in SPLITS}
    order = _by_frequency(Counter(word for _, word in found["train"]))
    rank = {word: i for i, word in enumerate(order, 1)}
    asked = set(order[:frequent])
    owner: dict[str, tuple[Split, str]] = {}
    for split in reversed(SPLITS):
        for context, word in found[split]:
            if not frequent or word in asked:
                owner.setdefault(context, (split, word))
    ordered = sorted(owner, key=content_hash)
    by_split = {s: [(c, owner[c][1]) for c in ordered if owner[c][0] == s] for s in SPLITS}
    empty = [s for s in SPLITS if not by_split[s]]
    if empty:
        raise ValueError(f"the text has no question for {', '.join(empty)}; fewer characters or more words would help")
    return Gaps(by_split, rank)


def _of_text(text: str, characters: int) -> Iterator[Gap]:
    running = " ".join(text.split())
    for found in NEXT_WORD.finditer(running):
        start = found.start()
        if start >= characters and " " in running[start - characters - 1 : start - 1]:  # else one long word fills the context
            yield clipped(running[max(0, start - characters - 1) : start], characters), found[0]


def _by_frequency(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda word: (-counts[word], word))
