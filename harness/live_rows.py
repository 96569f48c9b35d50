"""The rows that are being decoded: made, forked, dropped, moved together; with the slots that hold their cells.

Knows what a row holds; feeds nothing, and knows no text.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
from numpy.typing import NDArray

from harness.backbone import Backbone

IntArray = NDArray[np.int64]


class LiveRows:
    """Rows over one set of slots, by number.

    Of each: ``account``, who pays; ``texts``, text tokens so far; ``verifies``, whether it is an evaluator's, so that all its
    cells are verification; ``spent_flops`` on cells of its own since somebody last asked; ``logits`` (rows, V) of its next token;
    ``states`` (rows, D), the last one that was read, where a value model wants it or ``keep_states`` says so (else of width 0).
    bounded: slots have the size that `resized` gave them, and are never made larger.
    """

    def __init__(self, backbone: Backbone, *, bounded: bool = False, keep_states: bool = False) -> None:
        self.backbone, self.slots, self.bounded = backbone, backbone.new_slots(), bounded
        self.live: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.verifies: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.account: IntArray = np.zeros(0, dtype=np.int64)
        self.texts: IntArray = np.zeros(0, dtype=np.int64)
        self.spent_flops: NDArray[np.float64] = np.zeros(0)
        self.logits = torch.zeros(0, backbone.outputs, device=backbone.device)
        kept = backbone.width if keep_states or backbone.value is not None else 0
        self.states = torch.zeros(0, kept, device=backbone.device)
        self._last: list[tuple[int, int, int, bool]] = []  # id, role, place, whether its owed thoughts are still owed
        self._free: list[int] = []
        self._number: IntArray = np.zeros(0, dtype=np.int64)  # rows ever made before this one
        self._made = 0
        if not bounded:
            self._grow(16)

    def new_row(self, account: int) -> int:
        """An empty row."""
        if not self._free:
            self._grow(len(self.live) + max(16, len(self.live) // 2))
        row = heapq.heappop(self._free)
        self.live[row], self.verifies[row], self.account[row], self.texts[row] = True, False, account, 0
        self.slots.lengths[row], self._last[row] = 0, (0, 0, 0, False)
        self._number_rows([row])
        return row

    def _number_rows(self, rows: list[int]) -> None:
        """Rows that hold nothing of their own as yet."""
        self._number[rows] = np.arange(self._made, self._made + len(rows))
        self.spent_flops[rows] = 0
        self._made += len(rows)

    @property
    def live_rows(self) -> int:
        """How many rows are in use."""
        return len(self.live) - len(self._free)

    def _grow(self, rows: int) -> None:
        if self.bounded:
            raise ValueError(f"a problem holds more rows than its strategy's `holding` foresees ({len(self.live)} in all)")
        self.slots.ensure(rows, max(self.slots.cells, 16))
        self._take_rows(rows)

    def _take_rows(self, rows: int) -> None:
        """Facts for ``rows`` rows, as the slots have."""
        more = rows - len(self.live)
        for name in ("live", "verifies", "account", "texts", "spent_flops", "_number"):
            facts = getattr(self, name)
            setattr(self, name, np.concatenate([facts, np.zeros(max(more, 0), dtype=facts.dtype)])[:rows])
        self._last = (self._last + [(0, 0, 0, False)] * max(more, 0))[:rows]
        self.logits, self.states = (
            torch.cat([x[:rows], x.new_zeros(max(more, 0), x.shape[1])]) for x in (self.logits, self.states)
        )
        self._free = np.flatnonzero(~self.live).tolist()  # sorted, so it is a heap

    def resized(self, rows: int, cells: int) -> bool:
        """Give the slots just this size; False if a live row stands beyond it, until `compact` has moved it."""
        if self.live[rows:].any():
            return False
        self.slots.resize(rows, cells)
        self._take_rows(rows)
        return True

    def drop(self, row: int) -> None:
        """Free a row."""
        self.live[row] = False
        self.slots.lengths[row] = 0
        heapq.heappush(self._free, row)

    def compact(self) -> dict[int, int]:
        """Move rows together when more than half of the span is empty, or always if bounded; returns old -> new row numbers."""
        if self.bounded:
            return self._move_together()
        if len(self.live) <= 16:
            return {}
        used = np.flatnonzero(self.live)
        if not len(used) or used[-1] + 1 < 2 * len(used) or used[-1] < 16:
            return {}
        return self._move_together()

    def _move_together(self) -> dict[int, int]:
        """Rows fill the lowest numbers; old -> new ones of those that moved."""
        moved: dict[int, int] = {}
        for row in np.flatnonzero(self.live)[::-1].tolist():
            if not self._free or self._free[0] > row:
                break
            moved[row] = heapq.heapreplace(self._free, row)
        if moved:
            sources, targets = list(moved), list(moved.values())
            self._copy(sources, targets)
            for facts in (self.live, self._number, self.spent_flops):
                facts[targets] = facts[sources]
            self.live[sources], self.slots.lengths[sources] = False, 0
        return moved

    def _copy(self, sources: list[int], targets: list[int]) -> None:
        self.slots.copy(sources, targets)
        self.logits[targets], self.states[targets] = self.logits[sources], self.states[sources]
        for facts in (self.verifies, self.account, self.texts):
            facts[targets] = facts[sources]
        for source, target in zip(sources, targets, strict=True):
            self._last[target] = self._last[source]

    def fork(self, row: int, count: int) -> list[int]:
        """``count`` rows that continue from this one, itself the first. Owed thoughts must have been fed (see `owes`)."""
        rows = [self.new_row(int(self.account[row])) for _ in range(count - 1)]
        if rows:
            self._copy([row] * len(rows), rows)
        return [row, *rows]

    def branch(self, sources: list[int], targets: list[int]) -> None:
        """Live rows ``targets`` give up what they hold and continue from ``sources``, one each; no source is a target."""
        self._copy(sources, targets)
        self._number_rows(targets)
