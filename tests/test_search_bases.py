"""Every search over every base that it can search: neutral, in company, recounted, and cut off and taken up again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support import strategy

from harness import make_spec, registry
from harness.checks import cost, model
from harness.checks.context import Context, NotApplicable
from harness.checks.outsider import Sums
from harness.evaluate import evaluate
from harness.plugin_spec import make_strategy
from harness.search import Search
from harness.weights import make_backbone

NAMES = registry.names("strategy")
SEARCHES = [n for n in NAMES if issubclass(registry.find("strategy", n), Search)]
BASES = [n for n in NAMES if n not in SEARCHES]
CHECKS = (model.neutral_is_plain, model.batched_is_alone, model.company_changes_nothing, cost.meter_is_recount)
FEW = [
    ("beam_search", "chain_of_thought"), ("tree_of_thoughts", "reasoning_tokens"), ("self_consistency", "thinking_spans"),
    ("best_of_n", "pause_tokens"), ("dvts", "chain_of_thought"), ("sampling", "looped_depth"),
    ("tree_of_thoughts", "chain_of_thought"),
]  # fmt: skip
ALL = [(s, b) for s in SEARCHES for b in BASES if (s, b) not in FEW]
SMALL = {"tree_of_thoughts": {"branching": 2, "breadth": 2}, "dvts": {"subtrees": 2, "branching": 2}}


def searched(search, base):
    """The search over the base on the checks' own task; None where it declares that it cannot be."""
    task = Sums()
    settings = {"base": base, **SMALL.get(search, {"samples": 3} if "samples" in {f.name for f in fields(search)} else {})}
    how = make_strategy(search, settings, task=task)
    try:
        how.suits(task)
    except ValueError:
        return None
    return how


def fields(search):
    return dataclasses.fields(registry.find("strategy", search))


def check(search, base, folder):
    how = searched(search, base)
    if how is None:
        assert how is None and base == "thinking_spans"  # the only one whose attempts cannot be split at their defaults
        return
    context = Context(how, Sums(), search, "sums", folder)
    for one in CHECKS:
        try:
            one(context)
        except NotApplicable as reason:
            assert "neutral" in str(reason), reason
    outcomes = context.solve(model._jobs(context, sampler=None))
    for outcome in outcomes.values():
        assert sum(node.flops for node in outcome.value.tree.nodes) == outcome.ledger.total_flops
        assert min(node.flops for node in outcome.value.tree.nodes) >= 0


def test_there_are_searches_and_bases():
    assert len(SEARCHES) >= 6 and len(BASES) >= 11


@pytest.mark.parametrize(("search", "base"), FEW)
def test_a_search_over_a_base(search, base, tmp_path):
    check(search, base, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("search", "base"), ALL)
def test_every_search_over_every_base(search, base, tmp_path):
    check(search, base, tmp_path)


@pytest.mark.parametrize("search", SEARCHES)
def test_cut_off_and_taken_up_again_it_writes_the_same_bytes(search, tmp_path: Path):
    """Anywhere, a torn line too, and whatever became of the traces."""
    settings = {"model.width": 16, "model.layers": 1, "model.heads": 2, "infer.problems": 5, "task.digits": "1"}
    settings |= {"infer.traces": 3}
    settings |= {f"strategy.{k}": v for k, v in SMALL.get(search, {}).items()}
    spec = make_spec(strategy=search, task="arithmetic", settings=settings)
    from harness.alphabet import make_alphabet

    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=make_alphabet(spec.alphabet), seed=0)
    names = ("problems.jsonl", "traces.jsonl")
    evaluate(spec, backbone, tmp_path)
    lines, traces = whole = [(tmp_path / name).read_bytes() for name in names]
    assert [len([json.loads(x) for x in data.splitlines()]) for data in whole] == [5, 3]
    cuts = [0, 1, lines.index(b"\n") + 1, len(lines) // 2, len(lines) - 1]
    for cut, kept in [*((cut, len(traces)) for cut in cuts), (len(lines) // 2, len(traces) // 4), (0, len(traces) - 1)]:
        folder = tmp_path / f"{cut}-{kept}"
        folder.mkdir()
        for name, data in zip(names, (lines[:cut], traces[:kept]), strict=True):
            (folder / name).write_bytes(data)
        evaluate(spec, backbone, folder)
        assert [(folder / name).read_bytes() for name in names] == whole


def test_strategies_that_override_attempt_alone_cannot_be_split():
    """An outsider's base whose attempt says two things: a search that must split says no, votes take it."""
    from harness.problem import Question
    from harness.search import split_saying
    from harness.strategy import Strategy

    class Twice(Strategy):
        def attempt(self, question, row, sampler):
            yield from super().attempt(question, row, sampler)
            return (yield from super().attempt(question, row, sampler))

    question = Question("", "1+1=")
    assert split_saying(Twice(), question) is None
    assert split_saying(Strategy(), question) is not None and split_saying(strategy("chain_of_thought"), question) is not None
    with pytest.raises(ValueError, match=r"strategy\.base: .*Twice.*cannot be split"):
        strategy("beam_search", base=Twice()).suits(Sums())
    strategy("self_consistency", base=Twice()).suits(Sums())
