"""looped_depth: what the loops compute, what they cost, through which of them gradient flows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import CPU, Toy, ask, batch_of, digits, jobs_of, random_texts, seen, strategy, tiny

from harness.examination import gold_text
from harness.feed import Feed
from harness.meter import gpt2_price, head_flops
from harness.session import Job
from harness.spec import make_spec
from harness.stability import bit_stable

L, D = 2, 16
V = digits().core_size
TOYS = Toy().problems("test", seed=0, start=0, count=12)
LENGTHS = (9, 6)


def looped(**fields):
    return strategy("looped_depth", **fields)


def update(how, *, lengths=LENGTHS, draw=None):
    """States, loss, gradients by name and bill of one update."""
    backbone = tiny(how)
    cells = replace(batch_of(backbone, random_texts(lengths)).cells, draw=draw)
    states = how.forward(backbone, cells, None)
    loss = how.loss(backbone, states, cells, 0.0)
    loss.backward()
    gradients = {n: p.grad for n, p in backbone.named_parameters()}
    return states.detach(), loss.detach(), gradients, cells


def oracle(loops, learning):
    """The same by stock GPT-2 blocks, one text at a time; only the last ``learning`` loops are learned through."""
    backbone = tiny(strategy("direct"))
    gpt, read, targets = backbone.model.transformer, [], []
    for text in random_texts(LENGTHS):
        ids = torch.tensor([i for piece in text for i in piece.content.ids])
        targets.append(ids[1:])
        first = (gpt.wte(ids[:-1]) + gpt.wpe(torch.arange(len(ids) - 1)))[None]
        mask = torch.full((len(ids) - 1, len(ids) - 1), -torch.inf).triu(1)[None, None]
        states = first
        for number in range(loops):
            states = states if number == 0 else states + first
            for block in gpt.h:
                states = block(states, attention_mask=mask)
            states = states.detach() if number < loops - learning else states
        read.append(gpt.ln_f(states)[0])
    states = torch.cat(read)
    loss = torch.nn.functional.cross_entropy(states @ gpt.wte.weight[backbone.head_ids].T, torch.cat(targets))
    loss.backward()
    return states.detach(), loss.detach(), {n: p.grad for n, p in backbone.named_parameters()}


def assert_near(found, expected):
    states, loss, gradients = found[:3]
    torch.testing.assert_close(states, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, expected[1], rtol=1e-4, atol=1e-4)
    for name, gradient in expected[2].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize(("loops", "learning"), [(1, 1), (2, 2), (4, 4), (4, 1), (4, 3)])
def test_states_loss_and_gradients_are_those_of_stock_blocks_in_a_loop(loops, learning):
    assert_near(update(looped(train_loops=loops, backprop=learning)), oracle(loops, learning))


def test_the_oracle_tells_truncated_gradients_apart():
    with pytest.raises(AssertionError):
        assert_near(update(looped(train_loops=4)), oracle(4, 1))


@pytest.mark.parametrize("lengths", [LENGTHS, (70, 66)])
def test_one_loop_is_direct_bit_for_bit(lengths):
    one, direct = update(looped(train_loops=1), lengths=lengths), update(strategy("direct"), lengths=lengths)
    assert torch.equal(one[0], direct[0]) and torch.equal(one[1], direct[1])
    assert all(torch.equal(one[2][n], g) for n, g in direct[2].items())
    assert one[3].bill.total_flops == direct[3].bill.total_flops


@pytest.mark.parametrize("how", [looped(train_loops=1), looped(train_loops=4, loops=1)], ids=["taught", "asked"])
def test_one_loop_answers_as_direct(how):
    ours, direct = ({n: seen(o) for n, o in ask(tiny(s), jobs_of(s, TOYS)).items()} for s in (how, strategy("direct")))
    assert ours == direct


# What it costs


def forward_flops(index):
    """Of the blocks, once."""
    return int(gpt2_price(layers=L, width=D).blocks(np.asarray(index) + 1).sum())


@pytest.mark.parametrize(("loops", "learning"), [(1, None), (3, None), (3, 1), (5, 2), (2, 7)])
def test_training_is_charged_for_the_loops_that_gradient_reaches(loops, learning):
    cells = update(looped(train_loops=loops, backprop=learning))[3]
    reached = min(loops, learning or loops)
    heads = 3 * head_flops(width=D, outputs=V) * len(cells.reads.cells)
    assert cells.bill.total_flops == (loops - reached + 3 * reached) * forward_flops(cells.layout.index) + heads


def scored(how):
    """Outcomes of scoring the keys: the same cells whatever the loops."""
    jobs = [Job(p.question.id, lambda p=p: how.score(p.question, (gold_text(p),))) for p in TOYS]
    return ask(tiny(how), jobs)


def test_asking_costs_loops_times_the_blocks_and_one_head():
    plain = scored(strategy("direct"))
    for loops in (1, 2, 5):
        for name, outcome in scored(looped(loops=loops)).items():
            cells, before = outcome.trace.cells, plain[name]
            assert cells == before.trace.cells
            blocks, heads = forward_flops(range(len(cells))), sum(c[4] for c in cells) * head_flops(width=D, outputs=V)
            assert outcome.ledger.total_flops == loops * blocks + heads
            assert outcome.ledger.serial_passes == loops * before.ledger.serial_passes
            assert outcome.ledger.peak_kv_bytes == loops * before.ledger.peak_kv_bytes


@pytest.mark.parametrize("loops", [2, 5])
def test_cached_is_whole_at_any_number_of_loops(loops):
    how = looped(train_loops=3, loops=loops)
    spec = replace(make_spec(strategy="looped_depth", task="arithmetic"), strategy=how)
    assert bit_stable(spec, tiny(how, width=32))


def test_more_loops_when_asked_say_something_else():
    nats = [[o.value[0].nats for o in scored(looped(train_loops=2, loops=loops)).values()] for loops in (None, 2, 3)]
    assert nats[0] == nats[1] != nats[2]


# Random loops


def toy_feed():
    return Feed(task=Toy(), alphabet=digits(), seed=0, problems_per_update=2, context_tokens=64)


def test_each_update_draws_its_own_loops_and_pays_for_them():
    how = looped(train_loops=3, random=True)
    backbone, drawn = tiny(how), []
    for number in range(40):
        cells = toy_feed().batch(how, number, progress=0.0, device=CPU).cells
        how.forward(backbone, cells, None)
        loops, rest = divmod(cells.bill.total_flops, 3 * forward_flops(cells.layout.index))
        assert rest == 0
        drawn.append(loops)
    assert set(drawn) == {1, 2, 3, 4, 5}
    assert drawn == [how.taught_loops(toy_feed().batch(how, n, progress=0.5, device=CPU).cells.draw) for n in range(40)]
    many = [how.taught_loops(draw) for draw in range(4000)]
    assert np.mean(many) == pytest.approx(3, abs=0.1) and np.bincount(many)[1:].min() > 700


def test_without_a_draw_training_does_what_asking_does():
    how = looped(random=True)
    one, other = update(how), update(looped())
    assert torch.equal(one[0], other[0])
    draw = next(d for d in range(99) if how.taught_loops(d) != how.train_loops)
    assert not torch.equal(one[0], update(how, draw=draw)[0])


# Bad input


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [("loops", "0", "from 1 to 256 or none"), ("train_loops", "65", "from 1 to 64"), ("backprop", "x", "a whole number from 1")],
)
def test_settings_out_of_range_are_named(key, value, legal):
    with pytest.raises(ValueError, match=rf"strategy\.{key}: expected .*{legal}") as caught:
        make_spec(strategy="looped_depth", task="arithmetic", settings={f"strategy.{key}": value})
    assert "\n" not in str(caught.value)


def test_loops_when_asked_train_nothing():
    specs = [make_spec(strategy="looped_depth", task="arithmetic", settings={"strategy.loops": n}) for n in (2, 8)]
    assert specs[0].learner_fingerprint() == specs[1].learner_fingerprint() and specs[0].fingerprint() != specs[1].fingerprint()
