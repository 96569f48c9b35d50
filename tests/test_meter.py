"""The meter against torch's own counter, and against a recount from traces and settings alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support import (
    CPU,
    Pages,
    RandomTokens,
    Toy,
    ask,
    batch_of,
    digits,
    jobs_of,
    random_texts,
    states_and_inputs,
    strategy,
    tiny,
    without_padding,
)  # fmt: skip
from torch.utils.flop_counter import FlopCounterMode

from harness.decoder import Decoder
from harness.feed import Feed as Lessons
from harness.feed import direct_flops
from harness.meter import ANSWER, CLASSES, PREFILL, SCORE, THINK, Bill, Ledger, Price, gpt2_price, head_flops
from harness.problem import END, SEP, Piece
from harness.rows import Feed
from harness.session import Job
from harness.strategy import THOUGHT
from harness.wants import Drop, Fork, Gather, Generate, Mark, Rewind, Sampler, Score, Start

TOYS = Toy(digits=3).problems("test", seed=0, start=0, count=200)
D, L = 16, 2
V = digits().core_size
PLAIN = strategy("direct")


def in_place(_, a, b, **rest):
    """torch has no formula for baddbmm_: (B, M, K) by (B, K, N)."""
    return 2 * math.prod(a) * b[2]


def counted(function):
    """FLOPs that torch sees, and what the function returns."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place}) as counter:
        result = function()
    return counter.get_total_flops(), result


# The formula


def test_the_formula():
    cells = np.array([1, 2, 7])
    assert gpt2_price(layers=3, width=8).blocks(cells).tolist() == [3 * (24 * 64 + 32 * c) for c in (1, 2, 7)]
    assert head_flops(width=8, outputs=11) == 2 * 8 * 11


def test_a_price_is_a_cells_matrices_its_keys_and_a_head():
    price = Price(layers=3, width=8, cell_flops=1000, key_flops=10)
    assert price.blocks(np.array([1, 2, 7])).tolist() == [1010, 1020, 1070]
    assert price.head(11) == head_flops(width=8, outputs=11)
    assert price.times(2) == Price(layers=6, width=8, cell_flops=2000, key_flops=20)


def test_a_bill_books_by_account_and_class():
    bill = Bill(accounts=np.array([0, 1, 1]), classes=np.array([0, 1, 2]), cells_so_far=np.array([1, 5, 6]), n_accounts=3)
    bill.add_blocks(gpt2_price(layers=2, width=4), factor=3)
    bill.add_head(np.array([0, 2, 2]), width=4, outputs=5, factor=1)
    one = [2 * (24 * 16 + 16 * c) for c in (1, 5, 6)]
    expected = np.zeros((3, len(CLASSES)), dtype=int)
    expected[0, 0], expected[1, 1], expected[1, 2] = 3 * one[0] + 40, 3 * one[1], 3 * one[2] + 80
    assert (bill.by_account() == expected).all()
    assert bill.total_flops == expected.sum()
    assert bill.block_applications == 2


def test_a_ledger_adds_up():
    ledger = Ledger(flops=np.array([1, 2, 3, 4, 5]))
    assert ledger.total_flops == 15
    assert ledger.by_class() == {"prefill": 1, "think": 2, "answer": 3, "score": 4, "verify": 5}


# torch's counter, with padding switched off


def fresh_row(backbone):
    decoder = Decoder(backbone, reference_layers=backbone.layers)
    return decoder, decoder.new_row(decoder.accounts.open(float("inf")))


def tokens(row, start, count, **rest):
    places = np.arange(start, start + count)
    return Feed(row, places % 12, np.zeros(count, dtype=np.int64), places, **rest)


STEPS = [
    {},
    {"per_token": 2},
    {"per_token": 2, "where": "answer"},
    {"per_token": 1, "emit": "last", "horizon": 3, "shield": "mask"},
]


@pytest.mark.parametrize("size", [{}, {"layers": 3, "width": 32}])
def test_cached_steps_of_one_token_exactly(size, monkeypatch):
    without_padding(monkeypatch)
    decoder, row = fresh_row(tiny(PLAIN, **size))
    for place in range(40):
        before = decoder.accounts.flops.sum()
        seen, _ = counted(lambda place=place: decoder.feed([tokens(row, place, 1)]))
        assert seen == decoder.accounts.flops.sum() - before
        assert seen == size.get("layers", L) * (24 * decoder.backbone.width**2 + 4 * decoder.backbone.width * (place + 1)) + (
            2 * decoder.backbone.width * V
        )


def test_padding_is_not_charged():
    decoder, row = fresh_row(tiny(PLAIN))
    seen, _ = counted(lambda: decoder.feed([tokens(row, 0, 1)]))
    assert decoder.accounts.flops.sum() == L * (24 * D * D + 4 * D) + 2 * D * V < seen


@pytest.mark.parametrize("length", [1, 2, 9, 70])
def test_a_prefill_after_the_closed_form_difference(length, monkeypatch):
    """Whole passes of plain matmuls count every pair, 2 L D T (T-1) more; the last block's second half runs where it is read."""
    without_padding(monkeypatch)
    for every in (True, False):
        decoder, row = fresh_row(tiny(PLAIN))
        seen, _ = counted(lambda d=decoder, r=row, e=every: d.feed([tokens(r, 0, length, every=e)]))
        unread = 0 if every else length - 1
        assert seen == decoder.accounts.flops.sum() + 2 * L * D * length * (length - 1) - unread * 18 * D * D


@pytest.mark.parametrize("fields", STEPS, ids=str)
def test_chunks_with_owed_thoughts(fields, monkeypatch):
    """A chunk of n cells over c cached ones: plain matmuls count n (c + n) pairs, the meter those at or before each cell."""
    without_padding(monkeypatch)
    how = strategy("reasoning_tokens", **fields)
    decoder, row = fresh_row(tiny(how))
    for place in range(12):
        before, held = decoder.accounts.flops.sum(), int(decoder.slots.lengths[row])
        seen, _ = counted(lambda place=place: decoder.feed([tokens(row, place, 1)]))
        n = int(decoder.slots.lengths[row]) - held
        above = n * (n - 1) // 2
        assert seen == decoder.accounts.flops.sum() - before + L * 4 * D * above - (n - 1) * 18 * D * D


def window_batch(backbone, task=None):
    """A batch of documents' windows, in which every cell is needed."""
    feed = Lessons(task=task or Pages(), alphabet=backbone.alphabet, seed=0, problems_per_update=3, context_tokens=128)
    batch = feed.batch(backbone.strategy, 0, progress=0.0, device=CPU)
    assert len(batch.cells.reads.cells) == batch.cells.count
    return batch


@pytest.mark.parametrize("window", [2, 8, 64])
def test_training_is_three_times_the_forward_pass(window, monkeypatch):
    without_padding(monkeypatch)
    backbone = tiny(PLAIN)
    batch = window_batch(backbone, Pages(window=window, pages=9))
    above = 3 * L * 2 * D * window * (window - 1)

    def forward():
        states, _ = states_and_inputs(backbone, batch)
        return backbone.strategy.loss(backbone, states, batch.cells, 0.0)

    with torch.no_grad():
        seen, _ = counted(forward)
    inference = batch.cells.bill.total_flops
    assert seen == inference + above
    seen, _ = counted(lambda: forward().backward())
    assert seen == batch.cells.bill.total_flops - inference + 3 * above
    assert batch.cells.bill.total_flops == 4 * inference
    assert inference == direct_flops(batch, gpt2_price(layers=L, width=D), outputs=V)


@pytest.mark.parametrize(
    "fields",
    [{"per_token": 2}, {"per_token": 2, "emit": "learned"}, {"gate": "learned"}, {"per_token": 1, "taught": "all"}],
    ids=str,
)
def test_training_with_thoughts(fields, monkeypatch):
    """The same with woven cells: rows of T cells, the last block's second half and the head at the R taught ones."""
    without_padding(monkeypatch)
    backbone = tiny(strategy("reasoning_tokens", **fields))
    length = 9
    batch = batch_of(backbone, random_texts((length, length)))
    t, reads = batch.cells.count // 2, len(batch.cells.reads.cells)

    def step():
        states, _ = states_and_inputs(backbone, batch)
        backbone.strategy.loss(backbone, states, batch.cells, 0.0).backward()

    seen, _ = counted(step)
    above = 2 * L * 2 * D * t * (t - 1)
    skipped = (batch.cells.count - reads) * 18 * D * D
    assert seen == batch.cells.bill.total_flops + 3 * (above - skipped)


def test_a_frozen_trunk_is_charged_forward_only():
    backbone = tiny(PLAIN)
    for p in backbone.parameters():
        p.requires_grad_(False)
    batch = window_batch(backbone)
    states, _ = states_and_inputs(backbone, batch)
    backbone.head(states, batch.cells.reads)
    assert batch.cells.bill.total_flops == direct_flops(batch, gpt2_price(layers=L, width=D), outputs=V)


# An independent recount


def parts_of(fields):
    """FLOPs of a gate at every layer for each cell, and of the chance of speaking for each read: matrices of D x 16."""
    gate, speak = fields.get("gate") == "learned", fields.get("emit") == "learned"
    return L * 2 * D * 16 * gate, 2 * D * 16 * speak


def recount(cells, per_class_of_text, per_cell=0, per_read=0):
    """FLOPs by class of one row's cells, fed from the first one on: (embed, kind, place, slot, read, charge) each."""
    flops = dict.fromkeys(CLASSES, 0)
    for number, (_, kind, place, _, read, *_) in enumerate(cells, start=1):
        name = "think" if kind == THOUGHT else per_class_of_text(place)
        flops[name] += L * (24 * D * D + 4 * D * number) + per_cell + (2 * D * V + per_read) * read
    return flops


SETTINGS = [
    ("direct", {}),
    ("future_heads", {}),
    ("reasoning_tokens", {}),
    ("reasoning_tokens", {"per_token": 3, "embed": "copy", "place": "own"}),
    ("reasoning_tokens", {"per_token": 2, "emit": "last"}),
    ("reasoning_tokens", {"per_token": 2, "emit": "learned"}),
    ("reasoning_tokens", {"per_token": 2, "gate": "learned", "horizon": 2}),
    ("reasoning_tokens", {"per_token": 2, "where": "prompt", "shield": "mask", "horizon": 3}),
    ("reasoning_tokens", {"per_token": 2, "where": "answer", "among": "all"}),
]


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_ledgers_of_200_problems(name, fields):
    """Per class from the trace; the number of cells, reads and passes from the settings, the prompt and the answer alone."""
    how = strategy(name, **fields)
    outcomes = ask(tiny(how), jobs_of(how, TOYS, Sampler(1.0)))
    r, where, emit = (getattr(how, f, d) for f, d in (("per_token", 0), ("where", "all"), ("emit", "first")))
    stops = set()
    for problem in TOYS:
        outcome = outcomes[problem.question.id]
        said = outcome.value.completion
        p, a = len(problem.question.text), len(said.ids) - 1  # what is said last is not fed
        stops.add(said.stop)
        cells, ledger = outcome.trace.cells, outcome.ledger
        assert ledger.by_class() == recount(cells, lambda place, p=p: "prefill" if place < p else "answer", *parts_of(fields))
        followed = {"all": p + a, "prompt": p, "answer": a}[where]
        last_owed = emit == "first" and {"all": True, "prompt": a == 0, "answer": a > 0}[where]
        woven = r * (followed - last_owed)
        assert len(cells) == p + a + woven
        if where == "all" and emit == "first":
            assert len(cells) == (1 + r) * (p + a) - r  # strategies.md
        assert (ledger.text_tokens, ledger.woven_tokens) == (p + a, woven)
        assert sum(cell[4] for cell in cells) == (1 + a) * (r if emit == "learned" else 1)
        assert ledger.serial_passes == 1 + a
        assert ledger.peak_kv_bytes == len(cells) * 2 * L * D * 4
        assert all(CLASSES[c[5]] == "think" for c in cells if c[1] == THOUGHT)
    assert stops == {"end", "cap"}


def test_the_recount_notices_a_forgotten_class():
    how = strategy("reasoning_tokens")
    outcome = ask(tiny(how), jobs_of(how, TOYS[:1]))["test-0"]
    assert outcome.ledger.by_class() != recount(outcome.trace.cells, lambda place: "prefill")
    assert outcome.ledger.by_class() != recount(outcome.trace.cells[1:], lambda place: "prefill" if place < 5 else "answer")


def test_serial_passes_are_relative_to_the_reference_depth():
    from harness.session import Session

    (outcome,) = Session(tiny(PLAIN), reference_layers=4).run(jobs_of(PLAIN, TOYS[:1]))
    assert outcome.ledger.serial_passes == len(outcome.value.completion.ids) * L / 4


@pytest.mark.parametrize("fields", [{}, {"per_token": 2, "emit": "learned"}, {"gate": "learned"}], ids=str)
def test_a_budget_is_refused_to_the_flop(fields):
    """What the meter books after a pass is what was foreseen before it, parts included."""
    how = strategy("reasoning_tokens", **fields)
    backbone = tiny(how)
    full = ask(backbone, jobs_of(how, TOYS[:1]))["test-0"]
    enough, short = (
        ask(backbone, jobs_of(how, TOYS[:1], limit_flops=full.ledger.total_flops - less))["test-0"] for less in (0, 1)
    )
    assert enough.ledger.by_class() == full.ledger.by_class() and enough.value == full.value
    assert len(short.trace.cells) < len(full.trace.cells) and short.value.completion.stop == "budget"


# Rows that fork, rewind and end


def wild(question):
    """Uses every want that feeds cells."""
    row = yield Start((Piece(question.text, "prompt"),))
    mark = yield Mark(row)
    yield Generate(row, 3, Sampler(1.0), role="thought", stops=(END, SEP))
    yield Rewind(row, mark)
    rows = yield Fork(row, 3)

    def branch(one):
        said = yield Generate(one, 4, Sampler(1.0))
        return said

    yield Gather(tuple(branch(one) for one in rows[:2]))
    yield Rewind(rows[2], mark)  # another row's mark, from before the fork
    yield Generate(rows[2], 2, Sampler(1.0))
    yield Drop(rows[1])
    texts = ((Piece("123", "answer", True), Piece(END, "answer", True)), (Piece("4", "answer", True),))
    likelihoods = yield Score(rows[0], texts)
    return likelihoods


@pytest.mark.parametrize(
    "fields", [None, {"per_token": 1}, {"per_token": 2, "gate": "learned"}, {"per_token": 2, "emit": "learned"}], ids=str
)
def test_no_cell_is_lost_when_rows_fork_and_rewind(fields):
    """Every charged cell is in the trace once: with where=all a cell's number in its row follows from place and slot."""
    how = PLAIN if fields is None else strategy("reasoning_tokens", **fields)
    r, charges = 0 if fields is None else how.per_token, set()
    per_cell, per_read = parts_of(fields or {})
    jobs = [Job(p.question.id, lambda p=p: wild(p.question), seed=i) for i, p in enumerate(TOYS[:20])]
    for outcome in ask(tiny(how), jobs, rows=40).values():
        expected = np.zeros(len(CLASSES), dtype=np.int64)
        for _, _, place, slot, read, charge, *_ in outcome.trace.cells:
            number = (1 + r) * place + slot + 1
            expected[charge] += L * (24 * D * D + 4 * D * number) + per_cell + (2 * D * V + per_read) * read
        assert outcome.ledger.flops.tolist() == expected.tolist()
        assert len(outcome.trace.cells) == outcome.ledger.text_tokens + outcome.ledger.woven_tokens
        charges |= {c[5] for c in outcome.trace.cells}
    assert charges == {PREFILL, THINK, ANSWER, SCORE}


def test_random_tokens_feed_is_charged_like_any_other():
    backbone = tiny(PLAIN)
    window_batch(backbone, Pages())
    feed = Lessons(task=RandomTokens(), alphabet=backbone.alphabet, seed=0, problems_per_update=3, context_tokens=128)
    batch = feed.batch(PLAIN, 0, progress=0.0, device=CPU)
    assert batch.text_tokens == batch.cells.count == 3 * 11
    assert batch.supervised_tokens == 3 * 11
