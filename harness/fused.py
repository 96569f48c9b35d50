"""Fused attention whose keys and values may be cut off from some queries: what `harness.attention` does by spans, for GPUs.

The kernels are PyTorch's own, in queries, keys and values (B, H, Q|K, head width), and no table of Q x K probabilities is ever
held. Their forward pass leaves each query's log normaliser. A bias of -inf in the backward pass takes a pair away, while the
normaliser still counts it: so the pairs that are left keep their probabilities, and keys and values learn from them alone.
Knows tensors only; why a pair is cut off is the caller's affair. Where there is no GPU the same steps run on the CPU's kernels,
which is how they are tested; they are no faster there than spans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BIAS_MULTIPLE = 16  # the kernels want rows of a bias to start at whole multiples
WIDTH_MULTIPLE = 8  # of a head


def fits(q: Tensor) -> bool:
    """Whether a GPU's kernels take these queries."""
    return q.device.type == "cuda" and q.shape[3] % WIDTH_MULTIPLE == 0


def cut_off(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None,
    live: Tensor | None,
    twins: tuple[Tensor, Tensor] | None = None,
    still: Tensor | None = None,
) -> Tensor:
    """Attention (B, H, Q, head width); bias None: causal.

    live (B, 1 or H, Q, K): pairs whose key and value learn (None: all). twins: keys and values, equal to k and v, that learn from
    the pairs of ``still`` instead.
    """
    run: Any = _CutOff.apply
    k_still, v_still = twins if twins is not None else (None, None)
    if not torch.is_autocast_enabled(q.device.type):
        out: Tensor = run(q, k, v, k_still, v_still, bias, live, still)
        return out
    kind = torch.get_autocast_dtype(q.device.type)
    with torch.autocast(q.device.type, enabled=False):
        cast = (None if x is None else x.to(kind) for x in (q, k, v, k_still, v_still))
        out = run(*cast, bias, live, still)
    return out


class _CutOff(torch.autograd.Function):
    """One fused forward pass, and one fused backward pass for each kind of receiver: queries, keys and values, their twins."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        """Args: q, k, v, k_still, v_still, bias, live, still."""
        q, k, v, k_still, _, bias, live, still = args
        out, *rest = _forward(q, k, v, None if bias is None else _laid(bias, q))
        ctx.save_for_backward(q, k, v, out, bias, live, still, *rest)
        ctx.twins = k_still is not None
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        """Gradients of q, k, v and of their twins."""
        q, k, v, out, bias, live, still, *rest = ctx.saved_tensors
        whole = None if bias is None else _laid(bias, q)

        def given(kept: Tensor | None) -> Sequence[Tensor]:
            seen = whole if kept is None else _only(kept, bias, q, k.shape[2])
            return _backward(grads[0], q, k, v, out, rest, seen)

        d_q, d_k, d_v = given(None)
        if live is not None:
            _, d_k, d_v = given(live)
        d_twins = given(still)[1:] if ctx.twins else (None, None)
        return d_q, d_k, d_v, *d_twins, None, None, None


def _laid(bias: Tensor, q: Tensor) -> Tensor:
    """A bias (B or 1, 1 or H, Q, K) as the kernels want it, (B, H, Q, K)."""
    extra = -bias.shape[3] % BIAS_MULTIPLE
    room = torch.nn.functional.pad(bias.to(q.dtype), (0, extra))
    return room[..., : bias.shape[3]].expand(*q.shape[:2], *bias.shape[2:])


def _only(kept: Tensor, bias: Tensor | None, q: Tensor, keys: int) -> Tensor:
    """The bias (None: causal) that leaves only the pairs (B, 1 or H, Q, K) of ``kept``."""
    if bias is None:
        past = torch.ones(q.shape[2], keys, dtype=torch.bool, device=q.device).tril()
        return _laid(torch.where(kept & past, 0.0, -math.inf), q)
    return _laid(torch.where(kept, bias, -math.inf), q)


def _forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Output (B, H, Q, head width), log normalisers, and what else the backward kernel asks for."""
    aten: Any = torch.ops.aten
    if q.device.type == "cpu":
        found: tuple[Tensor, ...] = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, bias is None, attn_mask=bias)
        return found
    found = aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, 0.0, bias is None)
    return found


def _backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, rest: Sequence[Tensor], bias: Tensor | None
) -> Sequence[Tensor]:
    """Gradients of q, k and v over the pairs that ``bias`` leaves (None: all of the past), by the forward pass's normalisers."""
    aten: Any = torch.ops.aten
    if q.device.type == "cpu":
        kernel = aten._scaled_dot_product_flash_attention_for_cpu_backward
        found: Sequence[Tensor] = kernel(d_out, q, k, v, out, rest[0], 0.0, bias is None, attn_mask=bias)
        return found
    kernel = aten._scaled_dot_product_efficient_attention_backward
    found = kernel(d_out, q, k, v, bias, out, *rest, 0.0, [True, True, True, False], bias is None)
    return found[:3]
