"""Our model inside lm-eval: identities that hold for every strategy, equality with stock `hf`, crashes, and bad arguments."""

from __future__ import annotations

import copy
import json
import math
import warnings
from itertools import pairwise

import pytest
from lm_eval_support import FAST, NEUTRAL, WAYS, asking, model, rolled, run_of, said, scored, squares

from harness import bounds, storage
from harness.export import export_run
from harness.lm_eval_bridge import ThinkingLM, _rows
from harness.problem import Question
from harness.requests import Going
from harness.seeds import derive
from harness.wants import Sampler

CONTEXTS = ("3*3?", "12*12?", "what?", "a longer question than the others: 7*7?", "é€😀", "x")
CONTINUATIONS = ("9", "144", " yes", "49", "né", "!")
LONG = "0123456789" * 20  # more than three contexts of 64 bytes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm_eval")
    return folder, squares(folder)


@pytest.fixture(scope="module")
def folder_of(place):
    folder, data = place
    made = {}

    def get(way):
        if way not in made:
            made[way] = run_of(*WAYS[way], data=data, results=folder / "results")
        return made[way]

    return get


@pytest.fixture(scope="module", params=[pytest.param(w, marks=() if w in FAST else pytest.mark.slow) for w in WAYS])
def way(request, folder_of):
    return folder_of(request.param)


def close(ours, theirs):
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], abs=1e-4)


# Company, order, duplicates


def test_batches_do_not_matter(way):
    pairs = list(zip(CONTEXTS, CONTINUATIONS, strict=True)) * 2
    lms = [model(way, batch_size=size) for size in (1, 7, 64)]
    found = [(scored(lm, *pairs), said(lm, *CONTEXTS, max_gen_toks=9, until=["\n"]), rolled(lm, *CONTEXTS)) for lm in lms]
    assert found[0] == found[1] == found[2]


def test_order_and_duplicates_do_not_matter(way):
    lm = model(way)
    pairs = list(zip(CONTEXTS, CONTINUATIONS, strict=True))
    first, said_first = scored(lm, *pairs), said(lm, *CONTEXTS, max_gen_toks=9)
    lm = model(way)
    assert scored(lm, *pairs[::-1], *pairs) == first[::-1] + first
    assert said(lm, *CONTEXTS[::-1], *CONTEXTS, max_gen_toks=9) == said_first[::-1] + said_first


def test_choices_of_one_document_share_their_context_and_are_as_alone(way):
    pairs = [("3*3?", text) for text in ("9", "12", " nine", "9")]
    together, alone = model(way), model(way)
    close(scored(together, *pairs, together=True), [scored(alone, pair)[0] for pair in pairs])
    cost = [sum(lm.get_model_info()["ledgers"]["made"]["flops_per_document"].values()) for lm in (together, alone)]
    assert cost[0] < 2 * cost[1]


# Likelihoods


@pytest.mark.parametrize("plain", ["direct", "reasoning", "looped", "future heads", "multi-token"])
def test_the_chain_rule_holds_where_no_thought_stands_at_the_border(folder_of, plain):
    lm = model(folder_of(plain))
    (whole, _), (first, _), (then, _) = scored(lm, ("12*12?", "144!"), ("12*12?", "14"), ("12*12?14", "4!"))
    assert whole == pytest.approx(first + then, abs=1e-4)


def test_the_chain_rule_holds_over_the_tokens_of_one_continuation(way):
    """Prefixes of one continuation, each token's share from its neighbours: none is above 0, and they sum to the whole."""
    lm, said_text = model(way), "144!"
    found = [nats for nats, _ in scored(lm, *[("12*12?", said_text[:n]) for n in range(1, 5)], together=True)]
    assert all(b <= a + 1e-5 for a, b in pairwise([0.0, *found]))


def test_empty_and_blank_contexts_and_blank_continuations(way):
    lm = model(way)
    empty, blank = scored(lm, ("", "12"), ("  ", "12"))
    assert math.isfinite(empty[0]) and math.isfinite(blank[0]) and empty[0] < 0
    close([blank], scored(lm, ("", "  12")))  # a context's last blanks belong to the continuation
    close(scored(lm, ("3 ", "9")), scored(lm, ("3", " 9")))


@pytest.mark.parametrize("context", ["12", ""])
def test_an_empty_continuation_is_an_error_that_names_document_and_choice(folder_of, context):
    """It would be certain whatever the model, so a random one would be right wherever an empty choice is."""
    lm = model(folder_of("direct"))
    requests = [asking("loglikelihood", context, text, doc_id=7) for text in ("3", "", "5")]
    for at, request in enumerate(requests):
        request.idx = at
    with pytest.raises(ValueError, match=r"^made: document 7, choice 1 .*''.*nothing to score; give every choice a text$"):
        lm.loglikelihood(requests, disable_tqdm=True)


@pytest.mark.parametrize("length", [63, 64, 65, 3 * 64 + 7])
def test_texts_of_any_length_are_scored_whole(way, length):
    lm = model(way)
    (found,) = rolled(lm, LONG[:length])
    assert math.isfinite(found) and found < -length  # an untaught model: each byte costs more than a nat
    assert rolled(lm, "") == [0]


def test_contexts_and_continuations_longer_than_the_window(way):
    lm = model(way)
    for pair in ((LONG, "12"), ("3*3?", LONG), (LONG, LONG)):
        ((nats, _),) = scored(lm, pair)
        assert math.isfinite(nats) and nats < 0
    close(scored(lm, (LONG, "12")), scored(lm, ("zzz" + LONG, "12")))  # what falls out of the window does not count
    assert len(said(lm, LONG, max_gen_toks=5)) == 1


# Going on


@pytest.mark.parametrize("greedy", ["direct", "pauses", "reasoning", "spans", "looped", "filler", "beam over plain"])
def test_stops_end_what_is_said_and_are_no_part_of_it(folder_of, greedy):
    """Also where a stop spans tokens; a beam of one is greedy, so what it keeps in mind does not change what it says first."""
    lm = model(folder_of(greedy), **({"strategy.width": 1} if greedy == "beam over plain" else {}))
    for context, text in zip(CONTEXTS, said(lm, *CONTEXTS, max_gen_toks=24, until=[]), strict=True):
        for stop in {text[2:3], text[2:4], text[5:8]} - {""}:
            assert said(lm, context, max_gen_toks=24, until=["never", stop]) == [text.split(stop)[0]]


def test_no_answer_holds_a_stop(way):
    for stop in ("1", "=", " ", "é"):
        found = said(model(way), *CONTEXTS, f"the stop {stop} stands in the prompt", max_gen_toks=16, until=stop)
        assert not any(stop in text for text in found)


def test_requests_are_never_changed(way):
    given = {"until": ["\n", "x"], "max_gen_toks": 5, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    requests = [asking("generate_until", "3*3?", given)]
    before = copy.deepcopy(requests)
    model(way).generate_until(requests, disable_tqdm=True)
    assert requests == before


def test_greedy_repetitions_are_made_and_charged_once(folder_of):
    lm = model(folder_of("direct"))
    one, many = (asking("generate_until", "3*3?", {"max_gen_toks": 5}, task=name) for name in ("one", "many"))
    lm.generate_until([one, many, many, many], disable_tqdm=True)
    costs = lm.get_model_info()["ledgers"]
    assert costs["one"]["flops_per_document"] == costs["many"]["flops_per_document"]


@pytest.mark.parametrize("plain", ["direct", "pauses", "reasoning"])
def test_drawn_answers_differ_by_sample_and_repeat(folder_of, plain):
    given = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12}
    requests = [asking("generate_until", "3*3?", given)] * 4
    first, again = (model(folder_of(plain)).generate_until(requests, disable_tqdm=True) for _ in range(2))
    assert first == again
    assert len(set(first)) > 1


def test_repeated_draws_of_a_question_of_ours_differ_and_the_first_is_that_of_run(folder_of):
    asker = model(folder_of("direct"))._asker
    own = Question("3*3", "3*3?")
    how = [Going(cap_tokens=4, sampler=Sampler(), sample=sample) for sample in range(3)]
    seeds = [asker.going_on("any", "3*3?", each, question=own).seed for each in how]
    assert len(set(seeds)) == 3 and seeds[0] == derive(asker.spec.seed, "ask", "3*3")


def test_text_comes_back_as_it_went_in(folder_of):
    lm = model(folder_of("direct"))
    for text in (*CONTEXTS, "\u202etfel", "line\nline\ttab", "\x00"):
        assert lm.tok_decode(lm.tok_encode(text)) == text


# The same model in other hands


@pytest.mark.parametrize("neutral", list(NEUTRAL))
def test_neutral_settings_are_plain_asking(place, folder_of, neutral):
    folder, data = place
    ours = model(run_of(neutral, NEUTRAL[neutral], data=data, results=folder / "results"))
    plain = model(folder_of("direct"))
    pairs = [*zip(CONTEXTS, CONTINUATIONS, strict=True), (LONG, "12")]
    assert scored(ours, *pairs) == scored(plain, *pairs)
    assert said(ours, *CONTEXTS, LONG, max_gen_toks=9, until=["1"]) == said(plain, *CONTEXTS, LONG, max_gen_toks=9, until=["1"])
    assert rolled(ours, *CONTEXTS, LONG) == rolled(plain, *CONTEXTS, LONG)


def test_direct_is_stock_hf_on_the_exported_checkpoint(tmp_path, folder_of):
    from lm_eval.models.huggingface import HFLM

    run_folder = folder_of("direct")
    export_run(str(run_folder), tmp_path / "exported", results=run_folder.parents[3])
    stock = HFLM(pretrained=str(tmp_path / "exported"), logits_cache=False, batch_size=4, device="cpu")
    ours = model(run_folder)
    pairs = [("3*3?", "9"), ("12*12?", "144"), ("", "81"), (LONG, "12"), ("3 ", "9")]
    theirs = stock.loglikelihood([asking("loglikelihood", *pair) for pair in pairs], disable_tqdm=True)
    close(scored(ours, *pairs), theirs)
    texts = ("0123", LONG[:63], LONG[:64], LONG[:65], LONG)
    found = stock.loglikelihood_rolling([asking("loglikelihood_rolling", text) for text in texts], disable_tqdm=True)
    assert rolled(ours, *texts) == pytest.approx(found, abs=1e-3)
    given = {"until": ["7"], "max_gen_toks": 20}
    written = stock.generate_until([asking("generate_until", text, given) for text in (*CONTEXTS, LONG)], disable_tqdm=True)
    assert said(ours, *CONTEXTS, LONG, **given) == written


def test_another_way_of_asking_a_run(folder_of):
    lm = ThinkingLM(str(folder_of("chain")), strategy="beam_search", responses=False, **{"strategy.width": 2})
    assert scored(lm, ("3*3?", "9")) == scored(model(folder_of("beam")), ("3*3?", "9"))
    assert said(lm, "3*3?") == said(model(folder_of("beam")), "3*3?")
    assert lm.get_model_info()["loglikelihoods"] == "the base's"


# What is kept


class Crash(Exception):
    pass


def test_a_crash_costs_only_what_was_not_answered(place, folder_of, monkeypatch):
    run_folder = folder_of("reasoning")
    whole = said(model(run_folder), *CONTEXTS, max_gen_toks=7)
    appended, left = [], [3]
    append = storage.append

    def failing(path, text):
        if left[0] == 0:
            append(path, text[:10])  # torn
            raise Crash
        left[0] -= 1
        appended.append(text)
        append(path, text)

    monkeypatch.setattr(storage, "append", failing)
    with pytest.raises(Crash):
        said(model(run_folder, responses=True, batch_size=1), *CONTEXTS, max_gen_toks=7)
    left[0] = 100
    appended.clear()
    assert said(model(run_folder, responses=True), *CONTEXTS, max_gen_toks=7) == whole
    assert len(appended) == len(CONTEXTS) - 2  # the first line says who was asked
    appended.clear()
    lm = model(run_folder, responses=True)
    assert said(lm, *CONTEXTS, max_gen_toks=7) == whole and not appended
    told = lm.get_model_info()["ledgers"]["made"]
    assert told["documents"] == len(CONTEXTS) and told["flops_per_document"]["total"] > 0
    assert told["seconds_per_document"] is None  # nothing was made just now


def test_another_model_never_meets_these_answers(folder_of):
    paths = {model(folder_of(way), responses=True).responses.path for way in ("direct", "beam over plain", "reasoning")}
    assert len(paths) == 3
    assert len(paths | {model(folder_of("direct"), responses=True, max_length=32).responses.path}) == 4


def test_the_other_cache_is_warned_about_when_it_holds_another_models_answers(tmp_path, folder_of):
    from lm_eval.api.model import CachingLM

    path = str(tmp_path / "cache.db")
    CachingLM(model(folder_of("direct")), path).generate_until([asking("generate_until", "3*3?", {})])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CachingLM(model(folder_of("direct")), path)  # its own answers
    with pytest.warns(UserWarning, match="another model or strategy"):
        CachingLM(model(folder_of("reasoning")), path)


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strateggy": "direct"}, ("strateggy", "pretrained", "strategy.NAME")),
        ({"strategy.widht": 2}, ("widht",)),
        ({"strategy": "nonsense"}, ("nonsense", "beam_search")),
        ({"strategy": "reasoning_tokens"}, ("another learner", "direct")),
        ({"task": "arithmetic"}, ("task",)),
        ({"batch_size": "many"}, ("batch_size", "auto")),
        ({"max_length": 65}, ("max_length", "64")),
    ],
)
def test_a_bad_argument_is_named_with_what_is_legal(folder_of, arguments, words):
    with pytest.raises(ValueError) as error:
        model(folder_of("direct"), **arguments)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_arguments_of_generation_that_would_have_no_effect_are_errors(folder_of):
    with pytest.raises(ValueError, match=r"repetition_penalty.*legal: .*temperature"):
        said(model(folder_of("direct")), "3*3?", repetition_penalty=1.3)


def test_more_rows_than_suit_are_not_taken_for_a_bound_of_auto(folder_of, monkeypatch):
    assert [_rows("auto", most, suiting=100) for most in (None, 64, 1000)] == [100, 64, 100]
    assert [_rows(8, None, suiting=100), _rows("200", 150, suiting=100), _rows("auto:4", None, suiting=100)] == [8, 150, 100]
    assert model(folder_of("direct"), max_batch_size=1000).batch_size == bounds.CPU.rows
    monkeypatch.setattr(bounds, "physical_bytes", lambda: 1 << 12)  # whatever is asked for, memory bounds it
    assert model(folder_of("direct"), max_batch_size=1000).batch_size == bounds.FEWEST_ROWS


def test_a_chat_template_that_is_not_there_is_an_error(folder_of):
    with pytest.raises(ValueError, match="no chat template"):
        model(folder_of("direct")).chat_template(True)
    with pytest.raises(ValueError, match="no chat template"):
        model(folder_of("direct")).apply_chat_template([{"role": "user", "content": "3*3?"}])


def test_what_is_told_of_the_model_is_json(folder_of):
    lm = model(folder_of("chain"))
    said(lm, *CONTEXTS)
    told = json.loads(json.dumps(lm.get_model_info()))
    assert told["asked"]["strategy"]["name"] == "chain_of_thought" and told["ledgers"]["made"]["flops_per_document"]["think"] > 0
