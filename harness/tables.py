"""The main table of a comparison, as numbers and as people read it; every point that was asked; the scores by difficulty.

Knows rows and curves; judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.comparison import Measured, Row
from harness.curves import COMPARATOR, PRIMARY, At, interval_of
from harness.problem import ACCESS
from harness.records import Record
from harness.wording import Unit, count

if TYPE_CHECKING:
    import pandas as pd

SHOWN = (
    "task", "training FLOPs", "place", "arm", "point", "score [95%]", "floor", "comparator", "difference [95%]", "p (Holm)",
    "verdict", "detectable", "flips", "FLOPs a problem", "p50", "p95", "realised / target", "serial passes", "text tokens",
    "woven tokens", "supervised tokens", "coverage", "selected", "gap", "access", "seeds",
)  # fmt: skip


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A row of numbers for each row of the comparison; what is not there is None."""
    import pandas as pd

    return pd.DataFrame([_facts(row) for row in rows])


def _facts(row: Row) -> dict[str, Any]:
    """Numbers of a row."""
    facts: dict[str, Any] = {
        "task": row.task, "train_flops": row.train_flops, "place": row.place, "arm": row.arm.label, "family": row.arm.family,
        "target_flops": row.target,
    }  # fmt: skip
    facts |= _curve("", row.at, row.one) | _curve("comparator_", row.comparator, row.one)
    facts |= {"floor": row.floor, "infeasible": row.at is None}
    if row.at is not None:
        facts["point"] = _coin(row.at)
    verdict = row.verdict
    for name in ("kind", "reason", "p", "p_holm", "p_equivalence", "detectable", "sd", "within_margin"):
        facts["verdict" if name == "kind" else name] = getattr(verdict, name, None)
    interval = getattr(verdict, "difference", None)
    facts |= {
        f"difference{end}": getattr(interval, name, None) for end, name in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    facts["flips"] = "; ".join(row.shaky) or None
    return facts | _ledgers(row.records)  # of the dearer point of a coin


def _curve(prefix: str, at: At | None, one: Measured) -> dict[str, Any]:
    """A curve's score over seeds and its cost."""
    if at is None:
        return {f"{prefix}{name}": None for name in ("score", "score_low", "score_high", "flops", "seeds")}
    alone = {} if at.mixture.dear_share else one.curves[PRIMARY].records[at.mixture.cheap.name]
    found = interval_of(at.scores, alone, is_share=one.is_accuracy)
    return {
        f"{prefix}score": found.value, f"{prefix}score_low": found.low, f"{prefix}score_high": found.high,
        f"{prefix}flops": at.cost, f"{prefix}seeds": len(at.scores),
    }  # fmt: skip


def _coin(at: At) -> str:
    """The points that are mixed."""
    mixture = at.mixture
    if not mixture.dear_share:
        return mixture.cheap.name
    return f"{1 - mixture.dear_share:.0%} {mixture.cheap.name}, {mixture.dear_share:.0%} {mixture.dear.name}"


def _ledgers(by: Mapping[int, Record]) -> dict[str, Any]:
    """Means over seeds of what a point cost, and what its search covered."""
    found = list(by.values())

    def mean(*keys: str) -> float | None:
        values = [_inside(record, keys) for record in found]
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None

    return {
        "serial_passes": mean("infer", "serial_passes_per_problem"),
        "text_tokens": mean("infer", "text_tokens_per_problem"),
        "woven_tokens": mean("infer", "woven_tokens_per_problem"),
        "p50_flops": mean("infer", "flops_per_problem", "p50"),
        "p95_flops": mean("infer", "flops_per_problem", "p95"),
        "spent_training_flops": mean("train", "spent_flops"),
        "supervised_tokens": mean("train", "supervised_tokens"),
        "coverage": mean("search", "coverage", "value"),
        "selected": mean("search", "selected"),
        "gap": mean("search", "gap"),
        "access": max((r["access"] for r in found), default=None, key=ACCESS.index),
    }


def _inside(record: Any, keys: Sequence[str]) -> float | None:
    for key in keys:
        if record is None:
            return None
        record = record.get(key)
    return None if record is None else float(record)


def shown(rows: Sequence[Row]) -> pd.DataFrame:
    """The same as people read it."""
    import pandas as pd

    return pd.DataFrame([_words(row, _facts(row)) for row in rows], columns=list(SHOWN))


def _words(row: Row, facts: dict[str, Any]) -> dict[str, str]:
    unit = Unit(row.higher_is_better)
    score = "infeasible" if row.at is None else unit.interval(facts["score"], facts["score_low"], facts["score_high"])
    difference = unit.interval(facts["difference"], facts["difference_low"], facts["difference_high"], signed=True)
    verdict = facts["verdict"] or ("comparator" if row.arm.family else "-")
    reason = f" ({facts['reason']})" if facts["verdict"] in ("void", "inconclusive") else ""
    spent = facts["flops"] / row.target if row.at is not None and row.target else None
    return {
        "task": row.task,
        "training FLOPs": f"{row.train_flops:.3g}",
        "place": row.place,
        "arm": row.arm.label,
        "point": (facts.get("point") or "-").replace(row.arm.label, "").strip(" []") or "-",
        "score [95%]": score,
        "floor": unit.one(row.floor),
        "comparator": unit.one(facts["comparator_score"]),
        "difference [95%]": difference,
        "p (Holm)": "-" if facts["p_holm"] is None else f"{facts['p_holm']:.3g}",
        "verdict": f"{verdict}{reason}",
        "detectable": unit.one(facts["detectable"]),
        "flips": facts["flips"] or "-",
        "FLOPs a problem": count(facts["flops"]),
        "p50": count(facts["p50_flops"]),
        "p95": count(facts["p95_flops"]),
        "realised / target": "-" if spent is None else f"{spent:.2f}",
        "serial passes": count(facts["serial_passes"]),
        "text tokens": count(facts["text_tokens"]),
        "woven tokens": count(facts["woven_tokens"]),
        "supervised tokens": count(facts["supervised_tokens"]),
        **_search_words(unit, facts),
        "seeds": str(facts["seeds"] or 0),
    }


def points(every: Sequence[Measured]) -> pd.DataFrame:
    """A row a point of each arm, the cheapest first, where some arm has more than one."""
    import pandas as pd

    if all(len({number for number, _ in one.curves[PRIMARY].names}) == len(one.curves[PRIMARY].names) for one in every):
        return pd.DataFrame()
    return pd.DataFrame([row for one in every for row in _points(one)])


def _points(one: Measured) -> list[dict[str, str]]:
    curves, unit, found = one.curves[PRIMARY], Unit(one.is_accuracy), []
    plain = curves.hulls[COMPARATOR].corners[0].flops if COMPARATOR in curves.hulls else None  # its runs may have failed
    for number, name in curves.names:
        by = {seed: curves.records[name][seed] for seed in curves.seeds}
        score = curves.score(name)
        cost, facts = float(np.mean([curves.costs[name][seed] for seed in curves.seeds])), _ledgers(by)
        label = one.arms[number].label
        words = {
            "task": one.block.task, "training FLOPs": f"{one.train_flops:.3g}", "arm": label,
            "point": name.removeprefix(label).strip(" []") or "-",
            "score [95%]": unit.interval(score.value, score.low, score.high), "FLOPs a problem": count(cost),
            "of plain asking's": f"{cost / plain:.3g}x" if plain else "-",
        }  # fmt: skip
        words |= {name: count(facts[name.replace(" ", "_")]) for name in ("serial passes", "text tokens", "woven tokens")}
        found.append((cost, words | _search_words(unit, facts) | {"seeds": str(len(by))}))
    return [words for _, words in sorted(found, key=lambda x: x[0])]


def _search_words(unit: Unit, facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: unit.one(facts[name]) for name in ("coverage", "selected", "gap")} | {"access": facts["access"] or "-"}


def by_difficulty(rows: Sequence[Row]) -> pd.DataFrame:
    """Scores by difficulty, mean over seeds, of each arm's (dearer) point; lengths beyond the headline's in brackets."""
    import pandas as pd

    found = []
    for row in rows:
        unit, cells = Unit(row.higher_is_better), dict[str, list[float]]()
        for record in row.records.values():
            for part in record["by_difficulty"]:
                name = str(part["difficulty"]) if part["headline"] else f"({part['difficulty']})"
                cells.setdefault(name, []).append(next(iter(part["metrics"].values()))["value"])
        if cells:
            where = {"task": row.task, "training FLOPs": f"{row.train_flops:.3g}", "place": row.place, "arm": row.arm.label}
            found.append(where | {name: unit.one(float(np.mean(values))) for name, values in cells.items()})
    return pd.DataFrame(found).fillna("-")
