"""Shielded attention against plain autograd over design.md's formula."""

from __future__ import annotations

import math

import pytest
import torch
from support import batch_of, random_texts, reach, states_and_inputs, target_loss, tiny

from harness import fused
from harness.attention import FUSED_MIN_TOKENS, Masks, _receivers, attend, causal_bias
from harness.strategy import Sight, Strategy


def reference(q, k, v, bias, *, learn_kv=None, learn_state=None, still=None, gated=None, gate=None):
    """Scores = where(band, Q stop(K)^T, Q K^T); out = P stop(V) + (G - stop(G)), G = stop(P * ~band) V: autograd does the rest.

    Pairs that may not learn the state use the twins made of stopped states.
    """
    yes = torch.ones(1, dtype=torch.bool).expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    learn_kv, learn_state = (yes if x is None else x.expand(yes.shape) for x in (learn_kv, learn_state))
    k_still, v_still = still if still is not None else (k, v)
    live, twin = learn_kv & learn_state, learn_kv & ~learn_state
    scores = torch.where(
        live, q @ k.transpose(2, 3), torch.where(twin, q @ k_still.transpose(2, 3), q @ k.detach().transpose(2, 3))
    ) / math.sqrt(q.shape[3])
    if gate is not None:
        log_gate = gate[:, None, None, :].expand(yes.shape)
        scores = scores + torch.where(gated.expand(yes.shape), torch.where(live, log_gate, log_gate.detach()), 0.0)
    p = torch.softmax(scores + bias, -1)
    learned = (p * live).detach() @ v + (p * twin).detach() @ v_still
    return p @ v.detach() + (learned - learned.detach())


def drawn(seed, *, b=3, h=2, queries=7, keys=7, width=4):
    generator = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.randn(*shape, generator=generator)

    q, k, v = some(b, h, queries, width), some(b, h, keys, width), some(b, h, keys, width)
    gate = torch.nn.functional.logsigmoid(some(b, keys) * 2)
    return q, k, v, gate, some(b, h, queries, width), generator


def random_mask(generator, *shape):
    return torch.rand(*shape, generator=generator) < 0.5


def gradients(function, leaves, weights):
    leaves = [x.clone().requires_grad_() for x in leaves]
    out = function(*leaves)
    return out.detach(), torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True)


def assert_same_gradients(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        mine, other = (torch.zeros(()) if x is None else x for x in (mine, other))
        assert float((mine - other).abs().max()) <= 1e-5 * max(1.0, float(other.abs().max()))


def compared(seed, *, per_head, use_kv, use_state, use_gate, sizes=None):
    sizes = sizes or {}
    q, k, v, gate, weights, generator = drawn(seed, **sizes)
    b, h, queries, keys = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
    shape = (b, h if per_head else 1, queries, keys)
    learn_kv = random_mask(generator, *shape) if use_kv else None
    learn_state = random_mask(generator, *shape) if use_state else None
    gated = random_mask(generator, b, 1, queries, keys) if use_gate else None
    bias = causal_bias(queries, torch.device("cpu"))
    masks = Masks(bias, learn_kv, learn_state, gated)

    def ours(q, k, v, ks, vs, gate):
        return attend(q, k, v, masks, still=(ks, vs) if use_state else None, gate=gate if use_gate else None)

    def theirs(q, k, v, ks, vs, gate):
        rest = {"gated": gated, "gate": gate} if use_gate else {}
        still = (ks, vs) if use_state else None
        return reference(q, k, v, bias, learn_kv=learn_kv, learn_state=learn_state, still=still, **rest)

    leaves = (q, k, v, k, v, gate)
    return gradients(ours, leaves, weights), gradients(theirs, leaves, weights)


@pytest.mark.parametrize("use_gate", [False, True], ids=["", "gate"])
@pytest.mark.parametrize("use_state", [False, True], ids=["", "state"])
@pytest.mark.parametrize("use_kv", [False, True], ids=["", "kv"])
@pytest.mark.parametrize("per_head", [False, True], ids=["shared", "per_head"])
def test_gradients_are_those_of_the_formula(per_head, use_kv, use_state, use_gate):
    for seed in range(4):
        (out, ours), (plain, theirs) = compared(seed, per_head=per_head, use_kv=use_kv, use_state=use_state, use_gate=use_gate)
        assert torch.allclose(out, plain, atol=1e-6)
        assert_same_gradients(ours, theirs)


def test_the_comparison_notices_an_ignored_mask():
    (_, ours), _ = compared(0, per_head=True, use_kv=False, use_state=False, use_gate=False)
    _, (_, theirs) = compared(0, per_head=True, use_kv=True, use_state=False, use_gate=False)
    with pytest.raises(AssertionError):
        assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("learn", ["learn_kv", "learn_state"])
def test_gradients_of_the_fused_path(learn):
    size = FUSED_MIN_TOKENS + 6
    q, k, v, _, weights, generator = drawn(0, b=2, queries=size, keys=size)
    mask = random_mask(generator, 2, 2, size, size)
    masks = Masks(None, **{learn: mask})
    bias = causal_bias(size, q.device)
    twins = learn == "learn_state"
    leaves = (q, k, v, k, v)
    out, ours = gradients(lambda q, k, v, ks, vs: attend(q, k, v, masks, still=(ks, vs) if twins else None), leaves, weights)
    plain, theirs = gradients(
        lambda q, k, v, ks, vs: reference(q, k, v, bias, still=(ks, vs) if twins else None, **{learn: mask}), leaves, weights
    )
    assert torch.allclose(out, plain, atol=1e-5)
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("tokens", [7, FUSED_MIN_TOKENS + 6])
@pytest.mark.parametrize("learning", [False, True])
def test_shields_leave_the_forward_pass_untouched(tokens, learning):
    q, k, v, _, _, generator = drawn(1, queries=tokens, keys=tokens)
    mask = random_mask(generator, 3, 2, tokens, tokens)
    q.requires_grad_(learning)
    with torch.set_grad_enabled(learning):
        plain = attend(q, k, v, Masks(None))
        assert torch.equal(plain, attend(q, k, v, Masks(None, learn_kv=mask)))
        assert torch.equal(plain, attend(q, k, v, Masks(None, learn_state=mask), still=(k, v)))


def test_a_shielded_pair_gets_exactly_nothing():
    q, k, v, gate, weights, _ = drawn(2)
    learn = torch.ones(3, 1, 7, 7, dtype=torch.bool)
    learn[:, :, :, 3] = False
    masks = Masks(None, learn_kv=learn, gated=torch.ones_like(learn))
    _, (d_q, d_k, d_v, d_gate) = gradients(lambda q, k, v, g: attend(q, k, v, masks, gate=g), (q, k, v, gate), weights)
    assert not d_k[:, :, 3].any() and not d_v[:, :, 3].any() and not d_gate[:, 3].any()
    assert d_k[:, :, 2].any() and d_v[:, :, 2].any() and d_gate[:, 2].any() and d_q[:, :, 3].any()


# Through the backbone


class Myopic(Strategy):
    """No state learns from another cell's loss, but key and value weights do."""

    def sight(self, q, k, heads):
        return Sight(learn_state=(q.index[:, :, None] == k.index[:, None, :])[:, None])


class Nothing(Strategy):
    """No pair learns keys, values or states."""

    def sight(self, q, k, heads):
        return Sight(learn_kv=torch.zeros(*q.index.shape, k.index.shape[1], dtype=torch.bool)[:, None])


@pytest.mark.parametrize("lengths", [(9, 6), (70, 66)], ids=["short", "long"])
def test_learn_state_stops_at_the_state_while_key_and_value_weights_learn(lengths):
    backbone = tiny(Myopic())
    found = reach(backbone, random_texts(lengths))
    own = (found.target_row[:, None] == found.row) & (found.target_place[:, None] - 1 == found.place)
    size = found.size.numpy()
    assert (size[own] > 0).all() and not size[~own].any()

    batch = batch_of(backbone, random_texts(lengths))
    states, _ = states_and_inputs(backbone, batch)
    target_loss(backbone, batch, states, 4).backward()
    plain = tiny(Strategy())
    batch = batch_of(plain, random_texts(lengths))
    other, _ = states_and_inputs(plain, batch)
    assert torch.equal(states.detach(), other.detach())
    target_loss(plain, batch, other, 4).backward()
    ours = [block.attn.c_attn.weight.grad[:, 16:] for block in backbone.model.transformer.h]
    theirs = [block.attn.c_attn.weight.grad[:, 16:] for block in plain.model.transformer.h]
    assert all((x != 0).any() for x in ours)
    assert torch.allclose(ours[-1], theirs[-1], rtol=1e-3, atol=1e-5)  # the last block's weights lose nothing


def test_learn_kv_false_everywhere_teaches_keys_and_values_nothing():
    backbone = tiny(Nothing())
    batch = batch_of(backbone, random_texts((9, 6)))
    states, _ = states_and_inputs(backbone, batch)
    backbone.strategy.loss(backbone, states, batch.cells, 0.0).backward()
    for block in backbone.model.transformer.h:
        assert not block.attn.c_attn.weight.grad[:, 16:].any()
        assert block.attn.c_attn.weight.grad[:, :16].any()


@pytest.mark.parametrize("per_head", [False, True], ids=["shared", "per_head"])
@pytest.mark.parametrize("given", ["causal", "bias"])
@pytest.mark.parametrize("kinds", [(), ("kv",), ("state",), ("kv", "state")], ids="+".join)
def test_fused_kernels_cut_off_the_same_pairs(kinds, given, per_head):
    """The steps that GPUs take, on the CPU's kernels."""
    q, k, v, _, weights, generator = drawn(3, queries=37, keys=37, width=8)
    masks = {f"learn_{kind}": random_mask(generator, 3, 2 if per_head else 1, 37, 37) for kind in kinds}
    bias = causal_bias(37, q.device)
    if given == "bias":
        bias = torch.where(random_mask(generator, 3, 1, 37, 37) | (torch.arange(37) == 0), bias, -math.inf)
        bias[..., 0] = 0.0
    live, twins = _receivers(Masks(bias, **masks), "state" in kinds)

    def ours(q, k, v, ks, vs):
        rest = {} if twins is None else {"twins": (ks, vs), "still": twins}
        return fused.cut_off(q, k, v, bias=bias if given == "bias" else None, live=live, **rest)

    still = "state" in kinds
    out, found = gradients(ours, (q, k, v, k, v), weights)
    plain, expected = gradients(
        lambda q, k, v, ks, vs: reference(q, k, v, bias, still=(ks, vs) if still else None, **masks), (q, k, v, k, v), weights
    )
    assert torch.allclose(out, plain, atol=1e-6)
    assert_same_gradients(found, expected)
