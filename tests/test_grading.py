"""What a model may say is any text: no task's grade, form for votes, checker or search oracle raises, and keys are right."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval_made import made_spec, write_tasks

from harness import registry
from harness.settings import build
from harness.task import SPLITS, Task

SAID = st.text(max_size=30) | st.text(st.characters(), max_size=10)  # the latter with halves of surrogate pairs
FORMED = st.text("0123456789+-*/()=><;:|., x\n\tabcTF#$\\", max_size=60)
ANSWERS = SAID | FORMED | FORMED.map(lambda text: f"The answer is {text}")
LINES = st.lists(ANSWERS | st.sampled_from(["8-2=6 (left: 3 6)", "1/0=1 (left: 1)", "2-8=-6 (left: 3 -6)"]), max_size=3)
MADE = ("gen", "drawn", "corpus", "again", "choice", "likely")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    """All tasks that pose questions, and some of lm-eval."""
    folder = tmp_path_factory.mktemp("tasks")
    found: dict[str, Task] = {}
    for name in registry.names("task"):
        kind = registry.find("task", name)
        if kind.kind == "questions":
            found[name] = build(kind, kind.example(folder), prefix="task")
    place = write_tasks(tmp_path_factory.mktemp("lm_eval_tasks"))
    return found | {f"lm_eval:{name}": made_spec(name, place).task for name in MADE}


NAMES = [name for name in registry.names("task") if registry.find("task", name).kind == "questions"]


@pytest.mark.parametrize("name", [*NAMES, *(f"lm_eval:{name}" for name in MADE)])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWERS, lines=LINES, at=st.integers(0, 2))
def test_no_text_raises(tasks: dict[str, Task], name: str, answer: str, lines: list[str], at: int) -> None:
    task = tasks[name]
    problem = task.problems("train", seed=0, start=0, count=3)[at]
    grade = task.grade(problem, answer)
    assert 0 <= grade <= 1 and grade == task.grade(problem, answer)
    assert isinstance(task.canonical(answer), str)
    assert task.leads_on(problem, lines) in (True, False)
    if "checker" in task.offers():
        assert task.solves(str(problem.question.text), answer) == (grade == 1)
    else:
        with pytest.raises(NotImplementedError):
            task.solves(str(problem.question.text), answer)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANSWERS)
def test_a_typed_question_is_one_or_refused(tasks: dict[str, Task], name: str, text: str) -> None:
    """What `parse` lets through is a question to it again."""
    task = tasks[name]
    try:
        parsed = task.parse(text)
    except ValueError as error:
        assert "legal" in str(error)
        return
    assert task.parse(parsed) == parsed


@pytest.mark.parametrize("name", [*NAMES, *(f"lm_eval:{name}" for name in MADE)])
def test_keys_score_and_nothing_does_not(tasks: dict[str, Task], name: str) -> None:
    task = tasks[name]
    for split in SPLITS:
        for problem in task.problems(split, seed=0, start=0, count=3):
            answer = str(problem.key.answer)
            assert task.grade(problem, answer) == 1 and task.grade(problem, None) == task.grade(problem, "") == 0
            assert task.leads_on(problem, ()) and task.leads_on(problem, problem.key.lines[:1])
