"""From a grid's records to everything that is said of them: pictures and tables, block by block. Needs no model and no weights.

Also makes the tables of a results folder again, from the declarations that stand beside them, to see whether they still are what
the records say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from harness.compare import read
from harness.comparison import Measured, Row, measured, rows_of
from harness.comparison_files import SECONDS, write
from harness.grid import Cell, Grid, grid_of
from harness.reading import read_bytes, read_json
from harness.records import Record
from harness.refusal import is_refusal
from harness.registry import Untrusted
from harness.suite import Block, Suite
from harness.trust import check_block

Pictures = Callable[[Sequence[Measured], Path, Path], list[Path]]  # of a block, into a folder, from the records in another


def write_all(
    grid: Grid,
    found: Mapping[Cell, Record],
    *,
    results: Path,
    target: Path,
    notes: Mapping[int, Sequence[str]],
    pictures: Pictures,
) -> tuple[list[Row], list[Path]]:
    """A comparison's files, from records in results, below target. notes: what each block's tables lack. Rows and paths."""
    every, rows, paths = measured(grid, found), list[Row](), list[Path]()
    for number in range(len(grid.suite.blocks)):
        mine = [one for one in every if one.number == number]
        if mine:
            folder = target / "plots" / grid.suite.name
            drawn = pictures(mine, folder, results)
            said, plots = [row for one in mine for row in rows_of(one)], [path.relative_to(target).as_posix() for path in drawn]
            lacks = notes.get(number, ())
            paths += [*drawn, *write(said, mine, results, target, suite=grid.suite.name, plots=plots, notes=lacks)]
            rows += said
    return rows, paths


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a written comparison was made of: a block of a suite, threads of its runs, pictures below it and notes."""

    name: str
    suite: str
    threads: int
    plots: list[str]
    notes: list[str]
    block: Block


def declarations(
    results: Path, *, left_out: Callable[[str], None] | None = None, trust_plugins: bool = False
) -> Iterator[tuple[Declaration, Grid] | str]:
    """What stands beside the tables of a results folder, by name, with its runs; a line in place of one that cannot be read.

    left_out, trust_plugins: see `differing_tables`.
    """
    for path in sorted((results / "tables").glob("*.json")):
        try:
            yield _declared(path, trust_plugins)
        except Untrusted as error:
            if left_out is not None:
                left_out(str(error))
        except ValueError as error:
            if not is_refusal(error):
                raise
            yield str(error)


def _declared(path: Path, trust_plugins: bool) -> tuple[Declaration, Grid]:
    """A comparison's file and its runs; ValueError says what is wrong with it, `Untrusted` what it would run."""
    try:
        facts = read_json(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{error}; make it again by the command that made it") from None
    try:
        found = msgspec.convert(facts, Declaration)
        if not trust_plugins:
            check_block(found.block)
        return found, grid_of(Suite(name=found.suite, blocks=[found.block]), threads=found.threads)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be read; make it again by the command that made it") from None
    except Untrusted as error:
        raise Untrusted(f"tables of {found.name}: {error}") from None
    except ValueError as error:
        if not (is_refusal(error) or isinstance(error, msgspec.ValidationError)):
            raise
        raise ValueError(f"{path} declares no comparison that can be: {error}") from None


def differing_tables(
    results: Path, *, left_out: Callable[[str], None] | None = None, trust_plugins: bool = False
) -> tuple[list[str], int]:
    """Tables that are not what the records say, each with what to do, and how many were made again.

    left_out: told of tables that would take code to which only their declaration points; trust_plugins: whether that may be run.
    """
    found: list[str] = []
    count = 0
    for one in declarations(results, left_out=left_out, trust_plugins=trust_plugins):
        if isinstance(one, str):
            found.append(one)
            continue
        facts, grid = one
        try:
            wrong, again = _differing(results, facts, grid)
        except ValueError as error:
            if not is_refusal(error):
                raise
            found.append(f"{facts.name}: its tables cannot be made again: {error}")
            continue
        found += wrong
        count += again
    return found, count


def _differing(results: Path, facts: Declaration, grid: Grid) -> tuple[list[str], int]:
    """The same of one comparison."""
    spoilt: list[str] = []
    there = read(grid.cells, results, spoilt.append)
    with tempfile.TemporaryDirectory() as scratch:
        written = _again(grid, there, results, Path(scratch), facts)
        again = {path.name: path.read_bytes() for path in written if SECONDS not in path.name}
    bad = [name for name, data in again.items() if not _holds(results / "tables" / name, data)]
    advice = "is not what the records say; make it again by the command that made it"
    found = [f"{facts.name}: {line}" for line in spoilt] + [f"{results / 'tables' / name} {advice}" for name in bad]
    return found + ([] if again else [f"{facts.name}: none of its records are there"]), len(again)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and holds these bytes."""
    try:
        return read_bytes(path) == data
    except (OSError, ValueError):
        return False


def _again(grid: Grid, there: Mapping[Cell, Record], results: Path, scratch: Path, facts: Declaration) -> list[Path]:
    every = measured(grid, there)
    rows = [row for one in every for row in rows_of(one)]
    if not every:
        return []
    return write(rows, every, results, scratch, suite=facts.suite, plots=facts.plots, notes=facts.notes)
