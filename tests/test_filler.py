"""filler: what stands between question and answer, the mixture with worked lines, and who pays for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import DIGITS, Toy, ask, batch_of, jobs_of, seen, strategy, tiny

from harness import make_spec, run
from harness.alphabet import make_alphabet
from harness.meter import gpt2_price
from harness.problem import END, SEP, THOUGHTS, Key, Problem, Question
from harness.strategy import PAUSE
from harness.weights import state_of

ALPHABET = make_alphabet("chars:0123456789+=;.")
SUM = Problem(Question("test-0", "12+34=", 4, 9), Key("46", ("2+4=6", "1+3=4", "=46")))
LINES = "2+4=6;1+3=4;=46"
TOYS = Toy().problems("test", seed=0, start=0, count=12)


def lesson(how, problem=SUM, seed=0):
    (text,) = how.lessons(problem, progress=0.0, rng=np.random.default_rng(seed))
    return text


def said(text):
    """A text as people read it, and which tokens are targets."""
    names = {THOUGHTS[0]: "_", SEP: "|", END: "$"}
    return "".join(names.get(p.content, p.content) for p in text), [names.get(p.content, p.content) for p in text if p.target]


def test_as_many_as_worked_lines_could_take():
    assert said(lesson(strategy("filler"))) == ("12+34=_________|46$", ["46", "$"])
    assert said(lesson(strategy("filler", fillers=2, sep=False))) == ("12+34=__46$", ["46", "$"])
    untold = Problem(Question("test-0", "12+34=", 4), Key("46"))
    assert said(lesson(strategy("filler"), untold))[0] == "12+34=" + "_" * 16 + "|46$"


def test_marks_may_be_targets():
    how = strategy("filler", made_of="text", fillers=3, loss_on="all")
    assert said(lesson(how)) == ("12+34=...|46$", [".", ".", ".", "46", "$"])
    assert said(lesson(strategy("filler", made_of="text", fillers=3))) == ("12+34=...|46$", ["46", "$"])
    cells = batch_of(tiny(how, alphabet=ALPHABET), [lesson(how)]).cells
    dot = ALPHABET.encode(".").tolist()
    assert cells.targets.tolist() == [*dot * 3, *ALPHABET.encode("46").tolist(), ALPHABET.end_id]
    assert cells.reads.cells.tolist() == [5, 6, 7, 9, 10, 11]  # the last dot's successor is <sep>, which nobody says


def test_a_mixture_teaches_some_problems_by_worked_lines_and_asks_with_fillers_alone():
    how, rng = strategy("filler", mixture=0.5), np.random.default_rng(0)
    texts = [said(how.lessons(SUM, progress=0.0, rng=rng)[0]) for _ in range(400)]
    worked = ("12+34=" + LINES + "|46$", [LINES, "46", "$"])
    assert set(map(str, texts)) == {str(worked), str(said(lesson(strategy("filler"))))}
    assert abs(texts.count(worked) - 200) < 5 * 10  # five standard deviations
    assert said(how.prompt(SUM.question))[0] == "12+34=_________|"
    assert said(lesson(strategy("filler", mixture=1.0))) == worked


def test_no_mixture_draws_nothing_and_needs_no_lines():
    class Untouched:
        def __getattr__(self, name):
            raise AssertionError("drew a number")

    strategy("filler").lessons(SUM, progress=0.0, rng=Untouched())
    assert strategy("filler").needs() == {"prompt"} and strategy("filler", mixture=0.1).needs() == {"prompt", "worked_lines"}
    with pytest.raises(ValueError, match=r"needs a task with worked_lines, which support:Toy does not offer; these do: .*arithm"):
        make_spec(strategy="filler", task="support:Toy", settings={"strategy.mixture": 0.5})
    with pytest.raises(ValueError, match="needs a task with prompt, which language_model does not offer"):
        make_spec(strategy="filler", task="language_model")


def test_positions():
    def positions(**fields):
        backbone = tiny(strategy("filler", fillers=3, **fields), alphabet=ALPHABET)
        return batch_of(backbone, [lesson(backbone.strategy)]).cells.layout.position.tolist()

    assert positions(sep=False) == [0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7]  # the answer's are direct's
    assert positions() == [0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 8]
    assert positions(place="own") == positions(made_of="text") == list(range(12))


def test_no_fillers_are_direct():
    none, direct = strategy("filler", fillers=0, sep=False), strategy("direct")
    models = [tiny(how) for how in (none, direct)]
    states = [state_of(m) for m in models]
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert lesson(none) == lesson(direct) and none.prompt(SUM.question) == direct.prompt(SUM.question)
    ours, plain = ([seen(o) for o in ask(m, jobs_of(m.strategy, TOYS)).values()] for m in models)
    assert ours == plain


@pytest.mark.parametrize("made_of", ["pause", "text"])
def test_fillers_and_what_ends_them_are_paid_for_as_thinking(made_of):
    how = strategy("filler", made_of=made_of, fillers=2, ask_fillers=5)
    backbone = tiny(how, alphabet=ALPHABET)
    (outcome,) = ask(backbone, jobs_of(how, [SUM])).values()
    found = outcome.ledger.by_class()
    blocks = [gpt2_price(layers=2, width=16).blocks(np.arange(a, b)).sum() for a, b in ((1, 7), (7, 13))]
    assert found["prefill"] == blocks[0] and found["think"] == blocks[1] + 2 * backbone.width * backbone.outputs
    assert outcome.ledger.woven_tokens == (5 if made_of == "pause" else 0)
    assert sum(cell[1] == PAUSE for cell in outcome.trace.cells) == outcome.ledger.woven_tokens
    assert outcome.ledger.serial_passes == len(outcome.value.completion.ids)


def test_asking_with_other_numbers_trains_nothing_and_a_mixture_runs(tmp_path):
    tiny_run = {"model.size": "xs", "model.width": 16, "train.flops": 2e8, "train.problems_per_update": 4, "infer.problems": 4}
    counts = ({}, {"strategy.ask_fillers": 0}, {"strategy.ask_fillers": 40})
    records = [
        run(make_spec(strategy="filler", task="arithmetic", settings=tiny_run | {"strategy.mixture": 0.5} | c), results=tmp_path)
        for c in counts
    ]
    assert len(list((tmp_path / "weights").iterdir())) == 1 and len({r["fingerprint"] for r in records}) == 3
    woven = [r["infer"]["woven_tokens_per_problem"] for r in records]
    assert woven[1:] == [0, 40] and woven[0] > 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fillers": 257}, r"^strategy\.fillers: expected a whole number from 0 to 256 or none, got 257$"),
        ({"ask_fillers": -1}, "ask_fillers: expected a whole number"),
        ({"mixture": 1.5}, "from 0 to 1"),
        ({"made_of": "text", "place": "own"}, "made_of: text wants a mark and place=shared"),
        ({"made_of": "text", "mark": ""}, "wants a mark"),
        ({"loss_on": "all"}, "all wants made_of=text"),
    ],
)
def test_illegal_settings_say_what_is_legal(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        make_spec(strategy="filler", task="support:Toy", settings={f"strategy.{k}": v for k, v in fields.items()})
    assert "\n" not in str(error.value)


def test_marks_take_the_context_and_must_be_spelled(tmp_path):
    how = strategy("filler", fillers=30, made_of="text")
    with pytest.raises(ValueError, match=r"a text of 40 tokens is longer than the context of 32 \(model\.context_tokens\)"):
        batch_of(tiny(how, context=32, alphabet=ALPHABET), [lesson(how)], context=32)
    assert "." not in DIGITS
    with pytest.raises(ValueError, match=r"filler has words .* cannot spell .*'\.'"):
        run(make_spec(strategy="filler", task="support:Toy", settings={"strategy.made_of": "text"}), results=tmp_path)
