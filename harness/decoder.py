"""Rows of text being decoded: feeding tokens, forking, rewinding, dropping; every forward pass of asking goes through `feed`.

Same answers in any company: linears run on a multiple of 4 rows, attention on keys rounded up to a multiple of 8 (at least 16)
and at least 4 queries, so on CPU a row's numbers do not depend on the rows beside it, nor on how its text was cut into feeds
(`bit_stable` in `harness.evaluate` tests that at start-up). Knows nothing of solvers, sampling or problems.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.accounts import Accounts
from harness.backbone import Backbone
from harness.cells import Layout, lay, make_cells, named
from harness.meter import ANSWER, PREFILL, SCORE, THINK, Bill
from harness.problem import ROLES
from harness.rows import Feed, Shape, Snapshot, Trace, grouped, joined
from harness.slots import rounded_keys
from harness.strategy import PAUSE, THOUGHT, Strategy, Woven
from harness.stream import Stream

IntArray = NDArray[np.int64]
_CLASS_OF_ROLE = np.array([{"prompt": PREFILL, "thought": THINK, "answer": ANSWER}[r] for r in ROLES])


class Decoder:
    """Live rows over one set of slots. ``account`` (rows,) says which of the ``accounts`` pays for a row."""

    def __init__(self, backbone: Backbone, *, reference_layers: int) -> None:
        self.backbone, self.strategy, self.alphabet = backbone, backbone.strategy, backbone.alphabet
        self.reference_layers = reference_layers
        self.slots = backbone.new_slots()
        self._weaves = type(self.strategy).weave is not Strategy.weave
        self._sees = type(self.strategy).sight is not Strategy.sight
        one = np.zeros(1, dtype=np.int64)
        cells_per_token = max(len(self.strategy.weave(one, one + i, one).source) for i in range(len(ROLES)))
        self._shape = Shape(cells_per_token, backbone.heads, backbone.outputs)
        self._free: list[int] = []
        self.live: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.account: IntArray = np.zeros(0, dtype=np.int64)
        self._last: list[tuple[int, int, int, bool]] = []  # id, role, place, whether its owed thoughts are still owed
        self.texts: IntArray = np.zeros(0, dtype=np.int64)
        self._trace_from: IntArray = np.zeros(0, dtype=np.int64)
        self.logits = torch.zeros(0, backbone.outputs, device=backbone.device)
        self.accounts = Accounts()
        self._grow(16)

    # Rows

    def new_row(self, account: int) -> int:
        """An empty row."""
        if not self._free:
            self._grow(2 * len(self.live))
        row = heapq.heappop(self._free)
        for notes in self.slots.notes.values():
            notes[row] = np.nan  # not a former holder's, where a pass notes nothing
        self.live[row], self.account[row], self.texts[row], self._trace_from[row] = True, account, 0, 0
        self.slots.lengths[row], self._last[row] = 0, (0, 0, 0, False)
        return row

    @property
    def live_rows(self) -> int:
        """How many rows are in use."""
        return len(self.live) - len(self._free)

    def _grow(self, rows: int) -> None:
        old = len(self.live)
        self.slots.ensure(rows, max(self.slots.cells, 16))
        more = rows - old
        self.live = np.concatenate([self.live, np.zeros(more, dtype=bool)])
        self.account, self.texts, self._trace_from = (
            np.concatenate([x, np.zeros(more, dtype=np.int64)]) for x in (self.account, self.texts, self._trace_from)
        )
        self._last += [(0, 0, 0, False)] * more
        self.logits = torch.cat([self.logits, self.logits.new_zeros(more, self.logits.shape[1])])
        for row in range(old, rows):
            heapq.heappush(self._free, row)

    def drop(self, row: int) -> Trace:
        """Free a row; returns the trace of the cells that were computed for it."""
        trace = self._trace(row, int(self._trace_from[row]))
        self.live[row] = False
        self.slots.lengths[row] = 0
        heapq.heappush(self._free, row)
        return trace

    def _trace(self, row: int, start: int) -> Trace:
        """The row's cells from ``start`` on, which are then the trace's, not the row's."""
        span = slice(start, int(self.slots.lengths[row]))
        cells = self.slots.facts_of(row, span)
        notes = {}
        for name, values in self.slots.notes.items():
            noted = values[row, : self.slots.lengths[row]][start:]
            notes[name] = noted[~np.isnan(noted)].tolist()
            values[row, span] = np.nan
        return Trace(cells, notes)

    def compact(self) -> dict[int, int]:
        """Move rows together when more than half of the span is empty; returns old -> new row numbers."""
        if len(self.live) <= 16:
            return {}
        used = np.flatnonzero(self.live)
        if not len(used) or used[-1] + 1 < 2 * len(used) or used[-1] < 16:
            return {}
        moved: dict[int, int] = {}
        for row in used[::-1].tolist():
            if self._free[0] > row:
                break
            moved[row] = heapq.heapreplace(self._free, row)
        sources, targets = list(moved), list(moved.values())
        self._copy(sources, targets)
        self._trace_from[targets] = self._trace_from[sources]
        self.live[sources], self.slots.lengths[sources] = False, 0
        return moved

    def _copy(self, sources: list[int], targets: list[int]) -> None:
        self.slots.copy(sources, targets)
        self.logits[targets] = self.logits[sources]
        for facts in (self.live, self.account, self.texts):
            facts[targets] = facts[sources]
        for source, target in zip(sources, targets, strict=True):
            self._last[target] = self._last[source]

    def fork(self, row: int, count: int) -> list[int]:
        """``count`` rows that continue from this one, itself the first. Owed thoughts must have been fed (see `owes`)."""
        rows = [self.new_row(int(self.account[row])) for _ in range(count - 1)]
        if rows:
            self._copy([row] * len(rows), rows)
            self._trace_from[rows] = self.slots.lengths[row]
        return [row, *rows]

    def owes(self, row: int) -> bool:
        """Whether thoughts behind the last token are still to be fed."""
        *token, owing = self._last[row]
        woven = self._woven(*([x] for x in token))
        return owing and not woven.read[-1]

    def _woven(self, ids: Sequence[int], roles: Sequence[int], places: Sequence[int]) -> Woven:
        ids_, roles_, places_ = (np.array(x, dtype=np.int64) for x in (ids, roles, places))
        return self.strategy.weave(named(ids_, self.alphabet), roles_, places_)

    def mark(self, row: int) -> Snapshot:
        """The row's present state."""
        return Snapshot(int(self.slots.lengths[row]), self._last[row], int(self.texts[row]), self.logits[row].clone())

    def marks(self, row: int, feed: Feed, every: Tensor) -> list[Snapshot]:
        """A mark behind each token of the row's last feed, given the logits (n, V) that it asked for.

        Cells behind a token's last read are fed with the next token, so a mark stands before them and owes them.
        """
        woven = self._woven(feed.ids, feed.roles, feed.places)
        ends = np.zeros(len(feed.ids), dtype=np.int64)
        ends[woven.source[woven.read]] = np.flatnonzero(woven.read) + 1  # later reads overwrite earlier ones
        first = int(self.slots.lengths[row]) - int(ends[-1])
        facts = zip(feed.ids, feed.roles, feed.places, strict=True)
        return [
            Snapshot(first + end, (*fact, self._weaves), fact[2] + 1, logits.clone())
            for end, fact, logits in zip(ends.tolist(), facts, every, strict=True)
        ]

    def rewind(self, row: int, mark: Snapshot) -> Trace:
        """Back to a mark; returns the trace of what is left behind."""
        left = self._trace(row, max(mark.length, int(self._trace_from[row])))
        self.slots.lengths[row], self._last[row], self.texts[row] = mark.length, mark.last, mark.texts
        self._trace_from[row] = min(int(self._trace_from[row]), mark.length)  # a fork may go back to before it was made
        self.logits[row] = mark.logits
        return left

    def logits_of(self, rows: list[int]) -> Tensor:
        """The next token's logits (n, V) of rows."""
        if len(rows) == 1:
            return self.logits[rows[0] : rows[0] + 1]
        return self.logits.index_select(0, torch.tensor(rows, device=self.logits.device))

    # Feeding

    def feed(self, feeds: Sequence[Feed]) -> tuple[dict[int, Tensor], set[int]]:
        """Feed tokens to rows, in as few forwards as memory allows.

        Returns logits (n, V) of the rows that asked for every one, by row, and the rows whose account cannot pay: nothing was
        fed to those. Each account that took part gets one serial pass for all of this.
        """
        every: dict[int, Tensor] = {}
        broke: set[int] = set()
        ticks = np.zeros(len(self.accounts.passes))
        most = self._shape.cells_per_token
        self.slots.ensure(0, max((int(self.slots.lengths[f.row]) + most * (len(f.ids) + 1) for f in feeds), default=0))
        for group in grouped(feeds, self.slots.lengths, self._shape):
            layout, stream = self._lay(group)
            if np.isfinite(self.accounts.limits[self.account[[f.row for f in group]]]).any():
                broke |= (short := self._cannot_pay(group, layout))
                if short:
                    group = [f for f in group if f.row not in short]
                    if not group:
                        continue
                    layout, stream = self._lay(group)
            every |= self._forward(group, layout, stream, ticks)
        self.accounts.passes += ticks
        self.accounts.hold(self.account[self.live], self.slots.lengths[self.live])
        return every, broke

    def _lay(self, feeds: Sequence[Feed]) -> tuple[Layout, Stream]:
        """Layout of the group's new cells; its rows count from the group's first row."""
        first, last = feeds[0].row, feeds[-1].row
        if not self._weaves and all(len(f.ids) for f in feeds):  # nothing is ever owed
            stream, asked = joined(feeds)
            before = self.slots.lengths[first : last + 1]
            return lay(self.strategy, self.alphabet, stream, before=before, carried=asked, final=asked, asked=asked), stream
        flat: list[tuple[int, int, int]] = []
        counts, ends = [], []
        carried_at = []
        for f in feeds:
            start = len(flat)
            *token, owing = self._last[f.row]
            if owing:
                carried_at.append(start)
                flat.append((token[0], token[1], token[2]))
            flat += zip(f.ids, f.roles, f.places, strict=True)
            counts.append(len(flat) - start)
            if len(f.ids):
                ends.append(len(flat) - 1)
        ids, roles, places = np.array(flat, dtype=np.int64).reshape(-1, 3).T.copy()
        row = np.repeat([f.row - first for f in feeds], counts)
        carried, final = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
        carried[carried_at] = True
        final[ends] = True
        asked = final | np.repeat([f.every for f in feeds], counts) if any(f.every for f in feeds) else final
        stream = Stream(ids, roles, places, row, np.zeros_like(final))  # asking has no targets
        before = self.slots.lengths[first : last + 1]
        layout = lay(self.strategy, self.alphabet, stream, before=before, carried=carried, final=final, asked=asked)
        return layout, stream

    def _cannot_pay(self, feeds: Sequence[Feed], layout: Layout) -> set[int]:
        """Rows of accounts that this layout would take past their limits."""
        flops = self.backbone.asked_flops(layout.index + 1, layout.read.astype(np.int64))
        account = self.account[layout.row + feeds[0].row]
        short = self.accounts.short_of(account, flops)
        return {f.row for f in feeds if short[self.account[f.row]]}

    @torch.inference_mode()
    def _forward(self, feeds: list[Feed], layout: Layout, stream: Stream, ticks: NDArray[np.float64]) -> dict[int, Tensor]:
        """One forward pass; keeps the last logits of each row, returns all of those that asked for every one."""
        first, span = feeds[0].row, feeds[-1].row - feeds[0].row + 1
        woven = (layout.kind == THOUGHT) | (layout.kind == PAUSE)
        charge = _CLASS_OF_ROLE[layout.role]
        if any(f.scored for f in feeds):
            scored = np.zeros(span, dtype=bool)
            scored[[f.row - first for f in feeds]] = [f.scored for f in feeds]
            charge[scored[layout.row] & (layout.role == ROLES.index("answer"))] = SCORE
        charge[woven] = THINK
        account = self.account[layout.row + first]
        bill = Bill(accounts=account, classes=charge, cells_so_far=layout.index + 1, n_accounts=len(self.accounts.passes))
        self.slots.put_facts(np.arange(first, first + span), layout, charge)
        keys = rounded_keys(int(layout.index.max()) + 1)
        facts = self.slots.key_facts(first, span, keys) if self._sees else None
        cells = make_cells(layout, bill=bill, device=self.backbone.device, first_row=first, keys=keys, key_facts=facts)
        states = self.strategy.forward(self.backbone, cells, self.slots)
        every: dict[int, Tensor] = {}
        if cells.reads.count:
            logits = self.strategy.readout(self.backbone, states[: len(cells.reads.cells)], cells.reads)
            every = self._keep_logits(feeds, layout, stream, logits)
        if cells.reads.notes:
            self.slots.put_notes(first, layout, cells.reads.notes)
        self.accounts.book(bill, account, woven)
        ticks[account] = np.maximum(ticks[account], bill.block_applications / self.reference_layers)
        self._remember(feeds)
        return every

    def _keep_logits(self, feeds: list[Feed], layout: Layout, stream: Stream, logits: Tensor) -> dict[int, Tensor]:
        """Keep the last logits (T, V) of each row; return all of those that asked for every one."""
        every: dict[int, Tensor] = {}
        if not any(f.every for f in feeds):
            rows = [f.row for f in feeds if len(f.ids)]
            if len(rows) == 1:
                self.logits[rows[0]] = logits[0]
            else:
                self.logits.index_copy_(0, torch.tensor(rows, device=logits.device), logits)
            return every
        first = feeds[0].row
        of_place = stream.row[np.unique(layout.token[layout.read])]
        ends = np.flatnonzero(np.diff(of_place, append=-1))
        self.logits[torch.from_numpy(of_place[ends] + first)] = logits[torch.from_numpy(ends)]
        for f in feeds:
            if f.every:
                every[f.row] = logits[torch.from_numpy(np.flatnonzero(of_place == f.row - first))]
        return every

    def _remember(self, feeds: Sequence[Feed]) -> None:
        for f in feeds:
            if len(f.ids):
                self._last[f.row] = (int(f.ids[-1]), int(f.roles[-1]), int(f.places[-1]), self._weaves)
                self.texts[f.row] = int(f.places[-1]) + 1
            else:
                self._last[f.row] = (*self._last[f.row][:3], False)
