"""Searches as they are typed: bases and their settings, defaults, one shared learner, and one line for each mistake."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness import make_spec, registry, run
from harness.cli import main
from harness.spec import from_json
from harness.spec_text import command_line

TINY = {"model.size": "xs", "model.width": 16, "model.heads": 2, "model.layers": 1, "train.problems_per_update": 4,
        "train.flops": "3e8", "infer.problems": 2}  # fmt: skip


def made(strategy, task="arithmetic", **settings):
    return make_spec(strategy=strategy, task=task, settings={k.replace("__", "."): v for k, v in settings.items()})


VALUE = {"strategy.value_problems": 0}
SPANS = {"strategy.base": "thinking_spans"}
MISTAKES = [
    ("tree_of_thoughts", "arithmetic", {"strategy.breadth": 0}, "strategy.breadth: expected a whole number from 1"),
    ("tree_of_thoughts", "arithmetic", {"strategy.branching": 0}, "strategy.branching: expected a whole number from 1"),
    ("beam_search", "arithmetic", {"strategy.width": 0}, "strategy.width: expected a whole number from 1"),
    ("self_consistency", "arithmetic", {"strategy.samples": 0}, "strategy.samples: expected a whole number from 1"),
    ("best_of_n", "arithmetic", {"strategy.samples": 0}, "strategy.samples: expected a whole number from 1"),
    ("tree_of_thoughts", "arithmetic", {"strategy.evaluator": "value"} | VALUE, "value needs a value model"),
    ("best_of_n", "arithmetic", {"strategy.select": "value"} | VALUE, "value needs a value model"),
    ("tree_of_thoughts", "arithmetic", {"strategy.evaluator": "checker"}, "checker needs a task that can check"),
    ("best_of_n", "arithmetic", {"strategy.select": "checker"}, "checker needs a task that can check"),
    ("tree_of_thoughts", "arithmetic", {"strategy.evaluator": "guess"}, "expected one of logprob, value, checker"),
    ("beam_search", "arithmetic", {"strategy.base": "self_consistency"}, "a search cannot be the base of a search"),
    ("beam_search", "arithmetic", SPANS, "ThinkingSpans is said in several goes and cannot be split"),
    ("tree_of_thoughts", "arithmetic", {"strategy.base.force_after": 2}, "cannot be split"),
    ("dvts", "arithmetic", {"strategy.base": "chain_of_thought", "strategy.base.ask_steps": "gold"}, "cannot be split"),
    ("sampling", "arithmetic", SPANS | {"strategy.branches": 2}, "cannot be split"),
    ("self_consistency", "arithmetic", SPANS | {"strategy.grammar": True}, "cannot be held to a grammar"),
    ("sampling", "cloze", {"strategy.grammar": True, "strategy.base": "direct"}, "no grammar"),
    ("sampling", "arithmetic", {"strategy.grammar": True, "strategy.branches": 2}, "CoT decoding"),
    ("beam_search", "arithmetic", {"strategy.base": "dirct"}, "did you mean direct"),
    ("beam_search", "arithmetic", {"strategy.base.nothing": 1}, "strategy.base.nothing: unknown setting"),
    ("beam_search", "arithmetic", {"strategy.base": "pause_tokens", "strategy.base.pauses": -1}, "base.pauses: expected"),
    ("direct", "arithmetic", {"strategy.base": "direct"}, "unknown setting 'base'"),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "task", "settings", "said"), MISTAKES, ids=str)
def test_a_mistake_is_one_line(strategy, task, settings, said, capsys, tmp_path):
    words = ["run", "--strategy", strategy, "--task", task, "--results", str(tmp_path)]
    for key, value in settings.items():
        words += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
    assert main(words) == 2
    complaint = capsys.readouterr().err
    assert said in complaint and complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_words_that_the_alphabet_cannot_spell_are_told_before_training(capsys, tmp_path):
    words = ["run", "--strategy", "tree_of_thoughts", "--task", "arithmetic", "--set", "strategy.evaluator=verbal"]
    assert main([*words, "--results", str(tmp_path)]) == 2
    assert "words in its prompts that the alphabet cannot spell" in capsys.readouterr().err


def test_votes_take_bases_that_cannot_be_split():
    for base in ("thinking_spans", "chain_of_thought"):
        settings = {"strategy.base": base} | ({"strategy.base.force_after": 2} if base == "chain_of_thought" else {})
        make_spec(strategy="self_consistency", task="arithmetic", settings=settings)


def test_a_base_that_is_not_named_is_the_tasks():
    lined, plain = made("beam_search", "countdown"), made("beam_search", "cloze")
    names = [registry.plugin_name(s.strategy.base) for s in (lined, plain)]
    assert names == ["chain_of_thought", "chain_of_thought" if "worked_lines" in plain.task.offers() else "direct"]
    capped = make_spec(strategy="beam_search", task="countdown", settings={"strategy.base.cap_tokens": 99})
    assert capped.strategy.base.cap_tokens == 99
    for search in ("sampling", "self_consistency", "best_of_n", "tree_of_thoughts", "dvts"):
        assert made(search, "language_model").strategy.learner() == made("direct", "language_model").strategy


NESTED = {"strategy.base": "reasoning_tokens", "strategy.base.per_token": 3, "strategy.width": 7}


def test_a_nested_spec_survives_json_and_its_own_command():
    for spec in (
        make_spec(strategy="beam_search", task="arithmetic", settings=NESTED),
        make_spec(
            strategy="self_consistency", task="arithmetic", settings={"strategy.base.cap_tokens": 99, "strategy.samples": 3}
        ),
        make_spec(strategy="tree_of_thoughts", task="countdown", settings={}),
    ):
        assert from_json(spec.to_json()) == spec
        words = shlex.split(command_line(spec))[4:]
        options = dict(zip(words[::2], words[1::2], strict=True))
        sets = dict(w.split("=", 1) for w in words[1::2] if "=" in w)
        again = make_spec(strategy=options["--strategy"], task=options["--task"], settings=sets)
        assert again == spec and again.fingerprint() == spec.fingerprint()


def test_a_search_shares_its_bases_learner():
    base = make_spec(strategy="reasoning_tokens", task="arithmetic", settings={"strategy.per_token": 3})
    search = make_spec(strategy="beam_search", task="arithmetic", settings=NESTED)
    other = make_spec(strategy="beam_search", task="arithmetic", settings=NESTED | {"strategy.width": 2})
    assert base.learner_fingerprint() == search.learner_fingerprint() == other.learner_fingerprint()
    assert len({s.fingerprint() for s in (base, search, other)}) == 3
    deeper = make_spec(strategy="beam_search", task="arithmetic", settings=NESTED | {"strategy.base.per_token": 2})
    assert deeper.learner_fingerprint() != search.learner_fingerprint()


@pytest.mark.slow
def test_it_is_trained_once_whoever_comes_first(tmp_path: Path):
    for strategy in ("best_of_n", "chain_of_thought", "tree_of_thoughts"):
        run(make_spec(strategy=strategy, task="arithmetic", settings=TINY), results=tmp_path)
    (weights,) = (tmp_path / "weights").iterdir()
    assert '"chain_of_thought"' in (weights / "learner.json").read_text()
    assert '"best_of_n"' not in (weights / "learner.json").read_text()
