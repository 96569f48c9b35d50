"""One run, made by this process or by all that were launched together (torchrun, `accelerate launch`).

Knows who says what on the screen; the run is `harness.runs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import show
from harness.ranks import joined
from harness.records import Record
from harness.remote import synced
from harness.runs import run
from harness.spec import RunSpec
from harness.tracking import Name as Tracker
from harness.tracking import Tracked, tracked


def run_together(
    spec: RunSpec,
    results: Path,
    device: str,
    options: dict[str, Any],
    *,
    shard: bool,
    url: str | None,
    track: Tracker | None,
) -> Record | None:
    """The run's record; None on every rank but the first, which alone shows how it goes and writes into ``results``.

    url: where results lie, if elsewhere; ``results`` is then its scratch folder here. track: what keeps curves.
    """
    with joined(device, shard=shard) as (ranks, own):
        if ranks.first:
            try:
                with synced(url, spec), show.Bars() as bars, tracked(bars, track, results) as reporter:
                    record = run(spec, results=results, device=own, ranks=ranks, reporter=reporter, **options)
                    if isinstance(reporter, Tracked):
                        reporter.ended(spec, record)
                    return record
            finally:
                ranks.dismiss()
        with ranks.followed(results) as scratch:
            if scratch is not None:
                run(spec, results=scratch, device=own, ranks=ranks, **options)
        return None
