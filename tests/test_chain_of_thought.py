"""Chain of thought: what is taught, what counts as an answer, who pays for which token, and the controls."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ask, scripted, strategy, tiny

from harness import registry
from harness.alphabet import make_alphabet
from harness.examination import gold_text, library_of, oracle_of
from harness.meter import CLASSES
from harness.problem import END, SEP, THOUGHTS, Completion, Piece, Question
from harness.session import Job
from harness.spec import make_spec
from harness.strategy import PAUSE
from harness.stream import encode
from harness.trace import FACTS
from harness.wants import Likelihood, Score, Start
from strategies._lines import joined, mean_likelihood, shuffled

TASK = registry.find("task", "arithmetic")(digits="2-3")
PROBLEMS = TASK.problems("test", seed=0, start=0, count=6)
ALPHABET = make_alphabet(TASK.alphabet())


@lru_cache(maxsize=16)
def model(**fields):
    how = strategy("chain_of_thought", **fields)
    return how, tiny(how, width=32, alphabet=ALPHABET)


def outcome(problem, solver=None, **fields):
    how, backbone = model(**fields)
    job = Job(
        "0", lambda: solver(how) if solver else how.solve(problem.question), seed=3, oracle=oracle_of(TASK, problem),
        examples=library_of(make_spec(strategy="chain_of_thought", task="arithmetic")),
    )  # fmt: skip
    return ask(backbone, [job])["0"]


def cells(found):
    return [dict(zip(FACTS, cell, strict=True)) for cell in found.trace.cells]


def said(pieces):
    return [p.content if isinstance(p.content, str) else p.content.name for p in pieces]


def taught(**fields):
    return strategy("chain_of_thought", **fields).lessons(PROBLEMS[0], progress=0.0, rng=np.random.default_rng(0))[0]


def test_a_lesson_is_question_lines_mark_answer_end():
    text, lines = taught(), joined(PROBLEMS[0].key.lines)
    assert said(text) == [PROBLEMS[0].question.text, lines, "<sep>", PROBLEMS[0].key.answer, "<end>"]
    assert [p.target for p in text] == [False, True, True, True, True]
    assert [p.role for p in text] == ["prompt", "thought", "thought", "answer", "answer"]


def test_controls_teach_other_lines():
    lines = joined(PROBLEMS[0].key.lines)
    disorder = taught(steps="shuffled")[1].content
    assert disorder != lines and sorted(disorder) == sorted(lines)
    assert taught(steps="shuffled") == taught(steps="shuffled")
    idle = taught(steps="filler")
    assert said(idle)[1:-3] == ["<t1>"] * len(lines)
    assert [p.target for p in idle] == [False] * (len(lines) + 2) + [True, True]
    assert taught(steps="none") == strategy("direct").lessons(PROBLEMS[0], progress=0.0, rng=np.random.default_rng(0))[0]


@given(st.text(max_size=30), st.text(max_size=5))
def test_disorder_keeps_every_letter(text, key):
    assert sorted(shuffled(text, key)) == sorted(text)
    assert shuffled(text, key) == shuffled(text, key)


@pytest.mark.parametrize(
    ("pieces", "stop", "answer"),
    [
        (("1+2=3", SEP, "33"), "end", "33"),
        ((SEP, "7", SEP, "8"), "end", "7<sep>8"),
        (("1+2=3", SEP), "end", ""),
        (("33",), "end", None),
        (("1+2=3", SEP, "3"), "cap", None),
        (("1+2=3", SEP, "3"), "budget", "3"),
    ],
)  # fmt: skip
def test_the_answer_is_what_follows_the_first_mark(pieces, stop, answer):
    assert strategy("chain_of_thought").read(Completion(pieces, (), 0.0, stop)) == answer


def test_a_literal_mark_in_a_question_is_plain_text():
    alphabet = make_alphabet("bytes")
    ids = encode([(Piece("a<sep>b<bot>", "prompt"),)], alphabet).ids
    assert bytes(ids.tolist()).decode() == "a<sep>b<bot>"
    assert alphabet.id_of(SEP) not in ids


def told(*replies, **fields):
    """The outcome where the model says these strings and specials."""
    how = scripted(strategy("chain_of_thought", **fields), *replies, alphabet=ALPHABET)
    problem = PROBLEMS[0]
    job = Job("0", lambda: how.solve(problem.question), oracle=oracle_of(TASK, problem))
    return ask(tiny(how, alphabet=ALPHABET), [job])["0"]


def fed(found, ledger):
    """Ids of the cells that a ledger paid for."""
    return [c["embed"] for c in cells(found) if CLASSES[c["charge"]] == ledger]


MARK = ALPHABET.id_of(SEP)


def test_what_is_said_before_the_mark_is_thinking_and_after_it_answer():
    one = told("1+2=3;", SEP, "57", END)
    assert one.value.text == "57" and one.value.completion.pieces == ("1+2=3;", SEP, "57")
    assert fed(one, "prefill") == ALPHABET.encode(PROBLEMS[0].question.text).tolist()
    assert fed(one, "think") == [*ALPHABET.encode("1+2=3;").tolist(), MARK]
    assert fed(one, "answer") == ALPHABET.encode("57").tolist()
    assert one.ledger.serial_passes == 1 + 7 + 2


def test_without_a_mark_within_the_cap_there_is_no_answer():
    cap = PROBLEMS[0].question.lines_cap_tokens + PROBLEMS[0].question.answer_cap_tokens
    one = told("1" * cap)
    assert one.value.text is None and one.value.completion.stop == "cap" and len(one.value.completion.ids) == cap
    assert told("57", END).value.text is None


@pytest.mark.parametrize("after", [0, 1, 4])
def test_budget_forcing_gives_the_mark_after_so_many_tokens(after):
    """All tokens said so far stand before it; the read behind the last of them is made of nothing."""
    one = told("123456"[:after], None, "57", END, force_after=after)
    assert fed(one, "think") == [*ALPHABET.encode("123456"[:after]).tolist(), MARK]
    assert one.value.text == "57" and not one.used_key


def test_budget_forcing_leaves_an_earlier_mark_alone():
    one = told("12", SEP, "57", END, force_after=6)
    assert fed(one, "think") == [*ALPHABET.encode("12").tolist(), MARK] and one.value.text == "57"


def whole(problem, text):
    """Likelihood of the key behind a given text, fed at once."""

    def solver(how):
        row = yield Start(text)
        return (yield Score(row, (gold_text(problem),)))

    return outcome(problem, solver).value[0]


def test_gold_lines_are_an_oracle_and_stand_where_its_own_would():
    problem = PROBLEMS[0]
    text = (Piece(problem.question.text, "prompt"), Piece(joined(problem.key.lines), "thought"), Piece(SEP, "thought"))
    scored = outcome(problem, lambda how: how.score(problem.question, (gold_text(problem),)), ask_steps="gold")
    assert scored.used_key
    assert scored.value[0] == whole(problem, text)
    assert outcome(problem, ask_steps="gold").used_key and not outcome(problem).used_key


def test_fillers_when_asked_are_as_many_as_the_lines_have_characters():
    problem = PROBLEMS[1]
    for fields in ({"ask_steps": "filler"}, {"steps": "filler"}):
        one = outcome(problem, **fields)
        idle = [c for c in cells(one) if c["kind"] == PAUSE]
        assert len(idle) == len(joined(problem.key.lines)) and {c["embed"] for c in idle} == {ALPHABET.id_of(THOUGHTS[0])}
        assert one.used_key
        assert one.ledger.flops[CLASSES.index("think")] > 0


def test_lines_shuffled_when_asked_are_its_own_in_disorder_and_both_are_paid_for():
    one = told("1+2=3;", SEP, None, "57", END, ask_steps="shuffled")
    own, mixed = ALPHABET.encode("1+2=3;").tolist(), ALPHABET.encode(shuffled("1+2=3;", PROBLEMS[0].question.id)).tolist()
    assert own != mixed
    assert fed(one, "think") == [*own, MARK, *mixed, MARK]
    assert one.value.text == "57" and not one.used_key


def test_the_mean_over_sampled_lines_is_a_mean_of_probabilities():
    nats = [0.5, 2.0, 700.0]
    found = mean_likelihood([Likelihood(n, 3, True) for n in nats])
    assert found.nats == pytest.approx(-math.log((math.exp(-0.5) + math.exp(-2.0)) / 3)) and found.tokens == 3
    assert mean_likelihood([Likelihood(800.0, 1, False)] * 2).nats == pytest.approx(800.0)


def test_samples_at_temperature_zero_score_as_greedy_lines_do():
    problem = PROBLEMS[3]
    gold = (gold_text(problem), (Piece("7", "answer", True), Piece(END, "answer", True)))

    def score(how):
        return how.score(problem.question, gold)

    greedy, sampled = outcome(problem, score), outcome(problem, score, samples=4, temperature=0.0)
    assert [x.nats for x in sampled.value] == pytest.approx([x.nats for x in greedy.value], abs=1e-9)
    assert sampled.ledger.flops[CLASSES.index("prefill")] == greedy.ledger.flops[CLASSES.index("prefill")]
    think = CLASSES.index("think")
    assert sampled.ledger.flops[think] == 4 * greedy.ledger.flops[think]


def test_it_says_which_tasks_it_can_run_on():
    with pytest.raises(ValueError, match=r"needs a task with prompt, worked_lines, which language_model does not.*: arithmetic"):
        make_spec(strategy="chain_of_thought", task="language_model")
    make_spec(strategy="chain_of_thought", task="language_model", settings={"strategy.steps": "none"})


def test_a_cap_below_the_longest_lines_is_refused():
    least = PROBLEMS[0].question.lines_cap_tokens
    settings = {"task.digits": "2-3", "strategy.cap_tokens": least - 1}
    with pytest.raises(ValueError, match=rf"strategy.cap_tokens: the longest worked lines take {least} tokens"):
        make_spec(strategy="chain_of_thought", task="arithmetic", settings=settings)
    make_spec(strategy="chain_of_thought", task="arithmetic", settings=settings | {"strategy.cap_tokens": least})


def test_a_question_of_no_task_has_no_examples():
    how = strategy("chain_of_thought", style="few_shot")
    backbone = tiny(how, alphabet=make_alphabet("bytes"))
    with pytest.raises(ValueError, match="no examples here"):
        ask(backbone, [Job("0", lambda: how.solve(replace(PROBLEMS[0].question, text="1+1=")))])
    assert Question("x", "y").lines_cap_tokens == 0
