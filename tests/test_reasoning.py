"""The six statements that must hold for thoughts, on cell input activations, through the training step's own path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import (
    Toy,
    ask,
    assert_shielded,
    batch_of,
    digits,
    jobs_of,
    leaks,
    random_texts,
    reach,
    seen,
    states_and_inputs,
    strategy,
    target_loss,
    targets_of,
    tiny,
    untrained,
)  # fmt: skip

from harness import registry
from harness.attention import FUSED_MIN_TOKENS
from harness.cells import lay
from harness.decoder import Decoder
from harness.problem import ROLES
from harness.rows import Feed
from harness.strategy import NOTHING, THOUGHT
from harness.stream import encode
from harness.weights import state_of

ReasoningTokens = registry.find("strategy", "reasoning_tokens")
SHORT, LONG = (9, 5, 8), (44, 36)
TOYS = Toy().problems("test", seed=0, start=0, count=24)

PLAIN = [
    {"per_token": 1},
    {"per_token": 3},
    {"per_token": 2, "embed": "shared"},
    {"per_token": 2, "embed": "copy"},
    {"per_token": 2, "embed": "copy_bare"},
    {"per_token": 2, "place": "own"},
    {"per_token": 2, "among": "all"},
    {"per_token": 2, "where": "prompt"},
    {"per_token": 2, "where": "answer"},
    {"per_token": 2, "gate": "learned"},
    {"per_token": 2, "gate": "learned", "among": "all", "embed": "copy", "place": "own"},
]
FAR_HORIZONS = [
    {**fields, "shield": shield, "horizon": horizon}
    for shield in ("detach", "mask")
    for fields, horizon in [
        ({"per_token": 1}, 2),
        ({"per_token": 2}, 3),
        ({"per_token": 2, "embed": "copy", "place": "own"}, 2),
        ({"per_token": 2, "embed": "shared", "among": "all"}, 3),
        ({"per_token": 2, "gate": "learned"}, 2),
        ({"per_token": 1, "where": "prompt"}, 2),
        ({"per_token": 1, "where": "answer"}, 2),
    ]
]


def name_of(fields):
    return "-".join(f"{k}={v}" for k, v in fields.items())


def made(fields, **model):
    how = strategy("reasoning_tokens", **fields)
    return how, tiny(how, **model)


# (1) (2) (3): the gradient of one target's loss in the thoughts' inputs


@pytest.mark.parametrize("fields", PLAIN + FAR_HORIZONS, ids=name_of)
def test_only_targets_beyond_the_horizon_train_a_thought(fields):
    how, backbone = made(fields)
    assert_shielded(reach(backbone, random_texts(SHORT)), how.horizon)


@pytest.mark.parametrize(
    "fields",
    [
        {"per_token": 1},
        {"per_token": 1, "horizon": 3},
        {"per_token": 1, "horizon": 2, "shield": "mask"},
        {"per_token": 2, "horizon": 2, "gate": "learned"},
        {"per_token": 2, "horizon": 2, "among": "all", "embed": "copy"},
    ],
    ids=name_of,
)
def test_the_same_in_long_rows(fields):
    how, backbone = made(fields)
    texts = random_texts(LONG)
    assert batch_of(backbone, texts).cells.shape[1] >= FUSED_MIN_TOKENS
    assert_shielded(reach(backbone, texts), how.horizon)


@pytest.mark.parametrize("shield", ["detach", "mask"])
def test_a_share_of_the_heads_leaks_by_design(shield):
    _how, backbone = made({"per_token": 1, "horizon": 3, "heads": 0.5, "shield": shield})
    found = reach(backbone, random_texts(SHORT))
    assert leaks(found, 1) == []  # causality alone
    assert {t - i for i, t in leaks(found, 3)} == {2, 3}


def test_shielded_heads_get_no_gradient_from_near_targets(monkeypatch):
    """In the last block a key or value reaches the loss through its own pairs alone."""
    import harness.backbone

    _how, backbone = made({"per_token": 1, "horizon": 3, "heads": 0.5})
    caught = []
    own = harness.backbone.attend

    def attend(q, k, v, masks, **rest):
        caught.append((k, v))
        return own(q, k, v, masks, **rest)

    monkeypatch.setattr(harness.backbone, "attend", attend)
    batch = batch_of(backbone, random_texts((9,)))
    states, _ = states_and_inputs(backbone, batch)
    layout, (_, places) = batch.cells.layout, targets_of(batch)
    thought = layout.kind == THOUGHT
    for group, target in enumerate(places):
        near = thought & (target - layout.place <= 3)
        far = thought & (target - layout.place > 3)
        for gradient in torch.autograd.grad(target_loss(backbone, batch, states, group), caught[-1], retain_graph=True):
            assert float(gradient[0, :2, near].abs().sum()) == 0
            if near[layout.place == target - 2].any():
                assert float(gradient[0, 2:, near].abs().sum()) > 0
            if far.any():
                assert float(gradient[0, :2, far].abs().sum()) > 0


@pytest.mark.parametrize("emit", ["last", "learned"])
def test_the_controls_do_meet_the_next_target(emit):
    _, backbone = made({"per_token": 2, "emit": emit})
    assert {t - i for i, t in leaks(reach(backbone, random_texts(SHORT)), 1)} == {1}


def test_taught_all_meets_the_next_target_too():
    _, backbone = made({"per_token": 2, "taught": "all"})
    assert {t - i for i, t in leaks(reach(backbone, random_texts(SHORT)), 1)} == {1}


# Mutations: the helper above must report them


@dataclass(frozen=True, kw_only=True)
class NoBand(ReasoningTokens):
    """Forgets its shield."""

    def band(self, q, k, heads):
        return torch.zeros_like(super().band(q, k, heads))


@dataclass(frozen=True, kw_only=True)
class ShortBand(ReasoningTokens):
    """Horizon off by one."""

    def band(self, q, k, heads):
        apart = q.place[:, :, None] - k.place[:, None, :]
        return ((apart >= 1) & (apart < self.horizon - 1) & (k.kind == THOUGHT)[:, None, :])[:, None]


@dataclass(frozen=True, kw_only=True)
class LongBand(ReasoningTokens):
    """Shields everything that follows."""

    def band(self, q, k, heads):
        return ((q.place[:, :, None] > k.place[:, None, :]) & (k.kind == THOUGHT)[:, None, :])[:, None]


@dataclass(frozen=True, kw_only=True)
class Foresight(ReasoningTokens):
    """Text sees the thoughts and text behind it."""

    def sight(self, q, k, heads):
        from harness.strategy import Sight

        return Sight(look=((q.index[:, :, None] - k.index[:, None, :]).abs() < 3)[:, None])


@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("shield", ["detach", "mask"])
@pytest.mark.parametrize(("mutant", "reported"), [(NoBand, {2, 3}), (ShortBand, {3})])
def test_a_broken_shield_is_reported(mutant, reported, shield, lengths):
    backbone = tiny(mutant(per_token=1, horizon=3, shield=shield))
    found = reach(backbone, random_texts(lengths))
    assert {t - i for i, t in leaks(found, 3)} == reported
    with pytest.raises(AssertionError):
        assert_shielded(found, 3)


def test_a_shield_that_never_lifts_is_reported():
    found = reach(tiny(LongBand(per_token=1, horizon=2)), random_texts(SHORT))
    assert leaks(found, 2) == []
    assert untrained(found, 2)


def test_seeing_the_future_is_reported():
    found = reach(tiny(Foresight(per_token=1)), random_texts(SHORT))
    assert any(t - i <= 0 for i, t in leaks(found, 1))


# (4): changing a thought or anything later


def logits_of(backbone, batch, change=None):
    with torch.no_grad():
        states, _ = states_and_inputs(backbone, batch, change)
        return backbone.strategy.readout(backbone, states, batch.cells.reads)


@pytest.mark.parametrize("lengths", [(9, 6), LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    "fields",
    [
        {"per_token": 1},
        {"per_token": 2, "among": "all", "gate": "learned"},
        {"per_token": 2, "horizon": 3},
        {"per_token": 2, "horizon": 3, "shield": "mask"},
        {"per_token": 2, "emit": "last"},
        {"per_token": 2, "emit": "learned", "among": "all"},
        {"per_token": 0},
    ],
    ids=name_of,
)
def test_changing_a_thought_or_anything_later_leaves_earlier_logits_alone(fields, lengths):
    how, backbone = made(fields)
    batch = batch_of(backbone, random_texts(lengths))
    layout, (rows, targets) = batch.cells.layout, targets_of(batch)
    before = logits_of(backbone, batch)
    noise = torch.randn(batch.cells.embed.shape[0], backbone.width, generator=torch.Generator().manual_seed(0)) * 5
    for place in (0, 2, lengths[0] // 2):
        later = (layout.row == 0) & ((layout.place > place) | ((layout.place == place) & (layout.kind == THOUGHT)))
        change = torch.zeros_like(noise)
        change[: len(later)][torch.from_numpy(later)] = noise[: len(later)][torch.from_numpy(later)]
        after = logits_of(backbone, batch, change)
        own = place if how.emit == "first" else place - 1  # the last place that is read before the thoughts of ``place``
        same = torch.from_numpy((rows == 1) | (targets - 1 <= own))
        assert torch.equal(before[same], after[same])
        assert (before[~same] != after[~same]).any(1).all()


# (5): the forward pass of the shields


def asked(how, backbone):
    return {name: seen(outcome) for name, outcome in ask(backbone, jobs_of(how, TOYS)).items()}


def loss_of(backbone, batch):
    states, _ = states_and_inputs(backbone, batch)
    return backbone.strategy.loss(backbone, states, batch.cells, 0.5)


@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("fields", [{}, {"gate": "learned"}, {"among": "all"}, {"heads": 0.5}], ids=name_of)
def test_detach_does_not_touch_the_forward_pass_and_mask_does(fields, lengths):
    texts = random_texts(lengths)
    losses, logits = {}, {}
    for shield, horizon in (("detach", 1), ("detach", 3), ("mask", 3)):
        _, backbone = made({"per_token": 2, "shield": shield, "horizon": horizon, **fields})
        batch = batch_of(backbone, texts)
        losses[shield, horizon] = loss_of(backbone, batch).detach()
        logits[shield, horizon] = logits_of(backbone, batch)
    assert torch.equal(losses["detach", 1], losses["detach", 3])
    assert torch.equal(logits["detach", 1], logits["detach", 3])
    assert not torch.equal(logits["detach", 1], logits["mask", 3])


def test_detach_does_not_touch_decoding():
    plain, detached, masked = (
        asked(*made({"per_token": 2, "shield": shield, "horizon": horizon}))
        for shield, horizon in (("detach", 1), ("detach", 3), ("mask", 3))
    )
    assert plain == detached
    assert plain != masked


# (6): no thoughts


@pytest.mark.parametrize("lengths", [SHORT, (70, 66)], ids=["short", "long"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gate": "learned", "emit": "learned"},
        {"horizon": 3, "shield": "mask", "among": "all"},
        {"place": "own", "embed": "copy"},
    ],
    ids=name_of,
)
def test_no_thoughts_is_direct_bit_for_bit(fields, lengths):
    results = []
    for how in (strategy("direct"), strategy("reasoning_tokens", per_token=0, **fields)):
        backbone = tiny(how)
        batch = batch_of(backbone, random_texts(lengths))
        loss = loss_of(backbone, batch)
        loss.backward()
        gradients = {name: p.grad for name, p in backbone.named_parameters()}
        results.append((loss.detach(), gradients, batch, backbone, asked(how, backbone)))
    (loss, gradients, batch, backbone, answers), (loss0, gradients0, batch0, backbone0, answers0) = results
    assert torch.equal(loss, loss0)
    assert gradients.keys() == gradients0.keys()
    assert all(torch.equal(gradients[name], gradients0[name]) for name in gradients)
    assert batch.cells.bill.total_flops == batch0.cells.bill.total_flops
    weights = state_of(backbone0)
    assert all(torch.equal(value, weights[name]) for name, value in state_of(backbone).items())
    assert answers == answers0


# Gates


def set_gate(backbone, bias):
    with torch.no_grad():
        backbone.parts["gate"].weight.zero_()
        backbone.parts["gate"].bias.fill_(bias)


@pytest.mark.parametrize("emit", ["first", "last"])
@pytest.mark.parametrize("lengths", [SHORT, (30, 22)], ids=["short", "long"])
def test_a_shut_gate_removes_the_thought_exactly(lengths, emit):
    """For later places: within its own place, which emit=last reads, a thought is seen ungated."""
    texts = random_texts(lengths)
    _, gated = made({"per_token": 2, "gate": "learned", "emit": emit})
    _, masked = made({"per_token": 2, "shield": "mask", "horizon": 64, "emit": emit})
    batch, reference = batch_of(gated, texts), batch_of(masked, texts)
    for bias in (-1e30, -float("inf")):
        set_gate(gated, bias)
        assert torch.equal(logits_of(gated, batch), logits_of(masked, reference))
    set_gate(gated, 0.0)
    assert not torch.equal(logits_of(gated, batch), logits_of(masked, reference))


def test_an_open_gate_changes_nothing():
    texts = random_texts(SHORT)
    _, gated = made({"per_token": 2, "gate": "learned"})
    _, plain = made({"per_token": 2})
    set_gate(gated, 200.0)
    assert torch.equal(logits_of(gated, batch_of(gated, texts)), logits_of(plain, batch_of(plain, texts)))


def test_a_shut_gate_removes_the_thought_when_asking_too():
    how, gated = made({"per_token": 2, "gate": "learned"})
    other, masked = made({"per_token": 2, "shield": "mask", "horizon": 64})
    set_gate(gated, -1e30)
    ours, theirs = ask(gated, jobs_of(how, TOYS)), ask(masked, jobs_of(other, TOYS))
    assert {n: o.value for n, o in ours.items()} == {n: o.value for n, o in theirs.items()}
    for outcome in ours.values():
        thoughts = sum(cell[1] == THOUGHT for cell in outcome.trace.cells)
        assert [len(outcome.trace.notes[f"gate_{layer}"]) for layer in range(2)] == [thoughts] * 2
        assert not any(outcome.trace.notes["gate_0"])


def test_the_gate_learns():
    _, backbone = made({"per_token": 1, "gate": "learned"})
    loss_of(backbone, batch_of(backbone, random_texts(SHORT))).backward()
    gradient = backbone.parts["gate"].weight.grad
    assert (gradient[: backbone.layers].abs().sum(1) > 0).all()
    assert not gradient[backbone.layers :].any()


def test_the_gate_gradient_is_the_numerical_one():
    _, backbone = made({"per_token": 1, "gate": "learned"}, scale=4.0)
    backbone.double()
    batch = batch_of(backbone, random_texts((7,)))
    set_gate(backbone, 0.3)
    loss_of(backbone, batch).backward()
    bias, step = backbone.parts["gate"].bias, 1e-5
    for layer in range(2):
        with torch.no_grad():
            bias[layer] += step
            up = loss_of(backbone, batch)
            bias[layer] -= 2 * step
            down = loss_of(backbone, batch)
            bias[layer] += step
        assert float((up - down) / (2 * step)) == pytest.approx(float(bias.grad[layer]), rel=1e-4, abs=1e-9)


# A learned chance of speaking


def speaking(fields, lengths=SHORT):
    how, backbone = made({"emit": "learned", **fields})
    with torch.no_grad():
        for p in backbone.parts["speak"].parameters():
            p.normal_(generator=torch.Generator().manual_seed(1))
    batch = batch_of(backbone, random_texts(lengths))
    states, _ = states_and_inputs(backbone, batch)
    return how, backbone, batch, states


def slow_chances(backbone, states, reads):
    """p_j by the definition, one place at a time."""
    q = torch.sigmoid(backbone.parts["speak"][0](states)).detach()
    p = []
    for group in range(reads.count):
        here = [i for i in range(len(reads.group)) if reads.group[i] == group]
        silent = 1.0
        for i in here:
            chance = 1.0 if i == here[-1] else float(q[i, int(reads.slot[i]) - 1])
            p.append(silent * chance)
            silent *= 1 - chance
    return p


LEARNED = [
    {"per_token": 1},
    {"per_token": 3},
    {"per_token": 2, "where": "prompt"},
    {"per_token": 20, "among": "all", "ponder": 0.5},
]


@pytest.mark.parametrize("fields", LEARNED, ids=name_of)
def test_the_chances_of_speaking(fields):
    how, backbone, batch, states = speaking(fields)
    reads = batch.cells.reads
    p = how.chances(backbone, states, reads).detach()
    sums = torch.zeros(reads.count).index_add(0, reads.group, p)
    assert torch.allclose(sums, torch.ones(reads.count), atol=1e-6)
    assert p.tolist() == pytest.approx(slow_chances(backbone, states, reads), abs=1e-6)


@pytest.mark.parametrize("fields", LEARNED, ids=name_of)
def test_the_loss_by_the_definition(fields):
    how, backbone, batch, states = speaking(fields)
    reads, p = batch.cells.reads, slow_chances(backbone, states, batch.cells.reads)
    logp = torch.log_softmax(backbone.head(states, reads), -1).detach()
    total = 0.0
    for i, chance in enumerate(p):
        total += chance * (-float(logp[i, batch.cells.targets[i]]) + how.ponder * int(reads.slot[i]))
    assert float(how.loss(backbone, states, batch.cells, 0.0).detach()) == pytest.approx(total / reads.count, rel=1e-5)


@pytest.mark.parametrize("fields", LEARNED, ids=name_of)
def test_the_readout_is_the_mixture(fields):
    how, backbone, batch, states = speaking(fields)
    reads, p = batch.cells.reads, slow_chances(backbone, states, batch.cells.reads)
    said = how.readout(backbone, states, reads).detach()
    assert said.shape == (reads.count, backbone.outputs)
    assert torch.allclose(said.logsumexp(-1), torch.zeros(reads.count), atol=1e-5)
    mixture = torch.zeros(reads.count, backbone.outputs)
    one = torch.softmax(backbone.head(states, reads), -1).detach()
    for i, chance in enumerate(p):
        mixture[int(reads.group[i])] += chance * one[i]
    assert torch.allclose(said.exp(), mixture, atol=1e-6)


def test_one_thought_always_speaks():
    """With one thought, emit=learned reads where emit=last does."""
    answers = [asked(*made({"per_token": 1, "emit": emit})) for emit in ("learned", "last")]
    texts = [{name: (one[0].completion.ids, one[1]) for name, one in a.items()} for a in answers]
    assert texts[0] == texts[1]


def test_the_chances_are_noted():
    how, backbone = made({"per_token": 3, "emit": "learned"})
    for outcome in ask(backbone, jobs_of(how, TOYS[:6])).values():
        reads = sum(cell[4] for cell in outcome.trace.cells)
        assert len(outcome.trace.notes["speaks"]) == reads
        spoken = np.array(outcome.trace.notes["speaks"]).reshape(-1, 3).sum(1)
        assert spoken == pytest.approx(1.0, abs=1e-5)


# Layouts


def woven_of(how, n=6, prompt=3):
    ids, places = np.arange(1, n + 1), np.arange(n)
    roles = np.where(places < prompt, ROLES.index("prompt"), ROLES.index("answer"))
    return how.weave(ids, roles, places)


def test_the_layout():
    woven = woven_of(strategy("reasoning_tokens", per_token=2), n=2)
    assert woven.source.tolist() == [0, 0, 0, 1, 1, 1]
    assert woven.slot.tolist() == [0, 1, 2, 0, 1, 2]
    assert woven.embed.tolist() == [1, -1, -2, 2, -1, -2]
    assert woven.position.tolist() == [0, 0, 0, 1, 1, 1]
    assert woven.read.tolist() == [True, False, False] * 2
    assert woven.taught.tolist() == [True, False, False] * 2


def test_the_inputs_of_thoughts():
    assert woven_of(strategy("reasoning_tokens", per_token=2, embed="shared"), n=1).embed.tolist() == [1, -1, -1]
    copied = woven_of(strategy("reasoning_tokens", per_token=2, embed="copy"), n=1)
    assert copied.embed.tolist() == [1, 1, 1]
    assert copied.added.tolist() == [NOTHING, -1, -2]
    bare = woven_of(strategy("reasoning_tokens", per_token=2, embed="copy_bare"), n=1)
    assert (bare.embed.tolist(), bare.added.tolist()) == ([1, 1, 1], [NOTHING] * 3)


def test_the_inputs_reach_the_model():
    """embed=copy feeds the token's embedding plus the slot's vector, at the token's position."""
    _how, backbone = made({"per_token": 2, "embed": "copy"})
    batch = batch_of(backbone, random_texts((3,)))
    inputs = states_and_inputs(backbone, batch)[1]
    table, places = backbone.model.transformer.wte.weight, backbone.model.transformer.wpe.weight
    slot_rows = backbone.alphabet.sayable_end
    for cell in range(batch.cells.count):
        place, slot = int(batch.cells.layout.place[cell]), int(batch.cells.layout.slot[cell])
        text = int(batch.cells.layout.embed[cell])
        expected = table[text] + places[place] + (table[slot_rows + slot - 1] if slot else 0)
        assert torch.allclose(inputs[cell], expected, atol=1e-6)


def test_positions_of_their_own_are_contiguous():
    _how, backbone = made({"per_token": 2, "place": "own"}, context=20)
    batch = batch_of(backbone, random_texts((4, 3)))
    assert batch.cells.position[: batch.cells.count].tolist() == batch.cells.layout.index.tolist()
    assert backbone.model.transformer.wpe.weight.shape[0] == 60


@pytest.mark.parametrize(("where", "slots"), [("prompt", [0, 1, 2] * 3 + [0] * 3), ("answer", [0] * 3 + [0, 1, 2] * 3)])
def test_where_thoughts_follow(where, slots):
    woven = woven_of(strategy("reasoning_tokens", per_token=2, where=where))
    assert woven.slot.tolist() == slots
    assert woven.read.tolist() == [slot == 0 for slot in slots]


@pytest.mark.parametrize("where", ["prompt", "answer"])
@pytest.mark.parametrize("emit", ["last", "learned"])
def test_text_without_thoughts_is_read_at_itself(emit, where):
    woven = woven_of(strategy("reasoning_tokens", per_token=2, emit=emit, where=where))
    counts = np.bincount(woven.source[woven.read], minlength=6).tolist()
    here, there = (2 if emit == "learned" else 1), 1
    assert counts == ([here] * 3 + [there] * 3 if where == "prompt" else [there] * 3 + [here] * 3)


def test_thoughts_of_a_place_see_each_other_only_with_among_all():
    noise = torch.zeros(1, 16)
    for among, expected in (("causal", False), ("all", True)):
        _, backbone = made({"per_token": 3, "among": among, "emit": "learned"})
        batch = batch_of(backbone, random_texts((5,)))
        change = noise.repeat(batch.cells.embed.shape[0], 1)
        change[3] = 1.0  # R_0^3; R_0^1 is the first read
        before, after = states_and_inputs(backbone, batch)[0], states_and_inputs(backbone, batch, change)[0]
        assert (not torch.equal(before[0], after[0])) == expected
        assert not torch.equal(before[2], after[2])


# weave(all) = its parts one after another


@st.composite
def cut_texts(draw):
    n = draw(st.integers(1, 12))
    ids = draw(st.lists(st.integers(0, 11), min_size=n, max_size=n))
    roles = sorted(draw(st.lists(st.sampled_from([0, 1, 2]), min_size=n, max_size=n)))
    cuts = sorted(draw(st.sets(st.integers(1, n - 1)))) if n > 1 else []
    fields = {
        "per_token": draw(st.integers(0, 4)),
        "embed": draw(st.sampled_from(["own", "shared", "copy", "copy_bare"])),
        "place": draw(st.sampled_from(["shared", "own"])),
        "emit": draw(st.sampled_from(["first", "last", "learned"])),
        "where": draw(st.sampled_from(["all", "prompt", "answer"])),
        "taught": draw(st.sampled_from(["read", "all"])),
    }
    return np.array(ids), np.array(roles), cuts, fields


@given(cut_texts())
def test_weaving_a_whole_is_weaving_its_parts(drawn):
    ids, roles, cuts, fields = drawn
    how, places = strategy("reasoning_tokens", **fields), np.arange(len(ids))
    whole = how.weave(ids, roles, places)
    parts = [
        how.weave(ids[s], roles[s], places[s]) for s in (slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True))
    ]
    starts = [0, *cuts]
    for name in whole.__dataclass_fields__:
        joined = np.concatenate(
            [getattr(p, name) + (start if name == "source" else 0) for p, start in zip(parts, starts, strict=True)]
        )
        assert joined.tolist() == getattr(whole, name).tolist(), name


@given(cut_texts())
def test_feeding_in_parts_lays_the_cells_of_the_whole(drawn):
    """Increments carry the last token's owed thoughts, so that parts give the same cells in the same order."""
    ids, roles, cuts, fields = drawn
    how, alphabet = strategy("reasoning_tokens", **fields), digits()
    stream = encode([()], alphabet)
    places = np.arange(len(ids))

    def laid(a, b, before, *, carry):
        a = a - 1 if carry else a
        n, no = b - a, np.zeros(b - a, dtype=bool)
        final, carried = no.copy(), no.copy()
        final[-1], carried[0] = True, carry
        some = type(stream)(ids[a:b], roles[a:b], places[a:b], np.zeros(n, dtype=np.int64), no)
        return lay(how, alphabet, some, before=np.array([before]), carried=carried, final=final)

    whole = laid(0, len(ids), 0, carry=False)
    held, parts = 0, []
    for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        parts.append(laid(a, b, held, carry=a > 0))
        held += int(parts[-1].counts.sum())
    for name in ("embed", "added", "position", "kind", "place", "slot", "role", "index", "read"):
        assert np.concatenate([getattr(p, name) for p in parts]).tolist() == getattr(whole, name).tolist(), name


# Training and decoding are one layout


@pytest.mark.parametrize("fields", [*PLAIN, {"per_token": 2, "emit": "last"}, {"per_token": 2, "emit": "learned"}], ids=name_of)
def test_training_and_decoding_give_the_same_logits(fields):
    how, backbone = made(fields)
    texts = random_texts((12, 7, 30))
    batch = batch_of(backbone, texts)
    trained, row = logits_of(backbone, batch), targets_of(batch)[0]
    decoder = Decoder(backbone, reference_layers=2)
    account = decoder.accounts.open(float("inf"))
    for i, text in enumerate(texts):
        stream = encode([text], backbone.alphabet)
        feed = Feed(decoder.new_row(account), stream.ids, stream.roles, stream.places, every=True)
        asked_logits = decoder.feed([feed])[0][feed.row][:-1]
        expected = trained[torch.from_numpy(row == i)]
        expected = expected if how.emit == "learned" else torch.log_softmax(expected, -1)
        asked_logits = asked_logits if how.emit == "learned" else torch.log_softmax(asked_logits, -1)
        assert float((asked_logits - expected).abs().max()) < 1e-4 * max(1.0, float(expected.abs().max()))
