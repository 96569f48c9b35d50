"""From the lines of problems.jsonl to the numbers of run.json. Knows lines; loads no model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.meter import CLASSES
from harness.stats import Estimate, ratio, share

Line = dict[str, Any]


def metrics(lines: Sequence[Line], *, kind: str, outputs: int) -> dict[str, Line]:
    """name -> {value, low, high, n, floor}. outputs: V of the sayable vocabulary, whose ln is the floor of documents."""
    counted = [x for x in lines if x["weight"] > 0]
    if kind == "documents":
        tokens, size = sum(x["targets"] for x in counted), sum(x["bytes"] for x in counted)
        bits = [x["nats"] / math.log(2) for x in counted]
        per_byte = ratio(bits, [x["bytes"] for x in counted], [x["weight"] for x in counted])
        return {
            "nats_per_token": _metric(_nats(counted), len(counted), math.log(outputs)),
            "bits_per_byte": _metric(per_byte, len(counted), math.log2(outputs) * tokens / max(size, 1)),
        }
    accuracy = share([x["score"] for x in counted], [x["weight"] for x in counted])
    return {
        "accuracy": _metric(accuracy, len(counted), floor(counted)),
        "answer_nats_per_token": _metric(_nats(counted), len(counted), math.log(outputs)),
    }


def _nats(lines: Sequence[Line]) -> Estimate:
    return ratio([x["nats"] for x in lines], [x["targets"] for x in lines], [x["weight"] for x in lines])


def _metric(estimate: Estimate, n: int, floor_value: float | None) -> Line:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": n, "floor": floor_value}


def floor(lines: Sequence[Line]) -> float | None:
    """Score of the best constant answer: the weighted share of the commonest key."""
    total: dict[str, float] = defaultdict(float)
    for line in lines:
        total[str(line["key"])] += line["weight"]
    return max(total.values()) / sum(total.values()) if total else None


def by_difficulty(lines: Sequence[Line], *, kind: str, outputs: int) -> list[Line]:
    """The metrics of each difficulty, easiest first. headline: whether its problems count in the mean."""
    groups: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["difficulty"]].append(line)
    rows = []
    for difficulty in sorted(groups):
        group = groups[difficulty]
        equal = [line | {"weight": 1.0} for line in group]
        found = metrics(equal, kind=kind, outputs=outputs)
        headline = any(line["weight"] > 0 for line in group)
        rows.append({"difficulty": difficulty, "n": len(group), "headline": headline, "metrics": found})
    return rows


def infer(lines: Sequence[Line]) -> Line:
    """What asking cost: weighted means per problem of the headline problems, and the peak of all."""
    counted = [x for x in lines if x["weight"] > 0] or list(lines)
    weights = np.array([x["weight"] or 1.0 for x in counted])
    totals = np.array([sum(x["flops"].values()) for x in counted], dtype=np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.average(np.asarray(values, dtype=np.float64), weights=weights))

    flops = {"total": mean(totals.tolist())} | {c: mean([x["flops"][c] for x in counted]) for c in CLASSES}
    flops |= {"p50": float(np.quantile(totals, 0.5)), "p95": float(np.quantile(totals, 0.95))}
    return {
        "problems": len(lines),
        "flops_per_problem": flops,
        "serial_passes_per_problem": mean([x["serial_passes"] for x in counted]),
        "text_tokens_per_problem": mean([x["text_tokens"] for x in counted]),
        "woven_tokens_per_problem": mean([x["woven_tokens"] for x in counted]),
        "peak_kv_bytes": max(x["kv_bytes"] for x in lines),
    }
