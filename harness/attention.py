"""Attention whose gradient can be shielded pair by pair, while its forward stays untouched bit for bit.

Knows tensors only: queries and keys (B, H, Q|K, head width), masks (B, 1|H, Q, K). Does not know why a pair is shielded.

Shielding (ours): with P = softmax(scores), a pair with learn_kv False sends no gradient to its key or value; the query still
learns from it. The forward is the plain one by construction, since only the backward pass looks at the masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import fused
from harness.precision import exact

SPAN = 32  # queries at a time in the backward pass of causal attention: of a span's keys, few lie ahead of its queries
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
    shielded = (masks.learn_kv is not None or masks.learn_state is not None) and torch.is_grad_enabled()
    if gate is None and fused.fits(q):
        return _on_gpu(q, k, v, masks, still, shielded=shielded)
    causal = masks.bias is None and gate is None and q.shape[2] >= FUSED_MIN_TOKENS
    if causal and not shielded:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    bias = causal_bias(q.shape[2], q.device) if masks.bias is None else masks.bias
    if not torch.is_grad_enabled():
        return _plain(q, k, v, bias, masks.gated, gate)[0]
    k_still, v_still = still if still is not None else (None, None)
    shield: Any = _Shielded.apply
    if torch.is_autocast_enabled(q.device.type):
        with exact(q.device):
            floats = (None if x is None else x.float() for x in (q, k, v, k_still, v_still, gate))
            return cast(Tensor, shield(*floats, bias, masks, causal))
    out: Tensor = shield(q, k, v, k_still, v_still, gate, bias, masks, causal)
    return out


def _on_gpu(q: Tensor, k: Tensor, v: Tensor, masks: Masks, still: tuple[Tensor, Tensor] | None, *, shielded: bool) -> Tensor:
    """The same by fused kernels."""
    if not shielded:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=masks.bias, is_causal=masks.bias is None)
    live, twins = _receivers(masks, still is not None)
    return fused.cut_off(q, k, v, bias=masks.bias, live=live, twins=still, still=twins)


def _scores(q: Tensor, k: Tensor, bias: Tensor, gated: Tensor | None, gate: Tensor | None) -> Tensor:
    """(B*H, Q, K): scaled dot products plus bias, the bias folded into the matmul."""
    b, h, queries, width = q.shape
    keys = k.shape[2]
    added = bias
    if gate is not None and gated is not None:
        added = bias + torch.where(gated, gate[:, None, None, :], 0.0)
    if added.shape[:2] == (1, 1):
        flat = added.reshape(1, queries, keys)
    else:
        flat = added.expand(b, h, queries, keys).reshape(b * h, queries, keys)
    q_flat, k_flat = q.reshape(b * h, queries, width), k.reshape(b * h, keys, width)
    return torch.baddbmm(flat, q_flat, k_flat.transpose(1, 2), alpha=1.0 / math.sqrt(width))


def probabilities(q: Tensor, k: Tensor, bias: Tensor, gated: Tensor | None, gate: Tensor | None) -> Tensor:
    """What each query gives to each key, (B*H, Q, K)."""
    return torch.softmax(_scores(q, k, bias, gated, gate), -1)


def _plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, gated: Tensor | None, gate: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output (B, H, Q, width) and probabilities (B*H, Q, K)."""
    b, h, queries, width = q.shape
    p = probabilities(q, k, bias, gated, gate)
    return torch.bmm(p, v.reshape(b * h, -1, width)).view(b, h, queries, width), p


class _Shielded(torch.autograd.Function):
    """Forward: plain attention. Backward: plain too, but pairs may be cut off from keys and values (see module docstring)."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        """Args: q, k, v, k_still, v_still, gate, bias, masks, causal."""
        q, k, v, k_still, _, gate, bias, masks, causal = args
        if causal:  # same kernel as the unshielded path, hence the same bits
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
        q, k, v, d_out = (x.contiguous() for x in (q, k, v, grads[0]))  # then heads flatten without a copy below
        masks: Masks = ctx.masks
        live, still = _receivers(masks, ctx.twins)
        gates = None if gate is None else _gate_receivers(masks)
        d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_ks, d_vs = (torch.zeros_like(k), torch.zeros_like(v)) if still is not None else (None, None)
        d_gate = None if gates is None else torch.zeros_like(gate)
        b, h, queries, width = q.shape
        step, scale = SPAN if p is None else queries, 1.0 / math.sqrt(width)  # p None: causal, a span sees no key behind its end
        for start in range(0, queries, step):
            part = slice(start, min(start + step, queries))
            keys = k.shape[2] if p is not None else part.stop
            q_part, d_part = (x[:, :, part].reshape(b * h, -1, width) for x in (q, d_out))
            p_part = p
            if p_part is None:
                p_part = torch.softmax(_scores(q[:, :, part], k[:, :, :keys], bias[..., part, :keys], None, None), -1)
            d_p = torch.bmm(d_part, _heads(v, keys).transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_p, p_part, -1, d_p.dtype)
            d_q[:, :, part] = torch.bmm(d_scores, _heads(k, keys)).mul_(scale).view(b, h, -1, width)
            for mask, to_k, to_v in ((live, d_k, d_v), (still, d_ks, d_vs)):
                if to_k is not None and to_v is not None:
                    kept_scores, kept_p = (_only(x, mask, part, keys, b) for x in (d_scores, p_part))
                    _add_product(_heads(to_k, keys), kept_scores, q_part, scale)
                    _add_product(_heads(to_v, keys), kept_p, d_part, 1.0)
            if d_gate is not None:
                d_gate[:, :keys] += _only(d_scores, gates, part, keys, b).view(b, h, -1, keys).sum((1, 2))
        return d_q, d_k, d_v, d_ks, d_vs, d_gate, None, None, None


def _heads(values: Tensor, keys: int) -> Tensor:
    """The first keys of (B, H, K, width) as a view (B*H, keys, width)."""
    b, h, _, width = values.shape
    return values.view(b * h, -1, width)[:, :keys]


def _add_product(total: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """total += scale left^T right, matrix by matrix."""
    torch.baddbmm(total, left.transpose(1, 2), right, alpha=scale, out=total)


def _receivers(masks: Masks, twins: bool) -> tuple[Tensor | None, Tensor | None]:
    """Which pairs send gradient to keys and values (None: all), and which to their still twins (None: there are none)."""
    live, state = masks.learn_kv, masks.learn_state
    if state is None or not twins:
        return live, None
    return (state, ~state) if live is None else (live & state, live & ~state)


def _gate_receivers(masks: Masks) -> Tensor | None:
    """Which pairs send gradient to their key's gate: it is made of the key's state, so a shield cuts it off too."""
    through = masks.gated
    for allowed in (masks.learn_kv, masks.learn_state):
        through = through if allowed is None or through is None else through & allowed
    return through


def _only(values: Tensor, mask: Tensor | None, part: slice, keys: int, batch: int) -> Tensor:
    """(B*H, q, keys) with zeros where the mask (B, 1 or H, Q, K) says so, of queries ``part`` and the first ``keys`` keys."""
    if mask is None:
        return values
    wide = values.view(batch, -1, *values.shape[1:])
    return (wide * mask[:, :, part, :keys].to(values.dtype)).view(values.shape)
