"""The Task contract: where problems come from and how answers are graded.

A task is one frozen dataclass whose fields are its settings. It knows nothing of models, tokens or strategies. There are three
kinds: ``questions`` (problems with keys; scored by accuracy), ``documents`` (texts; scored in nats and bits) and ``requests``
(somebody else's benchmark, which asks in lm-eval's requests and scores the responses by metrics of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.problem import Document, Problem
from harness.settings import setting

__all__ = ["SPLITS", "Inquiry", "Marks", "Split", "Task", "Total", "setting"]

Split = Literal["train", "value", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "value", "validation", "test")
Kind = Literal["questions", "documents", "requests"]
Taught = Literal["questions", "documents"]
Responses = Sequence[Sequence[Any]]  # of each request, of each of its repetitions: a text, (log-likelihood, greedy), or the first
CAP_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # of one generation argument in lm-eval
THOUGHT_TOKENS = 256  # most worked lines before a continuation, where no task says how long they may be


@dataclass(frozen=True, kw_only=True, eq=False)
class Inquiry:
    """What is asked about one document (kind "requests").

    requests: in lm-eval's shape, see `harness.bridged`. shown: the question as people read it, None for a text that is scored
    whole; key: the right answer, where there is one; constant: what an answer that is always the same would have to be (the key,
    or the number of the right choice). gold: the number of the request whose likelihood is the key's, or the whole text's;
    size_bytes: of a text that is scored whole. weight: what its score counts for beside others'.
    """

    id: str
    requests: Sequence[Any]
    shown: str | None
    key: str | None
    constant: str
    gold: int | None = None
    size_bytes: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What the responses to one inquiry are worth. values: by the metrics' names; score: what is compared, from 0 to 1; None: the
    document has none, and does not count. scored: the metric that gives the score; None: nats do."""

    values: Mapping[str, Any]
    scored: str | None
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Total:
    """A metric over all documents, as its task works it out. aggregation: "mean", "mean of tasks" (by the inquiries' weights), or
    the name of something else."""

    value: float | None
    aggregation: str
    higher_is_better: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """Subclass as a frozen, keyword-only dataclass in ``tasks/NAME.py``; the class docstring's first line is what `list` shows.

    source: where the task comes from. version: raised when a fix changes results. known_failures: check name -> reason.
    argument: the setting that may stand behind its name, ``NAME:VALUE``; "": none may.
    """

    kind: ClassVar[Kind] = "questions"
    argument: ClassVar[str] = ""
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

    def lacks(self, need: str) -> str:
        """Why it does not offer something, where its data is the reason: "FILE:LINE has no steps"; else empty."""
        return ""

    def data_rows(self, split: Split) -> int:
        """How many problems of a split are read from data, which is then looked at before training; 0: the task makes them."""
        return 0

    def origin(self, identity: str) -> str:
        """Where the problem, document or inquiry with an id comes from, as an error begins: "task.path: FILE:LINE"."""
        return f"task: {identity}"

    def alphabet(self) -> str:
        """The alphabet: "chars:0123456789+=", "bytes", "bpe:VOCABULARY_SIZE", "gpt2" or "tokenizer:FOLDER"."""
        return "bytes"

    @property
    def window_tokens(self) -> int:
        """Text tokens of a training window (kind "documents"); a subclass may make it a field."""
        return 128

    @property
    def taught_as(self) -> Taught:
        """Whether its train split is problems or documents."""
        return "documents" if self.kind == "documents" else "questions"

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """Problems ``start .. start+count-1`` of a split's stream; a pure function of settings, split, seed and index.

        The train stream has no end; other splits may be finite and then return fewer. Splits share no problem, whatever
        the seed. lines: False leaves ``Key.lines`` empty, for strategies that do not need them (it saves their making).
        """
        raise NotImplementedError(f"{type(self).__name__} poses no problems")

    def documents(self, split: Split) -> Sequence[Document]:
        """The documents of a split, in a fixed order (kind "documents")."""
        raise NotImplementedError(f"{type(self).__name__} holds no documents")

    def inquiries(self, split: Split, *, count: int) -> Sequence[Inquiry]:
        """The first ``count`` inquiries of a split, in a fixed order (kind "requests"); ValueError if there are none."""
        raise NotImplementedError(f"{type(self).__name__} makes no requests")

    def marks(self, inquiry: Inquiry, responses: Responses) -> Marks:
        """What responses to an inquiry are worth, by the task's own metrics (kind "requests")."""
        raise NotImplementedError(f"{type(self).__name__} makes no requests")

    def totals(self, inquiries: Sequence[Inquiry], responses: Sequence[Responses]) -> Mapping[str, Total]:
        """All metrics over all documents, by their names; NAME/METRIC is of the inquiries NAME/.. alone (kind "requests")."""
        raise NotImplementedError(f"{type(self).__name__} makes no requests")

    def generation(self, given: Mapping[str, Any], *, cap_tokens: int) -> Mapping[str, Any]:
        """A request's generation arguments with what they leave open; cap_tokens: where they name no cap (kind "requests").

        They are checked by whoever reads them (`harness.generation`).
        """
        named = any(given.get(name) is not None for name in CAP_NAMES)
        return dict(given) if named else {**given, CAP_NAMES[0]: cap_tokens}

    @property
    def lines_cap_tokens(self) -> int:
        """The most worked lines before what is asked for (kind "requests"); a subclass may make it a field."""
        return THOUGHT_TOKENS

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
