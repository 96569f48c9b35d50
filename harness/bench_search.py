"""How fast searches are, against `generate` and against themselves one problem at a time; and that no prefix is computed twice.

Workloads for `harness.bench`: drawn answers, beams and trees on learners of size s. Contenders that draw other answers are
compared by tokens a second, of all that were said; equal outputs are checked first, where nothing is drawn. Knows workloads and
targets; the peers are in `harness.bench_peers`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import bench_peers as peers
from harness.backbone import Backbone
from harness.bench_turns import medians, over, result, turns
from harness.examination import referee_of
from harness.plugin_spec import make_strategy
from harness.problem import Problem
from harness.session import Job, Outcome, Session
from harness.spec import RunSpec
from harness.strategy import Strategy

PROBLEMS = 64
PLAIN_PROBLEMS, TREES_ALONE = 4, 8  # minutes for more; tokens a second of problems one at a time do not depend on how many
VOTES_TARGETS = {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0, 16: 1.0, 32: 2.0, 64: 1.0}  # times the tokens a second of `generate`
BEAM_WIDTH, BEAM_TARGET, PLAIN_TREE_TARGET = 8, 1.5, 10.0
ALONE_TARGETS = {"greedy": 5.0, "votes": 3.0, "bfs": 1.1, "dfs": 2.0}  # over one problem at a time
TWICE_TARGET, GREEDY_SHARE_TARGET, OUTSIDE_TARGET = 1.05, 0.8, 0.15
TREE = {"branching": 5, "breadth": 5, "levels": 3}


@dataclass
class Searched:
    """Searches over one learner's problems.

    tokens: said in the last run; feed_s, copy_s: wall seconds of it inside forward passes, and in copies of keys and values.
    """

    spec: RunSpec
    backbone: Backbone
    problems: Sequence[Problem]
    tokens: int = 0
    feed_s: float = 0.0
    copy_s: float = 0.0
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def how(self, name: str, **settings: Any) -> Strategy:
        """A search over the learner."""
        base = self.spec.strategy
        return type(make_strategy(name, {}, task=self.spec.task))(base=base, **settings)  # type: ignore[call-arg]

    def run(self, how: Strategy, *, rows: int | None = None) -> dict[str, Outcome]:
        """Outcomes by the problem's number."""
        session, held = Session(self.backbone, rows=rows), [how.holding(p.question).rows for p in self.problems]
        self.feed_s = self.copy_s = 0.0
        session._decoder.feed = self._timed(session._decoder.feed, "feed_s")  # type: ignore[method-assign]
        session._decoder.slots.copy = self._timed(session._decoder.slots.copy, "copy_s")  # type: ignore[method-assign]
        jobs = [
            Job(str(i), lambda p=p: how.solve(p.question), i, referee=referee_of(self.spec.task, p.question), rows=held[i])  # type: ignore[misc]
            for i, p in enumerate(self.problems)
        ]
        self.outcomes = {o.job.name: o for o in session.run(jobs)}
        self.tokens = sum(map(said_tokens, self.outcomes.values()))
        return self.outcomes

    def _timed(self, own: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()  # CPU seconds are read by a call that itself costs a share of a pass
            found = own(*args)
            setattr(self, name, getattr(self, name) + time.perf_counter() - start)
            return found

        return timed

    def said(self) -> list[tuple[int, ...]]:
        """What was answered in the last run, as tokens."""
        return [self.outcomes[str(i)].value.completion.ids for i in range(len(self.problems))]


def said_tokens(outcome: Outcome) -> int:
    """Tokens that were said for a problem, pruned ones and ends included."""
    if outcome.value.tree is None:
        return len(outcome.value.completion.ids)
    nodes = outcome.value.tree.nodes
    return sum(node.tokens - (nodes[node.parent].tokens if node.parent else 0) for node in nodes[1:])


def necessary_flops(searched: Searched) -> int:
    """Prompts once a problem, and every node's tokens once, each behind its parent's; what nothing is read behind is left out.

    For a base without thoughts. Nodes that ended with END, or at an answer's cap, have one token that is not fed.
    """
    model, total = searched.backbone, 0
    head = model.price.head(model.outputs)

    def cells(first: int, last: int) -> int:
        import numpy as np

        return int(model.price.blocks(np.arange(first + 1, last + 1)).sum()) + head * (last - first)

    for number, problem in enumerate(searched.problems):
        prompt = len(model.alphabet.encode(str(problem.question.text)))
        total += cells(0, prompt) - head * (prompt - 1)
        nodes = searched.outcomes[str(number)].value.tree.nodes
        for node in nodes[1:]:
            before = nodes[node.parent].tokens if node.parent else 0
            total += cells(prompt + before, prompt + node.tokens - int(node.final))
    return total


def searches(direct: Searched, lined: Searched, rounds: int) -> Iterator[dict[str, Any]]:
    """All measurements, as they are made. direct: a learner that answers at once; lined: one that says worked lines first."""
    votes, beam = direct.how("self_consistency", samples=32), direct.how("beam_search", width=BEAM_WIDTH)
    trees = {s: lined.how("tree_of_thoughts", search=s, **TREE) for s in ("bfs", "dfs")}
    yield from _over_generate(direct, rounds)
    yield _beam(direct, beam, rounds)
    yield _plain_tree(lined, trees["bfs"], rounds)
    yield _alone("greedy", direct, direct.spec.strategy, rounds, PROBLEMS)
    yield _alone("votes", direct, direct.how("self_consistency", samples=4), rounds, PROBLEMS)
    for name, how in trees.items():
        yield _alone(name, lined, how, rounds, TREES_ALONE)
    kinds = {"votes": (direct, votes), "beam": (direct, beam), "bfs": (lined, trees["bfs"]), "dfs": (lined, trees["dfs"])}
    for name, (searched, how) in kinds.items():
        yield from _of_itself(name, searched, how)
    yield _beside_greedy("votes", direct, votes, rounds)
    yield _beside_greedy("bfs", lined, trees["bfs"], rounds)


def _rates(contenders: Mapping[str, Callable[[], int]], rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """CPU seconds a token of contenders that return how many they said, round by round, and their medians."""
    counts: dict[str, int] = {}

    def counted(name: str) -> Callable[[], None]:
        def call() -> None:
            counts[name] = contenders[name]()

        return call

    seconds = turns({name: counted(name) for name in contenders}, rounds)
    each = {name: [s / counts[name] for s in values] for name, values in seconds.items()}
    return each, medians(seconds) | {f"{name}_tokens": float(counts[name]) for name in contenders}


def _prompts(searched: Searched) -> list[list[int]]:
    return [searched.backbone.alphabet.encode(str(p.question.text)).tolist() for p in searched.problems]


def _check(name: str, ours: Iterable[Sequence[int]], theirs: Iterable[Sequence[int]]) -> None:
    if [list(x) for x in ours] != [list(x) for x in theirs]:
        raise RuntimeError(f"bench: {name}: the contenders do not say the same tokens")


def _over_generate(direct: Searched, rounds: int) -> Iterator[dict[str, Any]]:
    """Drawn answers, for every number of samples. At temperature 0 every sample is `generate`'s greedy answer; checked first."""
    stock, end = peers.stock_model(direct.backbone).eval(), direct.backbone.alphabet.end_id
    prompts, cap = _prompts(direct), direct.problems[0].question.answer_cap_tokens
    direct.run(direct.how("self_consistency", samples=4, temperature=0.0))
    _check("votes", direct.said(), peers.generate(stock, prompts, end_id=end, cap_tokens=cap))
    for samples, target in VOTES_TARGETS.items():
        how = direct.how("self_consistency", samples=samples)

        def ours(how: Strategy = how) -> int:
            direct.run(how)
            return direct.tokens

        def theirs(samples: int = samples) -> int:
            return sum(map(len, peers.sample(stock, prompts, end_id=end, cap_tokens=cap, samples=samples)))

        each, details = _rates({"ours": ours, "generate": theirs}, rounds)
        name = f"search s votes N={samples} on {PROBLEMS}: over generate"
        yield result(name, over(each, "generate", "ours"), target, details)


def _beam(direct: Searched, how: Strategy, rounds: int) -> dict[str, Any]:
    """Beams of equal width: the same top sequences, unless their scores tie."""
    stock, end = peers.stock_model(direct.backbone).eval(), direct.backbone.alphabet.end_id
    prompts, cap = _prompts(direct), direct.problems[0].question.answer_cap_tokens
    direct.run(how)
    found = peers.beams(stock, prompts, end_id=end, cap_tokens=cap, width=BEAM_WIDTH)
    completions = [direct.outcomes[str(i)].value.completion for i in range(len(prompts))]
    for said, (ids, score) in zip(completions, found, strict=True):
        if list(said.ids) != ids and abs(said.logprob_nats - score) > 1e-5:
            raise RuntimeError("bench: beam: the contenders do not find the same sequences")
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: direct.run(how),
        "generate": lambda: peers.beams(stock, prompts, end_id=end, cap_tokens=cap, width=BEAM_WIDTH),
    }
    seconds = turns(calls, rounds)
    name = f"search s beam {BEAM_WIDTH} on {PROBLEMS}: over generate"
    return result(name, over(seconds, "generate", "ours"), BEAM_TARGET, medians(seconds))


def _plain_tree(lined: Searched, how: Strategy, rounds: int) -> dict[str, Any]:
    """A tree that calls `generate` for every state and reads all anew; one greedy line a state is the same on both sides."""
    alphabet = lined.backbone.alphabet
    stock, (joint,) = peers.stock_model(lined.backbone).eval(), alphabet.encode(";").tolist()
    few = Searched(lined.spec, lined.backbone, lined.problems[:PLAIN_PROBLEMS])
    said = few.spec.strategy.saying(few.problems[0].question)
    assert said is not None
    settings = {"joint": joint, "end": lined.backbone.head_ids.index(alphabet.end_id), "cap_tokens": said.cap_tokens}
    few.run(few.how("tree_of_thoughts", branching=1, breadth=1, temperature=0.0, levels=TREE["levels"]))
    columns = {i: column for column, i in enumerate(lined.backbone.head_ids)}
    ended = [o.value for o in few.outcomes.values() if o.value.completion.stop == "end"]
    greedy = [peers.tree(stock, p, branching=1, breadth=1, levels=TREE["levels"], **settings)[0] for p in _prompts(few)]
    for at, prompt in enumerate(_prompts(few)):
        value = few.outcomes[str(at)].value
        if value in ended and [columns[i] for i in value.completion.ids] != greedy[at][len(prompt) :]:
            raise RuntimeError("bench: tree: the contenders do not say the same tokens")

    def ours() -> int:
        lined.run(how)
        return lined.tokens

    def theirs() -> int:
        return sum(peers.tree(stock, p, drawn=True, **TREE, **settings)[1] for p in _prompts(few))

    each, details = _rates({"ours": ours, "plain": theirs}, rounds)
    details["plain_problems"] = PLAIN_PROBLEMS
    name = f"search s tree bfs on {PROBLEMS}: over generate a state"
    return result(name, over(each, "plain", "ours"), PLAIN_TREE_TARGET, details)


def _alone(name: str, searched: Searched, how: Strategy, rounds: int, count: int) -> dict[str, Any]:
    """All side by side over one problem at a time (``count`` of them): the same answers, trees and ledgers."""
    few = Searched(searched.spec, searched.backbone, searched.problems[:count])

    def facts(found: Mapping[str, Outcome]) -> list[Any]:
        return [(found[str(i)].value, found[str(i)].ledger.by_class()) for i in range(count)]

    if facts(searched.run(how)) != facts(few.run(how, rows=1)):
        raise RuntimeError(f"bench: {name}: other answers alone than side by side")

    def said(some: Searched, rows: int | None) -> int:
        some.run(how, rows=rows)
        return some.tokens

    each, details = _rates({"together": lambda: said(searched, None), "alone": lambda: said(few, 1)}, rounds)
    title = f"search s {name} on {PROBLEMS}: over one at a time"
    return result(title, over(each, "alone", "together"), ALONE_TARGETS[name], details | {"alone_problems": count})


def _of_itself(name: str, searched: Searched, how: Strategy) -> list[dict[str, Any]]:
    """What was booked over what had to be, and the share of the seconds that are spent neither in forwards nor copying keys."""
    start = time.perf_counter()
    outcomes = searched.run(how)
    spent_s = time.perf_counter() - start
    booked, needed = sum(o.ledger.total_flops for o in outcomes.values()), necessary_flops(searched)
    outside = 1 - (searched.feed_s + searched.copy_s) / spent_s
    details = {"booked_flops": booked, "necessary_flops": needed}
    return [
        result(f"search s {name}: executed over necessary FLOPs", booked / needed, TWICE_TARGET, details, at_most=True),
        result(
            f"search s {name}: seconds of the scheduler",
            outside,
            OUTSIDE_TARGET,
            {"wall_s": spent_s, "copy_s": searched.copy_s, "feed_s": searched.feed_s},
            at_most=True,
        ),
    ]


def _beside_greedy(name: str, searched: Searched, how: Strategy, rounds: int) -> dict[str, Any]:
    """Tokens a second over greedy answers of the same base, both at about the same rows."""

    def said(strategy: Strategy) -> int:
        searched.run(strategy)
        return searched.tokens

    base = searched.spec.strategy
    each, details = _rates({"search": lambda: said(how), "greedy": lambda: said(base)}, rounds)
    return result(f"search s {name}: tokens a second over greedy", over(each, "greedy", "search"), GREEDY_SHARE_TARGET, details)
