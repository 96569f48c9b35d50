"""Groups and tags of lm-eval as one task: lm-eval's own numbers of the group, its subgroups and its tasks, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval_made import GENERATE, SHARED, TASKS, made_run, theirs_of, write_tasks
from lm_eval_made import TINY as SMALL

from harness import cli, records, summary
from harness.jsonl import lines_of
from harness.lm_eval_bridge import ThinkingLM
from harness.recheck import recheck
from harness.runs import run
from harness.spec import make_spec
from tasks._lm_eval_loading import _from

GROUPS = """
group: made_inner
task: [made_choice, made_few]
aggregate_metric_list: [{metric: acc, weight_by_size: true}, {metric: acc_norm, weight_by_size: false}]
---
group: made_all
task: [made_inner, made_likely]
aggregate_metric_list: [{metric: acc, weight_by_size: false}]
---
group: made_mixed
task: [made_text, made_likely]
---
group: made_tagged
task: [made_likely, made_worn]
---
group: made_said
task: [made_gen, made_letter]
aggregate_metric_list: [{metric: exact_match, weight_by_size: true, filter_list: [strict]}]
"""
MEMBERS = {"made_choice": 9, "made_few": 4, "made_likely": 9}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tasks(tmp_path_factory.mktemp("lm_eval_groups"))
    few = b"".join(line + b"\n" for line in [*lines_of(folder / "test.jsonl")][3:7])
    (folder / "few.jsonl").write_bytes(few)
    shared = SHARED % {"folder": folder}
    (folder / "few.yaml").write_text(
        f"task: made_few{shared.replace('test.jsonl', 'few.jsonl')}{TASKS['choice']}\ntag: [made_worn]\n"
    )
    with open(folder / "choice.yaml", "a") as choice:
        choice.write("tag: made_worn\n")
    letter = GENERATE.replace("{{word}}", "{{odd}}")
    (folder / "letter.yaml").write_text(
        f"task: made_letter{shared}{letter}filter_list: [{{name: strict, filter: [{{function: take_first}}]}}]\n"
    )
    for at, text in enumerate(GROUPS.split("---")):
        (folder / f"group{at}.yaml").write_text(text)
    return folder


def group_spec(name: str, folder: Path, strategy: str = "direct", **settings: Any) -> Any:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return make_spec(
        strategy=strategy, task=f"lm_eval:{name},include_path={folder}",
        settings=SMALL | {"train.flops": 8e7, "task.window_tokens": 64} | given,
    )  # fmt: skip


def test_numbers_are_lm_evals(place: Path, tmp_path: Path) -> None:
    """Of tasks of unequal sizes, within a subgroup, by size and each alike."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    spec = group_spec("made_all", place, task__limit=6)
    record, folder = run(spec, results=tmp_path), records.run_folder(tmp_path, spec)
    manager = TaskManager(include_path=[str(place)], include_defaults=False)
    model = ThinkingLM(str(folder), responses=False, trust_plugins=True)
    found = lm_eval.simple_evaluate(model=model, tasks=["made_all"], task_manager=manager, bootstrap_iters=0, limit=6)
    theirs = {
        ("" if name == "made_all" else f"{name}/") + metric: value
        for name, by in {**found["results"], **found["groups"]}.items()
        for metric, value in by.items()
        if "," in metric and "_stderr" not in metric
    }
    assert theirs_of(record) == theirs and {"acc,none", "made_inner/acc,none", "made_few/brier_score,none"} <= theirs.keys()
    assert theirs["made_inner/acc,none"] != theirs["acc,none"]
    checked = recheck(folder)
    assert checked.problems == () and not any("made_few/acc" in words for words in checked.left_out)
    lines = records.read_lines(folder)
    headline, plain = record["metrics"]["accuracy"], sum(line["score"] for line in lines) / 16
    assert headline["value"] == pytest.approx(theirs["acc,none"]) != pytest.approx(plain) and headline["low"] < headline["high"]
    assert record["metrics"]["acc,none"]["aggregation"] == "mean of tasks"
    lines[1]["metrics"]["acc,none"] += 1
    changed = summary.metrics(lines, kind="requests", outputs=record["model"]["outputs"], theirs=record["metrics"])
    assert {name for name in changed if changed[name] != record["metrics"][name]} == {"made_few/acc,none", "acc,none"}
    assert lines[1]["id"] == "made_few/0" and lines[1]["weight"] == pytest.approx(16 / (3 * 4))
    inner = run(group_spec("made_inner", place), results=tmp_path)["metrics"]
    assert inner["accuracy"]["value"] == pytest.approx(inner["acc,none"]["value"]) and inner["acc,none"]["low"] is not None
    assert inner["acc_norm,none"]["aggregation"] == "theirs: mean of tasks"  # scores count by size


def test_documents_are_asked_in_turn(place: Path) -> None:
    task = group_spec("made_all", place).task
    ids = [one.id for one in task.inquiries("test", count=99)]
    assert ids[:6] == [f"{name}/{at}" for at in (0, 1) for name in MEMBERS]
    assert sorted(ids) == sorted(f"{name}/{at}" for name, count in MEMBERS.items() for at in range(count))
    assert [one.id for one in task.inquiries("test", count=4)] == ids[:4]
    some = group_spec("made_all", place, task__limit=2).task
    assert len(some.inquiries("test", count=99)) == 6
    assert len(some.inquiries("validation", count=99)) == len(task.inquiries("validation", count=99)) > 6  # of test's alone
    alone = {f"made_few/{one.id}": one for one in group_spec("made_few", place).task.inquiries("test", count=99)}
    for one in task.inquiries("test", count=99):
        if one.id in alone:
            assert [r.args for r in one.requests] == [r.args for r in alone[one.id].requests]
    facts = task.provenance()
    assert facts["task"] == "made_all" and {name: one["documents"]["test"] for name, one in facts["tasks"].items()} == MEMBERS


def test_all_of_its_tasks_teach(place: Path) -> None:
    task = group_spec("made_said", place).task
    lessons = task.problems("train", seed=0, start=0, count=108)
    assert {p.question.id.partition("-")[2].partition("/")[0] for p in lessons} == {"made_gen", "made_letter"}
    assert len({p.question.id for p in lessons}) == 108 and lessons == task.problems("train", seed=0, start=0, count=108)
    for problem in lessons[:12]:  # by its own task's metric: its key is right, the other's is not
        assert task.grade(problem, problem.key.answer) == 1.0 and task.grade(problem, "z") == 0.0
    assert {p.key.answer for p in lessons} == {"a", "b", "0", "1"}


@pytest.mark.parametrize(("strategy", "more"), [("self_consistency", {"strategy__samples": 3}), ("pause_tokens", {})])
def test_strategies_are_asked_it(strategy: str, more: dict[str, Any], place: Path, tmp_path: Path) -> None:
    spec = group_spec("made_said", place, strategy, infer__problems=6, **more)
    record = run(spec, results=tmp_path)
    assert record["metrics"]["accuracy"]["n"] == 6 and recheck(records.run_folder(tmp_path, spec)).problems == ()
    assert theirs_of(record)["exact_match,strict"] == pytest.approx(record["metrics"]["accuracy"]["value"])


def test_one_of_it_is_the_task_itself(place: Path, tmp_path: Path) -> None:
    alone, _ = made_run("likely", place, tmp_path)
    within = run(group_spec("made_all/made_likely", place), results=tmp_path)
    assert theirs_of(within) == theirs_of(alone)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            "made_all/made_gen",
            "made_all has no task 'made_gen'; legal: made_all/made_choice, made_all/made_few, made_all/made_likely",
        ),
        ("made_mixed", "made_text by nats, made_likely by acc,none"),
    ],
)
def test_mistakes_are_one_line(typed: str, words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"run --strategy direct --set train.flops=0 --set model.size=xs --results {tmp_path} --task"
    assert cli.main([*line.split(), f"lm_eval:{typed},include_path={place}"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("error: ") and words in told[0]


def test_nats_compare_all_kinds(place: Path, tmp_path: Path) -> None:
    spec = group_spec("made_mixed", place, task__score="nats", train__flops=0)
    record = run(spec, results=tmp_path)
    assert next(iter(record["metrics"])) == "nats_per_token"
    assert json.loads(json.dumps(record["metrics"]))["made_text/bits_per_byte,none"]["value"] > 0


def test_a_part_of_the_index_does_not_do_for_a_tag(place: Path) -> None:
    """Tasks anywhere in the library may wear it."""
    folders = [str(place)]
    assert _from("made_worn", folders, {}, whole=False) is None and _from("made_tagged", folders, {}, whole=False) is None
    tasks, group = _from("made_all", folders, {}, whole=False) or ({}, None)
    assert list(tasks) == list(MEMBERS) and group.name == "made_all"
    assert _from("made_worn/made_few", folders, {}, whole=False) is not None


@pytest.mark.slow
def test_a_tag_is_all_that_wear_it(place: Path, tmp_path: Path) -> None:
    spec = group_spec("made_worn", place, train__flops=0)
    assert {one.id.partition("/")[0] for one in spec.task.inquiries("test", count=2)} == {"made_few", "made_choice"}
    record = run(spec, results=tmp_path)
    scores = [line["score"] for line in records.read_lines(records.run_folder(tmp_path, spec))]
    assert record["metrics"]["accuracy"]["value"] == pytest.approx(sum(scores) / 13)
    assert "acc,none" not in record["metrics"] and "made_few/acc,none" in record["metrics"]
