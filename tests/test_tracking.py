"""Curves for TensorBoard and Trackio: kept when asked for, in a folder of their own, and part of no record."""

from __future__ import annotations

import json
import sqlite3
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.cli import main
from harness.tracking import PROJECT

WORDS = ["run", "--strategy", "direct", "--task", "arithmetic", "--set=model.size=xs", "--set=model.width=16",
         "--train-flops=3e8", "--set=train.problems_per_update=8", "--problems=5"]  # fmt: skip


def losses(results: Path) -> dict[int, float]:
    """By update, as train.jsonl has them."""
    (log,) = results.glob("weights/*/train.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {line["update"]: line["loss_nats"] for line in lines}


@pytest.mark.slow
def test_tensorboard_gets_what_the_log_has(tmp_path):
    pytest.importorskip("accelerate")
    reader = pytest.importorskip("tensorboardX.proto.event_pb2")

    assert main([*WORDS, "--track", "tensorboard", "--results", str(tmp_path / "tracked")]) == 0
    assert main([*WORDS, "--results", str(tmp_path / "plain")]) == 0
    found = {}
    for path in tmp_path.glob("tracked/tracking/tensorboard/*/events*"):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length, its checksum, an event, its checksum
            size = int.from_bytes(data[at : at + 8], "little")
            event = reader.Event.FromString(data[at + 12 : at + 12 + size])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            at += size + 16
    logged = losses(tmp_path / "tracked")
    kept = {step: value for (tag, step), value in found.items() if tag == "train/loss_nats"}
    assert kept.keys() == {n for n in logged if n == 1 or n % 10 == 0} and len(kept) > 2
    assert all(value == pytest.approx(logged[step]) for step, value in kept.items())
    assert any(tag == "test/accuracy" for tag, _ in found)
    for kind in ("runs", "weights"):
        tracked, plain = (
            {p.relative_to(root): p.read_bytes() for p in (root / kind).rglob("*") if p.is_file() and "timing" not in p.name}
            for root in (tmp_path / "tracked", tmp_path / "plain")
        )
        assert tracked == plain


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_keeps_its_file_in_the_results(tmp_path, monkeypatch):
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    assert main([*WORDS, "--track", "trackio", "--results", str(tmp_path)]) == 0
    with sqlite3.connect(tmp_path / "tracking" / "trackio" / f"{PROJECT}.db") as file:
        kept = {step: json.loads(values) for step, values in file.execute("select step, metrics from metrics")}
    logged = losses(tmp_path)
    steps = {step: values["train/loss_nats"] for step, values in kept.items() if "train/loss_nats" in values}
    assert steps and all(value == pytest.approx(logged[step]) for step, value in steps.items())


@pytest.mark.parametrize("missing", ["accelerate", "trackio"])
def test_it_is_said_what_to_install(missing, monkeypatch, tmp_path, capsys):
    for name in (missing, f"{missing}.tracking"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main([*WORDS, "--track", "trackio", "--results", str(tmp_path)]) == 2
    assert "thinking-harness[track]" in capsys.readouterr().err
