"""What the YAML files beside this one share: our tasks' problems as documents of lm-eval, and their grades.

lm-eval imports this file by its place. A document holds what its question is to our own task, so that a model of ours poses it as
`run` does. Knows lm-eval's forms of documents; runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bridged import OURS
from harness.plugin_spec import plugin_from_json, plugin_json
from harness.problem import Key, Problem, Question
from harness.records import read_run
from harness.registry import find
from harness.settings import build
from harness.task import Task

if TYPE_CHECKING:
    from datasets import DatasetDict

PROBLEMS, SHOTS = 2000, 64  # test problems where nobody says how many; train problems that examples are drawn from


def load(*, harness_task: str, **given: Any) -> DatasetDict:
    """A task's test problems, and some of its train split for examples.

    Which: those of the run that is scored (``pretrained`` in model_args), if it is of this task; else what ``--metadata`` says:
    seed, problems, and ``task.NAME`` settings.
    """
    from datasets import Dataset, DatasetDict

    task, seed, count = _chosen(harness_task, given)
    if task.kind == "documents":
        texts = [{"text": document.text} for document in task.documents("test")[:count]]
        return DatasetDict({"test": Dataset.from_list(texts)})
    test, train = (task.problems(split, seed=seed, start=0, count=n) for split, n in (("test", count), ("train", SHOTS)))  # type: ignore[arg-type]
    return DatasetDict({name: Dataset.from_list(_rows(task, some)) for name, some in (("test", test), ("train", train))})


def _chosen(name: str, given: Mapping[str, Any]) -> tuple[Task, int, int]:
    """The task, the seed and how many problems."""
    spec = _spec_of_run(str(given.get("pretrained", "")))
    settings = {k.removeprefix("task."): v for k, v in given.items() if k.startswith("task.")}
    mine = spec is not None and spec["task"]["name"] == name and not settings
    task = (
        plugin_from_json("task", spec["task"], prefix="task")
        if mine and spec
        else build(find("task", name), settings, prefix="task")
    )
    seed, count = (spec["seed"], spec["infer"]["problems"]) if mine and spec else (0, PROBLEMS)
    return task, int(given.get("seed", seed)), int(given.get("problems", count))


def _spec_of_run(pretrained: str) -> dict[str, Any] | None:
    """The spec in a run's record; None if this is no run of ours."""
    path = Path(pretrained) / "run.json"
    if not pretrained or not path.is_file():
        return None
    spec: dict[str, Any] = read_run(path.parent)["spec"]
    return spec


def _rows(task: Task, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    named = plugin_json(task)
    return [_row(named, problem) for problem in problems]


def _row(task: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    question, key = problem.question, problem.key
    facts = {"task": task, "id": question.id, "text": question.text, "answer": key.answer, "difficulty": problem.difficulty}
    facts |= {"answer_cap_tokens": question.answer_cap_tokens, "lines_cap_tokens": question.lines_cap_tokens}
    return {
        "question": question.text,
        "answer": key.answer,
        "steps": "; ".join(key.lines),
        "difficulty": problem.difficulty,
        "weight": problem.weight,
        OURS: json.dumps(facts, sort_keys=True),
    }


@lru_cache(maxsize=8)
def _task_of(named: str) -> Task:
    made: Task = plugin_from_json("task", json.loads(named), prefix="task")
    return made


def graded(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Our own grade: as it is, and with the problem's weight in the headline's mean."""
    facts = json.loads(document[OURS])
    question = Question(facts["id"], facts["text"], facts["answer_cap_tokens"], facts["lines_cap_tokens"])
    problem = Problem(question, Key(facts["answer"]), facts["difficulty"], document["weight"])
    score = _task_of(json.dumps(facts["task"], sort_keys=True)).grade(problem, results[0])
    return {"exact_match": score, "accuracy": (score, document["weight"])}


def weighted_mean(scored: Sequence[tuple[float, float]]) -> float:
    """The headline's mean."""
    return sum(score * weight for score, weight in scored) / sum(weight for _, weight in scored)
