"""The command `report`: the page of a results folder, or a check of all its numbers. Knows options; builds nothing by itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.options import JSON, RESULTS


@click.command()
@RESULTS
@click.option(
    "--check", is_flag=True, help="Recompute every number of every table and record, write nothing; exit 1 if one differs."
)
@JSON
def report(results: Path, check: bool, as_json: bool) -> int:
    """Write RESULTS/index.html: verdicts, tables, plots, and a browser of single problems with their traces and trees."""
    return _check(results, as_json=as_json) if check else _write(results, as_json=as_json)


def _write(results: Path, *, as_json: bool) -> int:
    from harness.page import write_report

    written = write_report(results)
    for line in written.left_out:
        click.echo(f"left out: {line}", err=True)
    if as_json:
        facts = {"index": str(written.index), "comparisons": written.comparisons, "runs": written.runs}
        print(json.dumps(facts | {"left_out": list(written.left_out)}, indent=1, ensure_ascii=False))
    else:
        counted = f"comparisons: {written.comparisons}, runs: {written.runs}, left out: {len(written.left_out)}"
        print(f"wrote {written.index} ({counted}); open it in a browser")
    return 0


def _check(results: Path, *, as_json: bool) -> int:
    """Records against their lines and traces, tables against the records."""
    from harness.recheck import check_records
    from harness.show import Counter
    from harness.telling import differing_tables

    with Counter("records") as counter:
        found = check_records(results, report=counter)
    tables, count = differing_tables(results)
    wrong = [f"{folder}: {line}" for folder, one in found.checked.items() for line in one.problems]
    wrong += [f"{folder}: {line}" for folder, line in found.spoilt.items()] + tables
    left_out = {f"{folder}: {line}" for folder, one in found.checked.items() for line in one.left_out}
    traced = sum(one.traced for one in found.checked.values())
    if as_json:
        facts = {"records": len(found.checked), "traced_problems": traced, "tables": count, "wrong": wrong}
        print(json.dumps(facts | {"left_out": sorted(left_out)}, indent=1, ensure_ascii=False))
        return 1 if wrong else 0
    for line in wrong:
        print(f"differs: {line}")
    for line in sorted(left_out):
        click.echo(f"not recounted: {line}", err=True)
    print(f"{len(found.checked):,} records, {traced:,} traces and {count:,} tables recomputed: {len(wrong):,} differ")
    return 1 if wrong else 0
