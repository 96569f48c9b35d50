"""The commands `gc`, `pack` and `merge`: their options, and what they print. Knows options and words; does nothing by itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.legal import GREATEST_SEED
from harness.options import JSON, RESULTS, TRUST_PLUGINS
from harness.visible import say, say_json, to_stderr

if TYPE_CHECKING:
    from harness.garbage import Collected
    from harness.merging import Audited, Merged


@click.command()
@RESULTS
@click.option("--weights", is_flag=True, help="Also all weights and value models that a run's command makes again.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@TRUST_PLUGINS
@JSON
def gc(results: Path, weights: bool, dry_run: bool, trust_plugins: bool, as_json: bool) -> None:
    """Remove what nobody needs: half-made runs, checkpoints, locks, weights that no run refers to. Never a complete run."""
    from harness.garbage import collect

    found = collect(results, weights=weights, dry_run=dry_run, trust_plugins=trust_plugins)
    if as_json:
        removed = [{"what": one.what, "path": str(one.path), "bytes": one.bytes} for one in found.removed]
        say_json({"dry_run": dry_run, "removed": removed, "kept": found.kept})
    else:
        _print_collected(found, dry_run=dry_run)


def _print_collected(found: Collected, *, dry_run: bool) -> None:
    """What goes on stdout, what stays on stderr."""
    for line in found.kept:
        to_stderr(f"left alone: {line}")
    for one in found.removed:
        say(f"{'would remove' if dry_run else 'removed'} {one.path}: {one.what}, {one.bytes:,} bytes")
    for what, (count, size) in found.by_kind().items():
        say(f"{what}: {count:,}, {size:,} bytes")
    if not found.removed:
        say("nothing to remove")


@click.command()
@click.argument("target", metavar="TARGET.tar.xz", type=click.Path(path_type=Path))
@RESULTS
@click.option("--task", help="Only runs of this task.")
@click.option(
    "--traces-of-seed",
    type=click.IntRange(0, GREATEST_SEED),
    default=0,
    show_default=True,
    help="The seed whose traces and attention are kept.",
)
@JSON
def pack(target: Path, results: Path, task: str | None, traces_of_seed: int, as_json: bool) -> None:
    """All complete runs as one archive, the same bytes for the same records; `merge` unpacks it."""
    from harness.packs import pack as pack_runs

    found = pack_runs(target, results=results, task=task, traces_of_seed=traces_of_seed, report=to_stderr)
    for line in found.left_out:
        to_stderr(f"left out: {line}")
    if as_json:
        say_json(asdict(found) | {"path": str(found.path)})
        return
    each = found.packed_bytes / found.runs
    say(f"wrote {found.path}: {found.runs:,} runs, {found.packed_bytes:,} bytes ({each:,.0f} a run), of {found.content_bytes:,}")


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@RESULTS
@click.option("--audit", "audits", type=click.IntRange(0), default=0, help="Make so many of the merged runs again and compare.")
@TRUST_PLUGINS
@JSON
def merge(source: Path, results: Path, audits: int, trust_plugins: bool, as_json: bool) -> int:
    """Copy the complete runs that --results lacks from SOURCE, a folder or a pack. Exit 1 on a conflict, or if none is sound."""
    from harness import merging

    merged = merging.merge(source, results=results, report=to_stderr)
    audited = _audited(merged, audits, results, trust_plugins) if audits else []
    if as_json:
        say_json(asdict(merged) | {"audited": [asdict(one) for one in audited]})
    else:
        _print_merged(merged, audited, source)
    nothing = merged.left_out and not (merged.merged or merged.present)
    return 1 if nothing or merged.conflicts or any(one.reason for one in audited) else 0


def _audited(merged: Merged, count: int, results: Path, trust_plugins: bool) -> list[Audited]:
    """Make some of the merged runs again, with progress on stderr."""
    from harness import merging
    from harness.show import Bars

    audited = []
    with Bars() as bars:
        for one in merging.audit(merged, count, results=results, reporter=bars, trust_plugins=trust_plugins):
            to_stderr(f"made again: {one.run}: {one.reason or 'equal'}")
            audited.append(one)
    return audited


def _print_merged(merged: Merged, audited: list[Audited], source: Path) -> None:
    """A summary: how many of each kind, and those that need a look by name (reasons are on stderr)."""
    counts = {
        "merged": merged.merged,
        "there already": merged.present,
        "in conflict": merged.conflicts,
        "left out": merged.left_out,
    }
    say(f"{source}: " + ", ".join(f"{len(some):,} {what}" for what, some in counts.items()))
    for run in merged.conflicts:
        say(f"conflict: {run}: another record is there, and kept")
    for one in audited:
        say(f"audit: {one.run}: {one.reason or 'made again, equal'}")
    if not audited:
        return
    say(f"{sum(one.reason is None for one in audited):,} of {len(audited):,} made again are equal")
