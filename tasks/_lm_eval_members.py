"""One task of lm-eval, or the tasks of a group or tag, as one: whose document an inquiry is, and what all of them come to.

Documents of several tasks are dealt out in turn, so that the first N are of all of them alike; their ids are NAME/NUMBER. A score
is the mean over documents, or over tasks where their group says so. Knows lm-eval's groups (0.4.13); loads nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.problem import Document, Problem
from harness.task import Inquiry, Marks, Responses, Split, Total
from tasks._epochs import endless
from tasks._lm_eval_documents import GENERATE, ROLLING, Documents
from tasks._lm_eval_loading import quiet
from tasks._lm_eval_scores import Scores

SPLITS: tuple[Split, ...] = ("train", "value", "validation", "test")
Place = tuple[int, int]  # which task, which of its documents


@dataclass(frozen=True)
class Member:
    """One task. name: "" if it is the only one."""

    name: str
    documents: Documents
    scores: Scores

    def id(self, number: int) -> str:
        """Of one of its documents."""
        return f"{self.name}/{number}" if self.name else str(number)

    def facts(self) -> dict[str, Any]:
        """Of the task and its documents."""
        documents = self.documents
        return {
            "task_version": documents.theirs.VERSION, "output_type": documents.output_type, "num_fewshot": documents.shots,
            "documents": {name: len(getattr(documents, name)) for name in SPLITS}, "documents_sha256": _hash(documents.test),
            "scored": self.scores.scored,
        }  # fmt: skip


class Members:
    """All of them. group: lm-eval's, which knows how its tasks are put together; None for one task, or for a tag's."""

    def __init__(self, members: Sequence[Member], group: Any) -> None:
        self.all, self._group = tuple(members), group
        self._of = {member.name: member for member in members}
        self._lesson_places: dict[Split, list[Place]] = {}  # dealt once: every update asks for some
        scored = {member.name: member.scores.scored for member in members}
        if len({one is None for one in scored.values()}) > 1:
            by = ", ".join(f"{name} by {one or 'nats'}" for name, one in scored.items())
            raise ValueError(
                f"task.score: these tasks are not compared by the same kind of number ({by}); --set task.score=nats compares all "
                "by nats, GROUP/NAME asks one task"
            )

    @cached_property
    def whole_texts(self) -> bool:
        """Whether all that is asked is how likely whole texts are."""
        return all(member.documents.output_type == ROLLING for member in self.all)

    def _places(self, split: Split, count: int | None = None, limit: float | None = None) -> list[Place]:
        """Documents of a split in turn. limit: of each task's, as lm-eval reads it."""
        sizes = [len(member.documents.of(split)) for member in self.all]
        if limit is not None:
            sizes = [min(size, member.documents.most(limit)) for size, member in zip(sizes, self.all, strict=True)]
        dealt = sorted((at, which) for which, size in enumerate(sizes) for at in range(size))[:count]
        return [(which, at) for at, which in dealt]

    def _member(self, identity: str) -> tuple[Member, int]:
        """Whose document has an id, and which it is."""
        name, _, number = identity.rpartition("/")
        return self._of[name], int(number)

    # As inquiries

    def inquiries(self, split: Split, *, count: int, limit: float | None) -> list[Inquiry]:
        """The first ones; ``limit`` is of the test documents."""
        places = self._places(split, count, limit if split == "test" else None)
        counts = Counter(which for which, _ in places)
        made = {which: self.all[which].documents.inquiries(split, count) for which, count in counts.items()}
        weights = {which: len(places) / (len(counts) * count) if self._alike else 1.0 for which, count in counts.items()}
        return [dataclasses.replace(made[which][at], id=self.all[which].id(at), weight=weights[which]) for which, at in places]

    @cached_property
    def _alike(self) -> bool:
        """Whether each task counts alike, whatever its size, in the group's mean of what is compared."""
        scored = {str(member.scores.scored).rpartition(",")[0] for member in self.all}
        return any(one.metric in scored and not one.weight_by_size for one in _put_together(self._group))

    def marks(self, inquiry: Inquiry, responses: Responses) -> Marks:
        """By the metrics of the document's own task."""
        return self._member(inquiry.id)[0].scores.marks(inquiry, responses)

    def totals(self, inquiries: Sequence[Inquiry], responses: Sequence[Responses]) -> dict[str, Total]:
        """As lm-eval's evaluator has them. Of several tasks: NAME/METRIC,FILTER, and the group's own under METRIC,FILTER."""
        asked: dict[str, list[int]] = {}
        for at, inquiry in enumerate(inquiries):
            asked.setdefault(self._member(inquiry.id)[0].name, []).append(at)
        found: dict[str, dict[str, Total]] = {}
        sizes: dict[str, int] = {}
        for name, mine in asked.items():
            gathered = self._of[name].scores.gathered([inquiries[at] for at in mine], [responses[at] for at in mine])
            found[name], sizes[name] = self._of[name].scores.totals(gathered), max(map(len, gathered.values()), default=0)
        if list(found) == [""]:
            return found[""]
        totals = {f"{name}/{metric}": total for name, by in found.items() for metric, total in by.items()}
        return self._grouped(found, sizes) | totals

    def _grouped(self, found: Mapping[str, Mapping[str, Total]], sizes: Mapping[str, int]) -> dict[str, Total]:
        """What lm-eval's groups make of their tasks: the asked one's own, then SUBGROUP/METRIC,FILTER."""
        if self._group is None:
            return {}
        by_task: dict[str, Any] = {
            name: {metric: total.value for metric, total in by.items() if total.value is not None} | {"sample_len": sizes[name]}
            for name, by in found.items()
        }
        higher = {metric: total.higher_is_better for by in found.values() for metric, total in by.items()}
        totals: dict[str, Total] = {}
        for group in (self._group, *self._group.get_all_groups()):
            with quiet():  # tasks of which nothing is asked would be told one by one
                values = group.aggregate(by_task)
            at = "" if group is self._group else f"{group.name}/"
            for metric in (one for one in higher if one in values):
                total = Total(value=values[metric], aggregation="mean of tasks", higher_is_better=higher[metric])
                totals[f"{at}{metric}"] = total
        return totals

    def canonical(self, answer: str) -> str:
        """What the scored metric's filter reads in an answer; of several tasks the first one's."""
        request = self._first_request
        return self.all[0].scores.canonical(request, answer) if request.request_type == GENERATE else answer.strip()

    @cached_property
    def _first_request(self) -> Any:
        return self.all[0].documents.inquiries("test", 1)[0].requests[0]

    # As lessons and as texts

    def size(self, split: Split) -> int:
        """Documents of a split; ValueError if there are none."""
        return len(self._lesson_places.get(split) or self._lesson_places.setdefault(split, self._places(split)))

    def lessons(self, split: Split, *, seed: int, start: int, count: int, lines: bool) -> list[Problem]:
        """Documents as problems, without worked examples."""
        places = self._lesson_places.get(split) or self._lesson_places.setdefault(split, self._places(split))
        numbers = endless(len(places), seed, start, count) if split == "train" else range(len(places))[start : start + count]
        return [self._lesson(split, *places[at], lines) for at in numbers]

    def _lesson(self, split: Split, which: int, at: int, lines: bool) -> Problem:
        member = self.all[which]
        problem = member.documents.lesson_problem(split, at, lines)
        return dataclasses.replace(problem, question=dataclasses.replace(problem.question, id=f"{split}-{member.id(at)}"))

    def inquiry_of(self, problem: Problem) -> Inquiry | None:
        """What a lesson's problem asks, if an answer is to be said."""
        split, _, identity = problem.question.id.partition("-")
        member, number = self._member(identity)
        if member.documents.output_type != GENERATE:
            return None
        inquiry = member.documents.inquiry(split, number)  # type: ignore[arg-type]
        return dataclasses.replace(inquiry, id=identity)

    def texts(self, split: Split) -> list[Document]:
        """Texts that are scored whole."""
        found = []
        for which, at in self._places(split):
            member = self.all[which]
            asked = member.documents.requests(member.documents.of(split)[at], at, 0)[0]
            found.append(Document(f"{split}-{member.id(at)}", asked.args[0]))
        return [document for document in found if document.text.strip()]

    def facts(self, name: str, inquiries: Sequence[Inquiry]) -> dict[str, Any]:
        """Versions, numbers of documents, and hashes of the test documents and of the first prompts."""
        from importlib.metadata import version

        prompts = [[request.args for request in one.requests] for one in inquiries]
        shared = {
            "lm_eval": version("lm_eval"),
            "prompts_sha256": _hash(prompts),
            "prompts_hashed": len(prompts),
        }
        if len(self.all) == 1:
            return shared | {"task": self.all[0].documents.theirs.task_name} | self.all[0].facts()
        return shared | {"task": name, "tasks": {member.name: member.facts() for member in self.all}}


def _put_together(group: Any) -> Sequence[Any]:
    """What lm-eval's group says of the metrics that it puts together."""
    return () if group is None else group.aggregate_metric_list or ()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
