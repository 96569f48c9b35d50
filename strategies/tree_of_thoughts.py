"""tree_of_thoughts: worked lines as a tree, several for each state, judged by an evaluator, the best gone on from.

Knows the order of the search; how states grow is in `_states`, what they are worth in `_evaluators`, all teaching is the base's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.growing import Growing
from harness.problem import Answer, Question
from harness.strategy import setting
from harness.wants import OutOfBudget, Row, Solver
from strategies._evaluators import evaluated, rank
from strategies._judged import JudgedSearch
from strategies._states import State, given_up, grown


@dataclass(frozen=True, kw_only=True)
class TreeOfThoughts(JudgedSearch):
    """Tree of thoughts: each state's lines are drawn or found by a beam, judged, and the best states gone on from.

    A thought is one worked line, the last one with the answer. bfs: the ``breadth`` best states of every level; dfs: the best
    child first, back where none is left, up to ``expansions`` states. The answer is the one best final state. Duplicates cost
    what they cost and are not gone on from. Where the base says no lines, a thought is the whole answer.
    """

    source = "Yao 2305.10601, Tree of thoughts: deliberate problem solving with large language models"
    neutral: ClassVar[Mapping[str, Any]] = {
        "breadth": 1, "branching": 1, "temperature": 0.0, "search": "bfs", "evaluator": "logprob", "levels": 256,
        "grammar": False,
    }  # fmt: skip
    example: ClassVar[Mapping[str, Any]] = {"branching": 2, "breadth": 2, "levels": 4}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"breadth": 2, "branching": 3}, {"propose": "beam", "breadth": 2, "branching": 2},
        {"search": "dfs", "branching": 2, "expansions": 5}, {"evaluator": "noisy_oracle", "branching": 2},
    )  # fmt: skip
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"breadth": (1, 2, 3, 5, 8), "branching": (1, 2, 3, 5, 8)}

    search: Literal["bfs", "dfs"] = setting("bfs", when="ask", doc="level by level, or the best child first")
    breadth: int = setting(5, when="ask", doc="bfs: states of a level that are gone on from", low=1, high=256)
    expansions: int = setting(16, when="ask", doc="dfs: states that are gone on from, at most", low=1, high=4096)
    threshold: float | None = setting(None, when="ask", doc="dfs: a state of less value is not gone on from; none: all are")

    def rows(self) -> int:
        """bfs: every child of a level; dfs: those on the way. And what an evaluator asks in words."""
        each = self.proposed_rows()
        return self.evaluator_rows() + (each * self.breadth if self.search == "bfs" else each + self.branching * self.levels)

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """Grow the tree, then take the best whole attempt."""
        finals: list[State] = []
        with suppress(OutOfBudget):
            yield from (self._bfs if self.search == "bfs" else self._dfs)(question, State(0, row), tree, finals)
        best = max(finals, key=lambda state: rank(state, tree), default=None)
        return tree.draft() if best is None else tree.chosen(best.number)

    def _bfs(self, question: Question, root: State, tree: Growing, finals: list[State]) -> Solver[None]:
        proposals, frontier = (yield from self.proposals(question)), [root]
        for _ in range(self.levels):
            children = yield from grown(proposals, frontier, tree)
            yield from evaluated(self.evaluator, question, children, tree, self.accuracy)
            finals += [child for child in children if child.final]
            going = sorted((child for child in children if not child.final), key=lambda s: rank(s, tree), reverse=True)
            for state in going[self.breadth :]:
                tree.nodes[state.number].fate = "pruned"
            yield from given_up([child for child in children if child.final] + going[self.breadth :])
            frontier = going[: self.breadth]
            if not frontier or self.solved(finals, tree):
                break
        yield from given_up(frontier)

    def _dfs(self, question: Question, root: State, tree: Growing, finals: list[State]) -> Solver[None]:
        proposals, waiting = (yield from self.proposals(question)), [root]
        for _ in range(self.expansions):
            state = waiting.pop()
            children = yield from grown(proposals, [state], tree)
            yield from evaluated(self.evaluator, question, children, tree, self.accuracy)
            finals += [child for child in children if child.final]
            yield from given_up([child for child in children if child.final])
            for child in sorted((c for c in children if not c.final), key=lambda s: rank(s, tree)):
                low = self.threshold is not None and rank(child, tree)[0] < self.threshold
                if low or len(child.lines) >= self.levels:
                    tree.nodes[child.number].fate = "pruned"
                    yield from given_up([child])
                else:
                    waiting.append(child)
            if not waiting or self.solved(finals, tree):
                break
        yield from given_up(waiting)
