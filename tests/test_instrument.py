"""The attention that is recorded beside traces: against transformers' own, and where it must be silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import records
from harness.evaluate import evaluate
from harness.instrument import ATTENTION, write_attention
from harness.jsonl import lines_of
from harness.learners import learner_alphabet
from harness.spec import make_spec
from harness.weights import make_backbone

SMALL = {"model.width": 16, "model.layers": 2, "model.heads": 2, "infer.problems": 6, "infer.traces": 5}


def attended(strategy: str, task: str, folder: Path, settings: dict[str, Any]) -> tuple[Any, list[Any], list[Any]]:
    """A random model's traces and what was recorded of its attention."""
    spec = make_spec(strategy=strategy, task=task, settings=SMALL | settings)
    alphabet = learner_alphabet(spec, None)
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=0).eval()
    with torch.no_grad():
        for weight in backbone.parameters():  # as initialised, attention is all but uniform
            weight.mul_(8)
    evaluate(spec, backbone, folder)
    traces = records.read_lines(folder, "traces.jsonl")
    write_attention(backbone, traces, folder / ATTENTION)
    return backbone, traces, [json.loads(line) for line in lines_of(folder / ATTENTION)]


def test_it_is_the_mean_over_heads_layers_and_later_text_as_transformers_has_it(tmp_path: Path) -> None:
    backbone, traces, found = attended("direct", "arithmetic", tmp_path, {"task.digits": "1-2"})
    backbone.model.set_attn_implementation("eager")
    assert [x["id"] for x in found] == [x["id"] for x in traces] and len(found) == 5
    for trace, line in zip(traces, found, strict=True):
        with torch.no_grad():
            layers = backbone.model(torch.tensor([trace["t"]]), output_attentions=True).attentions
        p = torch.stack(layers).mean((0, 2))[0].numpy()  # (Q, K)
        n = len(trace["t"])
        wanted = [np.mean([p[q, k] for q in range(k + 1, n)]) for k in range(n - 1)]
        assert np.allclose(line["received"][:-1], wanted, atol=1e-4) and line["received"][-1] is None


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        ("reasoning_tokens", {"strategy.per_token": 2}),
        ("reasoning_tokens", {"strategy.emit": "last", "strategy.gate": "learned"}),
        ("reasoning_tokens", {"strategy.shield": "mask"}),
        ("pause_tokens", {}),
        ("looped_depth", {}),
        ("filler", {}),
    ],
)
def test_every_cell_has_its_number(strategy: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Thoughts and pauses too; all shares together are at most one a look."""
    _, traces, found = attended(strategy, "arithmetic", tmp_path, settings)
    for trace, line in zip(traces, found, strict=True):
        received = line["received"]
        assert received is not None and len(received) == len(trace["kind"])
        last_text = max(at for at, kind in enumerate(trace["kind"]) if kind != "t")
        assert all(0 <= x <= 1 for x in received[:last_text]) and received[last_text:] == [None] * (len(received) - last_text)


def test_documents_have_their_windows_one_after_another(tmp_path: Path) -> None:
    _, traces, found = attended("direct", "language_model", tmp_path, {"infer.problems": 2, "task.window_tokens": 32})
    assert [len(x["received"]) for x in found] == [len(x["t"]) for x in traces]


def test_of_many_rows_it_says_nothing(tmp_path: Path) -> None:
    _, _, found = attended("self_consistency", "arithmetic", tmp_path, {"strategy.base": "direct", "strategy.samples": 2})
    assert [x["received"] for x in found] == [None] * 5


def test_it_costs_the_run_nothing_and_changes_nothing(tmp_path: Path) -> None:
    """The ledgers in the lines stand as they were before the probe; afterwards no probe is left."""
    backbone, _, _ = attended("reasoning_tokens", "arithmetic", tmp_path, {})
    before = (tmp_path / "problems.jsonl").read_bytes()
    (tmp_path / "problems.jsonl").unlink()
    (tmp_path / "traces.jsonl").unlink()
    spec = make_spec(strategy="reasoning_tokens", task="arithmetic", settings=SMALL)
    evaluate(spec, backbone, tmp_path)
    assert (tmp_path / "problems.jsonl").read_bytes() == before
