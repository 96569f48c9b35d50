"""Trainings of one learner, told apart by the sha256 of their weights.

A learner that was trained twice, on two machines say, may be two models. A run's record, its learner's record and the weights
themselves all name the sha256, so they are held against each other here. Records without it are taken as they are. Knows records;
loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness import records
from harness.reading import read_json
from harness.records import RUN, Record

Named = Mapping[tuple[str, int], Mapping[str, list[str]]]  # (learner, seed) -> sha256 of the weights -> names of the runs
DIGITS = 12  # of a sha256, as it is shown


def training_of(record: Record) -> str | None:
    """The sha256 of the weights that a run asked; None in a record that does not name it."""
    model = record.get("model")
    found = model.get("weights_sha256") if isinstance(model, dict) else None
    return found if isinstance(found, str) else None


def kept_training(weights: Path) -> str | None:
    """The sha256 that the learner.json in a folder names; None where there is none that can be read."""
    try:
        found = read_json(weights / "learner.json")["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a spoilt one is named when it is loaded
    return found if isinstance(found, str) else None


def other_weights(record: Record, folder: Path) -> str | None:
    """The line for a run beside whose results folder another training of its learner lies than it asked; None if none does."""
    root, asked = records.results_of(folder), training_of(record)
    if root is None or asked is None:
        return None
    weights = root / "weights" / f"{record['learner']}-s{record['seed']}"
    kept = kept_training(weights)
    if kept in (None, asked):
        return None
    return f"{weights.relative_to(root)} holds another training of its learner ({_shown(kept)}) than it asked ({_shown(asked)})"


def check_asked(record: Record, weights: Path, *, command: str) -> None:
    """ValueError if a folder holds another training of a run's learner than the run asked. command: makes the run anew."""
    asked, kept = training_of(record), kept_training(weights)
    if asked is not None and kept is not None and asked != kept:
        raise ValueError(
            f"RUN: {weights} holds another training of its learner ({_shown(kept)}) than the run asked ({_shown(asked)}); move "
            f"{weights} away and put the run's own weights there, or make the run again: {command}"
        )


def other_training(results: Path, learner: Record) -> str | None:
    """The reason why a new run must not ask a learner: complete runs asked another training of it. None if none did."""
    fingerprint, seed, kept = learner["learner"], learner["seed"], learner["weights_sha256"]
    others = [folder for folder, asked in _asked(results, fingerprint, seed) if asked != kept]
    if not others:
        return None
    weights = results / "weights" / f"{fingerprint}-s{seed}"
    more = f" and of {len(others) - 1:,} more runs" if len(others) > 1 else ""
    return (
        f"{weights} holds another training of this learner than the run in {others[0]} asked{more}, so their scores cannot be "
        f"compared; move {others[0]} away, or make it again by its own command with --again"
    )


def _asked(results: Path, fingerprint: str, seed: int) -> Iterator[tuple[Path, str]]:
    """Complete runs of a learner and the trainings that they asked. What cannot be read is told by those who read records."""
    for folder in records.run_folders(results):
        if not folder.name.endswith(f"-s{seed}"):
            continue
        try:
            content = (folder / RUN).read_bytes()
            record = json.loads(content) if fingerprint.encode() in content else {}
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and (record.get("learner"), record.get("seed")) == (fingerprint, seed):
            asked = training_of(record)
            if asked is not None:
                yield folder, asked


def named(asked: Iterable[tuple[str, str, int, str]]) -> Named:
    """Names of runs by learner, seed and training, from (name, learner, seed, sha256 of the weights)."""
    found: dict[tuple[str, int], dict[str, list[str]]] = {}
    for name, learner, seed, sha256 in asked:
        found.setdefault((learner, seed), {}).setdefault(sha256, []).append(name)
    return found


def named_records(found: Iterable[tuple[str, int, Record]]) -> Named:
    """The same from names, seeds and records."""
    asked = [(name, record["learner"], seed, training_of(record)) for name, seed, record in found]
    return named((name, learner, seed, sha256) for name, learner, seed, sha256 in asked if sha256 is not None)


def mixed(found: Named) -> list[str]:
    """A line for each learner of which several trainings were asked."""
    return [_line(*key, trainings) for key, trainings in sorted(found.items()) if len(trainings) > 1]


def _line(learner: str, seed: int, trainings: Mapping[str, list[str]]) -> str:
    each = sorted((sorted(set(names)), sha256) for sha256, names in trainings.items())
    told = "; ".join(f"{_shown(sha256)} by {_listed(names)}" for names, sha256 in each)
    return (
        f"Learner {learner} of seed {seed} was trained {len(trainings)} times, and its trainings were asked as if they were one: "
        f"{told}. Make the runs of one of them again with --again."
    )


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shown(sha256: str | None) -> str:
    return f"weights {str(sha256)[:DIGITS]}"
