"""myopic: a control in which no loss trains the states of earlier places. Knows nothing of tokens: the texts are direct's."""

from __future__ import annotations

from dataclasses import dataclass

from harness.strategy import Sight, Strategy, View


@dataclass(frozen=True, kw_only=True)
class Myopic(Strategy):
    """A control that cannot plan ahead: the loss at a place trains the states of that place only.

    Keys and values of strictly earlier cells are projections of detached states (the source's myopic descent):
    the residual stream before a place gets no gradient from its loss, the key and value weights do. The forward pass, and so
    every FLOP, is direct's.
    """

    source = "Wu 2404.00859, Do language models plan ahead for future tokens?"

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """Earlier cells are seen without gradient to their states; each cell's own key and value are live."""
        return Sight(learn_state=(q.index[:, :, None] == k.index[:, None, :])[:, None])
