"""The Strategy contract: five questions about how one shared GPT-2 is taught and asked, each with a plain default.

The base class *is* plain next-token training and greedy asking; a plugin overrides the questions that it answers differently.
Knows shapes and roles; knows nothing of losses' optimizers, files or budgets. torch is imported by plugins inside methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.problem import END, Answer, Completion, Piece, Problem, Question, Special, Text, shown
from harness.settings import setting
from harness.wants import (
    GREEDY,
    Extend,
    Generate,
    Holding,
    Likelihood,
    OutOfBudget,
    Room,
    Row,
    Sampler,
    Saying,
    Score,
    Solver,
    Start,
)
from harness.woven import KINDS, NOTHING, PAUSE, SPECIAL, TEXT, THOUGHT, IntArray, Sight, View, Woven, plain_weave

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.backbone import Backbone
    from harness.cells import Cells, Reads
    from harness.feed import Look
    from harness.search_wants import ValueSpec
    from harness.slots import Slots
    from harness.task import Task

__all__ = [
    "KINDS",
    "NOTHING",
    "PAUSE",
    "SPECIAL",
    "TEXT",
    "THOUGHT",
    "IntArray",
    "Sight",
    "Strategy",
    "View",
    "Woven",
    "attempted",
    "plain_weave",
    "setting",
    "think_aloud",
]  # fmt: skip


def think_aloud(row: Row, mark: Special, cap_tokens: int, sampler: Sampler, *, answer_tokens: int = 0) -> Solver[Row]:
    """Say worked lines; leave the row behind the mark, which is given where the model did not say it.

    answer_tokens: the row keeps room for so many tokens behind the mark, so lines end earlier where the context is nearly full.
    """
    room: int = yield Room(row)
    lines: Completion = yield Generate(row, min(cap_tokens, room - answer_tokens - 1), sampler, "thought", (mark, END))
    if lines.stopped_by != mark:
        row = yield Extend(row, (Piece(mark, "thought"),))
    return row


def attempted(strategy: Strategy, question: Question, sampler: Sampler) -> Solver[Answer]:
    """The answer of one attempt; none if the budget ends before anything is said."""
    try:
        row = yield from strategy.start(question)
        completion = yield from strategy.attempt(question, row, sampler)
    except OutOfBudget:
        completion = Completion((), (), 0.0, "budget")
    return Answer(strategy.read(completion), completion)


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Subclass as a frozen, keyword-only dataclass in ``strategies/NAME.py``; its first docstring line is what `list` shows.

    Fields are settings, each marked learn or ask (see `setting`). dials: fields that an inference budget may turn, with their
    values. version: raised when a fix changes results. known_failures: check name -> reason.
    neutral: settings that, whatever the others, equal plain training and asking bit for bit. example: small settings at which
    checks run it; variants: settings on which the model checks run too.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {}
    known_failures: ClassVar[Mapping[str, str]] = {}
    neutral: ClassVar[Mapping[str, Any]] = {}
    example: ClassVar[Mapping[str, Any]] = {}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ()

    # What it can run on

    def needs(self) -> frozenset[str]:
        """What a task must offer at these settings, of `Task.offers`."""
        return frozenset()

    def suits(self, task: Task) -> None:
        """ValueError if these settings cannot work on this task (a cap shorter than its lines, say); it names both."""

    def wording(self) -> Sequence[str]:
        """Texts of its own that it puts into prompts: the alphabet must be able to spell them, before anything is trained."""
        return ()

    # 1. What is said?

    def lessons(self, problem: Problem, *, progress: float, rng: np.random.Generator) -> list[Text]:
        """The texts that teach this problem. progress: share of the budget spent, 0 to 1."""
        key = problem.key
        said = (
            (Piece(key.answer, "answer", True), Piece(END, "answer", True)) if key.ends else (Piece(key.answer, "answer", True),)
        )
        return [(Piece(problem.question.text, "prompt"), *said)]

    def prompt(self, question: Question) -> Text:
        """What the model is given before it speaks."""
        return (Piece(question.text, "prompt"),)

    def answer_mark(self) -> Special | None:
        """What the model says between its worked lines and its answer (name it in `sayable`); None: it says the answer only."""
        return None

    def read(self, completion: Completion) -> str | None:
        """The answer in what was said; None if there is none (a cap was met first). At the end of a budget the draft counts."""
        said, mark = completion.pieces, self.answer_mark()
        if completion.stop == "cap" or (mark is not None and mark not in said):
            return None
        return shown(said if mark is None else said[said.index(mark) + 1 :])

    # 2. What is woven in?

    def weave(self, ids: IntArray, roles: IntArray, places: IntArray) -> Woven:
        """Text tokens (N,) -> cells (M,). Each token by itself, so that weaving a whole equals weaving its parts.

        roles index ROLES; places count text tokens from the start of their sequence. An id of -j is the j-th inserted-only
        special, standing in the text; it has the place of the text token before it.
        """
        return plain_weave(ids, places)

    def positions(self, context_tokens: int) -> int:
        """Rows of the position table that sequences of ``context_tokens`` text tokens need."""
        return context_tokens

    # 3. What may see what?

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """Which pairs of queries and keys are attended, and which learn; None is plain causal attention."""
        return None

    # 4. How many passes?

    def forward(self, backbone: Backbone, cells: Cells, slots: Slots | None) -> Tensor:
        """States (R, D) of the cells that are read (``cells.needed``): by default once through the blocks.

        slots is None in training; ``cells.draw`` is then the update's own seed (None: do what asking does).
        """
        return backbone.finish(backbone.blocks(backbone.embed(cells), cells, slots, last=True))

    def passes(self) -> int:
        """How often `forward` goes through the blocks when asking (each pass has its own keys and values)."""
        return 1

    def part_uses(self, layers: int) -> Mapping[str, tuple[int, int]]:
        """How often parts run when asking, if they are there: name -> (times a cell, times a read). Budgets rely on it."""
        return {}

    def readout(self, backbone: Backbone, states: Tensor, reads: Reads) -> Tensor:
        """Logits (T, V) of the next text token at T places, from the states (R, D) read there; R = T by default."""
        return backbone.head(states, reads)

    # 5. How is an answer sought?

    def ready(self, question: Question) -> Solver[Row]:
        """Think; leave a row whose next token is the answer's: behind greedy worked lines, if it says such."""
        row: Row = yield Start(self.prompt(question))
        if (mark := self.answer_mark()) is not None:
            cap, answer = self.lines_cap_tokens(question), question.answer_cap_tokens
            row = yield from think_aloud(row, mark, cap, GREEDY, answer_tokens=answer)
        return row

    def start(self, question: Question) -> Solver[Row]:
        """Leave a row that attempts start from: a ready one, unless worked lines are part of what an attempt says."""
        if self.answer_mark() is None:
            return (yield from self.ready(question))
        row: Row = yield Start(self.prompt(question))
        return row

    def saying(self, question: Question) -> Saying | None:
        """What an attempt says, if it is one thing after another, so that a search may branch anywhere; None: it is not.

        Whoever overrides `attempt` with more than one Generate overrides this to return None.
        """
        mark = self.answer_mark()
        cap = question.answer_cap_tokens + (0 if mark is None else self.lines_cap_tokens(question))
        return Saying(cap, mark, "" if mark is None else ";", question.closes, question.cap_ends)

    def lines_cap_tokens(self, question: Question) -> int:
        """The most tokens of worked lines that it says."""
        return question.lines_cap_tokens

    def attempt(self, question: Question, row: Row, sampler: Sampler) -> Solver[Completion]:
        """Finish one completion from a started row: worked lines up to the mark, if there is one, and the answer."""
        said = Strategy.saying(self, question)
        assert said is not None
        completion: Completion = yield Generate(
            row, said.cap_tokens, sampler, mark=said.mark, closes=said.closes, cap_ends=said.cap_ends
        )
        return completion

    def solve(self, question: Question) -> Solver[Answer]:
        """One answer: by default a greedy attempt."""
        return (yield from attempted(self, question, GREEDY))

    def score(self, question: Question, continuations: tuple[Text, ...]) -> Solver[list[Likelihood]]:
        """Log-likelihood of each continuation after thinking."""
        row = yield from self.ready(question)
        likelihoods: list[Likelihood] = yield Score(row, continuations)
        return likelihoods

    def holding(self, question: Question) -> Holding:
        """What a problem holds at most while it is solved or scored; relied on where memory is bounded."""
        said = self.saying(question)
        return Holding(1, None if said is None else said.cap_tokens)

    # Optional

    def learner(self) -> Strategy:
        """Whose training this is: its own, or that of a base which it asks in another way."""
        return self

    def untaught(self, task: Task, *, given: frozenset[str], key: str, whole: bool = False) -> Strategy:
        """The strategy as it asks a pretrained model that is taught nothing: with other defaults than where it is taught.

        given: its settings that the user named, which stay as they are. key: what its settings are called in errors. whole: an
        attempt must be one thing said after another, for a search that branches within it. ValueError if the strategy would wait
        for specials that such a model never learnt to say.
        """
        if self.sayable():
            names = " and ".join(special.name for special in self.sayable())
            raise ValueError(
                f"{key}: {type(self).__name__} waits for {names}, which a pretrained model that is taught nothing never says; "
                "teach it (train.flops), or choose a strategy of plain text"
            )
        return self

    def turned(self) -> Mapping[str, Sequence[Any]]:
        """The dials that have an effect at these settings."""
        return self.dials

    @classmethod
    def left_open(cls, task: Task) -> Mapping[str, str]:
        """The strategies, by name, that settings which are strategies take where none is named."""
        return {}

    def value_spec(self) -> ValueSpec | None:
        """The value model that it wants to be there when it is asked; None: none."""
        return None

    def parts(self, config: Any) -> Mapping[str, nn.Module]:
        """Extra modules (gates, heads), given the GPT-2 config; initialised from a seed of their own, saved and counted."""
        return {}

    def loss(self, backbone: Backbone, states: Tensor, cells: Cells, progress: float) -> Tensor:
        """The training loss in nats, from the states (R, D) of the taught cells: by default their mean cross-entropy."""
        import torch.nn.functional as F

        return F.cross_entropy(backbone.head(states, cells.reads), cells.targets)

    def loss_counts(self, cells: Cells) -> Sequence[int]:
        """How many things here the means in `loss` are over, if they are not over all targets.

        An update may be taken in parts, on several devices. A loss that is one mean over the targets, as most are, needs nothing
        more. Else each mean counts here, and `loss` multiplies it by its own of ``cells.weights`` (where there are any).
        """
        return ()

    def revise(self, texts: list[Text], look: Look, rng: np.random.Generator) -> list[Text]:
        """An update's lessons as they are taught: for what depends on tokens, or on how the model finds the texts now.

        look: the tokens of texts, and a first forward pass over them, which the update pays for.
        """
        return texts

    def stage(self, progress: float) -> int:
        """The stage of a curriculum; a change resets the optimizer."""
        return 0

    def sayable(self) -> tuple[Special, ...]:
        """Specials that the model may say, END apart."""
        return ()

    def pretraining_phase(self, task_name: str, task: Task) -> Mapping[str, Any]:
        """Settings of a phase of training before this one on ``task``, as after ``pretraining.``; empty: none.

        For example ``{"strategy": NAME, "task": NAME, "task.SETTING": VALUE, "train.flops": 1e12}``. It holds where the user
        names neither strategy nor task of a pretraining phase, whose other settings go before these.
        """
        return {}
