"""What strategies with thoughts or chosen heads share: head masks, gated keys, thoughts that may speak.

Knows tensors of one pass; knows no layout.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.strategy import THOUGHT

if TYPE_CHECKING:
    from torch import Tensor, nn

LANES = 16  # elementwise functions of whole vector registers give the same bits whatever the number of rows


def first_heads(share: float, heads: int) -> Tensor:
    """(1, heads, 1, 1): the first ceil(share x heads) heads."""
    import torch

    return (torch.arange(heads) < math.ceil(share * heads))[None, :, None, None]


def gate_part(config: Any) -> dict[str, nn.Module]:
    """The part "gate": a score for each layer."""
    from torch import nn

    return {"gate": nn.Linear(config.n_embd, max(config.n_layer, LANES))}


def speak_part(config: Any, thoughts: int) -> dict[str, nn.Module]:
    """The part "speak": a chance for each thought of a place."""
    from torch import nn

    return {"speak": nn.Sequential(nn.Linear(config.n_embd, max(thoughts, LANES)), nn.Sigmoid())}


def gated_forward(backbone: Any, cells: Any, slots: Any) -> Tensor:
    """Once through the blocks; the part "gate" weights, layer by layer, what gated pairs read from a thought."""
    import torch
    import torch.nn.functional as F

    thought = torch.from_numpy(cells.layout.kind == THOUGHT).to(backbone.device)

    def log_gate(layer: int, states: Tensor) -> Tensor:
        score = backbone.part("gate", F.layer_norm(states, states.shape[-1:]), cells)[:, layer]
        if not torch.is_grad_enabled():
            cells.reads.notes[f"gate_{layer}"] = torch.where(thought, score.sigmoid(), torch.nan)
        return torch.where(thought, F.logsigmoid(score), 0.0)

    states = backbone.blocks(backbone.embed(cells), cells, slots, last=True, key_gate=log_gate)
    finished: Tensor = backbone.finish(states)
    return finished


def speaking_chances(learned: Tensor, reads: Any, *, thoughts: int) -> Tensor:
    """p_j = q_j prod_{l<j} (1 - q_l) (R,), where q_j is column j - 1 of ``learned`` (R, thoughts or more) and the last q is 1."""
    import torch

    q = learned.float().gather(1, (reads.slot - 1).clamp(min=0)[:, None]).squeeze(1)
    last = torch.ones_like(reads.group, dtype=torch.bool)
    last[:-1] = reads.group[1:] != reads.group[:-1]
    q = torch.where(last, 1.0, q)
    silent, p = torch.ones(reads.count, device=q.device), torch.zeros_like(q)
    for slot in range(thoughts + 1):
        here = (reads.slot == slot).nonzero().squeeze(1)
        group, chance = reads.group[here], q[here]
        p = p.index_copy(0, here, silent[group] * chance)
        silent = silent.index_copy(0, group, silent[group] * (1 - chance))
    return p


def mixed_log_probabilities(logits: Tensor, p: Tensor, reads: Any) -> Tensor:
    """log sum_j p_j softmax(logits_j) (T, V), from logits (R, V) and chances (R,); p is noted as "speaks"."""
    import torch
    import torch.nn.functional as F

    if not torch.is_grad_enabled():
        noted = torch.full((len(reads.bill.cells_so_far),), torch.nan, device=p.device)
        reads.notes["speaks"] = noted.index_copy(0, torch.from_numpy(reads.cells).to(p.device), p)
    said = torch.softmax(logits, -1) * p.unsqueeze(1)
    outputs = said.shape[1]
    mixed = torch.zeros(reads.count, outputs, device=p.device).index_add(0, reads.group, said)
    return F.pad(mixed, (0, -outputs % (2 * LANES)), value=1.0).log()[:, :outputs]


def speaking_loss(logits: Tensor, p: Tensor, cells: Any, *, ponder: float) -> Tensor:
    """sum_j p_j (CE_j + ponder j), a mean over text targets, from logits (R, V) and chances (R,)."""
    import torch.nn.functional as F

    nats = F.cross_entropy(logits, cells.targets, reduction="none")
    total: Tensor = (p * (nats + ponder * cells.reads.slot)).sum() / max(cells.reads.count, 1)
    return total
