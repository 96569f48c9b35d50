"""The tidy table of a results folder's runs, with the comparisons that they belong to. Loads no model.

Records are read where they lie: below ``runs/``, and in the packs below ``records/``. Which comparison a run belongs to, and as
which arm, is declared beside the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from harness import packs, records, registry
from harness.grid import arms_of
from harness.reading import read_bytes
from harness.records import Record
from harness.spec import InferSpec, ModelSpec, TrainSpec, canonical
from harness.suite import Block

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["test", "validation", "all"]
OURS: Mapping[str, type[Any]] = {"model": ModelSpec, "train": TrainSpec, "infer": InferSpec}
GROUPS = (*OURS, "strategy", "task", "pretraining")


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A place of a run in a comparison: the arm, and the training budget at which the arm is compared."""

    comparison: str = ""
    arm: str = ""
    target_flops: float | None = None


class _Listed(msgspec.Struct):
    """A run as a comparison lists it."""

    folder: str
    arm: str
    point: str
    train_flops: float


class _Comparison(msgspec.Struct):
    """The part of a comparison's file that tells which runs it holds."""

    name: str
    block: Block
    runs: list[_Listed]


def table_of_runs(results: Path, split: str, *, trust_plugins: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The table, and what was left out of it and why. ValueError if there is no run for it.

    trust_plugins: whether code to which only records point may be run, for the defaults of settings that they leave out.
    """
    import pandas as pd

    if split not in get_args(Split):
        raise ValueError(f"split: expected one of {', '.join(get_args(Split))}, got {split!r}")
    found, left_out = _records(results)
    if not found:
        first = f"; the first that was left out: {left_out[0]}" if left_out else ""
        raise ValueError(
            f"{results} holds no complete run, neither below runs/ nor in packs below records/; name a results folder{first}"
        )
    kept = {name: record for name, record in found.items() if split in ("all", record["spec"]["infer"]["split"])}
    if not kept:
        other = sorted({str(record["spec"]["infer"]["split"]) for record in found.values()})
        raise ValueError(f"split: {results} has no run on {split!r}; it has runs on: {', '.join(other)}")
    members = _members(results, found, left_out)
    late = _late_settings(kept.values(), left_out, trust_plugins)
    rows = [row for name, record in kept.items() for row in _rows(record, members.get(name) or [Member()], late)]
    columns = dict.fromkeys(column for row in rows for column in row)
    return pd.DataFrame(rows, columns=sorted(columns, key=_group)), left_out


def _late_settings(found: Iterable[Record], left_out: list[str], trust_plugins: bool) -> dict[tuple[str, str], dict[str, Any]]:
    """The defaults of settings that records leave out at their defaults, by kind and name of the plugin."""
    kinds: tuple[registry.Kind, ...] = ("strategy", "task")
    late: dict[tuple[str, str], dict[str, Any]] = {}
    for kind, name in sorted({(kind, str(record["spec"][kind]["name"])) for record in found for kind in kinds}):
        try:
            cls = registry.find(kind, name, trust_plugins=trust_plugins)
        except registry.Untrusted as error:
            left_out.append(f"settings of {name} that records do not name because they are at their defaults: {error}")
        except ValueError:  # a plugin that is gone; its records still say all that they say
            continue
        else:
            fields = [field for field in dataclasses.fields(cls) if field.metadata.get("late")]
            late[kind, name] = {f"{kind}.{field.name}": field.default for field in fields}
    return late


def _records(results: Path) -> tuple[dict[str, Record], list[str]]:
    """Records by their runs' paths from the results folder, what lies unpacked first; and what is wrong with the others."""
    found: dict[str, Record] = {}
    left_out: list[str] = []
    for folder in records.run_folders(results):
        try:
            found[folder.relative_to(results).as_posix()] = _whole(records.check_place(records.read_run(folder), folder), folder)
        except ValueError as error:
            left_out.append(str(error))
    for path in sorted((results / "records").rglob(f"*{packs.SUFFIX}")):
        try:
            packed, spoilt = packs.read_pack(path)
        except ValueError as error:
            left_out.append(str(error))
            continue
        left_out += spoilt
        for name in packed.keys() - found.keys():
            try:
                found[name] = _whole(packed[name], path / name)
            except ValueError as error:
                left_out.append(str(error))
    return dict(sorted(found.items())), left_out


def _whole(record: Record, folder: Path) -> Record:
    """The record, if it has all that a row needs; ValueError otherwise."""
    records.check_measured(record, folder / records.RUN)
    try:
        list(_rows(record, [Member()]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / records.RUN} is not a record of a run ({type(error).__name__}: {error}); move it away"
        ) from None
    return record


def _members(results: Path, found: Mapping[str, Record], left_out: list[str]) -> dict[str, list[Member]]:
    """The places of each run in the comparisons whose tables lie there."""
    members: dict[str, set[Member]] = {}
    asked_alike: dict[str, list[str]] = {}
    for name, record in found.items():
        asked_alike.setdefault(_without_problems(record), []).append(name)
    for path in sorted((results / "tables").glob("*.json")):
        try:
            comparison = msgspec.json.decode(read_bytes(path), type=_Comparison)
        except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
            reason = str(error).removeprefix(f"{path} ")
            left_out.append(f"{path} is no comparison ({reason}); make it again with compare")
            continue
        chosen, validation = _chosen(comparison), comparison.block.validation
        for run in comparison.runs:
            names = {run.folder}
            if run.folder in found and (run.arm, run.train_flops) in chosen:
                names |= set(_on_validation(found, asked_alike[_without_problems(found[run.folder])], validation))
            for name in names:
                members.setdefault(name, set()).add(Member(comparison.name, run.arm, run.train_flops))
    return {name: sorted(places) for name, places in members.items()}


def _chosen(comparison: _Comparison) -> set[tuple[str, float]]:
    """Arms and budgets whose points were chosen on validation: the comparator's arms, and those of several points."""
    points: dict[tuple[str, float], set[str]] = {}
    for run in comparison.runs:
        points.setdefault((run.arm, run.train_flops), set()).add(run.point)
    family = {arm.label for arm in arms_of(comparison.block) if arm.family}
    return {place for place, found in points.items() if len(found) > 1 or place[0] in family}


def _on_validation(found: Mapping[str, Record], names: Collection[str], problems: int) -> Iterator[str]:
    """The runs on so many problems of the validation split."""
    for name in names:
        asked = found[name]["spec"]["infer"]
        if asked["split"] == "validation" and asked["problems"] == problems:
            yield name


def _group(column: str) -> int:
    """The place of a column: settings stand last, by their groups."""
    group, dot, _ = column.partition(".")
    return 1 + GROUPS.index(group) if dot and group in GROUPS else 0


def _without_problems(record: Record) -> str:
    """A run's spec and seed, but for the problems that it is asked."""
    spec = record["spec"]
    return canonical(spec | {"infer": {k: v for k, v in spec["infer"].items() if k not in ("split", "problems")}})


def _rows(
    record: Record, members: Sequence[Member], late: Mapping[tuple[str, str], Mapping[str, Any]] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """A run's rows: one for each metric and each place in a comparison. late: see `_late_settings`."""
    spec, infer, train = record["spec"], record["infer"], record["train"]
    common = {"task": registry.title("task", spec["task"]), "strategy": spec["strategy"]["name"]}
    common |= {key: record[key] for key in ("fingerprint", "learner", "seed")}
    common |= {"split": spec["infer"]["split"], "problems": infer["problems"]}
    costs = {
        "train_flops": train["spent_flops"],
        "infer_flops": infer["flops_per_problem"]["total"],
        "serial_passes": infer["serial_passes_per_problem"],
        "text_tokens": infer["text_tokens_per_problem"],
        "woven_tokens": infer["woven_tokens_per_problem"],
    }
    settings = {k: v for kind in ("strategy", "task") for k, v in late.get((kind, str(spec[kind]["name"])), {}).items()}
    settings |= _settings(spec)
    for member in members:
        place = {"comparison": member.comparison, "arm": member.arm}
        own = spec["train"]["flops"] if member.target_flops is None else member.target_flops
        for name, metric in record["metrics"].items():
            yield {**place, **common, "metric": name, **metric, "target_flops": own, **costs, **settings}


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting by its key, as ``--set`` takes it; of ours also those that a record leaves out at their defaults."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        late = [f for f in dataclasses.fields(OURS[group]) if f.metadata.get("late")] if group in OURS else []
        found |= _flat({f.name: f.default for f in late} | (spec.get(group) or {}), group)
    return found


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Settings below a prefix; a plugin among them is its name, with its settings below its own key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in ("name", "version"):
            continue
        if isinstance(value, Mapping):
            found |= {f"{prefix}.{key}": value["name"]} if "name" in value else {}
            found |= _flat(value, f"{prefix}.{key}")
        else:
            found[f"{prefix}.{key}"] = value
    return found
