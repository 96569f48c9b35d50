"""From records to rows, on records made by hand: curves at equal FLOPs, differences seed by seed, verdicts; and their tables."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from harness.comparison import measured, rows_of
from harness.comparison_files import write
from harness.figures import look_of, looks
from harness.grid import Cell, Grid, Place
from harness.line_stats import searchers
from harness.plots import draw
from harness.rankings import leads, rankings
from harness.records import run_folder
from harness.registry import names
from harness.spec import make_spec
from harness.suite import Arm, Block, Primary, Suite
from harness.tables import frame, points, shown
from harness.wording import sentences
from harness.worth import gain_of, questions, worth

SEEDS = range(8)
WOBBLE = dict(zip(SEEDS, (0.01, -0.02, 0.0, 0.015, -0.005, 0.02, -0.01, -0.01), strict=True))  # of a seed, in all arms alike
FAMILY = [Arm(strategy="direct", family=True), Arm(strategy="votes", family=True, points={"n": [2]})]


SPEC = make_spec(strategy="direct", task="arithmetic").to_json()


def record(score, flops, *, passes=None, documents=False, epochs=None):
    name, floor = ("nats_per_token", 3.0) if documents else ("accuracy", 0.05)
    return {
        "metrics": {name: {"value": score, "low": score, "high": score, "n": 100, "floor": floor}},
        "infer": {
            "flops_per_problem": {"total": flops, "p50": flops, "p95": flops, "quadratic": 2 * flops, "non_embedding": flops / 2},
            "serial_passes_per_problem": passes or flops / 10, "text_tokens_per_problem": flops / 20,
            "woven_tokens_per_problem": 1.0, "unit_flops": 100.0,
        },
        "timing": {}, "spec": SPEC, "learner": "x", "model": {"weights_sha256": "w"},
        "train": {"spent_flops": 99.0, "supervised_tokens": 7, "epochs": epochs, "pretraining": None},
        "search": None, "value": None, "access": "none",
        "by_difficulty": [
            {"difficulty": d, "headline": d < 3, "metrics": {name: {"value": score + 0.1 * (2 - d)}}} for d in (1, 2, 3)
        ],
    }  # fmt: skip


def made_rows(curves, *, arms=None, seeds=SEEDS, missing=(), **fields):
    """curves: (arm, point) -> (test score, validation score or None, FLOPs[, serial passes]) of a seed's record, by formula."""
    arms = arms or [*FAMILY, Arm(strategy="idea")]
    suite = Suite(name="t", blocks=[Block(task="toy", name="toy", arms=arms, train_flops=[1e9], seeds=list(seeds), **fields)])
    found = {}
    for (arm, point), how in curves.items():
        for seed in seeds:
            for split, score in zip(("test", "validation"), how[:2], strict=True):
                if score is not None and (arm, seed) not in missing:
                    place = Place(block=0, arm=arm, train_flops=1e9, seed=seed, point=point, split=split)
                    value = score(seed) if callable(score) else score + WOBBLE[seed]
                    cell = Cell((arm, point, seed, split), (place,))
                    found[cell] = record(value, how[2], passes=how[3] if len(how) > 3 else None, **fields.get("told", {}))
    return [row for one in measured(Grid(suite, (tuple(arms),), (), tuple(found)), found) for row in rows_of(one)]


CURVES = {(0, ""): (0.40, 0.42, 100.0), (1, "n=2"): (0.50, 0.46, 300.0), (2, ""): (0.55, None, 200.0)}


def last(curves, **fields):
    return made_rows(curves, **fields)[-1]


def test_an_arm_meets_the_comparators_coin_at_its_own_cost():
    row = last(CURVES)
    assert row.arm.strategy == "idea" and row.at.cost == 200.0 == row.comparator.cost
    assert row.comparator.mixture.dear_share == 0.5
    assert row.comparator.scores == pytest.approx({s: 0.45 + w for s, w in WOBBLE.items()})  # test scores, not validation's
    assert row.at.scores == pytest.approx({s: 0.55 + w for s, w in WOBBLE.items()})
    assert row.verdict.kind == "better" and row.verdict.difference.value == pytest.approx(0.10) and row.verdict.seeds == 8


def test_points_are_chosen_on_validation():
    """Votes are better on test and worse on validation: the comparator stays with its baseline."""
    row = last(CURVES | {(1, "n=2"): (0.90, 0.30, 300.0)})
    assert row.comparator.mixture.dear.name == "direct" and row.comparator.cost == 100.0


def test_dearer_than_all_the_comparator_spends_what_it_can():
    row = last(CURVES | {(2, ""): (0.55, None, 900.0)})
    assert row.comparator.cost == 300.0 and row.at.cost == 900.0 and row.verdict.difference.value == pytest.approx(0.05)


def test_cheaper_than_all_is_infeasible():
    row = last(CURVES, infer=["flops:50"])
    assert row.at is None and row.verdict is None
    assert shown([row])["score [95%]"].tolist() == ["infeasible"]
    assert last(CURVES | {(2, ""): (0.55, None, 50.0)}).comparator is None


def test_places_are_multiples_of_the_baselines_cost():
    rows = [r for r in made_rows(CURVES, infer=["x1", "x2", "x8"]) if r.arm.strategy == "idea"]
    assert [r.target for r in rows] == [100.0, 200.0, 800.0] and [r.at is None for r in rows] == [True, False, False]
    assert rows[2].at.cost == 200.0 and rows[2].comparator.cost == 300.0


def test_places_of_other_currencies():
    """Passes are a tenth of the FLOPs, tokens a twentieth and one; each place has what it names on the scale of its curve."""
    rows = [r for r in made_rows(CURVES, infer=["passes:20", "tokens:16", "flops:300"]) if r.arm.strategy == "idea"]
    assert [r.target for r in rows] == [20.0, 16.0, 300.0]
    assert [r.at.cost for r in rows] == [20.0, 11.0, 200.0]
    assert [r.comparator.cost for r in rows] == [20.0, 16.0, 300.0]


def test_a_unit_that_no_record_knows_is_the_comparators_cheapest_point():
    rows = made_rows(CURVES, infer=["x2"])
    for by in rows[0].one.curves["flops"].records.values():
        for one in by.values():
            one["infer"]["unit_flops"] = None
    assert rows[0].one.unit_flops == 100.0


@pytest.mark.parametrize(
    "test,kind",
    [(lambda s: 0.30 + WOBBLE[s], "worse"), (lambda s: 0.452 + WOBBLE[s], "better"),
     (lambda s: 0.35 + s % 2 * 0.2, "inconclusive"), (lambda s: 0.449 + WOBBLE[s] + s % 2 * 0.002, "equivalent")],
)  # fmt: skip
def test_verdicts(test, kind):
    assert last(CURVES | {(2, ""): (test, None, 200.0)}).verdict.kind == kind


def test_void_where_the_baseline_is_at_its_floor_and_no_verdict_below_8_seeds():
    low = {key: (how[0] - 0.35, how[1] and how[1] - 0.35, how[2]) for key, how in CURVES.items()}
    assert last(low).verdict.kind == "void"
    remedy = "train with the task's default budget of 1e+12 FLOPs"  # the task is arithmetic, the budget 1e9
    assert last(low).verdict.reason == f"the baseline scores 5.0%, not 5 points better than its floor of 5.0%: {remedy}"
    assert remedy in shown(made_rows(low))["verdict"].iloc[-1] and remedy in sentences(made_rows(low))[0]
    few = last(CURVES, seeds=range(3))
    assert (
        few.verdict.kind == "inconclusive"
        and few.verdict.reason == "fewer than 8 seeds"
        and few.verdict.difference.low is not None
    )
    assert last(CURVES, primary=Primary(train_flops=1e9, margin=0.2)).verdict.within_margin


def test_a_verdict_that_flips_is_told():
    """At equal serial passes the idea is too dear, and the comparator's votes win; one seed carries nothing here."""
    passes = {(0, ""): (0.40, 0.42, 100.0, 10.0), (1, "n=2"): (0.70, 0.66, 300.0, 10.0), (2, ""): (0.60, None, 200.0, 50.0)}
    row = last(passes)
    assert row.verdict.kind == "better" and row.shaky == ("at equal serial passes",)
    lucky = last(CURVES | {(2, ""): (lambda s: 0.452 + WOBBLE[s] + (s == 3) * 0.001, None, 200.0)})
    assert lucky.verdict.kind == "better" and lucky.shaky == ()


def test_seeds_with_a_missing_record_are_left_out_for_all():
    row = last(CURVES, missing=[(0, 5)])
    assert set(row.at.scores) == set(SEEDS) - {5} and row.verdict.seeds == 7
    assert made_rows(CURVES, missing=[(0, s) for s in SEEDS], arms=[*FAMILY, Arm(strategy="idea")]) != []


def test_tables_hold_the_numbers_and_sentences_say_them(tmp_path):
    rows = made_rows(CURVES)
    given = {"suite": "t", "plots": ["plots/t/a.svg", "plots/t/a.png"], "notes": ["left out: <b>x</b> & y"]}
    paths = {p.name: p for p in write(rows, [rows[0].one], tmp_path, tmp_path, **given)}
    names = [f"toy{kind}" for kind in ("", "-difficulty", "-rankings", "-worth", "-questions", "-rankings-timing")]
    assert set(paths) == {f"{name}{end}" for name in names for end in (".md", ".csv", ".tex", ".html")} | {"toy.json"}
    words = {name: path.read_text() for name, path in paths.items()}
    numbers, parts = (pd.read_csv(io.StringIO(words[name])) for name in ("toy.csv", "toy-difficulty.csv"))
    assert list(parts.columns) == ["task", "training FLOPs", "place", "arm", "1", "2", "(3)"]
    assert parts.iloc[2].tolist()[3:] == ["idea", "65.0%", "55.0%", "45.0%"]
    assert numbers["score"].tolist() == pytest.approx([np.mean([x + w for w in WOBBLE.values()]) for x in (0.40, 0.50, 0.55)])
    assert numbers["difference"].iloc[2] == pytest.approx(0.1) and numbers["verdict"].iloc[2] == "better"
    (sentence,) = sentences(rows)
    assert "idea scores 55.0%" in sentence and "45.0%" in sentence and "+10.0 [" in sentence and "better" in sentence
    greater = dataclasses.replace(rows[-1], one=dataclasses.replace(rows[-1].one, train_flops=1e10))
    assert sentences([*rows, greater]) == [*sentences([greater]), sentence]  # the greatest budget first
    assert sentence in words["toy.md"] and "&lt;b&gt;x&lt;/b&gt;" in words["toy.html"] and "<b>" not in words["toy.html"]
    assert r"55.0\%" in words["toy.tex"] and r"\begin{tabular}" in words["toy.tex"]
    assert frame(rows)["family"].tolist() == [True, True, False]
    facts = json.loads(words["toy.json"])
    assert facts["sentences"] == [sentence] and [table["name"] for table in facts["tables"]] == names[:-1]
    assert facts["tables"][0]["rows"][2][3] == "idea" and len(facts["runs"]) == 24 and facts["plots"] == ["plots/t/a.svg"]
    again = {p.name: p.read_text() for p in write(rows, [rows[0].one], tmp_path, tmp_path, **given)}
    assert again == words


def test_every_point_that_was_asked_has_a_row():
    """An arm of two points, the dearer worse on validation: the main table has the better one, the table of points has both."""
    arms = [FAMILY[0], Arm(strategy="idea", points={"n": [4, 16]})]
    asked = {(0, ""): (0.40, None, 100.0), (1, "n=16"): (0.45, 0.3, 900.0), (1, "n=4"): (0.55, 0.5, 200.0)}
    rows = made_rows(asked, arms=arms)
    assert shown(rows)["point"].tolist() == ["-", "n=4"]
    table = points([rows[0].one])
    assert table["arm"].tolist() == ["direct", "idea", "idea"] and table["point"].tolist() == ["-", "n=4", "n=16"]
    assert table["FLOPs a problem"].tolist() == ["100", "200", "900"] and set(table["seeds"]) == {"8"}
    assert table["of plain asking's"].tolist() == ["1x", "2x", "9x"]
    assert table["score [95%]"][2] == "45.0% [43.8, 46.2]"  # over seeds
    assert points([made_rows(CURVES)[0].one]).empty  # where the main table has them all
    lost = made_rows({key: how for key, how in asked.items() if key[0]}, arms=arms)  # plain asking's runs failed
    assert set(points([lost[0].one])["of plain asking's"]) == {"-"}


def test_a_single_seed_has_the_intervals_of_its_record(tmp_path):
    """Over problems, since there is nothing else; a coin of two points has none, and many seeds have theirs over seeds."""
    rows = made_rows(CURVES | {(2, ""): (0.55, None, 200.0)}, seeds=[2])
    for by in rows[0].one.curves["flops"].records.values():
        by[2]["metrics"]["accuracy"] |= {"low": 0.37, "high": 0.73}
    assert shown(rows)["score [95%]"][2] == "55.0% [37.0, 73.0]" and np.isnan(frame(rows)["comparator_score_low"][2])
    assert frame(rows)["score_low"].tolist() == [0.37] * 3
    (words,) = [p.read_text() for p in write(rows, [rows[0].one], tmp_path, tmp_path, suite="t", plots=[]) if p.name == "toy.md"]
    assert "Of a single seed" in words
    many = made_rows(CURVES)
    assert "Of a single seed" not in write(many, [many[0].one], tmp_path, tmp_path, suite="t", plots=[])[0].read_text()
    assert shown(many)["score [95%]"][2] == "55.0% [53.8, 56.2]"


def test_ways_to_ask_untrained_weights_are_held_against_each_other(tmp_path):
    """Learners of several strategies, one checkpoint, one of them searched; a trained one beside them has weights of its own."""
    rows = made_rows({(n, ""): (0.5, None, 100.0 + n) for n in range(4)}, arms=[Arm(strategy=s) for s in "abcd"], seeds=[0])
    right = {"a": "11100", "b": "10000", "c": "00011", "d": "11111"}
    for number, (name, by) in enumerate(rows[0].one.curves["flops"].records.items()):
        spec = make_spec(strategy="direct", task="arithmetic", settings={"train.problems_per_update": 8 + number})
        by[0] |= {"spec": spec.to_json(), "learner": name, "model": {"weights_sha256": "own" if name == "d" else "shared"}}
        by[0]["search"] = {} if name == "c" else None
        folder = run_folder(tmp_path, spec)
        folder.mkdir(parents=True)
        lines = [{"id": str(i), "weight": 1.0, "difficulty": 1, "flops": {}, "score": int(x)} for i, x in enumerate(right[name])]
        (folder / "problems.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    table = searchers(rows[0].one, tmp_path)
    assert list(zip(table["first"], table["second"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table["seed 0"].tolist() == ["2 / 0 (p 0.5)", "3 / 2 (p 1)", "1 / 2 (p 1)"]


def test_void_is_what_plain_training_is_whatever_is_equal():
    """One of the family is at the floor and, of all, needs the fewest passes: the baseline at equal passes is still plain."""
    row = last({(0, ""): (0.40, 0.42, 100.0, 10.0), (1, "n=2"): (0.06, 0.06, 300.0, 5.0), (2, ""): (0.60, None, 200.0, 10.0)})
    assert row.verdict.kind == "better" and row.shaky == ()


def test_a_verdict_that_flips_is_said():
    """At equal passes the comparator's votes cost nothing: the sentence and the table name what the verdict hangs on."""
    rows = made_rows(CURVES | {(1, "n=2"): (0.80, 0.80, 300.0, 5.0), (2, ""): (0.70, None, 200.0, 20.0)})
    (row,) = [row for row in rows if row.shaky]
    assert "at equal serial passes" in row.shaky
    assert "it flips at equal serial passes" in sentences([row])[0] and "serial passes" in shown([row])["flips"][0]


def test_ranks_are_leads_at_equal_cost():
    """An idea that leads by 10 points at equal FLOPs and trails at equal passes, beside one that is always 20 behind."""
    arms = [*FAMILY, Arm(strategy="idea"), Arm(strategy="worse")]
    curves = CURVES | {
        (1, "n=2"): (0.80, 0.80, 300.0, 5.0),
        (2, ""): (0.70, None, 200.0, 20.0),
        (3, ""): (0.2, None, 100.0, 10.0),
    }
    one = made_rows(curves, arms=arms)[0].one
    assert leads(one, "flops") == pytest.approx({2: 0.10, 3: -0.20}) and leads(one, "serial passes") == pytest.approx(
        {2: -0.10, 3: -0.60}
    )
    table = rankings([one])
    assert table["arm"].tolist() == ["idea", "worse"]
    assert table["at equal FLOPs"].tolist() == ["1 (+10.0)", "2 (-20.0)"]
    assert table["at equal serial passes"].tolist() == ["1 (-10.0)", "2 (-60.0)"]


def budgets(scores, idea):
    """A block at budgets of 1e9 and 3e9: plain training's scores there, and an idea's at the higher one."""
    arms = [Arm(strategy="direct", family=True), Arm(strategy="idea")]
    block = Block(task="toy", name="toy", arms=arms, train_flops=list(scores), seeds=list(SEEDS))
    found = {}
    for flops, seed in itertools.product(scores, SEEDS):
        for arm, score, split in ((0, scores[flops], "test"), (0, scores[flops], "validation"), (1, idea, "test")):
            place = Place(block=0, arm=arm, train_flops=flops, seed=seed, point="", split=split)
            found[Cell((flops, seed, arm, split), (place,))] = record(score, 100.0) | {
                "train": {"spent_flops": flops, "supervised_tokens": 7, "epochs": None, "pretraining": None}
            }
    every = measured(Grid(Suite(name="t", blocks=[block]), (tuple(arms),), (), tuple(found)), found)
    return [row for one in every for row in rows_of(one)], every


@pytest.mark.parametrize("idea,text", [(0.5, "1.0x"), (0.3, "0.33x"), (0.6, "> 1.0x"), (0.2, "< 0.34x"), (0.4, "0.58x")])
def test_compute_that_an_idea_saves(idea, text):
    """Plain training scores 30% at 1e9 and 50% at 3e9; the idea was given 3e9."""
    rows, every = budgets({1e9: 0.3, 3e9: 0.5}, idea)
    found = gain_of(rows[-1], every)
    assert found.median.text == text and len(found.by_seed) == 8
    table = worth(rows, every)
    assert table["arm"].tolist() == ["idea"] and table["compute-equivalent gain [95%]"][0].startswith(text)
    assert table["seeds at 90% or above"][0] == "0 of 8" and table["two groups of seeds"][0] == "no"


@pytest.mark.parametrize("scores,text", [({0.0: 0.1, 1e9: 0.3, 3e9: 0.5}, "1.0x"), ({0.0: 0.1, 3e9: 0.5}, None)])
def test_no_training_is_no_point_of_the_curve_of_gains(scores, text):
    """A curve over log FLOPs has no place for 0; budgets beside it tell the same as without it, and one alone tells nothing."""
    rows, every = budgets(scores, 0.5)
    found = gain_of(rows[-1], every)
    assert (found and found.median.text) == text
    assert rows[0].train_flops == 0 and gain_of(rows[0], every) is None  # what spent nothing has no ratio
    assert worth(rows, every)["compute-equivalent gain [95%]"][0].startswith(text or "-")


def test_the_cheapest_way_to_a_score():
    """The idea reaches plain training's score at a third of the training budget, at the same cost a question."""
    table = questions(*budgets({1e9: 0.3, 3e9: 0.5}, 0.5))
    assert table["cheapest"].tolist()[0] == "idea after 1e+09"
    assert table["questions"].tolist()[:2] == ["1e+03", "1e+04"] and table["FLOPs in all"].tolist()[0] == "1e+09"


@pytest.mark.parametrize(
    "changed,kind,named",
    [
        ({}, "better", True),
        (
            {(0, ""): (0.401, 0.401, 100.0), (2, ""): (lambda s: 0.4015 + WOBBLE[s] + (-1) ** s * 0.004, None, 99.0)},
            "equivalent",
            True,
        ),
        ({(2, ""): (lambda s: 0.30 + s % 2 * 0.25, None, 99.0)}, "inconclusive", False),
        ({(0, ""): (0.07, 0.07, 100.0), (1, "n=2"): (0.08, 0.08, 300.0)}, "void", False),
    ],
)
def test_the_cheapest_way_is_no_undecided_arm(changed, kind, named):
    """The idea scores more and costs less than plain asking in each case; only a decided verdict makes it the cheapest way."""
    suite_rows = made_rows({(0, ""): (0.40, 0.40, 100.0), (1, "n=2"): (0.41, 0.41, 300.0), (2, ""): (0.60, None, 99.0)} | changed)
    assert suite_rows[-1].verdict is not None and suite_rows[-1].verdict.kind == kind
    ways = set(questions(suite_rows, [suite_rows[0].one])["cheapest"])
    assert ("idea after 1e+09" in ways) == named and "none" not in ways


def test_a_coin_makes_neither_of_its_points_the_cheapest_way():
    """Between two points an idea is better at equal cost; the verdict is the mixture's, not either point's."""
    curves = {(0, ""): (0.40, 0.40, 100.0), (1, "n=2"): (0.41, 0.41, 300.0)}
    curves |= {(2, "n=1"): (0.60, 0.60, 99.0), (2, "n=2"): (0.80, 0.80, 300.0)}
    arms = [*FAMILY, Arm(strategy="idea", points={"n": [1, 2]})]
    for place, kind, named in (("flops:200", "better", False), ("flops:300", "better", True)):
        rows = made_rows(curves, arms=arms, infer=[place])
        assert rows[-1].verdict.kind == kind
        ways = " ".join(questions(rows, [rows[0].one])["cheapest"])
        assert ("idea" in ways) == named, place


@pytest.mark.slow
def test_pictures_are_drawn_for_every_budget_and_currency_and_repeat(tmp_path):
    arms = [*FAMILY, Arm(strategy="reasoning_tokens", points={"n": [1, 2]})]
    suite = Suite(name="t", blocks=[Block(task="toy", name="toy", arms=arms, train_flops=[1e9, 2e9], seeds=[0, 1])])
    found = {}
    for flops in (1e9, 2e9):
        for arm, point, score, cost in (
            (0, "", 0.4, 100.0),
            (1, "n=2", 0.5, 300.0),
            (2, "n=1", 0.45, 200.0),
            (2, "n=2", 0.6, 400.0),
        ):
            for seed, split in itertools.product((0, 1), ("test", "validation")):
                place = Place(block=0, arm=arm, train_flops=flops, seed=seed, point=point, split=split)
                found[Cell((arm, point, seed, split, flops), (place,))] = record(score + WOBBLE[seed], cost)
    grid = Grid(suite, (tuple(arms),), (), tuple(found))
    paths = draw(measured(grid, found), tmp_path, tmp_path)
    kinds = ("1e+09-flops", "1e+09-passes", "2e+09-flops", "2e+09-passes", "learning", "difficulty", "heat")
    assert {p.name for p in paths} == {f"toy-{kind}.{end}" for kind in kinds for end in ("png", "svg")}
    before = {p: p.read_bytes() for p in paths}
    assert all(data.startswith(b"\x89PNG") or b"<svg" in data for data in before.values())
    words = (tmp_path / "toy-1e+09-flops.svg").read_text()
    assert "comparator" in words and "reasoning_tokens" in words and "right answers" in words  # text stays text
    draw(measured(grid, found), tmp_path, tmp_path)
    assert before == {p: p.read_bytes() for p in paths}


def test_arms_of_one_strategy_share_a_colour_and_differ(tmp_path):
    looks_ = looks([Arm(strategy="reasoning_tokens"), Arm(strategy="reasoning_tokens", name="b"), Arm(strategy="pause_tokens")])
    assert looks_[0]["color"] == looks_[1]["color"] and looks_[0] != looks_[1]
    assert (looks_[0]["color"], looks_[0]["marker"]) != (looks_[2]["color"], looks_[2]["marker"])
    every = [tuple(look_of(name).items()) for name in names("strategy")]
    assert len(set(every)) == len(every)  # no two strategies look alike


def test_anytime_compares_the_best_of_each_cap():
    """At a place only its own runs count, and there is no coin: votes are better within x2, plain asking within x1."""
    arms = [*FAMILY, Arm(strategy="idea")]
    block = Block(task="toy", name="toy", arms=arms, train_flops=[1e9], seeds=list(SEEDS), infer=["x1", "x2"], anytime=True)
    told = {("x1", 0): (0.4, 100.0), ("x1", 1): (0.3, 90.0), ("x1", 2): (0.5, 80.0)}
    told |= {("x2", 0): (0.4, 100.0), ("x2", 1): (0.6, 180.0), ("x2", 2): (0.5, 80.0)}
    found = {}
    for ((cap, arm), (score, cost)), seed, split in itertools.product(told.items(), SEEDS, ("test", "validation")):
        place = Place(block=0, arm=arm, train_flops=1e9, seed=seed, point="", split=split, cap=cap)
        found[Cell((cap, arm, seed, split), (place,))] = record(score + WOBBLE[seed], cost)
    (one,) = measured(Grid(Suite(name="t", blocks=[block]), (tuple(arms),), (), tuple(found)), found)
    rows = [row for row in rows_of(one) if row.arm.strategy == "idea"]
    assert [row.target for row in rows] == [100.0, 200.0] and [row.comparator.cost for row in rows] == [100.0, 180.0]
    assert [row.verdict.kind for row in rows] == ["better", "worse"]
    assert [row.comparator.mixture.dear_share for row in rows] == [0.0, 0.0]


def test_corners_are_chosen_on_validation_and_stand_where_they_cost_on_test():
    """Validation's problems are longer: plain asking costs 110 there and 100 on test, an idea that costs 99 is as cheap."""
    arms = [Arm(strategy="direct", family=True), Arm(strategy="idea"), Arm(strategy="cheap")]
    block = Block(task="toy", name="toy", arms=arms, train_flops=[1e9], seeds=list(SEEDS))
    told = {(0, "test"): 100.0, (0, "validation"): 110.0, (1, "test"): 99.0, (2, "test"): 97.0}
    found = {}
    for ((arm, split), cost), seed in itertools.product(told.items(), SEEDS):
        place = Place(block=0, arm=arm, train_flops=1e9, seed=seed, point="", split=split)
        found[Cell((arm, split, seed), (place,))] = record(0.5 + WOBBLE[seed], cost)
    (one,) = measured(Grid(Suite(name="t", blocks=[block]), (tuple(arms),), (), tuple(found)), found)
    rows = {row.arm.strategy: row for row in rows_of(one)}
    assert rows["direct"].at.cost == 100.0 == rows["idea"].comparator.cost and rows["idea"].verdict is not None
    assert rows["cheap"].comparator is None and rows["cheap"].verdict is None


def test_an_interval_of_shares_stays_within_them():
    rows = made_rows(CURVES | {(2, ""): (lambda s: 1.0 if s else 0.6, None, 200.0)})
    assert shown([rows[-1]])["score [95%]"][0].endswith(", 100.0]") and frame(rows)["score_high"].iloc[-1] == 1.0
