"""thinking_spans: one shot is step by step, the next text token has a proper distribution, each cell is paid for."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
import torch
from support import Toy, ask, digits, jobs_of, seen, strategy, tiny

from harness.alphabet import make_alphabet
from harness.meter import gpt2_price, head_flops
from harness.problem import BOT, EOT, THOUGHTS, Piece, Question, Tokens
from harness.session import Job, Session
from harness.wants import Sampler

TOYS = Toy(digits=3).problems("test", seed=0, start=0, count=12)
CAP = 5
MODES = {
    "two": {"cap": CAP},
    "none": {"cap": CAP, "delimiters": "none"},
    "learned": {"cap": CAP, "delimiters": "none", "placement": "learned"},
    "unsure": {"cap": CAP, "delimiters": "none", "placement": "low_confidence", "threshold": 0.35},
}
SEEDS = {"two": 2, "none": 9, "learned": 9, "unsure": 9}
every_mode = pytest.mark.parametrize("mode", MODES)
THOUGHT = Piece(THOUGHTS[0], "thought", True)
OPEN, CLOSE = Piece(BOT, "thought", True), Piece(EOT, "thought", True)


@lru_cache
def chatty(mode, one_shot=False, context=128):
    """A model that opens and closes many spans, of many lengths: its delimiters' rows are large."""
    how = strategy("thinking_spans", one_shot=one_shot, **MODES[mode])
    backbone = tiny(how, width=32, scale=4.0, seed=SEEDS[mode], context=context)
    with torch.no_grad():
        for special in (BOT, EOT):
            backbone.model.transformer.wte.weight[backbone.alphabet.id_of(special)] *= 5.0
    return how, backbone.eval()


def question(text="12+34="):
    return Question("q", text, 8)


def outcomes(mode, one_shot):
    how, backbone = chatty(mode, one_shot)
    return ask(backbone, jobs_of(how, TOYS, Sampler(1.0)))


def scored(mode, one_shot, texts, prompt="12+34="):
    how, backbone = chatty(mode, one_shot)
    texts = tuple(texts)
    (outcome,) = Session(backbone).run([Job("one", lambda: how.score(question(prompt), texts))])
    return outcome


def said(*ids):
    return tuple(Piece(Tokens((i,)), "answer", True) for i in ids)


# One shot


@every_mode
def test_one_shot_is_step_by_step(mode):
    """The same text, the same thoughts at every place, the same likelihoods, bit for bit; fewer passes, no fewer cells."""
    steps, shots = outcomes(mode, False), outcomes(mode, True)
    lengths = set()
    for name, step in steps.items():
        shot = shots[name]
        assert shot.value == step.value
        assert shot.trace.notes == step.trace.notes
        lengths |= set(step.trace.notes.get("thoughts", []))
        assert shot.ledger.serial_passes <= step.ledger.serial_passes
        assert shot.ledger.total_flops >= step.ledger.total_flops
        cut = Counter(shot.trace.cells) - Counter(step.trace.cells)
        assert all(cell[0] == digits().id_of(THOUGHTS[0]) for cell in cut)
    assert len(lengths) >= 3, lengths
    text = said(1, 2, 3, 4, 5, 6, 7, 8)
    a, b = (scored(mode, one_shot, [text]) for one_shot in (False, True))
    assert a.value == b.value and a.trace.notes == b.trace.notes and any(a.trace.notes["thoughts"])
    assert {k for k, v in b.ledger.by_class().items() if v} == {"prefill", "think", "score"}


@pytest.mark.parametrize("one_shot", [False, True])
@every_mode
def test_every_cell_is_paid_for_by_formula(mode, one_shot):
    """Thoughts, also those that were cut, and delimiters are thinking; passes are one a token, and one a span in one shot."""
    backbone = chatty(mode, one_shot)[1]
    two = mode == "two"
    unit = {"layers": backbone.layers, "width": backbone.width}
    cut = 0
    for name, outcome in outcomes(mode, one_shot).items():
        prompt = next(len(p.question.text) for p in TOYS if p.question.id == name)
        flops, passes, held = dict.fromkeys(("prefill", "think", "answer"), 0), 1, 0

        def feed(kind, cells, reads, unit=unit, flops=flops):
            nonlocal held
            flops[kind] += int(gpt2_price(**unit).blocks(np.arange(held + 1, held + cells + 1)).sum())
            flops[kind] += reads * head_flops(width=backbone.width, outputs=backbone.outputs)
            held += cells

        feed("prefill", prompt, 1)
        completion = outcome.value.completion
        thoughts = [int(n) for n in outcome.trace.notes.get("thoughts", [])]
        opened = _opened(outcome, backbone)
        for at, n in enumerate(thoughts):
            if next(opened):
                most = CAP + two
                fed = most if one_shot else min(n + two, most)
                feed("think", fed, fed)
                cut += fed - n - two
                held -= fed - n - two
                passes += 1 if one_shot else fed
                if two:
                    feed("think", 1, 1)
                    passes += 1
            last = at + 1 == len(completion.ids)
            if not (last and (completion.stop == "end" or at + 1 == 6)):
                feed("answer", 1, 1)
                passes += 1
        if completion.stop == "cap" and len(completion.ids) < 6:  # a span was left open
            assert two and outcome.value.text is None
            feed("think", CAP + 1, CAP + 1)
            passes += 1 if one_shot else CAP + 1
        assert {k: v for k, v in outcome.ledger.by_class().items() if v} == {k: v for k, v in flops.items() if v}
        assert outcome.ledger.serial_passes == passes
    assert (cut > 0) is one_shot


def _opened(outcome, backbone):
    """Whether a span was opened before each token: by the thoughts, or (an empty span) by its delimiters in the trace."""
    alphabet = backbone.alphabet
    cells = sorted({(c[2], c[0]) for c in outcome.trace.cells if c[0] == alphabet.id_of(BOT)})
    starts, place = {p for p, _ in cells}, len([c for c in outcome.trace.cells if c[5] == 0])
    for n in outcome.trace.notes.get("thoughts", []):
        with_delimiters = place in starts
        yield bool(n) or with_delimiters
        place += 1 + (2 if with_delimiters else 0)


# Proper distributions


@every_mode
def test_the_next_text_token_has_a_proper_distribution(mode):
    """p(next | prefix, spans) sums to 1 over text and END, and where spans stand does not depend on the next token."""
    spans = set()
    for prefix in [(), (3,), (3, 1, 4), (3, 1, 4, 1, 5)]:
        nexts = range(digits().core_size)
        found = [scored(mode, False, [said(*prefix, i)]) for i in nexts]
        before = scored(mode, False, [said(*prefix)]).value[0].nats if prefix else 0.0
        assert sum(np.exp(before - o.value[0].nats) for o in found) == pytest.approx(1.0, abs=1e-5)
        assert len({tuple(o.trace.notes["thoughts"]) for o in found}) == 1
        spans.add(found[0].trace.notes["thoughts"][-1])
    assert len(spans) > 1


def test_several_continuations_are_scored_as_each_alone():
    texts = [
        said(1, 2, 3),
        said(
            4,
        ),
        said(1, 2),
    ]
    assert scored("two", True, texts).value == [scored("two", True, [t]).value[0] for t in texts]


def test_the_answer_is_what_its_likelihood_says():
    """A greedy answer's log-probability is that of its tokens as a continuation, with the same spans."""
    how, backbone = chatty("none")
    for problem in TOYS[:4]:
        (solved,) = ask(backbone, jobs_of(how, [problem])).values()
        completion = solved.value.completion
        whole = scored("none", False, [said(*completion.ids)], problem.question.text)
        assert whole.value[0].nats == pytest.approx(-completion.logprob_nats, abs=1e-4) and whole.value[0].greedy
        assert whole.trace.notes == solved.trace.notes


# Open spans, rooms, words


def test_a_span_that_is_left_open_is_no_answer():
    """The draft before it is not one either; a likelihood, which must be finite, closes it at the cap."""
    left = [o for o in outcomes("two", False).values() if o.trace.cells[-1][0] == digits().id_of(THOUGHTS[0])]
    assert left
    for outcome in left:
        completion = outcome.value.completion
        assert completion.stop == "cap" and len(completion.ids) < 6 and outcome.value.text is None
        assert [c[0] for c in outcome.trace.cells[-CAP - 1 :]] == [digits().id_of(s) for s in (BOT, *[THOUGHTS[0]] * CAP)]
    found = [scored("two", False, [said(*range(i, i + 6))]) for i in range(4)]
    assert {CAP} < {n for o in found for n in o.trace.notes["thoughts"]}
    assert all(np.isfinite(o.value[0].nats) for o in found)


def test_a_span_opens_only_where_the_text_still_fits():
    how, backbone = chatty("two", context=16)
    (outcome,) = Session(backbone).run([Job("one", lambda: how.score(question(), (said(1, 2, 3, 4, 5, 6, 7, 8),)))])
    free, used = outcome.trace.notes["thoughts"], [c[0] for c in outcome.trace.cells]
    assert len(free) == 8 and used.count(backbone.alphabet.id_of(BOT)) == 1


def test_words_that_look_like_delimiters_are_plain_text():
    how = strategy("thinking_spans")
    backbone = tiny(how, alphabet=make_alphabet("bytes"))
    text = "<bot><eot><sep><t1><end>"
    (outcome,) = Session(backbone).run([Job("one", lambda: how.solve(Question("q", text, 1)))])
    cells = outcome.trace.cells[: len(text)]
    assert [c[0] for c in cells] == list(text.encode()) and {c[1] for c in cells} == {0}


def test_a_small_budget_gives_the_draft():
    how, backbone = chatty("two", True)
    full = ask(backbone, jobs_of(how, TOYS[:4]))
    for share in (0.0, 0.3, 0.6, 0.9):
        for name, outcome in full.items():
            prefill = outcome.ledger.by_class()["prefill"]
            limit = prefill + int(share * (outcome.ledger.total_flops - prefill))
            problem = next(p for p in TOYS if p.question.id == name)
            (short,) = ask(backbone, jobs_of(how, [problem], limit_flops=limit)).values()
            assert short.ledger.total_flops <= limit
            assert short.value.completion.stop in ("budget", "cap")
            assert outcome.value.completion.text.startswith(short.value.completion.text)


@every_mode
def test_alone_is_as_in_company(mode):
    for one_shot in (False, True):
        how, backbone = chatty(mode, one_shot)
        jobs = jobs_of(how, TOYS[:6])
        together = ask(backbone, jobs)
        for job in jobs:
            assert seen(ask(backbone, [job], rows=1)[job.name]) == seen(together[job.name])
