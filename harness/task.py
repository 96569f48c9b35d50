"""The Task contract: where problems come from and how answers are graded.

A task is one frozen dataclass whose fields are its settings. It knows nothing of models, tokens or strategies. There are two
kinds: ``questions`` (problems with keys; scored by accuracy) and ``documents`` (texts; scored in nats and bits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.problem import Document, Problem
from harness.settings import setting

__all__ = ["SPLITS", "Split", "Task", "setting"]

Split = Literal["train", "value", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "value", "validation", "test")
Kind = Literal["questions", "documents"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Subclass as a frozen, keyword-only dataclass in ``tasks/NAME.py``; the class docstring's first line is what `list` shows.

    source: where the task comes from. version: raised when a fix changes results. known_failures: check name -> reason.
    """

    kind: ClassVar[Kind] = "questions"
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    difficulty_name: ClassVar[str] = "difficulty"
    known_failures: ClassVar[Mapping[str, str]] = {}

    def defaults(self) -> Mapping[str, Any]:
        """Spec keys that suit this task at its settings, e.g. ``{"model.size": "s", "train.flops": 5e12}``."""
        return {}

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """Settings of a small instance that needs no network, for `check`; files that it needs are written into ``folder``."""
        return {}

    def offers(self) -> frozenset[str]:
        """What strategies may need of it: "prompt" (a question stands before the answer), "worked_lines", "checker"."""
        return frozenset({"prompt"})

    def alphabet(self) -> str:
        """The alphabet: "chars:0123456789+=", "bytes", "bpe:VOCABULARY_SIZE", "gpt2" or "tokenizer:FOLDER"."""
        return "bytes"

    @property
    def window_tokens(self) -> int:
        """Text tokens of a training window (kind "documents"); a subclass may make it a field."""
        return 128

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """Problems ``start .. start+count-1`` of a split's stream; a pure function of settings, split, seed and index.

        The train stream has no end; other splits may be finite and then return fewer. Splits share no problem, whatever
        the seed. lines: False leaves ``Key.lines`` empty, for strategies that do not need them (it saves their making).
        """
        raise NotImplementedError(f"{type(self).__name__} poses no problems")

    def documents(self, split: Split) -> Sequence[Document]:
        """The documents of a split, in a fixed order (kind "documents")."""
        raise NotImplementedError(f"{type(self).__name__} holds no documents")

    def grade(self, problem: Problem, answer: str | None) -> float:
        """1.0 for a right answer, else 0.0 (or a share of the points); None, no answer, is 0."""
        return float(answer is not None and answer == problem.key.answer)

    def solves(self, question: str, answer: str | None) -> bool:
        """Whether an answer is right, by the question alone: for tasks that offer a "checker"."""
        raise NotImplementedError(f"{type(self).__name__} has no checker")

    def canonical(self, answer: str) -> str:
        """The form in which equal answers are equal, for votes."""
        return answer

    def leads_on(self, problem: Problem, lines: Sequence[str]) -> bool:
        """Whether a right answer can still come of these worked lines: here, if they are the key's first ones."""
        return tuple(lines) == problem.key.lines[: len(lines)]

    def grammar(self) -> Mapping[str, str]:
        """What an answer ("answer") and one worked line ("line") may look like, as regular expressions; {}: nothing is known.

        Of the form alone: no arithmetic, and nothing of a question or its key. Every key matches in full. "line" may be missing.
        They may hold what `harness.grammar` follows: characters, classes, ``(?:..)``, ``|`` and repetition.
        """
        return {}

    def parse(self, text: str) -> str:
        """A typed question as this task's prompt (`ask`): "12+34" -> "12+34="; ValueError says what is legal."""
        return text

    def provenance(self) -> Mapping[str, Any]:
        """Facts about the data that belong in the record: hashes, numbers of documents."""
        return {}
