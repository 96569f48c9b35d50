"""Conformance: every plugin against every check, as scikit-learn's check_estimator does for estimators.

`run_checks` takes plugins by name; `check_file` looks at an outsider's strategy. The checks themselves are in `harness.checks`,
one function each. Names no plugin.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness import registry
from harness.checks import outsider
from harness.checks.context import Context
from harness.checks.model import LEAKS
from harness.checks.outsider import Distance
from harness.checks.runner import Bench, CheckResult, Report, check_names, run_checks
from harness.strategy import Strategy

__all__ = ["CheckResult", "FileReport", "check_file", "check_names", "run_checks"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileReport:
    """What `check FILE.py` found of an outsider's strategy, on a small untrained model.

    leaks: the paths (training, asking) on which a later token changes what was said before it; None where that could not be
    told. gradient: by distance of the target, empty if `forward` does not call backbone.embed. ledger: of one problem. The
    multiples are FLOPs relative to plain training and asking; None where a failed check left nothing to measure.
    """

    path: str
    strategy: str
    doc: str
    checks: tuple[CheckResult, ...]
    leaks: dict[str, bool | None]
    gradient: tuple[Distance, ...]
    ledger: dict[str, float]
    asking_multiple: float | None
    training_multiple: float | None
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"passed": self.passed}


def check_file(path: str | Path, *, report: Report | None = None) -> FileReport:
    """Look at the strategy in a file, untrained and on a small task of the harness's own.

    ValueError: the file cannot be imported, or holds no strategy.
    """
    started_s = time.monotonic()
    name = str(path)
    strategy: Strategy = registry.find("strategy", name)()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), (name,), ())
        task = outsider.Sums()
        context = bench.context(strategy, task, name)
        results = []
        for result in bench.of_strategy(name, strategy, {"": task}, trained_tasks=0):
            results.append(result)
            if report is not None:
                report(result)
        by_name = {r.check: r for r in results}
        paths = {"training": "no_leak_in_training", "asking": "no_leak_when_asking"}
        leaks = {path: _leaks(by_name.get(check)) for path, check in paths.items()}
        return FileReport(
            path=name,
            strategy=type(strategy).__name__,
            doc=registry.first_line(type(strategy)),
            checks=tuple(results),
            leaks=leaks,
            gradient=tuple(_measured(outsider.gradient_by_distance, context) or ()),
            ledger=_measured(outsider.ledger_of_one, context) or {},
            asking_multiple=_measured(outsider.asking_multiple, context),
            training_multiple=_measured(outsider.training_multiple, context),
            seconds=time.monotonic() - started_s,
        )


def _leaks(result: CheckResult | None) -> bool | None:
    """Whether a leak was seen; None where the check itself could not run."""
    if result is None or (result.status == "failed" and LEAKS not in result.message):
        return None
    return result.status in ("failed", "known")


def _measured(measure: Callable[[Context], T], context: Context) -> T | None:
    """A measure, or nothing where the strategy is too broken for it: the failed checks say why."""
    try:
        return measure(context)
    except Exception:
        return None
