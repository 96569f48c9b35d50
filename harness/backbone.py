"""The one GPT-2: Hugging Face owns weights, config, save and load; we own the short loop over its blocks.

The loop runs on flat cells (N, D), pads only inside attention, computes the last block's second half and the head only where a
state is read, and books every FLOP on the pass's bill. Knows a strategy only by its `sight`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.alphabet import Alphabet
from harness.attention import FUSED_MIN_TOKENS, Masks, attend, causal_bias, probabilities
from harness.block_weights import BlockWeights, EndWeights
from harness.cached import cached_blocks
from harness.cells import FAR, ROW_MULTIPLE, Cells, Reads
from harness.meter import TRAINING_FACTOR, IntArray, gpt2_price
from harness.mlp import Mlp
from harness.slots import Slots
from harness.strategy import Strategy
from harness.value_model import ValueModel

PART_ROWS = 16  # a strategy's parts may be narrow, and whole vector registers give the same bits in any company
Probe = Callable[[Tensor, Cells], None]  # is given each layer's attention (B * H, Q, K) of a pass over slots
KeyGate = Callable[[int, Tensor], Tensor]  # (layer, states (N, D)) -> log gate (N,)


class Backbone(nn.Module):
    """A GPT-2 with the extra rows and parts of one strategy.

    model: GPT2LMHeadModel whose vocabulary is the alphabet's. parts: the strategy's own modules. price: of one pass. as_it_is: it
    is asked as its checkpoint has it, never taught, and nobody looks into its attention.
    """

    as_it_is = False

    def __init__(self, model: Any, *, strategy: Strategy, alphabet: Alphabet) -> None:
        super().__init__()
        self._share(model, strategy, alphabet)
        self.layers, self.width = int(model.config.n_layer), int(model.config.n_embd)
        self.heads = int(model.config.n_head)
        self.context_tokens = int(model.config.n_positions)  # text tokens; fewer than positions where cells have their own
        self.head_width = self.width // self.heads
        self.price = gpt2_price(layers=self.layers, width=self.width)
        contiguous = self.head_ids == list(range(self.outputs))
        self.register_buffer("_head_ids", None if contiguous else torch.tensor(self.head_ids), persistent=False)
        self._probe: Probe | None = None
        self._eps = float(model.config.layer_norm_epsilon)
        self._causal = torch.zeros(0, 0)
        self._masks: list[tuple[Cells, Masks]] = []  # of the last pass; changed in place, as setting a module's attribute is slow
        self._blocks = [BlockWeights(block) for block in model.transformer.h]
        self._ends = EndWeights(model.transformer)

    def find_weights(self) -> None:
        """Look them up anew: where ranks split them, they are whole for the time of a pass only, and other tensors each time."""
        self._blocks = [BlockWeights(block, as_they_lie=True) for block in self.model.transformer.h]
        self._ends = EndWeights(self.model.transformer)

    def _share(self, model: Any, strategy: Strategy, alphabet: Alphabet) -> None:
        """What every model has."""
        self.model = model
        self.parts = nn.ModuleDict(dict(strategy.parts(model.config)))
        self.strategy, self.alphabet = strategy, alphabet
        self.head_ids = alphabet.head_ids(strategy.sayable())
        self.outputs = len(self.head_ids)  # V of every formula
        self.value: ValueModel | None = None  # rates states where a search asks for it

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._ends.tokens.device

    @property
    def learning(self) -> bool:
        """Whether a forward pass now will be followed by a backward pass through the trunk."""
        return torch.is_grad_enabled() and self._ends.tokens.requires_grad

    @contextmanager
    def probed(self, probe: Probe) -> Iterator[None]:
        """While a probe looks at the attention of passes over slots."""
        self._probe = probe
        try:
            yield
        finally:
            self._probe = None

    def new_slots(self) -> Slots:
        """Empty slots for this model and strategy."""
        return Slots(
            layers=self.layers, passes=self.strategy.passes(), heads=self.heads, head_width=self.head_width, device=self.device
        )

    def embed(self, cells: Cells) -> Tensor:
        """Input states (N', D): token, position, and what a strategy adds."""
        ends = self._ends
        states = torch.embedding(ends.tokens, cells.embed) + torch.embedding(ends.places, cells.position)
        if cells.added is not None:
            added = torch.embedding(ends.tokens, cells.added.clamp(min=0))
            states = states + added * (cells.added >= 0).unsqueeze(1)
        return states

    def blocks(
        self,
        states: Tensor,
        cells: Cells,
        slots: Slots | None,
        *,
        number: int = 0,
        last: bool = False,
        key_gate: KeyGate | None = None,
    ) -> Tensor:
        """Once through all blocks: (N', D) -> (N', D), or (R', D) of ``cells.needed`` if this is the last pass.

        number: which pass this is (each has its own slots). key_gate: log gates of the keys, by layer.
        """
        masks = self._masks_of(cells)
        fast = slots is not None and key_gate is None and self._probe is None
        if fast and slots is not None and masks.bias is not None and not torch.is_grad_enabled():
            cells.bill.add_blocks(self.price, factor=1)
            return cached_blocks(states, cells, slots, self._blocks, masks.bias, number=number, last=last, eps=self._eps)
        where = None if slots is None else slots.where(cells)
        for layer, block in enumerate(self._blocks):
            needed = cells.needed if last and layer == self.layers - 1 and not cells.all_needed else None
            gate = None if key_gate is None else key_gate(layer, states[: cells.count])
            at = number * self.layers + layer
            mixed = self._attention(block, states, cells, masks, slots, where, at, gate)
            if needed is not None:
                mixed, states = mixed[needed], states[needed]
            states = states + torch.addmm(block.mix_bias, mixed, block.mix)
            states = self._mlp(states, block)
        cells.bill.add_blocks(self.price, factor=TRAINING_FACTOR if self.learning else 1)
        return states

    def _mlp(self, states: Tensor, block: BlockWeights) -> Tensor:
        """The second half of a block."""
        if torch.is_grad_enabled() and states.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            weights = (*block.norm_2, block.up, block.up_bias, block.down, block.down_bias)
            mlp: Any = Mlp.apply
            result: Tensor = mlp(states, *weights, self._eps)
            return result
        inner = torch.addmm(block.up_bias, self._norm(states, *block.norm_2), block.up)
        return states + torch.addmm(block.down_bias, F.gelu(inner, approximate="tanh"), block.down)

    def finish(self, states: Tensor) -> Tensor:
        """The final norm."""
        return self._norm(states, *self._ends.norm)

    def _norm(self, states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.layer_norm(states, (self.width,), weight, bias, self._eps)

    def head(self, states: Tensor, reads: Reads) -> Tensor:
        """Logits (R, V) over the sayable slice, from finished states (R, D) at ``reads``."""
        count = len(reads.cells)
        weight = self._ends.tokens
        ids: Any = self._head_ids
        rows = weight[: self.outputs] if ids is None else weight[ids]
        reads.bill.add_head(reads.cells, width=self.width, outputs=self.outputs, factor=TRAINING_FACTOR if self.learning else 1)
        if torch.is_grad_enabled():
            return F.linear(states, rows)
        return F.linear(_more_rows(states, ROW_MULTIPLE), rows)[:count]

    def part(self, name: str, states: Tensor, where: Cells | Reads) -> Tensor:
        """One of the strategy's own modules on states (n, D) of ``where``, on a multiple of PART_ROWS when asking.

        where: what pays, a pass's cells (n of them) or some reads (n).
        """
        count = len(states)
        paying = np.arange(where.count) if isinstance(where, Cells) else where.cells
        assert count == len(paying), f"{name}: {count} states, {len(paying)} cells to pay for them"
        where.bill.add_each(paying, flops=self.part_flops(name) * (TRAINING_FACTOR if torch.is_grad_enabled() else 1))
        if not torch.is_grad_enabled():
            states = _more_rows(states, PART_ROWS)
        result: Tensor = self.parts[name](states)
        return result[:count]

    def part_flops(self, name: str) -> int:
        """Forward FLOPs of a part on one state: 2 for each weight of its matrices."""
        return sum(2 * m.weight.numel() for m in self.parts[name].modules() if isinstance(m, nn.Linear))

    def asked_flops(self, cells_so_far: IntArray, read: IntArray) -> IntArray:
        """FLOPs (N,) that asking will book for cells: c of each as in `harness.meter`, and whether (0 or 1) it is read.

        By the formulas and by what the strategy declares in `passes` and `part_uses`, so that a budget can refuse a pass unseen.
        """
        uses = {name: times for name, times in self.strategy.part_uses(self.layers).items() if name in self.parts}
        each = [sum(times[i] * self.part_flops(name) for name, times in uses.items()) for i in range(2)]
        blocks = self.strategy.passes() * self.price.blocks(cells_so_far)
        return blocks + each[0] + read * (self.price.head(self.outputs) + each[1])

    def _attention(
        self,
        block: BlockWeights,
        states: Tensor,
        cells: Cells,
        masks: Masks,
        slots: Slots | None,
        where: Tensor | None,
        at: int,
        gate: Tensor | None,
    ) -> Tensor:
        """Mixed values (N', D) before the output projection."""
        count, width, (b, queries) = cells.count, self.width, cells.shape
        normed = self._norm(states, *block.norm_1)
        qkv = torch.addmm(block.qkv_bias, normed, block.qkv)
        if slots is not None and where is not None:
            slots.write(at, where, qkv[:count, width:])
            k, v = slots.read(at, cells)
            (q,) = self._split(qkv[:, :width], cells)
            bias = None if gate is None else slots.gate(at, cells, gate)
            mixed = attend(q, k, v, masks, gate=bias)
            if self._probe is not None and masks.bias is not None:
                self._probe(probabilities(q, k, masks.bias, masks.gated, bias), cells)
        else:
            q, k, v = self._split(qkv, cells)
            still = None
            if masks.learn_state is not None and torch.is_grad_enabled():
                _, *twins = self._split(torch.addmm(block.qkv_bias, normed.detach(), block.qkv), cells)
                still = (twins[0], twins[1])
            bias = None if gate is None else _pad_rows(gate, cells)
            mixed = attend(q, k, v, masks, still=still, gate=bias)
        merged = mixed.transpose(1, 2).reshape(b * queries, width)
        return merged if cells.flat is None else merged.index_select(0, cells.flat)

    def _split(self, flat: Tensor, cells: Cells) -> tuple[Tensor, ...]:
        """(N', parts * D) -> parts tensors (B, heads, Q, head width)."""
        (b, queries), parts = cells.shape, flat.shape[1] // self.width
        if cells.flat is not None:
            padded = flat.new_zeros(b * queries, flat.shape[1])
            flat = padded.index_copy(0, cells.flat[: cells.count], flat[: cells.count])
        return flat.view(b, queries, parts, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)

    def _causal_over_slots(self, cells: Cells) -> Tensor:
        """(B, 1, Q, K), or (B, 1, 1, K) where no row has two queries: each query sees the slots up to its own index."""
        (b, queries), layout = cells.shape, cells.layout
        if self._causal.shape[1] < cells.keys:  # twice as many rows as columns: a lone row's padding stands behind its last query
            side = 2 * cells.keys
            self._causal = torch.full((2 * side, side), -torch.inf, device=self.device).triu(1)
        if b == 1:
            width = self._causal.shape[1]
            return self._causal.as_strided((1, 1, queries, cells.keys), (0, 0, width, 1), int(layout.index[0]) * width)
        index = np.zeros((b, int(layout.counts.max())), dtype=np.int64)
        index[layout.row, layout.col] = layout.index
        if index.shape[1] > 1:
            index = np.pad(index, ((0, 0), (0, queries - index.shape[1])))
        seen = self._causal[:, : cells.keys]
        return seen.index_select(0, torch.from_numpy(index.reshape(-1)).to(self.device)).view(b, 1, -1, cells.keys)

    def _masks_of(self, cells: Cells) -> Masks:
        """The pass's masks; several passes through the blocks share them."""
        if not self._masks or self._masks[0][0] is not cells:
            self._masks[:] = [(cells, self._make_masks(cells))]
        return self._masks[0][1]

    def _make_masks(self, cells: Cells) -> Masks:
        plain = type(self.strategy).sight is Strategy.sight
        q, k = (None, None) if plain else (cells.query_view(), cells.key_view())
        sight = None if q is None or k is None else self.strategy.sight(q, k, self.heads)
        if cells.keys == 0 and (sight is None or sight.look is None):
            queries = cells.shape[1]
            bias = None if queries >= FUSED_MIN_TOKENS else causal_bias(queries, self.device)
        elif sight is not None and sight.look is not None and q is not None and k is not None:
            seen = sight.look & (k.index < FAR)[:, None, None, :]
            seen[..., 0] |= (q.index < 0)[:, None, :]  # padding must see something: a row of -inf gives NaN
            bias = torch.where(seen, 0.0, -torch.inf)
        else:
            bias = self._causal_over_slots(cells)
        if sight is None:
            return Masks(bias)
        return Masks(bias, sight.learn_kv, sight.learn_state, sight.gated)


def _pad_rows(values: Tensor, cells: Cells) -> Tensor:
    """(N,) -> (B, Q) with zeros."""
    b, queries = cells.shape
    if cells.flat is None:
        return values.view(b, queries)
    return values.new_zeros(b * queries).index_copy(0, cells.flat[: cells.count], values).view(b, queries)


def _more_rows(states: Tensor, multiple: int) -> Tensor:
    """Zero rows behind, up to a multiple of rows."""
    extra = -len(states) % multiple
    return F.pad(states, (0, 0, 0, extra)) if extra else states
