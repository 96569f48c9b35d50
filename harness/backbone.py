"""The one GPT-2: Hugging Face owns weights, config, save and load; we own the short loop over its blocks.

The loop runs on flat cells (N, D), pads only inside attention, computes the last block's second half and the head only where a
state is read, and books every FLOP on the pass's bill. Knows a strategy only by its `sight`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.alphabet import Alphabet
from harness.attention import FUSED_MIN_TOKENS, Masks, attend, causal_bias
from harness.cells import FAR, ROW_MULTIPLE, Cells, Reads
from harness.meter import TRAINING_FACTOR
from harness.slots import Slots
from harness.strategy import Strategy

KeyGate = Callable[[int, Tensor], Tensor]  # (layer, states (N, D)) -> log gate (N,)


class Backbone(nn.Module):
    """A GPT-2 with the extra rows and parts of one strategy.

    model: GPT2LMHeadModel whose vocabulary is the alphabet's. parts: the strategy's own modules.
    """

    def __init__(self, model: Any, *, strategy: Strategy, alphabet: Alphabet) -> None:
        super().__init__()
        self.model = model
        self.parts = nn.ModuleDict(dict(strategy.parts(model.config)))
        self.strategy, self.alphabet = strategy, alphabet
        self.layers, self.width = int(model.config.n_layer), int(model.config.n_embd)
        self.heads = int(model.config.n_head)
        self.head_width = self.width // self.heads
        head_ids = alphabet.head_ids(strategy.sayable())
        self.outputs = len(head_ids)  # V of every formula
        contiguous = head_ids == list(range(self.outputs))
        self.register_buffer("_head_ids", None if contiguous else torch.tensor(head_ids), persistent=False)
        self.head_ids = head_ids
        self._masks: tuple[Cells, Masks] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight: Tensor = self.model.transformer.wte.weight
        return weight.device

    @property
    def learning(self) -> bool:
        """Whether a forward pass now will be followed by a backward pass through the trunk."""
        return torch.is_grad_enabled() and bool(self.model.transformer.wte.weight.requires_grad)

    def new_slots(self) -> Slots:
        """Empty slots for this model and strategy."""
        return Slots(
            layers=self.layers, passes=self.strategy.passes(), heads=self.heads, head_width=self.head_width, device=self.device
        )

    def embed(self, cells: Cells) -> Tensor:
        """Input states (N', D): token, position, and what a strategy adds."""
        transformer = self.model.transformer
        states: Tensor = F.embedding(cells.embed, transformer.wte.weight) + F.embedding(cells.position, transformer.wpe.weight)
        if cells.added is not None:
            added = F.embedding(cells.added.clamp(min=0), transformer.wte.weight)
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
        where = None if slots is None else slots.where(cells)
        for layer, block in enumerate(self.model.transformer.h):
            needed = cells.needed if last and layer == self.layers - 1 else None
            gate = None if key_gate is None else key_gate(layer, states[: cells.count])
            at = number * self.layers + layer
            mixed = self._attention(block, states, cells, masks, slots, where, at, gate)
            if needed is not None:
                mixed, states = mixed[needed], states[needed]
            states = states + _conv(mixed, block.attn.c_proj)
            inner = F.gelu(_conv(_norm(states, block.ln_2), block.mlp.c_fc), approximate="tanh")
            states = states + _conv(inner, block.mlp.c_proj)
        factor = TRAINING_FACTOR if self.learning else 1
        cells.bill.add_blocks(layers=self.layers, width=self.width, factor=factor)
        return states

    def finish(self, states: Tensor) -> Tensor:
        """The final norm."""
        return _norm(states, self.model.transformer.ln_f)

    def head(self, states: Tensor, reads: Reads) -> Tensor:
        """Logits (R, V) over the sayable slice, from finished states (R, D) at ``reads``."""
        count = len(reads.cells)
        weight = self.model.transformer.wte.weight
        rows = weight[: self.outputs] if self._head_ids is None else weight[self._head_ids]
        reads.bill.add_head(
            reads.cells, width=self.width, outputs=self.outputs, factor=TRAINING_FACTOR if self.learning else 1
        )
        if not torch.is_grad_enabled():
            states = F.pad(states, (0, 0, 0, -count % ROW_MULTIPLE))
        return F.linear(states, rows)[:count]

    def part(self, name: str, states: Tensor) -> Tensor:
        """One of the strategy's own modules on states (n, D), with as many rows as `blocks` uses when asking."""
        count = len(states)
        if not torch.is_grad_enabled():
            states = F.pad(states, (0, 0, 0, -count % ROW_MULTIPLE))
        result: Tensor = self.parts[name](states)
        return result[:count]

    def _attention(
        self,
        block: Any,
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
        normed = _norm(states, block.ln_1)
        qkv = _conv(normed, block.attn.c_attn)
        if slots is not None and where is not None:
            slots.write(at, where, qkv[:count, width : 2 * width], qkv[:count, 2 * width :])
            k, v = slots.read(at, cells)
            (q,) = self._split(qkv[:, :width], cells)
            bias = None if gate is None else slots.gate(at, cells, gate)
            mixed = attend(q, k, v, masks, gate=bias)
        else:
            q, k, v = self._split(qkv, cells)
            still = None
            if masks.learn_state is not None and torch.is_grad_enabled():
                _, *twins = self._split(_conv(normed.detach(), block.attn.c_attn), cells)
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

    def _masks_of(self, cells: Cells) -> Masks:
        """The pass's masks; several passes through the blocks share them."""
        if self._masks is None or self._masks[0] is not cells:
            self._masks = (cells, self._make_masks(cells))
        return self._masks[1]

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
            bias = _causal_over_slots(cells, self.device)
        if sight is None:
            return Masks(bias)
        return Masks(bias, sight.learn_kv, sight.learn_state, sight.gated)


def _causal_over_slots(cells: Cells, device: torch.device) -> Tensor:
    """(B, 1, Q, K): each query sees the slots up to its own index."""
    index = torch.zeros(cells.shape, dtype=torch.int64)
    layout = cells.layout
    index[torch.from_numpy(layout.row), torch.from_numpy(layout.col)] = torch.from_numpy(layout.index)
    seen = torch.arange(cells.keys)[None, None, :] <= index[:, :, None]
    return torch.where(seen, 0.0, -torch.inf).unsqueeze(1).to(device)


def _pad_rows(values: Tensor, cells: Cells) -> Tensor:
    """(N,) -> (B, Q) with zeros."""
    b, queries = cells.shape
    if cells.flat is None:
        return values.view(b, queries)
    return values.new_zeros(b * queries).index_copy(0, cells.flat[: cells.count], values).view(b, queries)


def _conv(states: Tensor, layer: Any) -> Tensor:
    """Hugging Face's Conv1D: weight (in, out)."""
    return torch.addmm(layer.bias, states, layer.weight)


def _norm(states: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(states, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
