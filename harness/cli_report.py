"""The command `report`: the page of a results folder. Knows options; builds nothing by itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.options import JSON, RESULTS


@click.command()
@RESULTS
@JSON
def report(results: Path, as_json: bool) -> None:
    """Write RESULTS/index.html: verdicts, tables, plots, and a browser of single problems with their traces and trees."""
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
