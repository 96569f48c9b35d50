"""dvts: diverse verifier tree search, several subtrees that know nothing of each other, in each the best line only gone on from.

Knows the order of the search; how states grow is in `_states`, what they are worth in `_evaluators`, all teaching is the base's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.growing import Growing
from harness.problem import Answer, Question
from harness.strategy import setting
from harness.wants import Fork, Gather, Row, Solver
from strategies._evaluators import evaluated, rank
from strategies._judged import JudgedSearch
from strategies._states import Proposals, State, given_up, grown


@dataclass(frozen=True, kw_only=True)
class Dvts(JudgedSearch):
    """Diverse verifier tree search: independent greedy subtrees; the answer is the best final state of all.

    Each subtree proposes ``branching`` lines, keeps the one that the evaluator likes best, and goes on from it to the end. With
    propose=beam all subtrees are the same one; with branching 1 it is best of N.
    """

    source = "Beeching, Tunstall, Rush 2024, Scaling test-time compute with open models (DVTS)"
    example: ClassVar[Mapping[str, Any]] = {"branching": 2, "subtrees": 2, "levels": 4}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"subtrees": 2, "branching": 2}, {"subtrees": 3, "branching": 1})
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"subtrees": (1, 2, 4, 8, 16)}

    subtrees: int = setting(4, when="ask", doc="subtrees that know nothing of each other", low=1, high=256)

    def rows(self) -> int:
        """Every subtree's proposals."""
        return self.subtrees * (self.proposed_rows() + self.evaluator_rows())

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """All subtrees side by side."""
        proposals = yield from self.proposals(question)
        rows: list[Row] = yield Fork(row, self.subtrees)
        found: list[State | None] = yield Gather(tuple(self._subtree(question, proposals, r, tree) for r in rows))
        finals = [state for state in found if state is not None]
        best = max(finals, key=lambda state: rank(state, tree), default=None)
        return tree.draft() if best is None else tree.chosen(best.number)

    def _subtree(self, question: Question, proposals: Proposals, row: Row, tree: Growing) -> Solver[State | None]:
        """The final state of one subtree, if it comes to one."""
        state = State(0, row)
        for _ in range(self.levels):
            children = yield from grown(proposals, [state], tree)
            yield from evaluated(self.evaluator, question, children, tree, self.accuracy)
            best = max(children, key=lambda s: rank(s, tree), default=None)
            for child in children:
                if child is not best and not child.final:
                    tree.nodes[child.number].fate = "pruned"
            yield from given_up([child for child in children if child is not best or child.final])
            if best is None or best.final:
                return best
            state = best
        yield from given_up([state])
        return None
