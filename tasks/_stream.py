"""The streams of arithmetic problems: which kinds stand where, with which operands and weights, as arrays.

Problems go round-robin over the cells (operation, length), within a cell over its kinds: so every stretch has equal shares. The
train stream has no end; a held-out one leaves out kinds that are used up, and ends when all are. Knows nothing of texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.task import Split
from tasks._blocks import BLOCK
from tasks._pairs import ANY, BEYOND, MINUS, TIMES, Int, Kind, capacity, draw, generator, held_out, in_split

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Problems as arrays (M,): operation (index of OPERATIONS), operands, digits of the longer one, weight in the mean."""

    operation: Int
    a: Int
    b: Int
    length: Int
    weight: Floats


def kinds_of(operation: int, length: int, *, balanced: bool) -> list[Kind]:
    """The kinds of one cell: every length of the shorter operand; if balanced, crossed with every possible number of carries."""
    most = length if operation != MINUS else length - 1  # the first column of a difference never borrows
    carries = range(most + 1) if balanced else (ANY,)
    return [(operation, length, short, c) for c in carries for short in range(1, length + 1)]


def drawn_for_training(cells: list[list[Kind]], *, seed: int, block: int, operations: tuple[int, ...]) -> Drawn:
    """Problems ``block * BLOCK ..`` of the train stream.

    Passed over: pairs of other splits, and products whose worked lines would state a held-out problem of ``operations``.
    """
    table = np.array([kind for cell in cells for kind in cell], dtype=np.int64)
    sizes = np.array([len(cell) for cell in cells])
    turn, cell = np.divmod(block * BLOCK + np.arange(BLOCK), len(cells))
    kinds = table[(np.cumsum(sizes) - sizes)[cell] + turn % sizes[cell]]
    a, b, missing, rng = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64), np.arange(BLOCK), generator("train", seed, block)
    while len(missing):
        a[missing], b[missing] = draw(rng, kinds[missing])
        missing = missing[~_allowed(kinds[missing, 0], a[missing], b[missing], operations)]
    return Drawn(kinds[:, 0], a, b, kinds[:, 1], np.ones(BLOCK))


def _allowed(operation: Int, a: Int, b: Int, operations: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether a pair may be trained on."""
    good = in_split("train", operation, a, b)
    product = good & (operation == TIMES)
    good[product] = _clean(a[product], b[product], operations)
    return good


def _clean(a: Int, b: Int, operations: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether the worked lines of products state problems of the train split only.

    They state products by one digit and, where sums are asked too, sums of two partial products. One-digit problems are let
    pass: they are the columns of all arithmetic.
    """
    longer = _digits(a) >= _digits(b)
    a, b = np.where(longer, a, b), np.where(longer, b, a)
    good, total, place = np.ones(len(a), dtype=bool), np.zeros(len(a), dtype=np.int64), 1
    while np.any(b):
        rest, digit = np.divmod(b, 10)
        live = b > 0
        good &= ~live | (a < 10) | in_split("train", np.full(len(a), TIMES), a, digit)
        partial = a * digit * place
        if 0 in operations and place > 1:
            good &= ~live | (np.maximum(total, partial) < 10) | in_split("train", np.zeros(len(a), np.int64), total, partial)
        b, total, place = rest, total + partial, place * 10
    return good


def _digits(n: Int) -> Int:
    """How many digits numbers have."""
    return np.searchsorted(BEYOND, n, side="right").clip(1)


@dataclass(frozen=True)
class HeldOut:
    """A held-out stream: its cells, split and seed, and the lengths whose problems have weight 0."""

    cells: tuple[tuple[Kind, ...], ...]
    split: Split
    seed: int
    weightless: frozenset[int]

    @cached_property
    def _kinds(self) -> list[Kind]:
        return [kind for cell in self.cells for kind in cell]

    def order(self, count: int) -> tuple[Int, Int]:
        """Of the first ``count`` problems: the kind (an index over all cells), and how many of that kind come before."""
        turns = []
        first = 0
        for number, cell in enumerate(self.cells):
            sizes = np.minimum([capacity(kind, self.split) for kind in cell], count)
            kind, before = np.repeat(np.arange(len(cell)), sizes), np.concatenate([np.arange(n) for n in sizes])
            mine = np.lexsort((kind, before))[:count]
            turns.append(np.stack([np.arange(len(mine)), np.full(len(mine), number), first + kind[mine], before[mine]]))
            first += len(cell)
        turn, cell_of, kind, before = np.concatenate(turns, axis=1)
        chosen = np.lexsort((cell_of, turn))[:count]
        return kind[chosen], before[chosen]

    def window(self, start: int, count: int) -> Drawn:
        """Problems ``start .. start+count-1``, fewer at the end of the stream.

        Weights are shares within this window: every length has the same sum, so have the operations within a length, and the
        kinds within a cell; their mean is 1.
        """
        kind, before = self.order(start + count)
        kind, before = kind[start:], before[start:]
        a, b = np.zeros(len(kind), np.int64), np.zeros(len(kind), np.int64)
        for k in np.unique(kind):
            mine = kind == k
            first, second = held_out(self._kinds[k], self.split, self.seed, int(before[mine].max()) + 1)
            a[mine], b[mine] = first[before[mine]], second[before[mine]]
        table = np.array(self._kinds, dtype=np.int64).reshape(-1, 4)[kind]
        return Drawn(table[:, 0], a, b, table[:, 1], self._weights(kind, table))

    def _weights(self, kind: Int, table: Int) -> Floats:
        counted = ~np.isin(table[:, 1], list(self.weightless))
        weight = np.zeros(len(kind))
        kind, operation, length = kind[counted], table[counted, 0], table[counted, 1]
        share = np.ones(len(kind)) / max(len(np.unique(length)), 1)
        for n in np.unique(length):
            share[length == n] /= len(np.unique(operation[length == n]))
            for o in np.unique(operation[length == n]):
                cell = (length == n) & (operation == o)
                _, where, number = np.unique(kind[cell], return_inverse=True, return_counts=True)
                share[cell] /= len(number) * number[where]
        weight[counted] = share * len(kind)
        return weight
