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

from harness import search_wants, wants
from harness.admission import Admission
from harness.backbone import Backbone
from harness.beams import Beams
from harness.decoder import Decoder, suiting_rows
from harness.instant import Instant
from harness.jobs import Fiber, Job, Live, Outcome, Turn, Waiting
from harness.problem import ACCESS, ROLES, Text
from harness.rows import Feed, Manner
from harness.sampling import UNSCORED, likelihood
from harness.stream import cropped, encode, opened
from harness.wants import Likelihood, OutOfBudget, Row, Step
from harness.writers import Writers

__all__ = ["Job", "Outcome", "Session"]


class Session:
    """Runs jobs over one backbone. rows: about how many are decoded side by side (None: what suits the device); max_kv_bytes: see
    `Admission`.

    keep_states: rows keep the state that was read last, for `LastState`, though no value model asks for it. traced: whether
    outcomes have traces.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        rows: int | None = None,
        reference_layers: int | None = None,
        max_kv_bytes: int | None = None,
        keep_states: bool = False,
        traced: bool = True,
    ) -> None:
        self._backbone, self._alphabet = backbone, backbone.alphabet
        reference = reference_layers or backbone.layers
        bounded = max_kv_bytes is not None
        self._decoder = Decoder(backbone, reference_layers=reference, bounded=bounded, keep_states=keep_states, traced=traced)
        each = self._decoder.slots.bytes_per_cell
        self._admission = Admission(rows=rows or suiting_rows(backbone), max_kv_bytes=max_kv_bytes, bytes_per_cell=each)
        self._context = backbone.context_tokens
        self._turn = Turn()
        self._finished: list[Outcome] = []
        self._live: dict[int, Live] = {}
        self._instant = Instant(backbone, self._decoder)
        self._writers = Writers(backbone, self._decoder, self._instant, self._turn, self.send)
        self._beams = Beams(self._decoder, self._writers, self._turn, self)
        self._answer: dict[type, Callable[[Fiber, Any], Any]] = {
            wants.Start: self._start, wants.Extend: self._extend, wants.Unroll: self._unroll, wants.Generate: self._generate,
            wants.Score: self._score, wants.Fork: self._fork, wants.Drop: self._drop, wants.Gather: self._gather,
            search_wants.Beam: self._beam, **self._instant.answers,
        }  # fmt: skip

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes in the order in which they finish."""
        waiting = iter(jobs)
        following = next(waiting, None)
        while following is not None or self._live:
            while following is not None and self._admitted(following):
                following = next(waiting, None)
            while self._writers.choose() or self._beams.choose():
                pass
            self._feed()
            yield from self._finished
            self._finished = []
        self._decoder.slots.free()  # the parts of a session refer to each other, so that it may be there long after its last use

    def check_sizes(self, sizes: Iterable[tuple[int, int]]) -> None:
        """ValueError if a problem of one of these sizes (rows, cells) could never be admitted; it names the least bound."""
        self._admission.check(sizes)

    def _admitted(self, job: Job) -> bool:
        """Take a job in, if there is room for it now."""
        slots = self._decoder.slots
        if not self._admission.open(job.rows, job.cells):
            return False
        size = self._admission.slab(job.rows, job.cells, slots.rows, slots.cells)
        if size is not None and not self._decoder.resized(*size):
            return False
        account = self._decoder.accounts.open(job.limit_flops)
        self._admission.admit(account, job.rows, job.cells)
        self._live[account] = live = Live(job, account, since=self._decoder.log.now)
        self.send(Fiber(live, job.solver()), None)
        return True

    # Fibers

    def send(self, fiber: Fiber, value: Any) -> None:
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
            self.send(parent, parent.results)

    def _close(self, live: Live, value: Any) -> None:
        """A job has ended: free its rows, make up its ledger and its trace."""
        self._admission.close(live.account, len(live.rows) if live.grown else live.job.rows)
        for row in live.rows.values():
            self._decoder.drop(row)
        trace = self._decoder.log.take(live.account, live.since)
        trace.notes.update(live.notes)
        ledger = self._decoder.accounts.close(live.account, bytes_per_cell=self._decoder.slots.bytes_per_cell)
        self._finished.append(Outcome(live.job, value, ledger, trace, ACCESS[live.access], live.job.cut or live.cropped))
        del self._live[live.account]
        self._decoder.log.forget(min((one.since for one in self._live.values()), default=self._decoder.log.now))

    # Wants

    def _start(self, fiber: Fiber, want: wants.Start) -> Any:
        row = self._decoder.new_row(fiber.live.account)
        self._decoder.verifies[row] = want.verifies
        job = fiber.live.job
        text = opened(want.text, self._alphabet) if job.opens else want.text
        kept = text if job.crop_tokens is None else cropped(text, self._alphabet, job.crop_tokens)
        fiber.live.cropped |= kept is not text
        return self._extend(fiber, wants.Extend(self.new_handle(fiber.live, row), kept))

    def _extend(self, fiber: Fiber, want: wants.Extend) -> Any:
        row = fiber.live.rows[want.row.number]
        self._turn.due.append((row, want.text, Manner(scored=want.scored)))
        self._turn.waiting.append(Waiting(fiber, {row}, lambda _: want.row))
        return _LATER

    def _unroll(self, fiber: Fiber, want: wants.Unroll) -> Any:
        row = fiber.live.rows[want.row.number]
        (feed,) = self._feeds_of([(row, want.text, Manner(every=True))])

        def steps(every: dict[int, torch.Tensor]) -> list[Step]:
            tops = [self._instant.piece(column) for column in every[row].argmax(-1).tolist()]
            now = fiber.live.rows[want.row.number]  # rows may have moved since
            return [Step(*both) for both in zip(self._decoder.marks(now, feed, every[row]), tops, strict=True)]

        self._turn.feeds.append(feed)
        self._turn.waiting.append(Waiting(fiber, {row}, steps))
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
        said = self._writers.start(fiber, fiber.live.rows[want.row.number], want)
        return _LATER if said is None else said

    def _beam(self, fiber: Fiber, want: search_wants.Beam) -> Any:
        found = self._beams.start(fiber, want)
        return _LATER if found is None else found

    def _score(self, fiber: Fiber, want: wants.Score) -> Any:
        first = fiber.live.rows[want.row.number]
        if len(want.continuations) > 1 and self._decoder.owes(first):
            return self._flush_first(fiber, first, want)
        rows = self._decoder.fork(first, len(want.continuations))
        others = [self.new_handle(fiber.live, row) for row in rows[1:]]
        manner, without = Manner(scored=True, every=True), self._instant.columns(want.without)
        whole = self._feeds_of([(r, text, manner) for r, text in zip(rows, want.continuations, strict=True)], whole=False)
        sayable, idle = self._backbone.strategy.sayable(), ROLES.index("thought")
        said = {f.row: self._alphabet.head_columns(np.array(f.ids, dtype=np.int64), sayable) for f in whole}
        columns = {f.row: np.where(np.array(f.roles) == idle, UNSCORED, said[f.row]) for f in whole}
        head = {row: self._decoder.logits[row : row + 1].clone() for row in rows}
        feeds = [f.without_last() for f in whole if len(f.ids) > 1]

        def result(every: dict[int, torch.Tensor]) -> list[Likelihood]:
            parts = [(head[r], every[r]) if r in every else (head[r],) for r in rows]
            self._give_up(fiber.live, want.row, others)
            return [likelihood(logits, columns[r], without) for logits, r in zip(parts, rows, strict=True)]

        if not feeds:
            return result({})
        self._turn.feeds += feeds
        self._turn.waiting.append(Waiting(fiber, {f.row for f in feeds}, result))
        return _LATER

    def _give_up(self, live: Live, row: Row, others: Sequence[Row]) -> None:
        """Drop rows that continued ``row``; what was spent on them is its spending."""
        mine = live.rows[row.number]
        for other in others:
            self._decoder.spent_flops[mine] += self._decoder.spent_flops[live.rows[other.number]]
            self.drop(live, other)

    def _flush_first(self, fiber: Fiber, row: int, want: Any) -> Any:
        """Feed the owed thoughts once, then take the want up again."""
        self._turn.feeds.append(Feed(row, (), (), ()))
        again: Callable[[Fiber, Any], Any] = self._answer[type(want)]
        self._turn.waiting.append(Waiting(fiber, {row}, lambda _: again(fiber, want)))
        return _LATER

    def _fork(self, fiber: Fiber, want: wants.Fork) -> Any:
        row = fiber.live.rows[want.row.number]
        if want.count > 1 and self._decoder.owes(row):
            return self._flush_first(fiber, row, want)
        rows = self._decoder.fork(row, want.count)
        self._decoder.verifies[rows[1:]] |= want.verifies
        return [want.row, *(self.new_handle(fiber.live, r) for r in rows[1:])]

    def _drop(self, fiber: Fiber, want: wants.Drop) -> Any:
        self.drop(fiber.live, want.row)

    def _gather(self, fiber: Fiber, want: wants.Gather) -> Any:
        fiber.results, fiber.waiting = [None] * len(want.solvers), len(want.solvers)
        if not want.solvers:
            return []
        for number, solver in enumerate(want.solvers):
            self.send(Fiber(fiber.live, solver, fiber, number), None)
        return _LATER

    def new_handle(self, live: Live, row: int) -> Row:
        """A job's handle on a new row."""
        handle = Row(live.made)
        live.made += 1
        live.rows[handle.number] = row
        self._admission.held += live.grown
        live.grown = live.grown or len(live.rows) >= live.job.rows
        return handle

    def drop(self, live: Live, handle: Row) -> None:
        """A job gives a row up."""
        self._decoder.drop(live.rows.pop(handle.number))
        self._admission.held -= live.grown

    # Forward passes

    def _feed(self) -> None:
        """Feed all that is due, then wake whoever waited for it."""
        turn = self._turn
        feeds, waiting = turn.feeds + (self._feeds_of(turn.due) if turn.due else []), turn.waiting
        if not feeds:
            return
        turn.due, turn.feeds, turn.waiting = [], [], []
        self._admission.fed = len(feeds)
        every, broke = self._decoder.feed(feeds)
        cut, short = self._writers.on(broke), self._beams.fed(broke)
        self._rename(self._decoder.compact())  # no feed is queued now, so rows may move
        self._writers.cut(cut)
        self._beams.cut(short)
        for w in waiting:
            value = OutOfBudget(w.fiber.live.job.name) if w.rows & broke else w.done(every)
            if value is not _LATER:
                self.send(w.fiber, value)

    def _rename(self, moved: dict[int, int]) -> None:
        """Rows have moved in the decoder."""
        if not moved:
            return
        for live in self._live.values():
            live.rows = {number: moved.get(row, row) for number, row in live.rows.items()}
        self._writers.rename(moved)


_LATER = object()
