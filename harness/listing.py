"""`list --runs`: the complete runs of a results folder, a row each. Reads run.json alone, so that a thousand runs take seconds.

The record's own seal is checked; the hashes of its other files are not (`report --check` does that). Knows records; no plugin.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from harness import records, registry, shapes, trainings
from harness.records import RUN, Record
from harness.screen import console
from harness.visible import say_json, to_stderr

FILE_WIDTH = 160  # where nobody looks at a terminal
OWN_COLUMN = ("train.flops", "infer.split")  # settings that the table tells anyway


@dataclass(frozen=True, slots=True)
class Row:
    """A run in short. settings: those that differ from the defaults; weights: whether the learner it asked is there."""

    task: str
    strategy: str
    settings: dict[str, str]
    train_flops: float
    seed: int
    split: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    infer_flops: float
    weights: bool
    folder: str


def runs(results: Path, *, task: str | None = None) -> tuple[list[Row], list[str]]:
    """Rows of complete runs, sorted, and what is wrong with spoilt ones. ValueError if there is no such folder or task."""
    folders = list(records.run_folders(results, task=task))
    if not results.is_dir():
        raise ValueError(f"--results: there is no folder {results}; name the one that `run` and `compare` wrote to")
    if task is not None and not folders:
        there = sorted({folder.parent.parent.name for folder in records.run_folders(results)})
        raise ValueError(f"--task: {results} has no complete run of {task!r}; it has runs of: {', '.join(there) or 'nothing'}")
    rows, left_out = [], []
    for folder in folders:
        try:
            record = records.check_run(records.read_record(folder, hashed=False), folder / RUN)
            records.check_shape(record, shapes.Listed, folder / RUN)
            records.check_place(record, folder)
            rows.append(_row(record, folder, results))
        except ValueError as error:
            left_out.append(str(error))
        except StopIteration:
            left_out.append(f"{folder / RUN} has no metrics; move it away")
    return sorted(rows, key=lambda r: (r.task, r.strategy, sorted(r.settings.items()), r.train_flops, r.split, r.seed)), left_out


def _row(record: Record, folder: Path, results: Path) -> Row:
    """A record in short."""
    metric, found = next(iter(record["metrics"].items()))
    spec = record["spec"]
    learner = results / "weights" / f"{record['learner']}-s{record['seed']}"
    return Row(
        task=registry.title("task", spec["task"]),
        strategy=spec["strategy"]["name"],
        settings=dict(_settings(record["command"], folder)),
        train_flops=record["train"]["spent_flops"],
        seed=record["seed"],
        split=spec["infer"]["split"],
        metric=metric,
        value=found["value"],
        low=found["low"],
        high=found["high"],
        infer_flops=record["infer"]["flops_per_problem"]["total"],
        weights=(learner / "learner.json").exists() and trainings.other_weights(record, folder) is None,
        folder=str(folder),
    )


def _settings(command: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The settings in a run's canonical command, which are those that differ from the defaults."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{folder / RUN} has a command that is none ({error}); move it away") from None
    for option, word in itertools.pairwise(words):
        key, _, value = word.partition("=")
        if option == "--set" and key not in OWN_COLUMN:
            yield key, value


def print_listed(rows: list[Row], left_out: list[str], *, as_json: bool) -> None:
    """A table or JSON on stdout; spoilt runs on stderr."""
    for line in left_out:
        to_stderr(f"left out: {line}")
    if as_json:
        say_json([asdict(row) for row in rows])
        return
    table = Table(title=f"{len(rows):,} complete runs (run.json alone was read)", title_justify="left")
    for column in ("task", "strategy", "settings"):
        table.add_column(column, overflow="fold")
    for column in ("training FLOPs", "seed", "split", "score [95%]", "FLOPs a problem", "weights"):
        table.add_column(column, justify="right", no_wrap=column.startswith("score"))
    for row in rows:
        table.add_row(*_cells(row))
    out = console()
    out.width = out.width if out.is_terminal else FILE_WIDTH
    out.print(table)


def _cells(row: Row) -> list[str]:
    """A row as the table has it."""
    settings = ", ".join(f"{key.removeprefix('strategy.')}={value}" for key, value in row.settings.items())
    facts: list[Any] = [row.task, row.strategy, settings, f"{row.train_flops:.3g}", row.seed, row.split, _score(row)]
    return [str(fact) for fact in (*facts, f"{row.infer_flops:.3g}", "yes" if row.weights else "no")]


def _score(row: Row) -> str:
    """A share of right answers in percent, nats as they are."""
    scale, digits, unit = (100, 1, "%") if row.metric == "accuracy" else (1, 3, "")
    value, low, high = ("-" if x is None else f"{scale * x:.{digits}f}" for x in (row.value, row.low, row.high))
    return f"{value}{unit}" if row.low is None else f"{value}{unit} [{low}, {high}]"
