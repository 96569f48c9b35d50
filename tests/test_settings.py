"""Settings from strings and JSON: what is legal comes through, the rest is one clear line."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.settings import build, setting, to_json
from harness.spec import ModelSpec, TrainSpec, canonical, from_json, make_spec
from harness.spec_text import changed_settings, command_line


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """One of each kind."""

    count: int = setting(3, doc="a number", low=0, high=64)
    share: float = setting(0.5, doc="a share", low=0.0, high=1.0)
    mode: Literal["plain", "fancy"] = setting("plain", doc="a choice")
    flag: bool = setting(False, doc="a switch")
    name: str = setting("x", doc="a text")
    limit: int | None = setting(None, doc="a limit", low=1, high=10)
    path: str | None = setting(None, doc="a path")

    def __post_init__(self):
        if self.count > 60 and self.flag:
            raise ValueError("count and flag exclude each other")


def knobs(**values):
    return build(Knobs, values, prefix="knobs")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "7", 7),
        ("count", 7, 7),
        ("count", "5e1", 50),
        ("count", "1E1", 10),
        ("share", "1e-3", 0.001),
        ("share", "1", 1.0),
        ("share", 0, 0.0),
        ("mode", "fancy", "fancy"),
        ("flag", "true", True),
        ("flag", "False", False),
        ("flag", True, True),
        ("name", "none", "none"),
        ("name", "1e3", "1e3"),
        ("name", "true", "true"),
        ("name", "", ""),
        ("limit", "none", None),
        ("limit", "None", None),
        ("limit", None, None),
        ("limit", "4", 4),
        ("limit", "1e1", 10),
        ("path", "none", None),
        ("path", "some/where", "some/where"),
        ("path", "1e3", "1e3"),
    ],
)
def test_legal_values(key, text, value):
    made = getattr(knobs(**{key: text}), key)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "legal"),
    [
        ("count", "many", "a whole number from 0 to 64"),
        ("count", "1.5", "a whole number from 0 to 64"),
        ("count", "1.5e0", "a whole number from 0 to 64"),
        ("count", "65", "a whole number from 0 to 64"),
        ("count", "-1", "a whole number from 0 to 64"),
        ("count", "none", "a whole number from 0 to 64"),
        ("count", True, "a whole number from 0 to 64"),
        ("count", "1e400", "a whole number from 0 to 64"),
        ("count", "", "a whole number from 0 to 64"),
        ("share", "1.01", "a number from 0 to 1"),
        ("share", "nan", "a number from 0 to 1"),
        ("share", "inf", "a number from 0 to 1"),
        ("share", [1], "a number from 0 to 1"),
        ("mode", "fanzy", "one of plain, fancy"),
        ("flag", "maybe", "true or false"),
        ("flag", "2", "true or false"),
        ("limit", "0", "a whole number from 1 to 10 or none"),
        ("limit", "11", "a whole number from 1 to 10 or none"),
        ("limit", "x", "a whole number from 1 to 10 or none"),
        ("name", 3, "text"),
        ("name", None, "text"),
    ],
)
def test_other_values_name_the_key_and_what_is_legal(key, text, legal):
    with pytest.raises(ValueError) as caught:
        knobs(**{key: text})
    assert str(caught.value) == f"knobs.{key}: expected {legal}, got {text!r}"


def test_unknown_keys_are_met_with_a_guess():
    with pytest.raises(ValueError) as caught:
        knobs(cuont=3)
    text = str(caught.value)
    assert text.startswith("knobs.cuont: unknown setting 'cuont' (did you mean count?); legal: count, flag,")
    with pytest.raises(ValueError, match="unknown setting 'zzzzzz'; legal"):
        knobs(zzzzzz=3)


def test_checks_across_fields_are_prefixed():
    with pytest.raises(ValueError, match=r"^knobs: count and flag exclude each other$"):
        knobs(count=61, flag=True)


KNOBS = st.builds(
    Knobs,
    count=st.integers(0, 60),
    share=st.floats(0, 1),
    mode=st.sampled_from(["plain", "fancy"]),
    flag=st.booleans(),
    name=st.text(),
    limit=st.none() | st.integers(1, 10),
    path=st.none() | st.text().filter(lambda s: s.lower() not in ("none", "null")),
)


@given(KNOBS)
def test_json_round_trip(made):
    assert build(Knobs, json.loads(json.dumps(to_json(made))), prefix="knobs") == made


@given(KNOBS)
def test_text_round_trip(made):
    """As typed on the command line."""
    typed = {k: "none" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for k, v in to_json(made).items()}
    assert build(Knobs, typed, prefix="knobs") == made


# Specs


def spec_of(settings=None, **rest):
    return make_spec(**{"strategy": "reasoning_tokens", "task": "support:Toy", "settings": settings or {}, **rest})


def test_settings_reach_their_groups():
    spec = spec_of(
        {"strategy.per_token": "2", "task.digits": 3, "model.size": "xs", "train.flops": "1e9", "infer.problems": "1e2"}
    )
    assert (spec.strategy.per_token, spec.task.digits, spec.model.size) == (2, 3, "xs")
    assert (spec.train.flops, spec.infer.problems) == (1e9, 100)
    assert spec_of(seed=3).seed == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy.per_tokn": 1},
            "strategy.per_tokn: unknown setting 'per_tokn' (did you mean per_token?); legal: among, embed",
        ),
        ({"strategi.per_token": 1}, "unknown setting 'strategi.per_token'"),
        ({"strategy": 1}, "unknown setting 'strategy'"),
        ({"strategy.per_token": "65"}, "strategy.per_token: expected a whole number from 0 to 64, got '65'"),
        ({"strategy.emit": "never"}, "strategy.emit: expected one of first, last, learned, got 'never'"),
        ({"train.flops": "lots"}, "train.flops: expected a number from 0 to 1e+24, got 'lots'"),
        ({"train.flops": "-1"}, "train.flops: expected a number from 0"),
        ({"model.width": "30"}, "model: width must be a multiple of heads, got model.width=30 and model.heads=4"),
        ({"pretraining.strategy": "direct"}, "pretraining: name its task"),
        ({"pretraining.task": "support:Toy", "pretraining.model.size": "m"}, "pretraining.model: not a setting of a phase"),
        (
            {"pretraining.task": "support:Toy", "pretraining.train.flop": "1"},
            "pretraining.train.flop: unknown setting 'flop' (did you mean",
        ),
    ],
)
def test_wrong_settings_are_one_clear_line(settings, message):
    with pytest.raises(ValueError) as caught:
        spec_of(settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"strategy": "reasoning_token"}, "unknown strategy 'reasoning_token' (did you mean reasoning_tokens?); legal: "),
        ({"task": "arithmetics"}, "unknown task 'arithmetics' (did you mean arithmetic?)"),
        ({"task": "no.such:Task"}, "task 'no.such:Task': cannot import no.such"),
        ({"task": "support:Nope"}, "task 'support:Nope': support must define class 'Nope'"),
        ({"strategy": "support:Toy"}, "must define class 'Toy' that subclasses harness.strategy.Strategy"),
        ({"strategy": "nowhere.py"}, "no file 'nowhere.py'"),
        ({"seed": -1}, "--seed: expected a whole number from 0"),
        ({"threads": 0}, "--threads: expected a whole number from 1"),
    ],
)
def test_wrong_names_are_one_clear_line(rest, message):
    with pytest.raises(ValueError) as caught:
        spec_of(**rest)
    assert message in str(caught.value) and "\n" not in str(caught.value)


SPECS = [
    {},
    {"strategy.per_token": 3, "strategy.horizon": 2, "task.digits": 4, "model.layers": 1, "train.learning_rate": "3e-4"},
    {"pretraining.strategy": "future_heads", "pretraining.task": "support:Toy", "pretraining.train.flops": "1e8"},
    {"model.path": "some folder/with 'quotes'", "infer.problems": 7},
]


@pytest.mark.parametrize("settings", SPECS, ids=lambda s: "-".join(s) or "plain")
def test_specs_round_trip(settings):
    spec = spec_of(settings, seed=5, threads=2)
    written = canonical(spec.to_json())
    assert from_json(json.loads(written)) == spec
    assert canonical(from_json(json.loads(written)).to_json()) == written


@pytest.mark.parametrize("settings", SPECS, ids=lambda s: "-".join(s) or "plain")
def test_the_command_line_makes_the_same_spec(settings):
    import shlex

    spec = spec_of(settings, seed=5)
    assert spec_of(changed_settings(spec), seed=5) == spec
    words = shlex.split(command_line(spec))
    typed = dict(word.split("=", 1) for word, before in zip(words[1:], words, strict=False) if before == "--set")
    options = dict(itertools.pairwise(words))
    again = make_spec(
        strategy=options["--strategy"],
        task=options["--task"],
        settings=typed,
        seed=int(options["--seed"]),
        threads=int(options["--threads"]),
    )
    assert again == spec


def test_fingerprints():
    plain = spec_of()
    assert len(plain.fingerprint()) == 12
    assert plain.fingerprint() == spec_of(seed=9).fingerprint()
    assert plain.fingerprint() != spec_of({"infer.problems": 7}).fingerprint()
    assert plain.learner_fingerprint() == spec_of({"infer.problems": 7}).learner_fingerprint()
    assert plain.learner_fingerprint() != spec_of({"strategy.per_token": 2}).learner_fingerprint()
    assert plain.learner_fingerprint() != spec_of({"train.flops": 1e9}).learner_fingerprint()


def test_a_spec_of_another_version_is_refused():
    written = spec_of().to_json()
    written["strategy"]["version"] = 99
    with pytest.raises(ValueError, match="strategy reasoning_tokens is at version 2"):
        from_json(written)


def test_ranges_of_the_model_and_training():
    assert ModelSpec(size="m").shape == (6, 384, 6, 256)
    assert ModelSpec(size="xs", layers=5, context_tokens=64).shape == (5, 64, 4, 64)
    with pytest.raises(ValueError, match=r"^train\.warmup: expected a number from 0 to 0\.9, got '1'"):
        build(TrainSpec, {"warmup": "1"}, prefix="train")
