"""multi_token: extra heads foresee the tokens after the next one in training, and are dropped when asked.

Knows the states where targets are read; the texts and the answering are direct's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.strategy import IntArray, Strategy, setting

if TYPE_CHECKING:
    from torch import Tensor, nn


def foreseen(cells: Any, ahead: int) -> tuple[IntArray, IntArray]:
    """(reads, later reads), both (n,) of a pass's R: the later target is ``ahead`` tokens behind the text token of the first.

    Both stand in one lesson, and both targets are targets of that lesson. For strategies with one read a text token.
    """
    at = cells.reads.cells
    token, row = cells.layout.token[at], cells.layout.row[at]
    later = np.minimum(np.searchsorted(token, token + ahead - 1), len(token) - 1)
    found = np.flatnonzero((token[later] == token + ahead - 1) & (row[later] == row))
    return found, later[found]


@dataclass(frozen=True, kw_only=True)
class MultiToken(Strategy):
    """Multi-token prediction: in training, extra heads also predict the tokens after the next one.

    From the final state h at x_i, head a = 2 .. ahead predicts x_{i+a} as Unembed(h + MLP_a(h)), with the shared unembedding
    (section 2, with a residual MLP of two D x D matrices where the paper has a whole block). The loss is the sum over heads
    (equation 2), each over the lesson's own targets only, in nats per next-token target.
    """

    source = "Gloeckle 2404.19737, Better & Faster Large Language Models via Multi-token Prediction"
    neutral: ClassVar[Mapping[str, Any]] = {"ahead": 1}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"ahead": 4},)

    ahead: int = setting(2, doc="tokens predicted at each place, the next one included; 1 is direct", low=1, high=16)

    def parts(self, config: Any) -> Mapping[str, nn.Module]:
        """A residual MLP for each token after the next one."""
        from torch import nn

        d = config.n_embd
        return {
            f"ahead_{a}": nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
            for a in range(2, self.ahead + 1)
        }

    def loss(self, backbone: Any, states: Tensor, cells: Any, progress: float) -> Tensor:
        """CE of the next token, plus that of each further one."""
        import torch
        import torch.nn.functional as F

        total = super().loss(backbone, states, cells, progress)
        for a in range(2, self.ahead + 1):
            here, later = foreseen(cells, a)
            if not len(here):
                continue
            index = torch.from_numpy(here).to(states.device)
            some = replace(
                cells.reads, group=cells.reads.group[index], slot=cells.reads.slot[index], cells=cells.reads.cells[here]
            )
            own = states[index]
            logits = backbone.head(own + backbone.part(f"ahead_{a}", own, some), some)
            targets = cells.targets[torch.from_numpy(later).to(states.device)]
            total = total + F.cross_entropy(logits, targets, reduction="sum") / len(cells.targets)
        return total
