"""Curves of a run while it is made, for those who watch them in TensorBoard or Trackio: off unless asked for, part of no record.

RESULTS/tracking/tensorboard/STRATEGY-LEARNER-sSEED/, or Trackio's SQLite files in RESULTS/tracking/trackio/. Knows Accelerate's
trackers and what a run tells; knows no files of the run.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from harness import registry
from harness.learners import Reporter
from harness.records import Record, folder_name
from harness.settings import unknown
from harness.spec import RunSpec
from harness.spec_text import command_line
from harness.target import Spent

Name = Literal["tensorboard", "trackio"]
EVERY_UPDATES = 10
PROJECT = "thinking-harness"
NEEDED: dict[str, tuple[str, ...]] = {
    "tensorboard": ("torch.utils.tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
}  # one of


class Tracked:
    """A reporter that hands on what it is told, and keeps every tenth update with a tracker."""

    def __init__(self, inner: Reporter, tracker: Name, results: Path) -> None:
        self._inner, self._name, self._folder = inner, tracker, results / "tracking" / tracker
        os.environ.setdefault("TRACKIO_DIR", str(self._folder.resolve()))  # read when Trackio is imported
        self._kinds = _kinds(tracker)
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Tracked:
        return self

    def __exit__(self, *error: object) -> None:
        for tracker in self._open.values():
            tracker.finish()

    def training(self, spec: RunSpec, spent: Spent, progress: float, loss_nats: float) -> None:
        """Loss and what is spent, by update."""
        self._inner.training(spec, spent, progress, loss_nats)
        if spent.updates == 1 or spent.updates % EVERY_UPDATES == 0:
            values = {"train/loss_nats": loss_nats, "train/spent_flops": spent.flops, "train/text_tokens": spent.text_tokens}
            self._of(spec).log(values, step=spent.updates)

    def evaluating(self, spec: RunSpec, done: int, total: int) -> None:
        """Nothing of its own."""
        self._inner.evaluating(spec, done, total)

    def ended(self, spec: RunSpec, record: Record) -> None:
        """What the run came to."""
        values = {f"test/{name}": found["value"] for name, found in record["metrics"].items()}
        self._of(spec).log({k: v for k, v in values.items() if v is not None}, step=record["train"]["updates"])

    def _of(self, spec: RunSpec) -> Any:
        """The tracker of a learner."""
        name = f"{folder_name(registry.plugin_name(spec.strategy))}-{spec.learner_fingerprint()}-s{spec.seed}"
        if name not in self._open:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._name == "tensorboard":
                made = self._kinds["tensorboard"](name, str(self._folder))
            else:
                made = self._kinds["trackio"](PROJECT, name=name, embed=False)
            made.start()
            made.store_init_configuration({"command": command_line(spec), "seed": spec.seed})
            self._open[name] = made
        return self._open[name]


@contextmanager
def tracked(reporter: Reporter, tracker: Name | None, results: Path) -> Iterator[Reporter]:
    """The same reporter, or one that keeps curves as well."""
    if tracker is None:
        yield reporter
        return
    with Tracked(reporter, tracker, results) as keeping:
        yield keeping


def _kinds(tracker: str) -> dict[str, Any]:
    """Accelerate's trackers; ValueError says how to get what is missing."""
    if tracker not in get_args(Name):
        raise unknown("tracker", tracker, get_args(Name))
    try:
        tracking: Any = importlib.import_module("accelerate.tracking")
        importlib.import_module("accelerate").PartialState()  # its trackers write to its log, which wants one
        if not any(_imports(name) for name in NEEDED[tracker]):
            raise ImportError
    except ImportError:
        raise ValueError(f"--track: {tracker} is not installed; pip install 'thinking-harness[track]'") from None
    return {"tensorboard": tracking.TensorBoardTracker, "trackio": tracking.TrackioTracker}


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
