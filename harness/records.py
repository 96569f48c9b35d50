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

from harness import jsonl, registry, shapes, storage
from harness.plugin_spec import plugin_json
from harness.reading import check_plain, parsed, read_bytes, read_json
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
        content = read_bytes(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no complete run lies there (no {name})") from None

    def sha256_of(file: str) -> str | None:
        try:
            check_plain(folder / file)
            return storage.sha256(folder / file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(f"{folder / file} cannot be read: {error.strerror or error}") from None

    return parse_record(content, path, sha256_of if hashed else None)


def parse_record(content: bytes, path: Path, sha256_of: Callable[[str], str | None] | None) -> Record:
    """A complete record from its bytes. path: its place; sha256_of: gives the hashes of the files beside it, None: unchecked."""
    advice = "restore it, or use --again to make it anew"
    try:
        record = parsed(content, str(path))
    except ValueError as error:
        raise ValueError(f"{error}; {advice}") from None
    if not isinstance(record, dict) or "digest" not in record or "schema" not in record:
        raise ValueError(f"{path} is not a record of this harness (no record of a run or a learner); {advice}")
    if record["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {record['schema']}, this harness reads {SCHEMA}; {advice}")
    if not _is_sealed(record):
        raise ValueError(f"{path} was edited after it was written; {advice}")
    if sha256_of is None:
        return record
    for file, expected in _files_of(record, path).items():
        found = sha256_of(file)
        if path.name == RUN and file in MAY_BE_GONE and found is None:
            continue
        if found != expected:
            raise ValueError(f"{path.parent / file} is missing or was changed since the run; {advice}")
    return record


def _is_sealed(record: Record) -> bool:
    """Whether a record's digest is that of its content."""
    try:
        return bool(seal(record) == record["digest"])
    except (ValueError, RecursionError):  # it holds what no record can: half a surrogate pair, a number that is infinite
        return False


def _files_of(record: Record, path: Path) -> dict[str, str]:
    """The files that a record names, with their hashes; ValueError for one that does not lie beside it."""
    files = record.get("files")
    if not isinstance(files, dict) or not all(isinstance(x, str) for x in files.values()):
        raise ValueError(f"{path} does not name its files with their hashes; move it away, or use --again to make it anew")
    for name in files:
        if name in ("", ".", "..") or Path(name).name != name:
            raise ValueError(f"{path} names a file that does not lie beside it ({name!r}); move it away")
    return files


def read_run(folder: Path, spec: RunSpec | None = None) -> Record:
    """A complete run's record; with a spec, ValueError if the record is another's."""
    return check_run(read_record(folder), folder / RUN, spec)


def check_run(record: Record, path: Path, spec: RunSpec | None = None) -> Record:
    """The record, if it is a run's and says so of itself; with a spec, of that run. ValueError otherwise; path: its place."""
    missing = [key for key in RUN_KEYS if key not in record]
    advice = "move it away, or use --again to make it anew"
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; {advice}")
    check_shape(record, shapes.Run, path)
    fingerprint = digest({k: v for k, v in record["spec"].items() if k != "seed"})
    if fingerprint != record["fingerprint"] or (spec is not None and record["fingerprint"] != spec.fingerprint()):
        raise ValueError(f"{path} is the record of another run; {advice}")
    if spec is not None and record["seed"] != spec.seed:
        raise ValueError(f"{path} is the record of seed {record['seed']}; {advice}")
    return record


def finished(results: Path, spec: RunSpec) -> Record | None:
    """The record of a run that is complete, with its timing; None if it is still to be made. ValueError if it is spoilt."""
    folder = run_folder(results, spec)
    return read_measured(folder, spec) if is_there(folder / RUN) else None


def read_measured(folder: Path, spec: RunSpec | None = None) -> Record:
    """A run's record with its timing, from which tables can be made; ValueError if it lacks some of their numbers."""
    return check_measured(read_run(folder, spec), folder / RUN) | {"timing": read_timing(folder)}


def check_measured(record: Record, path: Path) -> Record:
    """The record, if it has all numbers that tables are made from. ValueError otherwise; path: its place."""
    check_shape(record, shapes.Measured, path)
    if not record["metrics"]:
        raise ValueError(f"{path} has no metrics; move it away, or use --again to make it anew")
    return record


def check_shape(record: Record, shape: type[msgspec.Struct], path: Path) -> None:
    """Raise a ValueError if a record is not of a shape, whoever sealed it."""
    try:
        shapes.check(record, shape)
    except ValueError as error:
        kind, advice = "a run" if path.name == RUN else "this harness", "move it away, or use --again to make it anew"
        raise ValueError(f"{path} is not a record of {kind} ({error}); {advice}") from None


def is_there(path: Path) -> bool:
    """Whether something bears this name, be it a link to nowhere, or in a folder that may not be looked into."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_timing(folder: Path) -> Record:
    """What cannot repeat; empty if it is gone or spoilt, since no record vouches for it."""
    try:
        timing: Record = read_json(folder / "timing.json")
        shapes.check(timing, shapes.Timing)
    except (OSError, ValueError):
        return {}
    return timing


def read_lines(folder: Path, name: str = "problems.jsonl") -> list[Record]:
    """The problems of a run, or the lines of another of its files; none where the file is gone."""
    return read_shaped(folder / name, Record)


def read_shaped(path: Path, shape: type[Shape]) -> list[Shape]:
    """The lines of a file; of a shape with fewer fields in half the time. None where the file is gone.

    The fast reader is strict: what it refuses and JSON as Python has it allows is read by the slow one. ValueError names the file
    and the line that neither can read, or that has another shape.
    """
    if not is_there(path):
        return []
    decoder = msgspec.json.Decoder(shape)
    try:
        check_plain(path)
        lines = enumerate(jsonl.lines_of(path), start=1)
        return [shaped(line, decoder, f"{path}, line {number},") for number, line in lines]
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def shaped(line: bytes, decoder: msgspec.json.Decoder[Shape], where: str) -> Shape:
    """A line's value, if it is of a decoder's type; ValueError begins with ``where``."""
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        found = parsed(line, where, numbers_only=False)
    try:
        return msgspec.convert(found, decoder.type)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"{where} is not as this harness writes it ({error})") from None


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
    """Folders of complete runs, of one task or of all, sorted; among them those that cannot be looked into: readers tell them."""
    runs = results / "runs"
    tasks = [runs / folder_name(task)] if task is not None else _folders_in(runs)
    folders = sorted({run for one in tasks for strategy in _folders_in(one) for run in _folders_in(strategy)})
    yield from (folder for folder in folders if is_there(folder / RUN))


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder; the folder itself where it cannot be looked into, so that it is told by its name."""
    try:
        return [folder / entry for entry in os.listdir(folder) if os.path.isdir(folder / entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return [folder]


def training_flops(train: Record) -> int:
    """All that a learner's training spent, earlier phases included; train: that part of its record."""
    before = train["pretraining"]
    return int(train["spent_flops"]) + (0 if before is None else training_flops(before))


def spec_of(record: Record, *, trust_plugins: bool = False) -> RunSpec:
    """The spec in a record; `registry.Untrusted` if that takes code to which only the record points, unless that is trusted.

    ValueError if it is no spec.
    """
    try:
        return from_json(record["spec"], trust_plugins=trust_plugins)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the record's spec cannot be read ({type(error).__name__}: {error})") from None


def folder_of(results: Path, record: Record) -> Path:
    """Where the run of a record lies, by its spec; needs no plugin's code."""
    spec = record["spec"]
    own = {"fingerprint": digest({key: value for key, value in spec.items() if key != "seed"}), "seed": spec["seed"]}
    return results / place_of(record | own)


def check_place(record: Record, folder: Path) -> Record:
    """Return a run's record; ValueError if it lies in another folder than its own, as a copy does, which would count twice."""
    if (place := place_of(record)) != "/".join(folder.parts[-4:]):
        raise ValueError(f"{folder} holds the record of {place}; move it there, or delete it if it is a copy")
    return record


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
