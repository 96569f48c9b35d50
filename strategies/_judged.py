"""Searches whose states an evaluator judges: their common settings, what these need of base, task and alphabet, and their rows.

Knows settings; the order of the search is the subclass's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.growing import Growing
from harness.problem import Question
from harness.search import Search, split_saying
from harness.search_wants import ValueSpec
from harness.strategy import setting
from harness.task import Task
from harness.wants import Holding, Sampler, Solver
from strategies._evaluators import WORDS, wording
from strategies._states import Proposals, State
from strategies._value import value_spec

WORD_ROWS = 3  # rows for the words of one judgement, beside the judged states


@dataclass(frozen=True, kw_only=True)
class JudgedSearch(Search):
    """Common settings; subclass it and give `searched` and `rows`."""

    propose: Literal["sample", "beam"] = setting("sample", when="ask", doc="lines are drawn, or the most probable ones of a beam")
    branching: int = setting(5, when="ask", doc="lines proposed for a state", low=1, high=256)
    temperature: float = setting(1.0, when="ask", doc="propose=sample: logits are divided by it; 0: greedy", low=0.0, high=10.0)
    levels: int = setting(16, when="ask", doc="most lines of an attempt, the last with its answer", low=1, high=256)
    evaluator: Literal["logprob", "value", "checker", "verbal", "vote", "noisy_oracle"] = setting(
        "logprob", when="ask", doc="what judges states; verbal and vote ask in words and want a pretrained model"
    )
    accuracy: float = setting(1.0, when="ask", doc="noisy_oracle: the share of states that it judges rightly", low=0.0, high=1.0)
    value_problems: int = setting(1024, when="ask", doc="value: problems that the value model is fitted on", low=0, high=1 << 20)
    value_rollouts: int = setting(4, when="ask", doc="value: attempts that rate a state", low=1, high=1024)

    @property
    def splits(self) -> bool:
        """Attempts are cut behind their lines."""
        return True

    def value_spec(self) -> ValueSpec | None:
        """For the evaluator that asks it."""
        return value_spec(self.value_problems, self.value_rollouts) if self.evaluator == "value" else None

    def wording(self) -> Sequence[str]:
        """The base's, and an evaluator's."""
        return [*super().wording(), *(wording() if self.evaluator in WORDS else ())]

    def suits(self, task: Task) -> None:
        """An evaluator that there is, on this task."""
        super().suits(task)
        if self.evaluator == "checker" and "checker" not in task.offers():
            raise ValueError("strategy.evaluator: checker needs a task that can check an answer by its question alone")
        if self.evaluator == "value" and not self.value_problems:
            raise ValueError("strategy.evaluator: value needs a value model, and value_problems=0 fits none; give more")
        if self.evaluator == "noisy_oracle" and "worked_lines" not in task.offers():
            why = task.lacks("worked_lines")
            raise ValueError(f"strategy.evaluator: noisy_oracle needs a task with worked lines{why and f' ({why})'}")

    def holding(self, question: Question) -> Holding:
        """What is asked in words may be longer than an attempt: up to the context."""
        held = super().holding(question)
        return replace(held, said_tokens=None) if self.evaluator in WORDS else held

    def proposals(self, question: Question) -> Solver[Proposals]:
        """How states grow."""
        said = split_saying(self.asked, question)
        assert said is not None
        pattern = yield from self.pattern(question)
        sampler = Sampler(self.temperature, grammar=pattern) if self.propose == "sample" else None
        return Proposals(said, self.branching, sampler, pattern)

    def proposed_rows(self) -> int:
        """Rows that a state holds while it grows."""
        return self.branching * (1 if self.propose == "sample" else 2)

    def evaluator_rows(self) -> int:
        """Rows of an evaluator's own."""
        most = self.branching * (self.breadth if hasattr(self, "breadth") else 1)
        return {"verbal": WORD_ROWS, "vote": most}.get(self.evaluator, 0)

    def solved(self, finals: Sequence[State], tree: Growing) -> bool:
        """Whether a whole attempt is known to be right, so that nothing better can come."""
        return self.evaluator == "checker" and any(tree.nodes[state.number].value == 1.0 for state in finals)
