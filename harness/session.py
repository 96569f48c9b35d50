"""The one decoder for solvers: it batches the wants of all live problems into few forwards, and hands back what each asked for.

Every problem has its own random stream and its own ledger, so its answer, trace and cost do not depend on its company. Knows
wants and rows; knows no task, no record and no strategy by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from harness import wants
from harness.backbone import Backbone
from harness.decoder import Decoder
from harness.instant import Instant
from harness.jobs import Fiber, Job, Live, Outcome, Waiting, Writing
from harness.problem import ROLES, Completion, Text
from harness.rows import Feed, Manner
from harness.sampling import UNSCORED, barred, choose, likelihood, log_probabilities
from harness.seeds import derive
from harness.stream import encode
from harness.wants import Likelihood, OutOfBudget, Row, Step

DEFAULT_ROWS = 128

__all__ = ["DEFAULT_ROWS", "Job", "Outcome", "Session"]


class Session:
    """Runs jobs over one backbone. rows: about how many rows are decoded side by side."""

    def __init__(self, backbone: Backbone, *, rows: int = DEFAULT_ROWS, reference_layers: int | None = None) -> None:
        self._backbone, self._alphabet, self._rows = backbone, backbone.alphabet, rows
        self._decoder = Decoder(backbone, reference_layers=reference_layers or backbone.layers)
        self._context = backbone.context_tokens
        self._head_ids: Sequence[int] = backbone.head_ids
        self._writing: dict[int, Writing] = {}
        self._due: list[tuple[int, Text, Manner]] = []  # texts to be fed, by row; encoded together
        self._feeds: list[Feed] = []
        self._waiting: list[Waiting] = []
        self._finished: list[Outcome] = []
        self._live: dict[int, Live] = {}
        self._rowless = 0  # live jobs that hold no row at present
        self._instant = Instant(backbone, self._decoder)
        self._answer: dict[type, Callable[[Fiber, Any], Any]] = {
            wants.Start: self._start, wants.Extend: self._extend, wants.Unroll: self._unroll, wants.Generate: self._generate,
            wants.Score: self._score, wants.Fork: self._fork, wants.Drop: self._drop, wants.Gather: self._gather,
            **self._instant.answers,
        }  # fmt: skip

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes in the order in which they finish."""
        waiting = iter(jobs)
        more = True
        while more or self._live:
            while more and self._room():
                job = next(waiting, None)
                more = job is not None
                if job is not None:
                    self._admit(job)
            while self._choose_tokens():
                pass
            self._feed()
            yield from self._finished
            self._finished = []

    def _room(self) -> bool:
        return self._decoder.live_rows + self._rowless < self._rows

    def _admit(self, job: Job) -> None:
        account = self._decoder.accounts.open(job.limit_flops)
        live = Live(job, account)
        self._live[account] = live
        self._rowless += 1
        self._send(Fiber(live, job.solver()), None)

    # Fibers

    def _send(self, fiber: Fiber, value: Any) -> None:
        """Resume a fiber until it wants something that takes a forward pass, or ends."""
        while True:
            try:
                want = fiber.solver.throw(value) if isinstance(value, OutOfBudget) else fiber.solver.send(value)
            except StopIteration as stop:
                self._return(fiber, stop.value)
                return
            except OutOfBudget:
                self._return(fiber, None)
                return
            handler = self._answer.get(type(want))
            if handler is None:
                legal = ", ".join(t.__name__ for t in self._answer)
                raise ValueError(f"a solver yielded {type(want).__name__}; it may yield {legal}")
            value = handler(fiber, want)
            if value is _LATER:
                return

    def _return(self, fiber: Fiber, value: Any) -> None:
        """A fiber has ended."""
        parent = fiber.parent
        if parent is None:
            self._close(fiber.live, value)
            return
        parent.results[fiber.number] = value
        parent.waiting -= 1
        if parent.waiting == 0:
            self._send(parent, parent.results)

    def _close(self, live: Live, value: Any) -> None:
        """A job has ended: free its rows, make up its ledger."""
        self._rowless -= not live.rows
        for number in sorted(live.rows):
            live.trace.add(self._decoder.drop(live.rows[number]))
        ledger = self._decoder.accounts.close(live.account, bytes_per_cell=self._decoder.slots.bytes_per_cell)
        self._finished.append(Outcome(live.job, value, ledger, live.trace, live.used_key))
        del self._live[live.account]

    # Wants

    def _start(self, fiber: Fiber, want: wants.Start) -> Any:
        handle = self._new_handle(fiber.live, self._decoder.new_row(fiber.live.account))
        return self._extend(fiber, wants.Extend(handle, want.text))

    def _extend(self, fiber: Fiber, want: wants.Extend) -> Any:
        row = fiber.live.rows[want.row.number]
        self._due.append((row, want.text, Manner(scored=want.scored)))
        self._waiting.append(Waiting(fiber, {row}, lambda _: want.row))
        return _LATER

    def _unroll(self, fiber: Fiber, want: wants.Unroll) -> Any:
        row = fiber.live.rows[want.row.number]
        (feed,) = self._feeds_of([(row, want.text, Manner(every=True))])

        def steps(every: dict[int, torch.Tensor]) -> list[Step]:
            tops = [self._instant.piece(column) for column in every[row].argmax(-1).tolist()]
            now = fiber.live.rows[want.row.number]  # rows may have moved since
            return [Step(*both) for both in zip(self._decoder.marks(now, feed, every[row]), tops, strict=True)]

        self._feeds.append(feed)
        self._waiting.append(Waiting(fiber, {row}, steps))
        return _LATER

    def _feeds_of(self, due: Sequence[tuple[int, Text, Manner]], *, whole: bool = True) -> list[Feed]:
        """Feeds of texts by row. whole: the last token will be fed too, so it must fit the context."""
        rows = [row for row, _, _ in due]
        stream = encode([text for _, text, _ in due], self._alphabet, places=self._decoder.texts[rows])
        longest = int(stream.places.max(initial=0)) + (1 if whole else 0)
        if longest > self._context:
            raise ValueError(f"a text of {longest} tokens is longer than the context of {self._context} (model.context_tokens)")
        ids, roles, places = stream.ids.tolist(), stream.roles.tolist(), stream.places.tolist()
        starts = np.searchsorted(stream.row, np.arange(len(due) + 1)).tolist()
        spans = [slice(a, b) for a, b in pairwise(starts)]
        return [Feed(r, ids[s], roles[s], places[s], m.scored, m.every) for (r, _, m), s in zip(due, spans, strict=True)]

    def _generate(self, fiber: Fiber, want: wants.Generate) -> Any:
        row = fiber.live.rows[want.row.number]
        cap = min(want.cap_tokens, self._context - int(self._decoder.texts[row]))
        if cap <= 0:
            return Completion((), (), 0.0, "cap")
        key = derive(fiber.live.job.seed, "draw", f"{want.row.number}/{fiber.live.drawn}")
        fiber.live.drawn += 1
        self._writing[row] = Writing(fiber, want, self._alphabet, cap, key, self._instant.columns(want.without))
        return _LATER

    def _score(self, fiber: Fiber, want: wants.Score) -> Any:
        first = fiber.live.rows[want.row.number]
        if len(want.continuations) > 1 and self._decoder.owes(first):
            return self._flush_first(fiber, first, want)
        rows = self._decoder.fork(first, len(want.continuations))
        for row in rows[1:]:
            self._new_handle(fiber.live, row)
        manner, without = Manner(scored=True, every=True), self._instant.columns(want.without)
        whole = self._feeds_of([(r, text, manner) for r, text in zip(rows, want.continuations, strict=True)], whole=False)
        sayable, idle = self._backbone.strategy.sayable(), ROLES.index("thought")
        said = {f.row: self._alphabet.head_columns(np.array(f.ids, dtype=np.int64), sayable) for f in whole}
        columns = {f.row: np.where(np.array(f.roles) == idle, UNSCORED, said[f.row]) for f in whole}
        head = {row: self._decoder.logits[row : row + 1].clone() for row in rows}
        feeds = [f.without_last() for f in whole if len(f.ids) > 1]

        def result(every: dict[int, torch.Tensor]) -> list[Likelihood]:
            logits = [torch.cat([head[r], *([every[r]] if r in every else [])]) for r in rows]
            return [likelihood(barred(x, without), columns[r]) for x, r in zip(logits, rows, strict=True)]

        if not feeds:
            return result({})
        self._feeds += feeds
        self._waiting.append(Waiting(fiber, {f.row for f in feeds}, result))
        return _LATER

    def _flush_first(self, fiber: Fiber, row: int, want: Any) -> Any:
        """Feed the owed thoughts once, then take the want up again."""
        self._feeds.append(Feed(row, (), (), ()))
        again: Callable[[Fiber, Any], Any] = self._answer[type(want)]
        self._waiting.append(Waiting(fiber, {row}, lambda _: again(fiber, want)))
        return _LATER

    def _fork(self, fiber: Fiber, want: wants.Fork) -> Any:
        row = fiber.live.rows[want.row.number]
        if want.count > 1 and self._decoder.owes(row):
            return self._flush_first(fiber, row, want)
        rows = self._decoder.fork(row, want.count)
        return [want.row, *(self._new_handle(fiber.live, r) for r in rows[1:])]

    def _drop(self, fiber: Fiber, want: wants.Drop) -> Any:
        fiber.live.trace.add(self._decoder.drop(fiber.live.rows.pop(want.row.number)))
        self._rowless += not fiber.live.rows

    def _gather(self, fiber: Fiber, want: wants.Gather) -> Any:
        fiber.results, fiber.waiting = [None] * len(want.solvers), len(want.solvers)
        if not want.solvers:
            return []
        for number, solver in enumerate(want.solvers):
            self._send(Fiber(fiber.live, solver, fiber, number), None)
        return _LATER

    def _new_handle(self, live: Live, row: int) -> Row:
        handle = Row(live.made)
        self._rowless -= not live.rows
        live.made += 1
        live.rows[handle.number] = row
        return handle

    # Forward passes

    def _choose_tokens(self) -> bool:
        """One token for every writing row whose distribution stands ready; True if any fiber was resumed."""
        if not self._writing:
            return False
        busy = {f.row for f in self._feeds} | {due[0] for due in self._due}
        ready = [(row, w) for row, w in self._writing.items() if row not in busy]
        if not ready:
            return False
        logits = self._decoder.logits_of([row for row, _ in ready])
        if any(w.without for _, w in ready):
            logits = logits.clone()
            for line, (_, w) in enumerate(ready):
                logits[line, w.without] = -torch.inf
        keys = np.array([w.key for _, w in ready], dtype=np.uint64)
        steps = np.array([len(w.ids) for _, w in ready], dtype=np.uint64)
        columns = choose(logits, [w.want.sampler for _, w in ready], keys, steps)
        logp = log_probabilities(logits).gather(1, torch.from_numpy(columns).to(logits.device)[:, None])[:, 0].tolist()
        tokens = [self._head_ids[column] for column in columns.tolist()]
        done = [self._say(row, w, token, nats) for (row, w), token, nats in zip(ready, tokens, logp, strict=True)]
        return any(done)

    def _say(self, row: int, writing: Writing, token: int, nats: float) -> bool:
        """Add one token to a writing row; True if its fiber was resumed."""
        role = writing.say(token, nats)
        stopped, full = writing.stopped_by is not None, len(writing.ids) >= writing.cap
        stop = "end" if stopped else "cap"
        if token == self._alphabet.end_id if stopped else full and writing.want.role != "thought":
            self._end_writing(row, stop)  # nothing is read behind this token: it is not fed
            return True
        self._feeds.append(Feed(row, (token,), (ROLES.index(role),), (int(self._decoder.texts[row]),)))
        if stopped or full:
            del self._writing[row]
            completion = writing.completion(stop)
            self._waiting.append(Waiting(writing.fiber, {row}, lambda _: completion))
        return False

    def _end_writing(self, row: int, stop: str) -> None:
        writing = self._writing.pop(row)
        self._send(writing.fiber, writing.completion(stop))

    def _feed(self) -> None:
        """Feed all that is due, then wake whoever waited for it."""
        feeds, waiting = self._feeds, self._waiting
        if self._due:
            feeds += self._feeds_of(self._due)
        if not feeds:
            return
        self._due, self._feeds, self._waiting = [], [], []
        every, broke = self._decoder.feed(feeds)
        cut = [w for row, w in self._writing.items() if row in broke]
        self._rename(self._decoder.compact())  # no feed is queued now, so rows may move
        for row in [row for row, w in self._writing.items() if w in cut]:
            self._end_writing(row, "budget")
        for w in waiting:
            value = OutOfBudget(w.fiber.live.job.name) if w.rows & broke else w.done(every)
            if value is not _LATER:
                self._send(w.fiber, value)

    def _rename(self, moved: dict[int, int]) -> None:
        """Rows have moved in the decoder."""
        if not moved:
            return
        for live in self._live.values():
            live.rows = {number: moved.get(row, row) for number, row in live.rows.items()}
        self._writing = {moved.get(row, row): w for row, w in self._writing.items()}


_LATER = object()
