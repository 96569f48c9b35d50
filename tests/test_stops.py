"""Strings that end an answer are found in the text as it is decoded, without special tokens, where stock lm-eval finds them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from lm_eval_support import asking
from spoken import NAMED, speaker
from transformers import AutoTokenizer

from harness.lm_eval_bridge import ThinkingLM
from harness.own_alphabet import own_alphabet
from harness.stops import completion_of, met, said_by

KINDS = ("llama", "metaspace", "qwen2")
CONTEXTS = ("Question: what is 12 + 34? Answer:", "The quick brown", "naïve")
CAP = 24


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ThinkingLM, Any]:
    """A random model that says its named specials now and then, asked by us and by stock lm-eval."""
    from lm_eval.models.huggingface import HFLM

    path = speaker(request.param, tmp_path_factory.mktemp(request.param), louder=0.3)
    return ThinkingLM(path, responses=False), HFLM(pretrained=path, logits_cache=False, batch_size=1, device="cpu")


def answers(lm: Any, stops: Iterable[tuple[str, ...]], contexts: Iterable[str] = CONTEXTS) -> list[str]:
    """What follows each context under each list of stops."""
    every = [(context, {"until": list(until), "max_gen_toks": CAP}) for until in stops for context in contexts]
    made = [asking("generate_until", *arguments, doc_id=at) for at, arguments in enumerate(every)]
    return list(lm.generate_until(made, disable_tqdm=True))


def stops_within(texts: Iterable[str]) -> list[str]:
    """Every string of one to four characters of some texts that is part of no special's name, in order."""
    found = {text[at : at + size]: None for text in texts for size in range(1, 5) for at in range(len(text) - size + 1)}
    return [stop for stop in found if not any(stop in name for name in (*NAMED, "<s>", "</s>", "<unk>", "<|endoftext|>"))]


def test_a_few_stops_are_met_where_stock_meets_them(pair: tuple[ThinkingLM, Any]) -> None:
    ours, stock = pair
    whole = answers(stock, [()])
    assert answers(ours, [()]) == whole
    found = stops_within(whole)
    blank = [stop for stop in found if stop.endswith(" ")]
    wide = [stop for stop in found if not stop.isascii()]
    chosen = [(stop,) for stop in (*blank[:4], *wide[:2], *found[:: max(len(found) // 5, 1)])]
    said = answers(ours, chosen, CONTEXTS[:1])
    assert said == answers(stock, chosen, CONTEXTS[:1]) and len({*said, whole[0]}) > 3


@pytest.mark.slow
def test_every_stop_of_one_to_four_characters_is_met_where_stock_meets_it(pair: tuple[ThinkingLM, Any]) -> None:
    ours, stock = pair
    stops = [(stop,) for stop in stops_within(answers(stock, [()]))]
    differing = [
        (stop, mine, theirs)
        for stop, mine, theirs in zip(stops, answers(ours, stops, CONTEXTS[:1]), answers(stock, stops, CONTEXTS[:1]), strict=True)
        if mine != theirs
    ]
    assert len(stops) > 100 and not differing


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> tuple[ThinkingLM, list[int], Any]:
    """A model that says specials often, the tokens that it says, and its tokenizer."""
    path = speaker("qwen2", tmp_path_factory.mktemp("loud"), louder=2.0)
    lm, tokenizer = ThinkingLM(path, responses=False), AutoTokenizer.from_pretrained(path)
    return lm, list(tokenizer.get_added_vocab().values()), tokenizer


def test_a_stop_within_the_name_of_a_special_is_met_in_text_alone(loud: tuple[ThinkingLM, list[int], Any]) -> None:
    """The first example of the design: ``|`` is no part of what <|im_start|> says, so the answer goes on, without fragments."""
    lm, _, _ = loud
    whole, stopped = answers(lm, [()]), answers(lm, [("|",)])
    assert stopped == [text.split("|")[0] for text in whole]
    assert not any(part in text for text in (*whole, *stopped) for part in ("<|", "im_start", "im_end"))


def test_a_stop_that_spells_a_special_is_met_at_that_token(tmp_path: Path) -> None:
    """The second example of the design: ``<|im_end|>`` is asked for by name, so it ends the answer."""
    path = speaker("qwen2", tmp_path, louder=2.0)
    alphabet = own_alphabet(path)
    (end,) = alphabet.encode(NAMED[1]).tolist()
    text = alphabet.encode("a dark and stormy").tolist()
    silent = alphabet.silent_ids(("x", NAMED[1]))
    assert end not in silent and end in alphabet.silent_ids(("<|im_",))
    assert met(alphabet, (NAMED[1],), [*text, end], silent) == NAMED[1]
    assert met(alphabet, ("<|im_",), [*text, end], alphabet.silent_ids(("<|im_",))) is None
    found = completion_of(alphabet, (*text, end), 0.0, "end", None, closes=(NAMED[1],), silent=silent)
    assert found.text == "a dark and stormy"


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_say_in_context_what_they_say_in_a_text(kind: str, tmp_path: Path) -> None:
    """Of a text's tokens one by one, and a stop that ends in a blank is met at the token that brings the blank."""
    alphabet = own_alphabet(speaker(kind, tmp_path))
    text = "The quick brown fox jumps over"
    ids = alphabet.encode(text).tolist()
    assert "".join(said_by(alphabet, token) for token in ids).strip() == text
    at = next(at for at in range(1, len(ids) + 1) if met(alphabet, ("fox ",), ids[:at]) is not None)
    shown = "".join(piece for piece in alphabet.pieces(ids[:at]) if isinstance(piece, str))
    before = "".join(piece for piece in alphabet.pieces(ids[: at - 1]) if isinstance(piece, str))
    assert "fox " in shown and "fox " not in before


def test_a_character_that_is_cut_by_a_token_meets_no_stop_before_it_is_whole(tmp_path: Path) -> None:
    alphabet = own_alphabet(speaker("qwen2", tmp_path))
    ids = alphabet.encode("x\u4f60y").tolist()
    where = [met(alphabet, ("\u4f60",), ids[: at + 1]) for at in range(len(ids))]
    assert len(ids) >= 5 and where.index("\u4f60") == len(ids) - 2


def test_stops_that_overlap_cut_one_after_another_as_stock_does(pair: tuple[ThinkingLM, Any]) -> None:
    """Where several strings end an answer at once, each cuts what the one before it has left, in the order that is given."""
    ours, stock = pair
    (text,) = answers(stock, [()], CONTEXTS[:1])
    words = [text[at : at + 3] for at in range(2, len(text) - 3)]
    word = next(one for one in words if one.isascii() and len(set(one)) == 3)
    first, last = word[:2], word[1:]
    chosen = [(last, first), (first, last), (word[1], first), (first, word[1]), (word[2], word), (word, word[2])]
    found = answers(ours, chosen, CONTEXTS[:1])
    assert found == answers(stock, chosen, CONTEXTS[:1]) and len(set(found)) > 1
