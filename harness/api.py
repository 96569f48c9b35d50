"""The Python API: `run` a spec, `load_runs` as a table. Imports heavy libraries only inside its functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.spec import RunSpec, make_spec
from harness.visible import visible

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


def load_runs(
    path: str | Path = "results", *, split: Literal["test", "validation", "all"] = "test", trust_plugins: bool = False
) -> pd.DataFrame:
    """Complete runs of a results folder as a tidy table: a row for each run, metric and comparison that the run belongs to.

    Runs are read below ``path/runs`` and from the packs below ``path/records``; nothing is written. A record that cannot be read
    is named in a warning and left out. Raises ValueError where there is no run.

    split: the problems that a run was asked: those of the test, those on which points are chosen, or both. trust_plugins: whether
    the code of plugins that only records name may be run. It is needed for nothing but the defaults of settings that their
    records leave out.

    The columns:

    - ``comparison``, ``arm``: the comparison whose tables lie in ``path/tables``, and the name of the run's arm in them. A run
      of two comparisons has two rows, a run of none has one, with both empty. Arms of one strategy differ in this alone.
    - ``task``, ``strategy``, ``fingerprint``, ``learner``, ``seed``; ``split``, and ``problems``: the number that was asked.
    - ``metric``, ``value``, ``low``, ``high``, ``n``, ``floor``: a score with its 95% interval over the ``n`` problems, as
      tables of a single seed have it, and the score of the best constant answer. Accuracies are shares, from 0 to 1.
    - ``target_flops``: the training budget, in a comparison that of the table's row; ``train_flops``: the training FLOPs spent.
    - ``infer_flops``, ``serial_passes``, ``text_tokens``, ``woven_tokens``: means over the problems.
    - ``model.X``, ``train.X``, ``infer.X``, ``strategy.X``, ``task.X``, ``pretraining.X``: every setting, by the key that
      ``--set`` takes. A setting that a run does not have is missing in its row.
    """
    import warnings

    from harness.run_table import table_of_runs

    table, left_out = table_of_runs(Path(path), split, trust_plugins=trust_plugins)
    for reason in left_out:
        warnings.warn(f"left out: {visible(reason)}", stacklevel=2)
    return table
