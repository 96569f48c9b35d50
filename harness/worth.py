"""What an idea is worth: training compute that it saves, the cheapest way for a number of questions, and seeds that solved.

Knows a block's measurements at all its budgets; judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.comparison import OWN_COST, Measured, Row
from harness.curves import COMPARATOR, PRIMARY, At
from harness.gains import Candidate, Gains, SeedCurve, gains, winner_by_questions
from harness.records import training_flops
from harness.verdicts import fisher, is_bimodal, solved_fraction
from harness.wording import Unit, count

if TYPE_CHECKING:
    import pandas as pd

SOLVED = 0.9  # accuracy from which a seed has solved the task
QUESTIONS = tuple(10.0**n for n in range(3, 13))


def headline(every: Sequence[Measured]) -> Measured:
    """The measurement at the budget of the primary analysis, or the highest there is."""
    declared = [one for one in every if one.train_flops == one.block.headline_flops]
    return declared[0] if declared else max(every, key=lambda one: one.train_flops)


def gain_of(row: Row, every: Sequence[Measured]) -> Gains | None:
    """Training FLOPs that the comparator needs for an arm's score / those that the arm spent, at the arm's cost of asking.

    Over the seeds that all budgets have; None where there are none, or only one budget to tell by. No budget is no point of the
    curve, which is one over log FLOPs, and what spent nothing has no ratio.
    """
    curves = {one.train_flops: one.curves[PRIMARY] for one in every if one.train_flops}
    of_budgets = [set(found.seeds) for found in curves.values()]
    seeds = set.intersection(*of_budgets, set(row.at.scores) if row.at else set())
    others = {flops: found.at(found.rival(row.number), row.at.cost) for flops, found in curves.items()} if row.at else {}
    there: dict[float, At] = {flops: at for flops, at in others.items() if at is not None}
    if row.at is None or not seeds or not there or len(curves) < 2:
        return None
    if not all(training_flops(row.records[seed]["train"]) for seed in seeds):
        return None
    return gains([_seed_curve(row, row.at, there, seed) for seed in sorted(seeds)], higher_is_better=row.higher_is_better)


def _seed_curve(row: Row, at: At, there: dict[float, At], seed: int) -> SeedCurve:
    return SeedCurve(
        comparator_flops=tuple(there), comparator_scores=tuple(other.scores[seed] for other in there.values()),
        score=at.scores[seed], spent_flops=training_flops(row.records[seed]["train"]),
    )  # fmt: skip


def worth(rows: Sequence[Row], every: Sequence[Measured]) -> pd.DataFrame:
    """A row an arm at the headline: compute-equivalent gain; how many of its seeds solved the task, against plain training's."""
    import pandas as pd

    if COMPARATOR not in headline(every).curves[PRIMARY].hulls:
        return pd.DataFrame()
    base = _baseline_scores(headline(every))
    return pd.DataFrame([_worth(row, every, base) for row in _first(rows, every)])


def _first(rows: Sequence[Row], every: Sequence[Measured]) -> list[Row]:
    """Rows of arms outside the comparator at the headline's first place."""
    one = headline(every)
    place = (one.block.infer or (OWN_COST,))[0]
    return [row for row in rows if row.one is one and row.place == place and row.at is not None and not row.arm.family]


def gain_sentences(rows: Sequence[Row], every: Sequence[Measured]) -> list[str]:
    """The compute-equivalent gains in words, where plain training was measured at more than one budget."""
    said = []
    for row in _first(rows, every) if len(every) > 1 else ():
        found = gain_of(row, every)
        if found is not None:
            seeds = f"{len(found.by_seed)} seed{'s' if len(found.by_seed) != 1 else ''}"
            spent = f"the training FLOPs that {row.arm.label} spent at {row.train_flops:.3g}"
            said.append(
                f"On {row.task}, plain training and asking needs {_gain(found)} {spent} for the same score (median, {seeds})."
            )
    return said


def _worth(row: Row, every: Sequence[Measured], base: Sequence[float]) -> dict[str, str]:
    found = gain_of(row, every)
    scores = list(row.at.scores.values()) if row.at else []
    facts = {
        "task": row.task, "training FLOPs": f"{row.train_flops:.3g}", "arm": row.arm.label,
        "compute-equivalent gain [95%]": _gain(found), "seeds of the gain": str(len(found.by_seed)) if found else "-",
    }  # fmt: skip
    if not row.higher_is_better:
        return facts
    ours, theirs = (sum(score >= SOLVED for score in some) for some in (scores, base))
    split = is_bimodal(scores) or is_bimodal(base)
    share = solved_fraction(scores, SOLVED)
    return facts | {
        f"seeds at {SOLVED:.0%} or above": f"{ours} of {len(scores)}",
        "share [95%]": Unit(True).interval(share.value, share.low, share.high),
        "two groups of seeds": "yes" if split else "no",
        "p (Fisher, against plain)": f"{fisher(ours, len(scores), theirs, len(base)):.3g}" if split else "-",
        "scores by seed": " ".join(f"{100 * score:.0f}" for score in scores),
    }


def _gain(found: Gains | None) -> str:
    if found is None:
        return "-"
    return found.median.text + (f" [{found.interval.text}]" if found.interval else "")


def _baseline_scores(one: Measured) -> list[float]:
    """Plain training's scores by seed."""
    curves = one.curves[PRIMARY]
    return [curves.scores[one.plain][seed] for seed in curves.seeds]


def questions(rows: Sequence[Row], every: Sequence[Measured]) -> pd.DataFrame:
    """For plain training's score and the comparator's best: the cheapest way there with its training, by numbers of questions.

    The ways are the comparator's points, and those of other arms whose verdict is better or equivalent.
    """
    import pandas as pd

    one = headline(every)
    curves, sign = one.curves[PRIMARY], 1.0 if one.is_accuracy else -1.0
    if COMPARATOR not in curves.hulls:
        return pd.DataFrame()
    best = max((curves.scores[c.name] for c in curves.hulls[COMPARATOR].corners), key=lambda by: sign * _mean(by, curves.seeds))
    wanted = {"plain training's": float(np.mean(_baseline_scores(one))), "the comparator's best": _mean(best, curves.seeds)}
    table, candidates = [], _candidates(rows, every)
    for name, score in wanted.items():
        found = winner_by_questions(candidates, QUESTIONS, wanted=score, higher_is_better=one.is_accuracy)
        for asked, winner in zip(QUESTIONS, found.winners, strict=True):
            cost = None if winner is None else found.total_flops[winner][QUESTIONS.index(asked)]
            table.append(
                {
                    "task": one.block.task, "score to be reached": f"{name} ({Unit(one.is_accuracy).one(score)})",
                    "questions": count(asked), "cheapest": winner or "none", "FLOPs in all": count(cost),
                }
            )  # fmt: skip
    return pd.DataFrame(table)


def _candidates(rows: Sequence[Row], every: Sequence[Measured]) -> list[Candidate]:
    """The comparator's points at every budget, and the points of other arms that are better or equivalent there."""
    found = []
    for one in every:
        curves, decided = one.curves[PRIMARY], _decided([row for row in rows if row.one is one])
        for number, name in curves.names:
            if not one.arms[number].family and name not in decided:
                continue
            by = [curves.records[name][seed]["train"] for seed in curves.seeds]
            spent = [training_flops(train) for train in by]
            label = f"{name} after {one.train_flops:.3g}"
            cost = _mean(curves.costs[name], curves.seeds)
            score = _mean(curves.scores[name], curves.seeds)
            found.append(Candidate(name=label, score=score, train_flops=float(np.mean(spent)), question_flops=cost))
    return found


def _decided(rows: Sequence[Row]) -> set[str]:
    """Points that are better or equivalent wherever they alone are judged."""
    verdicts: dict[str, set[bool]] = {}
    for row in rows:
        if row.at is not None and row.verdict is not None and not row.at.mixture.dear_share:
            verdicts.setdefault(row.at.mixture.cheap.name, set()).add(row.verdict.kind in ("better", "equivalent"))
    return {name for name, kinds in verdicts.items() if kinds == {True}}


def _mean(by: Mapping[int, float], seeds: Sequence[int]) -> float:
    return float(np.mean([by[seed] for seed in seeds]))
