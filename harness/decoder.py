"""Rows of text being decoded: feeding tokens, marking, rewinding; every forward pass of asking goes through `feed`.

Same answers in any company: linears run on a multiple of 4 rows, attention on keys rounded up to a multiple of 8 (at least 16)
and at least 4 queries, so on CPU a row's numbers do not depend on the rows beside it, nor on how its text was cut into feeds
(`bit_stable` in `harness.evaluate` tests that at start-up). Knows nothing of solvers, sampling or problems.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.accounts import Accounts
from harness.backbone import Backbone
from harness.bounds import bounds_of, rows_of
from harness.cells import Layout, lay, make_cells, named
from harness.live_rows import LiveRows
from harness.meter import ANSWER, PREFILL, SCORE, THINK, VERIFY, Bill
from harness.problem import ROLES
from harness.rows import Feed, Shape, Snapshot, grouped, joined
from harness.slots import rounded_keys
from harness.strategy import PAUSE, THOUGHT, Strategy, Woven
from harness.stream import Stream
from harness.trace import TraceLog

IntArray = NDArray[np.int64]
_CLASS_OF_ROLE = np.array([{"prompt": PREFILL, "thought": THINK, "answer": ANSWER}[r] for r in ROLES])


class Decoder(LiveRows):
    """Live rows that are fed, the ``accounts`` that pay, and the ``log`` of all cells, unless nothing is to be traced."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        reference_layers: int,
        bounded: bool = False,
        keep_states: bool = False,
        traced: bool = True,
    ) -> None:
        super().__init__(backbone, bounded=bounded, keep_states=keep_states)
        self.strategy, self.alphabet, self.reference_layers = backbone.strategy, backbone.alphabet, reference_layers
        self._weaves = type(self.strategy).weave is not Strategy.weave
        self._sees = type(self.strategy).sight is not Strategy.sight
        self._most = cells_per_token(self.strategy)
        self._shape = Shape(self._most, backbone.heads, backbone.outputs, bounds_of(backbone.device))
        self.accounts, self.log = Accounts(), TraceLog(kept=traced)
        self._turns = 0

    def owes(self, row: int) -> bool:
        """Whether thoughts behind the last token are still to be fed."""
        if not self._weaves:
            return False
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

    def rewind(self, row: int, mark: Snapshot) -> None:
        """Back to a mark."""
        self.slots.lengths[row], self._last[row], self.texts[row] = mark.length, mark.last, mark.texts
        self.logits[row] = mark.logits

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
        self._turns += 1
        self._make_room(feeds)
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

    def _make_room(self, feeds: Sequence[Feed]) -> None:
        most = self._most
        cells = max((int(self.slots.lengths[f.row]) + most * (len(f.ids) + 1) for f in feeds), default=0)
        if self.bounded and cells > self.slots.cells:
            cells = max(int(self.slots.lengths[f.row]) + len(self._lay([f])[0].row) for f in feeds)
            if cells > self.slots.cells:
                raise ValueError(f"a row holds {cells} cells, more than its strategy's `holding` foresees ({self.slots.cells})")
        else:
            self.slots.ensure(0, cells)

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
        row = layout.row + first
        charge[self.verifies[row]] = VERIFY
        account = self.account[row]
        bill = Bill(accounts=account, classes=charge, cells_so_far=layout.index + 1, n_accounts=len(self.accounts.passes))
        if self._sees:
            self.slots.put_facts(first, layout)
        self.slots.lengths[first : first + span] += layout.counts
        keys = rounded_keys(int(layout.index.max()) + 1)
        facts = self.slots.key_facts(first, span, keys) if self._sees else None
        cells = make_cells(layout, bill=bill, device=self.backbone.device, first_row=first, keys=keys, key_facts=facts)
        states = self.strategy.forward(self.backbone, cells, self.slots)
        every: dict[int, Tensor] = {}
        if cells.reads.count:
            logits = self.strategy.readout(self.backbone, states[: len(cells.reads.cells)], cells.reads)
            every = self._keep_logits(feeds, layout, stream, logits)
            if self.states.shape[1]:
                ends = np.flatnonzero(np.diff(row[cells.reads.cells], append=-1))
                self.states[torch.from_numpy(row[cells.reads.cells[ends]])] = states[torch.from_numpy(ends)]
        notes = {name: values.cpu().numpy() for name, values in cells.reads.notes.items()}
        self.log.add(layout, turn=self._turns, accounts=account, charge=charge, rows=self._number[row], notes=notes)
        self.spent_flops += np.bincount(row, bill.each_flops, minlength=len(self.spent_flops))
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
                start, stop = np.searchsorted(of_place, [f.row - first, f.row - first + 1])  # a row's places stand together
                every[f.row] = logits[start:stop]
        return every

    def _remember(self, feeds: Sequence[Feed]) -> None:
        for f in feeds:
            if len(f.ids):
                self._last[f.row] = (int(f.ids[-1]), int(f.roles[-1]), int(f.places[-1]), self._weaves)
                self.texts[f.row] = int(f.places[-1]) + 1
            else:
                self._last[f.row] = (*self._last[f.row][:3], False)


def cells_per_token(strategy: Strategy) -> int:
    """The most cells that a text token becomes."""
    one = np.zeros(1, dtype=np.int64)
    return max(len(strategy.weave(one, one + i, one).source) for i in range(len(ROLES)))


def suiting_rows(backbone: Backbone) -> int:
    """How many rows of a model suit its device side by side."""
    cells = backbone.context_tokens * cells_per_token(backbone.strategy)
    return rows_of(backbone.device, cells=cells, bytes_per_cell=backbone.new_slots().bytes_per_cell)
