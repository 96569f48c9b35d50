"""The baseline's twins of a run: the same problems, and the compute that the run used.

*long* is given the training FLOPs that the run spent; *deep* and *wide* get as many layers, or such a width, that asking the
baseline one problem costs what it costs the run (by the meter's formula, with answers as long as the keys), at an equal
training budget. Knows records, formulas and the baseline's name in defaults.toml; trains nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import records, registry
from harness.alphabet import Alphabet
from harness.defaults import default
from harness.foreseen import Costs, costs_of
from harness.learners import learner_alphabet
from harness.meter import gpt2_price
from harness.records import Record
from harness.settings import unknown
from harness.spec import ModelSpec, Phase, RunSpec, from_json
from harness.strategy import Strategy

TWINS = ("long", "deep", "wide")
HEAD_WIDTH_MULTIPLE = 8  # narrower heads' bits depend on company, see `harness.slots`


@dataclass(frozen=True, slots=True)
class Twin:
    """What to run, and what it is to spend: in training (long), or on a problem when asked (deep, wide).

    foreseen_flops: of the twin by formula, None for long, whose training stops at the target.
    """

    kind: str
    spec: RunSpec
    of: Path
    target_flops: float
    foreseen_flops: float | None = None

    def line(self, record: Record | None = None) -> str:
        """In words; with the twin's own record, what it came to."""
        what = "training FLOPs" if self.kind == "long" else "inference FLOPs per problem"
        words = f"{self.kind} twin of {self.of}: {what} {self.target_flops:.4g}"
        if self.foreseen_flops is not None:
            layers, width, heads, _ = self.spec.model.shape
            words += f"; {layers} layers, width {width}, {heads} heads: {self._share(self.foreseen_flops)} by formula"
        if record is not None:
            spent = records.training_flops(record["train"]) if self.kind == "long" else asking_flops(record)
            words += f"; realised {self._share(spent)}"
        return words

    def _share(self, flops: float) -> str:
        return f"{flops:.4g} ({flops / self.target_flops:.3f}x)" if self.target_flops else f"{flops:.4g}"


def asking_flops(record: Record) -> float:
    """The mean over a run's problems."""
    return float(record["infer"]["flops_per_problem"]["total"])


def make_twin(
    kind: str | None,
    of: str | None,
    *,
    results: Path,
    seed: int | None = None,
    threads: int | None = None,
    trust_plugins: bool = False,
) -> Twin:
    """The twin of a finished run (its folder, or the beginning of its name). seed, threads: if they are not to be the run's.

    trust_plugins: whether code to which only the run's record points may be run.
    ValueError: an unknown kind, no such run, or one whose cost no shape can meet.
    """
    if kind not in TWINS:
        raise unknown("--twin", kind or "", TWINS)
    if of is None:
        raise ValueError("--twin: name the run that it is the twin of: --of RUN")
    try:
        folder = records.find_run(of, results)
    except ValueError as error:
        raise ValueError(f"--of: {str(error).removeprefix('RUN: ')}") from None
    record = records.read_run(folder)
    other = {k: v for k, v in {"seed": seed, "threads": threads}.items() if v is not None}
    spec = _as_baseline(from_json(record["spec"] | other, trust_plugins=trust_plugins), record)
    if kind == "long":
        return Twin(kind, spec, folder, records.training_flops(record["train"]))
    if spec.model.path:
        raise ValueError(f"--twin {kind}: the shape of a pretrained model (model.path={spec.model.path}) is fixed; legal: long")
    target = asking_flops(record)
    model, foreseen = _reshaped(kind, spec, target, costs_of(spec, _alphabet(spec, records.results_of(folder) or results)))
    return Twin(kind, dataclasses.replace(spec, model=model), folder, target, foreseen)


def _as_baseline(spec: RunSpec, record: Record) -> RunSpec:
    """The baseline in every phase, with the FLOPs that were spent there."""
    baseline: Strategy = registry.find("strategy", default("baseline"))()
    train = record["train"]
    last = _as_taught(spec.phase, baseline, train["spent_flops"])
    before = spec.pretraining
    if before is not None:
        before = _as_taught(before, baseline, train["pretraining"]["spent_flops"])
    return dataclasses.replace(spec, strategy=baseline, train=last.train, pretraining=before)


def _as_taught(phase: Phase, baseline: Strategy, spent_flops: int) -> Phase:
    """A phase of the baseline; a budget in FLOPs stays as it was given, so that equal runs are one run."""
    train = phase.train
    if train.match != "flops":
        train = dataclasses.replace(train, flops=float(spent_flops), match="flops")
    return dataclasses.replace(phase, strategy=baseline, train=train)


def _alphabet(spec: RunSpec, results: Path) -> Alphabet:
    """The run's; a tokenizer that was trained is taken from beside the weights, where it is."""
    folder = records.weights_folder(results, spec)
    return learner_alphabet(spec, folder if (folder / "tokenizer.json").exists() else None)


def _reshaped(kind: str, spec: RunSpec, target: float, costs: Costs) -> tuple[ModelSpec, float]:
    """The model whose cost is nearest to the target, as a ratio, and that cost."""
    layers, width, heads, _ = spec.model.shape
    limits = {f.name: f.metadata for f in dataclasses.fields(ModelSpec)}
    if kind == "deep":
        shapes = [(n, width) for n in range(1, limits["layers"]["high"] + 1)]
    else:
        shapes = [(layers, w) for w in range(HEAD_WIDTH_MULTIPLE, limits["width"]["high"] + 1, HEAD_WIDTH_MULTIPLE)]
    flops = [costs.flops(gpt2_price(layers=n, width=w)) for n, w in shapes]
    if not flops[0] <= target <= flops[-1]:
        ends = " to ".join(f"{f:.4g} ({n} layers, width {w})" for f, (n, w) in ((flops[0], shapes[0]), (flops[-1], shapes[-1])))
        raise ValueError(f"--twin {kind}: the run's {target:.4g} FLOPs per problem are not within what such twins cost: {ends}")
    best = int(np.argmin(np.abs(np.log(np.array(flops) / target))))
    made_layers, made_width = shapes[best]
    if (made_layers, made_width) == (layers, width):
        return spec.model, flops[best]  # as it was given, so that equal runs are one run
    if kind == "deep":
        return dataclasses.replace(spec.model, layers=made_layers), flops[best]
    made_heads = heads_for(made_width, width / heads, limits["heads"]["high"])
    return dataclasses.replace(spec.model, width=made_width, heads=made_heads), flops[best]


def heads_for(width: int, head_width: float, most: int) -> int:
    """How many heads make their width a multiple of 8 nearest to ``head_width``, as a ratio."""
    legal = [w for w in range(HEAD_WIDTH_MULTIPLE, width + 1, HEAD_WIDTH_MULTIPLE) if width % w == 0 and width // w <= most]
    return width // min(legal, key=lambda w: abs(np.log(w / head_width)))
