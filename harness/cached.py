"""Passes over slots: the loop over the blocks for asking, with all that its layers share worked out once a pass.

At a few rows a pass is a few dozen short tensor operations, so each of them counts: views of the slots, padding and masks are
made once, not layer by layer. The numbers are those of the loop in `harness.backbone`, bit for bit. Knows tensors, slots and a
block's weights; knows no strategy, no bill and no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.block_weights import BlockWeights
from harness.bounds import bounds_of
from harness.cells import Cells
from harness.slots import Slots, all_rounded


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


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows [start, stop) of a pass that attend together, to ``keys`` of their slots."""

    start: int
    stop: int
    keys: int

    @property
    def area(self) -> int:
        """Keys times rows."""
        return (self.stop - self.start) * self.keys


def pieces_of(cells: Cells, piece_keys: int) -> list[Piece]:
    """A pass's rows in few pieces: rows that wait, and slots that only longer rows hold, are left out where that pays.

    piece_keys: what one more piece costs, in keys that a row attends to.
    """
    layout = cells.layout
    held = np.zeros(len(layout.counts), dtype=np.int64)
    np.maximum.at(held, layout.row, layout.index + 1)
    fed = np.flatnonzero(held)
    keys = all_rounded(held[fed])
    whole = Piece(int(fed[0]), int(fed[-1]) + 1, int(keys.max()))
    if whole.area - int(keys.sum()) <= piece_keys:  # then joining row by row comes to the same
        return [whole]
    pieces: list[Piece] = []
    start, stop, most, area = whole.start, whole.start, 0, 0
    for row, own in zip(fed.tolist(), keys.tolist(), strict=True):
        wider = own if own > most else most
        joined = (row + 1 - start) * wider
        if joined - area - own <= piece_keys or stop == start:
            stop, most, area = row + 1, wider, joined
        else:
            pieces.append(Piece(start, stop, most))
            start, stop, most, area = row, row + 1, own, own
    return [*pieces, Piece(start, stop, most)]


class _Attention:
    """What the layers of one pass share. Heads lie flat: queries (B * H, Q, head width) meet keys (B * H, head width, K)."""

    def __init__(self, cells: Cells, slots: Slots, bias: Tensor, number: int, width: int, pieces: Sequence[Piece]) -> None:
        self.cells, self.slots, self.width, self.pieces = cells, slots, width, pieces
        self.views = slots.read_all(number, cells)
        self.scale = 1.0 / math.sqrt(slots.head_width)
        self.biases = [self._bias_of(bias, piece) for piece in pieces]

    def _bias_of(self, bias: Tensor, piece: Piece) -> Tensor:
        """Of a piece, with flat heads."""
        queries, heads, rows = self.cells.shape[1], self.slots.heads, piece.stop - piece.start
        if bias.shape[:3] == (1, 1, queries):
            return bias[0, :, :, : piece.keys]
        mine = bias[:, :, :, : piece.keys] if len(bias) == 1 else bias[piece.start : piece.stop, :, :, : piece.keys]
        return mine.expand(rows, heads, queries, piece.keys).reshape(rows * heads, queries, piece.keys)

    def weighted(self, layer: int, q: Tensor) -> Tensor:
        """Values as the queries weigh them, (rows of all pieces * H, Q, head width)."""
        k, v = self.views[layer]
        if len(self.pieces) == 1 and self.cells.shape[0] == self.pieces[0].stop and k.shape[2] == self.pieces[0].keys:
            return torch.bmm(torch.softmax(torch.baddbmm(self.biases[0], q, k, alpha=self.scale), -1), v)
        heads, first, found = self.slots.heads, 0, []
        for piece, bias in zip(self.pieces, self.biases, strict=True):
            flat, beyond = slice(piece.start * heads, piece.stop * heads), first + (piece.stop - piece.start) * heads
            scores = torch.baddbmm(bias, q[first:beyond], k[flat, :, : piece.keys], alpha=self.scale)
            found.append(torch.bmm(torch.softmax(scores, -1), v[flat, : piece.keys]))
            first = beyond
        return torch.cat(found)


class _Lone(_Attention):
    """A single row: its cells fill the queries in order, so queries, and where keys and values go, are mere views."""

    def __init__(self, cells: Cells, slots: Slots, bias: Tensor, number: int, width: int) -> None:
        super().__init__(cells, slots, bias, number, width, [Piece(0, 1, cells.keys)])
        self.split = (cells.shape[1], 3, slots.heads, slots.head_width)
        self.targets = slots.stretch(number, cells.first_row, int(cells.layout.index[0]), cells.count)

    def mixed(self, layer: int, qkv: Tensor) -> Tensor:
        """(N', 3 D) -> (N', D), keeping the keys and values of the cells."""
        parts = qkv.view(self.split).permute(1, 2, 0, 3)
        self.targets[layer].copy_(parts[1:, :, : self.cells.count])
        return self.weighted(layer, parts[0]).transpose(0, 1).reshape(-1, self.width)


class _Many(_Attention):
    """Several rows, piece by piece: heads of queries are gathered into the padded shape, and back."""

    def __init__(self, cells: Cells, slots: Slots, bias: Tensor, number: int, width: int) -> None:
        super().__init__(cells, slots, bias, number, width, pieces_of(cells, bounds_of(slots.device).piece_keys))
        device, queries, layout, head = slots.device, cells.shape[1], cells.layout, np.arange(slots.heads)
        rows = np.concatenate([np.arange(piece.start, piece.stop) for piece in self.pieces])
        packed = np.zeros(cells.shape[0], dtype=np.int64)  # where a row's queries stand, piece after piece
        packed[rows] = np.arange(len(rows))
        source = np.zeros((len(rows), queries), dtype=np.int64)
        source[packed[layout.row], layout.col] = np.arange(cells.count)
        self.gather = torch.from_numpy((source[:, None, :] * (3 * slots.heads) + head[:, None]).reshape(-1)).to(device)
        place = (packed[layout.row] * (slots.heads * queries) + layout.col)[:, None] + head * queries
        back = np.zeros((len(cells.embed), slots.heads), dtype=np.int64)
        back[: cells.count], back[cells.count :] = place, place[0]
        self.back = torch.from_numpy(back.reshape(-1)).to(device)
        self.padded = (len(rows) * slots.heads, queries, slots.head_width)
        self.at, self.where = number * slots.layers, slots.where(cells)

    def mixed(self, layer: int, qkv: Tensor) -> Tensor:
        """(N', 3 D) -> (N', D), keeping the keys and values of the cells."""
        self.slots.write(self.at + layer, self.where, qkv[: self.cells.count, self.width :])
        q = qkv.view(-1, self.slots.head_width).index_select(0, self.gather).view(self.padded)
        out = self.weighted(layer, q)
        return out.view(-1, self.slots.head_width).index_select(0, self.back).view(-1, self.width)
