"""What the decoder's callers hand it and get back: feeds and snapshots; and which feeds go through one forward pass.

Knows sizes; knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.bounds import CPU, Bounds
from harness.stream import Stream

SHORT_TOKENS = 8  # feeds of more tokens go through forwards of their own


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to feed to one row. With no ids, only the owed thoughts are fed. scored: these are a likelihood's continuation.

    every: read the next token's distribution after every token, not only after the last one.
    """

    row: int
    ids: Sequence[int]
    roles: Sequence[int]
    places: Sequence[int]
    scored: bool = False
    every: bool = False

    @property
    def reads(self) -> int:
        """At most so many logits are asked for."""
        return len(self.ids) + 1 if self.every else 1

    def without_last(self) -> Feed:
        """All but the last token: behind a scored text's last one nothing is read."""
        return Feed(self.row, self.ids[:-1], self.roles[:-1], self.places[:-1], self.scored, self.every)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a text is to be fed: see Feed."""

    scored: bool = False
    every: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A row's state, for `rewind`."""

    length: int
    last: tuple[int, int, int, bool]
    texts: int
    logits: Tensor


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how large a forward is: cells that a text token may become, heads, outputs, and what the device takes."""

    cells_per_token: int
    heads: int
    outputs: int
    bounds: Bounds = CPU

    def fits(self, *, rows: int, span: int, tokens: int, reads: int, held_cells: int) -> bool:
        """Whether one forward may take ``rows`` rows within ``span`` slots, of at most ``tokens`` tokens each, read ``reads``
        times in all."""
        cells = tokens * self.cells_per_token
        floats = max(span * self.heads * cells * (held_cells + cells), reads * self.outputs)
        most = self.bounds.forward_rows
        return rows <= most and span <= 2 * most and floats <= self.bounds.forward_floats


def grouped(feeds: Sequence[Feed], lengths: NDArray[np.int64], shape: Shape) -> list[list[Feed]]:
    """Feeds that go through one forward, within the memory limit; ways that pad least: by length, or rows near each other.

    lengths (rows,): cells that each row holds. Each group is in the order of its rows.
    """
    if len(feeds) == 1:
        return [list(feeds)]
    ordered = sorted(feeds, key=lambda f: f.row)
    short, long = ([f for f in ordered if (len(f.ids) > SHORT_TOKENS) == wanted] for wanted in (False, True))
    if not long:
        return _cut(ordered, lengths, shape)
    apart, by_length = _cut(short, lengths, shape), sorted(long, key=lambda f: len(f.ids))
    ways = ([*apart, *_cut(by_length, lengths, shape)], [*apart, *_cut(long, lengths, shape)], _cut(ordered, lengths, shape))
    groups = min(ways, key=lambda way: sum(_area(group, lengths) for group in way))
    return [sorted(group, key=lambda f: f.row) for group in groups]


def _cut(feeds: Sequence[Feed], lengths: NDArray[np.int64], shape: Shape) -> list[list[Feed]]:
    """Feeds in their order, cut where a forward would become too large."""
    if feeds:
        rows, most, reads = [f.row for f in feeds], max([len(f.ids) for f in feeds]) + 1, sum([f.reads for f in feeds])
        held = int(lengths[rows].max())
        if shape.fits(rows=len(rows), span=max(rows) - min(rows) + 1, tokens=most, reads=reads, held_cells=held):
            return [list(feeds)]
    groups: list[list[Feed]] = []
    group: list[Feed] = []
    low = high = longest = reads = held = 0
    for f in feeds:
        low, high = (min(low, f.row), max(high, f.row)) if group else (f.row, f.row)
        longest, reads, held = max(longest, len(f.ids) + 1), reads + f.reads, max(held, int(lengths[f.row]))
        if group and not shape.fits(rows=len(group) + 1, span=high - low + 1, tokens=longest, reads=reads, held_cells=held):
            groups.append(group)
            group, low, high, longest, reads, held = [], f.row, f.row, len(f.ids) + 1, f.reads, int(lengths[f.row])
        group.append(f)
    return [*groups, group] if group else groups


def _area(feeds: Sequence[Feed], lengths: NDArray[np.int64]) -> int:
    """About how many pairs attention pads a group to."""
    rows, longest = [f.row for f in feeds], max(len(f.ids) for f in feeds)
    return (max(rows) - min(rows) + 1) * longest * (int(lengths[rows].max()) + longest)


def joined(feeds: Sequence[Feed]) -> tuple[Stream, NDArray[np.bool_]]:
    """The tokens of feeds, one feed after another, rows counted from the first one's; and those behind which logits are asked."""
    if len(feeds) == 1:
        tokens = np.array((feeds[0].ids, feeds[0].roles, feeds[0].places), dtype=np.int64)
    else:
        columns = ([f.ids for f in feeds], [f.roles for f in feeds], [f.places for f in feeds])
        tokens = np.array([[*chain.from_iterable(column)] for column in columns], dtype=np.int64)
    lengths, first = [len(f.ids) for f in feeds], feeds[0].row
    asked = np.repeat([f.every for f in feeds], lengths)
    asked[np.cumsum(lengths) - 1] = True
    row = np.repeat([f.row - first for f in feeds], lengths)
    return Stream(tokens[0], tokens[1], tokens[2], row, np.zeros_like(asked)), asked
