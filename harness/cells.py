"""From texts to cells: encoding, weaving, and the flat layout that the backbone runs on.

A *cell* is one woven position. The cells of a batch lie flat, sequence after sequence, so that linears waste nothing on
padding; attention alone uses the padded (B, Q) shape. Training and decoding use the same `lay`, so they cannot drift apart.
Knows strategies by their contract; knows no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.alphabet import Alphabet
from harness.meter import Bill
from harness.problem import ROLES, Special, Text, Tokens
from harness.strategy import NOTHING, PAUSE, SPECIAL, THOUGHT, Strategy, View

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

FAR = 1 << 30  # index of padding among keys: behind every query
ROW_MULTIPLE = 16  # linears run on a multiple of 16 rows when asking,
KEY_MULTIPLE, MIN_KEYS, MIN_QUERIES = 8, 16, 4  # and attention on these: then results do not depend on company (measured)
_ROLE_INDEX = {role: i for i, role in enumerate(ROLES)}


@dataclass(frozen=True, slots=True)
class Stream:
    """Text tokens of several sequences, one after another, in arrays (n,); ``row`` says which sequence."""

    ids: IntArray
    roles: IntArray
    places: IntArray
    row: IntArray
    target: BoolArray

    def take(self, kept: BoolArray) -> Stream:
        """The tokens in ``kept``."""
        return Stream(self.ids[kept], self.roles[kept], self.places[kept], self.row[kept], self.target[kept])


def encode(texts: Sequence[Text], alphabet: Alphabet, *, places: IntArray | None = None) -> Stream:
    """Texts -> their tokens. Pieces are encoded one by one.

    places: text tokens that already stand before each text (default none). Inserted-only specials share the place of the
    text token before them.
    """
    pieces = [piece for text in texts for piece in text]
    lengths, ids = _encode_contents([p.content for p in pieces], alphabet)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    row = np.repeat(owner, lengths)
    roles = np.repeat(np.array([_ROLE_INDEX[p.role] for p in pieces], dtype=np.int64), lengths)
    target = np.repeat(np.array([p.target for p in pieces], dtype=bool), lengths)
    before = np.zeros(len(texts), dtype=np.int64) if places is None else places
    return Stream(ids, roles, _places(ids, row, alphabet, before), row, target)


def _encode_contents(contents: list[str | Special | Tokens], alphabet: Alphabet) -> tuple[IntArray, IntArray]:
    """Lengths (pieces,) and token ids (n,)."""
    flat, text_lengths = alphabet.encode_many([c for c in contents if isinstance(c, str)])
    lengths = np.ones(len(contents), dtype=np.int64)
    is_text = np.array([isinstance(c, str) for c in contents], dtype=bool)
    lengths[is_text] = text_lengths
    for i, content in enumerate(contents):
        if isinstance(content, Tokens):
            lengths[i] = len(content.ids)
    ids = np.empty(int(lengths.sum()), dtype=np.int64)
    from_text = np.repeat(is_text, lengths)
    ids[from_text] = flat
    others = [_special_ids(c, alphabet) for c in contents if not isinstance(c, str)]
    ids[~from_text] = np.concatenate(others) if others else np.empty(0, dtype=np.int64)
    return lengths, ids


def _special_ids(content: Special | Tokens, alphabet: Alphabet) -> IntArray:
    """Ids of a piece that is no string."""
    return np.array(content.ids if isinstance(content, Tokens) else (alphabet.id_of(content),), dtype=np.int64)


def _places(ids: IntArray, row: IntArray, alphabet: Alphabet, before: IntArray) -> IntArray:
    """Index of each token among the text tokens of its sequence."""
    counted = ids < alphabet.sayable_end
    running = np.cumsum(counted)
    starts = np.searchsorted(row, np.arange(len(before)))
    offset = np.concatenate([[0], running])[starts]
    places: IntArray = np.maximum(running - 1 - offset[row] + before[row], 0)
    return places


@dataclass(frozen=True, slots=True)
class Layout:
    """Cells in flat arrays (N,), those of one row together; counts (B,) how many each row has.

    index: place in the row's sequence of cells; token: index of the text token it came from; read: its head is read for the
    next text token; taught: it is trained on the next text token.
    """

    embed: IntArray
    added: IntArray
    position: IntArray
    kind: IntArray
    place: IntArray
    slot: IntArray
    role: IntArray
    row: IntArray
    col: IntArray
    index: IntArray
    token: IntArray
    read: BoolArray
    taught: BoolArray
    counts: IntArray


def lay(
    strategy: Strategy, alphabet: Alphabet, stream: Stream, *, before: IntArray, carried: BoolArray, final: BoolArray
) -> Layout:
    """Weave a stream of text tokens into the cells that must be fed now.

    before (B,): cells that each row already holds. carried (n,): tokens of which only the owed cells are still to be fed (the
    last token of an earlier call). final (n,): tokens whose own owed cells are not fed yet.
    """
    woven = strategy.weave(stream.ids, stream.roles, stream.places)
    cell = np.arange(len(woven.source))
    last_read = np.full(len(stream.ids), -1, dtype=np.int64)
    last_read[woven.source[woven.read]] = cell[woven.read]  # later cells overwrite earlier ones
    assert (last_read >= 0).all(), "weave must mark a cell of every text token as read"
    behind = cell > last_read[woven.source]
    kept = ~((final[woven.source] & behind) | (carried[woven.source] & ~behind))
    token = woven.source[kept]
    row = stream.row[token]
    counts = np.bincount(row, minlength=len(before))
    col = np.arange(len(row)) - np.concatenate([[0], np.cumsum(counts)[:-1]])[row]
    index = before[row] + col
    embed, added = (_named_ids(x[kept], alphabet) for x in (woven.embed, woven.added))
    position, slot = woven.position[kept], woven.slot[kept]
    kind = woven.kind[kept].copy()
    own = (slot == 0) & (kind != THOUGHT)
    kind[own & (embed >= alphabet.text_end)] = SPECIAL
    kind[own & (embed >= alphabet.sayable_end)] = PAUSE
    read = woven.read[kept] & ~carried[token]
    return Layout(
        embed, added, np.where(position == NOTHING, index, position), kind, stream.places[token], slot,
        stream.roles[token], row, col, index, token, read, woven.taught[kept] & ~carried[token], counts,
    )  # fmt: skip


def _named_ids(ids: IntArray, alphabet: Alphabet) -> IntArray:
    """-j -> the id of the j-th inserted-only special."""
    named = (ids < 0) & (ids != NOTHING)
    return np.where(named, alphabet.sayable_end - 1 - ids, ids) if named.any() else ids


@dataclass(frozen=True, slots=True)
class Reads:
    """Where heads are read: R states for T text tokens.

    group (R,): which of the T a state belongs to; slot (R,): the number of its thought; cells (R,): its index among the pass's
    cells, for the bill. notes: numbers (N,) for the record by name, NaN where a cell has none; filled by strategies when asking.
    """

    group: Tensor
    slot: Tensor
    cells: IntArray
    count: int
    bill: Bill
    notes: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cells:
    """One forward pass's cells as tensors.

    embed, added, position: (N',), added None where nothing is; the first ``count`` are cells, the rest padding that repeats
    cell 0. shape: (B, Q), the padded queries. flat (N',): row * Q + col, None when cells fill (B, Q) exactly. needed (R',):
    cells whose final state is read, ``reads`` describes the first R: the taught ones in training, with their targets (R,),
    else those where the next text token is read. first_row, keys: the slots' rows [first_row, first_row + B) hold these
    sequences and ``keys`` of their columns are attended.
    """

    embed: Tensor
    added: Tensor | None
    position: Tensor
    count: int
    shape: tuple[int, int]
    flat: Tensor | None
    needed: Tensor
    targets: Tensor
    reads: Reads
    bill: Bill
    layout: Layout
    first_row: int = 0
    keys: int = 0
    key_facts: View | None = None

    def query_view(self) -> View:
        """Facts about the queries, padded to (B, Q)."""
        return _padded_view(self.layout, self.shape, self.embed.device, pad_index=-1)

    def key_view(self) -> View:
        """Facts about the keys: the slots' when there are slots, else the cells themselves, (B, K)."""
        return self.key_facts or _padded_view(self.layout, self.shape, self.embed.device, pad_index=FAR)


def _padded_view(layout: Layout, shape: tuple[int, int], device: torch.device, *, pad_index: int) -> View:
    """Flat facts as padded tensors (B, Q)."""

    def pad(values: IntArray, fill: int) -> Tensor:
        out = np.full(shape, fill, dtype=np.int64)
        out[layout.row, layout.col] = values
        return torch.from_numpy(out).to(device)

    return View(pad(layout.index, pad_index), pad(layout.place, 0), pad(layout.kind, 0), pad(layout.slot, 0))


def make_cells(
    layout: Layout,
    *,
    bill: Bill,
    device: torch.device,
    next_ids: IntArray | None = None,
    first_row: int = 0,
    keys: int = 0,
    key_facts: View | None = None,
) -> Cells:
    """Tensors of a layout.

    next_ids (tokens,), in training: each text token's successor, or -1 where that is no target. Without it the pass is one of
    asking and is padded so that its numbers do not depend on its company (see `harness.session`).
    """
    asking = next_ids is None
    if next_ids is None:
        chosen, targets = np.flatnonzero(layout.read), np.zeros(0, dtype=np.int64)
    else:
        chosen = np.flatnonzero(layout.taught & (next_ids[layout.token] >= 0))
        targets = next_ids[layout.token[chosen]]
    rows, queries = len(layout.counts), int(layout.counts.max(initial=0))
    queries = max(queries, MIN_QUERIES) if asking else queries

    def put(values: IntArray, *, pad: bool = False) -> Tensor:
        tensor = torch.from_numpy(values).to(device)
        extra = -len(values) % ROW_MULTIPLE if pad and asking else 0
        return torch.cat([tensor, tensor[:1].expand(extra)]) if extra else tensor

    dense = not asking and len(layout.row) == rows * queries
    group = np.cumsum(np.diff(layout.token[chosen], prepend=-1) != 0) - 1
    reads = Reads(put(group), put(layout.slot[chosen]), chosen, int(group[-1]) + 1 if len(group) else 0, bill)
    return Cells(
        embed=put(layout.embed, pad=True),
        added=put(layout.added, pad=True) if (layout.added >= 0).any() else None,
        position=put(layout.position, pad=True),
        count=len(layout.row),
        shape=(rows, queries),
        flat=None if dense else put(layout.row * queries + layout.col, pad=True),
        needed=put(chosen, pad=True),
        targets=put(targets),
        reads=reads,
        bill=bill,
        layout=layout,
        first_row=first_row,
        keys=keys,
        key_facts=key_facts,
    )
