"""Passes over slots: the loop over the blocks for asking, with all that its layers share worked out once a pass.

At a few rows a pass is a few dozen short tensor operations, so each of them counts: views of the slots, padding and masks are
made once, not layer by layer. The numbers are those of the loop in `harness.backbone`, bit for bit. Knows tensors, slots and a
block's weights; knows no strategy, no bill and no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.cells import Cells
from harness.slots import Slots

Pair = tuple[Tensor, Tensor]


class BlockWeights(Protocol):
    """The weights of a block; matrices are (in, out)."""

    norm_1: Pair
    norm_2: Pair
    qkv: Tensor
    qkv_bias: Tensor
    mix: Tensor
    mix_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor


def cached_blocks(
    states: Tensor,
    cells: Cells,
    slots: Slots,
    blocks: Sequence[BlockWeights],
    bias: Tensor,
    *,
    number: int,
    last: bool,
    eps: float,
) -> Tensor:
    """Once through all blocks: (N', D) -> (N', D), or (R', D) of ``cells.needed`` if this is the last pass.

    bias (B or 1, 1 or H, Q or 1, K): 0 where attended, -inf elsewhere. number: which pass this is.
    """
    width = (states.shape[1],)
    attention = (_Lone if cells.flat is None else _Many)(cells, slots, bias, number, states.shape[1])
    final = len(blocks) - 1 if last and not cells.all_needed else -1
    for layer, block in enumerate(blocks):
        qkv = torch.addmm(block.qkv_bias, torch.layer_norm(states, width, *block.norm_1, eps), block.qkv)
        mixed = attention.mixed(layer, qkv)
        if layer == final:
            mixed, states = mixed.index_select(0, cells.needed), states.index_select(0, cells.needed)
        states = torch.addmm(block.mix_bias, mixed, block.mix).add_(states)
        inner = torch.addmm(block.up_bias, torch.layer_norm(states, width, *block.norm_2, eps), block.up)
        states = torch.addmm(block.down_bias, F.gelu(inner, approximate="tanh"), block.down).add_(states)
    return states


class _Attention:
    """What the layers of one pass share. Heads lie flat: queries (B * H, Q, head width) meet keys (B * H, head width, K)."""

    def __init__(self, cells: Cells, slots: Slots, bias: Tensor, number: int, width: int) -> None:
        (b, queries), heads = cells.shape, slots.heads
        self.cells, self.slots, self.width = cells, slots, width
        self.views = slots.read_all(number, cells)
        keys = cells.keys
        alike = bias.shape[:3] == (1, 1, queries)
        self.bias = bias[0] if alike else bias.expand(b, heads, queries, keys).reshape(b * heads, queries, keys)
        self.scale = 1.0 / math.sqrt(slots.head_width)

    def weighted(self, layer: int, q: Tensor) -> Tensor:
        """Values as the queries weigh them, (B * H, Q, head width)."""
        k, v = self.views[layer]
        return torch.bmm(torch.softmax(torch.baddbmm(self.bias, q, k, alpha=self.scale), -1), v)


class _Lone(_Attention):
    """A single row: its cells fill the queries in order, so queries, and where keys and values go, are mere views."""

    def __init__(self, *of_pass: Any) -> None:
        super().__init__(*of_pass)
        cells, slots = self.cells, self.slots
        self.split = (cells.shape[1], 3, slots.heads, slots.head_width)
        self.targets = slots.stretch(of_pass[3], cells.first_row, int(cells.layout.index[0]), cells.count)

    def mixed(self, layer: int, qkv: Tensor) -> Tensor:
        """(N', 3 D) -> (N', D), keeping the keys and values of the cells."""
        parts = qkv.view(self.split).permute(1, 2, 0, 3)
        self.targets[layer].copy_(parts[1:, :, : self.cells.count])
        return self.weighted(layer, parts[0]).transpose(0, 1).reshape(-1, self.width)


class _Many(_Attention):
    """Several rows: heads of queries are gathered into the padded shape, and back."""

    def __init__(self, *of_pass: Any) -> None:
        super().__init__(*of_pass)
        cells, slots, device = self.cells, self.slots, self.slots.device
        (b, queries), layout, head = cells.shape, cells.layout, np.arange(slots.heads)
        source = np.zeros((b, queries), dtype=np.int64)
        source[layout.row, layout.col] = np.arange(cells.count)
        self.gather = torch.from_numpy((source[:, None, :] * (3 * slots.heads) + head[:, None]).reshape(-1)).to(device)
        place = (layout.row * (slots.heads * queries) + layout.col)[:, None] + head * queries
        back = np.zeros((len(cells.embed), slots.heads), dtype=np.int64)
        back[: cells.count], back[cells.count :] = place, place[0]
        self.back = torch.from_numpy(back.reshape(-1)).to(device)
        self.padded = (b * slots.heads, queries, slots.head_width)
        self.at, self.where = of_pass[3] * slots.layers, slots.where(cells)

    def mixed(self, layer: int, qkv: Tensor) -> Tensor:
        """(N', 3 D) -> (N', D), keeping the keys and values of the cells."""
        self.slots.write(self.at + layer, self.where, qkv[: self.cells.count, self.width :])
        q = qkv.view(-1, self.slots.head_width).index_select(0, self.gather).view(self.padded)
        out = self.weighted(layer, q)
        return out.view(-1, self.slots.head_width).index_select(0, self.back).view(-1, self.width)
