"""Attention by pieces: which rows and keys a pass attends to, and that cutting changes no bit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ask, digits, seen, strategy, tiny

from harness import cached
from harness.admission import WAITING_SHARE, Admission
from harness.bounds import CPU
from harness.cached import Piece
from harness.problem import Question
from harness.rows import Feed, Shape, grouped
from harness.session import Job
from harness.slots import stretches


@dataclass(frozen=True)
class Pass:
    """As much of `Cells` as pieces are made of: the last index of every row that is fed, None for those that wait."""

    lasts: list[int | None]

    @property
    def layout(self):
        rows = [row for row, last in enumerate(self.lasts) if last is not None]
        index = np.array([self.lasts[row] for row in rows])
        return SimpleNamespace(row=np.array(rows), index=index, counts=np.array([int(x is not None) for x in self.lasts]))


def fed(row: int, count: int, *, every: bool = False) -> Feed:
    """So many tokens for a row."""
    return Feed(row, [1] * count, [0] * count, range(count), every=every)


def test_a_forward_holds_the_logits_that_are_asked_for():
    """One row of six tokens does not make a turn of six logits a row, but one that asks for every one is charged for them."""
    shape, lengths = Shape(1, 4, CPU.forward_floats // 100), np.zeros(200, dtype=np.int64)
    ones = [fed(row, 1) for row in range(90)]
    assert grouped([*ones, fed(90, 6)], lengths, shape) == [[*ones, fed(90, 6)]]
    for rows in (ones, [fed(row, 1) for row in range(96)]):
        groups = grouped([*rows, fed(len(rows), 6, every=True)], lengths, shape)
        assert [f for group in groups for f in group] == [*rows, fed(len(rows), 6, every=True)]
        assert len(groups) == (1 if len(rows) == 90 else 2) and all(sum(f.reads for f in group) <= 100 for group in groups)


@given(st.lists(st.one_of(st.none(), st.integers(0, 300)), min_size=1, max_size=60).filter(any))
def test_pieces_hold_every_fed_row_once_with_all_its_keys(lasts):
    pieces = cached.pieces_of(Pass(lasts), CPU.piece_keys)
    assert all(a.stop <= b.start for a, b in pairwise(pieces))
    for row, last in enumerate(lasts):
        mine = [p for p in pieces if p.start <= row < p.stop]
        assert len(mine) <= 1
        if last is not None:
            assert mine[0].keys > last and mine[0].keys % 8 == 0
    fed = [row for row, last in enumerate(lasts) if last is not None]
    whole = Piece(fed[0], fed[-1] + 1, max(p.keys for p in pieces))
    assert sum(p.area for p in pieces) <= whole.area


def test_rows_that_wait_are_left_out_where_that_pays():
    def cut(lasts):
        return cached.pieces_of(Pass(lasts), CPU.piece_keys)

    assert cut([20] * 40 + [None] * 40 + [20] * 40) == [Piece(0, 40, 24), Piece(80, 120, 24)]
    assert cut([20, None, None, 20]) == [Piece(0, 4, 24)]
    assert cut([20] * 40 + [200] * 40) == [Piece(0, 40, 24), Piece(40, 80, 208)]


@pytest.mark.parametrize("name", ["tree_of_thoughts", "best_of_n"])
def test_cutting_changes_no_bit(name, monkeypatch):
    """From one piece for all rows to a piece for nearly each, in unequal company, with rows that wait."""
    how = strategy(name, base=strategy("chain_of_thought"))
    jobs = [Job(str(i), lambda i=i: how.solve(Question(str(i), "12+34="[: 2 + i % 5], 8, 24)), seed=i, rows=5) for i in range(12)]
    found, cut = [], cached.pieces_of
    for cost in (10**9, 200, 0):
        counts = []

        def counted(cells, _, counts=counts, cost=cost):
            counts.append(cut(cells, cost))
            return counts[-1]

        monkeypatch.setattr(cached, "pieces_of", counted)
        outcomes = ask(tiny(how.learner(), width=32, heads=4, alphabet=digits()), jobs)
        found.append([seen(outcomes[str(i)]) for i in range(12)])
        if cost == 10**9:
            assert max(map(len, counts)) == 1
    assert max(map(len, counts)) > 2
    assert found[0] == found[1] == found[2]


def test_more_problems_come_while_most_rows_wait():
    admission = Admission(rows=8, max_kv_bytes=None, bytes_per_cell=1)
    admission.admit(0, 8, 0)
    assert not admission.open(8, 0)  # its rows are still to be fed
    admission.fed = 1
    assert admission.open(8, 0)
    admission.admit(1, 8, 0)
    assert not admission.open(8, 0)
    for account in range(2, WAITING_SHARE):
        admission.fed = 2
        admission.admit(account, 8, 0)
    admission.fed = 0
    assert not admission.open(8, 0)  # never more than so many rows


@given(st.data())
def test_slices_copy_each_row_from_its_source(data):
    count = data.draw(st.integers(1, 12))
    sources = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    targets = data.draw(st.permutations(range(10, 10 + count)))
    copied = []
    for source, target in stretches(sources, targets):
        given_rows, taken = (list(range(s.start, s.stop)) for s in (source, target))
        copied += zip(given_rows * len(taken) if len(given_rows) == 1 else given_rows, taken, strict=True)
    assert copied == list(zip(sources, targets, strict=True))


def test_rows_that_follow_each_other_are_one_slice():
    assert list(stretches([0] * 3 + [4, 5, 6], [1, 2, 3, 7, 8, 9])) == [(slice(0, 1), slice(1, 4)), (slice(4, 7), slice(7, 10))]
