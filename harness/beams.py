"""Beam search for many problems at once: the want `Beam`. All prefixes of all problems are ranked together, turn by turn.

Prefixes stay on their rows where they can: a row that has one successor is not copied, and one that has none is given to a
successor of another row. Knows rows and probabilities; knows no problems.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.alphabet import Alphabet
from harness.decoder import Decoder
from harness.grammar import Grammar
from harness.instant import Instant
from harness.jobs import Fiber, Live, Turn, completion_of, said_by, stop_in
from harness.problem import END, ROLES, Completion, Special
from harness.rows import Feed
from harness.sampling import log_probabilities
from harness.search_wants import Beam, Hypothesis, Prefixes
from harness.wants import Row
from harness.writers import Writers

STABLE_COLUMNS = 4096  # of so many numbers a stable sort costs little; beyond, equals may stand in any order
Found = tuple[list[Hypothesis], Prefixes]


class Owner(Protocol):
    """Who knows jobs and their rows: the session."""

    def new_handle(self, live: Live, row: int) -> Row:
        """A job's handle on a new row."""

    def drop(self, live: Live, handle: Row) -> None:
        """A job gives a row up."""

    def send(self, fiber: Fiber, value: Any) -> None:
        """Hand a fiber its result."""


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
    """One candidate: the ``parent``-th alive prefix, then a token."""

    parent: int
    token: int
    nats: float
    order: float
    stop: Special | str | None


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


class Beams:
    """The beams of a session."""

    def __init__(self, decoder: Decoder, instant: Instant, writers: Writers, turn: Turn, owner: Owner) -> None:
        self._decoder, self._instant, self._writers, self._turn, self._owner = decoder, instant, writers, turn, owner
        self._alphabet: Alphabet = decoder.alphabet
        self._head_ids = np.array(decoder.backbone.head_ids)
        self._groups: list[Group] = []
        self._sources: list[int] = []  # rows that other rows are to continue
        self._targets: list[int] = []

    def start(self, fiber: Fiber, want: Beam) -> Found | None:
        """Begin a beam; its end at once, if there is no room for a token."""
        row = fiber.live.rows[want.row.number]
        cap = min(want.cap_tokens, self._decoder.backbone.context_tokens - int(self._decoder.texts[row]))
        if cap <= 0:
            return [Hypothesis(Completion((), (), 0.0, "cap"), 0.0, -1, want.row if want.keep else None)], Prefixes()
        grammar = self._writers.grammar(want.grammar)
        state = 0 if grammar is None else grammar.walk(want.after)
        first = Alive(want.row, -1, want.after_nats, want.after_nats, want.mark is not None, state)
        self._groups.append(Group(fiber, want, cap, grammar, [first]))
        return None

    def choose(self) -> bool:
        """The next prefixes of every beam whose distributions stand ready; True if any fiber was resumed."""
        busy = self._turn.rows()
        ready = [g for g in self._groups if g.chosen is None and not g.fed and not any(g.row(a.handle) in busy for a in g.alive)]
        for group, steps in zip(ready, self._ranked(ready), strict=True) if ready else ():
            group.chosen = steps
        going = [g for g in self._groups if g.chosen is not None and not g.fed]
        over = [g for g in going if self._gone_on(g)]
        if self._sources:
            self._decoder.branch(self._sources, self._targets)
            self._sources, self._targets = [], []
        self.cut(over)
        return bool(over)

    # Ranking

    def _ranked(self, groups: list[Group]) -> list[list[Step]]:
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
            token = int(self._head_ids[columns[parent][which]])
            stop = END if token == self._alphabet.end_id else self._stop(group, parent, token)
            steps.append(Step(parent, token, said[parent][which], order, stop))
        return steps

    def _stop(self, group: Group, parent: int, token: int) -> str | None:
        """The string that stops a prefix at this token."""
        until = group.want.until
        return (
            stop_in(self._alphabet, until, token) if until and (group.want.mark is None or group.alive[parent].thinking) else None
        )

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

    # Going on

    def _gone_on(self, group: Group) -> bool:
        """Take the chosen steps, unless owed thoughts must be fed first; True if the beam is over and waits for nothing."""
        assert group.chosen is not None
        going, ending, lasting = self._sorted(group, group.chosen)
        children = Counter(s.parent for s in going + lasting)
        owing = [a for i, a in enumerate(group.alive) if children[i] > 1 and self._decoder.owes(group.row(a.handle))]
        if owing:
            self._turn.feeds += [Feed(group.row(a.handle), (), (), ()) for a in owing]
            group.fed = [(a.handle, a.node) for a in owing]
            return False
        group.chosen, group.said = None, group.said + 1
        self._take(group, going, ending, lasting)
        group.closing = not group.alive
        return group.closing and not group.fed

    def _sorted(self, group: Group, steps: list[Step]) -> tuple[list[Step], list[Step], list[Step]]:
        """Steps that go on, those that end here, and those of them whose rows are to live on. What falls out of the wanted
        endings is given up."""
        width, full, count = group.want.width, group.said + 1 >= group.cap, group.want.count
        ending = [s for s in steps[:width] if s.stop is not None or full]
        scores = [h.score for h in group.ended] + [group.score(s.nats, group.said + 1) for s in ending]
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[:count]
        lasting = [s for i, s in enumerate(ending, len(group.ended)) if i in best and self._lives_on(group, s)]
        going = [] if full else [s for s in steps if s.stop is None][:width]
        if going and len(best) == count and group.score(going[0].order, group.cap) <= scores[best[-1]]:
            going = []
        return going, ending, lasting

    def _lives_on(self, group: Group, step: Step) -> bool:
        """Whether an ending can be gone on from."""
        return group.want.keep and step.stop is not None

    def _take(self, group: Group, going: list[Step], ending: list[Step], lasting: list[Step]) -> None:
        """Give every step that lives on a row and its token; note all of them."""
        parents, wanted = group.alive, going + lasting
        places = [int(self._decoder.texts[group.row(a.handle)]) for a in parents]
        rows = self._rows_for(group, [s.parent for s in wanted])
        group.alive = []
        on: dict[int, Row] = {}
        for step, handle in zip(wanted, rows, strict=True):
            parent = parents[step.parent]
            role = "thought" if parent.thinking else group.want.role
            if step.stop is not None:
                on[id(step)] = handle
            if step.stop is END:  # nothing is read behind it
                continue
            feed = Feed(group.row(handle), (step.token,), (ROLES.index(role),), (places[step.parent],))
            self._turn.feeds.append(feed)
            if step.stop is not None:
                continue
            mark = group.want.mark is not None and step.token == self._alphabet.id_of(group.want.mark)
            state = parent.state if group.grammar is None else group.grammar.step(parent.state, step.token)
            node = self._note(group, step, parent.node)
            group.fed.append((handle, node))
            group.alive.append(Alive(handle, node, step.nats, step.order, parent.thinking and not mark, state))
        for step in ending:
            node = self._note(group, step, parents[step.parent].node)
            ended = self._ending(group, step, node, on.get(id(step)))
            if ended.row is not None and step.stop is not END:
                group.fed.append((ended.row, node))
            group.ended.append(ended)

    def _rows_for(self, group: Group, parents: list[int]) -> list[Row]:
        """A row for each step, by its parent's index: the parent's own, one that nobody continues, or a new one."""
        live, given = group.live, []
        idle = [a.handle for i, a in enumerate(group.alive) if i not in parents]
        taken: set[int] = set()
        for parent in parents:
            own = group.alive[parent].handle
            if parent not in taken:
                taken.add(parent)
                given.append(own)
                continue
            handle = idle.pop() if idle else self._owner.new_handle(live, self._decoder.new_row(live.account))
            given.append(handle)
            self._sources.append(group.row(own))
            self._targets.append(group.row(handle))
        for handle in idle:
            self._owner.drop(live, handle)
        return given

    def _note(self, group: Group, step: Step, parent: int) -> int:
        """A prefix's number."""
        prefixes = group.prefixes
        prefixes.parent.append(parent)
        prefixes.id.append(step.token)
        prefixes.said.append(said_by(self._alphabet, step.token))
        prefixes.nats.append(step.nats)
        prefixes.flops.append(0)
        return len(prefixes.parent) - 1

    def _ending(self, group: Group, step: Step, node: int, row: Row | None) -> Hypothesis:
        stop = "cap" if step.stop is None else "end"
        completion = self._completion(group, node, step.nats, stop, step.stop)
        return Hypothesis(completion, group.score(step.nats, group.said), node, row)

    def _completion(self, group: Group, node: int, nats: float, stop: str, stopped_by: Special | str | None) -> Completion:
        """What a prefix says, as `Generate` would have it."""
        ids: list[int] = []
        while node >= 0:
            ids.append(group.prefixes.id[node])
            node = group.prefixes.parent[node]
        said = tuple(ids[::-1])
        return completion_of(self._alphabet, said, nats, stop, stopped_by)

    # Feeding and ending

    def fed(self, broke: set[int]) -> list[Group]:
        """A pass has been made: note what it cost. Returns the beams that are over, or whose budget it would have passed."""
        for group in self._groups:
            if not group.fed:
                continue
            rows = [group.row(handle) for handle, _ in group.fed]
            spent = self._decoder.spent_flops[rows].tolist()
            self._decoder.spent_flops[rows] = 0
            for (_, node), flops in zip(group.fed, spent, strict=True):
                if node >= 0:
                    group.prefixes.flops[node] += int(flops)
                else:
                    group.prefixes.before_flops += int(flops)
            group.live.told_flops += int(sum(spent))
            group.fed = []
            group.closing |= bool(broke.intersection(rows))
        return [g for g in self._groups if g.closing]

    def cut(self, groups: list[Group]) -> None:
        """Hand the endings over, best first; where the budget's end left too few, the best prefix, as far as it came."""
        for group in groups:
            self._groups.remove(group)
            count = group.want.count
            if group.alive and len(group.ended) < count:
                best = max(group.alive, key=lambda a: a.order)
                completion = self._completion(group, best.node, best.nats, "budget", None)
                group.ended.append(Hypothesis(completion, group.score(best.nats, max(group.said, 1)), best.node))
            found = sorted(group.ended, key=lambda h: -h.score)
            found[count:] = [replace(h, row=None) for h in found[count:]]
            kept = {h.row.number for h in found if h.row is not None}
            idle = [a.handle for a in group.alive] + [h.row for h in group.ended if h.row is not None]
            for handle in idle:
                if handle.number not in kept:
                    self._owner.drop(group.live, handle)
            self._owner.send(group.fiber, (found, group.prefixes))


def _most_probable(logits: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities and columns (n, k) of each row's best tokens, best first; of equals the first, as in greedy choice."""
    k, nats = min(most, logits.shape[1]), log_probabilities(logits)
    if logits.shape[1] <= STABLE_COLUMNS:
        columns = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
    else:
        columns = logits.topk(k, 1).indices
    return nats.gather(1, columns).cpu(), columns.cpu()
