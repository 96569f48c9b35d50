"""Which model is asked, from what people type: a run of ours or any pretrained causal LM, a strategy, its settings.

Knows specs, runs and weights; knows nothing of requests and of lm-eval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import records, registry
from harness.backbone import Backbone
from harness.defaults import default
from harness.inspect import load_spec
from harness.learners import learner_alphabet
from harness.model_size import check_model
from harness.plugin_spec import make_strategy
from harness.problem import Problem
from harness.search import Search
from harness.settings import unknown
from harness.spec import RunSpec, make_spec
from harness.spec_text import changed_settings, defaulted_line
from harness.strategy import Strategy
from harness.task import THOUGHT_TOKENS, Split, Task
from harness.weights import make_backbone, weights_hash

GROUPS = ("strategy", "task", "model")
ANSWERS = 2  # raised when the same request is answered otherwise, so that answers kept before are not taken for new ones


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Task):
    """Questions that somebody else poses: there are none of its own, no keys and no worked lines."""

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """None."""
        return []


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A model as it is asked. results: the folder that its run lies in, if it is one of ours; thought_tokens: the most that
    worked lines may take before a continuation; defaulted: a line on defaults for a model that is taught nothing."""

    spec: RunSpec
    backbone: Backbone
    results: Path | None
    thought_tokens: int
    defaulted: str | None = None

    def facts(self) -> dict[str, Any]:
        """All that its answers depend on, as JSON values."""
        spec, bos_ids = self.spec.to_json(), self.backbone.alphabet.bos_ids
        end_ids = sorted(self.backbone.alphabet.end_ids)
        return {
            "weights_sha256": weights_hash(self.backbone),
            **{name: spec[name] for name in ("strategy", "task", "seed")},
            "context_tokens": self.backbone.context_tokens,
            "thought_tokens": self.thought_tokens,
            "answers": ANSWERS,
            **({"bos_ids": list(bos_ids)} if bos_ids else {}),
            **({"end_ids": end_ids} if len(end_ids) > 1 else {}),
        }


def load(
    pretrained: str,
    *,
    strategy: str | None = None,
    task: str | None = None,
    settings: Mapping[str, Any],
    device: str,
    thought_tokens: int | None = None,
    context_tokens: int | None = None,
    trust_plugins: bool = False,
) -> Asked:
    """The model that ``pretrained`` names: a folder that holds run.json, or a folder or hub name of a causal LM.

    strategy, settings (``strategy.NAME``, for a pretrained LM also ``task.NAME`` and ``model.NAME``): how it is asked; of a run
    the strategy's learner must be the run's own. trust_plugins: whether code to which only the run's record points may be run.
    ValueError names what is wrong and what is legal.
    """
    for key in settings:
        if key.partition(".")[0] not in GROUPS or "." not in key:
            raise unknown("model argument", key, [f"{group}.NAME" for group in GROUPS])
    folder = Path(pretrained)
    if (folder / "run.json").is_file():
        found = _of_run(folder, strategy, task, settings, device, trust_plugins)
    else:
        found = _of_pretrained(pretrained, strategy, task, settings, device)
    if context_tokens is not None:
        found.backbone.context_tokens = _checked_context(context_tokens, found.backbone.context_tokens)
    most = thought_tokens or found.thought_tokens
    return dataclasses.replace(found, thought_tokens=most)


def _checked_context(asked: int, most: int) -> int:
    if not 2 <= asked <= most:
        raise ValueError(f"max_length: the model's context has {most} tokens; legal: 2 to {most}, got {asked}")
    return asked


def _of_run(
    folder: Path, name: str | None, task: str | None, settings: Mapping[str, Any], device: str, trust_plugins: bool
) -> Asked:
    """A run of ours, asked as it was or otherwise."""
    others = [key for key in settings if not key.startswith("strategy.")]
    if task is not None or others:
        raise ValueError(
            f"{'task' if task is not None else others[0]}: the run in {folder} has its own; only its asking may change"
        )
    root, record = _results_root(folder), records.read_run(folder)
    spec = records.spec_of(record, trust_plugins=trust_plugins)
    if name is not None or settings:
        spec = dataclasses.replace(spec, strategy=_asked_otherwise(spec, name, settings))
    backbone = load_spec(spec, record, results=root, device=device)
    return Asked(spec=spec, backbone=backbone, results=root, thought_tokens=_lines_cap(spec))


def _results_root(folder: Path) -> Path:
    """The results folder that a run lies in."""
    root = records.results_of(folder)
    if root is None:
        raise ValueError(f"pretrained: {folder} does not lie under RESULTS/runs/TASK/STRATEGY; its weights cannot be found")
    return root


def _asked_otherwise(spec: RunSpec, name: str | None, given: Mapping[str, Any]) -> Strategy:
    """Another way to ask the run's learner."""
    own = registry.plugin_name(spec.strategy)
    mine = {key.removeprefix("strategy."): value for key, value in given.items()}
    if name in (None, own):
        kept = {k.removeprefix("strategy."): v for k, v in changed_settings(spec).items() if k.startswith("strategy.")}
        made = make_strategy(own, kept | mine, task=spec.task)
    else:
        assert name is not None
        made = make_strategy(name, mine, task=spec.task)
        if isinstance(made, Search) and "base" not in mine:
            base = spec.strategy.asked if isinstance(spec.strategy, Search) else spec.strategy
            made = dataclasses.replace(made, base=base)
    made.suits(spec.task)
    if dataclasses.replace(spec, strategy=made).learner_fingerprint() != spec.learner_fingerprint():
        raise ValueError(
            f"strategy: {name or own} at these settings asks another learner than this run's; legal: {own} with other settings "
            "of asking, or a search over it"
        )
    return made


def _lines_cap(spec: RunSpec) -> int:
    """How long worked lines of the run's own task may be."""
    if spec.task.kind != "questions":
        return spec.task.lines_cap_tokens
    first = spec.task.problems("test", seed=spec.seed, start=0, count=1, lines=False)
    return first[0].question.lines_cap_tokens or THOUGHT_TOKENS


def _of_pretrained(name: str, strategy: str | None, task: str | None, settings: Mapping[str, Any], device: str) -> Asked:
    """A causal LM of the transformers library, taught nothing."""
    import torch

    chosen = {"model.path": name, "train.flops": 0, **settings}
    spec = make_spec(strategy=strategy or default("baseline"), task=task or f"{__name__}:Elsewhere", settings=chosen)
    check_model(spec)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=learner_alphabet(spec, None), seed=spec.seed)
    return Asked(
        spec=spec,
        backbone=backbone.to(torch.device(device)).eval(),
        results=None,
        thought_tokens=_lines_cap(spec) if task else THOUGHT_TOKENS,
        defaulted=defaulted_line(spec, settings),
    )
