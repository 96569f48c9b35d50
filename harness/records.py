"""The record of a run on disk: where it lies, how it is written last, read and checked. Loads no model.

results/runs/TASK/STRATEGY/FINGERPRINT-sSEED/   run.json, problems.jsonl, timing.json; traces, attention and train.jsonl
results/weights/LEARNER-sSEED/                  learner.json, model.safetensors, train.jsonl, timing.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness import jsonl, registry, storage
from harness.plugin_spec import plugin_json
from harness.spec import SCHEMA, RunSpec, canonical, digest, from_json

Record = dict[str, Any]
Shape = TypeVar("Shape")
RUN_KEYS = (
    "schema", "complete", "command", "spec", "fingerprint", "learner", "seed", "threads", "train", "infer", "metrics",
    "by_difficulty",
)  # fmt: skip
RUN = "run.json"
LONGEST_NAME = 200  # of a folder: file names of tables begin with it
RUN_PATH = re.compile(r"runs/(?!\.)[A-Za-z0-9_.-]+/(?!\.)[A-Za-z0-9_.-]+/[0-9a-f]{12}-s[0-9]+")
MAY_BE_GONE = ("traces.jsonl", "attention.jsonl", "train.jsonl")  # of a run: no number of a table comes from them


def run_folder(results: Path, spec: RunSpec) -> Path:
    """Where this run's record lies."""
    task = folder_name(registry.title("task", plugin_json(spec.task)))
    strategy = folder_name(registry.plugin_name(spec.strategy))
    return results / "runs" / task / strategy / f"{spec.fingerprint()}-s{spec.seed}"


def weights_folder(results: Path, spec: RunSpec) -> Path:
    """Where this run's learner lies."""
    return results / "weights" / f"{spec.learner_fingerprint()}-s{spec.seed}"


def folder_name(plugin: str) -> str:
    """A plugin's name as one folder; one that no file system holds is cut, with a digest of the whole."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plugin).strip("_.") or "plugin"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}-{digest(plugin)}"


def write_json(path: Path, value: Record) -> None:
    """Replace a JSON file."""
    storage.replace_file(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def sealed(record: Record, folder: Path, files: tuple[str, ...]) -> Record:
    """The record with the hashes of its files, and of itself."""
    record = record | {"files": {name: storage.sha256(folder / name) for name in files if (folder / name).exists()}}
    return record | {"digest": seal(record)}


def seal(record: Record) -> str:
    """sha256 of a record without its own digest."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "digest"}).encode()).hexdigest()


def read_record(folder: Path, *, name: str = RUN, hashed: bool = True) -> Record:
    """A complete record; ValueError says what is wrong with it and what to do. hashed: its files are checked too."""
    path = folder / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no complete run lies there (no {name})") from None

    def sha256_of(file: str) -> str | None:
        return storage.sha256(folder / file) if (folder / file).exists() else None

    return parse_record(content, path, sha256_of if hashed else None)


def parse_record(content: bytes, path: Path, sha256_of: Callable[[str], str | None] | None) -> Record:
    """A complete record from its bytes. path: its place; sha256_of: gives the hashes of the files beside it, None: unchecked."""
    advice = "restore it, or use --again to make it anew"
    try:
        record = json.loads(content)
    except (ValueError, UnicodeDecodeError):
        raise ValueError(f"{path} is truncated or no JSON; {advice}") from None
    if not isinstance(record, dict) or "digest" not in record or "schema" not in record:
        raise ValueError(f"{path} is not a record of this harness (no record of a run or a learner); {advice}")
    if record["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {record['schema']}, this harness reads {SCHEMA}; {advice}")
    if seal(record) != record["digest"]:
        raise ValueError(f"{path} was edited after it was written; {advice}")
    if sha256_of is None:
        return record
    for file, expected in record["files"].items():
        found = sha256_of(file)
        if path.name == RUN and file in MAY_BE_GONE and found is None:
            continue
        if found != expected:
            raise ValueError(f"{path.parent / file} is missing or was changed since the run; {advice}")
    return record


def read_run(folder: Path, spec: RunSpec | None = None) -> Record:
    """A complete run's record; with a spec, ValueError if the record is another's."""
    return check_run(read_record(folder), folder / RUN, spec)


def check_run(record: Record, path: Path, spec: RunSpec | None = None) -> Record:
    """The record, if it is a run's and says so of itself; with a spec, of that run. ValueError otherwise; path: its place."""
    missing = [key for key in RUN_KEYS if key not in record]
    advice = "move it away, or use --again to make it anew"
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; {advice}")
    fingerprint = digest({k: v for k, v in record["spec"].items() if k != "seed"})
    if fingerprint != record["fingerprint"] or (spec is not None and record["fingerprint"] != spec.fingerprint()):
        raise ValueError(f"{path} is the record of another run; {advice}")
    if spec is not None and record["seed"] != spec.seed:
        raise ValueError(f"{path} is the record of seed {record['seed']}; {advice}")
    return record


def finished(results: Path, spec: RunSpec) -> Record | None:
    """The record of a run that is complete, with its timing; None if it is still to be made. ValueError if it is spoilt."""
    folder = run_folder(results, spec)
    if not (folder / "run.json").exists():
        return None
    return read_run(folder, spec) | {"timing": read_timing(folder)}


def read_timing(folder: Path) -> Record:
    """What cannot repeat; empty if it is gone."""
    try:
        timing = json.loads((folder / "timing.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return timing if isinstance(timing, dict) else {}


def read_lines(folder: Path, name: str = "problems.jsonl") -> list[Record]:
    """The problems of a run, or the lines of another of its files; none where the file is gone."""
    return read_shaped(folder / name, Record)


def read_shaped(path: Path, shape: type[Shape]) -> list[Shape]:
    """The lines of a file; of a shape with fewer fields in half the time. None where the file is gone.

    The fast reader is strict: what it refuses and JSON as Python has it allows is read by the slow one.
    """
    if not path.exists():
        return []
    decode = msgspec.json.Decoder(shape).decode

    def value(line: bytes) -> Shape:
        try:
            return decode(line)
        except msgspec.DecodeError:
            return msgspec.convert(json.loads(line), shape)

    return [value(line) for line in jsonl.lines_of(path)]


def find_run(name: str, results: Path) -> Path:
    """A run's folder from its path, or from (the beginning of) its folder's name; ValueError lists what there is."""
    given = Path(name)
    if (given / "run.json").is_file():
        return given
    if given.name == "run.json" and given.is_file():
        return given.parent
    found = [path for path in run_folders(results) if path.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(path.name for path in run_folders(results))) or "none"
    problem = "several runs begin so" if found else "no such run"
    raise ValueError(f"RUN: {problem}: {name!r}; give a run's folder, or one of these names: {known}")


def results_of(folder: Path) -> Path | None:
    """The results folder in which a run lies (RESULTS/runs/TASK/STRATEGY/NAME); None if it lies elsewhere."""
    for whole in (Path(os.path.abspath(folder)), folder.resolve()):
        if len(whole.parents) > 3 and whole.parents[2].name == "runs":
            return whole.parents[3]
    return None


def run_folders(results: Path, *, task: str | None = None) -> Iterator[Path]:
    """Folders of complete runs, of one task or of all, sorted."""
    among = "*" if task is None else folder_name(task)
    yield from sorted(path.parent for path in (results / "runs").glob(f"{among}/*/*/run.json"))


def training_flops(train: Record) -> int:
    """All that a learner's training spent, earlier phases included; train: that part of its record."""
    before = train["pretraining"]
    return int(train["spent_flops"]) + (0 if before is None else training_flops(before))


def spec_of(record: Record, *, trust_plugins: bool = False) -> RunSpec:
    """The spec in a record; `registry.Untrusted` if that takes code to which only the record points, unless that is trusted."""
    return from_json(record["spec"], trust_plugins=trust_plugins)


def folder_of(results: Path, record: Record) -> Path:
    """Where the run of a record lies, by its spec; needs no plugin's code."""
    spec = record["spec"]
    own = {"fingerprint": digest({key: value for key, value in spec.items() if key != "seed"}), "seed": spec["seed"]}
    return results / place_of(record | own)


def place_of(record: Record) -> str:
    """Where a record belongs, from the results folder; needs no plugin's code. ValueError if that is no run's path."""
    try:
        task = folder_name(registry.title("task", record["spec"]["task"]))
        strategy = folder_name(str(record["spec"]["strategy"]["name"]))
    except (KeyError, TypeError):
        raise ValueError(f"run {record['fingerprint']} does not name its task and strategy; leave this record out") from None
    path = f"runs/{task}/{strategy}/{record['fingerprint']}-s{record['seed']}"
    if not RUN_PATH.fullmatch(path):
        raise ValueError(f"{path} is no place of a run; leave this record out")
    return path
