"""Attention whose gradient can be shielded pair by pair, while its forward stays untouched bit for bit.

Knows tensors only: queries and keys (B, H, Q|K, head width), masks (B, 1|H, Q, K). Does not know why a pair is shielded.

Shielding (ours): with P = softmax(scores), a pair with learn_kv False sends no gradient to its key or value; the query still
learns from it. The forward is the plain one by construction, since only the backward pass looks at the masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FUSED_MIN_TOKENS = 64  # below, plain matmuls beat the fused kernel on CPU (measured: 4.9 against 6.3 ms at 12 tokens)


@dataclass(frozen=True, slots=True)
class Masks:
    """What one forward pass's attention needs besides q, k and v; made once, used by every layer.

    bias: (B or 1, 1 or H, Q, K) float, 0 where attended and -inf elsewhere; None: causal over a square.
    learn_kv, learn_state, gated: boolean (B, 1 or H, Q, K) or None, as in `harness.strategy.Sight`.
    """

    bias: Tensor | None
    learn_kv: Tensor | None = None
    learn_state: Tensor | None = None
    gated: Tensor | None = None


def causal_bias(tokens: int, device: torch.device) -> Tensor:
    """(1, 1, T, T): 0 on and below the diagonal, -inf above."""
    return torch.full((1, 1, tokens, tokens), -math.inf, device=device).triu(1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, masks: Masks, *, still: tuple[Tensor, Tensor] | None = None, gate: Tensor | None = None
) -> Tensor:
    """Attention output (B, H, Q, head width).

    still: keys and values projected from detached states, used for the backward pass of pairs with learn_state False (their
    numbers equal k and v). gate: (B, K) added to the scores of gated pairs.
    """
    fused = masks.bias is None and gate is None and q.shape[2] >= FUSED_MIN_TOKENS
    shielded = masks.learn_kv is not None or masks.learn_state is not None
    if fused and not shielded:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    bias = causal_bias(q.shape[2], q.device) if masks.bias is None else masks.bias
    if not torch.is_grad_enabled():
        return _plain(q, k, v, bias, masks.gated, gate)[0]
    k_still, v_still = still if still is not None else (None, None)
    out: Tensor = _Shielded.apply(q, k, v, k_still, v_still, gate, bias, masks, fused)
    return out


def _scores(q: Tensor, k: Tensor, bias: Tensor, gated: Tensor | None, gate: Tensor | None) -> Tensor:
    """(B*H, Q, K): scaled dot products plus bias, the bias folded into the matmul."""
    b, h, queries, width = q.shape
    keys = k.shape[2]
    added = bias
    if gate is not None and gated is not None:
        added = bias + torch.where(gated, gate[:, None, None, :], 0.0)
    if added.shape[:2] == (1, 1):
        flat = added.view(1, queries, keys)
    else:
        flat = added.expand(b, h, queries, keys).reshape(b * h, queries, keys)
    q_flat, k_flat = q.reshape(b * h, queries, width), k.reshape(b * h, keys, width)
    return torch.baddbmm(flat, q_flat, k_flat.transpose(1, 2), alpha=1.0 / math.sqrt(width))


def _plain(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, gated: Tensor | None, gate: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Output (B, H, Q, width) and probabilities (B*H, Q, K)."""
    b, h, queries, width = q.shape
    p = torch.softmax(_scores(q, k, bias, gated, gate), -1)
    return torch.bmm(p, v.reshape(b * h, -1, width)).view(b, h, queries, width), p


class _Shielded(torch.autograd.Function):
    """Forward: plain attention. Backward: plain too, but pairs may be cut off from keys and values (see module docstring)."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        """Args: q, k, v, k_still, v_still, gate, bias, masks, fused."""
        q, k, v, k_still, _, gate, bias, masks, fused = args
        if fused:  # same kernel as the unshielded path, hence the same bits
            out, p = F.scaled_dot_product_attention(q, k, v, is_causal=True), None
        else:
            out, p = _plain(q, k, v, bias, masks.gated, gate)
        ctx.save_for_backward(q, k, v, p, bias, gate)
        ctx.masks, ctx.twins = masks, k_still is not None
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        """Gradients of q, k, v, their still twins and the gate."""
        q, k, v, p, bias, gate = ctx.saved_tensors
        masks: Masks = ctx.masks
        b, h, queries, width = q.shape
        keys, scale = k.shape[2], 1.0 / math.sqrt(width)
        if p is None:
            p = torch.softmax(_scores(q, k, bias, masks.gated, gate), -1)
        d_out = grads[0].reshape(b * h, queries, width)
        q_flat, k_flat, v_flat = (x.reshape(b * h, -1, width) for x in (q, k, v))
        d_scores = torch._softmax_backward_data(torch.bmm(d_out, v_flat.transpose(1, 2)), p, -1, p.dtype)
        d_q = torch.bmm(d_scores, k_flat).mul_(scale).view(q.shape)

        def towards(mask: Tensor | None) -> tuple[Tensor, Tensor]:
            """Gradients of keys and values from the pairs in ``mask``."""
            kept_scores, kept_p = d_scores, p
            if mask is not None:
                wide = mask.expand(b, h, queries, keys)
                kept_scores = (d_scores.view(wide.shape) * wide).view(p.shape)
                kept_p = (p.view(wide.shape) * wide).view(p.shape)
            d_k = torch.bmm(kept_scores.transpose(1, 2), q_flat).mul_(scale)
            return d_k.view(k.shape), torch.bmm(kept_p.transpose(1, 2), d_out).view(v.shape)

        live, still = masks.learn_kv, None
        if masks.learn_state is not None and ctx.twins:
            learn = masks.learn_state if live is None else live & masks.learn_state
            still = ~masks.learn_state if masks.learn_kv is None else masks.learn_kv & ~masks.learn_state
            live = learn
        d_k, d_v = towards(live)
        d_ks, d_vs = towards(still) if still is not None else (None, None)
        d_gate = None
        if gate is not None and masks.gated is not None:
            d_gate = (d_scores.view(b, h, queries, keys) * masks.gated).sum((1, 2))
        return d_q, d_k, d_v, d_ks, d_vs, d_gate, None, None, None
