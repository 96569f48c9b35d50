"""Results folders for tests of what reads records: sealed records that were never run, and real ones of a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import records
from harness.spec import SCHEMA, make_spec

TINY = {"model.size": "xs", "model.width": 16, "model.layers": 2, "model.heads": 2, "infer.problems": 8}
TINY |= {"train.flops": 2e7, "train.problems_per_update": 8}


def written(results: Path, *, seed: int = 0, split: str = "test", task: str = "arithmetic", score: int = 1, **more: Any) -> Path:
    """A sealed record with two lines, traces, attention and train.jsonl; its folder."""
    settings = {"infer.split": split, **{key.replace("__", "."): value for key, value in more.items()}}
    spec = make_spec(strategy="direct", task=task, settings=settings, seed=seed)
    folder = records.run_folder(results, spec)
    folder.mkdir(parents=True)
    (folder / "problems.jsonl").write_text(f'{{"id":"1+1=","score":{score}}}\n{{"id":"1+2=","score":0}}\n' * 20)
    for name in ("traces.jsonl", "attention.jsonl", "train.jsonl"):
        (folder / name).write_text(f'{{"id":"{name} of {spec.fingerprint()} {seed}"}}\n')
    (folder / "timing.json").write_text('{"train_s": 1.0}\n')
    record: dict[str, Any] = dict.fromkeys(records.RUN_KEYS, 0)
    record |= {"command": "python -m harness run", "train": {}, "infer": {}, "by_difficulty": []}
    record |= {"schema": SCHEMA, "spec": spec.to_json(), "fingerprint": spec.fingerprint(), "seed": seed, "value": None}
    record |= {"learner": spec.learner_fingerprint(), "metrics": {"accuracy": {"value": score / 2}}}
    reseal(folder, lambda _: record)
    return folder


def reseal(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a record and seal it again, its files as they are now."""
    path = folder / "run.json"
    record = change(json.loads(path.read_text()) if path.exists() else {})
    kept = {key: value for key, value in record.items() if key not in ("files", "digest")}
    records.write_json(path, records.sealed(kept, folder, ("problems.jsonl", "traces.jsonl", "attention.jsonl", "train.jsonl")))


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
