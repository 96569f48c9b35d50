"""future_heads: some attention heads are trained by later targets only. Knows nothing of tokens: the texts are direct's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.strategy import Sight, Strategy, View, setting
from strategies._thoughts import first_heads

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FutureHeads(Strategy):
    """No new tokens: in some heads, keys and values learn from targets beyond the next ones only.

    In ceil(heads x all heads) heads, key and value of cell j are detached for the query j itself and the next ``horizon`` - 1
    queries. The forward pass, and so every FLOP, is direct's.
    """

    source = "discussion of Bonetto 2024, Self-Reasoning Tokens: a fraction of the heads instead of new tokens"
    neutral: ClassVar[Mapping[str, Any]] = {"heads": 0}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"heads": 1.0, "horizon": 3}, {"heads": 0.5})

    heads: float = setting(0.25, doc="share of the heads that later targets alone train; 0 is direct", low=0.0, high=1.0)
    horizon: int = setting(1, doc="targets, from the next one on, that do not train them", low=1, high=64)

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """Detach near keys in the chosen heads."""
        if self.heads == 0:
            return None
        return Sight(learn_kv=~self.band(q, k, heads))

    def band(self, q: View, k: View, heads: int) -> Tensor:
        """(B, heads, Q, K): pairs through which no gradient flows."""
        distance = q.index[:, :, None] - k.index[:, None, :]
        near = (distance >= 0) & (distance < self.horizon)
        return near[:, None] & first_heads(self.heads, heads).to(near.device)
