"""self_consistency: several drawn attempts, and the answer that most of them give.

Knows how many to draw and when to stop; drawing and votes are in `_drawn`, everything that is taught is the base's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.growing import Growing
from harness.problem import Answer, Question
from harness.search import Search
from harness.strategy import setting
from harness.wants import Row, Sampler, Solver
from strategies._drawn import drawn, groups, winner


@dataclass(frozen=True, kw_only=True)
class SelfConsistency(Search):
    """Self-consistency: N drawn attempts, majority over their answers.

    An attempt without an answer casts no vote. Equal votes: the larger sum of log-probabilities, then the first. Adaptive: draws
    ``window`` at a time and stops when the leader would keep its lead over the next answer with probability ``confidence``
    (a Beta posterior of the two, uniform before). A sample is the same however many are drawn.
    """

    source = "Wang 2203.11171, section 2; adaptive: Aggarwal 2305.11860, section 3 (Beta stopping)"
    neutral: ClassVar[Mapping[str, Any]] = {"samples": 1, "temperature": 0.0, "adaptive": False}
    example: ClassVar[Mapping[str, Any]] = {"samples": 3}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"samples": 3}, {"samples": 6, "adaptive": True, "window": 2})
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"samples": (1, 2, 4, 8, 16, 32, 64)}

    samples: int = setting(8, when="ask", doc="attempts; adaptive: at most", low=1, high=1024)
    temperature: float = setting(1.0, when="ask", doc="logits are divided by it; 0: greedy", low=0.0, high=10.0)
    top_k: int = setting(0, when="ask", doc="draw among so many tokens; 0: all", low=0, high=1 << 20)
    top_p: float = setting(1.0, when="ask", doc="draw among the most probable tokens of this mass", low=1e-9, high=1.0)
    adaptive: bool = setting(False, when="ask", doc="stop when the leader can hardly lose")
    window: int = setting(4, when="ask", doc="adaptive: attempts drawn side by side before looking", low=1, high=1024)
    confidence: float = setting(0.95, when="ask", doc="adaptive: probability of keeping the lead", low=0.5, high=1.0)

    @property
    def pool(self) -> Literal["none", "draws"]:
        """Independent draws, unless their number depends on them."""
        return "none" if self.adaptive else "draws"

    def rows(self) -> int:
        """The attempts, and the row that more are drawn from."""
        return min(self.samples, self.window) + 1 if self.adaptive else self.samples

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """Draw, vote."""
        sampler = yield from self.sampler(question, Sampler(self.temperature, self.top_k, self.top_p))
        numbers: list[int] = []
        votes: dict[str, list[int]] = {}
        while len(numbers) < self.samples:
            count = min(self.window, self.samples - len(numbers)) if self.adaptive else self.samples
            last = len(numbers) + count == self.samples
            new = yield from drawn(self.asked, question, row, tree, sampler, count=count, last=last)
            numbers += new
            votes = yield from groups(tree, numbers)
            if len(new) < count or (self.adaptive and self._decided(votes)):
                break  # the budget's end, or enough was seen
        return tree.chosen(winner(tree, votes)) if votes else tree.draft()

    def _decided(self, votes: dict[str, list[int]]) -> bool:
        """Whether the leader would beat the second answer among ever more votes, as far as these tell."""
        from scipy.stats import beta

        counts = sorted(map(len, votes.values()), reverse=True)
        first, second = [*counts, 0, 0][:2]
        return first > 0 and float(beta.sf(0.5, first + 1, second + 1)) >= self.confidence
