"""What responses are worth by an lm-eval task's own filters and metrics, for one document and for all, and which of its metrics
is compared. Knows lm-eval's tasks (0.4.13); asks nothing.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.task import Inquiry, Marks, Responses, Total

NATS = "nats"  # what is compared where no metric is


class Scores:
    """Of one task. wanted: the metric that is compared; "": the first mean of which more is better, else the first of which more
    is better, else nats."""

    def __init__(self, theirs: Any, wanted: str) -> None:
        self.theirs = theirs
        self.filters = [one.name for one in theirs._filters]
        self.scored = None if wanted == NATS else self._named(wanted) if wanted else self._first()

    def _named(self, wanted: str) -> str:
        """A metric as it is called in results: METRIC,FILTER."""
        return wanted if "," in wanted else f"{wanted},{self.filters[0]}"

    def _first(self) -> str | None:
        rising = [name for name, higher in self.theirs.higher_is_better().items() if higher]
        means = [name for name in rising if self.aggregation(name) == "mean"]
        return next((self._named(name) for name in (*means, *rising)), None)

    def _function(self, metric: str) -> Any:
        """How a metric's values are put together: lm-eval takes the mean where a task does not say."""
        from lm_eval.api.metrics import mean

        return self.theirs.aggregation().get(metric, mean)

    def aggregation(self, metric: str) -> str:
        """ "mean", or the name of something else."""
        from lm_eval.api.metrics import mean

        made = self._function(metric)
        return "mean" if made is mean else f"{getattr(made, '__name__', 'a function')}()"

    def _values(self, inquiries: Sequence[Inquiry], responses: Sequence[Responses]) -> Iterator[tuple[int, str, str, Any]]:
        """(document, metric, filter, value) as lm-eval's evaluator works them out: filters over all responses, then by filter."""
        documents = [
            [replace(request, resps=list(said), filtered_resps={}) for request, said in zip(one.requests, mine, strict=True)]
            for one, mine in zip(inquiries, responses, strict=True)
        ]
        self.theirs._instances = [request for requests in documents for request in requests]
        self.theirs.apply_filters()
        for name in documents[0][0].filtered_resps:
            for at, requests in enumerate(documents):
                ordered = sorted(requests, key=lambda request: request.idx)
                filtered = [request.filtered_resps[name] for request in ordered]
                found = self.theirs.process_results(copy.deepcopy(ordered[0].doc), filtered)
                yield from ((at, metric, name, value) for metric, value in found.items())

    def marks(self, inquiry: Inquiry, responses: Responses) -> Marks:
        """Of one document."""
        found = {(metric, name): value for _, metric, name, value in self._values([inquiry], [responses])}
        values = {f"{metric},{name}": value for (metric, name), value in found.items()}
        if self.scored is None:
            return Marks(values=values, scored=None, score=None)
        scored = self._present(values)
        score = None if scored is None else self._alone(scored, values)
        return Marks(values=values, scored=scored or self.scored, score=score)

    def _present(self, values: Mapping[str, Any]) -> str | None:
        """The metric that is compared, or what it was spread out into (pass_at_k into pass@1); None: this document has none."""
        assert self.scored is not None
        if self.scored in values:
            return self.scored
        metric, _, name = self.scored.rpartition(",")
        if metric not in self.theirs.aggregation() or name not in self.filters:
            raise ValueError(f"task.score: no metric {self.scored!r}; legal: {', '.join(values)}, {NATS}")
        same = self._function(metric)
        spread = (k for k in values if k.endswith(f",{name}") and self._function(k.rpartition(",")[0]) is same)
        return next(spread, None) if metric not in {k.rpartition(",")[0] for k in values} else None

    def _alone(self, name: str, values: Mapping[str, Any]) -> float:
        """What a metric comes to for one document alone, from 0 to 1."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few metrics are meant for one document
            score = float(self._function(name.rpartition(",")[0])([values[name]]))
        if not 0 <= score <= 1 and math.isfinite(score):
            raise ValueError(
                f"task.score: {name} is {score:g} for a document, and what is compared lies between 0 and 1; choose among: "
                f"{', '.join(values)}, {NATS}"
            )
        return score if math.isfinite(score) else 0.0

    def gathered(self, inquiries: Sequence[Inquiry], responses: Sequence[Responses]) -> dict[tuple[str, str], list[Any]]:
        """By metric and filter, its values of all documents in lm-eval's order."""
        found: dict[tuple[str, str], list[Any]] = {}
        for _, metric, name, value in self._values(inquiries, responses):
            found.setdefault((metric, name), []).append(value)
        return found

    def totals(self, gathered: Mapping[tuple[str, str], list[Any]]) -> dict[str, Total]:
        """What they come to, by lm-eval's names."""
        higher = self.theirs.higher_is_better()
        return {
            f"{metric},{name}": Total(
                value=_number(self._function(metric)(values)), aggregation=self.aggregation(metric),
                higher_is_better=higher.get(metric),
            )
            for (metric, name), values in gathered.items()
        }  # fmt: skip

    def canonical(self, inquiry_request: Any, answer: str) -> str:
        """What the filter of the metric that is compared takes out of an answer: equal ones are one for votes."""
        name = self.filters[0] if self.scored is None else self.scored.rpartition(",")[2]
        ensemble = next(one for one in self.theirs._filters if one.name == name)
        request = replace(inquiry_request, resps=[answer] * (inquiry_request.repeats or 1), filtered_resps={})
        ensemble.apply([request])
        found = request.filtered_resps[name]
        while isinstance(found, (list, tuple)) and found:
            found = found[0]
        return str(found).strip()


def _number(value: Any) -> float | None:
    """A total that is a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
