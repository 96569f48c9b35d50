"""side_targets: a control that gets the worked lines as auxiliary targets and says nothing of them when asked.

Knows lessons and the role of what is taught; the asking is direct's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.problem import END, ROLES, SPARE, Piece, Problem, Text
from harness.strategy import Strategy, setting
from strategies._lines import lines_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SideTargets(Strategy):
    """A control: the information of worked lines as side targets; nothing is said when asked.

    Two lessons a problem: question -> answer, as in direct, and question, a mark that is never said -> worked lines. The loss is
    the first's mean plus ``weight`` times the second's (equation 3 of the source).
    """

    source = "Hsieh 2305.02301, Distilling Step-by-Step (multi-task rationales)"
    neutral: ClassVar[Mapping[str, Any]] = {"weight": 0}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"weight": 0.3},)

    weight: float = setting(1.0, doc="weight of the side targets' mean loss; 0 is direct", low=0.0, high=100.0)

    def needs(self) -> frozenset[str]:
        """Worked lines, unless they are not taught."""
        return frozenset({"worked_lines"} if self.weight else ())

    def lessons(self, problem: Problem, *, progress: float, rng: Any) -> list[Text]:
        """The answer; beside it the worked lines behind a mark."""
        plain = super().lessons(problem, progress=progress, rng=rng)
        if self.weight == 0 or not problem.key.lines:
            return plain
        lines = Piece(lines_of(problem), "thought", True)
        return [*plain, (Piece(problem.question.text, "prompt"), Piece(SPARE, "thought"), lines, Piece(END, "thought", True))]

    def loss(self, backbone: Any, states: Tensor, cells: Any, progress: float) -> Tensor:
        """Mean cross-entropy of the answers' targets, plus ``weight`` times that of the lines'."""
        if self.weight == 0:
            return super().loss(backbone, states, cells, progress)
        import torch
        import torch.nn.functional as F

        nats = F.cross_entropy(backbone.head(states, cells.reads), cells.targets, reduction="none")
        beside = torch.from_numpy(self._beside(cells)).to(nats.device)
        of_lines, of_answers = cells.weights or (1, 1)
        shares = torch.where(
            beside, self.weight * of_lines / beside.sum().clamp(min=1), of_answers / (~beside).sum().clamp(min=1)
        )
        total: Tensor = (nats * shares).sum()
        return total

    def loss_counts(self, cells: Any) -> Sequence[int]:
        """Targets of lines, and of answers."""
        if self.weight == 0:
            return ()
        beside = int(self._beside(cells).sum())
        return beside, len(cells.targets) - beside

    def _beside(self, cells: Any) -> Any:
        """Which targets (R,) are those of lines."""
        return cells.layout.role[cells.reads.cells] == ROLES.index("thought")
