"""Any questions and answers from a JSONL file.

Reads through `_rows`, splits through `_splits`; knows nothing of what is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.problem import Key, Problem, Question
from harness.task import SPLITS, Split, Task, setting
from tasks._epochs import endless
from tasks._rows import Names, Row, read_rows
from tasks._splits import content_hash, fill


@dataclass(frozen=True, kw_only=True)
class File(Task):
    """Questions from a JSONL file: one object a line with question, answer, and if you like steps, split and difficulty.

    steps: worked lines, a list of texts or one text with a line each (blanks around them are dropped; if they do not end in the
    answer, it is added as last line). split: train, value, validation or test, in all rows or in none; splits that no row names
    are cut by a hash of the question (test 10%, validation 5%, value 5%). difficulty: a whole number. A repeated question is
    dropped. An answer is right if it is exactly the key's, blanks around either left out. The train stream goes through
    the questions again and again, each time in a new order; held-out splits have a fixed order, whatever the seed.
    """

    source: ClassVar[str] = "yours"

    path: str = setting("", doc="the JSONL file")
    tokens: Literal["bytes", "gpt2"] = setting("bytes", doc="alphabet: bytes, or GPT-2's BPE")
    question_key: str = setting("question", doc="what the file calls the question")
    answer_key: str = setting("answer", doc="what the file calls the answer")
    steps_key: str = setting("steps", doc="what the file calls the worked lines")

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """Sixty questions about squares, with steps."""
        path = folder / "squares.jsonl"
        rows = [{"question": f"{n}*{n}?", "answer": str(n * n), "steps": [f"{n} times {n}", f"= {n * n}"]} for n in range(60)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"path": str(path)}

    def defaults(self) -> Mapping[str, Any]:
        """A budget for short questions; give your own for long ones."""
        return {"model.size": "s", "train.flops": 3e12, "train.problems_per_update": 32, "train.learning_rate": 1e-3}

    def offers(self) -> frozenset[str]:
        """A prompt; worked lines if every row has steps."""
        worked = bool(self.path) and all(row.steps for row in self._data.rows)
        return frozenset({"prompt", "worked_lines"} if worked else {"prompt"})

    def lacks(self, need: str) -> str:
        """The first row without steps."""
        bare = [row.line for row in self._data.rows if not row.steps] if self.path and need == "worked_lines" else []
        if not bare:
            return ""
        more = f", and {len(bare) - 1:,} more of {len(self._data.rows):,} rows have none" if len(bare) > 1 else ""
        return f"{self.path}:{bare[0]} has no {self.steps_key!r}{more}; add them, or leave these rows out"

    def data_rows(self, split: Split) -> int:
        """Rows of a split."""
        return len(self._data.order[split])

    def origin(self, identity: str) -> str:
        """File and line."""
        return f"task.path: {self.path}:{identity}"

    def alphabet(self) -> str:
        """See the field ``tokens``."""
        return self.tokens

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """See Task.problems; ids are line numbers. ValueError names ``task.path``."""
        data = self._data
        mine = data.order[split]
        places = endless(len(mine), seed, start, count) if split == "train" else range(len(mine))[start : start + count]
        return [self._problem(data, data.rows[mine[i]], lines) for i in places]

    def _problem(self, data: _Data, row: Row, lines: bool) -> Problem:
        question = Question(str(row.line), row.question, data.answer_cap_tokens, data.lines_cap_tokens)
        return Problem(question, Key(row.answer, row.steps if lines else ()), row.difficulty)

    def grade(self, problem: Problem, answer: str | None) -> float:
        """1.0 for the key's answer exactly, blanks around either left out."""
        key = problem.key.answer
        return float(answer is not None and isinstance(key, str) and answer.strip() == key.strip())

    def provenance(self) -> Mapping[str, Any]:
        """sha256 of the file, questions by split, repetitions dropped."""
        data = self._data
        questions = {split: len(data.order[split]) for split in SPLITS}
        return {"path": self.path, "sha256": data.sha256, "questions": questions, "duplicates_dropped": data.duplicates}

    @property
    def _data(self) -> _Data:
        if not self.path:
            raise ValueError("task.path: name the JSONL file with the questions, for example --set task.path=questions.jsonl")
        path = Path(self.path)
        stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)
        return _read(path, Names(question=self.question_key, answer=self.answer_key, steps=self.steps_key), stamp)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Data:
    """A file's rows, and by split their indices in fixed order. Caps: of the longest answer and worked lines of any row."""

    rows: Sequence[Row]
    order: Mapping[Split, list[int]]
    sha256: str
    duplicates: int
    answer_cap_tokens: int
    lines_cap_tokens: int


@lru_cache(maxsize=2)
def _read(path: Path, names: Names, stamp: tuple[int, int]) -> _Data:
    """Read and split a file. stamp: changes when the file does, so that an edited one is read again."""
    rows, duplicates = read_rows(path, names)
    texts = [row.question.strip() for row in rows]
    try:
        splits = fill(texts, weights=[1] * len(texts), given=[row.split for row in rows])
    except ValueError as error:
        raise ValueError(f"task.path: {str(path)!r} has too few questions: {error}") from None
    by_hash = sorted(range(len(rows)), key=lambda i: content_hash(texts[i]))
    return _Data(
        rows=rows,
        order={split: [i for i in by_hash if splits[i] == split] for split in SPLITS},
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        duplicates=duplicates,
        answer_cap_tokens=max(len(row.answer.encode()) for row in rows) + 1,
        lines_cap_tokens=max(len("\n".join(row.steps).encode()) for row in rows) + 1,
    )
