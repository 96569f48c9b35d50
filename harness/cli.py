"""The command line: reads options, calls the API, and turns every refusal into one line on stderr and exit code 2.

Knows options and commands. Imports what a command needs inside that command, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli_compare import compare, sweep
from harness.cli_lm_eval import lm_eval
from harness.cli_records import gc, merge, pack
from harness.cli_report import report
from harness.cli_run import run
from harness.devices import check_device
from harness.launch import alone_only
from harness.options import (
    DEVICE,
    JSON,
    RESULTS,
    TRUST_PLUGINS,
)
from harness.refusal import is_refusal
from harness.visible import say, say_json, to_stderr

_OPTION_OF_KEY = {"train.flops": "--train-flops", "train.match": "--match", "infer.problems": "--problems"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 (a check or comparison failed), 2 (the user's input), 130 (stopped).

    A fault of ours, a library's ValueError among them, is raised.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        result = cli.main(args=typed, prog_name="harness", standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk can be told
        return int(result or 0)
    except click.exceptions.Abort:
        return _stopped(typed)
    except KeyboardInterrupt:
        return _stopped(typed)
    except click.ClickException as error:
        _complain(error.format_message())
        return 2
    except ValueError as error:
        if not is_refusal(error):
            raise
        _complain(_named_by_option(str(error), typed))
        return 2
    except BrokenPipeError:  # whoever reads has seen enough
        _let_go_of_stdout()
        return 1
    except OSError as error:
        _complain(_of_system(error))
        _let_go_of_stdout()
        return 2


def _of_system(error: OSError) -> str:
    """What the system says of a file, with its name if it is known."""
    what = error.strerror or str(error) or type(error).__name__
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"


def _let_go_of_stdout() -> None:
    """Drop what could not be printed, lest Python tries again at its end; leave a stdout that works as it is."""
    try:
        sys.stdout.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())


def _complain(message: str) -> None:
    to_stderr("error: " + message.strip().replace("\n", " "))


def _stopped(argv: Sequence[str]) -> int:
    to_stderr("stopped; what is written is kept. The same command goes on from there:")
    to_stderr("  python -m harness " + shlex.join(argv))
    return 130


def _named_by_option(message: str, argv: Sequence[str]) -> str:
    """Errors about a key that was given as an option name the option."""
    for key, option in _OPTION_OF_KEY.items():
        if message.startswith(key) and any(word.split("=")[0] == option for word in argv):
            return option + message[len(key) :]
    return message


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(context: click.Context) -> None:
    """Does letting a language model think before it speaks help, and is it worth its compute?

    Trains one small GPT-2 under a thinking strategy, asks it, and counts every FLOP.
    """
    if context.invoked_subcommand not in (None, "run"):
        alone_only(str(context.invoked_subcommand))


@cli.command("list")
@click.option("--runs", "of_runs", is_flag=True, help="The complete runs in --results instead.")
@click.option("--task", help="With --runs: only those of this task.")
@RESULTS
@JSON
def list_plugins(of_runs: bool, task: str | None, results: Path, as_json: bool) -> None:
    """Strategies and tasks, with one line, source and settings each; or the runs that there are."""
    if of_runs:
        from harness.listing import print_listed, runs

        print_listed(*runs(results, task=task), as_json=as_json)
        return
    if task is not None:
        raise ValueError("--task: goes with --runs; without it, list shows every plugin")
    from harness.catalogue import catalogue, catalogue_text

    if as_json:
        say_json(catalogue())
    else:
        say(*catalogue_text().split("\n"))


@cli.command()
@click.argument("file", required=False)
@click.option("--strategy", "strategies", multiple=True, help="Only this strategy. Repeatable.")
@click.option("--task", "tasks", multiple=True, help="Only this task. Repeatable.")
@click.option(
    "--training", type=click.Choice(["none", "one", "two"]), default="one", show_default=True, help="Tasks for checks that train."
)
@JSON
def check(file: str | None, strategies: tuple[str, ...], tasks: tuple[str, ...], training: str, as_json: bool) -> int:
    """Check plugins: leaks, gradients, cached = whole, batched = alone, ledgers. With FILE.py: an outsider's strategy."""
    from harness import show
    from harness.check import check_file, run_checks

    if file is not None:
        return show.print_file_report(check_file(Path(file)), as_json=as_json)
    from harness.registry import find, names

    chosen = {"strategy": list(strategies) or names("strategy"), "task": list(tasks) or names("task")}
    for kind, found in chosen.items():
        for name in found:
            find("strategy" if kind == "strategy" else "task", name)
    with show.Counter("checking") as report:
        results = run_checks(strategies=chosen["strategy"], tasks=chosen["task"], training=training, report=report)  # type: ignore[arg-type]
    return show.print_checks(results, as_json=as_json)


@cli.command()
@click.option("--only", multiple=True, help="Only this measurement. Repeatable.")
@click.option("--sizes", default="xs,s,m", show_default=True, help="Model sizes, separated by commas.")
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds; contenders alternate.")
@JSON
def bench(only: tuple[str, ...], sizes: str, repeats: int, as_json: bool) -> int:
    """Speed against peers: ratios in one run, equal outputs checked first."""
    from harness import show
    from harness.bench import run_bench

    result = run_bench(sizes=sizes.split(","), only=list(only) or None, repeats=repeats, report=to_stderr)
    return show.print_bench(result, as_json=as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@click.argument("question")
@RESULTS
@DEVICE
@TRUST_PLUGINS
@JSON
def ask(run_name: str, question: str, results: Path, device: str, trust_plugins: bool, as_json: bool) -> None:
    """Ask the learner of RUN (a folder or the beginning of its name) one question; show trace, answer and ledgers."""
    check_device(device)
    from harness import show
    from harness.inspect import ask_run

    found = ask_run(run_name, question, results=results, device=device, trust_plugins=trust_plugins)
    show.print_asked(found, as_json=as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@RESULTS
@DEVICE
@TRUST_PLUGINS
@JSON
def verify(run_name: str, results: Path, device: str, trust_plugins: bool, as_json: bool) -> int:
    """Evaluate RUN once more from its weights and compare every problem's line. Exit 1 if any differs."""
    check_device(device)
    from harness import show
    from harness.inspect import verify_run

    with show.Bars() as bars:
        found = verify_run(run_name, results=results, device=device, reporter=bars, trust_plugins=trust_plugins)
    return show.print_verified(found, as_json=as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@RESULTS
@TRUST_PLUGINS
@JSON
def export(run_name: str, folder: Path, results: Path, trust_plugins: bool, as_json: bool) -> None:
    """Save RUN's GPT-2 as an ordinary checkpoint with its tokenizer, for stock transformers."""
    from harness import show
    from harness.export import export_run

    show.print_exported(export_run(run_name, folder, results=results, trust_plugins=trust_plugins), as_json=as_json)


@cli.command()
@click.argument("kind", type=click.Choice(["strategy"]))
@click.argument("name")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path("strategies"), show_default=True, help="Where to write it."
)
def new(kind: str, name: str, folder: Path) -> None:
    """Write a scaffold that passes `check`: `new strategy my_idea` makes strategies/my_idea.py."""
    from harness.catalogue import write_scaffold

    path = write_scaffold(name, folder)
    say(f"wrote {path}; next: python -m harness check {shlex.quote(str(path))}")


for command in (compare, gc, lm_eval, merge, pack, report, run, sweep):
    cli.add_command(command)
