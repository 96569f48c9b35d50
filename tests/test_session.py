"""Asking: the same answers in any company, rows that fork and go back, budgets, and sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from support import Toy, ask, digits, jobs_of, seen, strategy, tiny, without_padding

from harness import registry
from harness.decoder import Decoder
from harness.meter import gpt2_price, head_flops
from harness.problem import END, ROLES, SEP, THOUGHTS, Answer, Piece, Tokens
from harness.rows import Feed
from harness.sampling import choose, log_probabilities, truncated
from harness.session import Job, Session
from harness.spec import SIZES
from harness.strategy import Strategy
from harness.wants import (
    GREEDY,
    Drop,
    Extend,
    Fork,
    Gather,
    Generate,
    Judge,
    Likelihood,
    Mark,
    Note,
    Peek,
    Reveal,
    Rewind,
    Row,
    Sampler,
    Score,
    Start,
)  # fmt: skip

TOYS = Toy(digits=3).problems("test", seed=0, start=0, count=24)
SETTINGS = [
    ("direct", {}),
    ("future_heads", {"heads": 0.5, "horizon": 3}),
    ("reasoning_tokens", {}),
    ("reasoning_tokens", {"per_token": 3, "embed": "copy", "place": "own", "horizon": 2}),
    ("reasoning_tokens", {"per_token": 2, "emit": "last", "shield": "mask", "horizon": 3}),
    ("reasoning_tokens", {"per_token": 2, "emit": "learned", "among": "all"}),
    ("reasoning_tokens", {"per_token": 2, "gate": "learned", "heads": 0.5, "horizon": 2}),
    ("reasoning_tokens", {"per_token": 2, "where": "prompt"}),
    ("reasoning_tokens", {"per_token": 1, "where": "answer"}),
]
FEW = [SETTINGS[i] for i in (0, 2, 5, 6)]
SAMPLED = Sampler(1.0)


def made(name, fields, **model):
    how = strategy(name, **fields)
    return how, tiny(how, **{"width": 32, "scale": 4.0, **model})


def prompt(text):
    return (Piece(text, "prompt"),)


def answer(text, *, ends=False):
    pieces = (Piece(text, "answer", True),)
    return (*pieces, Piece(END, "answer", True)) if ends else pieces


def solved(backbone, solver, *, rows=64, **fields):
    """The outcome of one solver."""
    (outcome,) = Session(backbone, rows=rows).run([Job("one", solver, **fields)])
    return outcome


def result(backbone, solver, **fields):
    return solved(backbone, solver, **fields).value


# Cached = whole


def assert_cached_is_whole(backbone, *, n, tolerance=0.0):
    """Token by token, in chunks of any size, or at once: the same bits."""
    ids = np.random.default_rng(0).integers(12, size=n)
    places = np.arange(n)
    roles = np.where(places < 20, ROLES.index("prompt"), ROLES.index("answer"))

    def fed(cuts):
        decoder = Decoder(backbone, reference_layers=2)
        row = decoder.new_row(decoder.accounts.open(float("inf")))
        logits = []
        for a, b in zip([0, *cuts], [*cuts, n], strict=True):
            every, broke = decoder.feed([Feed(row, ids[a:b], roles[a:b], places[a:b], every=True)])
            assert not broke
            logits.append(every[row])
        return torch.cat(logits)

    whole = fed([])
    assert whole.shape == (n, backbone.outputs)
    for cuts in (range(1, n), [1], [7], [20, 21, n - 20], [n - 1]):
        assert float((fed([*cuts]) - whole).abs().max()) <= tolerance, list(cuts)[:3]


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_cached_is_whole(name, fields):
    assert_cached_is_whole(made(name, fields)[1], n=90)


@pytest.mark.parametrize("size", ["xs", "s", pytest.param("m", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "fields"), FEW[:2], ids=str)
def test_cached_is_whole_at_real_sizes(name, fields, size):
    layers, width, heads, _ = SIZES[size]
    assert_cached_is_whole(tiny(strategy(name, **fields), layers=layers, width=width, heads=heads, scale=1.7), n=60)


@pytest.mark.parametrize(("width", "heads"), [(16, 4), (20, 2)])
def test_odd_head_widths_agree_within_the_tolerance(width, heads):
    """The bits are promised for head widths that are multiples of 8; elsewhere floats to 1e-4."""
    assert_cached_is_whole(made("reasoning_tokens", {}, width=width, heads=heads)[1], n=60, tolerance=1e-4)


@pytest.mark.parametrize("name", ["direct", "reasoning_tokens"])
def test_the_loop_for_asking_is_the_general_loop(name, monkeypatch):
    """Rows of several lengths, with gaps between those that are fed: the bits of the loop that gates keys, no pair gated."""
    _, backbone = made(name, {})
    ids, roles = list(range(9)), [ROLES.index("prompt")] * 9

    def fed():
        decoder = Decoder(backbone, reference_layers=2)
        rows = [decoder.new_row(decoder.accounts.open(float("inf"))) for _ in range(5)]
        decoder.feed([Feed(row, ids[: 2 + row], roles[: 2 + row], range(2 + row)) for row in rows])
        for some in (rows, rows[::2], rows[3:4]):
            decoder.feed([Feed(row, (row,), (2,), (int(decoder.texts[row]),)) for row in some])
        return decoder.logits[rows].clone()

    with_views = fed()
    loop = type(backbone).blocks

    def gated(self, states, cells, slots, **of_pass):
        return loop(self, states, cells, slots, **of_pass, key_gate=lambda layer, own: own.new_zeros(len(own)))

    monkeypatch.setattr(type(backbone), "blocks", gated)
    assert torch.equal(fed(), with_views)


def test_the_comparison_notices_missing_padding(monkeypatch):
    without_padding(monkeypatch)
    with pytest.raises(AssertionError):
        assert_cached_is_whole(made("direct", {})[1], n=60)


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_what_was_generated_scores_the_same(name, fields):
    how, backbone = made(name, fields)
    outcomes = ask(backbone, mixed_jobs(how))
    said = {n: o.value.completion for n, o in outcomes.items()}

    def scored(p):
        return Job(p.question.id, lambda: how.score(p.question, ((Piece(Tokens(said[p.question.id].ids), "answer", True),),)))

    for name_, outcome in ask(backbone, [scored(p) for p in TOYS]).items():
        (likelihood,) = outcome.value
        assert likelihood.tokens == len(said[name_].ids)
        assert math.isclose(-likelihood.nats, said[name_].logprob_nats, rel_tol=1e-15, abs_tol=1e-13)  # float64 sums of the same
        assert likelihood.greedy or int(name_.split("-")[1]) % 2


# Any company


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_batched_is_alone_is_interleaved(name, fields):
    """Greedy and sampled ones side by side."""
    how, backbone = made(name, fields)
    jobs = mixed_jobs(how)
    together = {n: seen(o) for n, o in ask(backbone, jobs).items()}
    assert len({values[0].completion.ids for values in together.values()}) > 3
    alone = {n: seen(o) for n, o in ask(backbone, jobs[:8], rows=1).items()}
    assert alone == {n: together[n] for n in alone}
    some = {n: seen(o) for n, o in ask(backbone, jobs[::-1][:15], rows=5).items()}
    assert some == {n: together[n] for n in some}
    beside = ask(backbone, [x for pair in zip(unequal(len(jobs)), jobs, strict=True) for x in pair], rows=30)
    assert {n: seen(o) for n, o in beside.items() if n in together} == together


def mixed_jobs(how):
    """Every other job is sampled."""
    greedy, sampled = jobs_of(how, TOYS), jobs_of(how, TOYS, SAMPLED)
    return [pair[i % 2] for i, pair in enumerate(zip(greedy, sampled, strict=True))]


def unequal(count):
    """Jobs of very different lengths, that fork, score and go back."""

    def job(i):
        text = "0123456789"[: 1 + i % 9] * (1 + 2 * (i % 5))
        return Job(f"neighbour {i}", lambda: neighbour(text, i), seed=1000 + i)

    return [job(i) for i in range(count)]


def neighbour(text, i):
    row = yield Start(prompt(text + "="))
    mark = yield Mark(row)
    rows = yield Fork(row, 1 + i % 3)
    yield Gather(tuple(part(r, 1 + (i + j) % 7) for j, r in enumerate(rows)))
    yield Rewind(row, mark)
    yield Extend(row, prompt("7" * (1 + i % 11)))
    likelihoods = yield Score(row, (answer("1", ends=True), answer("234"), answer("2" * (1 + i % 13))))
    return likelihoods


def part(row, cap):
    said = yield Generate(row, cap, SAMPLED)
    return said


@pytest.mark.parametrize(("name", "fields"), FEW, ids=str)
def test_wild_solvers_do_not_depend_on_company_either(name, fields):
    _how, backbone = made(name, fields)
    jobs = unequal(16)
    together = {n: seen(o) for n, o in ask(backbone, jobs, rows=128).items()}
    alone = {n: seen(o) for n, o in ask(backbone, jobs, rows=1).items()}
    assert together == alone


def test_seeds_decide_samples():
    _how, backbone = made("direct", {})

    def job(seed):
        return Job(str(seed), lambda: part_of_prompt("1+2="), seed=seed)

    def part_of_prompt(text):
        row = yield Start(prompt(text))
        said = yield Generate(row, 20, SAMPLED)
        return said.ids

    outcomes = ask(backbone, [job(i) for i in range(10)])
    assert len({o.value for o in outcomes.values()}) > 5
    again = ask(backbone, [job(i) for i in range(10)])
    assert {n: o.value for n, o in outcomes.items()} == {n: o.value for n, o in again.items()}


# Wants


def greedy_from(row, cap=6):
    said = yield Generate(row, cap)
    return said


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_rewind_restores_exactly(name, fields):
    _, backbone = made(name, fields)

    def solver():
        row = yield Start(prompt("12+34="))
        mark = yield Mark(row)
        first = yield Peek(row, 12)
        one = yield Generate(row, 6)
        yield Rewind(row, mark)
        assert (yield Peek(row, 12)) == first
        yield Extend(row, answer("99"))
        later = yield Mark(row)
        middle = yield Generate(row, 5)
        yield Rewind(row, later)
        again = yield Generate(row, 5)
        assert again == middle
        yield Rewind(row, mark)
        two = yield Generate(row, 6)
        return one, two

    one, two = result(backbone, solver)
    assert one == two

    def fresh():
        row = yield Start(prompt("12+34="))
        said = yield Generate(row, 6)
        return said

    assert result(backbone, fresh) == one


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_a_fork_continues_as_its_parent_would(name, fields):
    _, backbone = made(name, fields)

    def solver():
        row = yield Start(prompt("12+34="))
        rows = yield Fork(row, 3)
        assert rows[0] == row and len(set(rows)) == 3
        said = yield Gather(tuple(greedy_from(r) for r in rows))
        return said

    def alone():
        row = yield Start(prompt("12+34="))
        said = yield Generate(row, 6)
        return said

    assert result(backbone, solver) == [result(backbone, alone)] * 3


def test_forks_do_not_disturb_each_other():
    _, backbone = made("reasoning_tokens", {"per_token": 2, "gate": "learned"})

    def solver():
        row = yield Start(prompt("12+34="))
        rows = yield Fork(row, 3)
        yield Extend(rows[1], answer("555"))
        yield Drop(rows[2])
        said = yield Generate(rows[0], 6)
        branch = yield Generate(rows[1], 6)
        return said, branch

    def alone(*more):
        row = yield Start(prompt("12+34="))
        if more:
            yield Extend(row, *more)
        said = yield Generate(row, 6)
        return said

    said, branch = result(backbone, solver)
    assert said == result(backbone, alone)
    assert branch == result(backbone, lambda: alone(answer("555")))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_fork_feeds_the_owed_thoughts_once_before_it(count):
    """r cells and one pass more than a row that goes on alone, which feeds them with its next token."""
    r = 2
    _, backbone = made("reasoning_tokens", {"per_token": r})

    def solver():
        row = yield Start(prompt("12+34="))
        rows = yield Fork(row, count)
        for one in rows:
            yield Extend(one, answer("7"))

    outcome = solved(backbone, solver)
    assert outcome.ledger.woven_tokens == r * 6
    assert outcome.ledger.text_tokens == 6 + count
    assert outcome.ledger.serial_passes == 1 + count + (count > 1)


def test_a_child_may_go_back_to_its_parents_mark():
    _, backbone = made("reasoning_tokens", {"per_token": 2})

    def solver():
        row = yield Start(prompt("12+34="))
        mark = yield Mark(row)
        yield Generate(row, 3, SAMPLED)
        rows = yield Fork(row, 2)
        yield Rewind(rows[1], mark)
        said = yield Generate(rows[1], 6)
        return said

    def alone():
        row = yield Start(prompt("12+34="))
        said = yield Generate(row, 6)
        return said

    assert result(backbone, solver) == result(backbone, alone)


def test_peek_gives_the_best_first_and_they_sum_to_one():
    _, backbone = made("direct", {})

    def solver():
        row = yield Start(prompt("12+34="))
        top, everything = (yield Peek(row, 3)), (yield Peek(row, 999))
        said = yield Generate(row, 1)
        return top, everything, said

    top, everything, said = result(backbone, solver)
    assert everything[:3] == top and len(everything) == backbone.outputs
    nats = [v for _, v in everything]
    assert nats == sorted(nats, reverse=True)
    assert sum(map(math.exp, nats)) == pytest.approx(1.0, abs=1e-5)
    assert (said.ids[0], said.logprob_nats) == top[0]


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_scoring_several_continuations(name, fields):
    """Each as if it were alone; the thoughts that the prompt still owes are fed once for all."""
    how, backbone = made(name, fields)
    texts = (answer("12", ends=True), answer("9"), answer("12345"), answer(""), answer("12"))

    def solver(some):
        row = yield Start(prompt("12+34="))
        likelihoods = yield Score(row, some)
        return likelihoods

    together = solved(backbone, lambda: solver(texts))
    assert together.value == [result(backbone, lambda t=t: solver((t,)))[0] for t in texts]
    assert together.value[3] == Likelihood(0.0, 0, True)
    assert together.value[0].nats > together.value[4].nats > 0
    where = getattr(how, "where", "all")
    owed = getattr(how, "per_token", 0) if getattr(how, "emit", "first") == "first" and where != "answer" else 0
    cells = [c for c in together.trace.cells if c[2] < 6]
    woven_prompt = {"all": 6, "prompt": 6, "answer": 0}[where] * getattr(how, "per_token", 0)
    assert len(cells) == 6 + woven_prompt
    assert together.ledger.serial_passes == 2 + (owed > 0)


def test_scoring_a_token_that_cannot_be_said_is_refused():
    _, backbone = made("direct", {})
    for special in (SEP, THOUGHTS[0]):

        def solver(special=special):
            row = yield Start(prompt("1+1="))
            likelihoods = yield Score(row, ((Piece(special, "answer", True),),))
            return likelihoods

        with pytest.raises(ValueError, match="cannot say"):
            result(backbone, solver)


def test_dropped_rows_are_gone_and_their_cost_is_kept():
    _, backbone = made("direct", {})

    def solver():
        row = yield Start(prompt("12+34="))
        rows = yield Fork(row, 2)
        said = yield Generate(rows[1], 3, SAMPLED)
        yield Drop(rows[1])
        return len(said.ids)

    outcome = solved(backbone, solver)
    assert len(outcome.trace.cells) == outcome.ledger.text_tokens == 6 + outcome.value - 1


def test_gathered_solvers_run_side_by_side():
    _, backbone = made("direct", {})

    def one(text):
        row = yield Start(prompt(text))
        said = yield Generate(row, 5)
        return said

    def solver():
        said = yield Gather((one("1+2="), one("3+4="), one("5+6=")))
        nothing = yield Gather(())
        return said, nothing

    outcome = solved(backbone, solver)
    assert outcome.value == ([result(backbone, lambda t=t: one(t)) for t in ("1+2=", "3+4=", "5+6=")], [])
    longest = max(len(said.ids) for said in outcome.value[0])
    assert outcome.ledger.serial_passes == longest


def test_notes_reach_the_trace():
    def solver():
        yield Start(prompt("1+2="))
        yield Note("values", (1, 2.5))
        yield Note("values", (3,))

    assert solved(made("direct", {})[1], solver).trace.notes["values"] == [1.0, 2.5, 3.0]


def test_stops_other_than_end_are_fed():
    class SaysSep(Strategy):
        def sayable(self):
            return (SEP,)

    backbone = tiny(SaysSep(), width=32, scale=3.0)
    found = {}

    def solver(i):
        row = yield Start(prompt(f"{i}+2="))
        said = yield Generate(row, 30, SAMPLED, role="thought", stops=(SEP, END))
        more = yield Generate(row, 3, SAMPLED)
        return said, more

    for name, outcome in ask(backbone, [Job(str(i), lambda i=i: solver(i), seed=i) for i in range(30)]).items():
        said, more = outcome.value
        last = said.ids[-1]
        kind = "sep" if last == digits().id_of(SEP) else "end" if last == digits().end_id else "cap"
        found[kind] = name
        assert said.stop == ("end" if kind != "cap" else "cap")
        assert SEP not in said.pieces and END not in said.pieces
        fed = len(name) + 3 + len(said.ids) - (kind == "end")  # a thought that is cut off is fed whole: something comes after it
        assert outcome.ledger.text_tokens == fed + len(more.ids) - 1
    assert {"sep", "end"} <= set(found)


def test_a_want_that_is_none_is_an_error():
    def solver():
        yield 42

    with pytest.raises(ValueError, match=r"yielded int; it may yield Start, .*Note"):
        result(made("direct", {})[1], solver)


# The key


@pytest.mark.parametrize("want", [Judge("46"), Reveal("lines")], ids=["judge", "reveal"])
def test_the_key_is_refused_without_an_oracle_and_flagged_with_one(want):
    backbone = made("direct", {})[1]

    def solver():
        told = yield want
        return told

    with pytest.raises(ValueError, match=f"{type(want).__name__} needs the key"):
        result(backbone, solver)
    outcome = solved(backbone, solver, oracle=lambda w: ("told", w))
    assert outcome.value == ("told", want) and outcome.used_key


def test_an_oracle_that_is_not_asked_leaves_no_flag():
    how, backbone = made("direct", {})
    assert not any(o.used_key for o in ask(backbone, jobs_of(how, TOYS[:3], oracle=lambda w: 1.0)).values())


# Budgets


def by_name(outcomes, problems):
    return [outcomes[p.question.id] for p in problems]


def cost(backbone, cells, reads):
    blocks = gpt2_price(layers=backbone.layers, width=backbone.width).blocks(np.arange(1, cells + 1)).sum()
    return int(blocks) + reads * head_flops(width=backbone.width, outputs=backbone.outputs)


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_the_limit_is_kept_and_there_is_still_a_draft(name, fields):
    how, backbone = made(name, fields)
    free = ask(backbone, jobs_of(how, TOYS, SAMPLED))
    stops = set()
    for share in (0.5, 0.8, 0.95):
        limits = {p.question.id: share * free[p.question.id].ledger.total_flops for p in TOYS}
        jobs = [jobs_of(how, [p], SAMPLED, limit_flops=limits[p.question.id])[0] for p in TOYS]
        for p, outcome in zip(TOYS, by_name(ask(backbone, jobs), TOYS), strict=True):
            assert outcome.ledger.total_flops <= limits[p.question.id]
            if outcome.value is None:  # not even the prompt
                assert outcome.ledger.total_flops == 0
                continue
            said, whole = outcome.value.completion, free[p.question.id].value.completion
            stops.add(said.stop)
            assert said.ids == whole.ids[: len(said.ids)]
            assert said.stop == ("budget" if len(said.ids) < len(whole.ids) else whole.stop)
    assert "budget" in stops


@pytest.mark.parametrize(("name", "fields"), SETTINGS, ids=str)
def test_prefill_and_one_token_is_enough_for_a_draft(name, fields):
    how, backbone = made(name, fields)
    free = ask(backbone, jobs_of(how, TOYS, SAMPLED))
    for p in TOYS[:6]:
        ledger = free[p.question.id].ledger
        start = solved(backbone, lambda p=p: how.ready(p.question)).ledger.total_flops
        (outcome,) = Session(backbone).run(jobs_of(how, [p], SAMPLED, limit_flops=start))
        assert outcome.ledger.total_flops == start
        said = outcome.value.completion
        assert len(said.ids) == 1
        assert said.stop == ("budget" if ledger.total_flops > start else free[p.question.id].value.completion.stop)
        (outcome,) = Session(backbone).run(jobs_of(how, [p], SAMPLED, limit_flops=start - 1))
        assert outcome.value is None and outcome.ledger.total_flops == 0


def test_a_limit_binds_its_own_problem_only():
    how, backbone = made("reasoning_tokens", {})
    free = {n: seen(o) for n, o in ask(backbone, jobs_of(how, TOYS)).items()}
    tight = jobs_of(how, TOYS[::2], limit_flops=200_000)
    mixed = ask(backbone, [x for pair in zip(tight, jobs_of(how, TOYS[1::2]), strict=True) for x in pair])
    for i, p in enumerate(TOYS):
        outcome = mixed[p.question.id]
        if i % 2:
            assert seen(outcome) == free[p.question.id]
        else:
            assert outcome.ledger.total_flops <= 200_000


def test_solvers_may_catch_the_end_of_the_budget():
    from harness.wants import OutOfBudget

    backbone = made("direct", {})[1]

    def solver():
        row = yield Start(prompt("12+34="))
        draft = yield Generate(row, 1)
        try:
            yield Extend(row, answer("1" * 60))
        except OutOfBudget:
            return Answer("draft", draft)

    outcome = solved(backbone, solver, limit_flops=cost(backbone, 12, 3))
    assert outcome.value.text == "draft"
    assert outcome.ledger.total_flops == cost(backbone, 6, 1)


def test_votes_within_a_limit():
    """Branches that cannot be paid for end with what they have; the job's sum stays within the limit."""
    backbone = made("reasoning_tokens", {"per_token": 2})[1]

    def solver():
        row = yield Start(prompt("12+34="))
        rows = yield Fork(row, 4)
        said = yield Gather(tuple(part(r, 20) for r in rows))
        return said

    free = solved(backbone, solver, seed=3)
    for share in (0.4, 0.7, 0.9):
        limit = share * free.ledger.total_flops
        outcome = solved(backbone, solver, seed=3, limit_flops=limit)
        assert 0 < outcome.ledger.total_flops <= limit
        assert any(said.stop == "budget" for said in outcome.value)
        for said, whole in zip(outcome.value, free.value, strict=True):
            assert said.ids == whole.ids[: len(said.ids)]


# Context


@pytest.mark.parametrize("place", ["shared", "own"])
def test_text_beyond_the_context_is_refused_and_answers_end_there(place):
    _how, backbone = made("reasoning_tokens", {"per_token": 2, "place": place}, context=24)

    def solver(n, cap=100):
        row = yield Start(prompt("1" * n))
        said = yield Generate(row, cap, SAMPLED, stops=())
        return said

    with pytest.raises(ValueError, match=r"25 tokens is longer than the context of 24 \(model\.context_tokens\)"):
        result(backbone, lambda: solver(25))
    said = result(backbone, lambda: solver(20))
    assert said.stop == "cap" and len(said.ids) == 4
    assert result(backbone, lambda: solver(24)).ids == ()

    def scorer(n):
        row = yield Start(prompt("1" * 20))
        likelihoods = yield Score(row, (answer("2" * n),))
        return likelihoods

    assert result(backbone, lambda: scorer(5))[0].tokens == 5
    with pytest.raises(ValueError, match=r"model\.context_tokens"):
        result(backbone, lambda: scorer(6))


# Choosing a token


def draws(logits, sampler, n=5000):
    keys = np.full(n, 12345, dtype=np.uint64)
    return choose(logits.expand(n, -1), [sampler] * n, keys, np.arange(n, dtype=np.uint64))


LOGITS = torch.tensor([0.3, 2.0, -1.0, 0.7, -40.0, 1.9])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_exact_probabilities(temperature):
    p = torch.softmax(LOGITS.double() / temperature, -1).numpy()
    counts = np.bincount(draws(LOGITS, Sampler(temperature)), minlength=6)
    likely = p > 1e-4
    assert counts[~likely].sum() == 0
    assert stats.chisquare(counts[likely], p[likely] / p[likely].sum() * counts.sum()).pvalue > 1e-3
    other = torch.softmax(LOGITS.double() / (temperature * 1.2), -1).numpy()
    assert (
        stats.chisquare(counts[likely], other[likely] / other[likely].sum() * counts.sum()).pvalue < 1e-3
    )  # it would be noticed


def test_a_draw_is_the_inverse_of_the_distribution():
    from harness.seeds import uniforms

    keys, steps = np.arange(500, dtype=np.uint64), np.arange(500, dtype=np.uint64) % np.uint64(7)
    logits = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    chosen = choose(logits, [SAMPLED] * 500, keys, steps)
    cumulative = torch.softmax(logits.double(), -1).cumsum(-1).numpy()
    for row, u in enumerate(uniforms(keys, steps)):
        assert chosen[row] == np.searchsorted(cumulative[row], u, side="right")


def test_a_rows_draw_depends_on_its_own_key_and_step():
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    keys, steps = np.arange(50, dtype=np.uint64), np.arange(50, dtype=np.uint64)
    samplers = [SAMPLED if i % 2 else GREEDY for i in range(50)]
    whole = choose(logits, samplers, keys, steps)
    for i in range(50):
        assert choose(logits[i : i + 1], samplers[i : i + 1], keys[i : i + 1], steps[i : i + 1]).tolist() == [whole[i]]
    assert (whole[::2] == logits[::2].argmax(1).numpy()).all()


def test_greedy_takes_the_first_of_equals():
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    none = np.zeros(2, dtype=np.uint64)
    assert choose(logits, [GREEDY] * 2, none, none).tolist() == [1, 0]


@pytest.mark.parametrize(("k", "kept"), [(1, [1]), (2, [1, 5]), (3, [1, 3, 5]), (99, [0, 1, 2, 3, 4, 5])])
def test_top_k(k, kept):
    p = truncated(LOGITS, Sampler(1.0, top_k=k))
    assert p.nonzero().squeeze(1).tolist() == kept
    assert float(p.sum()) == pytest.approx(1.0)
    assert set(draws(LOGITS, Sampler(1.0, top_k=k), 3000).tolist()) <= set(kept)


def test_top_p_keeps_the_token_that_crosses():
    full = torch.softmax(LOGITS.double(), -1)
    order = full.argsort(descending=True)
    running = full[order].cumsum(0)
    for p in (0.05, 0.3, float(running[0]) + 1e-9, 0.7, 0.95):
        kept = truncated(LOGITS, Sampler(1.0, top_p=p)) > 0
        n = int((running < p).sum()) + 1
        assert sorted(order[:n].tolist()) == kept.nonzero().squeeze(1).tolist()
        counts = np.bincount(draws(LOGITS, Sampler(1.0, top_p=p)), minlength=6)
        expected = torch.where(kept, full, 0.0) / full[kept].sum()
        assert np.abs(counts / counts.sum() - expected.numpy()).max() < 0.03


def test_log_probabilities_do_not_depend_on_the_batch():
    logits = torch.randn(40, 13, generator=torch.Generator().manual_seed(0)) * 5
    whole = log_probabilities(logits)
    assert all(torch.equal(log_probabilities(logits[i : i + 1]), whole[i : i + 1]) for i in range(40))


def test_a_sampled_sequence_follows_the_models_own_probabilities():
    """Two tokens by the session, against the product of exact probabilities."""
    _, backbone = made("reasoning_tokens", {"per_token": 1}, scale=4.0)

    def exact(text):
        row = yield Start(text)
        top = yield Peek(row, 99)
        return dict(top)

    def two(i):
        row = yield Start(prompt("1+2="))
        said = yield Generate(row, 2, SAMPLED, stops=())
        return said.ids

    first = result(backbone, lambda: exact(prompt("1+2=")))
    n = 1500
    outcomes = ask(backbone, [Job(str(i), lambda i=i: two(i), seed=i) for i in range(n)])
    best = max(first, key=first.get)
    if best == digits().end_id:
        best = sorted(first, key=first.get)[-2]
    second = result(backbone, lambda: exact((*prompt("1+2="), Piece(Tokens((best,)), "answer"))))
    counts = np.zeros(backbone.outputs)
    for outcome in outcomes.values():
        if outcome.value[0] == best:
            counts[outcome.value[1]] += 1
    p = np.array([math.exp(first[best] + second[i]) for i in range(backbone.outputs)])
    deviation = np.abs(counts / n - p) / np.sqrt(p * (1 - p) / n + 1e-9)
    assert deviation.max() < 4.5


def test_rows_are_handles_only():
    assert Row(3) == Row(3) and Row(3) != Row(4)


@dataclass(frozen=True, kw_only=True)
class Noted(registry.find("strategy", "reasoning_tokens")):
    """Notes the best logit wherever the next token is read, and nothing of passes that read nothing."""

    def readout(self, backbone, states, reads):
        logits = super().readout(backbone, states, reads)
        noted = torch.full((len(reads.bill.cells_so_far),), torch.nan)
        noted[torch.from_numpy(reads.cells)] = logits.amax(1)
        reads.notes["best"] = noted
        return logits


def test_notes_are_those_of_a_problems_own_cells():
    """A row's former holder leaves nothing behind, though a flush of owed thoughts notes nothing."""
    how = Noted(per_token=1, where="prompt")
    backbone = tiny(how, width=32)

    def first():
        row = yield Start(prompt("12"))
        yield Generate(row, 12, stops=())
        rows = yield Fork(row, 3)
        for r in rows:
            yield Drop(r)

    def second():
        yield Start(prompt("1"))
        row = yield Start(prompt("1234"))
        rows = yield Fork(row, 2)
        yield Gather(tuple(greedy_from(r) for r in rows))

    def jobs():
        return [Job("first", first), *(Job(str(i), second) for i in range(3))]

    for outcome in ask(backbone, jobs(), rows=1).values():
        assert len(outcome.trace.notes["best"]) == sum(cell[4] for cell in outcome.trace.cells)
