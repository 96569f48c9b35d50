"""Another task's problems as plain text: what a pretraining phase reads before that task is taught.

Joins question and answer; knows nothing of models, and of the other task only its contract.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from harness.problem import Document
from harness.task import Kind, Split, Task, setting

HELD_OUT = 2000  # documents of each held-out split, if the task has as many


@dataclass(frozen=True, kw_only=True)
class Strings(Task):
    """A task's problems as text: question and answer of each, one document a problem, in that task's own alphabet.

    So every task that poses questions has text for pretraining, in its alphabet and from its TRAIN split alone: no held-out
    problem is ever read, whatever the seed. Worked lines are left out. In a training window documents are joined by the end of
    text, as in a lesson. The text is finite, so that passes over it can be told.
    """

    kind: ClassVar[Kind] = "documents"
    source: ClassVar[str] = "own; the problems are another task's"

    of: str = setting("arithmetic", doc="the task that poses the problems")
    settings: str = setting("{}", doc='its settings as JSON, for example {"digits": "1-2"}')
    count: int = setting(100_000, doc="problems of the train split that are read", low=100, high=10_000_000)
    window_tokens: int = setting(128, doc="text tokens of a training window", low=2, high=1024)

    def __post_init__(self) -> None:
        _made(self.of, self.settings)  # its ValueErrors

    @classmethod
    def example(cls, folder: Any) -> Mapping[str, Any]:
        """Few problems, short windows."""
        return {"count": 400, "window_tokens": 16}

    def defaults(self) -> Mapping[str, Any]:
        """The other task's, in windows that hold about 2,000 tokens an update."""
        return {**self._task.defaults(), "train.problems_per_update": max(1, 2048 // self.window_tokens)}

    def offers(self) -> frozenset[str]:
        """Nothing: a document has no prompt."""
        return frozenset()

    def alphabet(self) -> str:
        """The other task's."""
        return self._task.alphabet()

    def documents(self, split: Split) -> Sequence[Document]:
        """Problems of a split in the order of its stream, the train split's from seed 0."""
        return _documents(self._task, split, self.count if split == "train" else min(self.count, HELD_OUT))

    def provenance(self) -> Mapping[str, Any]:
        """Which task, and how many of its train problems."""
        return {"of": self.of, "problems": self.count, **self._task.provenance()}

    @property
    def _task(self) -> Task:
        return _made(self.of, self.settings)


@lru_cache(maxsize=8)
def _made(name: str, settings: str) -> Task:
    """The other task; ValueError names the setting."""
    from harness import registry
    from harness.settings import build

    try:
        values = json.loads(settings)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError(f'settings: expected a JSON object such as {{"digits": "1-2"}}, got {settings!r}')
    task: Task = build(registry.find("task", name), values, prefix="settings")
    if task.kind != "questions":
        raise ValueError(f"of: expected a task that poses questions, {name} holds documents: use it as it is")
    return task


@lru_cache(maxsize=4)
def _documents(task: Task, split: Split, count: int) -> list[Document]:
    """Question and answer of the first ``count`` problems."""
    problems = task.problems(split, seed=0, start=0, count=count, lines=False)
    return [Document(f"{split}-{i}", f"{p.question.text}{p.key.answer}") for i, p in enumerate(problems)]
