"""Beam search for many problems at once: the want `Beam`. All prefixes of all problems are ranked together, turn by turn.

Prefixes stay on their rows where they can: a row that has one successor is not copied, and one that has none is given to a
successor of another row. Knows rows and probabilities; knows no problems.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Protocol

from harness.alphabet import Alphabet
from harness.beam_ranking import Alive, Group, Ranking, Step
from harness.decoder import Decoder
from harness.jobs import Fiber, Live, Turn
from harness.problem import END, ROLES, Completion, Special
from harness.rows import Feed
from harness.search_wants import Beam, Hypothesis, Prefixes
from harness.stops import completion_of, said_by
from harness.wants import Row
from harness.writers import Writers

Found = tuple[list[Hypothesis], Prefixes]


class Owner(Protocol):
    """Who knows jobs and their rows: the session."""

    def new_handle(self, live: Live, row: int) -> Row:
        """A job's handle on a new row."""

    def drop(self, live: Live, handle: Row) -> None:
        """A job gives a row up."""

    def send(self, fiber: Fiber, value: Any) -> None:
        """Hand a fiber its result."""


class Beams:
    """The beams of a session."""

    def __init__(self, decoder: Decoder, writers: Writers, turn: Turn, owner: Owner) -> None:
        self._decoder, self._writers, self._turn, self._owner = decoder, writers, turn, owner
        self._alphabet: Alphabet = decoder.alphabet
        self._ranking = Ranking(decoder)
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
        for group, steps in zip(ready, self._ranking.ranked(ready), strict=True) if ready else ():
            group.chosen = steps
        going = [g for g in self._groups if g.chosen is not None and not g.fed]
        over = [g for g in going if self._gone_on(g)]
        if self._sources:
            self._decoder.branch(self._sources, self._targets)
            self._sources, self._targets = [], []
        self.cut(over)
        return bool(over)

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
            state = parent.state if group.grammar is None else group.grammar.step(parent.state, step.token)
            node = self._note(group, step, parent.node)
            group.fed.append((handle, node))
            group.alive.append(Alive(handle, node, step.nats, step.order, self._thinks(group, parents, step), state))
        for step in ending:
            node = self._note(group, step, parents[step.parent].node)
            ended = self._ending(group, step, node, on.get(id(step)), thinking=self._thinks(group, parents, step))
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

    def _thinks(self, group: Group, parents: list[Alive], step: Step) -> bool:
        """Whether the mark has not been said yet, behind a step."""
        mark = group.want.mark
        return parents[step.parent].thinking and (mark is None or step.token != self._alphabet.id_of(mark))

    def _ending(self, group: Group, step: Step, node: int, row: Row | None, *, thinking: bool) -> Hypothesis:
        ended = step.stop is not None or (group.want.cap_ends and not thinking)
        closes = group.want.closes if step.closed else ()
        completion = self._completion(group, node, step.nats, "end" if ended else "cap", step.stop, closes)
        return Hypothesis(completion, group.score(step.nats, group.said), node, row)

    def _completion(
        self,
        group: Group,
        node: int,
        nats: float,
        stop: str,
        stopped_by: Special | str | None,
        closes: tuple[str, ...] = (),
    ) -> Completion:
        """What a prefix says, as `Generate` would have it."""
        ids, silent = group.prefixes.ids(node), group.live.job.silent
        return completion_of(self._alphabet, ids, nats, stop, stopped_by, closes=closes, silent=silent)

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
