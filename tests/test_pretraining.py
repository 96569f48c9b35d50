"""Two pretraining recipes from one text stream: what inserted pauses may not do to the text, and who shares what was trained."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support import CPU, DIGITS, Pages, ask, digits, strategy, tiny

from harness import make_spec, run
from harness.feed import Feed, make_batch
from harness.problem import THOUGHTS, Key, Piece, Problem, Question, Tokens
from harness.session import Job
from harness.spec import TrainSpec
from harness.spec_text import changed_settings
from harness.strategy import PAUSE
from harness.stream import encode
from harness.train import Trainer
from strategies import _pauses

PAUSE_ID = digits().id_of(THOUGHTS[0])
STANDARD, PAUSED = strategy("direct"), strategy("pause_tokens", pauses=0)


def window(ids):
    """A window of a document, as the feed makes it."""
    return Problem(Question("window-0", Tokens(tuple(ids[:1])), window=True), Key(Tokens(tuple(ids[1:])), (), False))


def lesson(how, ids, seed=0):
    (text,) = how.lessons(window(ids), progress=0.0, rng=np.random.default_rng(seed))
    return text


def tokens_of(text):
    return encode([text], digits()).ids


def feed_of(*, window_tokens=128, pages=40, count=16):
    task = Pages(window=window_tokens, pages=pages)
    return Feed(task=task, alphabet=digits(), seed=3, problems_per_update=count, context_tokens=window_tokens)


# Where pauses stand


def test_the_share_of_pauses_is_one_eleventh_of_the_positions():
    """Of S positions, the inputs of a window of S + 1 tokens: 9.09 +- 0.3 percent in the mean, over sizes with 0.1 S whole."""
    for size in (120, 250):
        rng = np.random.default_rng(0)
        ids = list(range(10)) * 30
        inputs = [tokens_of(_pauses.window_with_pauses(lesson(STANDARD, ids[: size + 1]), 0.1, rng))[:-1] for _ in range(400)]
        share = np.mean([np.mean(row == PAUSE_ID) for row in inputs])
        assert {len(row) for row in inputs} == {size} and abs(100 * share - 9.09) <= 0.3


def test_the_share_in_what_is_fed():
    """As the training loop lays windows of the usual 128 out."""
    batches = [feed_of().batch(PAUSED, k, progress=0.0, device=CPU) for k in range(6)]
    pauses = sum(int((b.cells.layout.kind == PAUSE).sum()) for b in batches)
    assert abs(100 * pauses / sum(len(b.cells.layout.kind) for b in batches) - 9.09) <= 0.3
    assert pauses == sum(b.woven_tokens for b in batches)


def test_every_place_but_the_first_is_as_likely():
    rng = np.random.default_rng(1)
    counts = np.sum([_pauses.random_pattern(20, 5, rng) for _ in range(4000)], axis=0)
    assert counts[0] == 0 and abs(counts[1:] - 4000 * 5 / 24).max() < 5 * np.sqrt(4000 * 5 / 24)


@given(st.lists(st.integers(0, 11), min_size=2, max_size=80), st.floats(0.0, 1.0), st.integers(0, 99))
def test_text_is_never_reordered_or_lost_but_for_the_trim(ids, share, seed):
    text = lesson(strategy("pause_tokens", pauses=0, inserted=share), ids, seed)
    said = tokens_of(text)
    kept = said[said != PAUSE_ID].tolist()
    assert len(said) == len(ids) and kept == ids[: len(kept)] and said[0] == ids[0]
    assert len(ids) - len(kept) <= round(share * (len(ids) - 1))  # no more is cut than pauses were put in
    targets = [p.target for p in text]
    assert targets == [i > 0 and p.content != THOUGHTS[0] for i, p in enumerate(text)]


# What carries loss


def test_positions_whose_target_is_a_pause_carry_no_loss():
    """The training step's loss is the mean over real successors, pauses among the positions where one is read."""
    backbone = tiny(PAUSED)
    texts = [lesson(PAUSED, np.random.default_rng(s).integers(0, 12, 31).tolist(), s) for s in range(4)]
    batch = make_batch(PAUSED, digits(), encode(texts, digits()), 4, device=CPU, context_tokens=64)
    states = PAUSED.forward(backbone, batch.cells, None)
    loss = PAUSED.loss(backbone, states, batch.cells, 0.0)
    expected, read_at_pause = [], 0
    for text in texts:  # the plain model on each row by itself
        ids = torch.from_numpy(tokens_of(text))
        logits = backbone.model(ids[None]).logits[0, :, : backbone.outputs]
        for i, following in enumerate(ids[1:].tolist()):
            if following != PAUSE_ID:
                expected.append(F.cross_entropy(logits[i], torch.tensor(following)))
                read_at_pause += int(ids[i] == PAUSE_ID)
    assert len(expected) == batch.supervised_tokens and read_at_pause > 0
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=0, atol=2e-5)


def test_no_gradient_to_say_a_pause():
    """A position whose target is a pause is not read, so what it computes for its own output gets no gradient."""
    backbone = tiny(PAUSED)
    text = (Piece(Tokens((1,)), "prompt"), Piece(Tokens((2,)), "answer", True), *[_pauses.PAUSE_PIECE] * 2)
    text += (Piece(Tokens((3,)), "answer", True),)
    cells = make_batch(PAUSED, digits(), encode([text], digits()), 1, device=CPU, context_tokens=64).cells
    assert cells.reads.cells.tolist() == [0, 3] and cells.targets.tolist() == [2, 3]
    with_head = tiny(STANDARD)
    assert backbone.outputs == with_head.outputs  # nobody can say a pause


# One text stream, two recipes


def test_both_recipes_meet_the_same_windows_in_the_same_order():
    feed = feed_of(window_tokens=32, count=5)
    for update in range(8):
        for problem in feed.problems(update, lines=False):
            real, said = (
                tokens_of(h.lessons(problem, progress=0.0, rng=np.random.default_rng(0))[0]) for h in (STANDARD, PAUSED)
            )
            kept = said[said != PAUSE_ID]
            assert len(said) == len(real) and np.array_equal(kept, real[: len(kept)])


def spent(how, match, folder):
    folder.mkdir()
    spec = TrainSpec(flops=8e7, match=match)
    trainer = Trainer(backbone=tiny(how, scale=1.0), spec=spec, feed=feed_of(window_tokens=40, count=4), folder=folder)
    return trainer.run()


def test_equal_total_tokens_and_equal_real_tokens(tmp_path):
    by = {(h, m): spent(how, m, tmp_path / f"{h}{m}") for h, how in enumerate((STANDARD, PAUSED)) for m in ("examples", "tokens")}
    standard, paused = by[0, "examples"], by[1, "examples"]
    assert standard.updates == paused.updates and standard.woven_tokens == 0
    total = [s.text_tokens + s.woven_tokens for s in (standard, paused)]
    assert 0.98 * total[0] < total[1] <= total[0]  # what stands behind a window's last target is not fed
    assert abs(paused.woven_tokens / total[1] - 1 / 11) < 0.01
    standard, paused = by[0, "tokens"], by[1, "tokens"]
    assert 0 <= standard.text_tokens - paused.text_tokens < 4 * 40 and paused.updates > standard.updates


TINY = {
    "model.size": "xs", "model.width": 16, "train.flops": 3e7, "train.problems_per_update": 4, "infer.problems": 3,
    "pretraining.train.flops": 6e7, "pretraining.train.problems_per_update": 2, "pretraining.task.count": 200,
}  # fmt: skip


def spec_of(task="support:Toy", **fields):
    return make_spec(strategy="pause_tokens", task=task, settings=TINY | {f"strategy.{k}": v for k, v in fields.items()})


@pytest.mark.slow
def test_four_variants_share_two_recorded_pretraining_runs(tmp_path):
    records = {
        (recipe, pauses): run(spec_of(pretraining=recipe, pauses=pauses), results=tmp_path)
        for recipe, pauses in itertools.product(("standard", "pause"), (0, 3))
    }
    before = {key: r["train"]["pretraining"] for key, r in records.items()}
    assert before["pause", 0] == before["pause", 3] and before["standard", 0] == before["standard", 3]
    assert before["pause", 0]["learner"] != before["standard", 0]["learner"]
    assert before["standard", 0]["woven_tokens"] == 0 < before["pause", 0]["woven_tokens"]
    assert all(b["spent_flops"] <= 6e7 and b["text_tokens"] for b in before.values())
    learners = [json.loads((f / "learner.json").read_text()) for f in (tmp_path / "weights").iterdir()]
    assert sum(x["spec"]["task"]["name"] == "strings" for x in learners) == 2 and len(learners) == 6
    hashes = {r["model"]["weights_sha256"] for r in records.values()}
    assert len(hashes) == 4


def test_pretraining_does_not_depend_on_how_it_is_used():
    def first(**fields):
        return spec_of(pretraining="pause", **fields).pretrained().learner_fingerprint()

    assert first() == first(pauses=0) == first(pauses=20) == first(ask_pauses=4) == first(embed="own", where="before")
    assert first() != first(place="shared") != first(inserted=0.2)
    standard = spec_of(pretraining="standard", place="shared").pretrained().learner_fingerprint()
    assert standard == spec_of(pretraining="standard", inserted=0.0).pretrained().learner_fingerprint()
    asked = make_spec(
        strategy="pause_tokens", task="arithmetic", settings={"strategy.pretraining": "pause", "task.longer": "4"}
    ).pretrained()
    assert asked == make_spec(strategy="pause_tokens", task="arithmetic", settings={"strategy.pretraining": "pause"}).pretrained()


# The hook


def test_the_phase_that_a_strategy_asks_for():
    assert make_spec(strategy="pause_tokens", task="support:Toy").pretraining is None
    spec = spec_of(pretraining="pause")
    phase = spec.pretraining
    assert phase.train.flops == 6e7 and phase.strategy.inserted == 0.1 and phase.strategy.pauses == 0
    assert phase.task.of == "support:Toy" and phase.task.alphabet() == DIGITS
    written = changed_settings(spec)
    assert make_spec(strategy="pause_tokens", task="support:Toy", settings=written) == spec
    own = {"strategy.pretraining": "pause", "pretraining.strategy.inserted": 0.3}  # the user's settings go first
    assert make_spec(strategy="pause_tokens", task="support:Toy", settings=own).pretraining.strategy.inserted == 0.3


def test_a_phase_that_the_user_names_comes_instead():
    named = {"strategy.pretraining": "pause", "pretraining.task": "support:Pages", "pretraining.strategy": "future_heads"}
    phase = make_spec(strategy="pause_tokens", task="support:Toy", settings=named).pretraining
    assert isinstance(phase.task, Pages) and phase.strategy == strategy("future_heads")


def test_documents_are_their_own_text_for_pretraining():
    settings = {"task.window": 16, "strategy.pretraining": "pause", "strategy.inserted": 0.0625}
    spec = make_spec(strategy="pause_tokens", task="support:Pages", settings=settings)
    assert spec.pretraining.task == spec.task == Pages(window=16) and spec.pretraining.strategy.inserted == 0.0625


# Asking about documents: the same text targets at 0 pauses and among pauses


def scored(how, backbone, ids, given=3):
    question = Question("0/0", Tokens(tuple(ids[:given])), window=True)
    said = (Piece(Tokens(tuple(ids[given:])), "answer", True),)
    (outcome,) = ask(backbone, [Job("0/0", lambda: how.score(question, (said,)))]).values()
    return outcome


@pytest.mark.parametrize("place", ["own", "shared"])
def test_nll_over_text_targets_only_among_a_fixed_pattern(place):
    ids = np.random.default_rng(0).integers(0, 12, 40).tolist()
    how = strategy("pause_tokens", place=place, ask_inserted=0.2)
    backbone = tiny(how)
    outcome, again, plain = scored(how, backbone, ids), scored(how, backbone, ids), scored(STANDARD, backbone, ids)
    assert outcome.value == again.value and outcome.value[0].tokens == plain.value[0].tokens == 37
    embeds, kinds = [c[0] for c in outcome.trace.cells], [c[1] for c in outcome.trace.cells]
    assert [i for i in embeds if i != PAUSE_ID] == ids[:-1]  # all text, in order; the last token is not fed
    assert kinds.count(PAUSE) == outcome.ledger.woven_tokens == round(0.2 * 3) + round(0.2 * 37)
    blocks = outcome.ledger.by_class()
    assert blocks["think"] > 0 == plain.ledger.by_class()["think"]
    positions = list(range(len(embeds))) if place == "own" else [c[2] for c in outcome.trace.cells]
    logits = backbone.model(torch.tensor([embeds]), position_ids=torch.tensor([positions])).logits[0, :, : backbone.outputs]
    following = torch.tensor([*embeds[1:], ids[-1]])
    nats = F.cross_entropy(logits, following.clamp(max=backbone.outputs - 1), reduction="none")
    nats = nats[following != PAUSE_ID][-37:].sum()
    assert outcome.value[0].nats == pytest.approx(float(nats.detach()), abs=1e-3)


def test_no_pattern_is_the_plain_likelihood():
    ids = np.random.default_rng(0).integers(0, 12, 40).tolist()
    how = strategy("pause_tokens")
    backbone = tiny(how)
    assert scored(how, backbone, ids).value == scored(STANDARD, backbone, ids).value


# Text of a task


def test_strings_are_the_train_split_alone():
    spec = make_spec(strategy="direct", task="strings", settings={"task.settings": '{"digits": "1-2"}', "task.count": 500})
    assert spec.train.flops == 1e12 and spec.train.problems_per_update == 16
    read = {split: {d.text for d in spec.task.documents(split)} for split in ("train", "value", "validation", "test")}
    assert sum(map(len, read.values())) == len(set.union(*read.values())) and len(spec.task.documents("train")) == 500
    from tasks.arithmetic import Arithmetic

    problems = Arithmetic(digits="1-2").problems("train", seed=0, start=0, count=500)
    assert [d.text for d in spec.task.documents("train")] == [p.question.text + p.key.answer for p in problems]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"of": "arithmatic"}, "did you mean arithmetic"),
        ({"of": "language_model"}, "language_model holds documents: use it as it is"),
        ({"settings": "1-2"}, "expected a JSON object"),
        ({"settings": '{"digit": 3}'}, r"settings\.digit: unknown setting"),
    ],
)
def test_illegal_strings(settings, message):
    with pytest.raises(ValueError, match=message):
        make_spec(strategy="direct", task="strings", settings={f"task.{k}": v for k, v in settings.items()})
