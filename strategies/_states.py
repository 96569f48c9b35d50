"""States of a tree of thoughts: an attempt cut behind a worked line, how it grows by one more, and when two are the same.

Knows wants, rows and trees; values and the order of the search are others'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.growing import Growing
from harness.problem import Completion, Special, ended
from harness.search_wants import Beam, Hypothesis, Prefixes, Spent
from harness.wants import Drop, Fork, Gather, Generate, Row, Sampler, Saying, Solver, Spell


@dataclass(slots=True, eq=False)
class State:
    """number: its node; row: where it goes on; lines, ids, nats: all that was said so far; final: it is a whole attempt."""

    number: int
    row: Row | None
    lines: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    nats: float = 0.0
    final: bool = False


@dataclass(frozen=True, slots=True)
class Proposals:
    """How states grow: ``branching`` lines each, drawn by a sampler or (None) the most probable ones that a beam finds."""

    saying: Saying
    branching: int
    sampler: Sampler | None
    pattern: str | None = None

    def rows(self) -> int:
        """Rows that a state holds while it grows."""
        return self.branching if self.sampler is not None else 2 * self.branching


def grown(proposals: Proposals, states: Sequence[State], tree: Growing) -> Solver[list[State]]:
    """The states that continue some others, side by side; duplicates and what a cap cut off are noted and given up."""
    one = _drawn if proposals.sampler is not None else _beamed
    for state in states:
        tree.nodes[state.number].visits += 1
    each: list[list[State] | None] = yield Gather(tuple(one(proposals, state, tree) for state in states))
    children = [child for some in each for child in some or ()]
    kept: dict[tuple[int, ...], State] = {}
    for child in children:
        if child.ids in kept:
            tree.nodes[child.number].fate = "duplicate"
        kept.setdefault(child.ids, child)
    going = [child for child in kept.values() if tree.nodes[child.number].fate != "cut"]
    yield from given_up([child for child in children if child not in going])
    return going


def _until(proposals: Proposals, state: State, said: Sequence[str | Special]) -> tuple[str, ...]:
    """Where a line ends: nowhere behind the mark, or where there are no lines."""
    mark, joint = proposals.saying.mark, proposals.saying.joint
    return () if not joint or (mark is not None and mark in said) else (joint,)


def _drawn(proposals: Proposals, state: State, tree: Growing) -> Solver[list[State]]:
    """Lines drawn from a state's row."""
    assert proposals.sampler is not None and state.row is not None
    said = yield Spell(state.ids)
    rows: list[Row] = yield Fork(state.row, proposals.branching)
    tree.nodes[state.number].flops += (yield Spent((state.row,)))[0]
    settings = _settings(proposals, state, said)
    wants = tuple(_one_line(Generate(row, sampler=proposals.sampler, **settings)) for row in rows)  # type: ignore[arg-type]
    completions: list[Completion | None] = yield Gather(wants)  # None: the budget ended behind a line
    spent: list[int] = yield Spent(tuple(rows))
    children = []
    for row, completion, flops in zip(rows, completions, spent, strict=True):
        if completion is not None:
            children.append((yield from _child(state, row, completion, flops, tree, proposals.saying)))
    return children


def _settings(proposals: Proposals, state: State, said: Sequence[str | Special]) -> dict[str, object]:
    """What the rest of an attempt is said with."""
    mark = proposals.saying.mark
    return {
        "cap_tokens": proposals.saying.cap_tokens - len(state.ids),
        "mark": None if mark in said else mark,
        "until": _until(proposals, state, said),
        "after": state.ids,
        "after_nats": state.nats,
        "closes": proposals.saying.closes,
        "cap_ends": proposals.saying.cap_ends,
    }


def _one_line(want: Generate) -> Solver[Completion]:
    completion: Completion = yield want
    return completion


def _beamed(proposals: Proposals, state: State, tree: Growing) -> Solver[list[State]]:
    """The most probable lines from a state's row. What they share is the first one's cost, the rest their parent's."""
    assert state.row is not None
    said = yield Spell(state.ids)
    found: tuple[list[Hypothesis], Prefixes] = yield Beam(
        state.row, width=proposals.branching, count=proposals.branching, grammar=proposals.pattern, keep=True,
        **_settings(proposals, state, said),  # type: ignore[arg-type]
    )  # fmt: skip
    endings, prefixes = found
    left = dict(enumerate(prefixes.flops))
    children = []
    for ending in endings[: proposals.branching]:
        flops, at = 0, ending.node
        while at >= 0:
            flops, at = flops + left.pop(at, 0), prefixes.parent[at]
        children.append((yield from _child(state, ending.row, ending.completion, flops, tree, proposals.saying)))
    tree.nodes[state.number].flops += prefixes.before_flops + sum(left.values())
    return children


def _child(state: State, row: Row | None, line: Completion, flops: int, tree: Growing, saying: Saying) -> Solver[State]:
    """A state that adds a line (or the rest of an attempt) to another one, as a node."""
    ids = state.ids + line.ids
    stopped = line.stopped_by if isinstance(line.stopped_by, str) else ""
    number = tree.add(state.number, line.text + stopped, nats=line.logprob_nats, tokens=len(ids), flops=flops)
    child = State(number, row, state.lines, ids, line.logprob_nats)
    if isinstance(line.stopped_by, str):
        child.lines = (*state.lines, line.text)
        return child
    pieces: tuple[str | Special, ...] = yield Spell(ids)
    whole, _ = ended(pieces, saying.closes if saying.mark is None or saying.mark in pieces else ())
    tree.end(number, Completion(whole, ids, line.logprob_nats, line.stop, line.stopped_by))
    child.final = line.stop == "end"
    return child


def given_up(states: Sequence[State]) -> Solver[None]:
    """Free the rows of states."""
    for state in states:
        if state.row is not None:
            yield Drop(state.row)
            state.row = None
