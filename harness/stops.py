"""Strings that end a generated text, and how tokens read while they are generated. Knows alphabets; knows no rows.

Text is decoded in context: a token may say something else at the beginning of a text, or by itself, than behind other tokens.
Silent tokens say nothing: they are a tokenizer's own special tokens, where somebody else's question is answered.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from harness.alphabet import Alphabet
from harness.grammar import UNDECODABLE
from harness.problem import Completion, Special, closed, shown

NONE: frozenset[int] = frozenset()
CONTEXT_TOKENS = 8  # that stand before a stop, so that it is decoded as in the whole text


@lru_cache(maxsize=1 << 16)
def said_by(alphabet: Alphabet, token: int) -> str:
    """Return a token as people read it behind others."""
    alone = alphabet.pieces([token])
    text = shown(alone)
    if isinstance(alone[0], Special) or UNDECODABLE in text:
        return text
    both = shown(alphabet.pieces([token, token]))
    return both[len(text) :] if both.startswith(text) else text


@lru_cache(maxsize=1 << 16)
def stop_in(alphabet: Alphabet, until: tuple[str, ...], token: int) -> str | None:
    """Return the first of some strings that a single token holds."""
    text = said_by(alphabet, token)
    return next((string for string in until if string in text), None)


@lru_cache(maxsize=1 << 16)
def may_end(alphabet: Alphabet, strings: tuple[str, ...], token: int) -> bool:
    """Whether a token can be where one of some strings is complete: it holds the last character of one, or a part of one.

    At the beginning of a text, or behind other tokens.
    """
    text = shown(alphabet.pieces([token, token]))
    return UNDECODABLE in text or any(string[-1] in text or UNDECODABLE in string for string in strings)


def met(alphabet: Alphabet, strings: tuple[str, ...], ids: Sequence[int], silent: Collection[int] = NONE) -> str | None:
    """Return the first of some strings that the text behind the last special holds, if the last token may have completed one.

    The text is that of all ``ids``. Its end alone is decoded first, since most tokens complete nothing.
    """
    said = [i for i in ids if i not in silent] if silent else ids
    if not said or not any(may_end(alphabet, strings, token) for token in said[-2:]):
        return None
    longest = max(len(string.encode()) for string in strings)  # a token is a byte at least
    end = said[-longest - CONTEXT_TOKENS :]
    text = _last_text(alphabet, end)
    if len(end) < len(said):
        if UNDECODABLE not in text and not any(string in text for string in strings):
            return None
        text = _last_text(alphabet, said)  # what is no text in the end alone may be cut within a character there
    return next((string for string in strings if string in text), None)


def _last_text(alphabet: Alphabet, ids: Sequence[int]) -> str:
    """Return the last piece of what tokens say; nothing if it is a special."""
    (piece,) = alphabet.pieces(ids)[-1:]
    return piece if isinstance(piece, str) else ""


def completion_of(
    alphabet: Alphabet,
    ids: tuple[int, ...],
    nats: float,
    stop: str,
    stopped_by: str | Special | None,
    *,
    closes: Sequence[str] = (),
    silent: Collection[int] = NONE,
) -> Completion:
    """Return what tokens say, without the stop. closes: the strings of which one has ended it, if one has."""
    pieces = alphabet.pieces(ids, silent=silent)
    if closes:
        pieces = closed(pieces, closes) or ()  # one that began before these tokens leaves nothing of them
    elif isinstance(stopped_by, Special):
        pieces = pieces[:-1]
    elif stopped_by is not None:
        last = str(pieces[-1])
        pieces = (*pieces[:-1], last[: last.rindex(stopped_by)])
    return Completion(pieces, ids, nats, stop, stopped_by)
