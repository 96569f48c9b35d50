"""All that commands print: no text is markup, none acts on the terminal, and commands that are printed can be copied."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

import harness
from harness.cli import main
from harness.screen import Screen, Words, styled
from harness.visible import say, say_json, to_stderr, visible

TINY = ["--set", "model.size=xs", "--set", "model.width=16", "--set", "model.heads=2", "--set", "model.layers=1"]
SMALL = [*TINY, "--set", "train.problems_per_update=8", "--problems", "6"]
ODD = "a[/b]c [red]:smile:\x1b[31m\x9b2J\x07\u202e\u2028\r\n\t\x7f\udc80"
SHOWN = r"a[/b]c [red]:smile:\x1b[31m\x9b2J\x07\u202e\u2028\r\n\t\x7f\udc80"


def run_args(results: Path, strategy: str, *more: str) -> list[str]:
    """A run of seconds that is asked untrained."""
    return ["run", "--strategy", strategy, "--task", "arithmetic", "--results", str(results), *SMALL, *more]


def test_what_would_act_on_a_terminal_is_an_escape() -> None:
    assert visible(ODD) == SHOWN
    assert visible("äλ→ plain 雪 \u200d \\x1b") == "äλ→ plain 雪 \u200d \\x1b"


def test_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    say(ODD, "second")
    to_stderr(ODD)
    captured = capsys.readouterr()
    assert captured.out == f"{SHOWN}\nsecond\n" and captured.err == f"{SHOWN}\n"


def test_json_reads_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({ODD: [ODD, 1.5, "ü"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {ODD: [ODD, 1.5, "ü"]} and "ü" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", out)


def test_tables_titles_and_bars_hold_text_as_it_stands() -> None:
    """In cells, titles, headers and captions, and in the columns of a progress bar."""
    table = Table(title=ODD, caption=ODD)
    table.add_column(ODD)
    table.add_row(ODD)
    screen = Screen(width=300)
    screen.file = io.StringIO()
    screen.print(table, ODD, styled((ODD, "bold")))
    said = screen.file.getvalue()
    assert said.count(SHOWN) == 6 and "\x1b" not in said

    bars = Progress()
    task = bars.add_task(ODD, facts=ODD)
    for column in (Words("{task.description}"), Words("{task.fields[facts]}")):
        assert column.render(bars.tasks[task]).plain == SHOWN


def test_nothing_else_prints() -> None:
    """No other module of the harness writes to the terminal: neither print, click.echo nor a console of rich's own."""
    folder, found = Path(harness.__file__).parent, []
    for path in sorted(folder.rglob("*.py")):
        if path.name in ("visible.py", "screen.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "rich.print", "click.echo", "click.secho", "Console", "TextColumn") or re.fullmatch(
                r"sys\.(stdout|stderr)(\.buffer)?\.write", called
            ):
                found.append(f"{path.relative_to(folder)}:{node.lineno}: {called}")
    assert found == []


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder whose name has brackets and an escape sequence, with one untrained run of each of two strategies."""
    folder = tmp_path_factory.mktemp("odd") / "a[/b]c [red]\x1b[31m \u202ex"
    for strategy in ("direct", "reasoning_tokens"):
        assert main(run_args(folder, strategy, "--train-flops", "0")) == 0
    return folder


def _printed(captured: pytest.CaptureResult[str]) -> str:
    said = captured.out + captured.err
    assert not re.search("[\x1b\u202e]", said), said
    return said


def test_every_command_works_in_a_folder_with_brackets_and_escapes(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each says the folder's name as it is, its escapes shown."""
    (run,) = (odd / "runs" / "arithmetic" / "direct").iterdir()
    shown, where = r"a[/b]c [red]\x1b[31m \u202ex", ["--results", str(odd)]
    compared = ["--strategies", "reasoning_tokens", "--task", "arithmetic", "--seeds", "0", "--train-flops", "0", *SMALL]
    spoken = [
        run_args(odd, "direct", "--train-flops", "0"),
        ["report", *where],
        ["compare", *compared, "--no-family", "--workers", "1", *where],
        ["verify", str(run), *where],
    ]
    for argv in spoken:
        assert main(argv) == 0, argv
        assert shown in "".join(_printed(capsys.readouterr()).splitlines()), argv
    for argv in (["list", "--runs", *where], ["ask", run.name, "1+1", *where], ["report", "--check", *where], ["gc", *where]):
        assert main(argv) == 0, argv
        _printed(capsys.readouterr())
    for argv in (
        ["ask", "no\x1b[2Jne", "1", *where],
        ["ask", run.name, "1\x1b[2J", *where],
        ["merge", str(odd / "no"), *where],
        ["pack", "/proc/no\x1b", *where],
    ):
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert len(captured.err.splitlines()) == 1 and _printed(captured)


@pytest.mark.parametrize("last", ["direct", "reasoning_tokens"])
def test_untrained_runs_side_by_side(odd: Path, last: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither spent training FLOPs, so there is no multiple of them; in both orders."""
    assert main(run_args(odd, last, "--train-flops", "0")) == 0
    said = " ".join(_printed(capsys.readouterr()).split())
    assert "reasoning_tokens minus direct" in said and "at no training FLOPs in either and" in said
    assert re.search(r"and \d+\.\d\dx its inference FLOPs", said)


def test_the_printed_command_leads_to_the_other_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It repeats where results lie and how runs are made, quoted, and no option that the settings of the run say already."""
    folder = tmp_path / "it's a [folder]"
    how = ["--train-flops", "2e7", "--max-kv-bytes", "9000000", "--checkpoint-s", "20", "--parts", "2", "--device", "cpu"]
    assert main(run_args(folder, "direct", *how)) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("To compare, run: "))
    words = shlex.split(line.removeprefix("To compare, run: "))
    assert words[words.index("--results") + 1] == str(folder)
    for option, value in zip(how[2::2], how[3::2], strict=True):
        assert words[words.index(option) + 1] == value
    assert main(words[3:]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "reasoning_tokens minus direct" in out and "To compare" not in out


def test_untrained_runs_name_the_baseline_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An untrained baseline has no partner, since the other must be taught; an untrained run of another has the baseline."""
    assert main(run_args(tmp_path / "a", "direct", "--train-flops", "0")) == 0
    assert "To compare" not in capsys.readouterr().out
    assert main(run_args(tmp_path / "b", "pause_tokens", "--train-flops", "0")) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("To compare, run: "))
    assert main(shlex.split(line.removeprefix("To compare, run: "))[3:]) == 0
    assert "pause_tokens minus direct" in " ".join(capsys.readouterr().out.split())


def test_an_empty_report_names_the_command_that_fills_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """This folder, not the default one."""
    folder = tmp_path / "my results"
    folder.mkdir()
    assert main(["report", "--results", str(folder)]) == 2
    command = capsys.readouterr().err.strip().partition("make some first: ")[2]
    assert shlex.split(command) == ["python", "-m", "harness", "compare", "--suite", "demo", "--results", str(folder)]
