"""Ranking the next prefixes of many beams at once. Knows probabilities and what a beam has said; feeds nothing.

Ranks go by log-probabilities in float64, which tell more logits apart than those in float32 that are recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harness.decoder import Decoder
from harness.grammar import Grammar
from harness.jobs import Fiber, Live
from harness.problem import END, Special
from harness.sampling import log_probabilities
from harness.search_wants import Beam, Hypothesis, Prefixes
from harness.stops import met, stop_in
from harness.wants import Row

STABLE_COLUMNS = 4096  # of so many numbers a stable sort costs little; beyond, equals may stand in any order


@dataclass(slots=True)
class Alive:
    """A prefix that may go on. node: among the beam's prefixes, -1 before anything was said; order: a finer log-probability."""

    handle: Row
    node: int
    nats: float
    order: float
    thinking: bool
    state: int


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate: the ``parent``-th alive prefix, then a token. closed: a string ends it there, as END does."""

    parent: int
    token: int
    nats: float
    order: float
    stop: Special | str | None
    closed: bool = False


@dataclass(eq=False)
class Group:
    """One beam under way. chosen: what follows, while owed thoughts are fed; fed: rows whose last tokens wait for a
    pass, and their prefixes; closing: it is over then."""

    fiber: Fiber
    want: Beam
    cap: int
    grammar: Grammar | None
    alive: list[Alive]
    said: int = 0
    prefixes: Prefixes = field(default_factory=Prefixes)
    ended: list[Hypothesis] = field(default_factory=list)
    chosen: list[Step] | None = None
    fed: list[tuple[Row, int]] = field(default_factory=list)
    closing: bool = False

    @property
    def live(self) -> Live:
        """The job."""
        return self.fiber.live

    def row(self, handle: Row) -> int:
        """The decoder's row."""
        return self.live.rows[handle.number]

    def score(self, nats: float, tokens: int) -> float:
        """What endings are ranked by."""
        return nats / float(tokens) ** self.want.alpha if self.want.alpha else nats


class Ranking:
    """Ranks over one decoder's rows."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._alphabet = decoder, decoder.alphabet
        self._head_ids = decoder.backbone.head_ids

    def ranked(self, groups: list[Group]) -> list[list[Step]]:
        """The best steps of each beam, best first: twice as many as its width."""
        most = 2 * max(g.want.width for g in groups)
        logits = self._legal(self._decoder.logits_of([g.row(a.handle) for g in groups for a in g.alive]), groups)
        nats, columns = _most_probable(logits, most)
        before = torch.tensor([[a.order, a.nats] for g in groups for a in g.alive], dtype=torch.float64)
        ordered = logits.cpu().gather(1, columns).double() - logits.cpu().logsumexp(1, keepdim=True).double() + before[:, :1]
        said = nats.double() + before[:, 1:]
        sizes, found, start = [len(g.alive) for g in groups], [], 0
        padded = torch.full((len(groups), max(sizes), columns.shape[1]), -torch.inf, dtype=torch.float64)
        padded[torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]] = ordered
        order, at = padded.flatten(1).sort(dim=1, descending=True, stable=True)
        for group, size, orders, places in zip(groups, sizes, order[:, :most].tolist(), at[:, :most].tolist(), strict=True):
            mine = slice(start, start + size)
            found.append(self._steps(group, orders, places, columns[mine].tolist(), said[mine].tolist()))
            start += size
        return found

    def _steps(
        self, group: Group, orders: list[float], places: list[int], columns: list[list[int]], said: list[list[float]]
    ) -> list[Step]:
        """One beam's best steps, from flat places among (prefixes, candidates)."""
        steps, wide = [], len(columns[0])
        for order, place in zip(orders[: 2 * group.want.width], places, strict=False):
            if order == -np.inf:
                break
            parent, which = divmod(place, wide)
            token = self._head_ids[columns[parent][which]]
            stop = END if token in self._alphabet.end_ids else self._stop(group, parent, token)
            closed = stop is None and self._closed(group, parent, token)
            steps.append(Step(parent, token, said[parent][which], order, END if closed else stop, closed))
        return steps

    def _stop(self, group: Group, parent: int, token: int) -> str | None:
        """The string that stops a prefix at this token."""
        until = group.want.until
        return (
            stop_in(self._alphabet, until, token) if until and (group.want.mark is None or group.alive[parent].thinking) else None
        )

    def _closed(self, group: Group, parent: int, token: int) -> bool:
        """Whether a string ends the answer of a prefix at this token."""
        strings, alive = group.want.closes, group.alive[parent]
        if not strings or alive.thinking:
            return False
        ids = (*group.want.after, *group.prefixes.ids(alive.node), token)
        return met(self._alphabet, strings, ids, group.live.job.silent) is not None

    def _legal(self, logits: Tensor, groups: list[Group]) -> Tensor:
        """Logits (n, V) without what grammars forbid."""
        if all(g.grammar is None for g in groups):
            return logits
        logits, line = logits.clone(), 0
        for group in groups:
            lines = slice(line, line := line + len(group.alive))
            if group.grammar is not None:
                allowed = group.grammar.allowed([a.state for a in group.alive]).to(logits.device)
                logits[lines] = logits[lines].masked_fill(~allowed, -torch.inf)
        return logits


def _most_probable(logits: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities and columns (n, k) of each row's best tokens, best first; of equals the first, as in greedy choice."""
    k, nats = min(most, logits.shape[1]), log_probabilities(logits)
    if logits.shape[1] <= STABLE_COLUMNS:
        columns = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
    else:
        columns = logits.topk(k, 1).indices
    return nats.gather(1, columns).cpu(), columns.cpu()
