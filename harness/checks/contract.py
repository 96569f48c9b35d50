"""Checks of the contract: a plugin is a frozen, documented dataclass that survives its JSON, and it is blind to keys.

Knows classes, fields, specs and texts; runs no training.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.checks.context import Context
from harness.examination import oracle_of
from harness.problem import Piece, Problem, Tokens
from harness.session import Job, Outcome
from harness.settings import hints
from harness.spec import RunSpec, from_json
from harness.strategy import TEXT, Strategy, Woven
from harness.stream import encode
from harness.task import Task

WOVEN_FIELDS = tuple(f.name for f in dataclasses.fields(Woven))


def frozen_dataclass(plugin: Strategy | Task, name: str) -> None:
    """A plugin is a frozen, keyword-only dataclass of its own."""
    cls = type(plugin)
    own = vars(cls).get("__dataclass_params__")
    assert own is not None and own.frozen, f"decorate class {cls.__name__} with @dataclass(frozen=True, kw_only=True)"
    loose = [f.name for f in dataclasses.fields(plugin) if f.init and not f.kw_only]
    assert not loose, f"add kw_only=True to the @dataclass of {cls.__name__}: {', '.join(loose)} can be given by position"


def documented(plugin: Strategy | Task, name: str) -> None:
    """The class has a docstring, whose first line `list` shows, and ``source`` says where the idea comes from."""
    cls = type(plugin)
    text = vars(cls).get("__doc__") or ""
    own = text.strip() and not text.startswith(f"{cls.__name__}(")  # what @dataclass writes where nothing stands
    assert own, f"give class {cls.__name__} a docstring; its first line is what `harness list` shows"
    assert plugin.source.strip(), f"give class {cls.__name__} a source, for example source = 'Author 2025, Title' or 'own'"


def settings_documented(plugin: Strategy | Task, name: str) -> None:
    """Every field is made with `setting`, which says what it means and whether it changes what is trained."""
    for field in dataclasses.fields(plugin):
        when, doc = field.metadata.get("when"), field.metadata.get("doc")
        how = f"write {field.name}: TYPE = setting(DEFAULT, doc='...', when='learn' or 'ask')"
        assert when in ("learn", "ask") and isinstance(doc, str) and doc.strip(), f"{how}; its doc or when is missing"


def file_name(plugin: Strategy | Task, name: str) -> None:
    """A plugin's file is named as its class, in snake case."""
    cls = type(plugin)
    if ":" in name:
        return
    found = Path(name).stem if name.endswith(".py") else name.rpartition(".")[2]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()
    fits = found == snake or _camel(found) == cls.__name__  # game_of_24 and GameOf24: a number tells no word's end
    assert fits, f"rename the file to {snake}.py, or the class {cls.__name__} to {_camel(found)}"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def declared_settings_legal(plugin: Strategy | Task, name: str) -> None:
    """``neutral``, ``variants`` and ``dials`` name settings of the strategy, with values that it accepts."""
    if not isinstance(plugin, Strategy):
        return
    dialled = [{key: value} for key, values in plugin.dials.items() for value in values]
    for settings in (plugin.neutral, *plugin.variants, *dialled):
        try:
            changed(plugin, settings)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"neutral, variants or dials hold {dict(settings)}, which cannot be set: {error}") from None


def changed(plugin: Any, settings: Any) -> Any:
    """The plugin at other settings, converted as the command line converts them."""
    from harness.settings import build

    own = {f.name: getattr(plugin, f.name) for f in dataclasses.fields(plugin)}
    return build(type(plugin), own | dict(settings), prefix="settings")


def json_round_trip(context: Context) -> None:
    """A spec survives its JSON, and its fingerprints are those of its content."""
    spec = context.spec
    before = json.dumps(spec.to_json(), allow_nan=False)
    again = from_json(json.loads(before), trust_plugins=True)
    both = (spec.strategy, again.strategy) if spec.strategy != again.strategy else (spec.task, again.task)
    assert again == spec, (
        f"settings must be plain values that JSON gives back (numbers, text, true or false, Literal) and must not be changed in "
        f"__post_init__: {both[0]} came back as {both[1]}"
    )
    assert json.dumps(again.to_json()) == before, "the same spec gives different JSON: keep settings immutable"
    assert again.fingerprint() == spec.fingerprint(), "fingerprint differs after a round trip: keep settings immutable"
    for kind, field, other in _alternatives(spec):
        asked = field.metadata["when"] == "ask"
        assert other.fingerprint() != spec.fingerprint(), f"{kind}.{field.name} is not part of the fingerprint"
        same = other.learner_fingerprint() == spec.learner_fingerprint()
        assert same is asked, f"{kind}.{field.name} is marked {field.metadata['when']}, the learner's fingerprint says otherwise"


def asking_trains_nothing(context: Context) -> None:
    """Settings marked ask change neither what is taught, nor what is woven in training, nor the weights' shapes."""
    for kind, field, other in _alternatives(context.spec):
        if field.metadata["when"] != "ask":
            continue
        mend = f"{kind}.{field.name} is marked when='ask' but changes training: mark it when='learn'"
        if kind == "task":
            span: Any = {"seed": 0, "start": 0, "count": 8}
            if context.task.kind == "questions":
                taught = [[(p.question.text, p.key) for p in t.problems("train", **span)] for t in (context.task, other.task)]
                assert taught[0] == taught[1], mend
            continue
        old, new = _taught(context, context.strategy), _taught(context, other.strategy)
        assert old == new, mend


def _taught(context: Context, strategy: Strategy) -> Any:
    """Lessons, cells and shapes of weights, as comparable values."""
    rng = np.random.default_rng(0)
    lessons = [t for p in context.problems for t in strategy.lessons(p, progress=0.5, rng=rng)]
    layout = context.batch(strategy, lessons[:4]).cells.layout
    cells = [np.asarray(getattr(layout, f.name)).tolist() for f in dataclasses.fields(layout)]
    shapes = {name: tuple(value.shape) for name, value in context.backbone_of(strategy).state_dict().items()}
    return lessons, cells, shapes


def _alternatives(spec: RunSpec) -> Iterator[tuple[str, Any, RunSpec]]:
    """The spec with one setting of a plugin changed, for each that has another legal value at hand."""
    for kind in ("strategy", "task"):
        plugin = getattr(spec, kind)
        kinds = hints(type(plugin))
        for field in dataclasses.fields(plugin):
            for value in _others(field, kinds[field.name], getattr(plugin, field.name), getattr(plugin, "dials", {})):
                try:
                    other = changed(plugin, {field.name: value})
                except ValueError:
                    continue
                yield kind, field, dataclasses.replace(spec, **{kind: other})
                break


def _others(field: Any, hint: Any, value: Any, dials: Any) -> list[Any]:
    """Other values that a field may take."""
    some = list(dials.get(field.name, ()))
    if typing.get_origin(hint) is typing.Literal:
        some += typing.get_args(hint)
    if isinstance(value, bool):
        some.append(not value)
    elif isinstance(value, (int, float)):
        some += [value + 1, value - 1, field.metadata.get("low"), field.metadata.get("high")]
    elif isinstance(value, str) and typing.get_origin(hint) is None:
        some += ["1", "2", "4", value + "1"]
    return [x for x in some if x is not None and x != value]


def blind_to_key(context: Context) -> None:
    """A prompt, and everything that a solver does, depends on the question alone, whatever key was taught before."""
    prompts: dict[str, Any] = {}
    outcomes: dict[str, Outcome] = {}
    first, second = context.problems[0], context.problems[1]
    other = dataclasses.replace(first, key=dataclasses.replace(first.key, answer=second.key.answer, lines=second.key.lines))
    for name, problem in (("one key", first), ("another", other)):
        context.strategy.lessons(problem, progress=0.0, rng=np.random.default_rng(0))
        prompts[name] = context.strategy.prompt(problem.question)
        outcomes[name] = _solved(context, problem)
    one, another = outcomes["one key"], outcomes["another"]
    assert prompts["one key"] == prompts["another"], "the prompt changes with the key: build it from the question alone"
    if one.used_key:
        return  # it asked the harness for the key, and its record says so
    assert (one.value, one.trace) == (another.value, another.trace), (
        "the answer changes with the key: a solver may use the question alone; one that needs the key yields Judge or Reveal"
    )


def _solved(context: Context, problem: Problem) -> Outcome:
    job = Job("0", lambda: context.strategy.solve(problem.question), oracle=oracle_of(context.task, problem))
    return context.solve([job])["0"]


def weave_gives_text_back(context: Context) -> None:
    """Weaving keeps the visible text, token by token and in order, and a whole is woven as its parts are."""
    rng = np.random.default_rng(0)
    lessons = [t for p in context.problems[:3] for t in context.strategy.lessons(p, progress=0.5, rng=rng)]
    mixed = tuple(
        Piece(Tokens((int(i),)), ("prompt", "thought", "answer")[n // 3]) for n, i in enumerate(context.random_ids(9, 1))
    )
    texts = [*(context.token_pieces(t) for t in lessons), mixed]
    stream = encode(texts, context.alphabet)
    ids, roles, places = stream.ids, stream.roles, stream.places
    woven = context.strategy.weave(ids, roles, places)
    lengths = {name: len(getattr(woven, name)) for name in WOVEN_FIELDS}
    assert len(set(lengths.values())) == 1, f"the arrays of Woven must be of equal length, got {lengths}"
    text = (woven.kind == TEXT) & (woven.slot == 0)
    assert np.array_equal(woven.source[text], np.arange(len(ids))), (
        "weave must give each text token exactly one cell of kind TEXT and slot 0, in the order of the text"
    )
    assert np.array_equal(woven.embed[text], ids), "the cell of a text token must embed that token's own id"
    assert (np.diff(woven.source) >= 0).all(), "the cells of one token stand together, in the order of the tokens"
    assert set(woven.source[woven.read].tolist()) == set(range(len(ids))), "mark at least one cell of every token as read"
    parts = [context.strategy.weave(ids[i : i + 1], roles[i : i + 1], places[i : i + 1]) for i in range(len(ids))]
    for name in WOVEN_FIELDS:
        pieces = [getattr(p, name) + (i if name == "source" else 0) for i, p in enumerate(parts)]
        assert np.array_equal(np.concatenate(pieces), getattr(woven, name)), (
            f"weave(all).{name} is not the concatenation of its increments: weave each token by its own id, role and place only"
        )
