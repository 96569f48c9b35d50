"""What strategies that search have in common: a base that is taught and speaks, and a tree of what was tried.

A search answers question 5 of the contract alone; everything else is its base's, so it shares the base's learner. Knows bases by
their contract; knows no task, and names none of the strategies (what is searched where no base is named is in defaults.toml).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.defaults import default
from harness.growing import Growing
from harness.problem import Answer, Completion, Problem, Question, Special, Text
from harness.search_wants import Forms, Spent
from harness.settings import setting
from harness.strategy import IntArray, Sight, Strategy, View, Woven
from harness.wants import Holding, Likelihood, OutOfBudget, Row, Sampler, Saying, Solver

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.task import Task

PLAIN = Strategy()


def split_saying(strategy: Strategy, question: Question) -> Saying | None:
    """How a base's attempt can be split: its `saying`, unless its `attempt` was overridden without that."""
    order = type(strategy).__mro__
    attempt, saying = (next(i for i, c in enumerate(order) if name in vars(c)) for name in ("attempt", "saying"))
    return None if attempt < saying else strategy.saying(question)


@dataclass(frozen=True, kw_only=True)
class Search(Strategy):
    """Subclass it, mark your settings when="ask", and give `searched`. With no base it asks what plain training taught."""

    base: Strategy | None = setting(  # noqa: RUF009  (strategies are frozen)
        None, doc="the strategy that is searched; none: chain of thought where the task has worked lines, else direct"
    )
    grammar: bool = setting(False, when="ask", doc="say only what the task's grammar allows next")

    @property
    def asked(self) -> Strategy:
        """The base."""
        return self.base or PLAIN

    @property
    def splits(self) -> bool:
        """Whether it branches within an attempt, and so needs a base whose attempt is one thing said after another."""
        return False

    @property
    def pool(self) -> Literal["none", "draws", "weighted"]:
        """Whether its attempts are independent draws, see Tree."""
        return "none"

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """Find an answer from a started row; the tree's root is there. OutOfBudget may come out: the tree's best then counts."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it searches")

    def solve(self, question: Question) -> Solver[Answer]:
        """One answer, with the tree of what was tried."""
        tree = Growing(self.asked, pool=self.pool)
        try:
            row = yield from self.asked.start(question)
            tree.nodes[0].flops += (yield Spent((row,)))[0]
            answer = yield from self.searched(question, row, tree)
        except OutOfBudget:
            answer = tree.draft()
        tree.nodes[0].flops += (yield Spent(()))[0]
        return answer

    def pattern(self, question: Question) -> Solver[str | None]:
        """The grammar's pattern for all that an attempt says, where it is to be held to it."""
        said = split_saying(self.asked, question)
        if not self.grammar or said is None:
            return None
        from harness.grammar import completion_pattern

        return completion_pattern((yield Forms()), mark=said.mark, join=said.joint)

    def sampler(self, question: Question, plain: Sampler) -> Solver[Sampler]:
        """A sampler, held to the grammar where that is wanted."""
        return replace(plain, grammar=(yield from self.pattern(question)))

    # On what it can run

    @classmethod
    def left_open(cls, task: Task) -> Mapping[str, str]:
        """The base, where none is named."""
        return {"base": default("base_with_lines" if "worked_lines" in task.offers() else "baseline")}

    def untaught(self, task: Task, *, given: frozenset[str], key: str, whole: bool = False) -> Strategy:
        """The same search over the base as that asks such a model."""
        if self.base is None:
            return self
        below = frozenset(name.removeprefix("base.") for name in given if name.startswith("base."))
        return replace(self, base=self.base.untaught(task, given=below, key=f"{key}.base", whole=whole or self.splits))

    def needs(self) -> frozenset[str]:
        """What the base needs."""
        return self.asked.needs()

    def suits(self, task: Task) -> None:
        """A base that can be searched this way, and a grammar where one is wanted."""
        if isinstance(self.asked, Search):
            raise ValueError("strategy.base: a search cannot be the base of a search; name what it searches over")
        said = split_saying(self.asked, Question("", "?"))  # any question: windows of documents are never prompted for
        name = type(self.asked).__name__
        if said is None and (self.splits or self.grammar):
            what = "be split, which this search needs" if self.splits else "be held to a grammar"
            raise ValueError(f"strategy.base: at these settings an attempt of {name} is said in several goes and cannot {what}")
        if self.grammar and said is not None:
            from harness.grammar import completion_pattern

            lined = bool(said.joint) and said.mark is None  # a grammar knows lines by what ends them
            if lined or completion_pattern(task.grammar(), mark=said.mark, join=said.joint) is None:
                raise ValueError("strategy.grammar: this task has no grammar for what the base says; legal here: false")
        self.asked.suits(task)

    # Questions 1 to 4, and likelihoods: the base's

    def learner(self) -> Strategy:
        """The base's."""
        return self.asked.learner()

    def wording(self) -> Sequence[str]:
        """The base's."""
        return self.asked.wording()

    def lessons(self, problem: Problem, *, progress: float, rng: np.random.Generator) -> list[Text]:
        """The base's."""
        return self.asked.lessons(problem, progress=progress, rng=rng)

    def prompt(self, question: Question) -> Text:
        """The base's."""
        return self.asked.prompt(question)

    def answer_mark(self) -> Special | None:
        """The base's."""
        return self.asked.answer_mark()

    def read(self, completion: Completion) -> str | None:
        """The base's."""
        return self.asked.read(completion)

    def weave(self, ids: IntArray, roles: IntArray, places: IntArray) -> Woven:
        """The base's."""
        return self.asked.weave(ids, roles, places)

    def positions(self, context_tokens: int) -> int:
        """The base's."""
        return self.asked.positions(context_tokens)

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """The base's."""
        return self.asked.sight(q, k, heads)

    def forward(self, backbone: Any, cells: Any, slots: Any) -> Tensor:
        """The base's."""
        return self.asked.forward(backbone, cells, slots)

    def passes(self) -> int:
        """The base's."""
        return self.asked.passes()

    def part_uses(self, layers: int) -> Mapping[str, tuple[int, int]]:
        """The base's."""
        return self.asked.part_uses(layers)

    def readout(self, backbone: Any, states: Tensor, reads: Any) -> Tensor:
        """The base's."""
        return self.asked.readout(backbone, states, reads)

    def ready(self, question: Question) -> Solver[Row]:
        """The base's."""
        return (yield from self.asked.ready(question))

    def start(self, question: Question) -> Solver[Row]:
        """The base's."""
        return (yield from self.asked.start(question))

    def saying(self, question: Question) -> Saying | None:
        """The base's."""
        return split_saying(self.asked, question)

    def attempt(self, question: Question, row: Row, sampler: Sampler) -> Solver[Completion]:
        """The base's."""
        return (yield from self.asked.attempt(question, row, sampler))

    def score(self, question: Question, continuations: tuple[Text, ...]) -> Solver[list[Likelihood]]:
        """The base's."""
        return (yield from self.asked.score(question, continuations))

    def rows(self) -> int:
        """Rows that the search holds at once, at most."""
        return 1

    def holding(self, question: Question) -> Holding:
        """The base's, in as many rows as the search holds."""
        base = self.asked.holding(question)
        return replace(base, rows=max(base.rows, self.rows()))

    def parts(self, config: Any) -> Mapping[str, nn.Module]:
        """The base's."""
        return self.asked.parts(config)

    def loss(self, backbone: Any, states: Tensor, cells: Any, progress: float) -> Tensor:
        """The base's."""
        return self.asked.loss(backbone, states, cells, progress)

    def loss_counts(self, cells: Any) -> Sequence[int]:
        """The base's."""
        return self.asked.loss_counts(cells)

    def revise(self, texts: list[Text], look: Any, rng: np.random.Generator) -> list[Text]:
        """The base's."""
        return self.asked.revise(texts, look, rng)

    def stage(self, progress: float) -> int:
        """The base's."""
        return self.asked.stage(progress)

    def sayable(self) -> tuple[Special, ...]:
        """The base's."""
        return self.asked.sayable()

    def pretraining_phase(self, task_name: str, task: Task) -> Mapping[str, Any]:
        """The base's."""
        return self.asked.pretraining_phase(task_name, task)
