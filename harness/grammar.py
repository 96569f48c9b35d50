"""Grammars: which tokens may be said next, so that all that is said keeps to a form.

A pattern is a regular expression for everything that one attempt may say. It becomes a finite state machine over characters
(`interegular`'s), and a token may be said where some text that the pattern matches goes on with the whole of it. Masks cost no
FLOPs: no model is asked. Knows nothing of tasks, rows or sampling, nor whether what is said is true.

Specials stand in patterns as characters of Unicode's private use area (`character_of`). END is the last that is said, whatever a
pattern has behind it. ``.`` and ``[^..]`` match specials too, as they match any character: a class names those that it excludes.

What a token says is what it decodes to by itself. So a token whose bytes are not whole UTF-8 is never allowed (the alphabet
"bytes" is left with ASCII), nor one that says nothing, nor one whose text holds a special's character. Tokenizers that decode a
token otherwise at the start of a text (SentencePiece's blanks) are not for grammars; those that the harness trains are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import interegular
import torch
from torch import Tensor

from harness.alphabet import Alphabet
from harness.problem import END, SAYABLE, Special

CHARACTERS: Mapping[Special, str] = {special: chr(0xE000 + i) for i, special in enumerate((END, *SAYABLE))}
UNDECODABLE = "\ufffd"  # what decoding puts in place of bytes that are no text
UNKNOWN, ENDS = -1, -2  # keys beside interegular's own, which are 0 or more: a character that no text has, and END
ESCAPE, CLASS = re.compile(r"\\.", re.DOTALL), re.compile(r"\[\^?+[^\]]+\]")
# What interegular takes in another sense than re, escapes and classes apart: flags, lookaround, ``[]a]``, ``a{}``, ``a++``.
NOT_SHARED = re.compile(r"\(\?(?!:)|\[|\{\}|[*+?}]\+")
FIRST_ROWS = 8  # of the table of masks, which doubles when it is full


def character_of(special: Special) -> str:
    """The character that stands for a special in patterns; ValueError for one that cannot be said."""
    if special not in CHARACTERS:
        raise ValueError(f"{special.name} cannot be said, so no pattern holds it; legal: {', '.join(s.name for s in CHARACTERS)}")
    return CHARACTERS[special]


def completion_pattern(task_grammar: Mapping[str, str], *, mark: Special | None, join: str) -> str | None:
    """What a whole completion may be, END included, by a task's `grammar`; None where that lacks what is needed.

    mark None: the answer alone. Else one worked line or more, joined by ``join``, then the mark, then the answer.
    """
    answer, line = task_grammar.get("answer"), task_grammar.get("line")
    if answer is None or (mark is not None and line is None):
        return None
    ending = f"(?:{answer}){character_of(END)}"
    return ending if mark is None else f"(?:{line})(?:{re.escape(join)}(?:{line}))*{character_of(mark)}{ending}"


def grammar_of(pattern: str, alphabet: Alphabet, head_ids: Sequence[int]) -> Grammar:
    """`Grammar`, but the last few are kept, with the masks that they have made. For every run, not for every step."""
    return _kept(pattern, alphabet, tuple(head_ids))


class Grammar:
    """What may be said next, for a head whose column j says token ``head_ids[j]``.

    States are whole numbers; in each of them some text that the pattern matches can still be said to its end. start: the state
    before anything is said. ValueError for a pattern that is none, that holds more than characters, classes, ``(?:..)``, ``|``
    and repetition, or that matches nothing which the tokens can spell. Classes such as ``\\d`` are those of ASCII.
    Bounded repetitions within one another, of what may end early (``(?:(?:[^a]b.?){2,4}){1,4}``), can take minutes to compile.
    """

    start: int

    def __init__(self, pattern: str, *, alphabet: Alphabet, head_ids: Sequence[int]) -> None:
        self._words = _vocabulary(alphabet, tuple(head_ids))
        self._machine = _compiled(pattern, self._words)
        self._live = self._completable()
        self.start = self._machine.start
        if self.start not in self._live:
            raise ValueError(f"the alphabet {alphabet.spec!r} can spell nothing that this pattern matches: {pattern!r}")
        self._rows: dict[int, int] = {}
        self._table = torch.zeros(FIRST_ROWS, len(head_ids), dtype=torch.bool)

    def allowed(self, states: Sequence[int]) -> Tensor:
        """Booleans (n, V): which columns may be said in each of n states. None may after END; else, none only in a state that is
        `complete` and that nothing follows. ValueError for what is no state. A state's mask is made once, then looked up."""
        for state in states:
            if state not in self._rows:
                self._add(state)
        return self._table.index_select(0, torch.tensor([self._rows[s] for s in states], dtype=torch.long))

    def step(self, state: int, token_id: int) -> int:
        """The state after a token; ValueError if it is not allowed."""
        text = self._words.texts.get(token_id)
        after = None if text is None else self._machine.after(state, text)
        if after is None or after not in self._live:
            raise ValueError(f"token {token_id} ({text!r}) cannot be said here: the grammar allows other forms only")
        return after

    def walk(self, ids: Sequence[int], state: int | None = None) -> int:
        """The state after several tokens, from the start if no state is given; ValueError at the first that is not allowed."""
        at = self.start if state is None else state
        for token_id in ids:
            at = self.step(at, int(token_id))
        return at

    def complete(self, state: int) -> bool:
        """Whether the pattern matches what was said."""
        return state in self._machine.finals

    def _add(self, state: int) -> None:
        """Make the mask of a state."""
        if state not in self._live:
            raise ValueError(f"{state} is no state of this grammar")
        row = len(self._rows)
        if row == len(self._table):
            self._table = torch.cat([self._table, torch.zeros_like(self._table)])
        self._table[row, [j for columns, after in self._ends(state) if after in self._live for j in columns]] = True
        self._rows[state] = row

    def _ends(self, state: int) -> Iterator[tuple[list[int], int]]:
        """The columns of every token that can be said from a state, and the state that it leads to."""
        keys, edges, left = self._machine.keys, self._machine.edges, [(self._words.root, state)]
        while left:
            node, at = left.pop()
            for character, child in node.children.items():
                after = edges[at].get(keys[character])
                if after is not None:
                    left.append((child, after))
                    if child.columns:
                        yield child.columns, after

    def _completable(self) -> set[int]:
        """States from which tokens lead to a text that is matched. Few need a search: mostly single characters do."""
        edges, finals = self._machine.edges, self._machine.finals
        single = {self._machine.keys[c] for c in self._words.root.children if self._words.root.children[c].columns}
        live = _leading_to(finals, [{key: to for key, to in out.items() if key in single} for out in edges])
        doubtful = {state: {after for _, after in self._ends(state)} for state in _leading_to(finals, edges) - live}
        while found := {state for state, ends in doubtful.items() if state not in live and ends & live}:
            live |= found
        return live


@dataclass(slots=True)
class _Node:
    """A beginning of tokens: how they go on, and the columns of those that are whole here."""

    children: dict[str, _Node] = field(default_factory=dict)
    columns: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Vocabulary:
    """What tokens say (id -> text, a special's being its character), their characters, and the tree of their beginnings."""

    texts: Mapping[int, str]
    characters: frozenset[str]
    root: _Node


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """States 0, 1, ..: edges[state][key of a character] is the next one, and a final state can be reached from all of these."""

    start: int
    finals: frozenset[int]
    keys: Mapping[str, int]
    edges: Sequence[Mapping[int, int]]

    def after(self, state: int, text: str) -> int | None:
        """The state after a text of characters that have a key; None where it leads nowhere."""
        for character in text:
            following = self.edges[state].get(self.keys[character])
            if following is None:
                return None
            state = following
        return state


@lru_cache(maxsize=16)
def _kept(pattern: str, alphabet: Alphabet, head_ids: tuple[int, ...]) -> Grammar:
    return Grammar(pattern, alphabet=alphabet, head_ids=head_ids)


@lru_cache(maxsize=4)
def _vocabulary(alphabet: Alphabet, head_ids: tuple[int, ...]) -> _Vocabulary:
    """The tokens of a head that say something by themselves."""
    texts, root = {i: text for i in head_ids if (text := _text(alphabet, i))}, _Node()
    for column, i in enumerate(head_ids):
        if i in texts:
            node = root
            for character in texts[i]:
                node = node.children.setdefault(character, _Node())
            node.columns.append(column)
    return _Vocabulary(texts=texts, characters=frozenset().union(*texts.values()), root=root)


def _text(alphabet: Alphabet, token_id: int) -> str:
    """What a token says; nothing if no text can be told to hold it."""
    (piece,) = alphabet.pieces([token_id])
    if isinstance(piece, Special):
        return CHARACTERS.get(piece, "")
    return "" if UNDECODABLE in piece or not set(piece).isdisjoint(CHARACTERS.values()) else piece


def _compiled(pattern: str, words: _Vocabulary) -> _Machine:
    """The machine of a pattern for texts of the tokens' characters, without what leads nowhere. END leads to a last state."""
    fsm = _parsed(pattern)
    number = {state: i for i, state in enumerate(sorted(fsm.states))}
    finals, last = {number[state] for state in fsm.finals}, len(number)
    keys = {c: UNKNOWN if (key := fsm.alphabet[c]) is None else int(key) for c in words.characters}
    ends, edges = keys.pop(CHARACTERS[END], UNKNOWN), list[dict[int, int]]()
    for state in number:
        out = {int(key): number[to] for key, to in fsm.map.get(state, {}).items()}
        edges.append({key: out[key] for key in set(keys.values()) & set(out)})
        if out.get(ends) in finals:
            edges[-1][ENDS] = last
    edges.append({})
    finals.add(last)
    useful = _leading_to(finals, edges)
    edges = [{key: to for key, to in out.items() if to in useful} for out in edges]
    return _Machine(start=number[fsm.initial], finals=frozenset(finals), keys={**keys, CHARACTERS[END]: ENDS}, edges=edges)


def _parsed(pattern: str) -> interegular.FSM:
    """A pattern as interegular's machine; ValueError where it and `re` do not mean the same."""
    try:
        re.compile(pattern)
        if found := NOT_SHARED.search(CLASS.sub("x", ESCAPE.sub("x", pattern))):
            raise interegular.Unsupported(f"{found[0]!r} is not for grammars")
        return interegular.parse_pattern(pattern).to_fsm()
    except (re.error, interegular.InvalidSyntax, interegular.Unsupported) as error:
        raise ValueError(f"not a pattern that a grammar can follow: {pattern!r}: {error or 'syntax'}") from error


def _leading_to(finals: Collection[int], edges: Sequence[Mapping[int, int]]) -> set[int]:
    """The states from which edges lead to a final one, those included."""
    before: dict[int, set[int]] = {}
    for state, out in enumerate(edges):
        for to in out.values():
            before.setdefault(to, set()).add(state)
    found, left = set(finals), list(finals)
    while left:
        new = before.get(left.pop(), set()) - found
        found |= new
        left += new
    return found
