"""A pretrained causal model of the transformers library, whatever its shape, asked as it is by the same session.

Its blocks are the library's own forward: flat cells are padded to (B, Q), keys and values go through our slots, so that forks,
rewinds and drops work as they are; the head is read where we read. Knows of an architecture only what a `Shape` says. It is never
taught, and its answers are the same in any company to about 1e-6, not to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Cache

from harness.alphabet import Alphabet
from harness.backbone import Backbone
from harness.bounds import bounds_of
from harness.cells import Cells, Reads
from harness.meter import Price
from harness.slots import Slots
from harness.strategy import Strategy

Array = NDArray[np.int64]
CAUSAL_SHARE = 1.1  # so many columns, over those needed, are worth a causal pass without a mask
FLOPS_A_BYTE = 8  # that a CPU gets done while a row's keys and values are copied (measured)
MASKED_QUERIES = 256  # go through a masked pass together; more of them look at ever more slots that they may not see (measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What slots and the meter want to know of a model: its heads, those of keys and values (of which there may be fewer), the
    width of each, and what its cells cost."""

    heads: int
    kv_heads: int
    head_width: int
    price: Price


class CausalBackbone(Backbone):
    """A causal model under a strategy of plain text. model: what `AutoModelForCausalLM` loads, with the alphabet's vocabulary."""

    as_it_is = True

    def __init__(self, model: Any, *, strategy: Strategy, alphabet: Alphabet, shape: Shape, context_tokens: int) -> None:
        nn.Module.__init__(self)
        self._share(model.eval().requires_grad_(False), strategy, alphabet)
        self.layers, self.width, self.price = shape.price.layers, shape.price.width, shape.price
        self.heads, self.head_width, self._kv_heads = shape.heads, shape.head_width, shape.kv_heads
        self.context_tokens = context_tokens
        self._vocabulary = (model.get_input_embeddings(), model.get_output_embeddings())  # a tuple: no modules of ours

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self._vocabulary[0].weight.device
        return device

    @property
    def learning(self) -> bool:
        """Never."""
        return False

    @property
    def _fused(self) -> bool:
        """Whether torch's own attention is used, which takes masks of booleans."""
        return bool(self.model.config._attn_implementation == "sdpa")

    def new_slots(self) -> Slots:
        """Empty slots for this model."""
        heads, width = self._kv_heads, self.head_width
        return Slots(layers=self.layers, passes=1, heads=heads, head_width=width, device=self.device, lazy=True)

    def embed(self, cells: Cells) -> Tensor:
        """Input states (N, D) of the tokens. ValueError if one of them is none of the model's."""
        top = int(cells.layout.embed.max(initial=0))
        if top >= self.outputs:
            (piece,) = self.alphabet.pieces([top])
            raise ValueError(
                f"model.path: {getattr(piece, 'name', piece)!r} is no token of this model, which is asked as it is and knows "
                f"its own {self.outputs:,} alone; choose a strategy and settings that insert none"
            )
        states: Tensor = self._vocabulary[0](cells.embed[: cells.count])
        return states

    def blocks(
        self,
        states: Tensor,
        cells: Cells,
        slots: Slots | None,
        *,
        number: int = 0,
        last: bool = False,
        key_gate: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The library's forward, final norm included: (N, D) -> (R, D) of the cells that are read."""
        assert number == 0 and last and key_gate is None, "a model that is asked as it is has one pass, and no gates"
        cells.bill.add_blocks(self.price, factor=1)
        chosen, found = cells.reads.cells, list[tuple[Array, Tensor]]()
        where = None if slots is None else slots.where(cells).view(cells.count, -1)
        gap_keys = math.inf if slots is None else self.price.cell_flops / (FLOPS_A_BYTE * slots.bytes_per_cell)
        for part in _parts_of(cells, self.device, gap_keys):
            cache = _SlotCache(slots, where, cells.first_row, part)
            out = self._forward(states, part, cache)
            if len(read := np.flatnonzero(part.holds[chosen])):
                found.append((read, part.flat(out, chosen[read])))
        if len(found) == 1:
            return found[0][1]
        order = np.argsort(np.concatenate([read for read, _ in found] or [chosen]))
        return torch.cat([out for _, out in found] or [states[:0]])[torch.from_numpy(order).to(self.device)]

    @torch.no_grad()
    def _forward(self, states: Tensor, part: _Part, cache: _SlotCache) -> Tensor:
        """(N, D) -> (B, Q, D) of a part's rows."""
        found: Tensor = self.model.base_model(
            inputs_embeds=part.pad(states),
            position_ids=part.positions,
            attention_mask=part.mask(fused=self._fused),
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        ).last_hidden_state
        return found

    def finish(self, states: Tensor) -> Tensor:
        """States are finished already."""
        return states

    def head(self, states: Tensor, reads: Reads) -> Tensor:
        """Logits (R, V) from finished states (R, D) at ``reads``."""
        reads.bill.add_head(reads.cells, width=self.width, outputs=self.outputs, factor=1)
        with torch.no_grad():
            logits: Tensor = self._vocabulary[1](states)
        return logits


class _Part:
    """Some rows and columns of a pass as rows of queries (B, Q), those alone that are fed; behind a row's cells stands padding.

    holds (N,): which of the pass's cells, from column ``first`` on. keys: how many of their slots its rows attend to. fresh: all
    rows begin here, so that they meet nothing but themselves. together: no slots' row stands between its rows. by_index: a
    cell's column is its place in the row, with padding where slots are held, so that a plain causal pass will do, as it does for
    fresh rows. gap_keys: up to so many keys of its rows, for each cell that this takes, rows in between are padding too, since
    then slots are looked at where they lie; copying those of some rows takes longer.
    """

    def __init__(
        self,
        cells: Cells,
        device: torch.device,
        holds: NDArray[np.bool_],
        *,
        first: int = 0,
        by_index: bool = False,
        gap_keys: float = math.inf,
    ) -> None:
        layout, self.holds = cells.layout, holds
        self.cells = None if holds.all() else np.flatnonzero(holds)
        row, col, index, position = (self._mine(x) for x in (layout.row, layout.col - first, layout.index, layout.position))
        self.rows, at = np.unique(row, return_inverse=True)
        self.fresh, self.keys = bool((index == col).all()), int(index.max()) + 1
        col = index if by_index else col
        queries = int(col.max()) + 1
        span = int(self.rows[-1] - self.rows[0]) + 1
        if not self.fresh and (span - len(self.rows)) * queries * gap_keys <= len(self.rows) * self.keys:
            self.rows, at = np.arange(self.rows[0], self.rows[0] + span), row - self.rows[0]
        self.together, self.device, self.shape = span == len(self.rows), device, (len(self.rows), queries)
        self._at = at * self.shape[1] + col
        self._where = None if len(col) == self.shape[0] * self.shape[1] else self._put(self._at)
        self._causal = self.fresh or by_index
        self._alike = self.shape[1] == 1 and bool((index == index[0]).all())
        self._index, self.positions = index, self._put(self._square(position))

    def _mine(self, values: Array) -> Array:
        """Of all cells, the part's."""
        return values if self.cells is None else values[self.cells]

    def _put(self, values: Array) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _square(self, values: Array) -> Array:
        """Facts of the cells (B, Q), 0 for padding."""
        out = np.zeros(self.shape[0] * self.shape[1], dtype=np.int64)
        out[self._at] = values
        return out.reshape(self.shape)

    def pick(self, values: Tensor) -> Tensor:
        """Of all cells (N, ..), the part's."""
        return values if self.cells is None else values.index_select(0, self._put(self.cells))

    def pad(self, states: Tensor) -> Tensor:
        """(N, D) of all cells -> (B, Q, D), zeros in between."""
        states = self.pick(states)
        if self._where is not None:
            square = states.new_zeros(self.shape[0] * self.shape[1], states.shape[1])
            states = square.index_copy_(0, self._where, states)
        return states.view(*self.shape, -1)

    def flat(self, found: Tensor, chosen: Array) -> Tensor:
        """(B, Q, D) -> (R, D) of the ``chosen`` of all cells, which are the part's."""
        mine = chosen if self.cells is None else np.searchsorted(self.cells, chosen)
        flat = found.reshape(self.shape[0] * self.shape[1], -1)
        return flat if self._where is None and len(mine) == len(flat) else flat.index_select(0, self._put(self._at[mine]))

    def cells_of(self, new: Tensor) -> Tensor:
        """(B, H, Q, width) -> (n, H, width) of the part's cells."""
        flat = new.transpose(1, 2).flatten(0, 1)
        return flat if self._where is None else flat.index_select(0, self._where)

    def mask(self, *, fused: bool) -> Tensor | None:
        """Who is looked at (B, 1, Q, K): slots up to the query's own. None for a plain causal pass, and for queries that see all.

        Padding looks at its row's first cell, since a row of nothing gives NaN. fused: torch's own attention takes booleans, and
        others add what they are given.
        """
        if self._causal or (fused and self._alike):
            return None
        index = self._put(self._square(self._index))
        seen = torch.arange(self.keys, device=self.device) <= index[:, None, :, None]
        return seen if fused else torch.zeros(seen.shape, device=self.device).masked_fill(~seen, torch.finfo(torch.float32).min)


def _parts_of(cells: Cells, device: torch.device, gap_keys: float) -> Iterator[_Part]:
    """A pass in parts: rows of about as many queries, and of many queries that meet slots some columns at a time."""
    counts, col = cells.layout.counts[cells.layout.row], cells.layout.col
    for fewest, most in _alike(cells.layout.counts, bounds_of(device).call_cells):
        rows = (counts >= fewest) & (counts <= most)
        whole = _Part(cells, device, rows, gap_keys=gap_keys)
        if whole.fresh:
            yield whole
        elif whole.keys <= CAUSAL_SHARE * most:
            yield _Part(cells, device, rows, by_index=True)
        elif most <= MASKED_QUERIES:
            yield whole
        else:  # behind a mask, whose half nobody sees
            for first in range(0, most, MASKED_QUERIES):
                yield _Part(cells, device, rows & (col >= first) & (col < first + MASKED_QUERIES), first=first)


def _alike(counts: Array, call_cells: int) -> list[tuple[int, int]]:
    """Ranges (fewest, most) of the rows' numbers of queries that pad least if they go apart: a turn in which one row is told four
    tokens is no turn of four tokens for all. call_cells: what one more of them costs, in cells."""
    sizes, rows = np.unique(counts[counts > 0], return_counts=True)
    below = np.concatenate([[0], np.cumsum(rows)])
    costs, starts = [0], []
    for i, most in enumerate(sizes):  # the least that the first sizes cost, by where their last range starts
        each = [costs[j] + int(most * (below[i + 1] - below[j])) + call_cells for j in range(i + 1)]
        starts.append(int(np.argmin(each)))
        costs.append(each[starts[-1]])
    ranges, beyond = [], len(sizes)
    while beyond:
        start = starts[beyond - 1]
        ranges.append((int(sizes[start]), int(sizes[beyond - 1])))
        beyond = start
    return ranges


class _SlotCache(Cache):
    """What the library's layers keep their keys and values in for one part: our slots, or nothing at all. For the library it is
    empty, so that it numbers nothing by itself."""

    def __init__(self, slots: Slots | None, where: Tensor | None, first_row: int, part: _Part) -> None:
        super().__init__(layers=[])
        self._slots, self._part, self._fed = slots, part, first_row + part.rows
        self._rows = slice(first_row + int(part.rows[0]), first_row + int(part.rows[-1]) + 1)
        self._where = None if where is None else part.pick(where).reshape(-1)

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep (B, kv heads, Q, width) of the cells; what their rows attend to, (B, kv heads, K, width)."""
        slots, part = self._slots, self._part
        if slots is None or self._where is None:
            return key_states, value_states
        slots.write(layer_idx, self._where, torch.stack([part.cells_of(key_states), part.cells_of(value_states)], 1))
        if part.fresh:
            return key_states, value_states
        if part.together:
            keys, values = slots.held(layer_idx, self._rows, part.keys).unbind(0)
        else:
            keys, values = slots.picked(layer_idx, self._fed, part.keys).unbind(0)
        return keys, values
