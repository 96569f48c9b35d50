"""Prompting any causal LM through the stages of `_prompts.toml`: say, listen, say on. Knows templates and wants; knows no model.

What the model says before the last stage is thought; templates before the first reply are prompt, later ones thought.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.problem import SEP, Completion, Piece, Problem, Question, shown
from harness.wants import Count, Drop, Examples, Extend, Generate, Note, Room, Row, Sampler, Saying, Solver, Start

STORE_EXAMPLES = 64  # training examples that a cue may fetch from
THOUGHT_CAP_TOKENS = 256  # where the task names no cap for worked lines


@dataclass(frozen=True, slots=True)
class Settings:
    """What a style's templates are filled with: shots examples, memory of at most memory_tokens, between dots."""

    style: str
    shots: int
    memory_tokens: int
    between: int
    thought_cap_tokens: int | None

    @classmethod
    def of(cls, how: Any) -> Settings:
        """Those of a strategy that has fields of these names."""
        return cls(how.style, how.shots, how.memory_tokens, how.between, how.cap_tokens)


@lru_cache(maxsize=1)
def templates() -> Mapping[str, Any]:
    """The styles by name."""
    return tomllib.loads((Path(__file__).parent / "_prompts.toml").read_text(encoding="utf-8"))


def wording(style: str) -> list[str]:
    """The style's own words."""
    table = templates()[style]
    return [re.sub(r"\{\w+\}", "", text) for text in (table.get("example", ""), *(stage["say"] for stage in table["stages"]))]


def opened(settings: Settings, question: Question) -> Solver[Row]:
    """A row that has been given the first stage's words."""
    row: Row = yield Start((Piece((yield from _filled(settings, 0, question, {})), "prompt"),))
    return row


def in_one_go(settings: Settings, question: Question) -> Saying | None:
    """What an attempt of a style that has but one stage says; None for the others."""
    style = templates()[settings.style]
    if len(style["stages"]) > 1:
        return None
    cap = (_thought_cap(settings, question) if "joint" in style else 0) + _answer_cap(question)
    closes = (*style["stages"][0]["until"], *question.closes)
    return Saying(cap, None, style.get("joint", ""), closes, question.cap_ends)


def _thought_cap(settings: Settings, question: Question) -> int:
    return settings.thought_cap_tokens or question.lines_cap_tokens or THOUGHT_CAP_TOKENS


def _answer_cap(question: Question) -> int:
    """Where the task poses the question, a space before the answer and a full stop behind it are not its own."""
    cap = question.answer_cap_tokens
    return cap if question.cap_ends else 2 * cap + 8


def talked(
    settings: Settings, question: Question, row: Row, sampler: Sampler, *, answer_tokens: int
) -> Solver[tuple[Row, list[Completion]]]:
    """Every stage but the last one's reply: the row that is to answer, and what was said so far.

    answer_tokens: the row keeps room for so many tokens, so thoughts end earlier where the context is nearly full.
    """
    said: dict[str, Completion] = {}
    settings = replace(settings, style=templates()[settings.style].get("thinks_as", settings.style))
    stages = templates()[settings.style]["stages"]
    for at, stage in enumerate(stages[:-1]):
        room: int = yield Room(row)
        behind = yield from _tokens_behind(settings, at)
        cap = min(_thought_cap(settings, question), room - behind - answer_tokens)
        said[stage["name"]] = reply = yield Generate(row, cap, sampler, "thought", until=tuple(stage["until"]))
        row = yield from _go_on(settings, at + 1, question, row, said, reply)
    if "listed" in said:
        yield Note("listed_not_held", [_not_held(said["listed"].text, question.words)])
    return row, list(said.values())


def _tokens_behind(settings: Settings, at: int) -> Solver[int]:
    """Tokens of the words that later stages put behind stage ``at`` on the same row."""
    tokens = 0
    for stage in templates()[settings.style]["stages"][at + 1 :]:
        if stage.get("fresh"):
            break
        tokens += yield Count(re.sub(r"\{\w+\}", "", stage["say"].replace("{between}", _dots(settings))))
    return tokens


def _dots(settings: Settings) -> str:
    """What separates steps."""
    return " ." * settings.between


def answered(settings: Settings, question: Question, row: Row, sampler: Sampler) -> Solver[Completion]:
    """All stages from an opened row; what was said, the stages' words with <sep> between them."""
    whole = in_one_go(settings, question)
    if whole is not None:
        only: Completion = yield Generate(row, whole.cap_tokens, sampler, closes=whole.closes, cap_ends=whole.cap_ends)
        return only
    cap, closes = _answer_cap(question), question.closes
    row, said = yield from talked(settings, question, row, sampler, answer_tokens=cap)
    until = tuple(templates()[settings.style]["stages"][-1]["until"])
    said.append((yield Generate(row, cap, sampler, until=until, closes=closes, cap_ends=question.cap_ends)))
    pieces = [piece for completion in said for piece in (SEP, *completion.pieces)][1:]
    ids = tuple(i for completion in said for i in completion.ids)
    return Completion(tuple(pieces), ids, sum(c.logprob_nats for c in said), said[-1].stop, said[-1].stopped_by)


def answer_of(style: str, completion: Completion) -> str | None:
    """What was said in the last stage, without space around and a full stop behind; None if it was cut off or abstained."""
    if completion.stop == "cap":
        return None
    pieces = completion.pieces
    last = len(pieces) - pieces[::-1].index(SEP) if SEP in pieces else 0
    text, behind = shown(pieces[last:]), templates()[style].get("answer_behind", "")
    if behind not in text:
        return None
    text = text[text.index(behind) + len(behind) :].strip().removesuffix(".")
    abstain = templates()[style].get("abstain")
    return None if not text or (abstain is not None and text.lower().startswith(abstain)) else text


def _go_on(
    settings: Settings, at: int, question: Question, row: Row, said: Mapping[str, Completion], reply: Completion
) -> Solver[Row]:
    """Say stage ``at``'s words; those that the model has just said itself are not said twice."""
    text = yield from _filled(settings, at, question, said)
    if templates()[settings.style]["stages"][at].get("fresh"):
        yield Drop(row)
        fresh: Row = yield Start((Piece(text, "thought"),))
        return fresh
    if isinstance(reply.stopped_by, str):
        text = text.removeprefix(reply.stopped_by) if text.startswith(reply.stopped_by) else _less(text, reply.stopped_by)
    if text:
        row = yield Extend(row, (Piece(text, "thought"),))
    return row


def _less(text: str, stop: str) -> str:
    """Without leading space and the words of ``stop``, if it begins with them."""
    bare = text.lstrip()
    return bare.removeprefix(stop) if bare.startswith(stop) else text


def _filled(settings: Settings, at: int, question: Question, said: Mapping[str, Completion]) -> Solver[str]:
    """A stage's words. Braces in questions and replies are text."""
    style = templates()[settings.style]
    say: str = style["stages"][at]["say"]
    values = {"question": question.words, "between": _dots(settings)}
    values |= {name: completion.text.strip() for name, completion in said.items()}
    if "{examples}" in say and settings.shots:
        shots: tuple[Problem, ...] = yield Examples(settings.shots)
        values["examples"] = "".join(_example(style["example"], p) for p in shots)
    if "{memory}" in say:
        values["memory"] = yield from _fetched(settings, style["example"], said["cue"].text)
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], ""), say)


def _example(template: str, problem: Problem) -> str:
    """One worked example as a style shows it."""
    values = {"question": problem.question.words, "lines": ". ".join(problem.key.lines), "answer": str(problem.key.answer)}
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], template)


def _fetched(settings: Settings, template: str, cue: str) -> Solver[str]:
    """The store's examples that share most letter triples with the cue, best last, up to the memory's tokens."""
    if settings.memory_tokens == 0:
        return ""
    store: tuple[Problem, ...] = yield Examples(STORE_EXAMPLES)
    shown_as = [_example(template, p) for p in store]
    wanted = _triples(cue)
    order = sorted(range(len(store)), key=lambda i: (-len(wanted & _triples(store[i].question.words)), i))
    kept: list[str] = []
    left = settings.memory_tokens
    for i in order:
        left -= yield Count(shown_as[i])
        if left < 0:
            break
        kept.insert(0, shown_as[i])
    return "".join(kept)


def _triples(text: str) -> set[str]:
    lowered = f"  {text.lower()}"
    return {lowered[i : i + 3] for i in range(len(lowered) - 2)}


def _not_held(listed: str, question: str) -> float:
    """Share of the listed items that the question does not hold; 0 if nothing is listed."""
    items: Sequence[str] = [item.strip(" .").lower() for item in listed.split(",") if item.strip(" .")]
    return sum(item not in question.lower() for item in items) / max(len(items), 1)
