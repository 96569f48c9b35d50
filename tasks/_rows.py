"""Questions and answers from a JSONL file: read, checked, duplicates dropped. Knows nothing of splits by hash or of scoring.

Every error is a ValueError that begins ``task.path:`` and names the file and the line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.task import SPLITS, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the file. line: its number, from 1; split: None if it names none."""

    line: int
    question: str
    answer: str
    steps: tuple[str, ...]
    split: Split | None
    difficulty: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """What the file calls the parts of a row."""

    question: str
    answer: str
    steps: str


def read_rows(path: Path, names: Names) -> tuple[list[Row], int]:
    """The rows with different questions, in order, and how many repetitions were dropped."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"task.path: {str(path)!r} is no plain file; give a JSONL file")
        raw = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"task.path: cannot read {str(path)!r}: {error.strerror}; give a JSONL file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"task.path: {str(path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8 first") from None
    lines = [(f"{path}:{i}", i, line) for i, line in enumerate(raw.split("\n"), 1) if line.strip()]
    rows = [_row(where, i, _object(where, line), names) for where, i, line in lines]
    named = [row for row in rows if row.split is not None]
    if named and len(named) < len(rows):
        line = next(row.line for row in rows if row.split is None)
        raise ValueError(f"task.path: {path}:{line} names no split, line {named[0].line} does; name it in all rows or in none")
    return _distinct(path, rows)


def _object(where: str, line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError(f"task.path: {where}: is nested too deeply; wants one JSON object a line") from None
    except ValueError as error:
        raise ValueError(f"task.path: {where}: not JSON ({error}); wants one JSON object a line") from None
    if not isinstance(value, dict):
        raise ValueError(f"task.path: {where}: wants a JSON object, got {type(value).__name__}")
    return value


def _row(where: str, line: int, value: Mapping[str, Any], names: Names) -> Row:
    question, answer = (_text(where, value, name) for name in (names.question, names.answer))
    split, difficulty = value.get("split"), value.get("difficulty", 0)
    if split not in (None, *SPLITS):
        raise ValueError(f"task.path: {where}: unknown split {split!r}; legal: {', '.join(SPLITS)}")
    if not isinstance(difficulty, int) or isinstance(difficulty, bool):
        raise ValueError(f"task.path: {where}: difficulty wants a whole number, got {difficulty!r}")
    steps = _steps(where, value.get(names.steps), names.steps, answer)
    return Row(line=line, question=question, answer=answer, steps=steps, split=split, difficulty=difficulty)


def _text(where: str, value: Mapping[str, Any], name: str) -> str:
    """A part that must be there: text, or a whole number."""
    if name not in value:
        raise ValueError(f"task.path: {where}: no {name!r}; the row has {', '.join(map(repr, value)) or 'nothing'}")
    part = value[name]
    if isinstance(part, int) and not isinstance(part, bool):
        part = str(part)
    if not isinstance(part, str) or not part.strip():
        raise ValueError(f"task.path: {where}: {name!r} wants text that is not empty, got {part!r}")
    return _encodable(where, name, part)


def _encodable(where: str, name: str, part: str) -> str:
    try:
        part.encode()
    except UnicodeEncodeError:
        raise ValueError(f"task.path: {where}: {name!r} holds half of a surrogate pair, which is no character") from None
    return part


def _steps(where: str, value: Any, name: str, answer: str) -> tuple[str, ...]:
    """Worked lines: a list of texts, or one text with a line each; the answer is added as last line if they do not end in it."""
    found = value.split("\n") if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(step, str) for step in found):
        raise ValueError(f"task.path: {where}: {name!r} wants a list of texts or one text, got {value!r}")
    steps = tuple(_encodable(where, name, step.strip()) for step in found if step.strip())
    return steps if not steps or steps[-1].endswith(answer.strip()) else (*steps, answer.strip())


def _distinct(path: Path, rows: list[Row]) -> tuple[list[Row], int]:
    """Each question once (blanks around it do not count); ValueError where repetitions disagree."""
    first: dict[str, Row] = {}
    for row in rows:
        old = first.setdefault(row.question.strip(), row)
        if old.answer.strip() != row.answer.strip():
            raise ValueError(f"task.path: {path}: lines {old.line} and {row.line} ask the same and answer differently; mend one")
        if old.split != row.split:
            raise ValueError(f"task.path: {path}: lines {old.line} and {row.line} put one question into two splits; drop one")
    return list(first.values()), len(rows) - len(first)
