"""pause_tokens between question and answer: where they stand, what they cost, and that asking with more trains nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import Toy, ask, batch_of, digits, jobs_of, seen, states_and_inputs, strategy, target_loss, tiny

from harness import make_spec, run
from harness.checks import model as checks
from harness.checks.context import Context
from harness.checks.outsider import Sums
from harness.feed import Feed
from harness.meter import gpt2_price
from harness.problem import THOUGHTS, Key, Problem, Question
from harness.spec import TrainSpec
from harness.strategy import PAUSE
from harness.train import Trainer
from harness.weights import weights_hash

TOYS = Toy().problems("test", seed=0, start=0, count=12)
SUM = Problem(Question("test-0", "12+34=", 4), Key("46"))
PAUSE_ID = digits().id_of(THOUGHTS[0])
RNG = np.random.default_rng(0)


def lesson(how, problem=SUM):
    (text,) = how.lessons(problem, progress=0.0, rng=RNG)
    return text


def trained(how, tmp_path, *, updates=6):
    """A tiny model after some updates on sums."""
    feed = Feed(task=Toy(), alphabet=digits(), seed=0, problems_per_update=8, context_tokens=128)
    backbone = tiny(how, scale=1.0)
    spec = TrainSpec(flops=updates * 6e6, learning_rate=1e-2)
    tmp_path.mkdir(exist_ok=True)
    Trainer(backbone=backbone, spec=spec, feed=feed, folder=tmp_path, checkpoint_s=1e9).run()
    return backbone


# What is said


@pytest.mark.parametrize("place", ["own", "shared"])
def test_the_answer_is_read_at_the_last_pause_and_no_pause_is_a_target(place):
    backbone = tiny(strategy("pause_tokens", pauses=3, place=place))
    cells = batch_of(backbone, [lesson(backbone.strategy)]).cells
    layout, said = cells.layout, digits().encode("46").tolist()
    assert layout.embed.tolist() == [*digits().encode("12+34=").tolist(), *[PAUSE_ID] * 3, *said]
    assert (layout.kind == PAUSE).tolist() == [False] * 6 + [True] * 3 + [False] * 2
    assert cells.reads.cells.tolist() == [8, 9, 10]  # the last pause, then the answer's tokens
    assert cells.targets.tolist() == [*said, digits().end_id]


def test_positions_own_and_shared():
    def positions(**fields):
        backbone = tiny(strategy("pause_tokens", **fields))
        return batch_of(backbone, [lesson(backbone.strategy)]).cells.layout.position.tolist()

    assert positions(pauses=3, place="own") == list(range(11))
    assert positions(pauses=3, place="shared") == [0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7]  # the answer's are direct's
    assert positions(pauses=2, place="shared", where="before") == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert positions(pauses=0) == list(range(8))


def test_every_pause_learns_from_the_answer_and_nothing_else():
    backbone = tiny(strategy("pause_tokens", pauses=3))
    batch = batch_of(backbone, [lesson(backbone.strategy)])
    states, inputs = states_and_inputs(backbone, batch)
    for group in range(3):
        (gradient,) = torch.autograd.grad(target_loss(backbone, batch, states, group), inputs, retain_graph=True)
        assert (gradient[:11].abs().amax(1) > 0).tolist() == [True] * (9 + group) + [False] * (2 - group)


def test_vectors_of_pauses():
    def ids(**fields):
        backbone = tiny(strategy("pause_tokens", pauses=3, **fields))
        return batch_of(backbone, [lesson(backbone.strategy)]).cells.layout.embed[6:9].tolist()

    assert ids() == [PAUSE_ID] * 3
    assert ids(embed="own") == [PAUSE_ID, PAUSE_ID + 1, PAUSE_ID + 2]
    assert ids(embed="text", mark="=") == digits().encode("===").tolist()


def test_an_untrained_pause_never_changes_and_is_what_pauses_are(tmp_path):
    how = strategy("pause_tokens", pauses=3, embed="untrained")
    fresh, after = tiny(how, scale=1.0), trained(how, tmp_path)
    vector = fresh.parts["pause"].weight
    assert torch.equal(vector, after.parts["pause"].weight)  # weight decay included
    assert not torch.equal(fresh.model.transformer.wpe.weight[:16], after.model.transformer.wpe.weight[:16])
    batch = batch_of(fresh, [lesson(how)])
    states, _ = states_and_inputs(fresh, batch)
    how.loss(fresh, states, batch.cells, 0.0).backward()
    assert not fresh.model.transformer.wte.weight.grad[PAUSE_ID:].any() and vector.grad is None
    assert fresh.model.transformer.wpe.weight.grad[6:9].abs().amax(1).all()  # their positions learn
    with torch.no_grad():
        before = how.forward(fresh, batch.cells, None)
        fresh.model.transformer.wte.weight[PAUSE_ID] += 1.0
        assert torch.equal(before, how.forward(fresh, batch.cells, None))
        vector += 1.0
        assert not torch.equal(before, how.forward(fresh, batch.cells, None))


# Neutral, and asking


def test_no_pauses_is_direct(tmp_path):
    direct = trained(strategy("direct"), tmp_path / "direct")
    none = trained(strategy("pause_tokens", pauses=0, inserted=0.0), tmp_path / "none")
    assert weights_hash(direct) == weights_hash(none)
    assert [seen(o) for o in ask(direct, jobs_of(direct.strategy, TOYS)).values()] == [
        seen(o) for o in ask(none, jobs_of(none.strategy, TOYS)).values()
    ]


@pytest.mark.parametrize("place", ["own", "shared"])
@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_each_flop_of_a_pause_is_thinking(place, count):
    how = strategy("pause_tokens", pauses=3, ask_pauses=count, place=place)
    backbone = tiny(how)
    (paused,) = ask(backbone, jobs_of(how, [SUM])).values()
    cells = np.arange(6, 6 + count) + 1  # cells so far, behind the six of the question
    head = 2 * backbone.width * backbone.outputs
    read = {"think": head if count else 0, "prefill": 0 if count else head}
    blocks = {
        "think": gpt2_price(layers=2, width=16).blocks(cells),
        "prefill": gpt2_price(layers=2, width=16).blocks(np.arange(1, 7)),
    }
    found = paused.ledger.by_class()
    assert {name: found[name] for name in blocks} == {name: int(x.sum()) + read[name] for name, x in blocks.items()}
    assert paused.ledger.woven_tokens == count
    assert paused.ledger.serial_passes == len(paused.value.completion.ids)  # the pauses go in with the question


def test_asking_with_other_numbers_of_pauses_trains_nothing(tmp_path):
    few, many = strategy("pause_tokens", pauses=3, ask_pauses=1), strategy("pause_tokens", pauses=3)
    assert lesson(few) == lesson(many) == (*many.prompt(SUM.question), *lesson(strategy("direct"))[1:])
    assert few.prompt(SUM.question) == many.prompt(SUM.question)[:2] and few.positions(64) == many.positions(64)
    settings = {
        "model.size": "xs", "model.width": 16, "train.flops": 5e7, "train.problems_per_update": 4, "infer.problems": 4,
        "strategy.pauses": 3,
    }  # fmt: skip
    records = [
        run(make_spec(strategy="pause_tokens", task="support:Toy", settings=settings | more), results=tmp_path)
        for more in ({}, {"strategy.ask_pauses": 0}, {"strategy.ask_pauses": 6})
    ]
    assert len({r["learner"] for r in records}) == 1 == len(list((tmp_path / "weights").iterdir()))
    assert len({r["fingerprint"] for r in records}) == 3
    think = [r["infer"]["flops_per_problem"]["think"] for r in records]
    assert think[1] == 0 < think[0] < think[2]


def test_marks_pass_the_model_checks(tmp_path):
    """They are text, so they need an alphabet that has them, and are no variant that every task could be checked with."""
    context = Context(strategy("pause_tokens", pauses=3, embed="text", mark="="), Sums(), "", "", tmp_path)
    for check in (checks.no_leak_in_training, checks.cached_is_whole, checks.training_is_asking, checks.company_changes_nothing):
        check(context)


# Bad input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pauses": -1}, r"^strategy\.pauses: expected a whole number from 0 to 256, got -1$"),
        ({"pauses": 257}, "from 0 to 256, got 257"),
        ({"pauses": "many"}, "expected a whole number"),
        ({"ask_pauses": 21}, "place=own has positions for 2 x 10 pauses, got 21; place=shared has no such limit"),
        ({"pauses": 0, "ask_pauses": 1}, "positions for 2 x 0 pauses"),
        ({"ask_inserted": 0.3}, "a share of 2 x 0.1, got 0.3"),
        ({"embed": "own", "pauses": 65}, "own has 64 vectors, got 65 pauses; legal for more: shared"),
        ({"embed": "text", "place": "shared"}, "text wants a mark and place=own"),
        ({"embed": "text", "mark": ""}, "text wants a mark"),
        ({"embed": "untrained", "pretraining": "pause"}, "legal: none, standard"),
        ({"inserted": 0, "pretraining": "pause"}, "inserted above 0"),
    ],
)
def test_illegal_settings_say_what_is_legal(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        make_spec(strategy="pause_tokens", task="support:Toy", settings={f"strategy.{k}": v for k, v in fields.items()})
    assert "\n" not in str(error.value)


def test_pauses_beyond_the_question_are_asked_with_shared_positions():
    make_spec(strategy="pause_tokens", task="support:Toy", settings={"strategy.place": "shared", "strategy.ask_pauses": 500})


@pytest.mark.parametrize("place", ["own", "shared"])
def test_a_full_context_has_room_for_the_most_pauses(place):
    """Pauses take no place of the text; contiguous positions have rows for twice as many as were taught."""
    how = strategy("pause_tokens", pauses=5, ask_pauses=10, place=place)
    full = Problem(Question("test-1", "1" * 20 + "=", 3), Key("11"))
    backbone = tiny(how, context=24)
    assert batch_of(backbone, [lesson(how, full)], context=24).text_tokens == 23
    (outcome,) = ask(backbone, jobs_of(how, [full])).values()
    assert outcome.ledger.woven_tokens == 10


def test_marks_take_the_context_and_must_be_spelled(tmp_path):
    how = strategy("pause_tokens", pauses=20, embed="text", mark="=")
    with pytest.raises(ValueError, match=r"a text of 29 tokens is longer than the context of 24 \(model\.context_tokens\)"):
        batch_of(tiny(how, context=24), [lesson(how)], context=24)
    spec = make_spec(strategy="pause_tokens", task="support:Toy", settings={"strategy.embed": "text"})
    with pytest.raises(ValueError, match=r"pause_tokens has words .* cannot spell .*'\.'"):
        run(spec, results=tmp_path)
