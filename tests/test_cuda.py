"""What is promised on one GPU: the CPU's losses, answers and ledgers. Skipped, with the reason, where there is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranked import CASES, followed, spec_of, trainer_of
from test_attention import assert_same_gradients, drawn, gradients, random_mask, reference

from harness import records
from harness.attention import Masks, attend, causal_bias
from harness.jsonl import lines_of
from harness.ranks import ALONE
from harness.runs import run
from harness.spec import RunSpec, make_spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
GPU = torch.device("cuda")
UPDATES = 30
LEDGER = ("completion", "answer", "flops", "serial_passes", "text_tokens", "woven_tokens", "kv_bytes")
ASKED = {
    "direct": {},
    "reasoning_tokens": {"strategy.per_token": 2},
    "pause_tokens": {},
    "chain_of_thought": {},
    "thinking_spans": {},
    "looped_depth": {"strategy.loops": 3},
    "multi_token": {},
    "future_heads": {},
    "self_consistency": {"strategy.samples": 4},
    "best_of_n": {"strategy.samples": 4, "strategy.select": "value", "strategy.value_problems": 64},
    "beam_search": {},
    "tree_of_thoughts": {"strategy.branching": 2, "strategy.breadth": 2},
}


def near(found: list[list[float]], expected: list[list[float]], tolerance: float = 2e-4) -> None:
    """Losses up to rounding, all else exactly."""
    assert [row[1:] for row in found] == [row[1:] for row in expected]
    np.testing.assert_allclose([row[0] for row in found], [row[0] for row in expected], rtol=0, atol=tolerance)


# Attention


@pytest.mark.parametrize("queries", [7, 40, 130])
@pytest.mark.parametrize("given", ["causal", "bias"])
@pytest.mark.parametrize("kinds", [("kv",), ("state",), ("kv", "state")], ids="+".join)
@pytest.mark.parametrize("per_head", [False, True], ids=["shared", "per_head"])
def test_gradients_of_shields_are_those_of_the_formula(kinds, given, queries, per_head):
    q, k, v, _, weights, generator = drawn(0, queries=queries, keys=queries, width=16)
    masks = {f"learn_{kind}": random_mask(generator, 3, 2 if per_head else 1, queries, queries) for kind in kinds}
    bias = causal_bias(queries, q.device)
    if given == "bias":
        bias = torch.where(random_mask(generator, 3, 1, queries, queries), bias, -torch.inf)
        bias[..., 0] = 0.0
    there = {name: mask.to(GPU) for name, mask in masks.items()}
    still = "state" in kinds

    def ours(q, k, v, ks, vs):
        made = Masks(bias.to(GPU) if given == "bias" else None, **there)
        return attend(q, k, v, made, still=(ks, vs) if still else None)

    leaves = (q, k, v, k, v)
    out, found = gradients(ours, [x.to(GPU) for x in leaves], weights.to(GPU))
    plain, expected = gradients(
        lambda q, k, v, ks, vs: reference(q, k, v, bias, still=(ks, vs) if still else None, **masks), leaves, weights
    )
    assert torch.allclose(out.cpu(), plain, atol=1e-5)
    assert_same_gradients([None if x is None else x.cpu() for x in found], expected)


@pytest.mark.parametrize("given", ["causal", "bias"])
def test_shields_leave_the_forward_pass_untouched(given):
    q, k, v, _, _, generator = drawn(1, queries=70, keys=70, width=16)
    q, k, v = (x.to(GPU).requires_grad_() for x in (q, k, v))
    mask = random_mask(generator, 3, 2, 70, 70).to(GPU)
    bias = causal_bias(70, GPU) if given == "bias" else None
    plain = attend(q, k, v, Masks(bias))
    assert torch.equal(plain, attend(q, k, v, Masks(bias, learn_kv=mask)))
    assert torch.equal(plain, attend(q, k, v, Masks(bias, learn_state=mask), still=(k, v)))


# Training


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_the_cpu(case, tmp_path):
    expected = followed(trainer_of(spec_of(case), tmp_path / "cpu", ALONE), UPDATES)
    near(followed(trainer_of(spec_of(case), tmp_path / "gpu", ALONE, device="cuda"), UPDATES), expected)


@pytest.mark.parametrize("case", ["direct", "thoughts, learned", "spans"])
def test_rougher_numbers_train_nearly_the_same(case, tmp_path):
    exact = followed(trainer_of(spec_of(case), tmp_path / "fp32", ALONE, device="cuda"), UPDATES)
    for precision in ("tf32", "bf16"):
        spec = replace(spec_of(case), train=replace(spec_of(case).train, precision=precision))
        found = followed(trainer_of(spec, tmp_path / precision, ALONE, device="cuda"), UPDATES)
        near(found, exact, 0.03 * exact[0][0])


def test_training_goes_on_where_it_was_cut_off_and_on_the_other_device(tmp_path):
    whole = followed(trainer_of(spec_of("thoughts"), tmp_path / "whole", ALONE), 40)
    followed(trainer_of(spec_of("thoughts"), tmp_path / "cut", ALONE, device="cuda"), 20)
    near(followed(trainer_of(spec_of("thoughts"), tmp_path / "cut", ALONE, device="cuda"), 10), whole[20:30])
    near(followed(trainer_of(spec_of("thoughts"), tmp_path / "cut", ALONE), 10), whole[30:])


def test_an_update_that_does_not_fit_is_taken_in_more_parts(tmp_path):
    """Memory for a part of it, taken away for real."""
    settings = {"model.size": "s", "train.problems_per_update": 64, "train.flops": 1e15, "task.window_tokens": 250}
    spec = make_spec(strategy="direct", task="language_model", settings=settings)
    torch.cuda.reset_peak_memory_stats()
    whole = followed(trainer_of(spec, tmp_path / "whole", ALONE, device="cuda"), 3)
    most = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.5 * most / torch.cuda.get_device_properties(0).total_memory)
    try:
        trainer = trainer_of(spec, tmp_path / "scarce", ALONE, device="cuda")
        near(followed(trainer, 3), whole)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert trainer.parts > 1


# Asking


def asked(spec: RunSpec, results: Path, device: str) -> list[dict[str, object]]:
    run(spec, results=results, device=device)
    lines = list(lines_of(records.run_folder(results, spec) / "problems.jsonl"))
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("strategy", ASKED)
def test_answers_and_ledgers_are_those_of_the_cpu(strategy, tmp_path):
    """Of the same learner. Where two tokens are nearly as likely, rounding may choose: one problem in fifty at most."""
    settings = {"model.size": "xs", "train.flops": 2e10, "infer.problems": 100, **ASKED[strategy]}
    spec = make_spec(strategy=strategy, task="multi_step", settings=settings)
    here = asked(spec, tmp_path / "cpu", "cpu")
    shutil.copytree(tmp_path / "cpu" / "weights", tmp_path / "gpu" / "weights")
    there = asked(spec, tmp_path / "gpu", "cuda")
    same = [all(mine[name] == other[name] for name in LEDGER) for mine, other in zip(here, there, strict=True)]
    assert sum(same) >= 98


def test_likelihoods_are_those_of_the_cpu(tmp_path):
    settings = {"model.size": "xs", "train.flops": 2e11, "infer.problems": 2}
    spec = make_spec(strategy="reasoning_tokens", task="language_model", settings=settings)
    here = asked(spec, tmp_path / "cpu", "cpu")
    shutil.copytree(tmp_path / "cpu" / "weights", tmp_path / "gpu" / "weights")
    for mine, other in zip(here, asked(spec, tmp_path / "gpu", "cuda"), strict=True):
        assert all(mine[name] == other[name] for name in LEDGER)
        assert other["nats"] == pytest.approx(mine["nats"], rel=1e-5)
