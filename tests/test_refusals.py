"""Which errors are one line and exit code 2: those that we and plugins raise for users, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.cli import main
from harness.refusal import is_refusal
from harness.spec import from_json, make_spec

TINY = ["--set", "model.size=xs", "--set", "model.width=16", "--set", "model.heads=2", "--set", "model.layers=1"]
RUN = ["run", "--task", "arithmetic", *TINY, "--set", "train.problems_per_update=8", "--problems", "4", "--train-flops", "2e7"]
PLUGIN = '''
"""A strategy of somebody else's."""
import multiprocessing
from dataclasses import dataclass
import numpy as np
from harness.strategy import Strategy, setting
import {helper}

@dataclass(frozen=True, kw_only=True)
class Theirs(Strategy):
    """Fails as its setting says."""
    source = "tests"
    how: str = setting("raise", doc="how it fails")

    def __post_init__(self):
        if self.how == "early":
            raise ValueError("how: early is not legal here")
        if self.how == "library, early":
            np.zeros(3).reshape(2, 2)

    def solve(self, question):
        if self.how == "raise":
            raise ValueError("how: raise is not legal here")
        if self.how == "helper":
            {helper}.refuse()
        if self.how != "worker" or multiprocessing.parent_process() is not None:
            np.zeros(3).reshape(2, 2)
        return (yield from super().solve(question))
'''
HELPER = 'def refuse():\n    raise ValueError("how: helper is not legal here")\n'


def caught(function: Callable[[], Any]) -> ValueError:
    with pytest.raises(ValueError) as found:
        function()
    return found.value


def _ours() -> None:
    make_spec(strategy="nothing", task="arithmetic")


def _wrapped() -> None:
    make_spec(strategy="direct", task="arithmetic", settings={"train.flops": "many"})


def _of_a_library() -> None:
    json.loads("{")


def _of_a_library_in_c() -> None:
    from harness.hulls import Point

    Point(flops=np.zeros(3).reshape(2, 2), score=1.0, name="x")  # type: ignore[arg-type]


def test_frames_tell_whose_an_error_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours by a raise of ours, also where a library's was the reason; a library's by its frame, or by there being no raise."""
    assert is_refusal(caught(_ours)) and is_refusal(caught(_wrapped)) and is_refusal(ValueError("not raised yet"))
    assert not is_refusal(caught(_of_a_library)) and not is_refusal(caught(_of_a_library_in_c))
    assert is_refusal(caught(_of_a_library), also=("json",)) is False  # json.loads is left by code in C
    from harness import stats

    monkeypatch.setattr(stats, "share", lambda *_: int("x"))
    assert not is_refusal(caught(lambda: stats.share([], [])))


def _theirs(folder: Path) -> Path:
    helper = f"helper_{abs(hash(str(folder)))}"
    (folder / f"{helper}.py").write_text(HELPER)
    (folder / "theirs.py").write_text(PLUGIN.replace("{helper}", helper))
    return folder / "theirs.py"


@pytest.mark.parametrize("how", ["raise", "early", "helper"])
def test_a_plugins_own_error_is_a_refusal(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Raised in its methods, in its constructor, or in a file beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    argv = [*RUN, "--strategy", str(_theirs(tmp_path)), "--results", str(tmp_path / "r"), "--set", f"strategy.how={how}"]
    assert main(argv) == 2
    assert f"how: {how} is not legal here" in capsys.readouterr().err.splitlines()[-1]


def test_a_librarys_error_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a plugin, and where it happens in ours; not exit code 2."""
    monkeypatch.syspath_prepend(str(tmp_path))
    argv = [*RUN, "--strategy", str(_theirs(tmp_path)), "--results", str(tmp_path / "r")]
    for how in ("library", "library, early"):
        with pytest.raises(ValueError, match=r"^cannot reshape"):
            main([*argv, "--set", f"strategy.how={how}"])

    import torch

    space: dict[str, Any] = {"__name__": "torch.elsewhere"}
    exec(compile("def broken(*_, **__):\n    raise ValueError('a fault of a library')", "/lib/torch/elsewhere.py", "exec"), space)
    monkeypatch.setattr(torch.optim, "AdamW", space["broken"])
    with pytest.raises(ValueError, match="a fault of a library"):
        main([*RUN, "--strategy", "direct", "--results", str(tmp_path / "r")])


@pytest.mark.parametrize(("package", "how"), [("lm_eval.config", "told"), ("datasets.load", "raised"), ("harness.x", "told")])
def test_what_lm_eval_refuses_is_a_refusal_of_its_command(package: str, how: str) -> None:
    """Its arguments go to it as they are typed; what its libraries raise is none."""
    from harness.lm_eval_door import _refusals_of_lm_eval

    space: dict[str, Any] = {"__name__": package}
    exec(compile("def refuse():\n    raise ValueError('Tasks not found')", "/lib/elsewhere.py", "exec"), space)

    def refused() -> None:
        with _refusals_of_lm_eval():
            space["refuse"]()

    assert is_refusal(caught(refused)) is (how == "told")


@pytest.mark.slow
def test_a_fault_of_a_process_shows_its_traceback(tmp_path: Path) -> None:
    """The command of the shell: a traceback and another exit code than 2; in `compare`, whose workers fail, likewise."""
    path = _theirs(tmp_path)
    path.write_text(path.read_text().replace('"raise", doc', '"worker", doc'))
    results = ["--results", str(tmp_path / "r")]
    compare = ["compare", "--strategies", str(path), "--task", "arithmetic", "--seeds", "0", *RUN[3:], "--no-family"]
    run = [*RUN, "--strategy", str(path), "--set", "strategy.how=library"]
    for argv in ([*run, *results], [*compare, "--workers", "1", *results]):
        done = subprocess.run(
            [sys.executable, "-m", "harness", *argv], capture_output=True, text=True, env=_env(tmp_path), check=False
        )
        assert done.returncode == 1, done.stderr
        assert "Traceback" in done.stderr and "theirs.py" in done.stderr and "ValueError: cannot reshape" in done.stderr


def _env(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{Path(__file__).parent.parent}:{folder}"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "--task", "arithmetic", "--strategy", ":Theirs"], "cannot import"),
        (["run", "--task", "arithmetic", "--strategy", "..:Theirs"], "cannot import"),
        (["compare", "--strategies", "direct", "--task", "no.such:Task"], "cannot import"),
    ],
)
def test_odd_names_of_plugins_are_refusals(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("key", ["seed", "threads"])
@pytest.mark.parametrize("value", ["abc", 1.5, True, None, -1, 2**40, "9" * 5000])
def test_odd_numbers_of_a_spec_file_are_refusals(
    key: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec(strategy="direct", task="arithmetic").to_json() | {key: value}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert main(["run", "--spec", str(tmp_path / "spec.json"), "--dry-run"]) == 2
    assert f"--{key}: expected a whole number" in capsys.readouterr().err
    assert from_json(make_spec(strategy="direct", task="arithmetic", seed=7, threads=2).to_json()).seed == 7


@pytest.mark.parametrize("task", ["arithmetic", "k_hop", "multi_step", "modular_sum", "countdown", "game_of_24", "parity"])
@pytest.mark.parametrize(
    "text", ["9" * 5000, f"abcdefgh:{'9' * 5000}a", f"{'9' * 5000}+{'9' * 5000}", f"1 2 3>{'9' * 5000}", "²"]
)
def test_questions_of_very_long_numbers_are_refusals(task: str, text: str) -> None:
    """Python converts no number of more than 4,300 digits, and says so by an error of its own."""
    made = registry.find("task", task)()
    try:
        made.parse(text)
    except ValueError as error:
        assert is_refusal(error), error
