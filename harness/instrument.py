"""How much later text attends to each cell: an instrument, run once over recorded traces after the examination.

It feeds a trace's tokens in one pass of its own and charges nobody. Knows traces of one row (a window's, for documents); of a
search's rows it says nothing, nor whether attention explains an answer: it is a picture of where the model looked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from harness import storage
from harness.backbone import Backbone
from harness.cells import Cells
from harness.decoder import Decoder
from harness.lines import TRACE_COLUMNS, Line, trace_json, written
from harness.problem import ROLES
from harness.rows import Feed
from harness.strategy import THOUGHT
from harness.trace import Trace

ATTENTION = "attention.jsonl"
DIGITS = 4
BATCH_ROWS = 64


class Probe:
    """Sums what attention gives to each cell: over layers and passes, as a mean over heads; by row and index of the cell."""

    def __init__(self, rows: int, cells: int) -> None:
        self.given = np.zeros((rows, cells))
        self.looks = np.zeros((rows, cells))

    def add(self, probabilities: Tensor, cells: Cells) -> None:
        """One layer's probabilities (B * H, Q, K) of a pass over slots."""
        layout, (rows, queries) = cells.layout, cells.shape
        text = np.zeros((rows, queries), dtype=bool)
        index = np.zeros((rows, queries), dtype=np.int64)
        text[layout.row, layout.col] = layout.kind != THOUGHT
        index[layout.row, layout.col] = layout.index
        keys = probabilities.shape[-1]
        later = text[:, :, None] & (index[:, :, None] > np.arange(keys))  # (B, Q, K)
        mean = probabilities.view(rows, -1, queries, keys).mean(1).cpu().numpy()
        held = slice(cells.first_row, cells.first_row + rows)
        self.given[held, :keys] += (mean * later).sum(1)
        self.looks[held, :keys] += later.sum(1)

    def mean(self, row: int, count: int) -> list[float | None]:
        """Of a row's first cells: the mean weight that a later text token gives each; None where no text follows."""
        given, looks = self.given[row, :count].tolist(), self.looks[row, :count].tolist()
        return [round(g / n, DIGITS) if n else None for g, n in zip(given, looks, strict=True)]


def write_attention(backbone: Backbone, traces: Sequence[Line], path: Path) -> None:
    """A line for each trace: its id, and by cell the mean weight that later text tokens give it; null where it cannot be told.

    Nothing is written of a model that is asked as it is.
    """
    if backbone.as_it_is:
        return
    parts = [(number, part) for number, trace in enumerate(traces) for part in _sequences(trace)]
    found: list[list[float | None] | None] = [[] for _ in traces]
    for start in range(0, len(parts), BATCH_ROWS):
        batch = parts[start : start + BATCH_ROWS]
        for (number, _), received in zip(batch, _received(backbone, [part for _, part in batch]), strict=True):
            before = found[number]
            found[number] = None if before is None or received is None else before + received
    lines = [{"id": trace["id"], "received": given or None} for trace, given in zip(traces, found, strict=True)]
    storage.replace_file(path, "".join(map(written, lines)).encode())


def _sequences(trace: Line) -> Iterator[Line]:
    """A trace cut where a new sequence begins."""
    starts = [at for at, index in enumerate(trace["index"]) if index == 0 and trace["row"][at] == 0]
    for start, stop in pairwise([*starts, len(trace["index"])]):  # none, where a cap let nothing be fed
        yield {name: trace[name][start:stop] for name in TRACE_COLUMNS}


def _received(backbone: Backbone, parts: Sequence[Line]) -> list[list[float | None] | None]:
    """Of each sequence; None for those of several rows, and where one pass would not lay the cells that were fed."""
    decoder = Decoder(backbone, reference_layers=backbone.layers)
    feeds, accounts = {}, {}
    for number, part in enumerate(parts):
        if not any(part["row"]):
            accounts[number] = decoder.accounts.open(np.inf)
            feeds[number] = _feed(part, decoder.new_row(accounts[number]))
    decoder.slots.ensure(len(decoder.live), max((len(part["index"]) for part in parts), default=0) + 1)
    probe = Probe(len(decoder.live), decoder.slots.cells)
    with backbone.probed(probe.add):
        decoder.feed(list(feeds.values()))
    found: list[list[float | None] | None] = [None] * len(parts)
    for number, feed in feeds.items():
        if _same(parts[number], decoder.log.take(accounts[number], 0)):
            found[number] = probe.mean(feed.row, len(parts[number]["index"]))
    return found


def _feed(part: Line, row: int) -> Feed:
    """The tokens of a sequence's cells: all but thoughts, which are woven in anew."""
    tokens = [at for at, token in enumerate(part["t"]) if token is not None]
    roles = [[role[0] for role in ROLES].index(part["role"][at]) for at in tokens]
    return Feed(row, [part["t"][at] for at in tokens], roles, [part["place"][at] for at in tokens])


def _same(part: Line, laid: Trace) -> bool:
    """Whether one pass laid the cells that were recorded."""
    again = trace_json(laid)
    return all(part[name] == again[name] for name in ("t", "kind", "place", "index"))
