"""Conformance: every check passes on every plugin, and catches a plugin that breaks its promise."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import broken
import pytest

import harness
from harness import registry
from harness.check import CheckResult, check_file, check_names, run_checks
from harness.checks.runner import TASK_CHECKS

SUMS = "harness.checks.outsider:Sums"
STRATEGIES, TASKS = registry.names("strategy"), registry.names("task")
OUTSIDER = '''"""An outsider's idea: one thought after each text token."""

from dataclasses import dataclass

import numpy as np

from harness.strategy import TEXT, THOUGHT, Strategy, Woven, plain_weave, setting
{imports}

@dataclass(frozen=True, kw_only=True)
class MyIdea(Strategy):
    """One thought after each text token, seen by later ones."""

    source = "own"
    extra: int = setting(1, doc="thoughts a token", low=0, high=4)

    def weave(self, ids, roles, places):
        n = 1 + self.extra
        source = np.repeat(np.arange(len(ids)), n)
        slot = np.tile(np.arange(n), len(ids))
        nothing = plain_weave(source, source).added
        embed = np.where(slot > 0, -1, ids[source])
        return Woven(source, np.where(slot > 0, THOUGHT, TEXT), embed, nothing, places[source], slot, slot == 0, slot == 0)
{more}
'''
LEAK = """
    def sight(self, q, k, heads):
        import torch

        return Sight(look=torch.ones(q.index.shape[0], 1, q.index.shape[1], k.index.shape[1], dtype=torch.bool))
"""


def failures(results: list[CheckResult]) -> list[str]:
    return [f"{r.check} ({r.strategy}, {r.task}): {r.message}" for r in results if r.status == "failed"]


TRAINED = {"memorises", "random_tokens_teach_nothing", "same_seed_same_weights", "resumes"}
OF_STRATEGIES = set(check_names()) - {check.__name__ for check in TASK_CHECKS}  # tasks have a test of their own
EVERYDAY_TASKS = ["arithmetic", "language_model"]  # the full cross is slow


@pytest.mark.parametrize("name", TASKS)
def test_every_check_passes_on_every_task(name: str) -> None:
    assert not failures(run_checks(strategies=[], tasks=[name]))


# One of each way of asking every day; the others, which cost as much again three times over, in CI.
EVERYDAY = ("direct", "reasoning_tokens", "side_targets")


@pytest.mark.parametrize("name", [n if n in EVERYDAY else pytest.param(n, marks=pytest.mark.slow) for n in STRATEGIES])
def test_every_check_passes_on_every_strategy(name: str) -> None:
    told: list[CheckResult] = []
    results = run_checks(strategies=[name], tasks=EVERYDAY_TASKS, training="none", report=told.append)
    assert not failures(results)
    assert told == results
    json.dumps([r.to_json() for r in results])
    assert {r.task for r in results if r.check in ("cached_is_whole", "needs")} == set(EVERYDAY_TASKS)
    if name == "reasoning_tokens":  # it has every optional part that a check looks at
        assert set(check_names()) - {r.check for r in results if r.status == "passed"} == TRAINED


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_check_passes_on_every_strategy_with_every_task(name: str) -> None:
    others = [t for t in TASKS if t not in EVERYDAY_TASKS]  # variants are seen above
    found = run_checks(strategies=[name], tasks=others, training="none", only=OF_STRATEGIES, variants=False)
    assert not failures(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_training_check_passes_on_two_tasks(name: str) -> None:
    results = run_checks(strategies=[name], tasks=[*EVERYDAY_TASKS, "file"], training="two", only=TRAINED)
    assert not failures(results)
    assert all(sum(r.check == c for r in results) == 2 for c in TRAINED)


def test_every_check_is_documented() -> None:
    assert all(doc.endswith(".") for doc in check_names().values())


def test_there_is_a_broken_plugin_for_every_check() -> None:
    caught = {c for checks in (*broken.STRATEGIES.values(), *broken.TASKS.values()) for c in checks}
    assert caught | {"file_name"} == set(check_names())


@pytest.mark.parametrize("name,checks", broken.STRATEGIES.items(), ids=broken.STRATEGIES)
def test_a_broken_strategy_is_caught(name: str, checks: tuple[str, ...]) -> None:
    results = run_checks(strategies=[f"broken:{name}"], tasks=[SUMS], training="one", only=checks)
    assert {r.check for r in results if r.status == "failed"} == set(checks), results
    assert all(len(r.message) > 20 for r in results if r.status == "failed")


@pytest.mark.parametrize("name,checks", broken.TASKS.items(), ids=broken.TASKS)
def test_a_broken_task_is_caught(name: str, checks: tuple[str, ...]) -> None:
    results = run_checks(strategies=["harness.strategy:Strategy"], tasks=[f"broken:{name}"], only=checks)
    assert {r.check for r in results if r.status == "failed"} == set(checks), results
    assert all(len(r.message) > 20 for r in results if r.status == "failed")


def test_what_the_broken_tasks_are_made_of_is_sound() -> None:
    results = run_checks(strategies=[], tasks=["broken:Base"])
    assert not failures(results)


def test_a_file_named_otherwise_is_caught(tmp_path: Path) -> None:
    text = OUTSIDER.format(imports="", more="")
    for name, status in (("my_idea.py", "passed"), ("other.py", "failed")):
        (tmp_path / name).write_text(text)
        (result,) = run_checks(strategies=[str(tmp_path / name)], tasks=[], only=["file_name"])
        assert result.status == status
    assert "my_idea.py" in result.message and "Other" in result.message


def test_a_known_failure_is_told_with_its_reason() -> None:
    (result,) = run_checks(strategies=["broken:Admitted"], tasks=[SUMS], only=["no_leak_in_training"])
    assert (result.status, result.message) == ("known", "it is meant to")


def test_a_declared_failure_that_passes_or_does_not_exist_is_a_failure() -> None:
    results = run_checks(strategies=["broken:AdmitsTooMuch"], tasks=[SUMS], only=["no_leak_in_training"])
    passed, stale, unknown = results
    assert passed.status == "passed"
    assert stale.status == unknown.status == "failed"
    assert "remove it" in stale.message and "no_such_check" in unknown.message


def test_a_strategy_is_not_run_where_its_needs_are_not_met() -> None:
    results = run_checks(strategies=["broken:Needy"], tasks=[SUMS], only=["cached_is_whole"])
    assert [(r.status, r.message) for r in results] == [("skipped", "the task does not offer miracles")]


def test_unknown_names_are_one_clear_error() -> None:
    with pytest.raises(ValueError, match=r"unknown check .*did you mean cached_is_whole"):
        run_checks(strategies=[], tasks=[], only=["cached_is_hole"])
    with pytest.raises(ValueError, match="unknown strategy"):
        run_checks(strategies=["dirct"], tasks=[])


def test_an_outsiders_file_is_looked_at_within_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "my_idea.py"
    path.write_text(OUTSIDER.format(imports="", more=""))
    report = check_file(path)
    assert report.passed, [c for c in report.checks if c.status == "failed"]
    assert report.seconds < 60
    assert report.leaks == {"training": False, "asking": False}
    gradient = {g.distance: g for g in report.gradient}
    assert set(gradient) == set(range(1, 9))
    assert gradient[1].thoughts == 0.0  # x_{i+1} is read before the thought is there
    assert all(gradient[k].thoughts > 0 for k in range(2, 9)) and gradient[1].text > 0
    assert report.ledger["woven_tokens"] == report.ledger["text_tokens"] - 1  # the last thought is owed, never fed
    assert report.asking_multiple == pytest.approx(2.0, abs=0.1) and report.training_multiple == pytest.approx(2.0, abs=0.1)
    assert json.loads(json.dumps(report.to_json()))["passed"] is True


def test_an_outsiders_file_that_weaves_nothing_has_no_thoughts(tmp_path: Path) -> None:
    path = tmp_path / "my_idea.py"
    path.write_text(OUTSIDER.format(imports="", more="").replace("def weave", "def unused"))
    report = check_file(path)
    assert report.passed
    assert all(g.thoughts is None and g.text > 0 for g in report.gradient)
    assert report.asking_multiple == report.training_multiple == 1.0


def test_an_outsiders_file_that_leaks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "my_idea.py"
    path.write_text(OUTSIDER.format(imports="from harness.strategy import Sight", more=LEAK))
    report = check_file(path)
    assert not report.passed
    assert report.leaks == {"training": True, "asking": True}
    assert {g.distance: g for g in report.gradient}[1].thoughts > 0


def test_a_file_that_cannot_be_measured_still_gives_its_checks(tmp_path: Path) -> None:
    path = tmp_path / "my_idea.py"
    path.write_text(OUTSIDER.format(imports="", more="\n    def forward(self, backbone, cells, slots):\n        return oops\n"))
    report = check_file(path)
    assert not report.passed and report.leaks == {"training": None, "asking": None}
    assert report.gradient == () and report.training_multiple is None
    assert any("NameError" in c.message for c in report.checks)


@pytest.mark.parametrize(
    "text,match", [("x = 1\n", "exactly one class"), ("import nowhere\n", "cannot be imported"), (None, "no file")]
)
def test_a_file_without_a_strategy_is_one_clear_error(tmp_path: Path, text: str | None, match: str) -> None:
    path = tmp_path / f"bad_{match.split()[0]}.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=match):
        check_file(path)


def test_the_harness_names_no_plugin() -> None:
    """Strings in harness/ that are a plugin's name: a loop that needs one is missing a hook."""
    names = {*STRATEGIES, *TASKS} - {"file"}  # an ordinary word, in click's arguments for one
    found = []
    for path in sorted(Path(harness.__file__).parent.rglob("*.py")):
        if path.name.startswith("bench"):  # its workloads are fixed by what is measured, not chosen by a hook
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in names:
                found.append(f"{path.name}:{node.lineno}: {node.value!r}")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", None) or node.names[0].name
                if module.partition(".")[0] in ("strategies", "tasks"):
                    found.append(f"{path.name}:{node.lineno}: imports {module}")
    assert not found


@pytest.mark.slow
def test_targets_are_columns_of_the_head(tmp_path: Path) -> None:
    """A strategy that may say one special of several, which is not the first: it must learn to say that one."""
    path = tmp_path / "my_idea.py"
    more = """
    def needs(self):
        return frozenset({"worked_lines"})

    def sayable(self):
        return (EOT,)

    def lessons(self, problem, *, progress, rng):
        text = super().lessons(problem, progress=progress, rng=rng)[0]
        return [(text[0], Piece(EOT, "answer", True), *text[1:])]

    def read(self, completion):
        return completion.text.removeprefix("<eot>") if completion.text.startswith("<eot>") else None

    def attempt(self, question, row, sampler):
        return (yield Generate(row, question.answer_cap_tokens + 1, sampler))
"""
    imports = "from harness.problem import EOT, Piece\nfrom harness.wants import Generate"
    path.write_text(OUTSIDER.format(imports=imports, more=more))
    results = run_checks(strategies=[str(path)], tasks=[SUMS], training="one")
    assert not failures([r for r in results if r.strategy])


def test_a_target_that_cannot_be_said_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "my_idea.py"
    more = """
    def lessons(self, problem, *, progress, rng):
        return [(*super().lessons(problem, progress=progress, rng=rng)[0], Piece(EOT, "answer", True))]
"""
    path.write_text(OUTSIDER.format(imports="from harness.problem import EOT, Piece", more=more))
    (result,) = run_checks(strategies=[str(path)], tasks=[SUMS], training="one", only=["same_seed_same_weights"])
    assert result.status == "failed" and "sayable()" in result.message
