"""reasoning_tokens: thoughts woven in after each text token, whose job is not the next token.

Knows the layout, who sees whom and where the next token is read; the thoughts' embeddings are rows of the shared table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.problem import MAX_THOUGHTS, ROLES
from harness.strategy import NOTHING, TEXT, THOUGHT, Sight, Strategy, View, Woven, plain_weave, setting
from strategies import _thoughts

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ReasoningTokens(Strategy):
    """Self-reasoning tokens: thoughts after each text token that learn from later targets only.

    Layout [x_i, R_i^1 .. R_i^r]; with emit=first x_{i+1} is read at x_i, so causality alone hides R_i from it.
    """

    version: ClassVar[int] = 2  # 2: the gate's and the speaking head's FLOPs are booked
    source = "Bonetto 2024, Self-Reasoning Tokens: teaching models to think ahead"
    neutral: ClassVar[Mapping[str, Any]] = {"per_token": 0}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"per_token": 2, "emit": "last"},
        {"per_token": 2, "emit": "learned"},
        {"per_token": 2, "taught": "all"},
        {"place": "own"},
        {"horizon": 3},
        {"horizon": 3, "shield": "mask"},
        {"horizon": 3, "heads": 0.5},
        {"gate": "learned"},
        {"per_token": 2, "among": "all"},
        {"where": "prompt"},
        {"where": "answer"},
        {"embed": "copy"},
        {"per_token": 2, "embed": "shared"},
    )

    per_token: int = setting(1, doc="thoughts after each text token; 0 is direct", low=0, high=MAX_THOUGHTS)
    embed: Literal["own", "shared", "copy", "copy_bare"] = setting(
        "own",
        doc="a thought's input: a vector per slot, one for all, the text token's plus the slot's, or the text token's alone",
    )
    place: Literal["shared", "own"] = setting("shared", doc="position: the text token's, or contiguous")
    emit: Literal["first", "last", "learned"] = setting(
        "first", doc="the next token is read at the text token, the last thought, or by chance"
    )
    taught: Literal["read", "all"] = setting("read", doc="all: every thought also predicts the next token (a control)")
    shield: Literal["detach", "mask"] = setting("detach", doc="beyond horizon 1: thoughts seen without gradient, or not seen")
    horizon: int = setting(1, doc="targets, from the next one on, that do not train a thought", low=1, high=64)
    heads: float = setting(1.0, doc="share of the heads that are shielded; below 1 it leaks by design", low=0.0, high=1.0)
    gate: Literal["none", "learned"] = setting("none", doc="a learned weight on what later places read from a thought")
    among: Literal["causal", "all"] = setting("causal", doc="all: the thoughts of one place see each other")
    where: Literal["all", "prompt", "answer"] = setting("all", doc="text tokens that are followed by thoughts")
    ponder: float = setting(0.01, doc="emit=learned: cost in nats of each further thought before speaking", low=0.0, high=10.0)

    def weave(self, ids: Any, roles: Any, places: Any) -> Woven:
        """[x_i, R_i^1 .. R_i^r] wherever ``where`` allows."""
        if self.per_token == 0:
            return plain_weave(ids, places)
        followed = np.ones(len(ids), dtype=bool) if self.where == "all" else roles == ROLES.index(self.where)
        lengths = np.where(followed, 1 + self.per_token, 1)
        source = np.repeat(np.arange(len(ids)), lengths)
        slot = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        thought = slot > 0
        vector = np.where(self.embed == "shared", -1, -slot)
        copied = self.embed in ("copy", "copy_bare")
        own = {"first": ~thought, "last": slot == (lengths - 1)[source], "learned": thought | (lengths == 1)[source]}
        read = own[self.emit]
        return Woven(
            source=source,
            kind=np.where(thought, THOUGHT, TEXT),
            embed=np.where(thought, ids[source] if copied else vector, ids[source]),
            added=np.where(thought, vector, NOTHING) if self.embed == "copy" else np.full(len(source), NOTHING),
            position=places[source] if self.place == "shared" else np.full(len(source), NOTHING),
            slot=slot,
            read=read,
            taught=read | thought if self.taught == "all" else read,
        )

    def positions(self, context_tokens: int) -> int:
        """Contiguous positions need a row for every cell."""
        return context_tokens * (1 + self.per_token) if self.place == "own" else context_tokens

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """Shield the band of near queries; let the thoughts of a place see each other; name the gated pairs."""
        band = None if self.horizon == 1 else self.band(q, k, heads)
        if self.per_token == 0 or (band is None and self.among == "causal" and self.gate == "none"):
            return None
        look = (k.index[:, None, :] <= q.index[:, :, None])[:, None]
        apart = (q.place[:, :, None] - k.place[:, None, :])[:, None]
        of_thought = (k.kind == THOUGHT)[:, None, None, :]
        if self.among == "all":
            look = look | ((apart == 0) & of_thought & (q.kind == THOUGHT)[:, None, :, None])
        if band is not None and self.shield == "mask":
            look = look & ~band
        changed = self.among == "all" or (band is not None and self.shield == "mask")
        return Sight(
            look=look if changed else None,
            learn_kv=~band if band is not None and self.shield == "detach" else None,
            gated=(apart > 0) & of_thought if self.gate == "learned" else None,
        )

    def band(self, q: View, k: View, heads: int) -> Tensor:
        """(B, 1 or heads, Q, K): thoughts of place i as keys, queries of places i+1 .. i+H-1."""
        apart = q.place[:, :, None] - k.place[:, None, :]
        near = ((apart >= 1) & (apart < self.horizon) & (k.kind == THOUGHT)[:, None, :])[:, None]
        return near if self.heads == 1 else near & _thoughts.first_heads(self.heads, heads).to(near.device)

    def parts(self, config: Any) -> Mapping[str, nn.Module]:
        """A gate a layer, and the chance of speaking."""
        thoughts = self.per_token
        gate = _thoughts.gate_part(config) if thoughts and self.gate == "learned" else {}
        return gate | (_thoughts.speak_part(config, thoughts) if thoughts and self.emit == "learned" else {})

    def part_uses(self, layers: int) -> Mapping[str, tuple[int, int]]:
        """The gate at every layer of a cell, the chance of speaking at a read."""
        return {"gate": (layers, 0), "speak": (0, 1)}

    def forward(self, backbone: Any, cells: Any, slots: Any) -> Tensor:
        """Once through the blocks, with gated keys if asked."""
        if self.per_token == 0 or self.gate == "none":
            return super().forward(backbone, cells, slots)
        return _thoughts.gated_forward(backbone, cells, slots)

    def chances(self, backbone: Any, states: Tensor, reads: Any) -> Tensor:
        """p_j (R,): that a place speaks at this thought."""
        return _thoughts.speaking_chances(backbone.part("speak", states, reads), reads, thoughts=self.per_token)

    def readout(self, backbone: Any, states: Tensor, reads: Any) -> Tensor:
        """emit=learned: log sum_j p_j p(x | R^j)."""
        if self.per_token == 0 or self.emit != "learned":
            return super().readout(backbone, states, reads)
        return _thoughts.mixed_log_probabilities(backbone.head(states, reads), self.chances(backbone, states, reads), reads)

    def loss(self, backbone: Any, states: Tensor, cells: Any, progress: float) -> Tensor:
        """emit=learned: sum_j p_j CE_j + ponder sum_j j p_j, a mean over text targets."""
        if self.per_token == 0 or self.emit != "learned":
            return super().loss(backbone, states, cells, progress)
        logits, p = backbone.head(states, cells.reads), self.chances(backbone, states, cells.reads)
        return _thoughts.speaking_loss(logits, p, cells, ponder=self.ponder)
