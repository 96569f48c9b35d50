"""The commands `compare` and `sweep`: their options, and which suite they ask for. Knows options; runs nothing by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.devices import check_device
from harness.legal import MOST_PROBLEMS
from harness.options import (
    ADDRESS,
    BUDGETS,
    CHECKPOINT_S,
    DEVICE,
    ENGINE,
    GPUS,
    JSON,
    MAX_KV_BYTES,
    PLAN,
    PROBLEMS,
    RESULTS,
    RUN_THREADS,
    SEEDS,
    WORKERS,
    parse_settings,
    results_url,
)
from harness.visible import to_stderr

if TYPE_CHECKING:
    from harness.engines import Name


@click.command()
@click.option("--task", help="Name (see `list`), file.py, or package.module:Class; of a suite: only its blocks of that task.")
@click.option("--strategies", help="Names, separated by commas.  [default: all that suit the task]")
@click.option(
    "--suite",
    "suite_file",
    type=click.Path(path_type=Path),
    help="A comparison in a TOML file, or a name: demo, reference, smollm2.",
)
@click.option("--family/--no-family", default=None, help="Add the comparator family.  [default: unless --strategies is given]")
@SEEDS
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of every arm, e.g. model.size=xs. Repeatable."
)
@BUDGETS
@click.option("--match", help="What equals plain training's consumption at the budget: flops, tokens or examples.")
@click.option(
    "--infer", help="Where to compare: x1,x2,x4 (times the baseline's cost) or flops:1e7.  [default: each arm's own cost]"
)
@click.option("--tune", is_flag=True, help="Learning rate x batch for every arm alike, 9 trials each, chosen on validation.")
@click.option("--anytime", is_flag=True, help="No problem may spend more than its place (--infer), and drafts count.")
@PROBLEMS
@click.option("--validation", type=click.IntRange(1, MOST_PROBLEMS), help="Problems on which points are chosen.  [default: 500]")
@WORKERS
@ENGINE
@ADDRESS
@GPUS
@RUN_THREADS
@PLAN
@CHECKPOINT_S
@MAX_KV_BYTES
@RESULTS
@DEVICE
@JSON
def compare(
    task: str | None,
    strategies: str | None,
    suite_file: Path | None,
    family: bool | None,
    seeds: str | None,
    settings: tuple[str, ...],
    train_flops: str | None,
    match: str | None,
    infer: str | None,
    tune: bool,
    anytime: bool,
    problems: str | None,
    validation: int | None,
    workers: int | None,
    engine: Name,
    address: str | None,
    gpus: float,
    threads: int,
    dry_run: bool,
    checkpoint_s: float,
    max_kv_bytes: int | None,
    results: Path,
    device: str,
    as_json: bool,
) -> int:
    """Strategies on one task at equal compute: make every run that is missing, then tables, verdicts and sentences."""
    check_device(device, here=engine == "local")
    from harness.suite import part_of, undeclared_seeds
    from harness.suite_file import read_suite, suite_of

    given = parse_settings(settings) | ({"train.match": match} if match else {})
    typed = {"strategies": strategies, "train_flops": train_flops, "infer": infer, "problems": problems}
    if suite_file is not None:
        others = {"validation": validation, "anytime": anytime, "tune": tune, "family": family, **typed, "set": given}
        named = [k for k, v in others.items() if v]
        if named:
            raise ValueError(f"--suite: holds everything but --task and --seeds itself; leave out --{named[0].replace('_', '-')}")
        declared = read_suite(suite_file)
        suite = part_of(declared, task=task, seeds=seeds)
        for line in undeclared_seeds(declared, task=task, seeds=seeds):
            to_stderr(line)
    else:
        if task is None:
            raise ValueError("compare needs --task (see `list`), or --suite FILE")
        suite = suite_of(
            task, settings=given, family=family, seeds=seeds, validation=validation, anytime=anytime, tune=tune, **typed
        )
    from harness.compare_command import compare_suite
    from harness.engines import Making

    how = Making(
        results=results, url=results_url(), device=device, threads=threads, checkpoint_s=checkpoint_s, max_kv_bytes=max_kv_bytes,
        engine=engine, workers=workers, address=address, gpus=gpus,
    )  # fmt: skip
    return compare_suite(suite, how, dry_run=dry_run, as_json=as_json)


@click.command()
@click.option("--strategy", required=True, help="Name (see `list`), file.py, or package.module:Class.")
@click.option("--task", required=True, help="Name (see `list`), file.py, or package.module:Class.")
@click.option(
    "--over", required=True, metavar="KEY=V1,V2,..", help="The setting and its values, e.g. strategy.per_token=0,1,2,3."
)
@click.option("--family/--no-family", default=False, help="Add the comparator family.  [default: no]")
@SEEDS
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting. Repeatable.")
@BUDGETS
@PROBLEMS
@WORKERS
@ENGINE
@ADDRESS
@GPUS
@RUN_THREADS
@PLAN
@CHECKPOINT_S
@MAX_KV_BYTES
@RESULTS
@DEVICE
@JSON
def sweep(
    strategy: str,
    task: str,
    over: str,
    family: bool,
    seeds: str | None,
    settings: tuple[str, ...],
    train_flops: str | None,
    problems: str | None,
    workers: int | None,
    engine: Name,
    address: str | None,
    gpus: float,
    threads: int,
    dry_run: bool,
    checkpoint_s: float,
    max_kv_bytes: int | None,
    results: Path,
    device: str,
    as_json: bool,
) -> int:
    """One setting over a range, against what each value truly costs: a table and a picture."""
    check_device(device, here=engine == "local")
    from harness.compare_command import compare_suite
    from harness.engines import Making
    from harness.sweep import draw_sweep, over_of, sweep_suite

    key, values = over_of(over)
    suite = sweep_suite(
        strategy=strategy, task=task, over=over, settings=parse_settings(settings), seeds=seeds, train_flops=train_flops,
        problems=problems, family=family,
    )  # fmt: skip
    how = Making(
        results=results, url=results_url(), device=device, threads=threads, checkpoint_s=checkpoint_s, max_kv_bytes=max_kv_bytes,
        engine=engine, workers=workers, address=address, gpus=gpus,
    )  # fmt: skip
    pictures = partial(draw_sweep, key=key, values=values)
    return compare_suite(suite, how, dry_run=dry_run, as_json=as_json, pictures=pictures)
