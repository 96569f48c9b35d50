"""The command line: reads options, calls the API, and turns every mistake into one line on stderr and exit code 2.

Knows options and commands. Imports what a command needs inside that command, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli_compare import compare, sweep
from harness.cli_lm_eval import lm_eval
from harness.cli_records import gc, merge, pack
from harness.cli_report import report
from harness.options import CHECKPOINT_S, DEVICE, JSON, MAX_KV_BYTES, PROBLEMS, RESULTS, check_device, parse_settings

_OPTION_OF_KEY = {"train.flops": "--train-flops", "train.match": "--match", "infer.problems": "--problems"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 (a check or comparison failed), 2 (the user's input), 130 (stopped)."""
    try:
        result = cli.main(args=None if argv is None else list(argv), prog_name="harness", standalone_mode=False)
        return int(result or 0)
    except click.exceptions.Abort:
        return _stopped()
    except KeyboardInterrupt:
        return _stopped()
    except click.ClickException as error:
        _complain(error.format_message().replace("\n", " "))
        return 2
    except ValueError as error:
        _complain(_named_by_option(str(error), argv if argv is not None else sys.argv[1:]))
        return 2


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def _stopped() -> int:
    print("stopped; what is written is kept. The same command goes on from there:", file=sys.stderr)
    import shlex

    print("  python -m harness " + shlex.join(sys.argv[1:]), file=sys.stderr)
    return 130


def _named_by_option(message: str, argv: Sequence[str]) -> str:
    """Errors about a key that was given as an option name the option."""
    for key, option in _OPTION_OF_KEY.items():
        if message.startswith(key) and any(word.split("=")[0] == option for word in argv):
            return option + message[len(key) :]
    return message


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Does letting a language model think before it speaks help, and is it worth its compute?

    Trains one small GPT-2 under a thinking strategy, asks it, and counts every FLOP.
    """


@cli.command()
@click.option("--strategy", help="Name (see `list`), file.py, or package.module:Class.")
@click.option("--task", help="Name (see `list`), file.py, or package.module:Class.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, e.g. strategy.per_token=2. Repeatable.")
@click.option("--train-flops", help="Training budget in FLOPs.")
@click.option("--match", help="What equals plain training's consumption at the budget: flops, tokens or examples.")
@PROBLEMS
@click.option("--seed", type=int, help="Seed of weights, data order and test set.  [default: 0]")
@click.option("--threads", type=int, help="Compute threads.  [default: 1]")
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="Read the whole spec from a JSON file or a run.json.")
@click.option("--twin", help="The baseline with the compute of another run: long (training), deep or wide (asking); with --of.")
@click.option("--of", "twin_of", metavar="RUN", help="The run that --twin is of: a folder, or the beginning of its name.")
@click.option("--again", is_flag=True, help="Make the run anew even if its record is complete.")
@click.option("--dry-run", is_flag=True, help="Print what the run would cost (FLOPs, minutes, disk) and stop.")
@CHECKPOINT_S
@MAX_KV_BYTES
@RESULTS
@DEVICE
@JSON
def run(
    strategy: str | None,
    task: str | None,
    settings: tuple[str, ...],
    train_flops: str | None,
    match: str | None,
    problems: str | None,
    seed: int | None,
    threads: int | None,
    spec_file: Path | None,
    twin: str | None,
    twin_of: str | None,
    again: bool,
    dry_run: bool,
    checkpoint_s: float,
    max_kv_bytes: int | None,
    results: Path,
    device: str,
    as_json: bool,
) -> None:
    """Train a learner (or load it), ask it every test problem, and print the record."""
    options = {"train.flops": train_flops, "train.match": match, "infer.problems": problems}
    given = parse_settings(settings) | {k: v for k, v in options.items() if v is not None}
    made = _twin(twin, twin_of, results, seed, threads, others=(strategy, task, given, spec_file))
    spec = made.spec if made else _spec(strategy, task, given, seed, threads, spec_file)
    check_device(device)
    from harness import show, show_runs
    from harness.runs import plan
    from harness.runs import run as run_spec

    if made:
        show.to_stderr(made.line())
    if dry_run:
        show.print_plan(plan(spec), as_json=as_json)
        return
    with show.Bars() as bars:
        record = run_spec(
            spec, results=results, again=again, device=device, checkpoint_s=checkpoint_s, reporter=bars, max_kv_bytes=max_kv_bytes
        )
    if made:
        show.to_stderr(made.line(record))
    if as_json:
        print(json.dumps(record, indent=1, ensure_ascii=False))
    else:
        show_runs.print_runs(record, spec, results)


def _spec(
    strategy: str | None, task: str | None, given: dict[str, Any], seed: int | None, threads: int | None, spec_file: Path | None
) -> Any:
    """The spec from a file or from options."""
    from harness.spec import from_json, make_spec

    if spec_file is None:
        if strategy is None or task is None:
            raise ValueError(f"run needs {'--strategy' if strategy is None else '--task'} (see `list`), or --spec FILE")
        return make_spec(strategy=strategy, task=task, settings=given, seed=seed or 0, threads=1 if threads is None else threads)
    if strategy or task or given:
        raise ValueError("--spec: holds every setting itself; only --seed and --threads may be given beside it")
    try:
        content = json.loads(spec_file.read_bytes())
        content = content.get("spec", content)
        content |= {k: v for k, v in {"seed": seed, "threads": threads}.items() if v is not None}
        return from_json(content)
    except OSError as error:
        raise ValueError(f"--spec: cannot read {spec_file}: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"--spec: {spec_file} is no spec or run.json ({type(error).__name__}: {error})") from None


def _twin(twin: str | None, of: str | None, results: Path, seed: int | None, threads: int | None, others: tuple[Any, ...]) -> Any:
    """The twin that is asked for, or None."""
    if twin is None and of is None:
        return None
    if any(others):
        raise ValueError("--twin: takes every setting from the run; only --seed and --threads may be given beside it")
    from harness.twins import make_twin

    return make_twin(twin, of, results=results, seed=seed, threads=threads)


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

    print(json.dumps(catalogue(), indent=1) if as_json else catalogue_text())


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

    result = run_bench(sizes=sizes.split(","), only=list(only) or None, repeats=repeats, report=show.to_stderr)
    return show.print_bench(result, as_json=as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@click.argument("question")
@RESULTS
@DEVICE
@JSON
def ask(run_name: str, question: str, results: Path, device: str, as_json: bool) -> None:
    """Ask the learner of RUN (a folder or the beginning of its name) one question; show trace, answer and ledgers."""
    check_device(device)
    from harness import show
    from harness.inspect import ask_run

    show.print_asked(ask_run(run_name, question, results=results, device=device), as_json=as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@RESULTS
@DEVICE
@JSON
def verify(run_name: str, results: Path, device: str, as_json: bool) -> int:
    """Evaluate RUN once more from its weights and compare every problem's line. Exit 1 if any differs."""
    check_device(device)
    from harness import show
    from harness.inspect import verify_run

    with show.Bars() as bars:
        found = verify_run(run_name, results=results, device=device, reporter=bars)
    return show.print_verified(found, as_json=as_json)


@cli.command()
@click.argument("run_name", metavar="RUN")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@RESULTS
@JSON
def export(run_name: str, folder: Path, results: Path, as_json: bool) -> None:
    """Save RUN's GPT-2 as an ordinary checkpoint with its tokenizer, for stock transformers."""
    from harness import show
    from harness.export import export_run

    show.print_exported(export_run(run_name, folder, results=results), as_json=as_json)


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
    print(f"wrote {path}; next: python -m harness check {path}")


cli.add_command(compare)
cli.add_command(sweep)
for command in (gc, lm_eval, merge, pack):
    cli.add_command(command)
cli.add_command(report)
