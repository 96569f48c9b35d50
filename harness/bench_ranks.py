"""How much sooner two processes train one learner than one does, equal losses checked first.

Wall seconds of updates, so this needs two cores with nobody else at them. A workload for `harness.bench`, which starts this file
with torchrun once for each number of processes. Knows one learner.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.alphabet import make_alphabet
from harness.bench_turns import result, same
from harness.defaults import default
from harness.feed import make_feed
from harness.ranks import joined
from harness.spec import make_spec
from harness.target import Spent
from harness.train import Trainer
from harness.weights import make_backbone

SIZE, PROCESSES, TARGET = "m", 2, 1.6
UPDATES, WARM = 12, 3  # of which the first are not measured: libraries warm up
TOLERANCE_NATS = 1e-4


class _Enough(Exception):
    """All updates are made."""


def rank_measures() -> Iterator[dict[str, Any]]:
    """Nothing without Accelerate."""
    if find_spec("accelerate") is None:
        return
    found = {count: _launched(count) for count in (1, PROCESSES)}
    for one, many in zip(*(found[count]["losses"] for count in found), strict=True):
        same(f"losses of {PROCESSES} processes", (one, many), TOLERANCE_NATS)
    seconds = {count: statistics.median(one["seconds"]) for count, one in found.items()}
    facts = {f"s_an_update_of_{count}": s for count, s in seconds.items()}
    yield result(f"train {SIZE}: {PROCESSES} processes", seconds[1] / seconds[PROCESSES], TARGET, facts)


def _launched(count: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", __name__]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, folder], check=True, capture_output=True, env=environment)
        found: dict[str, list[float]] = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
        return found


def _train(folder: Path) -> None:
    """In each process: some updates; the first one writes down how long each took, and its loss."""
    spec = make_spec(strategy=default("baseline"), task="language_model", settings={"model.size": SIZE})
    alphabet, ends, losses = make_alphabet(spec.alphabet), [], []
    with joined("cpu") as (ranks, _):
        backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=spec.seed)
        own = folder / str(ranks.rank)
        own.mkdir()
        trainer = Trainer(backbone=backbone, spec=spec.train, feed=make_feed(spec, backbone), folder=own, ranks=ranks)

        def report(spent: Spent, progress: float, loss_nats: float) -> None:
            ends.append(time.monotonic())
            losses.append(loss_nats)
            if spent.updates == UPDATES:
                raise _Enough

        try:
            trainer.run(report)
        except _Enough:
            seconds = [later - earlier for earlier, later in zip(ends[WARM:], ends[WARM + 1 :], strict=False)]
            if ranks.first:
                (folder / "found.json").write_text(json.dumps({"seconds": seconds, "losses": losses}), encoding="utf-8")


if __name__ == "__main__":
    _train(Path(sys.argv[1]))
