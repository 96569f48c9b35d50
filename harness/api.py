"""The Python API: `run` a spec, `load_runs` as a table. Imports heavy libraries only inside its functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.spec import RunSpec, make_spec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_runs", "make_spec", "run"]


def run(
    spec: RunSpec,
    *,
    results: str | Path = "results",
    again: bool = False,
    device: str = "cpu",
    max_kv_bytes: int | None = None,
) -> dict[str, Any]:
    """Train and evaluate, or return the record that is there: run.json's content with ``timing`` added.

    results: a folder, or a URL of what fsspec opens.
    Raises ValueError for anything that the caller can mend; the message says how.
    """
    from harness import records
    from harness.remote import is_url, scratch_of, synced

    url = str(results) if is_url(str(results)) else None
    folder = Path(results) if url is None else scratch_of(url)
    with synced(url, spec):
        record = None if again else records.finished(folder, spec)
        if record is not None:
            return record
        from harness.runs import run as run_spec

        return run_spec(spec, results=folder, again=again, device=device, max_kv_bytes=max_kv_bytes)


def load_runs(path: str | Path = "results") -> pd.DataFrame:
    """All complete runs below a results folder as a tidy table: a row for each run and metric.

    Columns: task, strategy, fingerprint, learner, seed, metric, value, low, high, n, floor, train_flops, and the means per
    problem: infer_flops, serial_passes, text_tokens, woven_tokens; then ``strategy.X`` and ``task.X`` settings. A record that
    cannot be read is named in a warning and left out.
    """
    import warnings

    import pandas as pd

    from harness import records

    rows = []
    for folder in records.run_folders(Path(path)):
        try:
            record = records.read_run(folder)
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        rows += _rows(record)
    return pd.DataFrame(rows)


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A run's rows of the tidy table."""
    from harness import registry

    spec, infer = record["spec"], record["infer"]
    common = {"task": registry.title("task", spec["task"]), "strategy": spec["strategy"]["name"]}
    common |= {key: record[key] for key in ("fingerprint", "learner", "seed")}
    costs = {
        "train_flops": record["train"]["spent_flops"],
        "infer_flops": infer["flops_per_problem"]["total"],
        "serial_passes": infer["serial_passes_per_problem"],
        "text_tokens": infer["text_tokens_per_problem"],
        "woven_tokens": infer["woven_tokens_per_problem"],
    }
    settings = {f"{g}.{k}": v for g in ("strategy", "task") for k, v in spec[g].items() if k not in ("name", "version")}
    return [{**common, "metric": name, **metric, **costs, **settings} for name, metric in record["metrics"].items()]
