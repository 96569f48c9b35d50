"""`run`: a spec from options, a file or another run, made by this process or by several. Knows options; imports late."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.devices import check_device
from harness.launch import rank
from harness.options import (
    CHECKPOINT_S,
    DEVICE,
    JSON,
    MAX_KV_BYTES,
    PARTS,
    PROBLEMS,
    RESULTS,
    SHARD,
    TRACK,
    TRUST_PLUGINS,
    parse_settings,
    repeated_options,
    results_url,
)
from harness.visible import say_json, to_stderr

if TYPE_CHECKING:
    from harness.tracking import Name as Tracker


@click.command()
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
@TRACK
@PARTS
@SHARD
@CHECKPOINT_S
@MAX_KV_BYTES
@TRUST_PLUGINS
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
    track: Tracker | None,
    parts: int,
    shard: bool,
    checkpoint_s: float,
    max_kv_bytes: int | None,
    trust_plugins: bool,
    results: Path,
    device: str,
    as_json: bool,
) -> None:
    """Train a learner (or load it), ask it every test problem, and print the record."""
    options = {"train.flops": train_flops, "train.match": match, "infer.problems": problems}
    given = parse_settings(settings) | {k: v for k, v in options.items() if v is not None}
    check_device(device)
    made = _twin(twin, twin_of, results, seed, threads, trust_plugins, others=(strategy, task, given, spec_file))
    spec = made.spec if made else _spec(strategy, task, given, seed, threads, spec_file, trust_plugins)
    from harness.model_size import check_model
    from harness.records import RUN, run_folder

    if dry_run or again or not (results_url() or (run_folder(results, spec) / RUN).exists()):
        check_model(spec)
    from harness import show, show_runs
    from harness.context_bounds import told_bounds, told_truncated
    from harness.runs import plan
    from harness.spec_text import defaulted_line
    from harness.together import run_together

    if made:
        to_stderr(made.line())
    if spec_file is None and not made and rank() == 0 and (line := defaulted_line(spec, given)):
        to_stderr(line)
    for bound in told_bounds([spec.model]) if rank() == 0 else ():
        to_stderr(bound)
    if dry_run:
        if rank() == 0:
            show.print_plan(plan(spec), as_json=as_json)
        return
    options_of_run = {"again": again, "checkpoint_s": checkpoint_s, "max_kv_bytes": max_kv_bytes, "parts": parts}
    record = run_together(spec, results, device, options_of_run, shard=shard, url=results_url(), track=track)
    if record is None:  # the first of several processes says it all
        return
    if (truncated := told_truncated(record.get("truncated_prompts", 0))) is not None:
        to_stderr(truncated)
    if made:
        to_stderr(made.line(record))
    if as_json:
        if floor := show_runs.floor_line(record):
            to_stderr(floor)
        say_json(record)
    else:
        show_runs.print_runs(record, spec, results, options=repeated_options())


def _spec(
    strategy: str | None,
    task: str | None,
    given: dict[str, Any],
    seed: int | None,
    threads: int | None,
    spec_file: Path | None,
    trust_plugins: bool,
) -> Any:
    """The spec from a file or from options. trust_plugins: whether code to which only the file points may be run."""
    from harness.reading import read_json
    from harness.spec import from_json, make_spec

    if spec_file is None:
        if strategy is None or task is None:
            raise ValueError(f"run needs {'--strategy' if strategy is None else '--task'} (see `list`), or --spec FILE")
        return make_spec(strategy=strategy, task=task, settings=given, seed=seed or 0, threads=1 if threads is None else threads)
    if strategy or task or given:
        raise ValueError("--spec: holds every setting itself; only --seed and --threads may be given beside it")
    try:
        content = read_json(spec_file)
        content = content.get("spec", content)
        content |= {k: v for k, v in {"seed": seed, "threads": threads}.items() if v is not None}
    except OSError as error:
        raise ValueError(f"--spec: cannot read {spec_file}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"--spec: {error}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"--spec: {spec_file} is no spec or run.json ({type(error).__name__}: {error})") from None
    try:
        return from_json(content, trust_plugins=trust_plugins)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"--spec: {spec_file} is no spec or run.json ({type(error).__name__}: {error})") from None


def _twin(
    twin: str | None,
    of: str | None,
    results: Path,
    seed: int | None,
    threads: int | None,
    trust_plugins: bool,
    others: tuple[Any, ...],
) -> Any:
    """The twin that is asked for, or None."""
    if twin is None and of is None:
        return None
    if any(others):
        raise ValueError("--twin: takes every setting from the run; only --seed and --threads may be given beside it")
    from harness.twins import make_twin

    if (url := results_url()) is not None:
        from harness.remote import Remote

        Remote(url).take_all()
    return make_twin(twin, of, results=results, seed=seed, threads=threads, trust_plugins=trust_plugins)
