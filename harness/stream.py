"""Texts as streams of text tokens: encoding pieces one by one, with roles, places and targets in flat arrays.

Knows alphabets and pieces; knows nothing of weaving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.alphabet import Alphabet
from harness.problem import ROLES, Piece, Special, Text, Tokens

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_ROLE_INDEX = {role: i for i, role in enumerate(ROLES)}


@dataclass(frozen=True, slots=True)
class Stream:
    """Text tokens of several sequences, one after another, in arrays (n,); ``row`` says which sequence."""

    ids: IntArray
    roles: IntArray
    places: IntArray
    row: IntArray
    target: BoolArray

    def take(self, kept: BoolArray) -> Stream:
        """The tokens in ``kept``."""
        return Stream(self.ids[kept], self.roles[kept], self.places[kept], self.row[kept], self.target[kept])


def encode(texts: Sequence[Text], alphabet: Alphabet, *, places: IntArray | None = None) -> Stream:
    """Texts -> their tokens. Pieces are encoded one by one.

    places: text tokens that already stand before each text (default none). Inserted-only specials share the place of the
    text token before them.
    """
    pieces = [piece for text in texts for piece in text]
    lengths, ids = _encode_contents([p.content for p in pieces], alphabet)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    row = np.repeat(owner, lengths)
    roles = np.repeat(np.array([_ROLE_INDEX[p.role] for p in pieces], dtype=np.int64), lengths)
    target = np.repeat(np.array([p.target for p in pieces], dtype=bool), lengths)
    before = np.zeros(len(texts), dtype=np.int64) if places is None else places
    return Stream(ids, roles, _places(ids, row, alphabet, before), row, target)


def _encode_contents(contents: list[str | Special | Tokens], alphabet: Alphabet) -> tuple[IntArray, IntArray]:
    """Lengths (pieces,) and token ids (n,)."""
    strings = [c for c in contents if isinstance(c, str)]
    flat, text_lengths = alphabet.encode_many(strings)
    if len(strings) == len(contents):
        return text_lengths, flat
    lengths = np.ones(len(contents), dtype=np.int64)
    is_text = np.array([isinstance(c, str) for c in contents], dtype=bool)
    lengths[is_text] = text_lengths
    others: list[int] = []
    for i, content in enumerate(contents):
        if isinstance(content, Special):
            others.append(alphabet.id_of(content))
        elif isinstance(content, Tokens):
            others += content.ids
            lengths[i] = len(content.ids)
    ids = np.empty(int(lengths.sum()), dtype=np.int64)
    from_text = np.repeat(is_text, lengths)
    ids[from_text] = flat
    ids[~from_text] = others
    return lengths, ids


def _places(ids: IntArray, row: IntArray, alphabet: Alphabet, before: IntArray) -> IntArray:
    """Index of each token among the text tokens of its sequence."""
    counted = ids < alphabet.sayable_end
    running = np.cumsum(counted)
    starts = np.searchsorted(row, np.arange(len(before)))
    offset = np.concatenate([[0], running])[starts]
    places: IntArray = np.maximum(running - 1 - offset[row] + before[row], 0)
    return places


def opened(text: Text, alphabet: Alphabet) -> Text:
    """The text behind what a model's own tokenizer puts before texts; one that begins so already is as it was."""
    if not alphabet.bos_ids:
        return text
    first = tuple(encode([text[:1]], alphabet).ids.tolist())
    return text if alphabet.opened(first) == first else (Piece(Tokens(alphabet.bos_ids), "prompt"), *text)


def cropped(text: Text, alphabet: Alphabet, tokens: int) -> Text:
    """The text's last ``tokens`` text tokens, and all of the inserted ones, which take no room of the text."""
    stream = encode([text], alphabet)
    beyond = int((stream.ids < alphabet.sayable_end).sum()) - tokens
    if beyond <= 0:
        return text
    kept = (stream.places >= beyond) | (stream.ids >= alphabet.sayable_end)
    return tuple(piece for piece, stays in zip(tokens_of([text], alphabet)[0], kept.tolist(), strict=True) if stays)


def tokens_of(texts: Sequence[Text], alphabet: Alphabet) -> list[Text]:
    """The same texts, a piece for each token."""
    stream = encode(texts, alphabet)
    pieces = [
        Piece(Tokens((i,)), ROLES[role], target)
        for i, role, target in zip(stream.ids.tolist(), stream.roles.tolist(), stream.target.tolist(), strict=True)
    ]
    starts = np.searchsorted(stream.row, np.arange(len(texts) + 1)).tolist()
    return [tuple(pieces[a:b]) for a, b in pairwise(starts)]
