"""FLOPs by formula, and the ledgers that they are booked in.

A cell that is the c-th of its sequence (itself and masked cells included, however the sequence was chunked) costs
L (24 D^2 + 4 D c) for L blocks of width D, 2 D V where a head of V outputs is read, and 2 for each weight of a strategy's part
where that runs; a multiply-add is 2 FLOPs. Norms, embeddings, padding and shields are not charged. With a backward pass the cost
is three times that. Knows no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[str, ...] = ("prefill", "think", "answer", "score", "verify")
PREFILL, THINK, ANSWER, SCORE, VERIFY = range(len(CLASSES))
TRAINING_FACTOR = 3  # forward once, backward twice

IntArray = NDArray[np.int64]


def block_flops(*, layers: int, width: int, cells_so_far: IntArray) -> IntArray:
    """Forward FLOPs (N,) of ``layers`` blocks for cells that are the c-th of their sequences, c = ``cells_so_far`` (N,)."""
    flops: IntArray = layers * (24 * width * width + 4 * width * cells_so_far)
    return flops


def head_flops(*, width: int, outputs: int) -> int:
    """Forward FLOPs of reading a head of ``outputs`` logits once."""
    return 2 * width * outputs


def other_conventions(
    total_flops: int, *, index: IntArray, row: IntArray, read: IntArray, layers: int, width: int, outputs: int
) -> dict[str, int]:
    """What the same cells cost by other habits of counting, to see whether a ranking hangs on ours.

    quadratic: each cell of a row attends to the whole row, as where a causal mask saves nothing (T^2 instead of T (T + 1) / 2).
    non_embedding: heads are not counted (Kaplan 2001.08361). index, row, read (N,): cells before it in its row, which row, and
    whether a head is read; layers: block applications a cell.
    """
    longest = np.zeros(int(row.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(longest, row, index + 1)
    unseen = int((longest[row] - (index + 1)).sum())
    heads = int(read.sum()) * head_flops(width=width, outputs=outputs)
    return {"quadratic": total_flops + layers * 4 * width * unseen, "non_embedding": total_flops - heads}


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

    def add_blocks(self, *, layers: int, width: int, factor: int) -> None:
        """``layers`` blocks ran over every cell."""
        self.each_flops += factor * block_flops(layers=layers, width=width, cells_so_far=self.cells_so_far)
        self.block_applications += layers

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
