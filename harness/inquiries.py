"""Somebody else's benchmark (tasks of kind "requests") as what a run asks: jobs by `harness.bridged`, lines by its metrics.

Equal requests of one document (greedy repetitions, say) are asked and paid for once. Knows the shape of lm-eval's requests, works
and lines; knows nothing of its library, and not what a metric means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from harness.backbone import Backbone
from harness.bridged import TRUNCATED, Work, check_scored, draws, rolling, saying, scoring
from harness.decoder import cells_per_token
from harness.examination import Examination, conventions_of
from harness.generation import going_of
from harness.jobs import Job, Outcome
from harness.lines import Line, ended_json, joined_json
from harness.problem import Answer, Question, Tokens
from harness.requests import CAP_TOKENS, Asker, Going
from harness.spec import RunSpec
from harness.stream import encode
from harness.summary import is_mean
from harness.task import Inquiry
from harness.wants import Judge, Likelihood

GENERATE, LIKELIHOOD = "generate_until", "loglikelihood"  # kinds of request; the third scores whole texts


def asked_inquiries(spec: RunSpec) -> list[Inquiry]:
    """The inquiries that a run makes, in order. ValueError if one of them asks for the likelihood of an empty text."""
    asked = list(spec.task.inquiries(spec.infer.split, count=spec.infer.problems))
    for inquiry in asked:
        scored = [request for request in inquiry.requests if request.request_type == LIKELIHOOD]
        check_scored(scored, [request.args[1] != "" for request in scored])
    return asked


def check_asked(spec: RunSpec) -> None:
    """Raise ValueError for a task whose requests ask for something that cannot be asked, before anything is taught: a generation
    argument that is not legal, or the likelihood of an empty text."""
    if spec.task.kind == "requests":
        for inquiry in asked_inquiries(spec):
            for request in (one for one in inquiry.requests if one.request_type == GENERATE):
                _going(spec, request, cap_tokens=CAP_TOKENS)


def of_requests(spec: RunSpec, backbone: Backbone, *, bounded: bool) -> Examination:
    """A job or more for each inquiry. bounded: how many cells each holds is told too."""
    asked = asked_inquiries(spec)
    spoken = all(request.request_type == GENERATE for inquiry in asked for request in inquiry.requests)
    if spec.infer.cap_flops is not None and not spoken:
        raise ValueError("infer.cap_flops: caps what an answer may spend; likelihoods are scored whole, so leave it none")
    desk = _Desk(spec, backbone, asked, _most_cells(spec, backbone) if bounded else 0)
    return Examination([inquiry.id for inquiry in asked], desk.jobs, desk.line, solves=False)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """An inquiry's works by key; entries: which work answers which requests, in the order of the responses."""

    works: Mapping[str, Work]
    entries: Sequence[tuple[str, Sequence[int]]]

    def responses(self, asker: Asker, requests: int) -> list[list[Any]]:
        """Of each request, of each repetition, when all jobs are done."""
        found: list[list[Any]] = [[] for _ in range(requests)]
        for key, members in self.entries:
            work = self.works[key]
            for (_, answer), at in zip(work.answers(work.found(asker)), members, strict=True):
                found[at].append(answer)
        return found

    def likelihood(self, request: int | None) -> Likelihood | None:
        """Of one request's continuation or text."""
        for key, members in self.entries:
            work = self.works[key]
            if work.places is not None and request in members:
                return work.likelihood(members.index(request))
        return None


class _Desk:
    """Jobs and lines of a run's inquiries."""

    def __init__(self, spec: RunSpec, backbone: Backbone, asked: Sequence[Inquiry], cells: int) -> None:
        self._spec, self._backbone, self._asked, self._cells = spec, backbone, asked, cells
        self._asker = Asker(spec, backbone, thought_tokens=spec.task.lines_cap_tokens)
        self._samples = _samples(asked)
        self._open: dict[int, _Sheet] = {}  # of inquiries whose jobs are under way

    def jobs(self, index: int) -> list[Job]:
        """All that an inquiry takes."""
        grade = self._grade(self._asked[index])
        sheet = self._open[index] = self._sheet(index)
        made = [job for work in sheet.works.values() for job in work.jobs]
        cap = math.inf if self._spec.infer.cap_flops is None else self._spec.infer.cap_flops / max(len(made), 1)
        spoken = {job.name for work in sheet.works.values() if work.places is None for job in work.jobs}
        oracles = [_judge(grade) if job.name in spoken else None for job in made]
        return [
            replace(job, name=f"{index}/{at}", limit_flops=cap, cells=self._cells, oracle=oracle)
            for at, (job, oracle) in enumerate(zip(made, oracles, strict=True))
        ]

    def _sheet(self, index: int) -> _Sheet:
        """Works as lm-eval asks for them: continuations of one context together, all else one by one."""
        inquiry, samples = self._asked[index], iter(self._samples[index])
        works: dict[str, Work] = {}
        entries: list[tuple[str, Sequence[int]]] = []
        for members in _groups(inquiry.requests):
            first = inquiry.requests[members[0]]
            if first.request_type == GENERATE:
                how = _going(self._spec, first, cap_tokens=self._asker.cap_tokens, sample=next(samples))
                work = saying(self._asker, first, how)
            elif first.request_type == LIKELIHOOD:
                work = scoring(self._asker, [inquiry.requests[at] for at in members])
            else:
                work = rolling(self._asker, first)
            works.setdefault(work.key, work)
            entries.append((work.key, members))
        return _Sheet(works, entries)

    def line(self, index: int, outcomes: list[Outcome]) -> Line:
        """The record's line of one inquiry."""
        inquiry, sheet, left = self._asked[index], self._open.pop(index), iter(outcomes)
        for work in sheet.works.values():
            work.outcomes = {job.name: next(left) for job in work.jobs}
        responses = sheet.responses(self._asker, len(inquiry.requests))
        marks = self._spec.task.marks(inquiry, responses)
        likelihood = sheet.likelihood(inquiry.gold)
        nats, targets = (None, 0) if likelihood is None else (likelihood.nats, likelihood.tokens)
        score = marks.score if marks.scored is not None else (nats or 0.0) / max(targets, 1)
        said = next((o.value for o in outcomes if isinstance(o.value, Answer)), None)
        tree = None if said is None else said.tree
        return {
            "id": inquiry.id,
            "question": inquiry.shown,
            **_told(inquiry, said, responses),
            "key": inquiry.key,
            "constant": inquiry.constant,
            "score": 0.0 if score is None else score,
            "scored": marks.scored,
            "metrics": {name: plain(value) for name, value in marks.values.items()},
            "responses": plain(responses),
            "difficulty": 0,
            "weight": 0.0 if score is None else inquiry.weight,
            **joined_json(outcomes, stop=_stop(said)),
            TRUNCATED: sum(work.truncated_prompts for work in sheet.works.values()),
            "nats": nats,
            "targets": targets,
            **({} if inquiry.size_bytes is None else {"bytes": inquiry.size_bytes}),
            "candidates": None if tree is None else ended_json(tree, self._grade(inquiry), self._spec.task.canonical),
        } | conventions_of(self._backbone, outcomes)

    def _grade(self, inquiry: Inquiry) -> Callable[[str | None], float]:
        """What a text is worth as the answer to all of an inquiry's requests."""

        def grade(answer: str | None) -> float:
            if answer is None:
                return 0.0
            marks = self._spec.task.marks(inquiry, [[answer] * (request.repeats or 1) for request in inquiry.requests])
            return marks.score or 0.0

        return grade


def _going(spec: RunSpec, request: Any, *, cap_tokens: int, sample: int = 0) -> Going:
    """How a request to go on is followed; cap_tokens: where it names no cap."""
    return going_of(spec.task.generation(request.args[1], cap_tokens=cap_tokens), cap_tokens=cap_tokens, sample=sample)


def _judge(grade: Callable[[str | None], float]) -> Callable[[Any], Any]:
    """Answers the want that uses the key."""

    def answer(want: Any) -> Any:
        if not isinstance(want, Judge):
            raise ValueError("this task has no worked lines: only a judge's word on answers can be had of it")
        return grade(want.answer)

    return answer


def _told(inquiry: Inquiry, said: Answer | None, responses: Sequence[Sequence[Any]]) -> Line:
    """What was said; of several continuations the likeliest."""
    if said is not None:
        return {"completion": None if said.completion is None else said.completion.text, "answer": said.text}
    best = max(range(len(responses)), key=lambda at: responses[at][0][0]) if len(responses) > 1 else None
    return {"completion": None, "answer": None if best is None else str(inquiry.requests[best].args[-1])}


def _stop(said: Answer | None) -> str:
    """How an attempt ended; likelihoods always do."""
    return "end" if said is None else "budget" if said.completion is None else said.completion.stop


def _groups(requests: Sequence[Any]) -> list[list[int]]:
    """Numbers of requests, each as often as it is repeated, that are asked together."""
    groups: dict[Any, list[int]] = {}
    for at, request in enumerate(requests):
        for again in range(request.repeats or 1):
            alone = request.request_type != LIKELIHOOD
            groups.setdefault((at, again) if alone else request.args[0], []).append(at)
    return list(groups.values())


def _samples(asked: Sequence[Inquiry]) -> list[list[int]]:
    """Of each inquiry's requests to go on: which draw of the same request it is, over all of them."""
    spoken = [[r for r in inquiry.requests if r.request_type == GENERATE for _ in range(r.repeats or 1)] for inquiry in asked]
    numbers = iter(draws(request for mine in spoken for request in mine))
    return [list(islice(numbers, len(mine))) for mine in spoken]


def _most_cells(spec: RunSpec, backbone: Backbone) -> int:
    """Cells of the longest row that a request may take: a whole context."""
    strategy, alphabet = spec.strategy, backbone.alphabet
    text = Tokens((alphabet.prefix_id,), "")
    question = Question("", text, backbone.context_tokens, spec.task.lines_cap_tokens)
    kinds = (question, replace(question, window=True))  # texts that are scored whole, and all else
    given = [encode([strategy.prompt(one)], alphabet).ids for one in kinds]
    inserted = max(
        strategy.holding(one).inserted + int((ids >= alphabet.sayable_end).sum()) for one, ids in zip(kinds, given, strict=True)
    )
    return cells_per_token(backbone.strategy) * (backbone.context_tokens + inserted)


def plain(value: Any) -> Any:
    """A metric's value or a response as JSON has it: what is no number is told in words."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # numpy's
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _restored(response: Any) -> Any:
    """A response as lm-eval has it."""
    return (float(response[0]), bool(response[1])) if isinstance(response, list) else response


def totals_of(spec: RunSpec, lines: Sequence[Line]) -> dict[str, Line]:
    """The task's metrics over all lines; none for another kind of task. What is no mean of lines' values is not called one."""
    if spec.task.kind != "requests":
        return {}
    responses = [[[_restored(one) for one in request] for request in line["responses"]] for line in lines]
    found = {}
    for name, made in spec.task.totals(asked_inquiries(spec), responses).items():
        how = made.aggregation if is_mean(lines, name, asdict(made)) else f"theirs: {made.aggregation}"
        found[name] = asdict(made) | {"aggregation": how}
    return found
