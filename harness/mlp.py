"""The second half of a block (norm, up, gelu, down, residual), a stretch of rows at a time.

Between the matrix products of a stretch little leaves the processor's cache, forward and backward; that is worth 5 to 20% of
this half on CPU. The numbers are those of the plain formula up to the order of sums over rows. Knows tensors only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_STRETCH_ROWS, STRETCH_FLOATS = 256, 1 << 15  # the rows of x in a stretch (measured at widths 64, 128 and 384)


def _stretch_rows(width: int) -> int:
    return max(MIN_STRETCH_ROWS, STRETCH_FLOATS // width)


class Mlp(torch.autograd.Function):
    """x + gelu(norm(x) up + up_bias) down + down_bias, for rows x (N, D) and matrices (in, out)."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        """Args: x, norm weight, norm bias, up, up bias, down, down bias, norm epsilon."""
        x, norm, norm_bias, up, up_bias, down, down_bias, epsilon = args
        out, saved = torch.empty_like(x), []
        step = _stretch_rows(x.shape[1])
        for rows, out_rows in zip(x.split(step), out.split(step), strict=True):
            normed, mean, deviation = torch.native_layer_norm(rows, (x.shape[1],), norm, norm_bias, epsilon)
            inner = torch.addmm(up_bias, normed, up)
            active = F.gelu(inner, approximate="tanh")
            torch.addmm(down_bias, active, down, out=out_rows).add_(rows)
            saved += [normed, mean, deviation, inner, active]
        ctx.save_for_backward(x, norm, norm_bias, up, down, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        """Gradients of all but epsilon."""
        x, norm, norm_bias, up, down, *saved = ctx.saved_tensors
        d_x, d_up, d_down = torch.empty_like(x), torch.zeros_like(up), torch.zeros_like(down)
        d_up_bias = up.new_zeros(up.shape[1])
        d_norm, d_norm_bias = torch.zeros_like(norm), torch.zeros_like(norm_bias)
        step = _stretch_rows(x.shape[1])
        for i, (rows, d_rows, d_x_rows) in enumerate(zip(*(t.split(step) for t in (x, grads[0], d_x)), strict=True)):
            normed, mean, deviation, inner, active = saved[5 * i : 5 * i + 5]
            d_inner = torch.ops.aten.gelu_backward(torch.mm(d_rows, down.t()), inner, approximate="tanh")
            torch.addmm(d_down, active.t(), d_rows, out=d_down)
            torch.addmm(d_up, normed.t(), d_inner, out=d_up)
            d_up_bias += d_inner.sum(0)
            d_own, d_w, d_b = torch.ops.aten.native_layer_norm_backward(
                torch.mm(d_inner, up.t()), rows, [x.shape[1]], mean, deviation, norm, norm_bias, [True, True, True]
            )
            d_norm += d_w
            d_norm_bias += d_b
            torch.add(d_own, d_rows, out=d_x_rows)
        return d_x, d_norm, d_norm_bias, d_up, d_up_bias, d_down, grads[0].sum(0), None
