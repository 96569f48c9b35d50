"""lm-eval's requests as works: the jobs that answer one, how their outcomes make a response, and what each task cost.

Knows the shape of lm-eval's requests and nothing of its library, so that records of both sides are made alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.jobs import Job, Outcome
from harness.lines import ledger_json
from harness.meter import CLASSES, summed
from harness.plugin_spec import plugin_json
from harness.problem import Question
from harness.requests import Asker, Going, Place, total
from harness.responses import Response, arguments_key, request_key
from harness.spec import RunSpec, canonical
from harness.wants import Likelihood

TRUNCATED = "truncated_prompts"
OURS = "thinking_harness"  # the column of a document that holds what its question is to our own task


def own_question(document: Mapping[str, Any], context: str, spec: RunSpec) -> Question | None:
    """The question as our own task poses it, if this document comes from the task that the model's run is of, and the prompt is
    that question alone; then answers and ledgers are those of `run`."""
    if OURS not in document:
        return None
    facts = json.loads(document[OURS])
    if context != facts["text"] or canonical(facts["task"]) != canonical(plugin_json(spec.task)):
        return None
    return Question(facts["id"], facts["text"], facts["answer_cap_tokens"], facts["lines_cap_tokens"])


@dataclass(slots=True)
class Work:
    """What must be done for one response. documents: whose it is; asked: the arguments of the requests that it answers.

    places: of each likelihood that is asked for, where its parts stand among the jobs' values; None: something is said. own: by
    a task of ours, which takes an answer as it was said.
    """

    task: str
    documents: frozenset[int]
    key: str
    jobs: list[Job]
    asked: list[tuple[Any, ...]]
    places: list[list[Place]] | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    own: bool = False

    def response(self, asker: Asker) -> Response:
        """What is kept, when all jobs are done."""
        ledger = ledger_json(summed(self.outcomes[job.name].ledger for job in self.jobs))
        arguments = [arguments_key(*a) for a in self.asked]
        return {**self.found(asker), "ledger": ledger, TRUNCATED: self.truncated_prompts, "arguments": arguments}

    @property
    def truncated_prompts(self) -> int:
        """1 if the context did not hold the prompt, so that its beginning was left out; else 0."""
        return int(any(outcome.truncated for outcome in self.outcomes.values()))

    def found(self, asker: Asker) -> Response:
        """What came of the jobs, without their cost."""
        if self.places is None:
            said = asker.said(self.outcomes[self.jobs[0].name], own=self.own)
            return {"text": said.text, "raw": said.raw, "unclosed": said.unclosed}
        return {"likelihoods": [[x.nats, x.greedy] for x in map(self.likelihood, range(len(self.places)))]}

    def likelihood(self, at: int) -> Likelihood:
        """Of the ``at``-th request's continuation or text."""
        assert self.places is not None
        values = [self.outcomes[job.name].value for job in self.jobs]
        return total([values[job][entry] for job, entry in self.places[at]])

    def answers(self, response: Response) -> list[tuple[tuple[Any, ...], Any]]:
        """The arguments of the requests and their answers in lm-eval's form."""
        if self.places is None:
            return [(self.asked[0], response["text"])]
        both = [(-nats, bool(greedy)) for nats, greedy in response["likelihoods"]]
        if len(self.asked[0]) == 1:
            return [(self.asked[0], both[0][0])]
        return list(zip(self.asked, both, strict=True))


def saying(asker: Asker, request: Any, how: Going) -> Work:
    """For one request to go on from a text."""
    context, given = request.args
    own = own_question(request.doc, context, asker.spec)
    key = request_key("generate", context, given, how.sample, None if own is None else own.id)
    job = asker.going_on(key, context, how, question=own)
    return Work(request.task_name, frozenset({request.doc_id}), key, [job], [request.args], own=own is not None)


def scoring(asker: Asker, requests: Sequence[Any]) -> Work:
    """For the likelihoods of several continuations of one context."""
    context, continuations = requests[0].args[0], [request.args[1] for request in requests]
    key = request_key("likelihood", context, continuations)
    jobs, places = asker.likelihoods(key, context, continuations)
    check_scored(requests, [bool(parts) for parts in places])
    documents = frozenset(request.doc_id for request in requests)
    return Work(requests[0].task_name, documents, key, jobs, [r.args for r in requests], places)


def check_scored(requests: Iterable[Any], scored: Iterable[bool]) -> None:
    """ValueError names the first request for a likelihood whose continuation has nothing to score."""
    for request, has_tokens in zip(requests, scored, strict=True):
        if not has_tokens:
            raise ValueError(
                f"{request.task_name}: document {request.doc_id}, choice {request.idx} (both count from 0): its text, "
                f"{request.args[1]!r}, has nothing to score; give every choice a text"
            )


def rolling(asker: Asker, request: Any) -> Work:
    """For the likelihood of a whole text."""
    (text,) = request.args
    key = request_key("rolling", text)
    jobs = asker.rolling(key, text)
    places = [[(at, 0) for at in range(len(jobs))]]
    return Work(request.task_name, frozenset({request.doc_id}), key, jobs, [request.args], places)


def draws(requests: Iterable[Any]) -> list[int]:
    """Of requests to go on, in order: which draw each is, since the same one once more is another sample."""
    seen: Counter[str] = Counter()
    found = []
    for request in requests:
        context, given = request.args
        key = repr((context, sorted(given.items())))  # before the arguments are checked, so they may be no JSON
        found.append(seen[key])
        seen[key] += 1
    return found


class Costs:
    """What tasks cost, from their works' ledgers. Seconds are of the answers that were made just now, not of kept ones."""

    def __init__(self) -> None:
        self._documents: dict[str, set[int]] = {}
        self._ledgers: dict[str, list[Mapping[str, Any]]] = {}
        self._truncated: Counter[str] = Counter()
        self._made: dict[str, tuple[float, set[int]]] = {}

    def add(self, works: Sequence[Work], responses: Sequence[Response], *, made: frozenset[str], seconds: float) -> None:
        """Works of one task. made: the keys of those whose answers were not there yet."""
        task = works[0].task
        self._documents.setdefault(task, set()).update(*(w.documents for w in works))
        once = {(w.documents, w.key): r for w, r in zip(works, responses, strict=True)}  # greedy repeats are one
        self._ledgers.setdefault(task, []).extend(response["ledger"] for response in once.values())
        self._truncated[task] += sum(response.get(TRUNCATED, 0) for response in once.values())
        before_s, before = self._made.setdefault(task, (0.0, set()))
        self._made[task] = before_s + seconds, before.union(*(w.documents for w in works if w.key in made))

    def by_task(self) -> dict[str, dict[str, Any]]:
        """Means by document."""
        return {task: self._of(task) for task in sorted(self._documents)}

    def _of(self, task: str) -> dict[str, Any]:
        count, ledgers, (seconds, made) = len(self._documents[task]), self._ledgers[task], self._made[task]
        flops = {name: sum(one["flops"][name] for one in ledgers) / count for name in CLASSES}
        means = {name: sum(one[name] for one in ledgers) / count for name in ("serial_passes", "text_tokens", "woven_tokens")}
        return {
            "documents": count,
            "flops_per_document": {"total": sum(flops.values()), **flops},
            **{f"{name}_per_document": value for name, value in means.items()},
            "seconds_per_document": seconds / len(made) if made else None,
            TRUNCATED: self._truncated[task],
        }
