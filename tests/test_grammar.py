"""Grammars: a token may be said if and only if some text of the form goes on with it; and tasks say what they themselves pose."""

from __future__ import annotations

import random
import re
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness import registry
from harness.alphabet import Alphabet, make_alphabet
from harness.grammar import Grammar, character_of, completion_pattern, grammar_of
from harness.problem import BOT, END, SAYABLE, SEP, THOUGHTS, Problem, shown
from harness.task import SPLITS, Task
from strategies._lines import joined
from tasks._generated import below

END_SIGN, SEP_SIGN = character_of(END), character_of(SEP)
SETTINGS = {
    "arithmetic": [
        {}, {"operations": "+-x", "digits": "1-4"}, {"operations": "-", "answer": "reversed"}, {"operations": "x", "digits": "2"},
        {"operations": "+-x", "digits": "1-3", "lines": "detailed"}, {"longer": "5-8"},
        {"operations": "x+-", "digits": "1-3", "lines": "detailed", "answer": "reversed"},
    ],
    "countdown": [{}, {"numbers": "3-4", "largest": 12}, {"largest": 100, "largest_target": 1000}],
    "game_of_24": [{}],
    "k_hop": [{}, {"elements": 26, "hops": "1-25"}],
    "multi_step": [{}, {"modulus": 37, "operations": "x-"}, {"modulus": 100}, {"modulus": 10, "operations": "+"}],
    "modular_sum": [{}, {"modulus": 100}, {"modulus": 11}, {"modulus": 20}],
    "parity": [{}, {"lengths": "8-26"}],
    "permutations": [{}, {"group": "S5"}],
    "multiplication": [{}, {"digits": "1-9", "sizes": "equal"}, {"digits": "1-3", "numbers": "reversed"}],
    "three_sum": [{}, {"tuples": "5-12", "dimension": 3, "modulus": 7}],
    "path_star": [{}, {"degree": 4, "lengths": "3-7", "names": 62}],
    "word_problems": [{}, {"steps": "2", "most": 60}],
}  # fmt: skip
TASKS = [(name, fields) for name, many in SETTINGS.items() for fields in many]


class Words:
    """A codec of given pieces, for tokens of any text."""

    def __init__(self, *pieces: str) -> None:
        self.pieces, self.size = pieces, len(pieces)

    def encode_many(self, texts):
        raise NotImplementedError

    def decode(self, ids):
        return "".join([self.pieces[i] for i in ids])

    def tokenizer_json(self):
        raise NotImplementedError


def over(pattern: str, *pieces: str) -> tuple[Grammar, list[str]]:
    """A grammar over the given pieces, END and SEP, and what each column says, as in patterns."""
    alphabet = Alphabet(Words(*pieces), spec="words")
    head = alphabet.head_ids((SEP,))
    return Grammar(pattern, alphabet=alphabet, head_ids=head), [*pieces, END_SIGN, SEP_SIGN]


def of(pattern: str, alphabet: Alphabet) -> Grammar:
    return grammar_of(pattern, alphabet, alphabet.head_ids(SAYABLE))


def ids_of(alphabet: Alphabet, text: str) -> list[int]:
    """A text in which specials are their characters, in tokens."""
    ids: list[int] = []
    for part in re.split(f"([{END_SIGN}{SEP_SIGN}])", text):
        special = {END_SIGN: END, SEP_SIGN: SEP}.get(part)
        ids += alphabet.encode(part).tolist() if special is None else [alphabet.id_of(special)]
    return ids


def text_of(alphabet: Alphabet, ids: list[int]) -> str:
    """What tokens say, in which specials are their characters."""
    return "".join([p if isinstance(p, str) else character_of(p) for p in alphabet.pieces(ids)])


@cache
def task(name: str, fields: tuple[tuple[str, object], ...]) -> Task:
    made: Task = registry.find("task", name)(**dict(fields))
    return made


@cache
def posed(made: Task) -> list[Problem]:
    """A few hundred problems of all splits, each of another seed; kept, since problems of training are made by the thousand."""
    return [p for seed, split in enumerate(SPLITS) for p in made.problems(split, seed=seed, start=0, count=200 if seed else 400)]


def pattern_of(made: Task, mark=None) -> str:
    pattern = completion_pattern(made.grammar(), mark=mark, join=joined(["", ""]))
    assert pattern is not None
    return pattern


# Against brute force

LEAVES = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", "", SEP_SIGN, END_SIGN, f"[^a{END_SIGN}]", f"[a{END_SIGN}]"])
PATTERNS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,2}"])).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ),
    max_leaves=4,
)
MOST, DEPTH = 7, 2  # characters of a text that brute force tries; of a text behind which masks are looked at


def completes(pattern: str, tokens: list[str]):
    """Whether tokens can go on to a text of at most MOST characters that `re` matches, END standing last if at all."""
    compiled = re.compile(pattern)

    @cache
    def may(text: str) -> bool:
        if compiled.fullmatch(text):
            return True
        return not text.endswith(END_SIGN) and any(len(text + t) <= MOST and may(text + t) for t in tokens if t)

    return may


def end_from(grammar: Grammar, says: list[str], state: int) -> str:
    """By the grammar's own word, what leads from a state to the end in the fewest tokens."""
    ways = {state: ""}
    for at, text in iter(todo := [(state, "")]):
        if grammar.complete(at):
            return text
        for token in grammar.allowed([at])[0].nonzero()[:, 0].tolist():
            if (after := grammar.step(at, token)) not in ways:
                ways[after] = text + says[token]
                todo.append((after, ways[after]))
    raise AssertionError(f"state {state} leads to no end")


def assert_allowed_as(pattern: str, pieces: tuple[str, ...]) -> None:
    """Compare masks with brute force: what it finds is allowed, and behind all that is allowed `re` matches some longer text."""
    may = completes(pattern, [*pieces, END_SIGN, SEP_SIGN])
    try:
        grammar, says = over(pattern, *pieces)
    except ValueError as error:
        assert "can spell nothing" in str(error) and not may("")
        return
    states = [("", grammar.start)]
    for text, state in states:
        assert grammar.complete(state) == bool(re.fullmatch(pattern, text))
        for token, allowed in enumerate(grammar.allowed([state])[0].tolist()):
            longer = text + says[token]
            if not allowed:
                assert not says[token] or text.endswith(END_SIGN) or not may(longer), longer
                with pytest.raises(ValueError, match=f"token {token} "):
                    grammar.step(state, token)
                continue
            after = grammar.step(state, token)
            assert says[token] and not text.endswith(END_SIGN)
            assert may(longer) or re.fullmatch(pattern, longer + end_from(grammar, says, after)), longer
            if len(longer) <= DEPTH:
                states.append((longer, after))


@given(PATTERNS, st.sampled_from([("a", "b"), ("a", "b", "ab", "ba", "aab", "", "bb"), ("b", "a", "a", "bab")]))
@settings(max_examples=150)
def test_a_token_is_allowed_if_and_only_if_some_completion_goes_on_with_it(pattern, pieces):
    assert_allowed_as(pattern, pieces)


@given(PATTERNS, st.lists(st.sampled_from(["aa", "ab", "b", "bba", "aaa"]), min_size=1, max_size=3, unique=True).map(tuple))
@settings(max_examples=150)
def test_it_holds_where_no_single_character_is_a_token(pattern, pieces):
    assume(not {"a", "b"} <= set(pieces))
    assert_allowed_as(pattern, pieces)


def test_a_way_to_the_end_that_tokens_cannot_go_is_no_way():
    grammar, says = over("b(?:a|cca)", "a", "b", "cc", "bc")  # "bc" would want "ca" behind it
    assert [[says[j] for j in mask.nonzero()[:, 0]] for mask in grammar.allowed([grammar.start, grammar.walk([1])])] == [
        ["b"],
        ["a", "cc"],
    ]
    with pytest.raises(ValueError, match="token 3 "):
        grammar.step(grammar.start, 3)
    assert grammar.complete(grammar.walk([1, 2, 0])) and not grammar.complete(grammar.walk([1, 2]))


def test_what_stands_behind_end_is_not_said_and_any_character_may_be_a_special():
    grammar, says = over(f"[^a]*{END_SIGN}", "a", "b")
    assert grammar.allowed([grammar.start]).tolist() == [[False, True, True, True]]
    end = grammar.step(grammar.start, says.index(END_SIGN))
    assert grammar.complete(end) and not grammar.allowed([end]).any()
    grammar, _ = over(f"a(?:{END_SIGN}b)?", "a", "b")
    after = grammar.step(grammar.start, 0)
    assert grammar.complete(after) and not grammar.allowed([after]).any()


# Tasks


@pytest.mark.parametrize("name, fields", TASKS)
def test_keys_have_the_forms_that_their_task_tells(name, fields):
    made = task(name, tuple(fields.items()))
    answer, line = (re.compile(made.grammar()[kind]) for kind in ("answer", "line"))
    assert len(posed(made)) > 500
    for problem in posed(made):
        assert answer.fullmatch(problem.key.answer), problem
        assert problem.key.lines and [text for text in problem.key.lines if not line.fullmatch(text)] == [], problem
    any_but = re.search(r"\[\^|\\[A-Z]|(?<!\\)\.", made.grammar()["line"])
    assert not any_but and ";" not in made.grammar()["line"]  # it joins lines


@pytest.mark.parametrize("name, fields", TASKS)
def test_gold_texts_can_be_said(name, fields):
    made = task(name, tuple(fields.items()))
    alphabet = make_alphabet(made.alphabet())
    short, long = (of(pattern_of(made, mark), alphabet) for mark in (None, SEP))
    for problem in posed(made)[::13]:
        answer = f"{problem.key.answer}{END_SIGN}"
        for grammar, text in ((short, answer), (long, joined(problem.key.lines) + SEP_SIGN + answer)):
            end = grammar.walk(ids_of(alphabet, text))
            assert grammar.complete(end) and not grammar.allowed([end]).any()
        with pytest.raises(ValueError, match="cannot be said here"):
            long.walk(ids_of(alphabet, answer))


def test_numbers_below_one():
    for number in range(1, 101):
        assert [n for n in range(120) if re.fullmatch(below(number), str(n))] == list(range(number))
        assert not re.fullmatch(below(number), "00")


def test_forms_are_no_truths_and_not_everything():
    line = re.compile(task("countdown", ()).grammar()["line"])
    assert all(map(line.fullmatch, ["8-2=7 (left: 3 6)", "3*(8-2)", "(1+2)*20", "8-2", "1+1=8000 (left: 0)"]))
    assert not any(
        map(line.fullmatch, ["8-2=7", "3*(8-2", "3*8-", "(8)", "08-2", "", "8-2=6 (left: )", "1+2+3+4", "8-2=6(left: 3)"])
    )
    assert not re.fullmatch(task("multi_step", (("modulus", 37),)).grammar()["answer"], "37")
    assert re.fullmatch(task("word_problems", ()).grammar()["line"], "12+7=4")
    assert task("cloze", ()).grammar() == {}


def test_a_whole_completion_wants_what_the_task_has():
    assert completion_pattern({}, mark=None, join=";") is None
    assert completion_pattern({"line": "a"}, mark=SEP, join=";") is None
    assert completion_pattern({"answer": "a"}, mark=SEP, join=";") is None
    alone, marked = (completion_pattern({"answer": "a|b", "line": "c|d"}, mark=m, join=".") for m in (None, SEP))
    texts = [
        "a",
        "b",
        "c.d" + SEP_SIGN + "a",
        "d" + SEP_SIGN + "b",
        SEP_SIGN + "a",
        "c;d" + SEP_SIGN + "a",
        "cd" + SEP_SIGN + "a",
        "c",
    ]
    assert [bool(re.fullmatch(str(alone), t + END_SIGN)) for t in texts] == [True, True, *[False] * 6]
    assert [bool(re.fullmatch(str(marked), t + END_SIGN)) for t in texts] == [False, False, True, True, *[False] * 4]
    assert not re.fullmatch(str(alone), "a")


# Alphabets and walks

ALPHABETS = {"chars": "chars:0123456789+-*/()>=;: leftx,", "bytes": "bytes", "bpe": "bpe:300"}


@cache
def spelled_by(kind: str) -> Alphabet:
    """One of ALPHABETS; the BPE is trained on what is said, so it has tokens of several characters."""
    texts = [
        f"{joined(p.key.lines)} {p.key.answer} é" for p in task("countdown", ()).problems("train", seed=0, start=0, count=300)
    ]
    return make_alphabet(ALPHABETS[kind], texts=texts)


def wander(grammar: Grammar, alphabet: Alphabet, rng: random.Random, most: int) -> list[int]:
    """Random allowed tokens until nothing is asked for any more."""
    head, state, said = alphabet.head_ids(SAYABLE), grammar.start, []
    while len(said) < most and (said[-1:] != [alphabet.end_id]):
        mask = grammar.allowed([state])[0]
        assert mask.any()
        said.append(head[rng.choice(mask.nonzero()[:, 0].tolist())])
        state = grammar.step(state, said[-1])
    assert grammar.complete(state), shown(alphabet.pieces(said))
    return said


@pytest.mark.parametrize("kind", ALPHABETS)
@pytest.mark.parametrize("name, fields", [("countdown", {}), ("arithmetic", {"operations": "+-x", "lines": "detailed"})])
def test_every_walk_ends_in_a_text_of_the_form(name, fields, kind):
    pattern, alphabet, rng = pattern_of(task(name, tuple(fields.items())), SEP), spelled_by(kind), random.Random(0)
    grammar, others = of(pattern, alphabet), [of(pattern, spelled_by(k)) for k in ALPHABETS]
    for _ in range(40):
        text = text_of(alphabet, wander(grammar, alphabet, rng, 5000))
        assert re.fullmatch(pattern, text), text
        for other, k in zip(others, ALPHABETS, strict=True):  # whatever the tokens, the same can be said
            assert other.complete(other.walk(ids_of(spelled_by(k), text)))


def test_alphabets_agree_at_every_step():
    pattern = pattern_of(task("countdown", ()), SEP)
    chars, bytes_, bpe = (of(pattern, spelled_by(k)) for k in ALPHABETS)
    head, rng = [spelled_by(k).head_ids(SAYABLE) for k in ALPHABETS], random.Random(1)
    state, longest = [g.start for g in (chars, bytes_, bpe)], 0
    for character in text_of(spelled_by("chars"), wander(chars, spelled_by("chars"), rng, 5000)):
        may = [
            {text_of(spelled_by(k), [h[j]]) for j in g.allowed([s])[0].nonzero()[:, 0]}
            for g, k, h, s in zip((chars, bytes_, bpe), ALPHABETS, head, state, strict=True)
        ]
        assert may[0] == may[1] == {t for t in may[2] if len(t) == 1}
        longest = max(longest, *map(len, may[2]))
        state = [
            g.walk(ids_of(spelled_by(k), character), s) for g, k, s in zip((chars, bytes_, bpe), ALPHABETS, state, strict=True)
        ]
    assert longest > 2


def test_tokens_that_are_no_whole_text_are_never_allowed():
    bpe = make_alphabet("bpe:300", texts=["12 é", "34 é"] * 20)
    mask = of(f"(?:.*é)?{END_SIGN}", bpe).allowed([0])[0]
    says = [text_of(bpe, [i]) for i in range(bpe.codec.size)]
    assert [says[j] for j in (~mask[: len(says)]).nonzero()[:, 0]] == [s for s in says if "\ufffd" in s or s in ("", "\n")]
    assert "é" in says and " é" in says and "" in says and says.count("\ufffd") == 128
    with pytest.raises(ValueError, match="can spell nothing"):
        of("aé", make_alphabet("bytes"))
    chars = make_alphabet(f"chars:ab{END_SIGN}{character_of(BOT)}")  # text that looks like a special is not one
    assert of(".*", chars).allowed([0]).tolist() == [[True, True, False, False, *[True] * 4]]
    assert (~Grammar("[^a]", alphabet=chars, head_ids=range(4)).allowed([0])[0, [0, 2, 3]]).all()


# Masks, states, errors


def test_masks_follow_the_heads_columns_and_many_states_are_looked_up():
    alphabet = make_alphabet("chars:abc")
    heads = [alphabet.head_ids((SEP,)), [2, alphabet.id_of(SEP), 0, alphabet.end_id]]
    plain, turned = (Grammar(f"a+(?:{SEP_SIGN}c{{9}})?{END_SIGN}", alphabet=alphabet, head_ids=h) for h in heads)
    texts = ["", "a", "aa", f"a{SEP_SIGN}", *(f"aa{SEP_SIGN}{'c' * n}" for n in range(1, 10)), f"a{END_SIGN}"]
    states = [plain.walk(ids_of(alphabet, t)) for t in texts]
    expected = [{"a"}, {"a", END_SIGN, SEP_SIGN}, {"a", END_SIGN, SEP_SIGN}, *[{"c"}] * 9, {END_SIGN}, set()]
    for _ in range(2):
        masks = plain.allowed(states)
        assert masks.dtype == torch.bool and masks.shape == (len(texts), len(heads[0]))
        assert [{text_of(alphabet, [heads[0][j]]) for j in m.nonzero()[:, 0]} for m in masks] == expected
    assert plain.allowed([]).shape == (0, len(heads[0]))
    assert turned.allowed([turned.walk([0])]).tolist() == [[False, True, True, True]]
    masks[:] = True  # what is given is the caller's own
    assert not plain.allowed(states).all()


def test_grammars_are_kept():
    alphabet, head = spelled_by("chars"), spelled_by("chars").head_ids(())
    assert grammar_of("1+", alphabet, head) is grammar_of("1+", alphabet, np.array(head).tolist())
    assert grammar_of("1+", alphabet, head) is not grammar_of("1+", alphabet, alphabet.head_ids((SEP,)))


NOT_UNDERSTOOD = (
    r"( a) [a a** ^a a$ \1 (?:a)\1 (a)(?=b) (?i:a) (?P<x>a) a(?!b) a{} []a] [^]a] \p{L} a(?<=a) a++ a?+a a{1}+ \bq (?#a)"
)


@pytest.mark.parametrize("pattern", NOT_UNDERSTOOD.split())
def test_patterns_that_are_not_understood_are_named(pattern):
    with pytest.raises(ValueError, match="not a pattern that a grammar can follow") as caught:
        over(pattern, "a", "b", "q")
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("pattern", [r"\(?\?=\[\]\{\}\+\+", r"[(][?]=[^a][\]][{][}][*+][++]", r"(?:[?(]=?){2}[\[\]]+[{}]+?[+*]+"])
def test_escapes_and_classes_are_plain_characters(pattern):
    text = "(?=[]{}++"
    grammar, says = over(pattern, *dict.fromkeys(text))
    assert re.fullmatch(pattern, text) and grammar.complete(grammar.walk([says.index(c) for c in text]))


@pytest.mark.parametrize(
    "pattern, pieces", [("c", ("a", "b")), ("[ab]c|cc", ("a", "b")), ("aaa", ("aa",)), ("", ()), (SEP_SIGN, ())]
)
def test_what_can_be_spelled_decides(pattern, pieces):
    if pattern in ("", SEP_SIGN):
        assert over(pattern, *pieces)[0].start >= 0
        return
    with pytest.raises(ValueError, match=r"alphabet 'words' can spell nothing .* matches: "):
        over(pattern, *pieces)


def test_other_errors():
    grammar, _ = over("ab", "a", "b")
    for state in (-1, 99):
        with pytest.raises(ValueError, match=f"{state} is no state"):
            grammar.allowed([state])
    with pytest.raises(ValueError, match="token 99 "):
        grammar.step(grammar.start, 99)
    with pytest.raises(ValueError, match=r"token 1 .*cannot be said here"):
        grammar.walk([0, 1, 1])
    with pytest.raises(ValueError, match=r"<t1> cannot be said.*<end>, <sep>"):
        character_of(THOUGHTS[0])
    assert len({character_of(s) for s in (END, *SAYABLE)}) == 4 and all(
        "\ue000" <= character_of(s) <= "\uf8ff" for s in (END, *SAYABLE)
    )
