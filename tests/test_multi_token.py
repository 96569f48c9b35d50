"""multi_token: which tokens the extra heads foresee, what their loss is and costs; nothing of them is left when asked."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support import CPU, Toy, ask, batch_of, digits, jobs_of, seen, strategy, tiny

from harness.export import sliced_model
from harness.feed import make_batch
from harness.meter import gpt2_price, head_flops
from harness.problem import Piece, Tokens
from harness.spec import make_spec
from harness.stream import encode
from strategies.multi_token import foreseen

L, D = 2, 16
ALPHABET = digits()
V = ALPHABET.core_size
TOYS = Toy().problems("test", seed=0, start=0, count=40)
DIRECT = strategy("direct")


def texts_of(lessons):
    """Lessons as lists of (id, whether it is a target)."""
    return [tuple(Piece(Tokens((i,)), "answer", target) for i, target in lesson) for lesson in lessons]


def ahead_by_hand(lessons, ahead):
    """(lesson, place, id) of every target that lies ``ahead`` tokens behind a place whose next token is a target too."""
    return [
        (row, place, lesson[place + ahead][0])
        for row, lesson in enumerate(lessons)
        for place in range(len(lesson) - ahead)
        if lesson[place + 1][1] and lesson[place + ahead][1]
    ]


TOKEN = st.tuples(st.integers(0, 11), st.booleans())
LESSONS = st.lists(st.lists(TOKEN, min_size=1, max_size=9), min_size=1, max_size=4)


@given(lessons=LESSONS, ahead=st.integers(1, 5))
def test_only_targets_of_the_same_lesson_are_foreseen(lessons, ahead):
    stream = encode(texts_of(lessons), ALPHABET)
    cells = make_batch(DIRECT, ALPHABET, stream, len(lessons), device=CPU, context_tokens=64).cells
    here, later = foreseen(cells, ahead)
    at = cells.reads.cells[here]
    found = list(zip(cells.layout.row[at].tolist(), cells.layout.place[at].tolist(), cells.targets[later].tolist(), strict=True))
    assert found == ahead_by_hand(lessons, ahead)


MIXED = [
    [(1, False), (2, False), (3, True), (4, True), (5, True), (6, True)],
    [(7, False), (8, True)],
    [(9, False), (0, True), (1, False), (2, True), (3, True)],
]  # fmt: skip


def updated(how):
    """Backbone, cells and loss of an update on MIXED."""
    backbone = tiny(how)
    cells = batch_of(backbone, texts_of(MIXED)).cells
    loss = how.loss(backbone, how.forward(backbone, cells, None), cells, 0.0)
    loss.backward()
    return backbone, cells, loss


@pytest.mark.parametrize("ahead", [2, 3, 5])
def test_the_loss_is_the_sum_over_heads(ahead):
    """Read by hand, a target at a time, in nats per next-token target."""
    backbone, cells, loss = updated(strategy("multi_token", ahead=ahead))
    states = DIRECT.forward(backbone, cells, None)
    where = {(cells.layout.row[c], cells.layout.place[c]): s for c, s in zip(cells.reads.cells, states, strict=True)}
    table, total = backbone.model.transformer.wte.weight[backbone.head_ids], 0.0
    for a in range(1, ahead + 1):
        for row, place, target in ahead_by_hand(MIXED, a):
            state = where[row, place]
            state = state if a == 1 else state + backbone.parts[f"ahead_{a}"](state)
            total = total + F.cross_entropy(table @ state, torch.tensor(target))
    torch.testing.assert_close(loss, total / len(states), rtol=1e-5, atol=1e-5)
    reached = [a for a in range(2, ahead + 1) if ahead_by_hand(MIXED, a)]
    for a in range(2, ahead + 1):
        learned = [p.grad is not None and bool(p.grad.any()) for p in backbone.parts[f"ahead_{a}"].parameters()]
        assert all(learned) if a in reached else not any(learned)


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_extra_heads_are_charged_in_training(ahead):
    _, cells, _ = updated(strategy("multi_token", ahead=ahead))
    blocks = int(gpt2_price(layers=L, width=D).blocks(cells.layout.index + 1).sum())
    head, foresees = head_flops(width=D, outputs=V), sum(len(ahead_by_hand(MIXED, a)) for a in range(2, ahead + 1))
    forward = blocks + head * len(cells.targets) + (head + 2 * 2 * D * D) * foresees
    assert cells.bill.total_flops == 3 * forward and (foresees > 0) == (ahead > 1)


def test_one_token_ahead_is_direct_bit_for_bit():
    (ours, _, loss), (direct, _, plain) = updated(strategy("multi_token", ahead=1)), updated(DIRECT)
    assert torch.equal(loss, plain)
    pairs = zip(ours.named_parameters(), direct.named_parameters(), strict=True)
    assert all(n == m and torch.equal(p.grad, q.grad) for (n, p), (m, q) in pairs)


def test_asking_is_directs_and_costs_what_direct_costs():
    ours, direct = (ask(tiny(how), jobs_of(how, TOYS)) for how in (strategy("multi_token", ahead=4), DIRECT))
    assert {n: seen(o) for n, o in ours.items()} == {n: seen(o) for n, o in direct.items()}


def test_the_exported_model_is_a_plain_gpt2():
    how = strategy("multi_token", ahead=3)
    backbone, plain = tiny(how), tiny(DIRECT)
    states = [sliced_model(b).state_dict() for b in (backbone, plain)]
    assert states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert len(list(backbone.parts.parameters())) == 2 * 6


@pytest.mark.parametrize("ahead", ["0", "17", "two"])
def test_ahead_out_of_range_is_named(ahead):
    with pytest.raises(ValueError, match=r"strategy\.ahead: expected a whole number from 1 to 16") as caught:
        make_spec(strategy="multi_token", task="arithmetic", settings={"strategy.ahead": ahead})
    assert "\n" not in str(caught.value)
