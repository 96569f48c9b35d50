"""Value models: sampled, fitted and checked once, kept under results/values, shared by all searches that ask one learner alike.

results/values/FINGERPRINT-sSEED/   value.json, value.safetensors, reliability.png, reliability.svg

States come from problems of the value split, those that the chances are checked on from the validation split; every FLOP of both
is booked. Knows files and the order of the steps; knows no search, no test problem and no screen.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import records, registry, shapes, storage
from harness.backbone import Backbone
from harness.calibration import Calibration, calibration, diagram
from harness.locks import alone
from harness.meter import TRAINING_FACTOR
from harness.plugin_spec import plugin_json
from harness.problem import Problem
from harness.ranks import ALONE, Ranks
from harness.rating import Sample, base_of, sampled, wanted_by
from harness.records import Record
from harness.search_wants import ValueSpec
from harness.seeds import derive
from harness.spec import SCHEMA, RunSpec, digest
from harness.value_model import ValueModel
from harness.weights import pack, read_packed

VERSION = 2  # of sampling and fitting: raised when a change here changes the models
LEARNING_RATE, WEIGHT_DECAY, STATES_PER_UPDATE = 1e-3, 1.0, 64  # piloted on countdown and on a linear truth: small sets overfit
LEAST_CHECKED = 32  # problems
FILES = ("value.safetensors",)
Split = Literal["value", "validation"]
PURPOSES: dict[Split, str] = {"value": "value", "validation": "value check"}  # of seeds


def fit(states: Tensor, shares: Tensor, wanted: ValueSpec, *, seed: int) -> ValueModel:
    """Binary cross-entropy of states (n, D) on shares (n,), by AdamW; it begins as the constant that fits best."""
    drawn = torch.Generator().manual_seed(seed)
    count, width = states.shape
    mean = float(shares.double().mean().clamp(0.5 / count, 1 - 0.5 / count))
    up, down = torch.randn(wanted.hidden, width, generator=drawn) / math.sqrt(width), torch.zeros(wanted.hidden)
    up_bias, down_bias = torch.zeros(wanted.hidden), torch.tensor(math.log(mean / (1 - mean)))
    model = ValueModel(*(weight.requires_grad_() for weight in (up, up_bias, down, down_bias)))
    groups: list[dict[str, Any]] = [{"params": [up, down]}, {"params": [up_bias, down_bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(wanted.epochs):
        for some in torch.randperm(count, generator=drawn).split(STATES_PER_UPDATE):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model.logits(states[some]), shares[some]).backward()
            optimizer.step()
    return ValueModel(*(weight.detach() for weight in (up, up_bias, down, down_bias)))


def fit_flops(model: ValueModel, wanted: ValueSpec, states: int) -> int:
    """What `fit` costs: forward and backward at every state that is met."""
    return TRAINING_FACTOR * model.flops_per_state * states * wanted.epochs


def fingerprint(spec: RunSpec) -> str:
    """Of all that decides a value model, the seed apart; two searches over one base that ask for the same share it."""
    facts = {"learner": spec.learner_fingerprint(), "task": plugin_json(spec.task), "base": plugin_json(base_of(spec.strategy))}
    return digest({**facts, "value": dataclasses.asdict(wanted_by(spec)), "version": VERSION})


def value_folder(results: Path, spec: RunSpec) -> Path:
    """Where this run's value model lies."""
    return results / "values" / f"{fingerprint(spec)}-s{spec.seed}"


def problems_of(spec: RunSpec) -> dict[Split, Sequence[Problem]]:
    """The problems to fit on, and those to check on; ValueError if there are none to fit on."""
    wanted = wanted_by(spec).problems
    counts: dict[Split, int] = {"value": wanted, "validation": max(math.ceil(wanted / 4), LEAST_CHECKED)}
    found: dict[Split, Sequence[Problem]] = dict.fromkeys(counts, ())
    if spec.task.kind != "documents":
        found = {split: spec.task.problems(split, seed=spec.seed, start=0, count=n) for split, n in counts.items()}
    if not found["value"]:
        raise ValueError(
            f"the strategy wants a value model fitted on {wanted} problems of the split `value`, and task "
            f"{registry.plugin_name(spec.task)} gives none; take more problems (strategy.value_problems), another task, or "
            "strategy settings that need no value model"
        )
    return found


def fitted(
    spec: RunSpec,
    backbone: Backbone,
    learner: Record,
    *,
    results: Path,
    again: bool,
    max_kv_bytes: int | None = None,
    report: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> tuple[ValueModel, Record]:
    """The value model that a run asks for, and its value.json: loaded if complete, else made in one go.

    learner: its record; again: make it anew. report: told problems done and in all. ranks: the processes that each do all of
    this. ValueError if there is nothing to fit on, if a problem may pass ``max_kv_bytes``, or if what lies there is spoilt.
    """
    problems, folder = problems_of(spec), value_folder(results, spec)
    with alone(results, f"value-{folder.name}"), storage.new_folder(results, folder):
        storage.sweep(folder)
        ranks.mirror(results, folder)
        if again:
            storage.remove(folder / "value.json")
        if not (folder / "value.json").exists():
            done, total = itertools.count(1), sum(map(len, problems.values()))
            told = None if report is None else lambda: report(next(done), total)
            samples = {
                split: sampled(spec, backbone, some, purpose=PURPOSES[split], max_kv_bytes=max_kv_bytes, report=told)
                for split, some in problems.items()
            }
            _make(spec, learner, samples, folder)
        return loaded(spec, backbone, learner, results=results)


def _make(spec: RunSpec, learner: Record, samples: dict[Split, Sample], folder: Path) -> None:
    """Fit, check, and write all files, value.json last."""
    wanted, sample, held_out = wanted_by(spec), samples["value"], samples["validation"]
    model = fit(sample.states, sample.shares, wanted, seed=derive(spec.seed, "value model"))
    tensors = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    storage.replace_file(folder / "value.safetensors", pack(tensors, {"value": fingerprint(spec)}))
    found = calibration(model.chances(held_out.states), held_out.shares.tolist())
    for name, data in diagram(found).items():
        storage.replace_file(folder / name, data)
    flops = {"rollouts": sample.flops, "fitting": fit_flops(model, wanted, len(sample.states)), "check": held_out.flops}
    record = _record(spec, learner, sample, flops, found | {"problems": held_out.problems})
    records.write_json(folder / "value.json", records.sealed(record, folder, FILES))


def _record(spec: RunSpec, learner: Record, sample: Sample, flops: dict[str, int], found: Calibration) -> Record:
    """What value.json holds, but for its seal. ratio: of sampling and fitting to the learner's training; the check is apart."""
    wanted, trained = wanted_by(spec), records.training_flops(learner["train"])
    return {
        "schema": SCHEMA,
        "fingerprint": fingerprint(spec),
        "seed": spec.seed,
        "learner": spec.learner_fingerprint(),
        "weights_sha256": learner["weights_sha256"],
        "task": plugin_json(spec.task),
        "base": plugin_json(base_of(spec.strategy)),
        "value": dataclasses.asdict(wanted),
        "problems": {"asked": wanted.problems, "used": sample.problems},
        "states": len(sample.states),
        "positives": float(sample.shares.double().mean()),
        "flops": flops,
        "ratio": (flops["rollouts"] + flops["fitting"]) / trained if trained else None,
        "calibration": found,
    }


def brief(record: Record) -> Record:
    """What a run's own record says of its value model."""
    scores = {name: record["calibration"][name] for name in ("brier", "brier_of_constant")}
    return {name: record[name] for name in ("fingerprint", "flops", "ratio", "states", "calibration")} | scores


def loaded(spec: RunSpec, backbone: Backbone, learner: Record, *, results: Path) -> tuple[ValueModel, Record]:
    """A complete value model and its record; ValueError if it is spoilt, or was fitted to other weights than the learner's."""
    folder = value_folder(results, spec)
    record = records.read_record(folder, name="value.json")
    records.check_shape(record, shapes.Value, folder / "value.json")
    own = {"fingerprint": fingerprint(spec), "seed": spec.seed, "weights_sha256": learner["weights_sha256"]}
    if any(record.get(key) != value for key, value in own.items()):
        other = "another value model, or of one fitted to other weights"
        raise ValueError(f"{folder / 'value.json'} is the record of {other}; use --again to make it anew")
    tensors, _ = read_packed(folder / "value.safetensors")
    if set(tensors) != {f.name for f in dataclasses.fields(ValueModel)}:
        raise ValueError(f"{folder / 'value.safetensors'} holds no value model; use --again to make it anew")
    return ValueModel(**{name: tensor.to(backbone.device) for name, tensor in tensors.items()}), record
