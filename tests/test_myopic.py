"""myopic: exact zeros before each target, gradients against an oracle; side_targets: lessons, loss, and direct's asking."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from support import CPU, Toy, ask, batch_of, jobs_of, random_texts, seen, strategy, target_loss, targets_of, tiny

from harness import registry
from harness.alphabet import make_alphabet
from harness.feed import Feed
from harness.problem import END, SPARE, Piece
from harness.spec import make_spec
from harness.strategy import Sight
from harness.task import Task

Myopic = registry.find("strategy", "myopic")
LENGTHS = {"short": (9, 6), "long": (70, 66)}
D = 16
TOYS = Toy().problems("test", seed=0, start=0, count=16)
DIRECT = strategy("direct")


def streams(backbone, batch, monkeypatch):
    """States at the reads, and the residual stream (N, D) before each block."""
    kept = []
    own_embed, own_mlp = type(backbone).embed, type(backbone)._mlp

    def embed(cells):
        kept.append(own_embed(backbone, cells))
        return kept[-1]

    def mlp(states, *rest):
        kept.append(own_mlp(backbone, states, *rest))
        return kept[-1]

    monkeypatch.setattr(backbone, "embed", embed, raising=False)
    monkeypatch.setattr(backbone, "_mlp", mlp, raising=False)
    states = backbone.strategy.forward(backbone, batch.cells, None)
    return states, kept[:-1]  # after the last block only the reads are left


def assert_myopic(backbone, texts, monkeypatch, *, every=1):
    """The loss of a target reaches the stream at the place where it is read, and nothing else."""
    batch = batch_of(backbone, texts)
    states, kept = streams(backbone, batch, monkeypatch)
    rows, places = targets_of(batch)
    layout = batch.cells.layout
    for group in range(0, batch.cells.reads.count, every):
        loss = target_loss(backbone, batch, states, group)
        here = torch.from_numpy((layout.row == rows[group]) & (layout.place == places[group] - 1))
        for gradient in torch.autograd.grad(loss, kept, retain_graph=True):
            assert not gradient[~here].any() and bool(gradient[here].any())


@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_loss_trains_the_stream_at_its_own_place_only(lengths, monkeypatch):
    every = {"short": 1, "long": 7}[lengths]
    assert_myopic(tiny(strategy("myopic"), layers=3), random_texts(LENGTHS[lengths]), monkeypatch, every=every)


def test_direct_is_not_myopic(monkeypatch):
    with pytest.raises(AssertionError):
        assert_myopic(tiny(DIRECT), random_texts((9, 6)), monkeypatch)


def oracle(ids, layers):
    """Gradients of the mean loss by stock modules, from constant streams of earlier cells by key and value weights that learn."""
    backbone = tiny(DIRECT, layers=layers)
    gpt, heads, losses = backbone.model.transformer, backbone.heads, []
    inputs = gpt.wte(ids[:-1]) + gpt.wpe(torch.arange(len(ids) - 1))

    def block(layer, past, own):
        """One block for the last cell: past (t, D) constants, own (D,)."""
        h = gpt.h[layer]
        q, _, _ = h.attn.c_attn(h.ln_1(own[None])).split(D, -1)
        _, k, v = h.attn.c_attn(torch.cat([h.ln_1(past).detach(), h.ln_1(own[None])])).split(D, -1)
        q, k, v = (x.view(len(x), heads, -1).transpose(0, 1) for x in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(D)
        own = own + h.attn.c_proj(mixed[None])[0]
        return own + h.mlp(h.ln_2(own)[None])[0]

    still = [[] for _ in range(layers)]  # streams before each block, of the cells so far
    for t in range(len(ids) - 1):
        own = inputs[t]
        for layer in range(layers):
            past = torch.stack(still[layer]) if t else own.new_zeros(0, D)
            still[layer].append(own.detach())
            own = block(layer, past, own)
        logits = gpt.ln_f(own) @ gpt.wte.weight[backbone.head_ids].T
        losses.append(F.cross_entropy(logits, ids[t + 1]))
    torch.stack(losses).mean().backward()
    return {n: p.grad for n, p in backbone.named_parameters()}


def gradients(how, texts, layers=2):
    backbone = tiny(how, layers=layers)
    batch = batch_of(backbone, texts)
    loss = how.loss(backbone, how.forward(backbone, batch.cells, None), batch.cells, 0.0)
    loss.backward()
    return {n: p.grad for n, p in backbone.named_parameters()}, loss.detach(), batch.cells.bill.total_flops


def assert_oracles(how):
    texts = random_texts((9,))
    ids = torch.tensor([i for piece in texts[0] for i in piece.content.ids])
    found, expected = gradients(how, texts, 3)[0], oracle(ids, 3)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_gradients_are_the_oracles():
    """Key and value weights learn from earlier cells, whose streams do not."""
    assert_oracles(strategy("myopic"))


@dataclass(frozen=True, kw_only=True)
class StillWeights(Myopic):
    """Cuts keys and values off altogether."""

    def sight(self, q, k, heads):
        return Sight(learn_kv=super().sight(q, k, heads).learn_state)


@dataclass(frozen=True, kw_only=True)
class Blind(Myopic):
    """Cuts its own cell off too."""

    def sight(self, q, k, heads):
        return Sight(learn_state=super().sight(q, k, heads).learn_state & False)


@pytest.mark.parametrize("wrong", [StillWeights(), Blind(), DIRECT], ids=["weights", "own", "direct"])
def test_the_oracle_notices_other_shields(wrong):
    with pytest.raises(AssertionError):
        assert_oracles(wrong)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_forward_and_cost_are_directs(lengths):
    texts = random_texts(LENGTHS[lengths])
    (ours, loss, flops), (direct, plain, plain_flops) = (gradients(how, texts) for how in (strategy("myopic"), DIRECT))
    assert torch.equal(loss, plain) and flops == plain_flops
    name = "model.transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(ours[name], direct[name])


@pytest.mark.parametrize("how", [strategy("myopic"), strategy("side_targets")], ids=["myopic", "side_targets"])
def test_asking_is_directs(how):
    ours, direct = ({n: seen(o) for n, o in ask(tiny(s), jobs_of(s, TOYS)).items()} for s in (how, DIRECT))
    assert ours == direct


# side_targets


def worked(count=6):
    """Arithmetic with worked lines."""
    task: Task = registry.find("task", "arithmetic")(digits="3")
    return task, list(task.problems("train", seed=0, start=0, count=count))


def test_the_side_lesson_teaches_the_lines_behind_a_mark():
    how, (_, problems) = strategy("side_targets"), worked()
    for problem in problems:
        plain, beside = how.lessons(problem, progress=0.5, rng=None)
        assert [plain] == DIRECT.lessons(problem, progress=0.5, rng=None)
        lines = ";".join(problem.key.lines)
        assert [p.content for p in beside] == [problem.question.text, SPARE, lines, END]
        assert [p.target for p in beside] == [False, False, True, True]
        assert how.prompt(problem.question) == DIRECT.prompt(problem.question)
        assert strategy("side_targets", weight=0).lessons(problem, progress=0.5, rng=None) == [plain]
    assert SPARE not in how.sayable()


def losses_of(how, task, texts):
    """An update's loss on given texts."""
    alphabet = make_alphabet(task.alphabet())
    backbone = tiny(how, alphabet=alphabet)
    cells = batch_of(backbone, texts).cells
    return how.loss(backbone, how.forward(backbone, cells, None), cells, 0.0).item()


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_weighs_two_means(weight):
    how, (task, problems) = strategy("side_targets", weight=weight), worked()
    pairs = [how.lessons(p, progress=0.5, rng=None) for p in problems]
    both = losses_of(how, task, [text for pair in pairs for text in pair])
    answers, lines = (losses_of(DIRECT, task, [pair[i] for pair in pairs]) for i in range(2))
    assert both == pytest.approx(answers + weight * lines, rel=1e-5)
    assert losses_of(how, task, [pair[0] for pair in pairs]) == pytest.approx(answers, rel=1e-6)


def test_side_targets_are_charged():
    task, _ = worked()
    spent = []
    for how in (strategy("side_targets", weight=0), strategy("side_targets", weight=0.01), DIRECT):
        alphabet = make_alphabet(task.alphabet())
        feed = Feed(task=task, alphabet=alphabet, seed=0, problems_per_update=4, context_tokens=128)
        backbone = tiny(how, alphabet=alphabet)
        batch = feed.batch(how, 0, progress=0.0, device=CPU)
        how.loss(backbone, how.forward(backbone, batch.cells, None), batch.cells, 0.0)
        spent.append(batch.cells.bill.total_flops)
    assert spent[0] == spent[2] < spent[1] / 2


def test_a_literal_mark_in_a_question_is_plain_text():
    alphabet = make_alphabet("bytes")
    assert alphabet.id_of(SPARE) not in alphabet.encode(SPARE.name).tolist()
    assert isinstance(Piece(SPARE.name, "prompt").content, str)


def test_a_task_without_worked_lines_is_named():
    with pytest.raises(ValueError, match=r"worked_lines.*language_model"):
        make_spec(strategy="side_targets", task="language_model")
    make_spec(strategy="side_targets", task="language_model", settings={"strategy.weight": 0})
