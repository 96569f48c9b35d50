"""Generation arguments: each is followed as lm-eval and transformers document it, or refused in one line; one checked sampler."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval_made import GENERATE, SHARED, made_spec, write_tasks
from lm_eval_support import asking, model, run_of, said, squares

from harness.generation import going_of
from harness.requests import Going
from harness.runs import run
from harness.sampling import choose, truncated
from harness.wants import GREEDY, Sampler

NUMBERS = (math.nan, math.inf, -math.inf, "1", "", True, False, [1], {}, 10**400)
BAD: dict[str, tuple[str, tuple[Any, ...]]] = {  # a sampler's field, its range in words, values that it does not take
    "temperature": ("a number from 0", (*NUMBERS, -1, -1e-9)),
    "top_k": ("a whole number from 0", (*NUMBERS[:-1], -1, 1.5, 2.0)),
    "top_p": ("a number above 0 to 1", (*NUMBERS, 0, 0.0, -0.1, 1.0000001, 2)),
    "min_p": ("a number from 0 to 1", (*NUMBERS, -0.1, 1.1)),
    "typical": ("a number above 0 to 1", (*NUMBERS, 0, -1, 1.5)),
}
CASES = [(field, legal, value) for field, (legal, values) in BAD.items() for value in values]
LOGITS = torch.tensor([[0.5, 3.0, -1.0, 2.0, 1.0], [-7.0, -2.0, -8.0, -1.0, -9.0]])


def told(error: pytest.ExceptionInfo[ValueError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("generation")
    return run_of("direct", {}, data=squares(place), results=place / "results")


# One sampler


@pytest.mark.parametrize(("field", "legal", "value"), CASES, ids=lambda x: str(x)[:12])
def test_a_sampler_names_what_is_out_of_range(field: str, legal: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        Sampler(**{field: value})
    assert told(error) == f"{field}: expected {legal}, got {value!r}"


@pytest.mark.parametrize("value", [None, "temperature"])
def test_a_field_of_another_type_is_out_of_range(value: Any) -> None:
    for field in BAD:
        with pytest.raises(ValueError, match=rf"^{field}: expected a (whole )?number"):
            Sampler(**{field: value})
    with pytest.raises(ValueError, match=r"^grammar: expected a pattern or None, got 1$"):
        Sampler(grammar=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(5e-324), Sampler(1e-310), Sampler(1e-199), Sampler(1.0, top_k=1), Sampler(1.0, top_p=5e-324),
        Sampler(1.0, min_p=1.0), Sampler(np.float32(1e-30), top_p=np.float64(1e-300)),
    ],
    ids=str,
)  # fmt: skip
def test_the_ends_of_the_ranges_draw_the_most_probable_token(sampler: Sampler) -> None:
    keys, steps = np.arange(2, dtype=np.uint64), np.zeros(2, dtype=np.uint64)
    for step in range(20):
        assert choose(LOGITS, [sampler] * 2, keys, steps + np.uint64(step)).tolist() == [1, 3]


def test_the_least_typical_mass_keeps_one_token() -> None:
    """Its share of what top-p left is less than a float can hold."""
    kept = truncated(torch.zeros(2, 5), Sampler(1.0, top_p=0.1, typical=5e-324))
    assert (kept > 0).sum(-1).tolist() == [1, 1]


def test_a_temperature_without_end_draws_evenly() -> None:
    assert truncated(LOGITS, Sampler(1e308)).numpy() == pytest.approx(np.full((2, 5), 0.2))


# As lm-eval gives it


@pytest.mark.parametrize(("field", "legal", "value"), CASES, ids=lambda x: str(x)[:12])
@pytest.mark.parametrize(
    "others", [{}, {"do_sample": True, "temperature": 0.5}, {"do_sample": False}], ids=["", "drawn", "greedy"]
)
def test_generation_arguments_are_checked_whether_they_are_used_or_not(
    field: str, legal: str, value: Any, others: dict[str, Any]
) -> None:
    name = {"typical": "typical_p"}.get(field, field)
    with pytest.raises(ValueError) as error:
        going_of({**others, name: value}, cap_tokens=4)
    assert told(error) == f"generation_kwargs: {name}: expected {legal}, got {value!r}"


@pytest.mark.parametrize(
    ("given", "sampler"),
    [
        ({}, None),
        ({"do_sample": False}, None),
        ({"do_sample": None, "temperature": None}, None),
        ({"temperature": 0}, None),
        ({"temperature": 0.0, "do_sample": False}, None),
        ({"temperature": 0.7}, Sampler(0.7)),
        ({"temperature": 2, "do_sample": True}, Sampler(2)),
        ({"do_sample": True}, Sampler(1.0)),
        ({"do_sample": True, "top_k": 0, "top_p": 1, "min_p": 0, "typical_p": 1}, Sampler(1.0)),
        ({"do_sample": True, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8}, Sampler(1.0, 3, 0.9, 0.1, 0.8)),
    ],
    ids=str,
)
def test_which_sampler_arguments_ask_for(given: dict[str, Any], sampler: Sampler | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert going_of(given, cap_tokens=9, sample=2) == Going(cap_tokens=9, sampler=sampler, sample=2 if sampler else 0)


def test_drawing_at_temperature_zero_is_refused() -> None:
    for zero in (0, 0.0, -0.0):
        with pytest.raises(ValueError) as error:
            going_of({"do_sample": True, "temperature": zero}, cap_tokens=4)
        expected = f"generation_kwargs: temperature: expected a number above 0 with do_sample=true, got {zero!r}; "
        assert told(error) == expected + "for greedy answers give do_sample=false"


@pytest.mark.parametrize(
    "given", [{"do_sample": False, "temperature": 1}, {"top_p": 0.5}, {"temperature": 0, "top_k": 3}], ids=str
)
def test_arguments_of_drawing_beside_greedy_choice_are_told(given: dict[str, Any]) -> None:
    with pytest.warns(
        UserWarning, match=r"^generation_kwargs: (temperature=1|top_p=0.5|top_k=3) without effect: answers are greedy"
    ):
        assert going_of(given, cap_tokens=4) == Going(cap_tokens=4)


@pytest.mark.parametrize("value", ["true", 1, 0, 0.5, []], ids=str)
def test_do_sample_is_true_or_false(value: Any) -> None:
    with pytest.raises(ValueError) as error:
        going_of({"do_sample": value}, cap_tokens=4)
    assert told(error) == f"generation_kwargs: do_sample: expected true or false, got {value!r}"


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
def test_every_name_of_the_cap_is_followed_and_checked(name: str) -> None:
    assert going_of({name: 3}, cap_tokens=9).cap_tokens == 3
    assert going_of({name: None}, cap_tokens=9).cap_tokens == 9
    for value in (0, -1, 2.7, 16.0, "8", True, math.nan, math.inf, [4]):
        with pytest.raises(ValueError) as error:
            going_of({name: value}, cap_tokens=9)
        assert told(error) == f"generation_kwargs: {name}: expected a whole number from 1, got {value!r}"


def test_two_names_of_the_cap_must_agree() -> None:
    assert going_of({"max_gen_toks": 3, "max_new_tokens": 3}, cap_tokens=9).cap_tokens == 3
    with pytest.raises(ValueError, match=r"^generation_kwargs: max_gen_toks=3 and max_tokens=5 .*; give max_gen_toks alone$"):
        going_of({"max_gen_toks": 3, "max_tokens": 5}, cap_tokens=9)


@pytest.mark.parametrize(
    ("until", "closes"),
    [(None, ()), ([], ()), ("", ()), (["", ""], ()), ("ab", ("ab",)), (["a", "", "bc"], ("a", "bc")), (("é\n",), ("é\n",))],
    ids=str,
)
def test_stops_are_a_text_or_a_list_of_texts(until: Any, closes: tuple[str, ...]) -> None:
    assert going_of({"until": until}, cap_tokens=4).closes == closes


@pytest.mark.parametrize("until", [1, True, [1], ["a", None], {"a": 1}, b"a"], ids=str)
def test_other_stops_are_refused(until: Any) -> None:
    with pytest.raises(ValueError) as error:
        going_of({"until": until}, cap_tokens=4)
    assert told(error) == f"generation_kwargs: until: expected a text or a list of texts, got {until!r}"


@pytest.mark.parametrize("name", ["temprature", "stop", "max_length", "repetition_penalty", "num_beams", "typical"])
def test_arguments_that_are_not_followed_are_refused(name: str) -> None:
    with pytest.raises(ValueError) as error:
        going_of({name: 0.5}, cap_tokens=4)
    assert told(error).startswith(f"generation_kwargs: {name}=0.5 is not followed here; legal: do_sample, max_completion_tokens")
    assert going_of({name: None, "num_beams": 1, "repetition_penalty": 1.0}, cap_tokens=4) == Going(cap_tokens=4)


def test_a_way_to_go_on_is_checked_whoever_makes_it() -> None:
    bad: list[dict[str, Any]] = [{"cap_tokens": 0}, {"cap_tokens": 4, "sample": -1}, {"cap_tokens": 4, "closes": ("a", "")}]
    for given in bad:
        with pytest.raises(ValueError, match=rf"^{list(given)[-1]}: expected "):
            Going(**given)


# In both directions


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"do_sample": True, "temperature": 0}, "temperature: expected a number above 0 with do_sample=true"),
        ({"do_sample": True, "top_p": 0}, "top_p: expected a number above 0 to 1, got 0"),
        ({"temperature": "hot"}, "temperature: expected a number from 0, got 'hot'"),
        ({"max_gen_toks": "many"}, "max_gen_toks: expected a whole number from 1, got 'many'"),
    ],
    ids=str,
)
def test_our_model_refuses_them_before_it_answers(folder: Path, given: dict[str, Any], words: str) -> None:
    lm = model(folder)
    good, bad = (asking("generate_until", "3*3?", each) for each in ({"max_gen_toks": 2}, given))
    with pytest.raises(ValueError, match=rf"^generation_kwargs: {re.escape(words)}"):
        lm.generate_until([good, bad], disable_tqdm=True)
    assert lm.get_model_info()["ledgers"] == {}


def test_a_task_of_lm_eval_that_gives_them_is_refused_before_anything_is_taught(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    text = GENERATE.replace("do_sample: false", "do_sample: true, top_p: 0")
    (tmp_path / "gen.yaml").write_text(f"task: made_gen{SHARED % {'folder': tmp_path}}{text}", encoding="utf-8")
    spec = made_spec("gen", tmp_path, train__flops=2e7)
    with pytest.raises(ValueError, match=r"^generation_kwargs: top_p: expected a number above 0 to 1, got 0$"):
        run(spec, results=tmp_path / "results")
    assert not list((tmp_path / "results").rglob("*.jsonl"))


def test_drawing_from_one_token_is_greedy_choice(folder: Path) -> None:
    """The ends of every range, through the bridge: what greedy says."""
    lm, contexts = model(folder), ("3*3?", "what?")
    greedy = said(lm, *contexts, max_gen_toks=9)
    for given in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}, {"temperature": 1e-300}):
        assert said(lm, *contexts, max_new_tokens=9, do_sample=True, **given) == greedy
    assert said(lm, *contexts, max_gen_toks=9, typical_p=0.9, temperature=3.0) != greedy


def test_a_cap_that_leaves_no_room_is_told(folder: Path) -> None:
    lm = model(folder)
    with pytest.warns(UserWarning, match=r"answers of up to 64 tokens leave no room in a context of 64: they end at 32"):
        long = said(lm, "what?", max_gen_toks=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert long == said(lm, "what?", max_gen_toks=32)


@pytest.mark.parametrize("name", ["max_gen_toks", "thought_tokens", "max_length", "max_batch_size", "threads"])
def test_counts_of_the_model_are_whole_numbers(folder: Path, name: str) -> None:
    for value in (0, -3, 1.5, "12", True):
        with pytest.raises(
            ValueError, match=rf"^model_args: {name}: expected a whole number from 1, got {re.escape(repr(value))}$"
        ):
            model(folder, **{name: value})


def test_greedy_is_the_sampler_of_no_arguments() -> None:
    assert Sampler() == GREEDY


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "typical_p", "max_gen_toks"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused_by_name_before_anything_is_asked(name: str, value: float, tmp_path: Path) -> None:
    """Also where requests are told apart by their arguments, which are no JSON then."""
    lm = model(run_of("direct", {}, data=squares(tmp_path), results=tmp_path))
    with pytest.raises(ValueError, match=rf"^generation_kwargs: {name}: expected a (whole )?number"):
        lm.generate_until([asking("generate_until", "12", {"do_sample": True, name: value})], disable_tqdm=True)
