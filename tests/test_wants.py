"""Wants that look at a row, cut it, or leave specials out: as going there directly, also for strategies that owe cells."""

from __future__ import annotations

import numpy as np
import pytest
from support import CPU, strategy, tiny

from harness.feed import make_batch
from harness.problem import BOT, END, EOT, THOUGHTS, Piece, Tokens
from harness.sampling import barred, log_probabilities
from harness.session import Job, Session
from harness.stream import encode
from harness.wants import Extend, Generate, Mark, Peek, Rewind, Room, Score, Spell, Split, Start, Top, Unroll

IDS = (3, 1, 4, 1, 5, 9, 2, 6)
HOWS = [
    ("direct", {}),
    ("reasoning_tokens", {"per_token": 2}),
    ("reasoning_tokens", {"per_token": 2, "emit": "last"}),
    ("reasoning_tokens", {"per_token": 2, "emit": "learned"}),
    ("thinking_spans", {"delimiters": "none"}),
]


def text(*ids):
    return tuple(Piece(Tokens((i,)), "answer", True) for i in ids)


def run(backbone, solver, **fields):
    (outcome,) = Session(backbone).run([Job("one", solver, **fields)])
    return outcome


@pytest.mark.parametrize(("name", "fields"), HOWS, ids=str)
def test_an_unrolled_text_cut_anywhere_is_that_part_of_it(name, fields):
    """Distribution, room and what follows are those of a row that was given the part alone."""
    how = strategy(name, **fields)
    backbone = tiny(how, width=32, scale=4.0)

    def cut(at, unrolled):
        row = yield Start(text(0, 1))
        tops = None
        if unrolled:
            steps = yield Unroll(row, text(*IDS))
            tops = [step.top for step in steps]
            assert len(steps) == len(IDS)
            row = yield Rewind(row, steps[at].mark)
        else:
            row = yield Extend(row, text(*IDS[: at + 1]))
        here, top, room = (yield Peek(row, 5)), (yield Top(row)), (yield Room(row))
        said = yield Generate(row, 6)
        return here, top, room, said, tops

    for at in range(len(IDS)):
        (*a, tops), (*b, _) = (run(backbone, lambda at=at, u=u: cut(at, u)).value for u in (True, False))
        assert a == b
        assert tops[at] == a[1][0]


def test_what_is_cut_stays_charged_and_in_the_trace():
    backbone = tiny(strategy("direct"))

    def solver():
        row = yield Start(text(0, 1))
        steps = yield Unroll(row, text(*IDS))
        yield Rewind(row, steps[2].mark)
        yield Extend(row, text(7))

    outcome = run(backbone, solver)
    assert [c[0] for c in outcome.trace.cells] == [0, 1, *IDS, 7]
    assert outcome.ledger.serial_passes == 3 and outcome.ledger.text_tokens == 2 + len(IDS) + 1


def test_rows_move_while_a_text_is_unrolled():
    """Beside rows that end, an unrolled row is moved; its marks are its own."""
    backbone = tiny(strategy("direct"))

    def short():
        row = yield Start(text(0))
        yield Generate(row, 2)

    def long():
        row = yield Start(text(0, 1))
        for _ in range(6):
            steps = yield Unroll(row, text(*IDS))
            yield Rewind(row, steps[1].mark)
        return (yield Peek(row, 3))

    jobs = [Job(f"s{i}", short) for i in range(40)] + [Job("long", long)] + [Job(f"t{i}", short) for i in range(3)]
    beside = {o.job.name: o.value for o in Session(backbone).run(jobs)}["long"]
    assert beside == run(backbone, long).value


def test_what_is_left_out_is_shared_out():
    how = strategy("thinking_spans")
    backbone = tiny(how, seed=5)
    columns = [backbone.head_ids.index(backbone.alphabet.id_of(s)) for s in (BOT, EOT)]

    def solver():
        row = yield Start(text(0, 1))
        peeked = yield Peek(row, 99)
        top = yield Top(row, without=(BOT, EOT, THOUGHTS[0]))  # what the head lacks is not said anyway
        scores = []
        for i in range(backbone.alphabet.core_size):
            (one,) = yield Score(row, (text(i),), without=(BOT, EOT))
            scores.append(one.nats)
        mark = yield Mark(row)
        said = yield Generate(row, 1, without=(BOT, EOT))
        yield Rewind(row, mark)
        return peeked, top, scores, said

    peeked, top, scores, said = run(backbone, solver).value
    left = {i: v for i, v in peeked if backbone.head_ids.index(i) not in columns}
    total = np.log(sum(np.exp(v) for v in left.values()))
    assert [-s for s in scores] == pytest.approx([left[i] - total for i in range(len(scores))], abs=1e-5)
    best = max(left, key=left.__getitem__)
    assert said.ids == (best,) and said.logprob_nats == pytest.approx(left[best] - total, abs=1e-5)
    assert backbone.alphabet.pieces([best])[0] == top[0] and top[1] == pytest.approx(said.logprob_nats)


def test_nothing_left_out_changes_no_bit():
    backbone = tiny(strategy("direct"))
    logits = backbone.model.transformer.wte.weight.detach()[:3, :12]
    assert barred(logits, []) is logits
    assert log_probabilities(barred(logits, [1, 4])).exp().sum(1).tolist() == pytest.approx([1, 1, 1])


def test_room_split_and_spell():
    how = strategy("thinking_spans")
    backbone = tiny(how, context=20)
    pieces = (Piece("12+", "prompt"), Piece(BOT, "thought", True), Piece(Tokens((3, 4)), "answer", True), Piece(END, "answer"))

    def solver():
        row = yield Start((Piece("12+34=", "prompt"),))
        before = yield Room(row)
        yield Extend(row, (Piece(THOUGHTS[0], "thought"), Piece(BOT, "thought"), Piece(THOUGHTS[0], "thought")))
        return before, (yield Room(row)), (yield Split(pieces)), (yield Spell((1, 2, backbone.alphabet.end_id)))

    before, after, split, spelt = run(backbone, solver).value
    assert (before, after) == (14, 13)  # thoughts take no room
    bot, end = backbone.alphabet.id_of(BOT), backbone.alphabet.end_id
    assert [(p.content.ids, p.role, p.target) for p in split] == [
        ((1,), "prompt", False), ((2,), "prompt", False), ((10,), "prompt", False), ((bot,), "thought", True),
        ((3,), "answer", True), ((4,), "answer", True), ((end,), "answer", False),
    ]  # fmt: skip
    assert spelt == ("12", END)


def test_an_extended_text_can_be_charged_as_score():
    backbone = tiny(strategy("direct"))

    def solver():
        row = yield Start((Piece("1", "prompt"),))
        yield Extend(row, text(1), scored=True)
        yield Extend(row, text(1))

    ledger = run(backbone, solver).ledger.by_class()
    assert ledger["score"] and ledger["answer"] and ledger["score"] < ledger["answer"]


# Targets behind inserted-only specials


def next_targets(*texts):
    """The target of each taught cell, by cell."""
    backbone = tiny(strategy("thinking_spans"))
    stream = encode(texts, backbone.alphabet)
    batch = make_batch(backbone.strategy, backbone.alphabet, stream, len(texts), device=CPU, context_tokens=99)
    columns = batch.cells.targets.tolist()
    return dict(zip(batch.cells.reads.cells.tolist(), columns, strict=True)), batch


def test_an_inserted_special_that_is_a_target_is_looked_through():
    seen, unseen = Piece(THOUGHTS[0], "thought", True), Piece(THOUGHTS[0], "thought")
    assert next_targets((*text(1, 2), seen, seen, *text(3)))[0] == {0: 2, 1: 3, 2: 3, 3: 3}
    assert next_targets((*text(1, 2), unseen, unseen, *text(3)))[0] == {0: 2, 3: 3}
    assert next_targets((*text(1, 2), seen, unseen, *text(3)))[0] == {0: 2, 1: 3, 3: 3}
    found, batch = next_targets((*text(1, 2), seen, seen), text(5))  # nothing of its own text stands behind it
    assert found == {0: 2} and batch.supervised_tokens == 1
    assert next_targets((*text(1, 2), seen, seen, *text(3)))[1].supervised_tokens == 2
