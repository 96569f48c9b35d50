"""Ledgers of the problems that are being solved, as arrays over account numbers. Knows no rows and no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.meter import CLASSES, Bill, Ledger

IntArray = NDArray[np.int64]


class Accounts:
    """flops (A, classes), passes (A,), limits (A,) in FLOPs, tokens (A, text and woven), peak_cells (A,); A has room to spare."""

    def __init__(self) -> None:
        self._opened = 0
        self._closed: list[int] = []
        self.flops: IntArray = np.zeros((1, len(CLASSES)), dtype=np.int64)
        self.passes, self.limits = np.zeros(1), np.zeros(1)
        self.tokens: IntArray = np.zeros((1, 2), dtype=np.int64)
        self.peak_cells: IntArray = np.zeros(1, dtype=np.int64)

    def open(self, limit_flops: float) -> int:
        """The number of an empty ledger."""
        if self._closed:
            number = self._closed.pop()
        else:
            number, self._opened = self._opened, self._opened + 1
        if number == len(self.passes):
            self.flops, self.tokens = (np.vstack([x, np.zeros_like(x)]) for x in (self.flops, self.tokens))
            self.passes, self.limits = (np.concatenate([x, np.zeros_like(x)]) for x in (self.passes, self.limits))
            self.peak_cells = np.concatenate([self.peak_cells, np.zeros_like(self.peak_cells)])
        self.flops[number], self.tokens[number], self.passes[number], self.peak_cells[number] = 0, 0, 0.0, 0
        self.limits[number] = limit_flops
        return number

    def close(self, number: int, *, bytes_per_cell: int) -> Ledger:
        """What was booked; the number may be used again."""
        self._closed.append(number)
        text, woven = self.tokens[number].tolist()
        peak_bytes = int(self.peak_cells[number]) * bytes_per_cell
        return Ledger(self.flops[number].copy(), float(self.passes[number]), text, woven, peak_bytes)

    def book(self, bill: Bill, accounts: IntArray, woven: NDArray[np.bool_]) -> None:
        """Book a pass: its bill, and its cells (N,) by account and kind."""
        self.flops += bill.by_account()
        self.tokens[:, 0] += np.bincount(accounts, minlength=len(self.passes))
        if woven.any():
            thoughts = np.bincount(accounts[woven], minlength=len(self.passes))
            self.tokens += np.stack([-thoughts, thoughts], 1)

    def pay(self, number: int, class_: int, flops: int) -> bool:
        """Book what needs no pass; False, and nothing booked, where the limit does not allow it."""
        if self.flops[number].sum() + flops > self.limits[number]:
            return False
        self.flops[number, class_] += flops
        return True

    def hold(self, accounts: IntArray, cells: IntArray) -> None:
        """Note how many cells rows hold now, by the rows' accounts."""
        held = np.bincount(accounts, cells, minlength=len(self.passes)).astype(np.int64)
        np.maximum(self.peak_cells, held, out=self.peak_cells)

    def short_of(self, accounts: IntArray, flops: NDArray[np.float64] | IntArray) -> NDArray[np.bool_]:
        """Which accounts (A,) would pass their limit if cells (N,) of these costs were booked."""
        after = self.flops.sum(1) + np.bincount(accounts, flops, minlength=len(self.passes))
        short: NDArray[np.bool_] = after > self.limits
        return short
