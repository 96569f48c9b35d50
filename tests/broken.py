"""Plugins that break one promise each; the check that must catch it is in CAUGHT_BY. Named "broken:CLASS" as plugins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from harness.checks.outsider import Sums
from harness.problem import THOUGHTS, Answer, Document, Key, Piece, Problem, Question
from harness.strategy import TEXT, THOUGHT, Sight, Strategy, Woven, plain_weave, setting
from harness.task import Task
from harness.wants import Extend, Peek, Start

STRATEGIES: dict[str, tuple[str, ...]] = {}  # class name -> the checks that must catch it
TASKS: dict[str, tuple[str, ...]] = {}


def caught_by(*checks: str) -> Any:
    """Note which checks must fail on this class."""

    def noted(cls: type) -> type:
        (STRATEGIES if issubclass(cls, Strategy) else TASKS)[cls.__name__] = checks
        return cls

    return noted


@caught_by("frozen_dataclass")
class Undecorated(Strategy):
    """No dataclass of its own."""

    source = "tests"


@caught_by("frozen_dataclass")
@dataclass(frozen=True)
class ByPosition(Strategy):
    """Its setting can be given by position."""

    source = "tests"
    x: int = setting(1, doc="a number")


@caught_by("documented")
@dataclass(frozen=True, kw_only=True)
class Undocumented(Strategy):
    source = "tests"


@caught_by("documented")
@dataclass(frozen=True, kw_only=True)
class Sourceless(Strategy):
    """Nobody knows where it comes from."""


@caught_by("settings_documented")
@dataclass(frozen=True, kw_only=True)
class BareSetting(Strategy):
    """A field without `setting`."""

    source = "tests"
    x: int = 1


@caught_by("declared_settings_legal")
@dataclass(frozen=True, kw_only=True)
class IllegalVariant(Strategy):
    """A variant that cannot be."""

    source = "tests"
    variants = ({"y": 1},)


@caught_by("json_round_trip")
@dataclass(frozen=True, kw_only=True)
class Growing(Strategy):
    """Changes its settings whenever it is made."""

    source = "tests"
    x: int = setting(1, doc="a number")

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", self.x + 1)


@caught_by("asking_trains_nothing")
@dataclass(frozen=True, kw_only=True)
class AskedInTraining(Strategy):
    """Its ask-setting changes the lessons."""

    source = "tests"
    times: int = setting(1, doc="how often the prompt is said", when="ask", low=1, high=3)

    def lessons(self, problem, *, progress, rng):
        text = super().lessons(problem, progress=progress, rng=rng)[0]
        return [(text[0],) * self.times + text[1:]]


@caught_by("blind_to_key")
@dataclass(frozen=True, kw_only=True)
class Peeking(Strategy):
    """Remembers keys from lessons."""

    source = "tests"
    seen: ClassVar[dict[str, Any]] = {}

    def lessons(self, problem, *, progress, rng):
        self.seen[problem.question.id] = problem.key.answer
        return super().lessons(problem, progress=progress, rng=rng)

    def prompt(self, question):
        return (Piece(self.seen.get(question.id, ""), "prompt"), *super().prompt(question))


@caught_by("weave_gives_text_back")
@dataclass(frozen=True, kw_only=True)
class LosesText(Strategy):
    """The cell of a text token embeds another one."""

    source = "tests"

    def weave(self, ids, roles, places):
        return dataclasses.replace(plain_weave(ids, places), embed=np.maximum(ids - 1, 0))


@caught_by("weave_gives_text_back", "cached_is_whole")
@dataclass(frozen=True, kw_only=True)
class WeavesByIndex(Strategy):
    """A thought after every second token of whatever is woven at once, so increments differ from the whole."""

    source = "tests"

    def weave(self, ids, roles, places):
        lengths = 1 + np.arange(len(ids)) % 2
        source = np.repeat(np.arange(len(ids)), lengths)
        slot = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        nothing = plain_weave(source, source).added
        kind = np.where(slot > 0, THOUGHT, TEXT)
        embed = np.where(slot > 0, -1, ids[source])
        return Woven(source, kind, embed, nothing, places[source], slot, slot == 0, slot == 0)


def seeing_all(q: Any, k: Any) -> Sight:
    """Every query sees every key."""
    import torch

    return Sight(look=torch.ones(q.index.shape[0], 1, q.index.shape[1], k.index.shape[1], dtype=torch.bool))


@caught_by("no_leak_in_training", "no_leak_when_asking", "cached_is_whole", "random_tokens_teach_nothing")
@dataclass(frozen=True, kw_only=True)
class SeesFuture(Strategy):
    """Every cell sees every other one."""

    source = "tests"

    def sight(self, q, k, heads):
        return seeing_all(q, k)


@caught_by("no_leak_in_training", "training_is_asking")
@dataclass(frozen=True, kw_only=True)
class SeesFutureInTraining(Strategy):
    """Leaks only where there are no slots."""

    source = "tests"

    def sight(self, q, k, heads):
        return seeing_all(q, k) if q.index.shape[1] == k.index.shape[1] else None


@caught_by("no_leak_in_training")
@dataclass(frozen=True, kw_only=True)
class LeaksInVariant(Strategy):
    """Leaks at one of its variants only."""

    source = "tests"
    variants = ({"leak": True},)
    leak: bool = setting(False, doc="whether to")

    def sight(self, q, k, heads):
        return seeing_all(q, k) if self.leak else None


@caught_by("cached_is_whole", "batched_is_alone", "company_changes_nothing")
@dataclass(frozen=True, kw_only=True)
class CountsCells(Strategy):
    """Its states depend on how many cells are fed at once."""

    source = "tests"

    def forward(self, backbone, cells, slots):
        return super().forward(backbone, cells, slots) * (1 + 0.01 * cells.count)


@caught_by("training_is_asking")
@dataclass(frozen=True, kw_only=True)
class OtherInTraining(Strategy):
    """Half the states without slots."""

    source = "tests"

    def forward(self, backbone, cells, slots):
        return super().forward(backbone, cells, slots) * (0.5 if slots is None else 1.0)


@caught_by("batched_is_alone", "company_changes_nothing")
@dataclass(frozen=True, kw_only=True)
class MeanOfBatch(Strategy):
    """Adds the mean of all that is read."""

    source = "tests"

    def readout(self, backbone, states, reads):
        logits = backbone.head(states, reads)
        return logits - 3 * logits.mean(0)


@caught_by("inserted_is_unsayable")
@dataclass(frozen=True, kw_only=True)
class SaysThoughts(Strategy):
    """Wants to say a thought."""

    source = "tests"

    def sayable(self):
        return THOUGHTS[:1]


@caught_by("neutral_is_plain")
@dataclass(frozen=True, kw_only=True)
class NotNeutral(Strategy):
    """Its neutral setting is not."""

    source = "tests"
    neutral: ClassVar[Mapping[str, Any]] = {"scale": 1.0}
    scale: float = setting(2.0, doc="of the states", low=0.0, high=10.0)

    def forward(self, backbone, cells, slots):
        return super().forward(backbone, cells, slots) * (self.scale + 1e-3)


@caught_by("neutral_is_plain")
@dataclass(frozen=True, kw_only=True)
class NeutralForwardOnly(Strategy):
    """Its neutral setting gives the same answers, but another gradient."""

    source = "tests"
    neutral: ClassVar[Mapping[str, Any]] = {"shielded": False}
    shielded: bool = setting(True, doc="whether to")

    def sight(self, q, k, heads):
        apart = q.index[:, :, None] - k.index[:, None, :]
        return Sight(learn_kv=(apart != 0)[:, None])


@caught_by("training_meter_is_recount")
@dataclass(frozen=True, kw_only=True)
class Unbooked(Strategy):
    """Runs a part of its own without the backbone's knowledge."""

    source = "tests"

    def parts(self, config):
        from torch import nn

        return {"own": nn.Linear(config.n_embd, config.n_embd)}

    def loss(self, backbone, states, cells, progress):
        return super().loss(backbone, states + backbone.parts["own"](states), cells, progress)


@caught_by("meter_is_recount")
@dataclass(frozen=True, kw_only=True)
class UndeclaredPart(Strategy):
    """Runs a part when asking and does not say so."""

    source = "tests"

    def parts(self, config):
        from torch import nn

        return {"own": nn.Linear(config.n_embd, config.n_embd)}

    def readout(self, backbone, states, reads):
        return super().readout(backbone, states + backbone.part("own", states, reads), reads)


@caught_by("meter_is_recount", "never_above_budget")
@dataclass(frozen=True, kw_only=True)
class HiddenPasses(Strategy):
    """Goes through the blocks twice and does not say so."""

    source = "tests"

    def forward(self, backbone, cells, slots):
        states = backbone.blocks(backbone.embed(cells), cells, slots)
        return backbone.finish(backbone.blocks(states, cells, slots, last=True))


@caught_by("answers_on_little")
@dataclass(frozen=True, kw_only=True)
class NoDraft(Strategy):
    """Says token by token and loses them when the budget ends."""

    source = "tests"

    def solve(self, question):
        row = yield Start(self.prompt(question))
        said = ""
        for _ in range(question.answer_cap_tokens):
            yield Peek(row, 1)
            row = yield Extend(row, (Piece("1", "answer"),))
            said += "1"
        return Answer(said)


@caught_by("memorises")
@dataclass(frozen=True, kw_only=True)
class TaughtWrong(Strategy):
    """Lessons whose targets are not the answer."""

    source = "tests"

    def lessons(self, problem, *, progress, rng):
        text = super().lessons(problem, progress=progress, rng=rng)[0]
        return [(text[0], *(dataclasses.replace(p, target=False) for p in text[1:-1]), text[-1])]


@caught_by("parts_are_the_whole")
@dataclass(frozen=True, kw_only=True)
class TwoMeans(Strategy):
    """Its loss has a mean of the first target of each lesson beside that of all, and counts neither."""

    source = "tests"

    def loss(self, backbone, states, cells, progress):
        row = cells.layout.row[cells.reads.cells]
        first = np.unique(row, return_index=True)[1]
        nats = F.cross_entropy(backbone.head(states, cells.reads), cells.targets, reduction="none")
        return nats.mean() + nats[torch.from_numpy(first)].mean()


@caught_by("same_seed_same_weights", "resumes")
@dataclass(frozen=True, kw_only=True)
class Counting(Strategy):
    """Keeps a count between calls, and teaches by it."""

    source = "tests"
    calls: ClassVar[list[int]] = []

    def lessons(self, problem, *, progress, rng):
        self.calls.append(1)
        text = super().lessons(problem, progress=progress, rng=rng)[0]
        return [text] * (1 + len(self.calls) % 5 // 4)


# Tasks


@dataclass(frozen=True, kw_only=True)
class Base(Sums):
    """What the broken tasks change: questions that belong to one split each."""

    source: ClassVar[str] = "tests"

    def problems(self, split, *, seed, start, count, lines=True):
        first = 100 + 200 * ("train", "value", "validation", "test").index(split)
        end = first + 200 if split != "train" else first + 10**9
        return [self.posed(first + i % 200, lines) for i in range(start, start + count) if split == "train" or first + i < end]

    def posed(self, a: int, lines: bool) -> Problem:
        steps = (f"1+{a}", f"{a + 1}") if lines else ()
        return Problem(Question(f"{a}+1=", f"{a}+1=", 5, 11), Key(f"{a + 1}", steps))


@caught_by("problems_repeat")
@dataclass(frozen=True, kw_only=True)
class Restless(Base):
    """Other problems each time."""

    calls: ClassVar[list[int]] = []

    def problems(self, split, *, seed, start, count, lines=True):
        self.calls.append(1)
        return super().problems(split, seed=seed, start=start + len(self.calls), count=count, lines=lines)


@caught_by("problems_repeat")
@dataclass(frozen=True, kw_only=True)
class BySlice(Base):
    """Problems that depend on where the slice begins."""

    def problems(self, split, *, seed, start, count, lines=True):
        return super().problems(split, seed=seed, start=0, count=count, lines=lines)


@caught_by("problems_repeat")
@dataclass(frozen=True, kw_only=True)
class LinesAlways(Base):
    """Worked lines also where none are wanted."""

    def posed(self, a, lines):
        return super().posed(a, True)


@caught_by("splits_disjoint")
@dataclass(frozen=True, kw_only=True)
class OneSplit(Base):
    """Test and train ask the same."""

    def problems(self, split, *, seed, start, count, lines=True):
        return super().problems("train" if split == "test" else split, seed=seed, start=start, count=count, lines=lines)


@caught_by("grades")
@dataclass(frozen=True, kw_only=True)
class Generous(Base):
    """Everything is right."""

    def grade(self, problem, answer):
        return 1.0


@caught_by("grades")
@dataclass(frozen=True, kw_only=True)
class Stern(Base):
    """Nothing is right."""

    def grade(self, problem, answer):
        return 0.0


@caught_by("worked_lines_end_in_answer")
@dataclass(frozen=True, kw_only=True)
class LinesAstray(Base):
    """Worked lines that lead elsewhere."""

    def posed(self, a, lines):
        made = super().posed(a, lines)
        return dataclasses.replace(made, key=dataclasses.replace(made.key, lines=made.key.lines[:1]))


@caught_by("floor_reported")
@dataclass(frozen=True, kw_only=True)
class Weightless(Base):
    """No problem counts."""

    def posed(self, a, lines):
        return dataclasses.replace(super().posed(a, lines), weight=0.0)


@caught_by("caps_are_bounds")
@dataclass(frozen=True, kw_only=True)
class ShortAnswers(Base):
    """No room for the end of text."""

    def posed(self, a, lines):
        made = super().posed(a, lines)
        return dataclasses.replace(made, question=dataclasses.replace(made.question, answer_cap_tokens=3))


@caught_by("caps_are_bounds")
@dataclass(frozen=True, kw_only=True)
class ShortLines(Base):
    """Lines longer than their cap."""

    def posed(self, a, lines):
        made = super().posed(a, lines)
        return dataclasses.replace(made, question=dataclasses.replace(made.question, lines_cap_tokens=5))


@caught_by("alphabet_spells_all")
@dataclass(frozen=True, kw_only=True)
class FewLetters(Base):
    """An alphabet without the sign."""

    def alphabet(self):
        return "chars:0123456789="


@caught_by("parse_knows_its_questions")
@dataclass(frozen=True, kw_only=True)
class ParsesAway(Base):
    """Loses the sign of equality."""

    def parse(self, text):
        return text.rstrip("=")


@caught_by("asking_trains_nothing")
@dataclass(frozen=True, kw_only=True)
class AskedTask(Base):
    """An ask-setting that shifts the train problems."""

    shift: int = setting(0, doc="by how much", when="ask", low=0, high=9)

    def problems(self, split, *, seed, start, count, lines=True):
        return super().problems(split, seed=seed, start=start + self.shift, count=count, lines=lines)


@caught_by("documents_disjoint")
@dataclass(frozen=True, kw_only=True)
class SameDocuments(Task):
    """One document in all splits."""

    kind: ClassVar[Any] = "documents"
    source: ClassVar[str] = "tests"

    def documents(self, split):
        return [Document(split, "abc" * 200)]


@caught_by("documents_disjoint")
@dataclass(frozen=True, kw_only=True)
class EmptyDocuments(Task):
    """Nothing but blanks."""

    kind: ClassVar[Any] = "documents"
    source: ClassVar[str] = "tests"

    def documents(self, split):
        return [Document(split, " " * 200)]


@dataclass(frozen=True, kw_only=True)
class Admitted(SeesFuture):
    """Leaks, and says so."""

    source = "tests"
    known_failures: ClassVar[Mapping[str, str]] = {"no_leak_in_training": "it is meant to"}


@dataclass(frozen=True, kw_only=True)
class AdmitsTooMuch(Strategy):
    """Declares failures that are none."""

    source = "tests"
    known_failures: ClassVar[Mapping[str, str]] = {"no_leak_in_training": "it was once", "no_such_check": "whatever"}


@dataclass(frozen=True, kw_only=True)
class Needy(Strategy):
    """Needs what no task offers."""

    source = "tests"

    def needs(self) -> frozenset[str]:
        return frozenset({"miracles"})
