"""reasoning_tokens: thoughts woven in after each text token, whose job is not the next token.

Knows the layout, who sees whom and where the next token is read; the thoughts' embeddings are rows of the shared table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.problem import MAX_THOUGHTS, ROLES
from harness.strategy import NOTHING, TEXT, THOUGHT, Sight, Strategy, View, Woven, plain_weave, setting

if TYPE_CHECKING:
    from torch import Tensor, nn

LANES = 16  # elementwise functions of whole vector registers give the same bits whatever the number of rows


@dataclass(frozen=True, kw_only=True)
class ReasoningTokens(Strategy):
    """Self-reasoning tokens: thoughts after each text token that learn from later targets only.

    Layout [x_i, R_i^1 .. R_i^r]; with emit=first x_{i+1} is read at x_i, so causality alone hides R_i from it.
    """

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
        import torch

        apart = q.place[:, :, None] - k.place[:, None, :]
        near = ((apart >= 1) & (apart < self.horizon) & (k.kind == THOUGHT)[:, None, :])[:, None]
        if self.heads == 1:
            return near
        chosen = torch.arange(heads, device=near.device) < math.ceil(self.heads * heads)
        return near & chosen[None, :, None, None]

    def parts(self, config: Any) -> Mapping[str, nn.Module]:
        """A gate a layer, and the chance of speaking."""
        from torch import nn

        made: dict[str, nn.Module] = {}
        if self.per_token and self.gate == "learned":
            made["gate"] = nn.Linear(config.n_embd, max(config.n_layer, LANES))
        if self.per_token and self.emit == "learned":
            made["speak"] = nn.Sequential(nn.Linear(config.n_embd, max(self.per_token, LANES)), nn.Sigmoid())
        return made

    def forward(self, backbone: Any, cells: Any, slots: Any) -> Tensor:
        """Once through the blocks, with gated keys if asked."""
        if self.per_token == 0 or self.gate == "none":
            return super().forward(backbone, cells, slots)
        import torch
        import torch.nn.functional as F

        thought = torch.from_numpy(cells.layout.kind == THOUGHT).to(backbone.device)

        def log_gate(layer: int, states: Tensor) -> Tensor:
            score = backbone.part("gate", F.layer_norm(states, states.shape[-1:]))[:, layer]
            if not torch.is_grad_enabled():
                cells.reads.notes[f"gate_{layer}"] = torch.where(thought, score.sigmoid(), torch.nan)
            return torch.where(thought, F.logsigmoid(score), 0.0)

        states = backbone.blocks(backbone.embed(cells), cells, slots, last=True, key_gate=log_gate)
        return backbone.finish(states)  # type: ignore[no-any-return]

    def chances(self, backbone: Any, states: Tensor, reads: Any) -> Tensor:
        """p_j (R,): that a place speaks at this thought; q_j is learned, the last thought always speaks."""
        import torch

        q = backbone.part("speak", states).gather(1, (reads.slot - 1).clamp(min=0)[:, None]).squeeze(1)
        last = torch.ones_like(reads.group, dtype=torch.bool)
        last[:-1] = reads.group[1:] != reads.group[:-1]
        q = torch.where(last, 1.0, q)
        silent, p = torch.ones(reads.count, device=q.device), torch.zeros_like(q)
        for slot in range(self.per_token + 1):
            here = (reads.slot == slot).nonzero().squeeze(1)
            group, chance = reads.group[here], q[here]
            p = p.index_copy(0, here, silent[group] * chance)
            silent = silent.index_copy(0, group, silent[group] * (1 - chance))
        return p

    def readout(self, backbone: Any, states: Tensor, reads: Any) -> Tensor:
        """emit=learned: log sum_j p_j p(x | R^j)."""
        if self.per_token == 0 or self.emit != "learned":
            return super().readout(backbone, states, reads)
        import torch
        import torch.nn.functional as F

        p = self.chances(backbone, states, reads)
        if not torch.is_grad_enabled():
            noted = torch.full((len(reads.bill.cells_so_far),), torch.nan, device=p.device)
            reads.notes["speaks"] = noted.index_copy(0, torch.from_numpy(reads.cells).to(p.device), p)
        said = torch.softmax(backbone.head(states, reads), -1) * p.unsqueeze(1)
        outputs = said.shape[1]
        mixed = torch.zeros(reads.count, outputs, device=p.device).index_add(0, reads.group, said)
        return F.pad(mixed, (0, -outputs % (2 * LANES)), value=1.0).log()[:, :outputs]

    def loss(self, backbone: Any, states: Tensor, cells: Any, progress: float) -> Tensor:
        """emit=learned: sum_j p_j CE_j + ponder sum_j j p_j, a mean over text targets."""
        if self.per_token == 0 or self.emit != "learned":
            return super().loss(backbone, states, cells, progress)
        import torch.nn.functional as F

        p = self.chances(backbone, states, cells.reads)
        nats = F.cross_entropy(backbone.head(states, cells.reads), cells.targets, reduction="none")
        total: Tensor = (p * (nats + self.ponder * cells.reads.slot)).sum() / max(cells.reads.count, 1)
        return total
