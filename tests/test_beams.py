"""Beam search: a table of probabilities searched by hand, transformers' beam search, greedy choice, ledgers, budgets."""

from __future__ import annotations

import dataclasses
import math
from itertools import product

import pytest
import torch
from support import Toy, ask, jobs_of, seen, strategy, tabled, tiny

from harness import bench_peers
from harness.plugin_spec import with_bases
from harness.problem import END, SEP, Completion
from harness.search_wants import Beam
from harness.session import Job, Session
from harness.wants import Drop, Generate, Spell, Start

TASK = Toy(digits=3)
TOYS = TASK.problems("test", seed=0, start=0, count=24)
LETTERS = ("1", "2", END)  # what the table knows; everything else has next to no probability
TABLE = {  # by the last token: the most probable first step leads to poor endings
    "=": {"1": 0.5, "2": 0.4, END: 0.1}, "1": {"1": 0.4, "2": 0.35, END: 0.25}, "2": {"1": 0.05, "2": 0.15, END: 0.8},
}  # fmt: skip


def over(base, **fields):
    return strategy("beam_search", base=base, **fields)


def solved(how, problems, **fields):
    return ask(tiny(how.learner()), jobs_of(how, problems, **fields))


def log_p(text):
    """Of a text and END, on the table."""
    steps = zip(("=", *text), (*text, END), strict=True)
    return sum(math.log(TABLE[a][b]) for a, b in steps)


def every_text(cap):
    return ["".join(t) for n in range(cap) for t in product("12", repeat=n)]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_at_full_width_it_is_exhaustive_search(alpha):
    how = over(tabled(strategy("direct"), TABLE), width=128, alpha=alpha)
    (outcome,) = solved(how, TOYS[:1]).values()
    cap = TOYS[0].question.answer_cap_tokens
    best = max(every_text(cap), key=lambda t: log_p(t) / (len(t) + 1) ** alpha)
    assert outcome.value.text == best
    assert outcome.value.completion.logprob_nats == pytest.approx(log_p(best), abs=1e-4)


def test_it_finds_what_greedy_choice_misses():
    plain = tabled(strategy("direct"), TABLE)
    assert [o.value.completion.stop for o in solved(plain, TOYS[:1]).values()] == ["cap"]  # 1111..
    texts = {width: next(iter(solved(over(plain, width=width), TOYS[:1]).values())).value.text for width in (2, 3, 8)}
    assert texts == {2: "2", 3: "2", 8: "2"}


def test_an_end_finishes_only_within_the_width():
    """At the start END is third; at width 2 it is no ending, at width 3 it is."""
    for width, nodes in ((2, False), (3, True)):
        (outcome,) = solved(over(tabled(strategy("direct"), TABLE), width=width), TOYS[:1]).values()
        assert any(node.final and node.answer == "" for node in outcome.value.tree.nodes) is nodes


BASES = [("direct", {}), ("reasoning_tokens", {"per_token": 2}), ("pause_tokens", {"pauses": 3}), ("looped_depth", {"loops": 2})]


@pytest.mark.parametrize(("name", "fields"), BASES, ids=str)
@pytest.mark.parametrize("share", [1.0, 0.7, 0.3])
def test_width_one_is_greedy_choice(name, fields, share):
    """Tokens, cells, ledgers, bytes held; up to the cap and to the budget's end."""
    base = strategy(name, **fields)
    backbone = tiny(base, width=32)
    most = max(o.ledger.total_flops for o in ask(backbone, jobs_of(base, TOYS)).values())
    theirs = ask(backbone, jobs_of(base, TOYS, limit_flops=share * most))
    ours = ask(backbone, jobs_of(over(base, width=1), TOYS, limit_flops=share * most))
    for name, outcome in ours.items():
        answer = dataclasses.replace(outcome.value, tree=None)
        assert (answer, *seen(outcome)[1:]) == seen(theirs[name])


@pytest.mark.parametrize("width", [2, 3, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_transformers_beam_search(width, seed):
    """The same top sequences as `generate` with alpha 0, unless scores tie."""
    plain = strategy("direct")
    backbone = tiny(plain, width=32, seed=seed, scale=5.0)
    stock = bench_peers.stock_model(backbone).eval()
    ours = ask(backbone, jobs_of(over(plain, width=width), TOYS))
    equal = 0
    for problem in TOYS:
        ids = torch.tensor([backbone.alphabet.encode(problem.question.text).tolist()])
        end, cap = backbone.alphabet.end_id, problem.question.answer_cap_tokens
        found = stock.generate(
            ids, num_beams=width, early_stopping="never", length_penalty=0.0, do_sample=False, max_new_tokens=cap,
            eos_token_id=end, pad_token_id=end, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        theirs = found.sequences[0, ids.shape[1] :].tolist()
        theirs = theirs[: theirs.index(end) + 1] if end in theirs else theirs
        said = ours[problem.question.id].value.completion
        same = list(said.ids) == theirs
        assert same or abs(float(found.sequences_scores[0]) - said.logprob_nats) < 1e-5
        equal += same
    assert equal > len(TOYS) * 0.9


@pytest.mark.parametrize(("name", "fields"), BASES, ids=str)
def test_company_and_memory_change_nothing(name, fields):
    how = over(strategy(name, **fields), width=3)
    backbone = tiny(how.learner(), width=32)
    together = ask(backbone, jobs_of(how, TOYS))
    for job in jobs_of(how, TOYS[::5]):
        assert seen(ask(backbone, [job], rows=1)[job.name]) == seen(together[job.name])


@pytest.mark.parametrize(("name", "fields"), BASES, ids=str)
def test_a_tree_costs_what_its_nodes_cost(name, fields):
    how = over(strategy(name, **fields), width=4)
    for outcome in solved(how, TOYS[:6]).values():
        nodes = outcome.value.tree.nodes
        assert sum(node.flops for node in nodes) == outcome.ledger.total_flops
        fed = [node for node in nodes[1:] if node.flops]
        assert nodes[0].flops > 0 and len(fed) > len(nodes) / 2
        assert all(nodes[node.parent].nats >= node.nats for node in nodes[1:])


def test_no_prefix_is_computed_twice():
    """Text tokens fed: the prompt, and every kept prefix's last token but those behind which nothing is read."""
    how = over(strategy("direct"), width=4)
    for name, outcome in solved(how, TOYS[:6]).items():
        problem = next(p for p in TOYS if p.question.id == name)
        nodes = outcome.value.tree.nodes
        final = {i for i, node in enumerate(nodes) if node.final}
        assert outcome.ledger.text_tokens == len(problem.question.text) + len(nodes) - 1 - len(final)


def said_by(solver, backbone):
    (outcome,) = Session(backbone).run([Job("0", solver)])
    return outcome.value


def test_kept_rows_go_on_from_behind_their_stops():
    """Lines that end at a string: each row's next token is what feeding that text would give, thoughts that are owed included."""
    for name, fields in BASES[:2]:
        backbone = tiny(strategy(name, **fields), width=32, scale=3.0)

        def solver(cut):
            row = yield Start(strategy("direct").prompt(TOYS[0].question))
            found, _ = yield Beam(row, 30, 3, count=3, until=("7",), keep=True)
            said = []
            for ending in found[:3]:
                if ending.row is None:
                    said.append(None)
                    continue
                more: Completion = yield Generate(ending.row, 4, stops=())
                said.append((ending.completion.ids, more.ids))
                yield Drop(ending.row)
            return said

        found = said_by(lambda: solver(True), backbone)
        lines = [x for x in found if x is not None and backbone.alphabet.pieces(x[0][-1:]) == ("7",)]
        assert len(lines) >= 2

        def plainly(ids):
            row = yield Start(strategy("direct").prompt(TOYS[0].question))
            (text,) = yield Spell(ids)
            from harness.problem import Piece
            from harness.wants import Extend

            row = yield Extend(row, (Piece(text, "answer"),))
            return (yield Generate(row, 4, stops=())).ids

        for ids, more in lines:
            assert said_by(lambda ids=ids: plainly(ids), backbone) == more


def test_at_the_end_of_the_budget_the_best_prefix_counts():
    how = over(strategy("direct"), width=3)
    for problem in TOYS[:4]:
        (whole,) = solved(how, [problem]).values()
        for share in (0.7, 0.8, 0.95):
            limit = share * whole.ledger.total_flops
            (outcome,) = solved(how, [problem], limit_flops=limit).values()
            assert outcome.ledger.total_flops <= limit < whole.ledger.total_flops
            assert outcome.value.completion is not None and outcome.value.completion.ids


def test_worked_lines_are_ranked_with_the_answer():
    """Over a base that says lines, the completion holds both, and thinking is booked as such."""

    class Lined(Toy):
        def offers(self):
            return frozenset({"prompt", "worked_lines"})

    how = with_bases(strategy("beam_search", width=3), Lined(digits=2))
    assert how.answer_mark() == SEP
    problems = [dataclasses.replace(p, question=dataclasses.replace(p.question, lines_cap_tokens=6)) for p in TOYS[:6]]
    found = ask(tiny(how.learner(), width=32, scale=3.0), jobs_of(how, problems))
    assert all(o.ledger.by_class()["think"] > 0 for o in found.values())
    assert any(o.ledger.by_class()["answer"] > 0 for o in found.values())  # behind <sep>
