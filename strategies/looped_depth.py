"""looped_depth: the same blocks again and again, so that thinking takes depth and no tokens. Knows nothing of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.strategy import Strategy, setting

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOOPS = 64


@dataclass(frozen=True, kw_only=True)
class LoopedDepth(Strategy):
    """Loops: the blocks run several times, each time on what they made plus the input.

    h_1 = Blocks(h_0), h_{j+1} = Blocks(h_j + h_0); the final norm and the head come once, after the last loop. Every loop has
    its own keys and values. With ``backprop`` the loops before the last ones run without gradient and are charged forward only
    (Geiping et al. 2025, section 3.3, without their noise); their input h_0 still learns through the loops that follow.
    """

    source = "Dehghani 2018, Universal Transformers; Saunshi 2502.17416; Geiping 2502.05171"
    neutral: ClassVar[Mapping[str, Any]] = {"train_loops": 1, "loops": None}
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"loops": (1, 2, 3, 4, 6, 8, 12, 16)}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"train_loops": 2},
        {"backprop": 1},
        {"random": True},
        {"random": True, "backprop": 2},
    )

    train_loops: int = setting(3, doc="times through the blocks in training; 1 is direct", low=1, high=MAX_LOOPS)
    random: bool = setting(False, doc="each update draws its loops from 1 .. 2 train_loops - 1")
    backprop: int | None = setting(None, doc="last loops through which gradient flows; none: all", low=1, high=2 * MAX_LOOPS)
    loops: int | None = setting(
        None, doc="times through the blocks when asked; none: train_loops", when="ask", low=1, high=4 * MAX_LOOPS
    )

    def passes(self) -> int:
        """Loops when asking."""
        return self.loops or self.train_loops

    def taught_loops(self, draw: int | None) -> int:
        """Loops of an update with this seed."""
        if not self.random or draw is None:
            return self.train_loops
        return int(np.random.default_rng(draw).integers(1, 2 * self.train_loops))

    def forward(self, backbone: Any, cells: Any, slots: Any) -> Tensor:
        """Through the blocks ``loops`` times."""
        import torch

        loops = self.taught_loops(cells.draw) if slots is None else self.passes()
        still = 0 if self.backprop is None or slots is not None else max(loops - self.backprop, 0)
        first = backbone.embed(cells)
        states = first
        for number in range(loops):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= still):
                entering = states if number == 0 else states + first
                states = backbone.blocks(entering, cells, slots, number=number, last=number == loops - 1)
        finished: Tensor = backbone.finish(states)
        return finished
