"""thinking_spans: what lessons hold and what their cells are taught, by Hugging Face's own forward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import CPU, RandomTokens, Toy, batch_of, states_and_inputs, strategy, sum_text, tiny

from harness.alphabet import make_alphabet
from harness.feed import Feed, Look
from harness.meter import gpt2_price, head_flops
from harness.problem import BOT, EOT, THOUGHTS, Piece, Tokens
from harness.spec import TrainSpec
from harness.stream import encode, tokens_of
from harness.train import Trainer

THOUGHT = Piece(THOUGHTS[0], "thought", True)


def said(*ids):
    return tuple(Piece(Tokens((i,)), "answer", True) for i in ids)


def lesson_of(how, text=None, *, context=128, seed=0, backbone=None):
    backbone = backbone or tiny(how)
    (revised,) = how.revise([text or sum_text(all_targets=False)], Look(how, backbone, context), np.random.default_rng(seed))
    return revised


def shape_of(text):
    """A lesson in letters: x text, < <bot>, R a thought, > <eot>."""
    return "".join({BOT: "<", EOT: ">", THOUGHTS[0]: "R"}.get(p.content, "x") for p in text)


def test_where_lessons_have_spans():
    how = strategy("thinking_spans")
    assert shape_of(lesson_of(how)) == "xxxxxx<RR>xxx"
    each = replace(how, before="each", span=1)
    assert shape_of(lesson_of(each)) == "xxxxxx<R>x<R>x<R>x"
    assert shape_of(lesson_of(each, context=12)) == "xxxxxx<R>x<R>xx"  # 13 tokens, the last is never fed
    assert shape_of(lesson_of(each, context=8)) == "x" * 9
    bare = replace(how, delimiters="none")
    assert shape_of(lesson_of(bare, context=8)) == "xxxxxxRRxxx"
    drawn = {shape_of(lesson_of(replace(bare, lengths="uniform"), seed=s)).count("R") for s in range(20)}
    assert drawn == {0, 1, 2}
    assert lesson_of(how, sum_text())[1].content == BOT  # the first taught token has one before it


def loss_of(how, backbone, text):
    batch = batch_of(backbone, [text])
    states, _ = states_and_inputs(backbone, batch)
    return how.loss(backbone, states, batch.cells, 0.0), batch


@torch.no_grad()
def whole_logits(backbone, text):
    """(n, V) behind every token of a text, by Hugging Face's own forward pass."""
    stream = encode([text], backbone.alphabet)
    position, ids = torch.from_numpy(stream.places), torch.from_numpy(stream.ids)
    out = backbone.model(input_ids=ids[None], position_ids=position[None]).logits[0]
    return out[:, backbone.head_ids]


@pytest.mark.parametrize("delimiters", ["two", "none"])
def test_what_a_given_span_is_taught(delimiters):
    """Open, think again, close, speak: by Hugging Face's own forward pass on the lesson's tokens."""
    how = strategy("thinking_spans", delimiters=delimiters, span=3)
    backbone = tiny(how)
    text = lesson_of(how, backbone=backbone)
    loss, batch = loss_of(how, backbone, text)
    column = {i: c for c, i in enumerate(backbone.head_ids)}
    open_, close = (column.get(backbone.alphabet.id_of(s)) for s in (BOT, EOT))
    four, six, end = column[4], column[6], column[backbone.alphabet.end_id]
    targets = (
        [open_, open_, open_, open_, close, four, six, end] if delimiters == "two" else [open_, open_, open_, four, six, end]
    )
    logits = whole_logits(backbone, text)[5:-1]
    assert float(loss.detach()) == pytest.approx(float(F.cross_entropy(logits, torch.tensor(targets))), rel=1e-4)
    assert batch.supervised_tokens == (5 if delimiters == "two" else 3) and batch.woven_tokens == 3


def test_learned_spans_are_marginalised_at_the_current_place_only():
    """Brute force: each place, each number of thoughts, in a sequence of its own behind the drawn history."""
    how = strategy("thinking_spans", placement="learned", delimiters="none", cap=3, ponder=0.07)
    backbone = tiny(how)
    drawn = set()
    for seed in range(4):
        text = lesson_of(how, seed=seed, backbone=backbone)
        loss, batch = loss_of(how, backbone, text)
        thought = backbone.head_ids.index(backbone.alphabet.id_of(BOT))
        history, total, places = [], 0.0, 0
        for at, piece in enumerate(text):
            if isinstance(piece.content, Tokens):
                history.append(piece)
                continue
            target = backbone.head_ids.index(text[at + 1].content.ids[0])
            silent, nats = 1.0, 0.0
            for j in range(4):
                logits = whole_logits(backbone, (*history, *[THOUGHT] * j))[-1]
                again = float(logits.softmax(0)[thought])
                others = torch.cat([logits[:thought], logits[thought + 1 :]])
                assert target < thought
                p = silent * (1.0 if j == 3 else 1 - again)
                nats += p * (float(-others.log_softmax(0)[target]) + 0.07 * j)
                silent *= again
            total, places = total + nats, places + 1
            kept = THOUGHTS.index(piece.content) - 1
            drawn.add(kept)
            history += [THOUGHT] * kept
        assert places == 3
        assert float(loss.detach()) == pytest.approx(total / places, rel=1e-4)
        assert batch.woven_tokens == 9 and batch.supervised_tokens == 3
    assert len(drawn) >= 3


def test_low_confidence_looks_first_and_pays_for_it(tmp_path):
    """A span stands where the top text token has less than the threshold; text itself is taught at that place all the same."""
    how = strategy("thinking_spans", placement="low_confidence", delimiters="none", threshold=0.15, span=2)
    backbone = tiny(how, seed=1)
    think = backbone.head_ids.index(backbone.alphabet.id_of(BOT))
    text = tokens_of([sum_text("12+34=", "4621")], backbone.alphabet)[0]
    look = Look(how, backbone, 128)
    (revised,) = how.revise([text], look, np.random.default_rng(0))
    logits = whole_logits(backbone, text).index_fill(1, torch.tensor([think]), -torch.inf)
    unsure = (logits.softmax(1).amax(1) < how.threshold).tolist()
    assert True in unsure[:-1] and False in unsure[:-1]
    assert shape_of(revised) == "x" + "".join("RRx" if u else "x" for u in unsure[:-1])
    unit = {"layers": backbone.layers, "width": backbone.width}
    reads = (len(text) - 1) * head_flops(width=backbone.width, outputs=backbone.outputs)
    assert look.flops == int(gpt2_price(**unit).blocks(np.arange(1, len(text))).sum()) + reads
    loss, _ = loss_of(how, backbone, revised)
    ids = encode([revised], backbone.alphabet).ids.tolist()
    ahead = [next(j for j in ids[at + 1 :] if j < backbone.alphabet.sayable_end) for at in range(len(ids) - 1)]
    is_thought = [i >= backbone.alphabet.sayable_end for i in ids]
    targets = [
        think if is_thought[at] and is_thought[at + 1] else backbone.head_ids.index(ahead[at]) for at in range(len(ids) - 1)
    ]
    expected = F.cross_entropy(whole_logits(backbone, revised)[:-1], torch.tensor(targets))
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)
    feed = Feed(task=Toy(), alphabet=backbone.alphabet, seed=0, problems_per_update=4, context_tokens=128)
    batch = feed.batch(how, 0, progress=0.0, device=CPU, backbone=backbone)
    trainer = Trainer(backbone=backbone, spec=TrainSpec(flops=1.0), feed=feed, folder=tmp_path)
    assert batch.look_flops > 0
    trainer._lesson(batch.cells, 0.0)
    assert batch.flops == batch.cells.bill.total_flops + batch.look_flops > batch.look_flops


def test_random_tokens_are_not_foretold_by_where_spans_stand():
    """Low confidence is told by what stands before: changing a token never moves a span before it or earlier."""
    how = strategy("thinking_spans", placement="low_confidence", delimiters="none", threshold=0.4)
    backbone = tiny(how, seed=1)
    (problem,) = RandomTokens(length=30).problems("train", seed=0, start=0, count=1)
    ids = [*problem.question.text.ids, *problem.key.answer.ids]
    for at in (5, 17, 29):
        other = [*ids[:at], (ids[at] + 1) % 12, *ids[at + 1 :]]
        a, b = (how.revise([said(*x)], Look(how, backbone, 64), None)[0] for x in (ids, other))
        heads = [shape_of(t)[: [n for n, p in enumerate(t) if isinstance(p.content, Tokens)][at]] for t in (a, b)]
        assert heads[0] == heads[1] and "R" in heads[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"placement": "learned"}, "delimiters: placement=learned .* legal: none"),
        ({"placement": "low_confidence"}, "legal: none"),
        ({"cap": 1}, "cap: 1 is less than .* 2"),
        ({"placement": "learned", "delimiters": "none", "cap": 63}, "at most 62"),
    ],
)
def test_settings_that_do_not_go_together(fields, words):
    with pytest.raises(ValueError, match=words):
        strategy("thinking_spans", **fields)


def test_words_that_look_like_delimiters_are_plain_text_in_lessons():
    how = strategy("thinking_spans")
    text = (Piece("<bot><t1><eot>", "prompt"), Piece("1<bot>", "answer", True))
    lesson = lesson_of(how, text, backbone=tiny(how, alphabet=make_alphabet("bytes")))
    assert shape_of(lesson) == "x" * 14 + "<RR>" + "x" * 6
