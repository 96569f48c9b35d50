"""FLOPs by formula, and the ledgers that they are booked in.

A cell that is the c-th of its sequence (itself and masked cells included, however the sequence was chunked) costs 2 for each
weight of the blocks' matrices, 4 H W c a block for attention with H heads of width W, 2 D V where a head of V outputs is read
from states of width D, and 2 for each weight of a strategy's part where that runs; a multiply-add is 2 FLOPs. GPT-2's L blocks
cost L (24 D^2 + 4 D c). Norms, embeddings, padding and shields are not charged. With a backward pass the cost is three times
that. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[str, ...] = ("prefill", "think", "answer", "score", "verify")
PREFILL, THINK, ANSWER, SCORE, VERIFY = range(len(CLASSES))
TRAINING_FACTOR = 3  # forward once, backward twice

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What prices a model's cells. layers: block applications a cell; width: of the states that its head reads.

    cell_flops: of all blocks' matrices, forward, a cell; key_flops: of all blocks' attention, a cell and key (itself included).
    """

    layers: int
    width: int
    cell_flops: int
    key_flops: int

    def blocks(self, cells_so_far: IntArray) -> IntArray:
        """Forward FLOPs (N,) of all blocks for cells that are the c-th of their sequences, c = ``cells_so_far`` (N,)."""
        flops: IntArray = self.cell_flops + self.key_flops * cells_so_far
        return flops

    def head(self, outputs: int) -> int:
        """Forward FLOPs of reading its head of ``outputs`` logits once."""
        return head_flops(width=self.width, outputs=outputs)

    def times(self, passes: int) -> Price:
        """Of going through the blocks so often."""
        return Price(
            layers=self.layers * passes,
            width=self.width,
            cell_flops=self.cell_flops * passes,
            key_flops=self.key_flops * passes,
        )


def gpt2_price(*, layers: int, width: int) -> Price:
    """Of a GPT-2: its blocks hold 12 D^2 weights, and its heads share the width."""
    return Price(layers=layers, width=width, cell_flops=layers * 24 * width * width, key_flops=layers * 4 * width)


def head_flops(*, width: int, outputs: int) -> int:
    """Forward FLOPs of reading a head of ``outputs`` logits once."""
    return 2 * width * outputs


def other_conventions(
    total_flops: int, *, index: IntArray, row: IntArray, read: IntArray, price: Price, outputs: int
) -> dict[str, int]:
    """What the same cells cost by other habits of counting, to see whether a ranking hangs on ours.

    quadratic: each cell of a row attends to the whole row, as where a causal mask saves nothing (T^2 instead of T (T + 1) / 2).
    non_embedding: heads are not counted (Kaplan 2001.08361). index, row, read (N,): cells before it in its row, which row, and
    whether a head is read.
    """
    longest = np.zeros(int(row.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(longest, row, index + 1)
    unseen = int((longest[row] - (index + 1)).sum())
    heads = int(read.sum()) * price.head(outputs)
    return {"quadratic": total_flops + price.key_flops * unseen, "non_embedding": total_flops - heads}


@dataclass(slots=True)
class Ledger:
    """What one problem has spent."""

    flops: IntArray = field(default_factory=lambda: np.zeros(len(CLASSES), dtype=np.int64))
    serial_passes: float = 0.0
    text_tokens: int = 0
    woven_tokens: int = 0
    peak_kv_bytes: int = 0

    @property
    def total_flops(self) -> int:
        """All classes together."""
        return int(self.flops.sum())

    def by_class(self) -> dict[str, int]:
        """FLOPs of each class by its name."""
        return {name: int(flops) for name, flops in zip(CLASSES, self.flops, strict=True)}


def summed(ledgers: Iterable[Ledger]) -> Ledger:
    """Of jobs that belong together; the peak is the highest of theirs."""
    total = Ledger()
    for one in ledgers:
        total.flops += one.flops
        total.serial_passes += one.serial_passes
        total.text_tokens += one.text_tokens
        total.woven_tokens += one.woven_tokens
        total.peak_kv_bytes = max(total.peak_kv_bytes, one.peak_kv_bytes)
    return total


class Bill:
    """The cost of one forward pass, cell by cell; the backbone adds to it, the owner of the pass books it.

    accounts (N,): which ledger pays; classes (N,): index into CLASSES; cells_so_far (N,): c of each cell. Several cells may
    share an account.
    """

    def __init__(self, *, accounts: IntArray, classes: IntArray, cells_so_far: IntArray, n_accounts: int) -> None:
        self._bins = accounts * len(CLASSES) + classes
        self.cells_so_far = cells_so_far
        self._n_accounts = n_accounts
        self.each_flops = np.zeros(len(cells_so_far), dtype=np.float64)  # (N,), whole numbers far below 2^53: exact
        self.block_applications = 0

    def add_blocks(self, price: Price, *, factor: int) -> None:
        """All blocks ran over every cell."""
        self.each_flops += factor * price.blocks(self.cells_so_far)
        self.block_applications += price.layers

    def add_head(self, cells: IntArray, *, width: int, outputs: int, factor: int) -> None:
        """A head of ``outputs`` was read at ``cells`` (indices into the pass's cells)."""
        self.add_each(cells, flops=factor * head_flops(width=width, outputs=outputs))

    def add_each(self, cells: IntArray, *, flops: int) -> None:
        """``flops`` at each of ``cells`` (indices into the pass's cells)."""
        self.each_flops += flops * np.bincount(cells, minlength=len(self.each_flops))

    def by_account(self) -> IntArray:
        """(accounts, classes) FLOPs so far."""
        booked = np.bincount(self._bins, self.each_flops, minlength=self._n_accounts * len(CLASSES))
        flops: IntArray = booked.astype(np.int64).reshape(self._n_accounts, len(CLASSES))
        return flops

    @property
    def total_flops(self) -> int:
        """All accounts together."""
        return int(self.each_flops.sum())
