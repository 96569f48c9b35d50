"""Contexts longer than the model's window: every strategy thinks as it does behind shorter ones, on every kind of request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lm_eval_support import asking
from support import sharpen

from harness import registry
from harness.alphabet import make_alphabet
from harness.backbone import Backbone
from harness.bridged import Costs, Work, rolling, saying, scoring
from harness.generation import going_of
from harness.inquiries import _most_cells
from harness.jobs import Outcome
from harness.lines import trace_json
from harness.meter import CLASSES
from harness.problem import Piece, Question, Text, Tokens
from harness.recheck import count, shape_of
from harness.requests import Asker
from harness.session import Session
from harness.spec import RunSpec, make_spec
from harness.stream import cropped, encode
from harness.trace import FACTS
from harness.weights import make_backbone

WINDOW, THOUGHTS = 256, 24
FITS, LONG, LONGER = 60, 300, 700  # characters, each a token
STYLES = ("standard", "few_shot", "one_go", "zero_shot", "dialogue", "recall", "staged")
FEW: dict[str, Mapping[str, Any]] = {"beam_search": {"width": 2}}  # rather than many, which take long
MORE: dict[str, tuple[Mapping[str, Any], ...]] = {  # beside the default settings of every strategy
    "chain_of_thought": (
        *({"style": style, "shots": 1} for style in STYLES),
        {"force_after": 5},
        {"ask_steps": "shuffled"},
        {"samples": 2},
    ),
    "pause_tokens": (
        {"where": "before"},
        {"embed": "text", "where": "before"},
        {"place": "shared"},
        {"ask_inserted": 0.1},
    ),
    "filler": ({"made_of": "text"},),
    "thinking_spans": ({"placement": "low_confidence", "delimiters": "none", "threshold": 1.0},),
    "tree_of_thoughts": ({"evaluator": "verbal", "base": "chain_of_thought", "base.style": "one_go", "base.shots": 0},),
    "beam_search": ({"base": "direct", "width": 2}, {"base": "pause_tokens", "width": 2}),
    "best_of_n": ({"base": "chain_of_thought", "base.style": "zero_shot", "samples": 2},),
}
WAYS = [(name, settings) for name in registry.names("strategy") for settings in (FEW.get(name, {}), *MORE.get(name, ()))]
SILENT = {
    "direct",
    "future_heads",
    "looped_depth",
    "multi_token",
    "myopic",
    "side_targets",
}  # these think in no cells of their own


def context(characters: int) -> str:
    """Text in which every stretch is found once."""
    return "".join(f"{n:03d}," for n in range(1000))[:characters]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "squares.jsonl"
    rows = [{"question": f"{n}*{n}?", "answer": str(n * n), "steps": [f"{n} times {n}", f"= {n * n}"]} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@cache
def made(name: str, settings: str, data: Path) -> tuple[RunSpec, Backbone]:
    """An untaught model under a strategy: it says whatever it says until its caps."""
    example = {} if settings != "{}" else dict(registry.find("strategy", name).example)
    given = {f"strategy.{key}": value for key, value in (example | json.loads(settings)).items()}
    shape = {"model.layers": 1, "model.width": 16, "model.heads": 2, "model.context_tokens": WINDOW}
    spec = make_spec(strategy=name, task="file", settings={"task.path": str(data), **shape, **given})
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=make_alphabet("bytes"), seed=0)
    sharpen(backbone, 3.0)
    return spec, backbone.eval()


def answered(asker: Asker, backbone: Backbone, work: Work) -> list[Outcome]:
    """What came of all jobs, by their order; the work has them too."""
    work.outcomes = {outcome.job.name: outcome for outcome in Session(backbone).run(work.jobs)}
    return [work.outcomes[job.name] for job in work.jobs]


def works(asker: Asker, text: str) -> dict[str, Work]:
    """A work of each kind of request."""
    choices = [asking("loglikelihood", text, said) for said in ("12", " yes")]
    how = going_of({"until": ["@"]}, cap_tokens=6)
    return {
        "loglikelihood": scoring(asker, choices),
        "loglikelihood_rolling": rolling(asker, asking("loglikelihood_rolling", text)),
        "generate_until": saying(asker, asking("generate_until", text, {}), how),
    }


def think_flops(outcomes: list[Outcome]) -> int:
    return sum(outcome.ledger.by_class()["think"] for outcome in outcomes)


def fed(outcome: Outcome) -> str:
    """The text of the prompt's cells."""
    cells = [dict(zip(FACTS, cell, strict=True)) for cell in outcome.trace.cells]
    return bytes(c["embed"] for c in cells if CLASSES[c["charge"]] == "prefill" and c["embed"] < 256).decode()


def assert_adds_up(spec: RunSpec, backbone: Backbone, outcome: Outcome) -> None:
    """FLOPs by class are those of the trace's cells, and no row is longer than the window."""
    ledger, trace = outcome.ledger, outcome.trace
    shape = shape_of({"spec": spec.to_json(), "model": {"outputs": backbone.outputs}})
    counted = count(trace_json(trace), shape)
    assert counted.tokens == (ledger.text_tokens, ledger.woven_tokens)
    if not shape.parts:
        assert counted.flops.tolist() == [ledger.by_class()[name] for name in CLASSES]
    places = [cell[FACTS.index("place")] for cell in trace.cells]
    assert max(places) < WINDOW


@pytest.mark.parametrize(("name", "settings"), WAYS, ids=[f"{name}-{json.dumps(more)}" for name, more in WAYS])
def test_every_strategy_thinks_behind_contexts_that_do_not_fit(name: str, settings: Mapping[str, Any], data: Path) -> None:
    spec, backbone = made(name, json.dumps(settings), data)
    asker = Asker(spec, backbone, thought_tokens=THOUGHTS)
    short, long, longer = (works(asker, context(n)) for n in (FITS, LONG, LONGER))
    for kind in short:
        first, second, third = (answered(asker, backbone, each[kind]) for each in (short, long, longer))
        assert (think_flops(first) > 0) == (think_flops(second) > 0) == (think_flops(third) > 0), kind
        for outcome in (*first, *second, *third):
            assert_adds_up(spec, backbone, outcome)
        if kind == "loglikelihood_rolling":
            assert [each[kind].truncated_prompts for each in (short, long, longer)] == [0, 0, 0]
            continue
        assert [each[kind].truncated_prompts for each in (short, long, longer)] == [0, 1, 1], kind
        for outcomes, characters in ((second, LONG), (third, LONGER)):
            assert all(context(characters)[-40:] in fed(outcome) for outcome in outcomes), kind


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_those_that_think_do(kind: str, data: Path) -> None:
    """So that the test above compares thinking with thinking."""
    for name, settings in WAYS:
        spec, backbone = made(name, json.dumps(settings), data)
        asker = Asker(spec, backbone, thought_tokens=THOUGHTS)
        thinks = think_flops(answered(asker, backbone, works(asker, context(LONG))[kind])) > 0
        base = settings.get("base", "")
        idle = (
            name in SILENT
            or base == "direct"
            or settings.get("style") == "standard"
            or (name == "thinking_spans" and not settings)
        )
        idle |= kind == "generate_until" and "one_go" in settings.values()
        assert thinks or idle, (name, settings)


# Single facts


def scored_once(name: str, settings: Mapping[str, Any], text: str, data: Path) -> tuple[Work, Outcome]:
    """The first job of two choices behind a context."""
    spec, backbone = made(name, json.dumps(settings), data)
    asker = Asker(spec, backbone, thought_tokens=THOUGHTS)
    work = works(asker, text)["loglikelihood"]
    return work, answered(asker, backbone, work)[0]


def thoughts(outcome: Outcome) -> int:
    """Cells that are charged as thinking."""
    return sum(CLASSES[cell[FACTS.index("charge")]] == "think" for cell in outcome.trace.cells)


@pytest.mark.parametrize("where", ["after", "before"])
def test_there_are_as_many_pauses_behind_any_context(where: str, data: Path) -> None:
    found = [scored_once("pause_tokens", {"where": where}, context(n), data)[1] for n in (0, 1, 140, 250, 256, 300, 1000)]
    assert [thoughts(outcome) for outcome in found] == [10] * 7
    assert fed(found[-1]) == context(1000)[-255:]  # all but the last token of " yes" is fed: 255 + 3 - 1 stand in the window


@pytest.mark.parametrize("style", ["zero_shot", "dialogue"])
@pytest.mark.parametrize("characters", [0, 10, 40, 58, 62, 90, 140, 300])
def test_a_prompted_model_thinks_in_a_small_window(style: str, characters: int, data: Path) -> None:
    """Its thoughts end where the words behind them, and the continuation, would not fit any more."""
    how = {"model.layers": 1, "model.width": 16, "model.heads": 2, "model.context_tokens": 96, "task.path": str(data)}
    spec = make_spec(strategy="chain_of_thought", task="file", settings={"strategy.style": style, **how})
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=make_alphabet("bytes"), seed=0)
    asker = Asker(spec, backbone, thought_tokens=256)
    for kind, work in works(asker, context(characters)).items():
        outcomes = answered(asker, backbone, work)
        if kind != "loglikelihood_rolling":
            assert all(context(characters)[-8:] in fed(outcome) for outcome in outcomes)
            assert think_flops(outcomes) > 0


def test_a_cut_context_is_told_in_whole_characters(data: Path) -> None:
    """Its text is the longest end that fits; a character that is cut through is left out."""
    spec, backbone = made("chain_of_thought", '{"style": "zero_shot", "shots": 1}', data)
    asker, text = Asker(spec, backbone, thought_tokens=THOUGHTS), "é€😀" * 3
    whole = Tokens(tuple(text.encode()), text)
    ends = {tokens: asker._ending(whole, tokens) for tokens in (1, 3, 4, 8, 9, 27, 99)}
    assert {tokens: end.text for tokens, end in ends.items()} == {
        1: "", 3: "", 4: "😀", 8: "€😀", 9: "é€😀", 27: text, 99: text
    }  # fmt: skip
    assert all(bytes(end.ids) == text.encode()[-tokens:] for tokens, end in ends.items()) and ends[27] is ends[99] is whole


def test_what_falls_out_of_the_window_does_not_count(data: Path) -> None:
    for name, settings in WAYS:
        one, other = (scored_once(name, settings, before + context(LONGER), data)[1] for before in ("", "zzz"))
        assert one.value == other.value, (name, settings)


def test_a_question_of_tokens_without_a_text_is_never_put_into_words() -> None:
    assert Question("q", Tokens((1,), "")).words == "" and Question("q", "12").words == "12"
    with pytest.raises(ValueError, match=r"question 'q': .*no words can be put around it; give Tokens a text"):
        _ = Question("q", Tokens((1,))).words


def test_pauses_before_a_text_are_no_part_of_what_is_cropped(data: Path) -> None:
    spec, backbone = made("pause_tokens", '{"where": "before"}', data)
    alphabet = backbone.alphabet
    whole: Text = spec.strategy.prompt(Question("q", "0123456789"))
    stream = encode([cropped(whole, alphabet, 4)], alphabet)
    assert (stream.ids[:10] >= alphabet.sayable_end).all() and alphabet.pieces(stream.ids[10:].tolist()) == ("6789",)
    assert cropped(whole, alphabet, 10) is whole
    assert cropped((Piece("0123", "prompt"),), alphabet, 3) == tuple(Piece(Tokens((i,)), "prompt") for i in b"123")


@pytest.mark.parametrize("settings", [{}, {"ask_inserted": 0.1}])
def test_memory_is_foreseen_for_questions_and_for_windows(settings: Mapping[str, Any], data: Path) -> None:
    """A question has ten pauses, a window one for every ten tokens."""
    spec, backbone = made("pause_tokens", json.dumps(settings), data)
    asker, most = Asker(spec, backbone, thought_tokens=THOUGHTS), _most_cells(spec, backbone)
    for text in (context(FITS), context(LONG), "x" * 245, "x" * 256):
        for work in works(asker, text).values():
            for outcome in answered(asker, backbone, work):
                assert len(outcome.trace.cells) <= most


# Counts


def test_truncated_prompts_are_counted_once_a_prompt(data: Path) -> None:
    """Two choices of one context lose the same beginning; kept answers of before do not say."""
    spec, backbone = made("direct", "{}", data)
    asker, costs = Asker(spec, backbone, thought_tokens=THOUGHTS), Costs()
    for characters in (FITS, LONG, LONGER):
        kinds = works(asker, context(characters))
        for work in kinds.values():
            answered(asker, backbone, work)
        made_of = list(kinds.values())
        costs.add(made_of, [work.response(asker) for work in made_of], made=frozenset(), seconds=0.0)
    assert costs.by_task()["made"]["truncated_prompts"] == 4
    old = [{name: one for name, one in work.response(asker).items() if name != "truncated_prompts"} for work in made_of]
    costs.add(made_of, old, made=frozenset(), seconds=0.0)
    assert costs.by_task()["made"]["truncated_prompts"] == 4


def test_a_taught_model_stops_thinking_where_a_continuation_would_not_fit(data: Path) -> None:
    """An untaught one never says the mark; its lines end one token before room for mark and continuation does."""
    spec, backbone = made("chain_of_thought", "{}", data)
    asker = Asker(spec, backbone, thought_tokens=10 * WINDOW)
    for kind, work in works(asker, context(LONG)).items():
        for outcome in answered(asker, backbone, work):
            assert_adds_up(spec, backbone, outcome)
            if kind == "loglikelihood":
                assert thoughts(outcome) == WINDOW // 2 - 1  # the mark included; room is kept for a token that is not fed


@pytest.mark.parametrize("style", STYLES)
def test_whole_texts_are_scored_by_a_prompted_model_as_by_direct(style: str, data: Path) -> None:
    """No words are put around windows of documents, and no room is left for any."""
    found = []
    for name, settings in (("chain_of_thought", {"style": style, "shots": 1}), ("direct", {})):
        spec, backbone = made(name, json.dumps(settings), data)
        work = works(Asker(spec, backbone, thought_tokens=THOUGHTS), context(LONGER))["loglikelihood_rolling"]
        found.append([outcome.value for outcome in answered(Asker(spec, backbone, thought_tokens=THOUGHTS), backbone, work)])
    assert found[0] == found[1]


@pytest.mark.parametrize(("characters", "cut"), [(200, 0), (250, 1)])
def test_a_prompt_that_its_own_words_make_too_long_is_counted(characters: int, cut: int, data: Path) -> None:
    work, outcome = scored_once("chain_of_thought", {"style": "standard", "shots": 0}, context(characters), data)
    assert work.truncated_prompts == cut and fed(outcome).startswith("Q: ") == (not cut)
