"""Twins: the baseline with another run's compute, recounted from records; bad input in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness import records
from harness.cli import main
from harness.examination import gold_text
from harness.foreseen import Costs, costs_of
from harness.meter import gpt2_price
from harness.runs import run
from harness.session import Job, Session
from harness.spec import make_spec
from harness.twins import _alphabet as alphabet_of
from harness.twins import asking_flops, heads_for, make_twin
from harness.weights import make_backbone

TINY = {
    "model.size": "xs", "model.width": 16, "model.heads": 2, "train.problems_per_update": 8, "train.flops": 3e7,
    "infer.problems": 12,
}  # fmt: skip
ARMS = {
    "loops": ("looped_depth", "arithmetic", {"strategy.train_loops": 4}),
    "tokens": ("reasoning_tokens", "arithmetic", {"train.match": "tokens"}),
    "documents": ("looped_depth", "language_model", {"train.flops": 6e7, "infer.problems": 2, "task.window_tokens": 16}),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with three finished arms."""
    folder = tmp_path_factory.mktemp("results")
    for strategy, task, settings in ARMS.values():
        run(make_spec(strategy=strategy, task=task, settings=TINY | settings), results=folder)
    return folder


def arm(results: Path, name: str) -> Path:
    """An arm's folder."""
    strategy, task, _ = ARMS[name]
    (folder,) = (results / "runs" / task / strategy).iterdir()
    return folder


def recounted(record, lines, traces):
    """Mean FLOPs of asking plain training's problems: from the cells of each trace and the model's shape."""
    layers, width, _, _ = records.spec_of(record).model.shape
    outputs, total = record["model"]["outputs"], 0.0
    for line, trace in zip(lines, traces, strict=True):
        sizes = line.get("windows") or [len(trace["t"])]
        blocks = sum(layers * (24 * width**2 * n + 4 * width * n * (n + 1) // 2) for n in sizes)
        total += line["weight"] * (blocks + trace["read"].count("1") * 2 * width * outputs)
    return total / sum(line["weight"] for line in lines)


@pytest.mark.parametrize("kind", ["deep", "wide"])
@pytest.mark.parametrize("name", ["loops", "documents"])
def test_asking_a_twin_costs_what_the_arm_cost(results: Path, kind: str, name: str) -> None:
    """As nearly as shapes allow; the formula foresees documents to the FLOP."""
    twin = make_twin(kind, str(arm(results, name)), results=results)
    record = run(twin.spec, results=results)
    lines, traces = (
        records.read_lines(records.run_folder(results, twin.spec), name) for name in ("problems.jsonl", "traces.jsonl")
    )
    reference = records.read_run(arm(results, name))
    assert twin.target_flops == asking_flops(reference) and record["spec"]["strategy"]["name"] == "direct"
    assert asking_flops(record) == pytest.approx(recounted(record, lines, traces), rel=1e-12)
    coarse = {"deep": 0.1, "wide": 0.3}[kind]  # widths are multiples of 8
    assert twin.foreseen_flops == pytest.approx(twin.target_flops, rel=coarse)
    changed = {"layers"} if kind == "deep" else {"width", "heads"}
    model, before = (r["spec"]["model"] for r in (record, reference))
    assert {k for k in model if model[k] != before[k]} == changed
    assert record["spec"]["train"] == reference["spec"]["train"]  # an equal training budget
    if name == "documents":
        assert asking_flops(record) == pytest.approx(twin.foreseen_flops, rel=1e-12)
        assert f"{asking_flops(record) / twin.target_flops:.3f}x" in twin.line(record)
        assert twin.spec.model.shape[0] == 6 or kind == "wide"  # three loops of two blocks
    else:
        assert twin.spec.model.shape[0] in range(8, 12) or kind == "wide"  # four loops, and answers longer than the keys


def test_no_other_depth_or_width_is_nearer(results: Path) -> None:
    twins = {kind: make_twin(kind, str(arm(results, "loops")), results=results) for kind in ("deep", "wide")}
    costs = costs_of(twins["deep"].spec, alphabet_of(twins["deep"].spec, results))
    for kind, twin in twins.items():
        layers, width, heads, _ = twin.spec.model.shape
        others = [(layers + s, width) if kind == "deep" else (layers, width + 8 * s) for s in (-1, 1)]
        off = [
            max(f / twin.target_flops, twin.target_flops / f)
            for f in (costs.flops(gpt2_price(layers=n, width=w)) for n, w in others)
        ]
        own = costs.flops(gpt2_price(layers=layers, width=width))
        assert own == twin.foreseen_flops and max(own / twin.target_flops, twin.target_flops / own) <= min(off)
        assert width % heads == 0 and width // heads % 8 == 0


def test_a_long_twin_trains_on_what_the_arm_spent(results: Path) -> None:
    """The arm met direct's text tokens, which cost it more than direct's budget; an arm at a budget in FLOPs shares direct's."""
    folder = arm(results, "tokens")
    reference = records.read_run(folder)
    twin = make_twin("long", str(folder), results=results)
    record = run(twin.spec, results=results)
    assert twin.target_flops == records.training_flops(reference["train"]) == reference["train"]["spent_flops"] > 3e7
    assert (twin.spec.train.flops, twin.spec.train.match) == (twin.target_flops, "flops")
    update = records.training_flops(record["train"]) / record["train"]["updates"]
    assert twin.target_flops - 2 * update < records.training_flops(record["train"]) <= twin.target_flops
    same = make_twin("long", str(arm(results, "loops")), results=results).spec
    assert same.fingerprint() == make_spec(strategy="direct", task="arithmetic", settings=TINY).fingerprint()


def test_every_phase_has_a_twin_of_its_own(tmp_path: Path) -> None:
    """Pretraining that the arm did under a strategy of its own is the baseline's, at what was spent there."""
    before = {"pretraining.strategy": "reasoning_tokens", "pretraining.task": "arithmetic"}
    before |= {f"pretraining.{k}": v for k, v in TINY.items() if k.startswith("train.")} | {"pretraining.train.match": "examples"}
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY | before)
    record = run(spec, results=tmp_path)
    twin = make_twin("long", str(records.run_folder(tmp_path, spec)), results=tmp_path)
    spent = record["train"]["pretraining"]["spent_flops"]
    assert twin.target_flops == spent + record["train"]["spent_flops"]
    assert twin.spec.pretraining.strategy == twin.spec.strategy == spec.strategy
    assert (twin.spec.pretraining.train.flops, twin.spec.pretraining.train.match) == (spent, "flops")
    assert twin.spec.train == spec.train


def test_the_formula_is_what_answering_with_the_keys_costs(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against ledgers of scored keys, in means that leave out problems of no weight."""
    spec = make_twin("long", str(arm(results, "loops")), results=results).spec
    found, weights = spec.task.problems("test", seed=0, start=0, count=20), [0.0, 1.0, 0.25, 3.0] * 5
    assert len({len(p.question.text) for p in found}) > 2
    problems = [dataclasses.replace(p, weight=w) for p, w in zip(found, weights, strict=True)]
    monkeypatch.setattr("harness.foreseen.asked_problems", lambda spec: problems)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet_of(spec, results), seed=0)
    jobs = [Job(str(i), lambda p=p: spec.strategy.score(p.question, (gold_text(p),))) for i, p in enumerate(problems)]
    total = {o.job.name: o.ledger.total_flops for o in Session(backbone).run(jobs)}
    mean = sum(w * total[str(i)] for i, w in enumerate(weights)) / sum(weights)
    layers, width, _, _ = spec.model.shape
    assert costs_of(spec, backbone.alphabet).flops(gpt2_price(layers=layers, width=width)) == pytest.approx(mean, rel=1e-12)


def test_head_widths_are_multiples_of_8() -> None:
    assert [heads_for(w, 16, 128) for w in (8, 64, 72, 88, 96)] == [1, 4, 3, 11, 6]
    assert heads_for(8192, 8, 128) == 128


def test_the_formula_is_linear_in_what_is_fed_and_read() -> None:
    costs = Costs(cells=10.0, cells_so_far=55.0, reads=3.0, outputs=7)
    assert costs.flops(gpt2_price(layers=2, width=16)) == 2 * (24 * 256 * 10 + 4 * 16 * 55) + 3 * 2 * 16 * 7


# The command


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake gets."""
    assert main(["run", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told and told.startswith("error: ")
    return told


def test_the_command_runs_a_twin(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Foreseen and realised on stderr; stdout is the record alone. --seed gives the same twin another seed."""
    name = arm(results, "loops").name
    words = ["--twin", "deep", "--of", name[:8], "--results", str(results)]
    assert main(["run", *words, "--seed", "1", "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    twin = make_twin("deep", name, results=results)
    assert record["fingerprint"] == twin.spec.fingerprint() and record["seed"] == 1
    assert "by formula" in printed.err and f"realised {asking_flops(record):.4g}" in printed.err
    assert main(["run", *words, "--dry-run"]) == 0
    assert "deep twin of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--twin", "depe", "--of", "."], "did you mean deep?); legal: deep, long, wide"),
        (["--twin", "deep"], "--of RUN"),
        (["--of", "here"], "legal: deep, long, wide"),
        (["--twin", "deep", "--of", "nothing-here"], "--of: no such run: 'nothing-here'"),
        (["--twin", "deep", "--of", ".", "--task", "arithmetic"], "only --seed and --threads"),
        (["--twin", "deep", "--of", ".", "--set", "model.size=s"], "only --seed and --threads"),
    ],
)
def test_mistakes_get_one_line(words: list[str], told: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in error_of([*words, "--results", str(results)], capsys)


def test_a_cost_that_no_shape_meets_is_told(results: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """Below the cheapest, or beyond the dearest; a pretrained model's shape is fixed."""
    words = ["--of", str(arm(results, "loops")), "--results", str(results)]
    monkeypatch.setattr("harness.twins.asking_flops", lambda record: 10.0)
    for kind, least in (("deep", "(1 layers, width 16)"), ("wide", "(2 layers, width 8)")):
        told = error_of(["--twin", kind, *words], capsys)
        assert "the run's 10 FLOPs per problem are not within" in told and least in told
    monkeypatch.setattr("harness.twins.asking_flops", lambda record: 1e20)
    assert "(96 layers, width 16)" in error_of(["--twin", "deep", *words], capsys)


def test_a_pretrained_models_shape_is_fixed(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = make_twin("long", str(arm(results, "loops")), results=results).spec
    loaded = dataclasses.replace(own, model=dataclasses.replace(own.model, path="somewhere"))
    monkeypatch.setattr("harness.twins._as_baseline", lambda spec, record: loaded)
    with pytest.raises(ValueError, match=r"model\.path=somewhere.*legal: long"):
        make_twin("wide", str(arm(results, "loops")), results=results)
