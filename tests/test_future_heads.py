"""future_heads: exact zeros on keys and values of the chosen heads, and everything else as in direct."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from support import Toy, ask, batch_of, jobs_of, random_texts, seen, states_and_inputs, strategy, target_loss, targets_of, tiny

import harness.backbone
from harness import registry

FutureHeads = registry.find("strategy", "future_heads")
LENGTHS = {"short": (9, 6), "long": (70, 66)}
TOYS = Toy().problems("test", seed=0, start=0, count=16)


def near_gradients(backbone, texts, monkeypatch, horizon):
    """Largest gradient of a target's loss in keys and values at most ``horizon`` targets before it, and beyond, by head."""
    caught = []
    own = harness.backbone.attend

    def attend(q, k, v, masks, **rest):
        caught.append((k, v))
        return own(q, k, v, masks, **rest)

    monkeypatch.setattr(harness.backbone, "attend", attend)
    batch = batch_of(backbone, texts)
    states, _ = states_and_inputs(backbone, batch)
    rows, places = targets_of(batch)
    near, far = torch.zeros(backbone.heads), torch.zeros(backbone.heads)
    flat = [x for pair in caught for x in pair]
    for group in range(batch.cells.reads.count):
        row, place = int(rows[group]), int(places[group])
        for gradient in torch.autograd.grad(target_loss(backbone, batch, states, group), flat, retain_graph=True):
            by_head = gradient[row].abs().amax(2)  # (heads, cells): cell = place
            near = torch.maximum(near, by_head[:, max(place - horizon, 0) : place].amax(1))
            if place > horizon:
                far = torch.maximum(far, by_head[:, : place - horizon].amax(1))
    return near, far


def assert_shielded_heads(near, far, chosen):
    assert not near[:chosen].any()
    assert near[chosen:].all() and far.all()


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("heads", "horizon"), [(0.25, 1), (0.5, 3), (0.3, 2)])
def test_near_targets_train_no_chosen_head(heads, horizon, lengths, monkeypatch):
    backbone = tiny(strategy("future_heads", heads=heads, horizon=horizon))
    near, far = near_gradients(backbone, random_texts(LENGTHS[lengths]), monkeypatch, horizon)
    assert_shielded_heads(near, far, math.ceil(heads * 4))


@dataclass(frozen=True, kw_only=True)
class NoBand(FutureHeads):
    """Forgets its shield."""

    def band(self, q, k, heads):
        return torch.zeros_like(super().band(q, k, heads))


@dataclass(frozen=True, kw_only=True)
class ShortBand(FutureHeads):
    """Horizon off by one."""

    def band(self, q, k, heads):
        return super().band(q, k, heads) & (q.index[:, :, None] - k.index[:, None, :] < self.horizon - 1)[:, None]


@pytest.mark.parametrize("mutant", [NoBand, ShortBand])
def test_a_broken_shield_is_reported(mutant, monkeypatch):
    near, far = near_gradients(tiny(mutant(heads=0.5, horizon=2)), random_texts((9, 6)), monkeypatch, 2)
    with pytest.raises(AssertionError):
        assert_shielded_heads(near, far, 2)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_forward_loss_and_cost_are_directs(lengths):
    results = []
    for how in (strategy("direct"), strategy("future_heads", heads=0.5, horizon=3)):
        backbone = tiny(how)
        batch = batch_of(backbone, random_texts(LENGTHS[lengths]))
        states, _ = states_and_inputs(backbone, batch)
        loss = how.loss(backbone, states, batch.cells, 0.0)
        loss.backward()
        query = backbone.model.transformer.h[0].attn.c_attn.weight.grad
        results.append((states.detach(), loss.detach(), batch.cells.bill.total_flops, query))
    (states, loss, flops, gradient), (states0, loss0, flops0, gradient0) = results
    assert torch.equal(states, states0) and torch.equal(loss, loss0) and flops == flops0
    assert not torch.equal(gradient, gradient0)


def test_decoding_and_ledgers_are_directs():
    direct, future = (
        {n: seen(o) for n, o in ask(tiny(how), jobs_of(how, TOYS)).items()}
        for how in (strategy("direct"), strategy("future_heads", heads=0.5, horizon=3))
    )
    assert direct == future


def test_no_heads_is_direct():
    gradients = []
    for how in (strategy("direct"), strategy("future_heads", heads=0)):
        backbone = tiny(how)
        batch = batch_of(backbone, random_texts((9, 6)))
        states, _ = states_and_inputs(backbone, batch)
        how.loss(backbone, states, batch.cells, 0.0).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
