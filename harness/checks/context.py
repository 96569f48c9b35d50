"""What a check is given: one strategy on one task, a tiny backbone with lively weights, and texts to try.

Knows how to build small things and how to look inside a pass (by overriding one method of the strategy); knows no plugin by name
and no single check.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.alphabet import Alphabet, make_alphabet
from harness.backbone import Backbone
from harness.cells import Cells
from harness.examination import library_of, oracle_of, referee_of
from harness.feed import Batch, Feed
from harness.problem import ROLES, Piece, Problem, Question, Text, Tokens
from harness.session import Job, Outcome, Session
from harness.spec import InferSpec, ModelSpec, RunSpec, TrainSpec
from harness.stability import bit_stable
from harness.strategy import Strategy
from harness.stream import encode
from harness.task import Split, Task, setting
from harness.weights import make_backbone

IntArray = NDArray[np.int64]
PLAIN = Strategy()  # the contract's own defaults: the baseline of every comparison
LAYERS, WIDTH, HEADS, CONTEXT_TOKENS = 2, 32, 4, 256
LIVELY = 8.0  # GPT-2's initial matrices times this: logits that differ, so that a check sees what changes them
LOOSE = 1e-4  # tolerance in nats or logits on machines where company changes bits


class NotApplicable(Exception):
    """A check has nothing to say about this plugin; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Fixed(Task):
    """The same problems again and again."""

    source: ClassVar[str] = "checks"
    held: tuple[Problem, ...] = setting((), doc="the problems")
    letters: str = setting("bytes", doc="alphabet")

    def alphabet(self) -> str:
        """As given."""
        return self.letters

    def offers(self) -> frozenset[str]:
        """Whatever the problems hold."""
        return frozenset({"prompt", "worked_lines"})

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """Round and round."""
        return [self.held[i % len(self.held)] for i in range(start, start + count)]


@dataclass(frozen=True)
class Context:
    """One strategy on one task. exact: this machine gives the same bits in any company (see `harness.decoder`)."""

    strategy: Strategy
    task: Task
    strategy_name: str
    task_name: str
    folder: Path
    exact: bool = True

    @cached_property
    def spec(self) -> RunSpec:
        """A tiny run."""
        context_tokens = max(CONTEXT_TOKENS, self.task.window_tokens)
        model = ModelSpec(size="xs", layers=LAYERS, width=WIDTH, heads=HEADS, context_tokens=context_tokens)
        return RunSpec(strategy=self.strategy, task=self.task, model=model, train=TrainSpec(), infer=InferSpec(problems=8))

    @cached_property
    def alphabet(self) -> Alphabet:
        """The task's."""
        wanted = self.task.alphabet()
        if not wanted.startswith("bpe:"):
            return make_alphabet(wanted)
        if self.task.kind == "documents":
            return make_alphabet(wanted, texts=[d.text for d in self.task.documents("train")])
        some = self.task.problems("train", seed=0, start=0, count=1000)
        return make_alphabet(wanted, texts=[f"{p.question.text}{p.key.answer}{''.join(p.key.lines)}" for p in some])

    @cached_property
    def problems(self) -> list[Problem]:
        """Eight train problems (or windows of documents, as questions with a few tokens to go on from)."""
        if self.task.kind == "questions":
            return list(self.task.problems("train", seed=0, start=0, count=8))
        feed = self.feed(self.task, problems_per_update=8)
        return [window_question(p, at) for at, p in enumerate(feed.problems(0, lines=False))]

    @cached_property
    def backbone(self) -> Backbone:
        """The tiny GPT-2 of this strategy, made lively."""
        return self.backbone_of(self.strategy)

    def backbone_of(self, strategy: Strategy, *, lively: float = LIVELY) -> Backbone:
        """A fresh tiny GPT-2 for any strategy, from one seed; its matrices times ``lively``."""
        backbone = make_backbone(self.spec.model, strategy=strategy, alphabet=self.alphabet, seed=0)
        with torch.no_grad():
            for weight in backbone.model.parameters():
                if weight.dim() > 1:
                    weight.mul_(lively)
        return backbone

    def feed(self, task: Task, *, problems_per_update: int = 8) -> Feed:
        """Batches of a task in this task's alphabet."""
        return Feed(
            task=task,
            alphabet=self.alphabet,
            seed=0,
            problems_per_update=problems_per_update,
            context_tokens=self.spec.model.shape[3],
        )

    def random_ids(self, count: int, seed: int) -> IntArray:
        """Text tokens, uniformly drawn."""
        return np.random.default_rng(seed).integers(0, self.alphabet.text_end, count)

    @cached_property
    def texts(self) -> list[Text]:
        """The strategy's lessons of three problems and five random tokens as token pieces, every sayable token a target."""
        rng = np.random.default_rng(0)
        lessons = [t for p in self.problems[:3] for t in self.strategy.lessons(p, progress=0.5, rng=rng)]
        extra: list[Text] = [tuple(Piece(Tokens((int(i),)), "answer") for i in self.random_ids(5, 0))]
        return [self.token_pieces(text) for text in [*lessons, *extra]]

    def token_pieces(self, text: Text) -> Text:
        """A text as pieces of one token each, all that the strategy can say as targets."""
        stream, sayable = encode([text], self.alphabet), set(self.alphabet.head_ids(self.strategy.sayable()))
        tokens = zip(stream.ids.tolist(), stream.roles.tolist(), strict=True)
        return tuple(Piece(Tokens((i,)), ROLES[role], i in sayable) for i, role in tokens)

    def batch(self, strategy: Strategy, texts: Sequence[Text]) -> Batch:
        """Given texts, laid out as the training loop lays out lessons, with nothing drawn: training does what asking does."""
        taught = with_methods(strategy, lessons=lambda self, problem, **_: list(texts))
        feed = self.feed(Fixed(held=(self.problems[0],)), problems_per_update=1)
        batch = feed.batch(taught, 0, progress=0.5, device=self.backbone.device, backbone=self.backbone)
        return dataclasses.replace(batch, cells=dataclasses.replace(batch.cells, draw=None))

    def solve(self, jobs: Sequence[Job], *, rows: int = 128, backbone: Backbone | None = None) -> dict[str, Outcome]:
        """Outcomes by the jobs' names. A job without an oracle is told the first problem's key."""
        oracle, examples = oracle_of(self.task, self.problems[0]), library_of(self.spec)
        question = self.problems[0].question
        referee, held = referee_of(self.task, question), self.strategy.holding(question)
        told: dict[str, Any] = {"examples": examples, "referee": referee, "rows": held.rows}
        given = [dataclasses.replace(job, oracle=job.oracle or oracle, **told) for job in jobs]
        return {o.job.name: o for o in Session(backbone or self.backbone, rows=rows).run(given)}

    def machine_is_exact(self) -> bool:
        """Whether plain training's bits survive company here: a fact about the machine, whatever the strategy."""
        return bit_stable(dataclasses.replace(self.spec, strategy=PLAIN), self.backbone_of(PLAIN))

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Bit-identical where this machine can be, else close."""
        if a.shape != b.shape:
            return False
        return bool(torch.equal(a, b) if self.exact else torch.allclose(a, b, rtol=0.0, atol=LOOSE))


def window_question(window: Problem, at: int) -> Problem:
    """A window of a document as a question: some of its tokens are given, the others are the key."""
    assert isinstance(window.question.text, Tokens) and isinstance(window.key.answer, Tokens)
    ids = (*window.question.text.ids, *window.key.answer.ids)
    given = 2 + at % 4
    question = Question(window.question.id, Tokens(ids[:given]), answer_cap_tokens=5 + at, window=True)
    return dataclasses.replace(window, question=question, key=dataclasses.replace(window.key, answer=Tokens(ids[given:])))


def with_methods(strategy: Strategy, **methods: Callable[..., Any]) -> Strategy:
    """The strategy with some methods replaced, its settings as they are."""
    cls = type(strategy)
    changed: Strategy = object.__new__(type(cls.__name__, (cls,), methods))
    for field in dataclasses.fields(strategy):
        object.__setattr__(changed, field.name, getattr(strategy, field.name))
    return changed


def watched(strategy: Strategy, seen: list[Tensor]) -> Strategy:
    """The strategy; every log-probability (T, V) that it reads out is put into ``seen`` too."""

    def readout(self: Strategy, backbone: Backbone, states: Tensor, reads: Any) -> Tensor:
        logits = type(strategy).readout(self, backbone, states, reads)
        seen.append(torch.log_softmax(logits.detach().float(), -1))
        return logits

    return with_methods(strategy, readout=readout)


def trained_states(context: Context, cells: Cells) -> Tensor:
    """The read states (R, D) of a pass on the training step's own path."""
    with torch.enable_grad():
        states = context.strategy.forward(context.backbone, cells, None)
    return states[: len(cells.reads.cells)]


def places_read(cells: Cells) -> tuple[IntArray, IntArray]:
    """Row and place (R,) of every state that is read."""
    return cells.layout.row[cells.reads.cells], cells.layout.place[cells.reads.cells]
