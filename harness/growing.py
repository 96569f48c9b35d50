"""The tree of a search while it grows: states, what they cost, whole attempts, and the answer that is chosen at the end.

Knows completions and the strategy that reads them; chooses nothing but what to fall back on.
"""

from __future__ import annotations

from typing import Literal

from harness.problem import Answer, Completion, Node, Tree
from harness.strategy import Strategy

STOPS = ("cap", "budget", "end")  # from the least to the best ending
NOTHING = Completion((), (), 0.0, "budget")


class Growing:
    """nodes: the first is what all attempts begin with. base: reads attempts. pool: see Tree."""

    def __init__(self, base: Strategy, *, pool: Literal["none", "draws", "weighted"] = "none") -> None:
        self.nodes = [Node(None)]
        self.pool = pool
        self._base, self._completions = base, dict[int, Completion]()

    def add(self, parent: int, said: str = "", *, nats: float = 0.0, tokens: int = 0, flops: int = 0) -> int:
        """The number of a new state."""
        self.nodes.append(Node(parent, said, nats, tokens, flops=flops))
        return len(self.nodes) - 1

    def end(self, number: int, completion: Completion) -> Node:
        """A state is a whole attempt: this one."""
        node = self.nodes[number]
        node.final, node.answer = True, self._base.read(completion)
        node.nats, node.tokens = completion.logprob_nats, len(completion.ids)
        node.fate = "ended" if completion.stop == "end" else "cut"
        self._completions[number] = completion
        return node

    def finals(self) -> list[int]:
        """Whole attempts, in the order of their numbers."""
        return sorted(self._completions)

    def chosen(self, number: int) -> Answer:
        """The answer of a whole attempt, which is the search's own."""
        node = self.nodes[number]
        node.fate = "chosen"
        return Answer(node.answer, self._completions[number], tree=Tree(self.nodes, self.pool))

    def draft(self) -> Answer:
        """What counts where the search did not come to its end: the best attempt so far; without any, nothing was said."""

        def rank(number: int) -> tuple[int, float, float]:
            node = self.nodes[number]
            return STOPS.index(self._completions[number].stop), node.nats if node.value is None else node.value, node.nats

        best = max(self.finals(), key=rank, default=None)
        if best is not None:
            return self.chosen(best)
        return Answer(self._base.read(NOTHING), NOTHING, tree=Tree(self.nodes, self.pool))
