"""From the lines of problems.jsonl to the numbers of run.json. Knows lines; loads no model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.meter import CLASSES
from harness.pools import Pool, curves, weighted_majority_at
from harness.problem import ACCESS
from harness.stats import Estimate, ratio, share

Line = dict[str, Any]
WEIGHTED_SUBSETS = 50  # of a problem's candidates; errors average out over problems
MEAN, TASKS_MEAN = MEANS = ("mean", "mean of tasks")  # how a metric of a task's own may be put together of its values
LEAST_WEIGHT = 1e-300  # a vote that weighs nothing is still one


def kind_of(line: Line) -> str:
    """The kind of task that a line is of."""
    return "requests" if "responses" in line else "documents" if "bytes" in line else "questions"


def metrics(lines: Sequence[Line], *, kind: str, outputs: int, theirs: Mapping[str, Line] | None = None) -> dict[str, Line]:
    """name -> {value, low, high, n, floor}. outputs: V of the sayable vocabulary, whose ln is the floor of documents.

    theirs: of kind "requests", the task's own metrics: {value, aggregation, higher_is_better}; entries without an aggregation are
    left out. Means are worked out from the lines, all others are taken as they are.
    """
    counted = [x for x in lines if x["weight"] > 0]
    if kind == "requests":
        return _of_requests(lines, counted, outputs, {k: v for k, v in (theirs or {}).items() if "aggregation" in v})
    return _of_documents(counted, outputs) if kind == "documents" else _of_questions(counted, outputs)


def _of_documents(counted: Sequence[Line], outputs: int) -> dict[str, Line]:
    tokens, size = sum(x["targets"] for x in counted), sum(x["bytes"] for x in counted)
    bits = [x["nats"] / math.log(2) for x in counted]
    per_byte = ratio(bits, [x["bytes"] for x in counted], [x["weight"] for x in counted])
    return {
        "nats_per_token": _metric(_nats(counted), len(counted), math.log(outputs)),
        "bits_per_byte": _metric(per_byte, len(counted), math.log2(outputs) * tokens / max(size, 1)),
    }


def _of_questions(counted: Sequence[Line], outputs: int) -> dict[str, Line]:
    return {
        "accuracy": _metric(_share_of(counted), len(counted), floor(counted)),
        "answer_nats_per_token": _metric(_nats(counted), len(counted), math.log(outputs)),
    }


def _of_requests(lines: Sequence[Line], counted: Sequence[Line], outputs: int, theirs: Mapping[str, Line]) -> dict[str, Line]:
    """What is compared first, under the name that it has for other kinds; then the task's own metrics under their names."""
    scored = next((x["scored"] for x in counted), None)
    if scored is None:
        whole = all("bytes" in x for x in counted)
        nats = _metric(_nats(counted), len(counted), math.log(outputs))
        found = _of_documents(counted, outputs) if whole else {"nats_per_token": nats}
    else:
        known = [x for x in counted if x["nats"] is not None]
        other = theirs.get(scored, {})
        a_mean = other.get("aggregation", MEAN) in MEANS  # the scores' own, where their task has none over all of it
        estimate = _share_of(counted) if a_mean else Estimate(other.get("value"), None, None)
        found = {"accuracy": _metric(estimate, len(counted), floor(counted) if a_mean else None)}
        found |= {"answer_nats_per_token": _metric(_nats(known), len(known), math.log(outputs))} if known else {}
    return found | {name: _their_metric(lines, name, one) for name, one in theirs.items()}


def _share_of(counted: Sequence[Line]) -> Estimate:
    return share([x["score"] for x in counted], [x["weight"] for x in counted])


def _their_metric(lines: Sequence[Line], name: str, theirs: Line) -> Line:
    """A metric of the task's own: a mean with an interval, or its value as it is."""
    values, weights = _values(lines, name)
    estimate = Estimate(theirs["value"], None, None)
    if theirs["aggregation"] in MEANS:
        by_task = theirs["aggregation"] == TASKS_MEAN
        weights = weights if by_task else [1.0] * len(values)
        around = share(values, weights) if all(0 <= value <= 1 for value in values) else ratio(values, weights, weights)
        again = around.value if by_task else _plain_mean(values)
        estimate = Estimate(theirs["value"] if is_mean(lines, name, theirs) else again, around.low, around.high)
    return _metric(estimate, len(values), None) | {key: theirs[key] for key in ("aggregation", "higher_is_better")}


def _values(lines: Sequence[Line], name: str) -> tuple[list[Any], list[float]]:
    """A metric's values, and their inquiries' weights; of NAME/METRIC over the inquiries NAME/.. alone."""
    whole = any(name in x["metrics"] for x in lines)
    part, _, metric = ("", "", name) if whole else name.rpartition("/")
    mine = [x for x in lines if metric in x["metrics"] and x["id"].startswith(f"{part}/" if part else "")]
    return [x["metrics"][metric] for x in mine], [x["weight"] or 1.0 for x in mine]


def _plain_mean(values: Sequence[Any]) -> float | None:
    """Summed as lm-eval sums it; None where some value is no number."""
    if not values or not all(isinstance(value, (int, float)) for value in values):
        return None
    return float(sum(values) / len(values))


def is_mean(lines: Sequence[Line], name: str, made: Line) -> bool:
    """Whether a total is the mean of the lines that it says it is: of tasks up to rounding, since their means were rounded."""
    if made["value"] is None or made["aggregation"] not in MEANS:
        return False
    values, weights = _values(lines, name)
    plain = _plain_mean(values)
    if plain is None or made["aggregation"] == MEAN:
        return bool(plain == made["value"])
    weighted = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights)
    return math.isclose(weighted, made["value"], rel_tol=1e-9)


def _nats(lines: Sequence[Line]) -> Estimate:
    return ratio([x["nats"] for x in lines], [x["targets"] for x in lines], [x["weight"] for x in lines])


def _metric(estimate: Estimate, n: int, floor_value: float | None) -> Line:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": n, "floor": floor_value}


def floor(lines: Sequence[Line]) -> float | None:
    """Score of the best constant answer: the weighted share of the commonest key (or number of the right choice)."""
    total: dict[str, float] = defaultdict(float)
    for line in lines:
        total[str(line.get("constant", line["key"]))] += line["weight"]
    return max(total.values()) / sum(total.values()) if total else None


def by_difficulty(lines: Sequence[Line], *, kind: str, outputs: int, theirs: Mapping[str, Line] | None = None) -> list[Line]:
    """The metrics of each difficulty, easiest first; requests have one. headline: whether its problems count in the mean."""
    groups: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["difficulty"]].append(line)
    rows = []
    for difficulty in sorted(groups):
        group = groups[difficulty]
        equal = group if kind == "requests" else [line | {"weight": 1.0} for line in group]
        found = metrics(equal, kind=kind, outputs=outputs, theirs=theirs)
        headline = any(line["weight"] > 0 for line in group)
        rows.append({"difficulty": difficulty, "n": len(group), "headline": headline, "metrics": found})
    return rows


def truncated_prompts(lines: Sequence[Line]) -> int:
    """How many prompts the context did not hold, so that their beginning was left out. Lines of older records do not say."""
    return sum(line.get("truncated_prompts", 0) for line in lines)


def access(lines: Sequence[Line]) -> str:
    """The most that any problem's search was told: see `harness.jobs.ACCESS`."""
    told: str = max((x["access"] for x in lines), key=ACCESS.index)
    return told


def search(lines: Sequence[Line]) -> Line | None:
    """What the candidates of a search held, over the headline problems; None where nothing was searched.

    coverage: the share of problems of which any candidate is right; selected: of which the chosen one is; gap: their difference.
    candidates, nodes: means a problem. pool: for independent draws, what every n of them would give, by `harness.pools`.
    """
    counted = [x for x in lines if x["weight"] > 0 and x["candidates"] is not None]
    if not counted:
        return None
    weights = [x["weight"] for x in counted]
    covered, selected = (share([f(x) for x in counted], weights) for f in (_covered, lambda x: x["score"]))
    found: Line = {"coverage": _metric(covered, len(counted), None), "selected": selected.value}
    found["gap"] = None if covered.value is None or selected.value is None else covered.value - selected.value
    found["candidates"] = float(np.average([len(x["candidates"]["answers"]) for x in counted], weights=weights))
    found["nodes"] = float(np.average([x["candidates"]["nodes"] for x in counted], weights=weights))
    pooled = all(x["candidates"]["pool"] != "none" and x["candidates"]["answers"] for x in counted)
    found["pool"] = _pool_curves([x["candidates"] for x in counted], weights) if pooled else None
    return found


def _pool_curves(every: Sequence[Line], weights: Sequence[float]) -> list[Line]:
    """Exact curves over n; those of a weighted vote are means over seeded subsets, with their standard error."""
    pools = [_pool(one) for one in every]
    found: list[Line] = [dict(point) for point in curves(pools, weights)]
    if all(one["pool"] == "weighted" for one in every):
        each = [weighted_majority_at(pool, subsets=WEIGHTED_SUBSETS, seed=at) for at, pool in enumerate(pools)]
        share_of = np.array(weights) / np.sum(weights)
        for n, point in enumerate(found):
            point["weighted"] = float(share_of @ [mean[n] for mean, _ in each])
            point["weighted_error"] = float(np.sqrt(share_of**2 @ [error[n] ** 2 for _, error in each]))
    return found


def _covered(line: Line) -> float:
    """The best candidate's score."""
    return float(max(line["candidates"]["scores"].values(), default=0.0))


def _pool(one: Line) -> Pool:
    """A problem's candidates in the order of their draws."""
    drawn = list(one["answers"])
    values = [None if one["value"] is None else one["value"][at] for at in drawn]
    nats = [one["nats"][at] / max(one["tokens"][at], 1) for at in drawn]
    scores = [mean if value is None else value for value, mean in zip(values, nats, strict=True)]
    right = tuple(one["scores"][at] >= 1.0 for at in drawn)
    weights = tuple(max(score, LEAST_WEIGHT) for score in scores) if one["pool"] == "weighted" else None
    return Pool(right=right, groups=tuple(one["votes"].get(at) for at in drawn), scores=tuple(scores), weights=weights)


def infer(lines: Sequence[Line]) -> Line:
    """What asking cost: weighted means per problem of the headline problems, and the peak of all."""
    counted = [x for x in lines if x["weight"] > 0] or list(lines)
    weights = np.array([x["weight"] or 1.0 for x in counted])
    totals = np.array([sum(x["flops"].values()) for x in counted], dtype=np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.average(np.asarray(values, dtype=np.float64), weights=weights))

    flops = {"total": mean(totals.tolist())} | {c: mean([x["flops"][c] for x in counted]) for c in CLASSES}
    flops |= {c: mean([x["conventions"][c] for x in counted]) for c in ("quadratic", "non_embedding")}
    flops |= {"p50": float(np.quantile(totals, 0.5)), "p95": float(np.quantile(totals, 0.95))}
    return {
        "problems": len(lines),
        "flops_per_problem": flops,
        "serial_passes_per_problem": mean([x["serial_passes"] for x in counted]),
        "text_tokens_per_problem": mean([x["text_tokens"] for x in counted]),
        "woven_tokens_per_problem": mean([x["woven_tokens"] for x in counted]),
        "peak_kv_bytes": max(x["kv_bytes"] for x in lines),
    }
