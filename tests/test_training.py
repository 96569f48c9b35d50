"""The one training loop: budgets, repeatability, resuming, what is fed, and that nothing can be learned from noise."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support import CPU, Pages, RandomTokens, Toy, digits, states_and_inputs, strategy, tiny

from harness.alphabet import make_alphabet
from harness.feed import Feed, make_batch
from harness.jsonl import lines_of
from harness.problem import Document, Tokens
from harness.spec import TrainSpec
from harness.strategy import Sight, Strategy
from harness.stream import encode
from harness.target import Spent, learning_rate_at, make_target
from harness.train import Trainer
from harness.weights import weights_hash

DIRECT = strategy("direct")
SPEC = TrainSpec(flops=3e7, problems_per_update=4, learning_rate=3e-3)


def trainer(folder, how=DIRECT, task=None, *, spec=SPEC, seed=0, checkpoint_s=1e9, **model):
    folder.mkdir(exist_ok=True, parents=True)
    backbone = tiny(how, seed=seed, scale=1.0, **model)
    feed = Feed(
        task=task or Toy(),
        alphabet=backbone.alphabet,
        seed=seed,
        problems_per_update=spec.problems_per_update,
        context_tokens=128,
    )
    return Trainer(backbone=backbone, spec=spec, feed=feed, folder=folder, checkpoint_s=checkpoint_s)


def trained(folder, *args, **rest):
    """Weights hash and what was spent."""
    made = trainer(folder, *args, **rest)
    spent = made.run()
    return weights_hash(made.backbone), spent


STRATEGIES = [
    DIRECT,
    strategy("future_heads"),
    strategy("reasoning_tokens"),
    strategy("reasoning_tokens", per_token=2, emit="learned", gate="learned", horizon=2),
]


def name_of(how):
    return f"{type(how).__name__}-{getattr(how, 'emit', '')}"


@pytest.mark.parametrize("how", STRATEGIES, ids=name_of)
def test_one_seed_one_result(how, tmp_path):
    one, spent = trained(tmp_path / "a", how)
    torch.manual_seed(123)
    np.random.seed(5)
    two, again = trained(tmp_path / "b", how)
    other, _ = trained(tmp_path / "c", how, seed=1)
    assert (one, spent) == (two, again)
    assert other != one
    assert (tmp_path / "a" / "train.jsonl").read_bytes() == (tmp_path / "b" / "train.jsonl").read_bytes()
    assert spent.updates > 5


@pytest.mark.parametrize("flops", [6e6, 1.23e7, 3e7])
@pytest.mark.parametrize("how", STRATEGIES, ids=name_of)
def test_training_stops_within_one_update_and_never_above(how, flops, tmp_path):
    made = trainer(tmp_path, how, spec=replace(SPEC, flops=flops))
    costs, last = [], [0]

    def report(spent, progress, loss):
        costs.append(spent.flops - last[0])
        last[0] = spent.flops
        assert progress == spent.flops / flops <= 1

    spent = made.run(report)
    assert spent.flops == sum(costs) <= flops
    refused = made.feed.batch(how, spent.updates, progress=spent.flops / flops, device=CPU)
    states, _ = states_and_inputs(made.backbone, refused)
    how.loss(made.backbone, states, refused.cells, 0.0)
    assert spent.flops + refused.cells.bill.total_flops > flops


def test_the_learning_rate_follows_what_is_spent():
    spec = TrainSpec(learning_rate=1.0, warmup=0.1, decay_to=0.2)
    rates = [learning_rate_at(spec, p) for p in (0.0, 0.05, 0.1, 0.55, 1.0, 1.5)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 0.6, 0.2, 0.2])
    assert learning_rate_at(replace(spec, warmup=0.0), 0.0) == 1.0


@pytest.mark.parametrize("task", [Toy(), Pages()], ids=["questions", "documents"])
def test_every_strategy_meets_the_same_problems(task):
    """The text tokens and targets of update k are the same, whatever is woven in."""

    def text_of(how, k):
        feed = Feed(task=task, alphabet=digits(), seed=3, problems_per_update=5, context_tokens=128)
        batch = feed.batch(how, k, progress=0.3, device=CPU)
        layout, reads = batch.cells.layout, batch.cells.reads
        own = layout.slot == 0
        place = layout.place[reads.cells]
        targets = dict(
            zip(zip(layout.row[reads.cells].tolist(), place.tolist(), strict=True), batch.cells.targets.tolist(), strict=True)
        )
        return layout.row[own].tolist(), layout.embed[own].tolist(), targets, batch.supervised_tokens, batch.text_tokens

    seen = []
    for k in (0, 1, 7):
        plain = text_of(DIRECT, k)
        assert all(text_of(how, k) == plain for how in STRATEGIES[1:])
        seen.append(plain)
    assert seen[0] != seen[1] != seen[2]


def test_a_budget_below_one_update_names_the_option(tmp_path):
    for match in ("flops", "tokens", "examples"):
        with pytest.raises(ValueError, match=r"^--train-flops: 10\b.* less than one update.*\d"):
            trainer(tmp_path, spec=replace(SPEC, flops=10.0, match=match)).run()


class Broken(Strategy):
    """Its loss is not a number."""

    def loss(self, backbone, states, cells, progress):
        return super().loss(backbone, states, cells, progress) * float("nan")


def test_a_loss_that_is_no_number_names_the_learning_rate(tmp_path):
    with pytest.raises(ValueError, match=r"^train\.learning_rate: the loss is nan at update 0; use less than 0\.003") as caught:
        trainer(tmp_path, Broken()).run()
    assert "\n" not in str(caught.value)


def test_a_text_beyond_the_context_names_the_setting():
    backbone = tiny(DIRECT)
    feed = Feed(task=RandomTokens(length=50), alphabet=backbone.alphabet, seed=0, problems_per_update=2, context_tokens=30)
    with pytest.raises(ValueError, match=r"50 tokens .*30 \(model\.context_tokens\)"):
        feed.batch(DIRECT, 0, progress=0.0, device=CPU)
    with pytest.raises(ValueError, match=r"task\.window_tokens: 64"):
        Feed(task=Pages(window=64), alphabet=digits(), seed=0, problems_per_update=2, context_tokens=30)


# Matched consumption


@pytest.mark.parametrize("how", STRATEGIES[1:], ids=name_of)
@pytest.mark.parametrize("match", ["tokens", "examples"])
def test_matched_runs_consume_what_direct_does(match, how, tmp_path):
    _, plain = trained(tmp_path / "direct")
    _, matched = trained(tmp_path / match, how, spec=replace(SPEC, match=match))
    assert matched.updates == plain.updates
    assert (matched.text_tokens, matched.examples, matched.supervised_tokens) == (
        plain.text_tokens, plain.examples, plain.supervised_tokens
    )  # fmt: skip
    _, own = trained(tmp_path / f"own {match}", spec=replace(SPEC, match=match))
    assert own == plain
    if getattr(how, "per_token", 0):
        assert matched.flops > plain.flops and matched.woven_tokens > 0


def test_progress_runs_to_one_whatever_is_matched(tmp_path):
    how = strategy("reasoning_tokens")
    for match in ("flops", "tokens", "examples"):
        made = trainer(tmp_path / match, how, spec=replace(SPEC, match=match))
        target = make_target(made.spec, made.feed, made.backbone)
        assert target.progress(Spent()) == 0
        shares = []
        made.run(lambda spent, progress, loss, shares=shares: shares.append(progress))
        assert shares == sorted(shares) and 0.9 < shares[-1] <= 1


# Resuming


class Crash(Exception):
    """Injected."""


@pytest.mark.parametrize("how", [DIRECT, STRATEGIES[3]], ids=name_of)
@pytest.mark.parametrize("after", [1, 3, 6])
def test_resumed_is_uninterrupted(how, after, tmp_path):
    whole, spent = trained(tmp_path / "whole", how)

    def crash(spent, progress, loss):
        if spent.updates == after:
            raise Crash

    folder = tmp_path / "cut"
    with pytest.raises(Crash):
        trainer(folder, how, checkpoint_s=0).run(crash)
    if after > 1:
        assert (folder / "checkpoint.safetensors").exists()
    made = trainer(folder, how, checkpoint_s=0)
    first = []
    again = made.run(lambda spent, progress, loss: first.append(spent.updates))
    assert first[0] == after  # only the update after the last checkpoint is repeated
    assert weights_hash(made.backbone) == whole and again == spent
    assert (folder / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()


class TwoStages(Strategy):
    """A new optimizer half way."""

    def stage(self, progress):
        return int(progress > 0.5)


def test_resumed_is_uninterrupted_across_stages(tmp_path):
    whole, spent = trained(tmp_path / "whole", TwoStages())
    plain, _ = trained(tmp_path / "plain")
    assert whole != plain
    half = spent.updates // 2
    for after in (half - 1, half, half + 1, half + 2, half + 3):
        folder = tmp_path / str(after)

        def crash(spent, progress, loss, after=after):
            if spent.updates == after:
                raise Crash

        with pytest.raises(Crash):
            trainer(folder, TwoStages(), checkpoint_s=0).run(crash)
        assert trained(folder, TwoStages()) == (whole, spent)


def test_lines_beyond_the_checkpoint_are_cut_off(tmp_path):
    """A crash between the log's append and the checkpoint's rename leaves lines of updates that will be repeated."""
    whole, _ = trained(tmp_path / "whole")

    def crash(spent, progress, loss):
        if spent.updates == 4:
            raise Crash

    folder = tmp_path / "cut"
    with pytest.raises(Crash):
        trainer(folder, checkpoint_s=0).run(crash)
    with open(folder / "train.jsonl", "a") as log:
        log.write('{"update": 4, "half a li')
    assert trained(folder)[0] == whole
    assert (folder / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()


def test_a_log_without_its_checkpoint_is_started_anew(tmp_path):
    whole, _ = trained(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "train.jsonl").write_text('{"update": 99}\n')
    assert trained(tmp_path / "cut")[0] == whole
    lines = list(lines_of(tmp_path / "cut" / "train.jsonl"))
    assert [json.loads(line)["update"] for line in lines[:3]] == [1, 2, 3]


def test_a_torn_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not json")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged or not ours"):
        trainer(tmp_path).run()


def test_the_log_says_what_happened(tmp_path):
    _, spent = trained(tmp_path)
    lines = [json.loads(line) for line in lines_of(tmp_path / "train.jsonl")]
    updates = [line["update"] for line in lines]
    assert updates == [*range(1, 11), *range(20, spent.updates + 1, 10)]
    assert all(
        set(line) == {"update", "spent_flops", "text_tokens", "loss_nats", "learning_rate", "gradient_norm"} for line in lines
    )
    assert lines[-1]["spent_flops"] <= spent.flops
    assert lines[0]["loss_nats"] == pytest.approx(math.log(digits().core_size), abs=0.1)


def test_training_learns(tmp_path):
    """The loss falls well below that of the first update."""
    losses = []
    spec = replace(SPEC, flops=6e8, problems_per_update=16)
    trainer(tmp_path, spec=spec, task=Toy(digits=1), width=32).run(lambda spent, progress, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < 0.6 * losses[0]


# Noise


@dataclass(frozen=True, kw_only=True)
class Foresight(Strategy):
    """Sees the token that it is to predict."""

    def sight(self, q, k, heads):
        return Sight(look=(k.index[:, None, :] <= q.index[:, :, None] + 1)[:, None])


def held_out_nats(folder, how, *, updates=200, problems=8):
    """Of random tokens, after ``updates`` updates."""
    task = RandomTokens(length=12)
    made = trainer(folder, how, task, spec=TrainSpec(flops=1e15, problems_per_update=problems, warmup=0.0), width=32)

    def stop(spent, progress, loss):
        if spent.updates == updates:
            raise Crash

    with pytest.raises(Crash):
        made.run(stop)
    texts = [
        how.lessons(p, progress=1.0, rng=np.random.default_rng(0))[0] for p in task.problems("test", seed=0, start=0, count=300)
    ]
    batch = make_batch(how, made.backbone.alphabet, encode(texts, made.backbone.alphabet), 300, device=CPU, context_tokens=128)
    with torch.no_grad():
        states, _ = states_and_inputs(made.backbone, batch)
        logp = torch.log_softmax(how.readout(made.backbone, states, batch.cells.reads), -1)
    group = batch.cells.reads.group.numpy()
    targets = batch.cells.targets[torch.from_numpy(np.unique(group, return_index=True)[1])]
    assert len(targets) == 300 * 11 and isinstance(texts[0][0].content, Tokens)
    return -float(logp.gather(1, targets[:, None]).mean())


SLOW = pytest.mark.slow
NOISE = [
    DIRECT,
    pytest.param(strategy("future_heads", heads=1.0, horizon=3), marks=SLOW),
    pytest.param(strategy("reasoning_tokens", per_token=2, horizon=3), marks=SLOW),
    strategy("reasoning_tokens", per_token=1),
    pytest.param(strategy("reasoning_tokens", per_token=2, emit="last", among="all"), marks=SLOW),
    strategy("reasoning_tokens", per_token=2, emit="learned", among="all"),
    pytest.param(strategy("reasoning_tokens", per_token=2, embed="copy", gate="learned", shield="mask", horizon=2), marks=SLOW),
]


@pytest.mark.parametrize(
    "how", NOISE, ids=lambda how: f"{type(how).__name__}-{getattr(how, 'emit', '')}-{getattr(how, 'gate', '')}"
)
def test_noise_cannot_be_learned(how, tmp_path):
    assert held_out_nats(tmp_path, how) >= math.log(digits().core_size) - 0.01


def test_a_leak_would_be_seen(tmp_path):
    assert held_out_nats(tmp_path, Foresight()) < math.log(digits().core_size) - 0.05


# Windows of documents


@dataclass(frozen=True, kw_only=True)
class Unique(Pages):
    """Documents in which no character comes twice, so that tokens tell where they are from."""

    def alphabet(self):
        return "chars:" + "".join(chr(0x4E00 + i) for i in range(300))

    def documents(self, split):
        lengths = [17 + 5 * i for i in range(self.pages)]
        return [Document(str(i), "".join(chr(0x4E00 + sum(lengths[:i]) + j) for j in range(n))) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("window", [2, 8, 17, 60])
def test_an_epoch_covers_the_text_without_repeats(window):
    """Every token is a target at most once an epoch; less than a window is left out, and that differs from epoch to epoch."""
    task = Unique(window=window)
    alphabet = make_alphabet(task.alphabet())
    feed = Feed(task=task, alphabet=alphabet, seed=0, problems_per_update=1, context_tokens=128)
    text = np.concatenate([[alphabet.end_id], *([*alphabet.encode(d.text), alphabet.end_id] for d in task.documents("train"))])
    assert feed.epoch_tokens == len(text)
    follows = {int(a): int(b) for a, b in itertools.pairwise(text) if a != alphabet.end_id}
    per_epoch = (len(text) - 1) // window
    ever, orders = set(), []
    for epoch in range(12):
        problems = [feed.problems(epoch * per_epoch + i, lines=False)[0] for i in range(per_epoch)]
        rows = [[*p.question.text.ids, *p.key.answer.ids] for p in problems]
        assert all(len(row) == window + 1 and not p.key.ends for row, p in zip(rows, problems, strict=True))
        assert all(follows.get(a, b) == b for row in rows for a, b in itertools.pairwise(row))
        targets = np.bincount([i for row in rows for i in row[1:]], minlength=alphabet.core_size)
        assert (targets[: alphabet.end_id] <= 1).all() and targets[alphabet.end_id] <= task.pages
        assert len(text) - 1 - targets.sum() < window
        ever |= set(np.flatnonzero(targets).tolist())
        orders.append([row[0] for row in rows])
    assert ever == set(text.tolist())
    assert len({tuple(order) for order in orders}) > 8


def test_documents_shorter_than_two_windows_are_refused():
    with pytest.raises(ValueError, match=r"task: the train text has \d+ tokens, less than two windows of 64"):
        Feed(task=Pages(window=64, pages=2), alphabet=digits(), seed=0, problems_per_update=2, context_tokens=128)
