"""Drawn attempts: votes, selectors, adaptive stopping, evaluators in words, grammars; and what records say of candidates."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from scripted import alphabet, follows
from support import ask, seen, strategy, tiny

from harness import make_spec, run
from harness.alphabet import make_alphabet
from harness.examination import oracle_of, referee_of
from harness.growing import Growing
from harness.jsonl import lines_of
from harness.pools import Pool, curves
from harness.problem import END, SEP, Completion, Key, Problem, Question
from harness.session import Job
from harness.strategy import Strategy
from harness.task import Task
from strategies._drawn import winner

PROBLEM = Problem(Question("one", "7+8=", 3, 8), Key("5", ("2", "5")))
FIRST = {"1": 0.2, "2": 0.3, "3": 0.2, END: 0.05, "9": 0.25}  # "9" never ends; END says nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers(Task):
    source = "tests"

    def offers(self):
        return frozenset({"prompt", "worked_lines", "checker"})

    def solves(self, question, answer):
        return answer == "3"

    def canonical(self, answer):
        return "2" if answer == "1" else answer  # 1 and 2 are the same answer

    def grammar(self):
        return {"answer": "[1-3]", "line": "[1-9]"}


def script(text):
    if not text:
        return FIRST
    return {"9": 1.0} if text[0] == "9" else {END: 1.0}


@pytest.fixture
def base(monkeypatch):
    return follows(strategy("direct"), script, monkeypatch)


def solved(how, *, seed=0, company=0, limit=math.inf, letters=None, problem=PROBLEM):
    told = {"oracle": oracle_of(Numbers(), problem), "referee": referee_of(Numbers(), problem.question)}
    rows = how.holding(problem.question).rows
    names = map(str, range(1 + company))
    jobs = [Job(n, lambda: how.solve(problem.question), seed + int(n), limit, rows=rows, **told) for n in names]
    return ask(tiny(how.learner(), alphabet=letters or alphabet()), jobs)["0"]


def answers(outcome):
    return [n.answer for n in outcome.value.tree.nodes if n.final]


@pytest.mark.parametrize("seed", range(6))
def test_the_majority_of_equal_answers_wins(base, seed):
    outcome = solved(strategy("self_consistency", base=base, samples=30), seed=seed)
    votes = Counter(Numbers().canonical(a) for a in answers(outcome) if a is not None)
    assert None in answers(outcome)  # cut off at the cap: no vote
    assert Numbers().canonical(outcome.value.text) == votes.most_common(1)[0][0] == "2"
    assert sum(n.fate == "chosen" for n in outcome.value.tree.nodes) == 1
    assert outcome.access == "none"


def test_nobody_votes_for_no_answer(monkeypatch):
    """Eight of nine attempts never end; the one that does wins."""
    rarely = follows(strategy("direct"), lambda t: {"9": 0.93, "3": 0.07} if not t else script(t), monkeypatch)
    for seed in range(5):
        outcome = solved(strategy("self_consistency", base=rarely, samples=24), seed=seed)
        assert outcome.value.text == ("3" if "3" in answers(outcome) else None)
        assert answers(outcome).count(None) > 12


def tree_of(*attempts):
    grown = Growing(Strategy())
    for text, nats in attempts:
        grown.end(grown.add(0), Completion((text,), (1,), nats, "end"))
    return grown


def test_ties_go_to_the_more_probable_sum_then_to_the_first():
    grown = tree_of(("a", -2.0), ("b", -1.0), ("a", -2.0), ("b", -2.5))
    assert winner(grown, {"a": [1, 3], "b": [2, 4]}) == 2  # -3.5 against -4
    grown = tree_of(("a", -1.0), ("b", -1.0))
    assert winner(grown, {"a": [1], "b": [2]}) == 1 and winner(grown, {"b": [2], "a": [1]}) == 2
    assert winner(grown, {"a": [1], "b": [2]}, {1: 0.1, 2: 0.2}) == 2


def test_a_sample_is_the_same_however_many_are_drawn(base):
    few, many = (answers(solved(strategy("self_consistency", base=base, samples=n))) for n in (5, 20))
    assert many[:5] == few and len(set(many)) > 2


def test_adaptive_drawing_stops_when_the_leader_can_hardly_lose(monkeypatch, base):
    sure = follows(strategy("direct"), lambda t: {"3": 1.0} if not t else {END: 1.0}, monkeypatch)
    fields = {"samples": 40, "adaptive": True, "window": 2}
    drawn = answers(solved(strategy("self_consistency", base=sure, **fields)))
    assert len(drawn) == 4  # P(lead) of 4 to 0 is 1 - 2^-5
    assert len(answers(solved(strategy("self_consistency", base=sure, **fields | {"confidence": 1.0})))) == 40
    one = strategy("self_consistency", base=sure, **fields)
    assert one.pool == "none" and solved(one).value.tree.pool == "none"
    assert sum(n.flops for n in solved(one).value.tree.nodes) == solved(one).ledger.total_flops


def test_selectors(base):
    told = {"logprob": "none", "checker": "checker", "oracle": "oracle", "weighted": "none"}
    outcomes = {s: solved(strategy("best_of_n", base=base, samples=24, select=s), seed=3) for s in told}
    assert {s: o.access for s, o in outcomes.items()} == told
    assert outcomes["logprob"].value.text == "2"  # the most probable one
    assert outcomes["checker"].value.text == "3"  # right by the question; the key, "5", is never said
    assert {n.value for n in outcomes["oracle"].value.tree.nodes if n.value is not None} == {0.0}
    means = {n.answer: n.nats / n.tokens for n in outcomes["logprob"].value.tree.nodes if n.final and n.answer}
    assert outcomes["logprob"].value.text == max(means, key=means.__getitem__)


@pytest.mark.parametrize("name", ["self_consistency", "best_of_n"])
@pytest.mark.parametrize(
    ("base_name", "fields"), [("direct", {}), ("reasoning_tokens", {"per_token": 2}), ("chain_of_thought", {})]
)
def test_one_sample_without_chance_is_greedy_choice(name, base_name, fields):
    plain = strategy(base_name, **fields)
    ours, theirs = solved(strategy(name, base=plain, samples=1, temperature=0.0)), solved(plain)
    assert dataclasses.replace(ours.value, tree=None) == theirs.value and seen(ours)[1:] == seen(theirs)[1:]


@pytest.mark.parametrize("name", ["self_consistency", "best_of_n", "sampling"])
def test_draws_do_not_depend_on_company(base, name):
    how = strategy(name, base=base)
    assert seen(solved(how)) == seen(solved(how, company=9))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_budget_leaves_the_best_so_far(base, share):
    how = strategy("self_consistency", base=base, samples=6)
    limit = share * solved(how).ledger.total_flops
    outcome = solved(how, limit=limit)
    assert outcome.ledger.total_flops <= limit and outcome.value.completion is not None
    assert sum(n.flops for n in outcome.value.tree.nodes) == outcome.ledger.total_flops


def test_a_grammar_forbids_what_has_another_form(base):
    for name in ("self_consistency", "best_of_n", "sampling", "beam_search", "tree_of_thoughts"):
        free, held = (solved(strategy(name, base=base, grammar=g)) for g in (False, True))
        said = [a for a in answers(held) if a is not None]
        assert set(said) <= {"1", "2", "3"} and said
        assert held.value.text in ("1", "2", "3")
        assert free.ledger.by_class()["prefill"] == held.ledger.by_class()["prefill"]


def test_a_grammar_reaches_over_lines(monkeypatch):
    """Lines, mark and answer: line by line in a tree, in one go elsewhere."""
    wild = follows(strategy("chain_of_thought"), lambda t: {"1": 0.3, "+": 0.3, ";": 0.2, SEP: 0.1, END: 0.1}, monkeypatch)
    for name in ("self_consistency", "beam_search", "tree_of_thoughts"):
        outcome = solved(strategy(name, base=wild, grammar=True))
        texts = [n.said for n in outcome.value.tree.nodes if n.final and n.answer is not None]
        assert texts and all("+" not in t for t in texts)
        assert outcome.value.text == "1"


@pytest.mark.parametrize("evaluator", ["verbal", "vote"])
def test_evaluators_ask_in_words_and_pay_for_it(evaluator):
    """On a model of bytes: values are shares and weights; what they ask is verification, and their states' cost."""
    how = strategy("tree_of_thoughts", base=strategy("direct"), evaluator=evaluator, branching=3)
    assert any("impossible" in w or "number" in w for w in how.wording())
    outcome = solved(
        how, letters=make_alphabet("bytes"), problem=dataclasses.replace(PROBLEM, question=Question("one", "7+8=", 3, 0))
    )
    values = [n.value for n in outcome.value.tree.nodes if n.value is not None]
    ledger = outcome.ledger.by_class()
    if values:
        assert all(0 < v <= 20 for v in values) and ledger["verify"] > 0 == ledger["score"]
        assert evaluator == "verbal" or math.fsum(values) == pytest.approx(1.0)
    assert sum(n.flops for n in outcome.value.tree.nodes) == outcome.ledger.total_flops


@pytest.mark.slow
def test_records_tell_what_candidates_held(tmp_path: Path) -> None:
    """coverage, gap and every n of the pool, from the lines alone, by enumeration."""
    settings = {
        "model.size": "xs", "model.width": 16, "train.flops": "3e8", "train.problems_per_update": 4, "infer.problems": 6,
        "strategy.samples": 4, "strategy.base": "direct", "strategy.grammar": True, "task.digits": "1",
    }  # fmt: skip
    record = run(make_spec(strategy="self_consistency", task="arithmetic", settings=settings), results=tmp_path)
    (folder,) = (tmp_path / "runs" / "arithmetic" / "self_consistency").iterdir()
    lines = [json.loads(x) for x in lines_of(folder / "problems.jsonl")]
    found, weights = record["search"], [x["weight"] for x in lines]
    mean = lambda values: sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)  # noqa: E731
    assert found["coverage"]["value"] == pytest.approx(mean([max(x["candidates"]["scores"].values()) for x in lines]))
    assert found["gap"] == pytest.approx(found["coverage"]["value"] - record["metrics"]["accuracy"]["value"])
    for point in found["pool"]:
        passed = []
        for x in lines:
            some = list(combinations(x["candidates"]["scores"].values(), point["n"]))
            passed.append(sum(max(s) for s in some) / len(some))
        assert point["pass"] == pytest.approx(mean(passed))
    assert record["access"] == "none" and [p["n"] for p in found["pool"]] == [1, 2, 3, 4]
    traces = [json.loads(x) for x in lines_of(folder / "traces.jsonl")]
    for x, trace in zip(lines, traces, strict=True):
        assert sum(trace["tree"]["flops"]) == sum(x["flops"].values())


def test_a_pools_last_point_is_the_whole_pool():
    pool = Pool(right=(True, False, False), groups=("a", "b", "b"), scores=(1.0, 0.5, 0.2))
    last = curves([pool], [1.0])[-1]
    assert (last["pass"], last["majority"], last["best"]) == (1.0, 0.0, 1.0)
