"""The command `report`: the page of a results folder, or a check of all its numbers. Knows options; builds nothing by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from harness.options import JSON, RESULTS, TRUST_PLUGINS
from harness.visible import say, say_json, to_stderr


@click.command()
@RESULTS
@click.option(
    "--check", is_flag=True, help="Recompute every number of every table and record, write nothing; exit 1 if one differs."
)
@click.option("--seeds", metavar="SEEDS", help="Single problems of these seeds' runs alone, e.g. 0 or 0-2.  [default: all]")
@click.option("--problems", type=click.IntRange(1), metavar="N", help="Single problems of a run, the first ones.  [default: 200]")
@TRUST_PLUGINS
@JSON
def report(results: Path, check: bool, seeds: str | None, problems: int | None, trust_plugins: bool, as_json: bool) -> int:
    """Write RESULTS/index.html: verdicts, tables, plots, and a browser of single problems with their traces and trees."""
    if check and (seeds or problems):
        raise ValueError("--check: looks at all records; leave out --seeds and --problems")
    if check:
        return _check(results, trust_plugins, as_json=as_json)
    return _write(results, seeds, problems, trust_plugins, as_json=as_json)


def _write(results: Path, seeds: str | None, problems: int | None, trust_plugins: bool, *, as_json: bool) -> int:
    from harness.page import write_report
    from harness.page_data import SHOWN_PROBLEMS
    from harness.storage import Unwritable
    from harness.suite import seeds_of

    chosen = None if seeds is None else seeds_of(seeds)
    write = partial(write_report, results, seeds=chosen, problems=problems or SHOWN_PROBLEMS, trust_plugins=trust_plugins)
    try:
        written = write()
    except Unwritable as error:
        if not error.read_only:
            raise
        target = Path(f"{results.resolve().name}-report")
        to_stderr(f"{results} may not be written to; the page goes to {target} in this folder")
        written = write(target=target)
    for line in written.left_out:
        to_stderr(f"left out: {line}")
    if as_json:
        facts = {"index": str(written.index), "comparisons": written.comparisons, "runs": written.runs}
        say_json(facts | {"left_out": list(written.left_out)})
    else:
        counted = f"comparisons: {written.comparisons}, runs: {written.runs}, left out: {len(written.left_out)}"
        say(f"wrote {written.index} ({counted}); open it in a browser")
    return 0


def _check(results: Path, trust_plugins: bool, *, as_json: bool) -> int:
    """Records against their lines, traces and tasks, tables against the records."""
    from harness.recheck import check_records
    from harness.show import Counter
    from harness.telling import differing_tables

    with Counter("records") as counter:
        found = check_records(results, report=counter, trust_plugins=trust_plugins)
    left_out: set[str] = set()
    tables, count = differing_tables(results, left_out=left_out.add, trust_plugins=trust_plugins)
    if not (found.checked or found.spoilt or tables or count or left_out):
        raise ValueError(f"--results: {results} holds no run and no table; name the folder that `compare` wrote to")
    wrong = [f"{folder}: {line}" for folder, one in found.checked.items() for line in one.problems]
    wrong += [*(f"{folder}: {line}" for folder, line in found.spoilt.items()), *found.mixed, *tables]
    left_out |= {f"{folder}: {line}" for folder, one in found.checked.items() for line in one.left_out}
    traced, graded, ungraded = (
        sum(getattr(one, name) for one in found.checked.values()) for name in ("traced", "graded", "ungraded")
    )
    if as_json:
        facts = {"records": len(found.checked), "traced_problems": traced, "tables": count, "wrong": wrong}
        facts |= {"regraded_answers": graded, "not_regraded_answers": ungraded}
        say_json(facts | {"left_out": sorted(left_out)})
        return 1 if wrong else 0
    for line in wrong:
        say(f"differs: {line}")
    for line in sorted(left_out):
        to_stderr(f"not recounted: {line}")
    say(
        f"{len(found.checked):,} records, {traced:,} traces and {count:,} tables ({graded:,} answers re-graded, {ungraded:,} not "
        f"re-graded: text, lm-eval, or named above) recomputed: {len(wrong):,} differ"
    )
    return 1 if wrong else 0
