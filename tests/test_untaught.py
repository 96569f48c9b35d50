"""Pretrained models that are taught nothing: what waits for training is prompted there, or refused with the cure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from causal import saved
from test_export_pretrained import gpt2_in
from test_pretrained import ROWS, tokenizer_in

from harness import make_spec
from harness.api import run
from harness.asked_model import load
from harness.cli import main
from harness.grid import defaulted_lines, grid_of
from harness.runs import plan
from harness.spec import from_json
from harness.spec_text import changed_settings, command_line, defaulted_line
from harness.suite_file import suite_of

UNTAUGHT: dict[str, Any] = {"model.path": "/some/model", "train.flops": 0}
SMALL: dict[str, Any] = {"train.flops": 0, "infer.problems": 2, "train.problems_per_update": 2, "strategy.cap_tokens": 8}


def spec_of(name: str = "chain_of_thought", task: str = "k_hop", **settings: Any) -> Any:
    return make_spec(strategy=name, task=task, settings=UNTAUGHT | settings)


def style_of(spec: Any) -> str:
    return str(getattr(spec.strategy, "asked", spec.strategy).style)


@pytest.mark.parametrize(
    ("name", "task", "style"),
    [
        ("chain_of_thought", "k_hop", "few_shot"),
        ("chain_of_thought", "lm_eval:sums", "zero_shot"),  # which shows no worked lines
        ("self_consistency", "k_hop", "few_shot"),
        ("best_of_n", "k_hop", "few_shot"),
        ("sampling", "k_hop", "few_shot"),
        ("beam_search", "k_hop", "one_go"),  # it branches within an attempt
        ("tree_of_thoughts", "k_hop", "one_go"),
        ("dvts", "k_hop", "one_go"),
    ],
)
def test_the_default_is_a_prompt(name: str, task: str, style: str) -> None:
    spec = spec_of(name, task)
    assert style_of(spec) == style and not spec.strategy.sayable() and spec.strategy.answer_mark() is None


@pytest.mark.parametrize("name", ["chain_of_thought", "beam_search"])
@pytest.mark.parametrize(
    "taught", [{"train.flops": 1e9}, {"pretraining.task": "strings", "pretraining.task.of": "k_hop"}, {"model.path": None}]
)
def test_what_is_taught_keeps_its_default(name: str, taught: dict[str, Any]) -> None:
    assert style_of(spec_of(name, **taught)) == "trained"


def test_what_the_user_names_stays() -> None:
    assert style_of(spec_of(**{"strategy.style": "dialogue"})) == "dialogue"
    assert style_of(spec_of("beam_search", **{"strategy.base.style": "standard"})) == "standard"
    plain = spec_of(**{"strategy.steps": "none"})
    assert plain.strategy.plain and plain == spec_of(**{"strategy.steps": "none", "strategy.style": "trained"})


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("chain_of_thought", "strategy.style", "trained"),
        ("chain_of_thought", "strategy.steps", "shuffled"),
        ("chain_of_thought", "strategy.ask_steps", "gold"),
        ("chain_of_thought", "strategy.force_after", 4),
        ("self_consistency", "strategy.base.style", "trained"),
        ("tree_of_thoughts", "strategy.base.style", "trained"),
    ],
)
def test_what_only_training_gives_is_refused_with_the_cure(name: str, setting: str, value: Any) -> None:
    group = setting.rpartition(".")[0]
    cure = "one_go" if name == "tree_of_thoughts" else "few_shot"
    with pytest.raises(ValueError, match=rf"^{setting}: .*<sep>.*legal here: {group}\.style={cure} .*train\.flops") as told:
        spec_of(name, **{setting: value})
    assert "\n" not in str(told.value)


def test_other_specials_that_were_never_learnt_are_refused_too() -> None:
    with pytest.raises(ValueError, match=r"^strategy: ThinkingSpans waits for <bot> and <eot>, .*train\.flops"):
        spec_of("thinking_spans", "k_hop")
    assert spec_of("thinking_spans", "k_hop", **{"train.flops": 1e9}).strategy.sayable()
    assert spec_of("pause_tokens", "k_hop").strategy == make_spec(strategy="pause_tokens", task="k_hop").strategy


def test_the_line_names_what_was_chosen_and_the_command_repeats_it() -> None:
    spec = spec_of("beam_search", **{"strategy.width": 2})
    line = defaulted_line(spec, ["strategy.width", *UNTAUGHT])
    assert line == (
        "beam_search: /some/model is taught nothing, so its default is strategy.base.style=one_go (--set names another)"
    )
    assert defaulted_line(spec, ["strategy.width", "strategy.base.style"]) is None
    assert defaulted_line(make_spec(strategy="beam_search", task="k_hop", settings={"strategy.width": 3}), ()) is None
    again = make_spec(strategy="beam_search", task="k_hop", settings=changed_settings(spec))
    assert again.fingerprint() == spec.fingerprint() and "strategy.base.style=one_go" in command_line(spec)
    assert from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_spec_from_a_file_is_read_and_not_made(tmp_path: Path) -> None:
    spec = spec_of()
    asks = dataclasses.replace(spec, strategy=dataclasses.replace(spec.strategy, style="trained"))
    old = from_json(json.loads(json.dumps(asks.to_json())))
    assert old.strategy.style == "trained"
    for make in (lambda: plan(old), lambda: run(old, results=tmp_path)):
        with pytest.raises(ValueError, match=r"^strategy: it waits for .* default is strategy\.style=few_shot"):
            make()
    assert not any(tmp_path.iterdir())


def test_arms_of_a_comparison_are_told_apart() -> None:
    suite = suite_of("k_hop", strategies="direct,chain_of_thought,beam_search", settings=UNTAUGHT, family=False, train_flops="0")
    assert [line.partition(" is taught")[0] for line in defaulted_lines(grid_of(suite))] == [
        "k_hop, chain_of_thought: chain_of_thought: /some/model", "k_hop, beam_search: beam_search: /some/model"
    ]  # fmt: skip


def test_dials_that_have_no_effect_are_not_turned() -> None:
    suite = suite_of(
        "k_hop", strategies="chain_of_thought", settings=UNTAUGHT, family=False, train_flops="0", infer="flops:1e9", seeds="0"
    )
    assert len(grid_of(suite).cells) == 1
    taught = suite_of("k_hop", strategies="chain_of_thought", family=False, infer="flops:1e9", seeds="0")
    assert len(grid_of(taught).cells) == 14  # seven lengths of forced lines, on validation and on test


def test_strategies_that_cannot_be_asked_are_left_out_of_those_that_suit() -> None:
    arms = [arm.strategy for arm in suite_of("k_hop", settings=UNTAUGHT, family=False, train_flops="0").blocks[0].arms]
    assert "chain_of_thought" in arms and "thinking_spans" not in arms


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with a tokenizer that can spell prompts."""
    made = tmp_path_factory.mktemp(request.param)
    if request.param == "gpt2":
        return gpt2_in(made, eos="<|endoftext|>", places=512)
    tokenizer_in(made)
    return saved(made, rows=ROWS, max_position_embeddings=512)


def test_a_run_says_so_in_a_line_and_prompts(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--set={key}={value}" for key, value in (SMALL | {"model.path": folder, "strategy.shots": 1}).items()]
    given = ["run", "--strategy", "chain_of_thought", "--task", "k_hop", *words, "--results", str(tmp_path)]
    assert main([*given, "--json"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    told = [line for line in err.splitlines() if "is taught nothing" in line]
    assert told == [
        f"chain_of_thought: {folder} is taught nothing, so its default is strategy.style=few_shot (--set names another)"
    ]
    assert record["spec"]["strategy"]["style"] == "few_shot" and record["infer"]["flops_per_problem"]["think"] > 0
    assert main([*given, "--set=strategy.style=trained", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: strategy.style: at style=trained it waits for <sep>")


def test_lm_eval_asks_so_too(folder: str) -> None:
    asked = load(folder, strategy="chain_of_thought", settings={}, device="cpu")
    assert style_of(asked.spec) == "zero_shot" and asked.defaulted is not None and "strategy.style=zero_shot" in asked.defaulted
    assert load(folder, strategy="chain_of_thought", settings={"strategy.style": "dialogue"}, device="cpu").defaulted is None
