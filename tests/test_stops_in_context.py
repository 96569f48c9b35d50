"""A stop is met at the token that completes it in the whole text: for every kind of decoder, across the parts of an attempt."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoken import TEXTS, pieces_of_bytes, pieces_of_sentences
from support import digits, scripted, tiny
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from harness.alphabet import Alphabet, BpeCodec, make_alphabet
from harness.problem import Completion, Piece, shown
from harness.search_wants import Beam
from harness.session import Job, Session
from harness.stops import met
from harness.strategy import Strategy
from harness.wants import Generate, Solver, Start


def _own(made: Any) -> Alphabet:
    from harness.own_alphabet import OwnAlphabet

    return OwnAlphabet(made.backend_tokenizer, spec="made", end_id=int(made.eos_token_id), rows=len(made))


def _suffixed() -> Alphabet:
    """Words end in a suffix, which says a blank once something follows."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder(suffix="</w>")
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=150, end_of_word_suffix="</w>", show_progress=False))
    return Alphabet(BpeCodec(tokenizer, size=tokenizer.get_vocab_size()), spec="made")


def _words() -> Alphabet:
    """A blank stands before every word but the first, and none before what goes on with one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]"], show_progress=False))
    return Alphabet(BpeCodec(tokenizer, size=tokenizer.get_vocab_size()), spec="made")


KINDS: dict[str, Callable[[], Alphabet]] = {
    "chars": digits,
    "bytes": lambda: make_alphabet("bytes"),
    "llama": lambda: _own(pieces_of_sentences(strips=True)),
    "metaspace": lambda: _own(pieces_of_sentences(strips=False)),
    "qwen2": lambda: _own(pieces_of_bytes()),
    "suffixed": _suffixed,
    "words": _words,
}


@lru_cache
def alphabet_of(kind: str) -> Alphabet:
    return KINDS[kind]()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_stop_is_met_where_the_whole_text_first_holds_it(kind: str, data: st.DataObject) -> None:
    """Token by token, for any tokens, silent ones among them, and any stops of their text."""
    alphabet = alphabet_of(kind)
    tokens = st.integers(0, alphabet.codec.size - 1).filter(lambda token: token != alphabet.end_id)
    ids = data.draw(st.lists(tokens, min_size=1, max_size=40))
    silent = alphabet.silent_ids() | data.draw(st.frozensets(st.sampled_from(ids), max_size=2))
    texts = [shown(alphabet.pieces(ids[:at], silent=silent)) for at in range(1, len(ids) + 1)]
    whole = texts[-1] or "x"
    starts = st.integers(0, len(whole) - 1)
    parts = st.builds(lambda at, size: whole[at : at + size], starts, st.integers(1, 4))
    stops = tuple(data.draw(st.lists(parts | st.text("ab \n.", min_size=1, max_size=3), min_size=1, max_size=2)))
    wanted = next((at for at, text in enumerate(texts) if any(stop in text for stop in stops)), None)
    found = next((at for at in range(len(ids)) if met(alphabet, stops, ids[: at + 1], silent) is not None), None)
    assert found == wanted, (ids, stops, whole)


@pytest.mark.parametrize("beam", [False, True])
def test_a_stop_that_spans_two_parts_of_an_attempt_ends_it(beam: bool) -> None:
    """A worked line ends in "=", and what follows it completes "=2": nothing of the second part is left."""
    backbone = tiny(scripted(Strategy(), "1=", "234", alphabet=digits()))

    def solver() -> Solver[Completion]:
        row = yield Start((Piece("12+", "prompt"),))
        line = yield Generate(row, 9, until=("=",))
        if not beam:
            rest: Completion = yield Generate(row, 9, after=line.ids, closes=("=2",))
            return rest
        found, _ = yield Beam(row, 9, 1, after=line.ids, closes=("=2",))
        return found[0].completion  # type: ignore[no-any-return]

    (outcome,) = Session(backbone).run([Job("it", solver)])
    assert (outcome.value.text, outcome.value.stop, len(outcome.value.ids)) == ("", "end", 1)


@pytest.mark.parametrize("kind", ["bytes", "llama", "metaspace", "qwen2"])
@pytest.mark.parametrize("before", range(3, 12))
def test_a_stop_is_met_behind_many_characters_that_are_spelled_in_bytes(kind: str, before: int) -> None:
    """SentencePiece's decoders read a run of bytes as a whole: one that is cut within a character is no text at all."""
    alphabet = alphabet_of(kind)
    text, stop = "一二三四五六七八九十百"[:before], "你好"
    ids = alphabet.encode(f"a{text}{stop}吗").tolist()
    texts = [shown(alphabet.pieces(ids[:at])) for at in range(len(ids) + 1)]
    wanted = next(at for at, whole in enumerate(texts) if stop in whole)
    assert next((at for at in range(len(ids) + 1) if met(alphabet, (stop,), ids[:at]) is not None), None) == wanted
    assert met(alphabet, ("\ufffd",), ids[:-1]) is not None  # what is cut within a character is shown so
