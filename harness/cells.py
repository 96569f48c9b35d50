"""From texts to cells: encoding, weaving, and the flat layout that the backbone runs on.

A *cell* is one woven position. The cells of a batch lie flat, sequence after sequence, so that linears waste nothing on
padding; attention alone uses the padded (B, Q) shape. Training and decoding use the same `lay`, so they cannot drift apart.
Knows strategies by their contract; knows no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.alphabet import Alphabet
from harness.meter import Bill
from harness.strategy import NOTHING, PAUSE, SPECIAL, THOUGHT, Strategy, View
from harness.stream import Stream

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

FAR = 1 << 30  # index of padding among keys: behind every query
ROW_MULTIPLE = 4  # linears run on a multiple of 4 rows when asking (a strategy's parts on 16, see `Backbone.part`),
KEY_MULTIPLE, MIN_KEYS, MIN_QUERIES = 8, 16, 4  # and attention on these: then results do not depend on company (measured)


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
    plain: bool = False  # text as it is: a cell a token, nothing added


def lay(
    strategy: Strategy,
    alphabet: Alphabet,
    stream: Stream,
    *,
    before: IntArray,
    carried: BoolArray,
    final: BoolArray,
    asked: BoolArray | None = None,
) -> Layout:
    """Weave a stream of text tokens into the cells that must be fed now.

    before (B,): cells that each row already holds. carried (n,): tokens of which only the owed cells are still to be fed (the
    last token of an earlier call). final (n,): tokens whose own owed cells are not fed yet. asked (n,): tokens whose successor's
    distribution is read (default all).
    """
    if type(strategy).weave is Strategy.weave:
        return _lay_plain(alphabet, stream, before, asked)
    woven = strategy.weave(named(stream.ids, alphabet), stream.roles, stream.places)
    cell = np.arange(len(woven.source))
    last_read = np.full(len(stream.ids), -1, dtype=np.int64)
    last_read[woven.source[woven.read]] = cell[woven.read]  # later cells overwrite earlier ones
    assert (last_read >= 0).all(), "weave must mark a cell of every text token as read"
    behind = cell > last_read[woven.source]
    kept = ~((final[woven.source] & behind) | (carried[woven.source] & ~behind))
    token = woven.source[kept]
    row = stream.row[token]
    counts, col = _columns(row, len(before))
    index = before[row] + col
    embed, added = (_named_ids(x[kept], alphabet) for x in (woven.embed, woven.added))
    position, slot = woven.position[kept], woven.slot[kept]
    kind = woven.kind[kept].copy()
    _name_specials(kind, embed, alphabet, (slot == 0) & (kind != THOUGHT))
    read = woven.read[kept] & ~carried[token]
    if asked is not None:
        read &= asked[token]
    return Layout(
        embed, added, np.where(position == NOTHING, index, position), kind, stream.places[token], slot,
        stream.roles[token], row, col, index, token, read, woven.taught[kept] & ~carried[token], counts,
    )  # fmt: skip


def _lay_plain(alphabet: Alphabet, stream: Stream, before: IntArray, asked: BoolArray | None) -> Layout:
    """`lay` for text as it is: a cell a token."""
    ids, row = stream.ids, stream.row
    counts, col = _columns(row, len(before))
    token, zeros, yes = np.arange(len(ids)), np.zeros_like(ids), np.ones(len(ids), dtype=bool)
    kind = zeros.copy()
    _name_specials(kind, ids, alphabet, yes)
    return Layout(
        ids, np.full(len(ids), NOTHING), stream.places, kind, stream.places, zeros,
        stream.roles, row, col, before[row] + col, token, yes if asked is None else asked, yes, counts, True,
    )  # fmt: skip


def _columns(row: IntArray, rows: int) -> tuple[IntArray, IntArray]:
    """How many cells each row has (rows,), and each cell's number within its row (n,)."""
    counts = np.bincount(row, minlength=rows)
    if rows == 1:
        return counts, np.arange(len(row))
    return counts, np.arange(len(row)) - (counts.cumsum() - counts)[row]


def _name_specials(kind: IntArray, embed: IntArray, alphabet: Alphabet, own: BoolArray) -> None:
    """Mark text tokens (``own``) that are specials or pauses."""
    beyond = own & ((embed >= alphabet.core_size) | alphabet.ends(embed))
    if beyond.any():
        kind[beyond] = SPECIAL
        kind[own & (embed >= alphabet.sayable_end)] = PAUSE


def named(ids: IntArray, alphabet: Alphabet) -> IntArray:
    """Text tokens as `Strategy.weave` gets them: the j-th inserted-only special -> -j."""
    inserted = ids >= alphabet.sayable_end
    return np.where(inserted, alphabet.sayable_end - 1 - ids, ids) if inserted.any() else ids


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
    cell 0. shape: (B, Q), the padded queries. flat (N',): row * Q + col, None when the N' fill (B, Q) in order. needed (R',):
    cells whose final state is read, ``reads`` describes the first R: the taught ones in training, with their targets (R,)
    (columns of the head), else those where the next text token is read; all_needed: these are all cells, in
    order. first_row, keys: the slots' rows [first_row, first_row + B) hold these sequences and ``keys`` of their columns are
    attended. draw: a seed of this update's own, for what training draws anew each time; None where it is to take what asking
    takes. share: of the update's targets, that stand here; weights: what means over other things are to be multiplied by
    (`Strategy.loss_counts`), empty where an update is taken whole.
    """

    embed: Tensor
    added: Tensor | None
    position: Tensor
    count: int
    shape: tuple[int, int]
    flat: Tensor | None
    needed: Tensor
    all_needed: bool
    targets: Tensor
    reads: Reads
    bill: Bill
    layout: Layout
    first_row: int = 0
    keys: int = 0
    key_facts: View | None = None
    draw: int | None = None
    share: float = 1.0
    weights: tuple[float, ...] = ()

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
    draw: int | None = None,
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
    count, rows, queries = len(layout.row), len(layout.counts), int(layout.counts.max(initial=0))
    if asking:
        queries = max(queries, MIN_QUERIES)
        queries += -queries % ROW_MULTIPLE if rows == 1 else 0  # so that a lone row needs no second padding

    def put(values: IntArray) -> Tensor:
        """Values as a tensor; when asking, padded with their first entry to a multiple of rows."""
        extra = -len(values) % ROW_MULTIPLE if asking and len(values) else 0
        padded = np.concatenate([values, values[:1].repeat(extra)]) if extra else values
        return torch.from_numpy(padded).to(device)

    padded_count = count + (-count % ROW_MULTIPLE if asking else 0)
    dense = padded_count == rows * queries and (rows == 1 or not asking)
    reads = _reads(layout, chosen, bill, device)
    embed, position, needed = put(layout.embed), put(layout.position), put(chosen)
    flat = None if dense else put(layout.row * queries + layout.col)
    return Cells(
        embed=embed,
        added=None if layout.plain or not (layout.added >= 0).any() else put(layout.added),
        position=position,
        count=count,
        shape=(rows, queries),
        flat=flat,
        needed=needed,
        all_needed=len(chosen) == count,
        targets=torch.from_numpy(targets).to(device),
        reads=reads,
        bill=bill,
        layout=layout,
        first_row=first_row,
        keys=keys,
        key_facts=key_facts,
        draw=draw,
    )


def _reads(layout: Layout, chosen: IntArray, bill: Bill, device: torch.device) -> Reads:
    """The heads that are read at the ``chosen`` cells."""
    token = layout.token[chosen]
    group = np.arange(len(token))
    if not layout.plain:
        group[:1] = 0
        np.cumsum(token[1:] != token[:-1], out=group[1:])
    groups, slots = (torch.from_numpy(x).to(device) for x in (group, layout.slot[chosen]))
    return Reads(groups, slots, chosen, int(group[-1]) + 1 if len(group) else 0, bill)
