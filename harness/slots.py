"""Keys and values of the sequences that are being decoded, and the facts about their cells.

One slab a pass and layer, (2, rows, heads, cells, head width), keys then values, filled at each row's own place. Knows no
strategy and no weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.cells import FAR, KEY_MULTIPLE, MIN_KEYS, Cells, Layout
from harness.strategy import View

IntArray = NDArray[np.int64]
SEEN = ("place", "kind", "slot")  # facts about keys that `sight` may ask for


def rounded_keys(cells: int) -> int:
    """Columns to attend so that all of ``cells`` are there: a multiple of 8, at least 16."""
    return max(-(-cells // KEY_MULTIPLE) * KEY_MULTIPLE, MIN_KEYS)


def all_rounded(cells: IntArray) -> IntArray:
    """`rounded_keys` of each."""
    rounded: IntArray = np.maximum(-(-cells // KEY_MULTIPLE) * KEY_MULTIPLE, MIN_KEYS)
    return rounded


def stretches(sources: Sequence[int], targets: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Copying by as few slices as the order allows: a CPU copies them many times as fast as rows by index (measured).

    The targets of a slice follow each other; its sources do too, or are one and the same.
    """
    start, step = 0, -1
    for i in range(1, len(sources) + 1):
        moved = -1
        if i < len(sources) and targets[i] == targets[i - 1] + 1:
            moved = sources[i] - sources[i - 1]
        if moved in (0, 1) and (step < 0 or moved == step):
            step = moved
            continue
        count = i - start
        source = slice(sources[start], sources[start] + (1 if step == 0 else count))
        yield source, slice(targets[start], targets[start] + count)
        start, step = i, -1


class Slots:
    """Storage for ``rows`` sequences of up to ``cells`` cells each; grows when asked to.

    lengths (rows,): cells that each row holds. lazy: memory is first touched where something is written, which is worth it for
    large models; it is aligned in another way, so that bits may differ.
    """

    def __init__(
        self, *, layers: int, passes: int, heads: int, head_width: int, device: torch.device, lazy: bool = False
    ) -> None:
        self._lazy = lazy and device.type == "cpu"
        self.layers, self.passes, self.heads, self.head_width, self.device = layers, passes, heads, head_width, device
        self.rows, self.cells = 0, 0
        self._slabs: list[Tensor] = []
        self._views: tuple[tuple[int, ...], list[tuple[Tensor, Tensor]]] = ((), [])
        self._gates: dict[int, Tensor] = {}
        self._scratch = torch.zeros(0)
        self._facts: IntArray = np.zeros((len(SEEN), 0, 0), dtype=np.int64)
        self.lengths: IntArray = np.zeros(0, dtype=np.int64)

    @property
    def bytes_per_cell(self) -> int:
        """Keys and values of one cell in all layers and passes."""
        return 2 * self.layers * self.passes * self.heads * self.head_width * 4

    def ensure(self, rows: int, cells: int) -> None:
        """Make room for ``rows`` rows of ``cells`` cells."""
        if rows > self.rows or cells > self.cells:
            self.resize(max(rows, self.rows), max(cells, self.cells + self.cells // 2 if cells > self.cells else self.cells))

    def resize(self, rows: int, cells: int) -> None:
        """Room for so many rows and cells (rounded up), which must be enough for what is held."""
        kept_rows = min(rows, self.rows)
        self.rows, self.cells = rows, rounded_keys(cells)
        kept, held = int(self.lengths.max(initial=0)), int(np.flatnonzero(self.lengths[:kept_rows]).max(initial=-1)) + 1
        old_slabs, self._slabs, self._views = self._slabs, [], ((), [])
        if self.lengths.any():  # else slabs are made when they are first written to
            for i, slab in enumerate(old_slabs):
                self._slab(i)[:, :held, :, :kept] = slab[:, :held, :, :kept]
                old_slabs[i] = slab.new_zeros(0)  # one layer at a time is there twice
        for at, gate in self._gates.items():
            wider = torch.zeros(self.rows, self.cells, device=self.device)
            wider[:kept_rows, :kept] = gate[:kept_rows, :kept]
            self._gates[at] = wider
        facts = np.zeros((len(SEEN), self.rows, self.cells), dtype=np.int64)
        facts[:, :kept_rows, :kept] = self._facts[:, :kept_rows, :kept]
        self._facts = facts
        self.lengths = np.concatenate([self.lengths[:kept_rows], np.zeros(self.rows - kept_rows, dtype=np.int64)])

    def free(self) -> None:
        """Let go of the memory, since no row holds anything; it is taken anew when something is written."""
        assert not self.lengths.any()
        self._slabs, self._views, self._gates, self._scratch = [], ((), []), {}, torch.zeros(0)

    def put_facts(self, first: int, layout: Layout) -> None:
        """Note the facts of new cells; first: the slots' row of the layout's first row."""
        self._facts[:, layout.row + first, layout.index] = (layout.place, layout.kind, layout.slot)

    def _slab(self, at: int) -> Tensor:
        """Keys and values of one layer of one pass."""
        while len(self._slabs) <= at:
            shape = (2, self.rows, self.heads, self.cells, self.head_width)
            with torch.inference_mode(False):  # rows are copied outside of it
                slab = torch.from_numpy(np.zeros(shape, np.float32)) if self._lazy else torch.zeros(shape, device=self.device)
            self._slabs.append(slab)
        return self._slabs[at]

    def where(self, cells: Cells) -> Tensor:
        """Flat targets (N * 2 * heads,) of `write`, the same for every layer."""
        layout = cells.layout
        first = (layout.row + cells.first_row) * (self.heads * self.cells) + layout.index
        part = np.arange(2)[:, None] * (self.rows * self.heads) + np.arange(self.heads)
        return torch.from_numpy((first[:, None] + part.reshape(-1) * self.cells).reshape(-1)).to(self.device)

    def write(self, at: int, where: Tensor, new: Tensor) -> None:
        """Keep keys and values (N, 2 * heads * width) of slab ``at`` = pass * layers + layer."""
        self._slab(at).view(-1, self.head_width).index_copy_(0, where, new.reshape(-1, self.head_width))

    def read(self, at: int, cells: Cells) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, keys, width) of the pass's rows."""
        k, v = self.held(at, slice(cells.first_row, cells.first_row + cells.shape[0]), cells.keys).unbind(0)
        return k, v

    def held(self, at: int, rows: slice, keys: int) -> Tensor:
        """Keys and values (2, rows, heads, keys, width) of some rows' first cells."""
        return self._slab(at)[:, rows, :, :keys]

    def read_all(self, number: int, cells: Cells) -> list[tuple[Tensor, Tensor]]:
        """Of each layer of pass ``number``: keys (B * heads, width, keys) and values (B * heads, keys, width)."""
        asked = (number, cells.first_row, cells.shape[0], cells.keys)
        if self._views[0] != asked:  # turn after turn they are mostly the same
            views = []
            for layer in range(self.layers):
                k, v = self.read(number * self.layers + layer, cells)
                views.append((k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1)))
            self._views = (asked, views)
        return self._views[1]

    def stretch(self, number: int, row: int, start: int, count: int) -> list[Tensor]:
        """Of each layer of pass ``number``: where ``count`` cells of one row go, (2, heads, count, width)."""
        by_head = self.cells * self.head_width
        shape, steps = (2, self.heads, count, self.head_width), (self.rows * self.heads * by_head, by_head, self.head_width, 1)
        offset = row * self.heads * by_head + start * self.head_width
        layers = range(number * self.layers, (number + 1) * self.layers)
        return [self._slab(at).as_strided(shape, steps, offset) for at in layers]

    def gate(self, at: int, cells: Cells, new: Tensor) -> Tensor:
        """Keep the key bias (N,) of new cells; return all of the rows' (B, keys)."""
        if at not in self._gates:
            with torch.inference_mode(False):  # rows are copied outside of it
                self._gates[at] = torch.zeros(self.rows, self.cells, device=self.device)
        layout = cells.layout
        row = torch.from_numpy(layout.row + cells.first_row).to(self.device)
        self._gates[at][row, torch.from_numpy(layout.index).to(self.device)] = new
        return self._gates[at][cells.first_row : cells.first_row + cells.shape[0], : cells.keys]

    def key_facts(self, first: int, count: int, keys: int) -> View:
        """What `sight` may ask of the keys in rows [first, first + count), the newest cells included."""
        rows = slice(first, first + count)
        column = np.arange(keys)[None, :]
        index = np.where(column < self.lengths[rows, None], column, FAR)
        place, kind, slot = (self._facts[at, rows, :keys].copy() for at in range(len(SEEN)))
        return View(*(torch.from_numpy(x).to(self.device) for x in (index, place, kind, slot)))

    def picked(self, at: int, rows: IntArray, keys: int) -> Tensor:
        """Keys and values (2, n, heads, keys, width) of some rows' first cells, in memory that the next call writes over."""
        slab = self._slab(at)[:, :, :, :keys]
        if self.device.type != "cpu":
            return slab.index_select(1, torch.from_numpy(rows).to(self.device))
        shape = (2, len(rows), self.heads, keys, self.head_width)
        if self._scratch.numel() < (size := math.prod(shape)):
            self._scratch = torch.empty(size)
        found = self._scratch[:size].view(shape)
        for source, target in stretches(rows.tolist(), range(len(rows))):
            found[:, target] = slab[:, source]
        return found

    def copy(self, sources: list[int], targets: list[int]) -> None:
        """Rows ``targets`` become copies of the rows ``sources``, one each; no source is a target."""
        longest = int(self.lengths[sources].max(initial=0))
        ways: list[tuple[Any, Any]] = list(stretches(sources, targets)) if self.device.type == "cpu" else [(sources, targets)]
        for slab in self._slabs:
            for source, target in ways:
                slab[:, target, :, :longest] = slab[:, source, :, :longest]
        for gate in self._gates.values():
            gate[targets, :longest] = gate[sources, :longest]
        self._facts[:, targets] = self._facts[:, sources]
        self.lengths[targets] = self.lengths[sources]
