"""Sampling: each truncation against a plain oracle, rows in any mixture, and CoT decoding on a scripted table."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from support import Toy, ask, jobs_of, seen, strategy, tabled
from support import tiny as tiny_model

from harness import registry, sampling
from harness.check import run_checks
from harness.problem import END
from harness.sampling import best, choose, truncated
from harness.seeds import uniforms
from harness.settings import build
from harness.wants import GREEDY, Sampler

WIDTH, OUTPUTS = 32, 13
TOYS = Toy().problems("test", seed=0, start=0, count=12)
ODD = (0.05, 0.3, 0.55, 0.8, 0.97)
# Distinct halves: no two sums of probabilities meet a mass exactly, so that rounding decides nothing
logit_rows = st.lists(st.integers(-12, 12), min_size=2, max_size=9, unique=True).map(lambda xs: [x / 2 + x * x / 301 for x in xs])
samplers = st.builds(
    Sampler, st.sampled_from((0.5, 1.0, 1.7)), st.integers(0, 10), st.sampled_from((1.0, *ODD)), st.sampled_from((0.0, *ODD)),
    st.sampled_from((1.0, *ODD)),
)  # fmt: skip


def filled(weights, mass, order):
    """Keep weights in an order until their sum reaches the mass, the one that reaches it too."""
    kept, total = set(), 0.0
    for i in order:
        if total >= mass:
            break
        kept.add(i)
        total += weights[i]
    return [w if i in kept else 0.0 for i, w in enumerate(weights)]


def shared(weights):
    return [w / math.fsum(weights) for w in weights]


def oracle(logits, sampler):
    """The distribution, by plain numbers, renormalised after every step."""
    p = shared([math.exp((x - max(logits)) / sampler.temperature) for x in logits])
    if sampler.top_k:
        p = shared([x if sum(y > x for y in p) < sampler.top_k else 0.0 for x in p])
    p = shared(filled(p, sampler.top_p, sorted(range(len(p)), key=lambda i: -p[i])) if sampler.top_p < 1 else p)
    p = shared([x if x >= sampler.min_p * max(p) else 0.0 for x in p])
    if sampler.typical < 1:
        entropy = -math.fsum(x * math.log(x) for x in p if x)
        strange = [abs(-math.log(x) - entropy) if x else math.inf for x in p]
        p = shared(filled(p, sampler.typical, sorted(range(len(p)), key=lambda i: strange[i])))
    return p


def one_row(logits, sampler):
    """As it was for one row, before rows went together; min-p and typical apart."""
    scaled = logits.double() / sampler.temperature
    if sampler.top_k:
        least = scaled.topk(min(sampler.top_k, len(scaled))).values[-1]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    p = torch.softmax(scaled, -1)
    if sampler.top_p < 1.0:
        ordered, order = p.sort(descending=True, stable=True)
        p = p.index_fill(0, order[ordered.cumsum(-1) - ordered >= sampler.top_p], 0.0)
    return p


def random_logits(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 3


def mixture(count):
    rng = np.random.default_rng(1)
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    kinds = [Sampler(pick(0.7, 1.0), pick(0, 3), pick(1.0, 0.8), pick(0.0, 0.1), pick(1.0, 0.6)) for _ in range(9)]
    return [pick(GREEDY, *kinds) for _ in range(count)]


# Truncation


@settings(max_examples=300, deadline=None)
@given(logit_rows, samplers)
@example([1.5, 1.0, 0.5, 0.0], Sampler(1.0, top_p=0.8, typical=0.3))  # the entropy is that of what top-p left
def test_truncation_is_the_oracles(logits, sampler):
    p = truncated(torch.tensor(logits, dtype=torch.float64), sampler)
    np.testing.assert_allclose((p / p.sum()).numpy(), oracle(logits, sampler), atol=1e-12)


@pytest.mark.parametrize(
    ("sampler", "kept"),
    [
        (Sampler(1.0, min_p=0.5), [0, 1]),  # at the bound: kept
        (Sampler(1.0, min_p=1.0), [0]),
        (Sampler(1.0, typical=0.2), [1]),  # entropy 1.213 nats: the most typical token is not the most probable one
        (Sampler(1.0, typical=0.26), [0, 1]),
        (Sampler(1.0, top_k=3, typical=1e-9), [1]),
        (Sampler(1.0, top_p=0.5, min_p=0.9), [0]),
    ],
)
def test_truncation_by_hand(sampler, kept):
    p = truncated(torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log(), sampler)
    assert p.nonzero()[:, 0].tolist() == kept


def test_something_is_always_left_and_equals_are_cut_in_order():
    flat = torch.zeros(3, 8)
    for sampler in (Sampler(1.0, top_p=0.5), Sampler(1.0, typical=0.5)):
        assert (truncated(flat, sampler) > 0).tolist() == [[True] * 4 + [False] * 4] * 3
    barred = torch.full((1, 8), -torch.inf)
    barred[0, 5] = 1.0
    assert truncated(barred, Sampler(1.0, 4, 1e-9, 1.0, 1e-9)).nonzero().tolist() == [[0, 5]]


# Rows together


@pytest.mark.parametrize("columns", [13, 257, 1000])
def test_rows_together_are_rows_alone_bit_for_bit(columns):
    logits = random_logits(33, columns)
    logits[::5] = logits[::5].round()  # equals
    for sampler in {*mixture(40)} - {GREEDY}:
        whole = truncated(logits, sampler)
        assert all(torch.equal(truncated(row, sampler), p) for row, p in zip(logits, whole, strict=True))
        if sampler.min_p == 0 and sampler.typical == 1:
            assert all(torch.equal(one_row(row, sampler), p) for row, p in zip(logits, whole, strict=True))


@pytest.mark.parametrize("columns", [13, 1000])
def test_a_mixture_of_samplers_gives_each_row_what_it_gets_alone(columns, monkeypatch):
    monkeypatch.setattr(sampling, "FLOATS_TOGETHER", 5000)  # some samplers' rows go in several batches
    n = 120
    logits, how = random_logits(n, columns), mixture(n)
    keys, steps = np.arange(n, dtype=np.uint64) * np.uint64(977), np.arange(n, dtype=np.uint64) % np.uint64(5)
    whole = choose(logits, how, keys, steps)
    for i in range(n):
        assert choose(logits[i : i + 1], [how[i]], keys[i : i + 1], steps[i : i + 1]).tolist() == [whole[i]]
        if how[i].temperature:
            cumulative = truncated(logits[i], how[i]).cumsum(0).numpy()
            assert whole[i] == np.searchsorted(cumulative, uniforms(keys, steps)[i] * cumulative[-1], side="right")
        else:
            assert whole[i] == int(logits[i].argmax())


@pytest.mark.parametrize("sampler", [Sampler(0.8, min_p=0.1), Sampler(1.0, typical=0.7), Sampler(1.3, 6, 0.9, 0.05, 0.9)])
def test_draws_follow_the_truncated_distribution(sampler):
    logits, n = random_logits(1, 12, seed=3)[0] / 3, 6000
    p = np.array(oracle(logits.double().tolist(), sampler))
    drawn = choose(logits.expand(n, -1), [sampler] * n, np.full(n, 7, dtype=np.uint64), np.arange(n, dtype=np.uint64))
    counts = np.bincount(drawn, minlength=12)
    assert 1 < (p > 0).sum() < 12 and counts[p == 0].sum() == 0
    assert stats.chisquare(counts[p > 0], p[p > 0] * n).pvalue > 1e-3


def test_the_best_columns_are_ranked_as_greedy_choice_ranks():
    logits = torch.tensor([1.0, 3.0, 0.0, 3.0, 3.0, 1.0])
    assert [best(logits, k).tolist() for k in (1, 2, 4, 9)] == [[1], [1, 3], [1, 3, 4, 0], [1, 3, 4, 0, 5, 2]]


# The strategy


def tiny(how):
    return tiny_model(how, width=WIDTH, scale=4.0)


def outcomes(how, backbone, **fields):
    found = ask(backbone, jobs_of(how, TOYS, **fields))
    return {name: treeless(o) for name, o in found.items()}


def treeless(outcome):
    return (replace(outcome.value, tree=None), *seen(outcome)[1:])


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"temperature": 0.0, "top_k": 2, "typical": 0.5}, {"top_k": 1}])
def test_without_chance_it_is_direct(fields):
    plain, how = strategy("direct"), strategy("sampling", **fields)
    assert outcomes(how, tiny(how)) == outcomes(plain, tiny(plain))


def without_notes(outcomes):
    return {name: (*o[:2], *o[3:]) for name, o in outcomes.items()}


@pytest.mark.parametrize("share", [1.0, 0.9, 0.7, 0.5, 0.1])
def test_one_branch_is_direct(share):
    """Though it is said token by token; up to the cap or the budget's end."""
    plain, how = strategy("direct"), strategy("sampling", branches=1)
    most = max(o.ledger.total_flops for o in ask(tiny(plain), jobs_of(plain, TOYS)).values())
    ours, theirs = (outcomes(h, tiny(h), limit_flops=share * most) for h in (how, plain))
    assert without_notes(ours) == without_notes(theirs)
    assert {o[0].completion.stop for o in theirs.values()} >= {"cap" if share == 1 else "budget"}


def test_answers_depend_on_the_problems_seed_alone():
    how = strategy("sampling", temperature=1.5, min_p=0.01)
    backbone = tiny(how)
    together = outcomes(how, backbone)
    assert together == outcomes(how, backbone)
    for job in jobs_of(how, TOYS):
        assert treeless(ask(backbone, [job])[job.name]) == together[job.name]
    plain = strategy("direct")
    assert [o[0] for o in together.values()] != [o[0] for o in outcomes(plain, tiny(plain)).values()]


# CoT decoding, on a table of probabilities by the last token; the rest goes to "+"

TABLE = {
    "=": {"1": 0.5, "2": 0.3, END: 0.15, "3": 0.04},
    "1": {"4": 0.4, "5": 0.35, "6": 0.2}, "2": {"7": 0.9, "8": 0.05}, "3": {"9": 0.99},
    "4": {END: 0.6, "5": 0.3}, "7": {END: 0.8, "1": 0.1}, "9": {"9": 0.98, END: 0.01},
}  # fmt: skip
DRAFTS = {  # what each first token leads to, best first: what is said, p(top 1) - p(top 2) of its tokens, probabilities said
    "14": ((0.2, 0.05), (0.5, 0.4, 0.6)), "27": ((0.2, 0.85), (0.3, 0.9, 0.8)), "": ((), (0.15,)),
    "39999": ((0.2, 0.98, 0.97, 0.97, 0.97), (0.04, 0.99, 0.98, 0.98, 0.98)),
}  # fmt: skip


def decoded(branches, **fields):
    how = strategy("sampling", base=tabled(strategy("direct"), TABLE), branches=branches)
    (outcome,) = ask(tiny(how), jobs_of(how, TOYS[:1], **fields)).values()
    return outcome


@pytest.mark.parametrize(("branches", "answer"), [(1, "14"), (2, "27"), (3, "27"), (4, "27")])
def test_cot_decoding_finds_the_branch_that_greedy_misses(branches, answer):
    outcome = decoded(branches)
    said, completion = [*DRAFTS][:branches], outcome.value.completion
    assert (outcome.value.text, completion.text, completion.stop) == (answer, answer, "end")
    assert completion.logprob_nats == pytest.approx(sum(map(math.log, DRAFTS[answer][1])), abs=1e-4)
    margins = [DRAFTS[text][0] for text in said]
    assert outcome.trace.notes["confidence"] == pytest.approx([sum(m) / max(len(m), 1) for m in margins], abs=1e-4)


def test_one_branch_that_ends_is_direct():
    ours, theirs = (
        outcomes(h, tiny(h))
        for h in (strategy("sampling", base=tabled(strategy("direct"), TABLE), branches=1), tabled(strategy("direct"), TABLE))
    )
    assert without_notes(ours) == without_notes(theirs)


def test_cot_decoding_pays_for_every_branch_and_for_the_prompt_once():
    prompt = len(TOYS[0].question.text)
    fed = {"14": 2, "27": 2, "": 0, "39999": 4}  # neither END nor the last token at the cap
    for branches in (1, 2, 3, 4):
        ledger = decoded(branches).ledger
        assert ledger.text_tokens == prompt + sum([*fed.values()][:branches])
        flops = cells = 0
        for length in [*fed.values()][:branches]:
            flops += sum(2 * (24 * WIDTH**2 + 4 * WIDTH * (prompt + i)) + 2 * WIDTH * OUTPUTS for i in range(1, length + 1))
            cells = max(cells, length)
        assert ledger.by_class()["answer"] == flops
        assert ledger.serial_passes == decoded(1).ledger.serial_passes + cells - 2


def test_a_branch_that_did_not_end_wins_only_where_none_did():
    assert decoded(4).trace.notes["confidence"][3] > decoded(4).trace.notes["confidence"][1]  # "39999" met its cap
    full = decoded(2).ledger.total_flops
    assert decoded(2, limit_flops=full).value.text == "27"
    short = decoded(2, limit_flops=full - 1).value
    assert (short.text, short.completion.stop) == ("27", "budget")
    assert decoded(2, limit_flops=1).value.text == ""


def test_branches_in_company_are_branches_alone():
    how = strategy("sampling", branches=5)
    backbone = tiny(how)
    together = outcomes(how, backbone)
    assert {len(o[2]["confidence"]) for o in together.values()} == {5}
    for job in jobs_of(how, TOYS):
        assert treeless(ask(backbone, [job], rows=1)[job.name]) == together[job.name]


def test_branches_of_one_token_are_not_taken_for_one_row():
    """Where answers are short, the branches' cells stand in the order of one row's."""
    results = run_checks(strategies=["sampling"], tasks=["k_hop"], only=["meter_is_recount"])
    assert [r.message for r in results if r.status == "failed"] == []


@pytest.mark.parametrize(
    ("field", "value", "legal"),
    [
        ("temperature", -1, "a number from 0 to 10"),
        ("top_k", 1.5, "a whole number from 0 to 1"),
        ("top_p", 0, "a number from 1e-09 to 1"),
        ("min_p", 1.5, "a number from 0 to 1"),
        ("typical", 0, "a number from 1e-09 to 1"),
        ("branches", -1, "a whole number from 0 to 64"),
    ],
)
def test_bad_settings_are_one_line(field, value, legal):
    with pytest.raises(ValueError, match=rf"^strategy\.{field}: expected {legal}.*, got {value}$"):
        build(registry.find("strategy", "sampling"), {field: value}, prefix="strategy")


# Likelihoods


@pytest.mark.parametrize("together", [1, 40, 1 << 17])
def test_a_likelihood_is_the_same_in_parts(together, monkeypatch):
    """However its logits come and are cut; tokens that are not scored, and columns that are barred, are left out."""
    monkeypatch.setattr(sampling, "FLOATS_TOGETHER", together)
    logits, columns = torch.randn(9, 12, generator=torch.Generator().manual_seed(0)), np.arange(9)
    columns[[2, 3]] = sampling.UNSCORED
    kept = [i for i in range(9) if i not in (2, 3)]
    free = logits[kept].clone()
    free[:, [10, 11]] = -torch.inf
    logp = torch.log_softmax(free, -1)
    nats = -float(logp.gather(1, torch.from_numpy(columns[kept])[:, None]).double().sum())
    for parts in ([logits], [logits[:1], logits[1:]], [logits[:4], logits[4:7], logits[7:]]):
        found = sampling.likelihood(parts, columns, (10, 11))
        assert (found.nats, found.tokens, found.greedy) == (nats, 7, False)
        best_ones = np.where(columns < 0, columns, logits[:, :10].argmax(1).numpy())
        assert sampling.likelihood(parts, best_ones, (10, 11)).greedy
    assert sampling.likelihood([logits], np.full(9, sampling.UNSCORED)) == sampling.Likelihood(0.0, 0, True)
    with pytest.raises(ValueError, match="a special token that this strategy cannot say"):
        sampling.likelihood([logits], np.array([1, -1]))
