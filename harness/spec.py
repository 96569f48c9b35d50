"""Specs: everything that decides a run's numbers, frozen, with JSON round trip and fingerprints.

Knows fields, defaults and names; loads no model. What cannot repeat (device, times) and where results lie are not part of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from harness import registry
from harness.defaults import default
from harness.legal import GREATEST_SEED, MOST_FLOPS, MOST_PROBLEMS
from harness.plugin_spec import make_strategy, plugin_from_json, plugin_json
from harness.pretrained import has_tokenizer
from harness.refusal import Unsuited, is_refusal
from harness.settings import build, setting, to_json, unknown
from harness.strategy import Strategy
from harness.task import Task

SIZES: dict[str, tuple[int, int, int, int]] = {  # layers, width, heads, context in text tokens
    "xs": (2, 64, 4, 256),
    "s": (4, 128, 4, 256),
    "m": (6, 384, 6, 256),
    "gpt2": (12, 768, 12, 1024),
}
SEEDS, THREADS = (0, GREATEST_SEED), (1, 256)  # the least and the greatest
SCHEMA = 3
DIRECT_BASELINE = Strategy()  # the contract's own defaults are plain next-token training


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The shared backbone."""

    size: Literal["xs", "s", "m", "gpt2"] = setting("s", doc="layers x width: 2x64, 4x128, 6x384, 12x768")
    path: str | None = setting(
        None, doc="folder, hub name or smollm2-135m: a GPT-2 to start from, or a causal model to ask as it is (train.flops=0)"
    )
    alphabet: str | None = setting(
        None, doc="the alphabet, if not the pretrained model's or the task's: gpt2, bytes, tokenizer:FOLDER, bpe:SIZE"
    )
    layers: int | None = setting(None, doc="blocks, if not the size's", low=1, high=96)
    width: int | None = setting(None, doc="width, if not the size's", low=4, high=8192)
    heads: int | None = setting(None, doc="heads, if not the size's; must divide the width", low=1, high=128)
    context_tokens: int | None = setting(None, doc="text tokens a sequence may have, if not the size's", low=8, high=65536)

    def __post_init__(self) -> None:
        _, width, heads, _ = self.shape
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got model.width={width} and model.heads={heads}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Layers, width, heads, context in text tokens."""
        layers, width, heads, context = SIZES[self.size]
        return self.layers or layers, self.width or width, self.heads or heads, self.context_tokens or context

    @property
    def own_alphabet(self) -> str | None:
        """The alphabet that the model names or brings with it; None: that of the first task."""
        if self.alphabet is None and self.path is not None and has_tokenizer(self.path):
            return f"pretrained:{self.path}"
        return self.alphabet

    @property
    def reference_layers(self) -> int | None:
        """The depth that serial passes are counted in: the size's, so that deeper twins count more; None: the model's own."""
        return None if self.path else SIZES[self.size][0]


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """One phase of training. Every strategy meets the same problems at the same update."""

    flops: float = setting(3e12, doc="training budget in FLOPs, forward and backward; 0: none", low=0, high=MOST_FLOPS)
    match: Literal["flops", "tokens", "examples"] = setting(
        "flops", doc="what equals plain training's consumption at the budget: FLOPs, text tokens, or examples"
    )
    problems_per_update: int = setting(128, doc="problems (or windows of documents) in one update", low=1, high=65536)
    learning_rate: float = setting(1e-3, doc="peak learning rate of AdamW", low=1e-9, high=10.0)
    warmup: float = setting(0.05, doc="share of the budget over which the rate rises", low=0.0, high=0.9)
    decay_to: float = setting(0.1, doc="share of the peak rate at the end of the cosine", low=0.0, high=1.0)
    weight_decay: float = setting(0.1, doc="decoupled weight decay of matrices", low=0.0, high=10.0)
    beta2: float = setting(0.99, doc="AdamW's second-moment decay", low=0.5, high=0.99999)
    clip_norm: float = setting(1.0, doc="largest gradient norm", low=1e-6, high=1e6)
    precision: Literal["fp32", "tf32", "bf16"] = setting("fp32", doc="of training's matrix products", late=True)


@dataclass(frozen=True, kw_only=True)
class InferSpec:
    """How the trained model is examined."""

    problems: int = setting(2000, doc="test problems (or documents at most)", low=1, high=MOST_PROBLEMS, when="ask")
    split: Literal["test", "validation"] = setting("test", doc="whose problems: choices are made on validation", when="ask")
    cap_flops: float | None = setting(
        None,
        doc="most FLOPs that a problem may spend, then what it has so far counts; none: no end",
        low=1,
        high=1e24,
        when="ask",
    )
    traces: int = setting(200, doc="first problems whose traces are kept, cell by cell", low=0, high=1_000_000, when="ask")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One training run on one task: a strategy, what it is taught, and for how long."""

    strategy: Strategy
    task: Task
    train: TrainSpec


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: a learner, and how it is asked."""

    strategy: Strategy
    task: Task
    model: ModelSpec
    train: TrainSpec
    infer: InferSpec
    seed: int = 0
    threads: int = 1
    pretraining: Phase | None = None

    def __post_init__(self) -> None:
        if self.task.kind == "documents" and self.infer.cap_flops is not None:
            raise ValueError("infer.cap_flops: caps what a question may spend; documents are scored whole, so leave it none")

    @property
    def untaught(self) -> bool:
        """Whether a pretrained model is asked that is taught nothing."""
        return self.model.path is not None and self.train.flops == 0 and self.pretraining is None

    @property
    def phase(self) -> Phase:
        """The last training phase."""
        return Phase(strategy=self.strategy, task=self.task, train=self.train)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives the spec back."""
        spec: dict[str, Any] = {"strategy": plugin_json(self.strategy), "task": plugin_json(self.task)}
        spec |= {name: to_json(getattr(self, name)) for name in ("model", "train", "infer")}
        spec["pretraining"] = None if self.pretraining is None else phase_json(self.pretraining)
        return spec | {"seed": self.seed, "threads": self.threads}

    def fingerprint(self) -> str:
        """Of everything but the seed: 12 hexadecimal digits."""
        return self._fingerprints[0]

    def learner_fingerprint(self) -> str:
        """Of what is trained, without how it is asked and without the seed."""
        return self._fingerprints[1]

    @functools.cached_property
    def _fingerprints(self) -> tuple[str, str]:
        """Both, kept: a grid names its thousands of runs by them again and again."""
        spec = self.to_json()
        taught = {"strategy": plugin_json(self.strategy.learner(), asked=False), "task": plugin_json(self.task, asked=False)}
        learner = digest({k: v for k, v in (spec | taught).items() if k not in ("infer", "seed")})
        return digest({k: v for k, v in spec.items() if k != "seed"}), learner

    def as_learner(self) -> RunSpec:
        """The run of what is trained, asked as it was taught: the same whoever asks it in another way."""
        return dataclasses.replace(self, strategy=self.strategy.learner())

    @property
    def alphabet(self) -> str:
        """The alphabet that is asked for: the one named, a pretrained model's own if it has one, else that of the first task."""
        return self.model.own_alphabet or (self.pretraining or self.phase).task.alphabet()

    def pretrained(self) -> RunSpec | None:
        """The run that this one starts from, as a spec of its own, so that everyone who starts from it shares it."""
        if self.pretraining is None:
            return None
        phase = self.pretraining
        return dataclasses.replace(
            self, strategy=phase.strategy, task=phase.task, train=phase.train, infer=InferSpec(), pretraining=None
        )


def phase_json(phase: Phase) -> dict[str, Any]:
    """A phase as plain JSON values."""
    return {"strategy": plugin_json(phase.strategy), "task": plugin_json(phase.task), "train": to_json(phase.train)}


def digest(value: Any) -> str:
    """12 hexadecimal digits of the canonical JSON's sha256."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


GROUPS = ("strategy", "task", "model", "train", "infer", "pretraining")
OWN_SHAPE = ("size", "layers", "width", "heads")  # settings of a model that is made here


def make_spec(*, strategy: str, task: str, settings: Mapping[str, Any] | None = None, seed: int = 0, threads: int = 1) -> RunSpec:
    """A spec from plugin names and dotted settings such as ``{"strategy.per_token": 2, "train.flops": "1e12"}``.

    What is not set takes the task's defaults, then the field's; a pretraining phase that is not named, what the strategy asks
    for. Raises ValueError that names the key and the legal ones.
    """
    groups = _grouped(settings or {})
    _check_shape(groups["model"])
    before = groups.pop("pretraining")
    phase = _make_phase(strategy, task, groups, after=bool(before))
    if not {"strategy", "task"} & before.keys():
        before = {**phase.strategy.pretraining_phase(task, phase.task), **before}
    defaults = phase.task.defaults()
    pretraining = _make_pretraining(before) if before else None
    return RunSpec(
        strategy=phase.strategy,
        task=phase.task,
        train=phase.train,
        model=build(ModelSpec, _defaulted("model", groups["model"], defaults), prefix="model"),
        infer=build(InferSpec, _defaulted("infer", groups["infer"], defaults), prefix="infer"),
        seed=_checked_number("--seed", seed, *SEEDS),
        threads=_checked_number("--threads", threads, *THREADS),
        pretraining=pretraining,
    )


def _check_shape(given: Mapping[str, Any]) -> None:
    """ValueError for the shape of a new model beside the path of one that has its own."""
    path = build(ModelSpec, {"path": given.get("path")}, prefix="model").path
    named = [key for key in OWN_SHAPE if given.get(key) is not None]
    if path is not None and named:
        raise ValueError(
            f"model.{named[0]}: the model at model.path={path} has its own; leave it out (model.context_tokens may be shortened)"
        )


def _checked_number(option: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{option}: expected a whole number from {low} to {high}, got {value!r}")
    return value


def _grouped(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted keys by their first part."""
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for key, value in settings.items():
        group, _, name = key.partition(".")
        if group not in groups or not name:
            raise unknown("setting", key, [f"{g}.NAME" for g in GROUPS])
        groups[group][name] = value
    return groups


def make_task(name: str, settings: Mapping[str, Any], *, prefix: str = "task") -> Task:
    """A task by its name and its own settings; what is wrong with its data is said at once, as far as it must be read."""
    task_name, typed = registry.typed("task", name)
    made: Task = build(registry.find("task", task_name), {**typed, **settings}, prefix=prefix)
    made.offers()
    return made


def _make_phase(
    strategy: str, task: str, groups: Mapping[str, Mapping[str, Any]], prefix: str = "", *, after: bool = False
) -> Phase:
    """A phase of training. after: another one comes before it."""
    made_task = make_task(task, groups["task"], prefix=f"{prefix}task")
    made_strategy = make_strategy(strategy, groups["strategy"], task=made_task, prefix=f"{prefix}strategy")
    train = build(TrainSpec, _defaulted("train", groups["train"], made_task.defaults()), prefix=f"{prefix}train")
    path = build(ModelSpec, {"path": groups["model"].get("path")}, prefix="model").path
    if path is not None and train.flops == 0 and not after and not made_strategy.pretraining_phase(task, made_task):
        with _unsuited():
            made_strategy = made_strategy.untaught(made_task, given=frozenset(groups["strategy"]), key=f"{prefix}strategy")
    missing = made_strategy.needs() - made_task.offers()
    if missing:
        why = "; ".join(filter(None, map(made_task.lacks, sorted(missing))))
        raise Unsuited(
            f"strategy {strategy} at these settings needs a task with {', '.join(sorted(missing))}, which {task} does not offer"
            f"{why and f' ({why})'}; these do: {', '.join(registry.tasks_that_offer(made_strategy.needs())) or 'none'}"
        )
    with _unsuited():
        made_strategy.suits(made_task)
    return Phase(strategy=made_strategy, task=made_task, train=train)


@contextmanager
def _unsuited() -> Iterator[None]:
    """A plugin's own refusals are reasons why it cannot be here."""
    try:
        yield
    except ValueError as error:
        if not is_refusal(error):
            raise
        raise Unsuited(str(error)) from None


def _make_pretraining(settings: dict[str, Any]) -> Phase:
    """The phase before: ``pretraining.strategy=NAME``, ``pretraining.task=NAME`` and dotted settings below them."""
    strategy, task = settings.pop("strategy", None), settings.pop("task", None)
    if strategy is None:
        strategy = default("baseline")
    if task is None:
        raise ValueError("pretraining: name its task, for example --set pretraining.task=language_model")
    groups = _grouped(settings)
    for name in ("model", "infer", "pretraining"):
        if groups[name]:
            raise ValueError(f"pretraining.{name}: not a setting of a phase; legal: strategy, task, train")
    return _make_phase(strategy, task, groups, prefix="pretraining.")


def _defaulted(group: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Given settings over the task's defaults for one group."""
    mine = {key.partition(".")[2]: value for key, value in defaults.items() if key.startswith(f"{group}.")}
    return mine | dict(given)


def defaults_of(task: Task) -> dict[str, dict[str, Any]]:
    """What model, training and asking are like on a task where nothing is set, as JSON values."""
    given = task.defaults()
    kinds: dict[str, type[Any]] = {"model": ModelSpec, "train": TrainSpec, "infer": InferSpec}
    return {name: to_json(build(kind, _defaulted(name, {}, given), prefix=name)) for name, kind in kinds.items()}


def from_json(spec: Mapping[str, Any], *, trust_plugins: bool = False) -> RunSpec:
    """The spec that `RunSpec.to_json` wrote; ValueError if a plugin's version has changed since.

    trust_plugins: whether code that only the spec points to may be run; else that is `registry.Untrusted`.
    """
    phase = _phase_from_json(spec, trust_plugins)
    before = spec.get("pretraining")
    return RunSpec(
        strategy=phase.strategy,
        task=phase.task,
        train=phase.train,
        model=build(ModelSpec, spec["model"], prefix="model"),
        infer=build(InferSpec, spec["infer"], prefix="infer"),
        seed=_checked_number("--seed", spec["seed"], *SEEDS),
        threads=_checked_number("--threads", spec["threads"], *THREADS),
        pretraining=None if before is None else _phase_from_json(before, trust_plugins),
    )


def _phase_from_json(spec: Mapping[str, Any], trust_plugins: bool) -> Phase:
    plugins = {}
    kinds: tuple[registry.Kind, ...] = ("strategy", "task")
    for kind in kinds:
        plugins[kind] = plugin_from_json(kind, spec[kind], prefix=kind, trust_plugins=trust_plugins)
    return Phase(strategy=plugins["strategy"], task=plugins["task"], train=build(TrainSpec, spec["train"], prefix="train"))
