"""best_of_n: several drawn attempts, and the one that a selector likes best.

Knows selectors; drawing and votes are in `_drawn`, everything that is taught is the base's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.growing import Growing
from harness.problem import Answer, Question
from harness.search import Search
from harness.search_wants import Check, ValueSpec
from harness.strategy import setting
from harness.task import Task
from harness.wants import Judge, Row, Sampler, Solver
from strategies._drawn import drawn, groups, mean_logprob, winner
from strategies._value import value_spec


@dataclass(frozen=True, kw_only=True)
class BestOfN(Search):
    """Best of N: drawn attempts, and the answer that a selector ranks first.

    select: mean log-probability of its tokens, a learned value, the task's checker (which uses the question alone), or an oracle
    (the key); among equals the mean log-probability, then the first. weighted: votes, each weighing the probability of a token
    (geometric mean), or with weighted_value its value. An attempt without an answer wins only where none has one.
    """

    source = "Cobbe 2110.14168 (verifiers); Snell 2408.03314, section 5.1; weighted vote: Li 2206.02336"
    neutral: ClassVar[Mapping[str, Any]] = {"samples": 1, "temperature": 0.0, "select": "logprob"}
    example: ClassVar[Mapping[str, Any]] = {"samples": 3}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"samples": 3}, {"samples": 4, "select": "weighted"})
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"samples": (1, 2, 4, 8, 16, 32, 64)}

    samples: int = setting(8, when="ask", doc="attempts", low=1, high=1024)
    temperature: float = setting(1.0, when="ask", doc="logits are divided by it; 0: greedy", low=0.0, high=10.0)
    top_k: int = setting(0, when="ask", doc="draw among so many tokens; 0: all", low=0, high=1 << 20)
    top_p: float = setting(1.0, when="ask", doc="draw among the most probable tokens of this mass", low=1e-9, high=1.0)
    select: Literal["logprob", "value", "checker", "oracle", "weighted", "weighted_value"] = setting(
        "logprob", when="ask", doc="what attempts are ranked by"
    )
    value_problems: int = setting(1024, when="ask", doc="value: problems that the value model is fitted on", low=0, high=1 << 20)
    value_rollouts: int = setting(4, when="ask", doc="value: attempts that rate a state", low=1, high=1024)

    @property
    def pool(self) -> Literal["draws", "weighted"]:
        """Independent draws."""
        return "weighted" if self.select.startswith("weighted") else "draws"

    def rows(self) -> int:
        """The attempts."""
        return self.samples

    def value_spec(self) -> ValueSpec | None:
        """For the selectors that ask it."""
        return value_spec(self.value_problems, self.value_rollouts) if self.select in ("value", "weighted_value") else None

    def suits(self, task: Task) -> None:
        """A checker where one is asked for."""
        super().suits(task)
        if self.select == "checker" and "checker" not in task.offers():
            raise ValueError("strategy.select: checker needs a task that can check an answer by its question alone")
        if self.select in ("value", "weighted_value") and not self.value_problems:
            raise ValueError(f"strategy.select: {self.select} needs a value model, and value_problems=0 fits none; give more")

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """Draw, rank."""
        sampler = yield from self.sampler(question, Sampler(self.temperature, self.top_k, self.top_p))
        valued = self.value_spec() is not None
        numbers = yield from drawn(self.asked, question, row, tree, sampler, count=self.samples, last=True, valued=valued)
        answered = [n for n in numbers if tree.nodes[n].answer is not None]
        if not answered:
            return tree.draft()
        for number in answered:
            yield from self._rate(tree, number)
        if self.select.startswith("weighted"):
            votes = yield from groups(tree, answered)
            return tree.chosen(winner(tree, votes, {n: tree.nodes[n].value or 0.0 for n in answered}))
        return tree.chosen(max(answered, key=lambda n: (tree.nodes[n].value, mean_logprob(tree, n))))

    def _rate(self, tree: Growing, number: int) -> Solver[None]:
        """Give an attempt its value, if it has none."""
        node = tree.nodes[number]
        assert node.answer is not None
        if self.select == "checker":
            node.value = float((yield Check(node.answer)))
        elif self.select == "oracle":
            node.value = float((yield Judge(node.answer)))
        elif self.select == "logprob":
            node.value = mean_logprob(tree, number)
        elif self.select == "weighted":
            node.value = math.exp(mean_logprob(tree, number))
