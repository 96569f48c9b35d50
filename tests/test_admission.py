"""A bound on keys and values: problems wait, nothing else changes, and slots never take more."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import Pages, Toy, seen, strategy, tiny

from harness import bounds
from harness.admission import Admission
from harness.decoder import Decoder
from harness.examination import referee_of, sizes_of
from harness.problem import Piece, Question, Tokens
from harness.search import Search
from harness.session import Job, Session
from harness.slots import rounded_keys
from harness.wants import Fork, Start

TASK = Toy(digits=3)
TOYS = [
    dataclasses.replace(p, question=dataclasses.replace(p.question, lines_cap_tokens=4 + i % 5))
    for i, p in enumerate(TASK.problems("test", seed=0, start=0, count=20))
]
COT = strategy("chain_of_thought")
SEARCHES = {
    "sampling": strategy("sampling", base=COT), "CoT decoding": strategy("sampling", base=COT, branches=4),
    "self_consistency": strategy("self_consistency", base=strategy("reasoning_tokens", per_token=2), samples=5),
    "adaptive": strategy("self_consistency", base=COT, samples=9, adaptive=True, window=2),
    "best_of_n": strategy("best_of_n", base=strategy("pause_tokens", pauses=3), samples=4),
    "beam_search": strategy("beam_search", base=strategy("reasoning_tokens"), width=4),
    "bfs": strategy("tree_of_thoughts", base=COT, branching=3, breadth=2),
    "bfs by beams": strategy("tree_of_thoughts", base=COT, branching=2, breadth=3, propose="beam"),
    "dfs": strategy("tree_of_thoughts", base=COT, search="dfs", branching=3, expansions=6),
    "dvts": strategy("dvts", base=COT, subtrees=3, branching=2),
    "spans": strategy("self_consistency", base=strategy("thinking_spans", cap=3), samples=3),
}  # fmt: skip


def jobs_of(how, backbone, *, bounded):
    sizes = sizes_of(backbone, bounded=bounded)
    jobs = []
    for i, p in enumerate(TOYS):
        rows, cells = sizes(how, p.question, ())
        solver = lambda p=p: how.solve(p.question)  # noqa: E731
        jobs.append(Job(p.question.id, solver, seed=i, referee=referee_of(TASK, p.question), rows=rows, cells=cells))
    return jobs


def least_bytes(jobs, backbone):
    each = backbone.new_slots().bytes_per_cell
    return max(job.rows * rounded_keys(job.cells) * each for job in jobs)


class Watched:
    """The most bytes that a session's slots had room for."""

    def __init__(self, session):
        self.most, decoder, own = 0, session._decoder, Decoder.feed

        def feed(feeds):
            self.most = max(self.most, decoder.slots.rows * decoder.slots.cells * decoder.slots.bytes_per_cell)
            return own(decoder, feeds)

        decoder.feed = feed


@pytest.mark.parametrize("name", SEARCHES)
def test_a_bound_changes_nothing_but_memory(name):
    """Sampled at temperature 1: the least bound and some larger ones give what no bound gives, within the bound."""
    how = SEARCHES[name]
    assert isinstance(how, Search)
    backbone = tiny(how.learner(), width=32, scale=3.0)
    free = {o.job.name: seen(o) for o in Session(backbone).run(jobs_of(how, backbone, bounded=False))}
    jobs = jobs_of(how, backbone, bounded=True)
    least = least_bytes(jobs, backbone)
    for bound in (least, int(2.5 * least), 40 * least):
        session = Session(backbone, max_kv_bytes=bound)
        watched = Watched(session)
        held = {o.job.name: seen(o) for o in session.run(jobs)}
        assert held == free
        assert 0 < watched.most <= bound


@pytest.mark.parametrize("name", ["self_consistency", "bfs"])
def test_a_bound_below_one_problem_names_the_least(name):
    how = SEARCHES[name]
    backbone = tiny(how.learner(), width=32)
    jobs = jobs_of(how, backbone, bounded=True)
    least = least_bytes(jobs, backbone)
    session = Session(backbone, max_kv_bytes=least - 1)
    with pytest.raises(ValueError, match=rf"--max-kv-bytes: one problem may need {least} bytes .* got {least - 1}"):
        session.check_sizes((job.rows, job.cells) for job in jobs)
    Session(backbone, max_kv_bytes=least).check_sizes((job.rows, job.cells) for job in jobs)


def test_problems_wait_for_each_other():
    how = SEARCHES["self_consistency"]
    backbone = tiny(how.learner(), width=32)
    jobs = jobs_of(how, backbone, bounded=True)
    session, live = Session(backbone, max_kv_bytes=least_bytes(jobs, backbone)), []
    own = Decoder.feed

    def feed(feeds):
        live.append(len(session._live))
        return own(session._decoder, feeds)

    session._decoder.feed = feed
    assert len(list(session.run(jobs))) == len(jobs)
    assert max(live) == 1


def test_holding_too_much_is_an_error_that_says_so():
    backbone = tiny(strategy("direct"), width=32)

    def greedy_for_rows():
        row = yield Start((Piece("1+2=", "prompt"),))
        yield Fork(row, 3)

    def greedy_for_cells():
        yield Start((Piece(Tokens(tuple([1] * 40)), "prompt"),))

    for solver, rows, cells in ((greedy_for_rows, 2, 16), (greedy_for_cells, 1, 16)):
        bound = rows * cells * backbone.new_slots().bytes_per_cell
        with pytest.raises(ValueError, match="`holding` foresees"):
            list(Session(backbone, max_kv_bytes=bound).run([Job("0", solver, rows=rows, cells=cells)]))


@pytest.mark.parametrize(("name", "fields"), [("direct", {}), ("pause_tokens", {"ask_inserted": 0.2, "place": "shared"})])
def test_windows_of_documents_fit_the_least_bound(name, fields):
    """Thoughts among the scored tokens included."""
    how = strategy(name, **fields)
    backbone = tiny(how, width=32)
    sizes, jobs = sizes_of(backbone, bounded=True), []
    for i, page in enumerate(Pages(pages=5).documents("test")):
        ids = tuple(backbone.alphabet.encode(page.text).tolist())
        question, said = (
            Question(str(i), Tokens(ids[:5]), answer_cap_tokens=len(ids) - 5, window=True),
            (Piece(Tokens(ids[5:]), "answer", True),),
        )
        rows, cells = sizes(how, question, said)
        solver = lambda q=question, s=said: how.score(q, (s,))  # noqa: E731
        jobs.append(Job(str(i), solver, rows=rows, cells=cells))
    free = {o.job.name: seen(o) for o in Session(backbone).run(jobs)}
    assert {o.job.name: seen(o) for o in Session(backbone, max_kv_bytes=least_bytes(jobs, backbone)).run(jobs)} == free


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 90)), min_size=1, max_size=30), st.integers(0, 40), st.randoms())
def test_what_is_admitted_fits_whatever_comes_and_goes(sizes, slack, random):
    """Rows times cells of the slab that is asked for never pass the bound, and everyone gets in at last."""
    least = max(r * rounded_keys(c) for r, c in sizes)
    bound, waiting, live = least + slack, list(enumerate(sizes)), []
    admission = Admission(rows=1 << 30, max_kv_bytes=bound, bytes_per_cell=1)
    slab = (0, 0)
    while waiting or live:
        while waiting and admission.open(*waiting[0][1]):
            number, size = waiting.pop(0)
            slab = admission.slab(*size, *slab) or slab
            slab = (slab[0], rounded_keys(slab[1]))
            admission.admit(number, *size)
            live.append((number, size))
            assert slab[0] * slab[1] <= bound
            assert slab[0] >= sum(r for _, (r, _) in live) and slab[1] >= max(c for _, (_, c) in live)
        number, (rows, _) = live.pop(random.randrange(len(live)))
        admission.close(number, rows)
    assert admission.held == 0


@pytest.mark.parametrize("bounded", [False, True])
def test_a_session_that_is_through_holds_no_keys_and_values(bounded):
    """Its parts refer to each other, so that they would stay until Python looks for cycles; it may be used again all the same."""
    how = SEARCHES["bfs"]
    backbone = tiny(how.learner(), width=32, scale=3.0)
    jobs = jobs_of(how, backbone, bounded=bounded)
    session = Session(backbone, max_kv_bytes=least_bytes(jobs, backbone) if bounded else None)
    first = {o.job.name: seen(o) for o in session.run(jobs[:9])}
    assert not session._decoder.slots._slabs and len(first) == 9
    again = {o.job.name: seen(o) for o in session.run(jobs_of(how, backbone, bounded=bounded)[:9])}
    assert first == again == {o.job.name: seen(o) for o in Session(backbone).run(jobs_of(how, backbone, bounded=bounded)[:9])}


def test_rows_side_by_side_are_what_the_machines_memory_holds(monkeypatch):
    """A quarter of it: SmolLM2-135M's cells are 46 kB; small models are bounded by what suits a core."""
    cpu, smollm2 = torch.device("cpu"), {"cells": 8192, "bytes_per_cell": 46_080}
    for gigabytes, rows in ((64, 128), (16, 91), (8, 45), (1, bounds.FEWEST_ROWS)):
        monkeypatch.setattr(bounds, "physical_bytes", lambda held=gigabytes << 30: held)
        assert bounds.rows_of(cpu, **smollm2) == rows
        assert bounds.rows_of(cpu, cells=64, bytes_per_cell=2048) == bounds.CPU.rows
    monkeypatch.undo()
    assert bounds.physical_bytes() > 1 << 28
    monkeypatch.setattr(bounds.os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert bounds.physical_bytes() == 8 << 30
