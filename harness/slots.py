"""Keys and values of the sequences that are being decoded, and the facts about their cells.

One slab a pass and layer, (rows, heads, cells, head width), filled at each row's own place. Knows no strategy and no weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.cells import FAR, KEY_MULTIPLE, MIN_KEYS, Cells, Layout
from harness.strategy import View

IntArray = NDArray[np.int64]
FACTS = ("embed", "kind", "place", "slot", "read", "charge")


def rounded_keys(cells: int) -> int:
    """Columns to attend so that all of ``cells`` are there: a multiple of 8, at least 16."""
    return max(-(-cells // KEY_MULTIPLE) * KEY_MULTIPLE, MIN_KEYS)


class Slots:
    """Storage for ``rows`` sequences of up to ``cells`` cells each; grows when asked to.

    facts: numpy arrays (rows, cells) by name, see FACTS; lengths (rows,): cells that each row holds.
    """

    def __init__(self, *, layers: int, passes: int, heads: int, head_width: int, device: torch.device) -> None:
        self.layers, self.passes, self.heads, self.head_width, self.device = layers, passes, heads, head_width, device
        self.rows, self.cells = 0, 0
        self._slabs: list[Tensor] = []
        self._gates: dict[int, Tensor] = {}
        self.facts: dict[str, IntArray] = {name: np.zeros((0, 0), dtype=np.int64) for name in FACTS}
        self.notes: dict[str, NDArray[np.float64]] = {}
        self.lengths: IntArray = np.zeros(0, dtype=np.int64)

    @property
    def bytes_per_cell(self) -> int:
        """Keys and values of one cell in all layers and passes."""
        return 2 * self.layers * self.passes * self.heads * self.head_width * 4

    def ensure(self, rows: int, cells: int) -> None:
        """Make room for ``rows`` rows of ``cells`` cells."""
        if rows <= self.rows and cells <= self.cells:
            return
        old_rows, old_cells = self.rows, self.cells
        self.rows = max(rows, self.rows)
        self.cells = rounded_keys(max(cells, self.cells + self.cells // 2 if cells > self.cells else self.cells))
        fresh = []
        for i in range(2 * self.layers * self.passes):
            slab = torch.zeros(self.rows, self.heads, self.cells, self.head_width, device=self.device)
            if self._slabs:
                slab[:old_rows, :, :old_cells] = self._slabs[i]
            fresh.append(slab)
        self._slabs = fresh
        for name, gate in self._gates.items():
            wider = torch.zeros(self.rows, self.cells, device=self.device)
            wider[:old_rows, :old_cells] = gate
            self._gates[name] = wider
        for name, fact in self.facts.items():
            grown = np.zeros((self.rows, self.cells), dtype=np.int64)
            grown[:old_rows, :old_cells] = fact
            self.facts[name] = grown
        for name, note in self.notes.items():
            wide = np.full((self.rows, self.cells), np.nan)
            wide[:old_rows, :old_cells] = note
            self.notes[name] = wide
        self.lengths = np.concatenate([self.lengths, np.zeros(self.rows - old_rows, dtype=np.int64)])

    def put_facts(self, rows: IntArray, layout: Layout, charge: IntArray) -> None:
        """Note the facts of new cells and lengthen their rows; rows (B,): the slots' row of each of the layout's rows."""
        row, index = rows[layout.row], layout.index
        named = (layout.embed, layout.kind, layout.place, layout.slot, layout.read, charge)
        for name, values in zip(FACTS, named, strict=True):
            self.facts[name][row, index] = values
        self.lengths[rows] += layout.counts

    def put_notes(self, first: int, layout: Layout, notes: Mapping[str, Tensor]) -> None:
        """Keep numbers (N,) that a strategy noted of new cells; NaN elsewhere."""
        for name, values in notes.items():
            held = self.notes.setdefault(name, np.full((self.rows, self.cells), np.nan))
            held[layout.row + first, layout.index] = values.cpu().numpy()

    def where(self, cells: Cells) -> Tensor:
        """Flat targets (N * heads,) of `write`, the same for every layer."""
        layout = cells.layout
        row = torch.from_numpy(layout.row + cells.first_row).to(self.device)
        index = torch.from_numpy(layout.index).to(self.device)
        head = torch.arange(self.heads, device=self.device)
        return ((row[:, None] * self.heads + head) * self.cells + index[:, None]).view(-1)

    def write(self, at: int, where: Tensor, k: Tensor, v: Tensor) -> None:
        """Keep k and v (N, heads * width) of slab pair ``at`` = pass * layers + layer."""
        for slab, new in ((self._slabs[2 * at], k), (self._slabs[2 * at + 1], v)):
            slab.view(-1, self.head_width).index_copy_(0, where, new.reshape(-1, self.head_width))

    def read(self, at: int, cells: Cells) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, keys, width) of the pass's rows."""
        rows = slice(cells.first_row, cells.first_row + cells.shape[0])
        return self._slabs[2 * at][rows, :, : cells.keys], self._slabs[2 * at + 1][rows, :, : cells.keys]

    def gate(self, at: int, cells: Cells, new: Tensor) -> Tensor:
        """Keep the key bias (N,) of new cells; return all of the rows' (B, keys)."""
        if at not in self._gates:
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
        place, kind, slot = (np.ascontiguousarray(self.facts[n][rows, :keys]) for n in ("place", "kind", "slot"))
        return View(*(torch.from_numpy(x).to(self.device) for x in (index, place, kind, slot)))

    def copy(self, source: int, targets: list[int]) -> None:
        """Rows ``targets`` become copies of row ``source``."""
        length = int(self.lengths[source])
        for slab in self._slabs:
            slab[targets, :, :length] = slab[source : source + 1, :, :length].clone()
        for gate in self._gates.values():
            gate[targets, :length] = gate[source : source + 1, :length].clone()
        for fact in self.facts.values():
            fact[targets] = fact[source]
        for note in self.notes.values():
            note[targets] = note[source]
        self.lengths[targets] = length
