"""Finding and loading a task of lm-eval by its name, without indexing all of its library where that can be done.

The library's own index takes most of a minute; so the few YAML files that name what is wanted are found by their text first, and
only where that does not do is everything indexed. Knows lm-eval's task manager (0.4.13); knows nothing of ours.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMED = rb"""^\s*(?:-\s*)?\{?["']?(?:task|group|tag)["']?\s*:\s*["']?%s["']?\s*(?:[,}#].*)?$"""


def load(name: str, include_path: str | None, metadata: str) -> tuple[dict[str, Any], Any]:
    """lm-eval's tasks by name, and their group: of a task, of GROUP/NAME (one task, no group), of a group or a tag (no group).

    ValueError in one line for what a user can mend.
    """
    if not name:
        raise ValueError(
            "task.task: name a task of lm-eval (`lm_eval ls tasks` lists all), such as --task lm_eval:arithmetic_2da"
        )
    folders, facts = _folders(include_path), _facts(metadata)
    with quiet():
        for stock in (False, True):
            found = _from(name, folders, facts, whole=stock)
            if found is not None:
                return found
    raise AssertionError("the whole index either has a task or raises")


def _folders(include_path: str | None) -> list[str]:
    """Folders of YAML files; lm-eval says nothing of one that is not there."""
    folders = include_path.split(os.pathsep) if include_path else []
    for folder in folders:
        if not Path(folder).is_dir():
            raise ValueError(
                f"task.include_path: no folder {folder!r}; name one with YAML files of tasks, or several with {os.pathsep!r}"
                " between"
            )
    return folders


def _facts(metadata: str) -> dict[str, Any]:
    try:
        facts = json.loads(metadata or "{}")
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise ValueError(f'task.metadata: expected an object as JSON, such as {{"max_seq_lengths": [512]}}, got {metadata!r}')
    return facts


def _from(name: str, folders: Sequence[str], facts: dict[str, Any], *, whole: bool) -> tuple[dict[str, Any], Any] | None:
    """See `load`: from a part of the index, or from all of it; None where the part does not do."""
    from lm_eval.tasks import TaskManager

    top, _, member = name.partition("/")
    manager = TaskManager(include_path=folders, include_defaults=False, metadata=facts)
    if whole:
        manager = TaskManager(include_path=folders, metadata=facts)
    elif missing := _missing(manager, name if name in manager.all_tasks else top):
        stock = sorted({str(path.parent) for path in _files_naming(missing)})
        manager = TaskManager(include_path=[*stock, *folders], include_defaults=False, metadata=facts)
    if name in manager.all_tasks:
        top, member = name, ""
    if top not in manager.all_tasks:
        if not whole:
            return None
        raise ValueError(_unknown(top, manager.all_tasks))
    try:
        loaded = manager.load([top])
    except Exception as error:  # of whatever library reads the data
        if not whole:
            return None
        words = str(error).strip().split("\n")[0]
        what = f"{type(error).__name__}: {words}"
        raise ValueError(f"task.task: lm-eval cannot load {name!r} ({what}); is its data here?") from None
    found = dict(loaded["tasks"])
    if member and member not in found:
        legal = ", ".join(f"{top}/{one}" for one in sorted(found)[:20]) + (", .." if len(found) > 20 else "")
        raise ValueError(f"task.task: {top} has no task {member!r}; legal: {legal}, or {top} for all {len(found)} of them")
    if member or len(found) == 1:
        return {member or next(iter(found)): found[member or next(iter(found))]}, None
    if not whole and _tagged(manager, top):
        return None
    return found, loaded["groups"].get(top)


def _tagged(manager: Any, name: str) -> bool:
    """Whether a name is a tag, or a group with one in it: tasks anywhere in the library may wear it."""
    entry = manager.task_index.get(name)
    if entry is None:
        return False
    return entry.kind.name == "TAG" or any(_tagged(manager, one) for one in _listed(entry))


def _missing(manager: Any, name: str) -> list[str]:
    """What the given folders do not have: the task itself, or what a group of theirs is made of."""
    entry = manager.task_index.get(name)
    if entry is None:
        return [name]
    return [one for one in _listed(entry) if one not in manager.task_index]


def _listed(entry: Any) -> list[str]:
    """The names that a group's entry lists."""
    listed = (entry.cfg or {}).get("task")
    members = listed if isinstance(listed, list) else []
    named = [one if isinstance(one, str) else one.get("task", one.get("group")) for one in members]
    return [one for one in named if isinstance(one, str)]


def _files_naming(names: Sequence[str]) -> Iterator[Path]:
    """Stock files that give one of these names to a task or a group, by their text."""
    import lm_eval.tasks

    either = b"(?:" + b"|".join(re.escape(name.encode()) for name in names) + b")"
    pattern = re.compile(NAMED % either, re.MULTILINE)
    yield from (path for path in Path(lm_eval.tasks.__file__).parent.rglob("*.yaml") if pattern.search(path.read_bytes()))


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return (
        f"task.task: lm-eval has no task {name!r}{meant}; legal: one of the {len(known):,} that `lm_eval ls tasks` lists, or "
        "of a YAML file under task.include_path (lm-eval leaves out those that it cannot read)"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' warnings and progress bars."""
    import datasets

    log, bars = logging.getLogger("lm_eval"), datasets.are_progress_bars_disabled()
    before = log.level
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(before)
        if not bars:
            datasets.enable_progress_bars()
