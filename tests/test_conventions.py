"""What is recorded beside the ledgers: other habits of counting, the unit x1, and a cap on what a problem may spend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import records
from harness.meter import gpt2_price, head_flops, other_conventions
from harness.runs import run
from harness.spec import make_spec

TINY = {"model.width": 16, "model.layers": 2, "model.heads": 2, "infer.problems": 12}
TINY |= {"train.flops": 2e7, "train.problems_per_update": 8}


def made(tmp_path: Path, strategy: str, task: str = "arithmetic", **settings: Any) -> tuple[Any, list[Any], list[Any]]:
    """Record, lines and traces of a run of seconds."""
    spec = make_spec(strategy=strategy, task=task, settings=TINY | {k.replace("__", "."): v for k, v in settings.items()})
    record, folder = run(spec, results=tmp_path), records.run_folder(tmp_path, spec)
    return record, records.read_lines(folder), records.read_lines(folder, "traces.jsonl")


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.data())
def test_by_hand(lengths: list[int], data: st.DataObject) -> None:
    """Cell by cell: a row of T cells costs L (24 D^2 + 4 D T) each; without heads, blocks alone."""
    index = np.concatenate([np.arange(n) for n in lengths])
    row = np.repeat(np.arange(len(lengths)), lengths)
    read = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(index), max_size=len(index))))
    blocks = int(gpt2_price(layers=3, width=8).blocks(index + 1).sum())
    total = blocks + int(read.sum()) * head_flops(width=8, outputs=5)
    found = other_conventions(total, index=index, row=row, read=read, price=gpt2_price(layers=3, width=8), outputs=5)
    assert found["non_embedding"] == blocks
    assert found["quadratic"] - int(read.sum()) * 80 == sum(n * 3 * (24 * 64 + 4 * 8 * n) for n in lengths)


@pytest.mark.parametrize(
    ("strategy", "passes"), [("direct", 1), ("reasoning_tokens", 1), ("looped_depth", 3), ("chain_of_thought", 1)]
)
def test_a_run_records_them(tmp_path: Path, strategy: str, passes: int) -> None:
    """Of rows whose cells are all one after another, from the trace alone."""
    record, lines, traces = made(tmp_path, strategy)
    outputs = record["model"]["outputs"]
    for line, trace in zip(lines, traces, strict=True):
        n = len(trace["index"])
        assert line["conventions"]["quadratic"] == sum(line["flops"].values()) + passes * 2 * 4 * 16 * (n * n - n * (n + 1) // 2)
        assert line["conventions"]["non_embedding"] == passes * 2 * (24 * 256 * n + 4 * 16 * n * (n + 1) // 2)
        assert sum(line["flops"].values()) - line["conventions"]["non_embedding"] == trace["read"].count("1") * 32 * outputs
    flops = record["infer"]["flops_per_problem"]
    assert flops["non_embedding"] < flops["total"] < flops["quadratic"]


@pytest.mark.slow
def test_the_unit_is_the_same_for_every_strategy_and_seed(tmp_path: Path) -> None:
    """And it is near to what direct spends, which says as many characters as the keys have once it is trained."""
    units = {made(tmp_path, name)[0]["infer"]["unit_flops"] for name in ("direct", "chain_of_thought", "looped_depth")}
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY, seed=1)
    units.add(run(spec, results=tmp_path)["infer"]["unit_flops"])
    assert len(units) == 1
    assert units != {made(tmp_path, "direct", model__width=24)[0]["infer"]["unit_flops"]}


def test_a_cap_is_never_passed_and_drafts_count(tmp_path: Path) -> None:
    """Half of what it would spend; what was said so far is read."""
    free, _, _ = made(tmp_path, "self_consistency", strategy__base="direct", strategy__samples=8)
    cap = free["infer"]["flops_per_problem"]["total"] / 2
    capped, lines, _ = made(tmp_path, "self_consistency", strategy__base="direct", strategy__samples=8, infer__cap_flops=cap)
    assert capped["learner"] == free["learner"] and capped["fingerprint"] != free["fingerprint"]
    assert max(sum(line["flops"].values()) for line in lines) <= cap
    assert {line["stop"] for line in lines} <= {"budget", "end", "cap"} and any(
        sum(line["flops"].values()) > cap / 2 for line in lines
    )


def test_documents_have_no_cap(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"infer\.cap_flops.*documents"):
        made(tmp_path, "direct", "language_model", infer__cap_flops=1e6, model__width=16)
