"""Rating states by Monte Carlo: prefixes that a base samples, and the share of sampled attempts from each that are right.

A rollout's own states are sampled prefixes too, each rated by what the rollout came to: they cost nothing more, and they show
what tells attempts at one problem apart, which one attempt a problem cannot. One job a problem, graded by the
problem's own key; what all cost is summed. Knows bases by their contract, searches by their base; knows no fitting and no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.backbone import Backbone
from harness.examination import library_of, oracle_of, referee_of, sizes_of
from harness.growing import NOTHING
from harness.problem import END, Completion, Problem, Question
from harness.search import Search, split_saying
from harness.search_wants import LastState, ValueSpec
from harness.seeds import derive
from harness.session import Job, Session
from harness.spec import RunSpec
from harness.strategy import Strategy
from harness.wants import Drop, Fork, Gather, Generate, Judge, Row, Sampler, Saying, Solver, Spell

State = NDArray[np.float32]
Rated = list[tuple[State, float]]  # states (D,), and the share of right attempts from each


def wanted_by(spec: RunSpec) -> ValueSpec:
    """The value model that a run's strategy asks for, which must be one."""
    wanted = spec.strategy.value_spec()
    assert wanted is not None
    return wanted


def base_of(strategy: Strategy) -> Strategy:
    """Whose attempts are sampled."""
    return strategy.asked if isinstance(strategy, Search) else strategy


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts of a base at one question, drawn by a sampler. said: how they can be split, None: not at all."""

    base: Strategy
    question: Question
    sampler: Sampler
    said: Saying | None

    def gone_on(self, row: Row, before: Completion, *, line: bool = False) -> Solver[Completion]:
        """All that is said where a row goes on behind ``before`` to the attempt's end. line: to a line's end, if one comes."""
        if self.said is None:
            return (yield from self.base.attempt(self.question, row, self.sampler))
        mark, cap_tokens = self.said.mark, self.said.cap_tokens - len(before.ids)
        until = (self.said.joint,) if line and mark is not None else ()
        rest: Completion = yield Generate(
            row, cap_tokens, self.sampler, mark=mark, until=until, after=before.ids, after_nats=before.logprob_nats
        )
        ids = before.ids + rest.ids
        pieces = yield Spell(ids)
        whole = pieces[:-1] if rest.stopped_by == END else pieces
        return Completion(whole, ids, rest.logprob_nats, rest.stop, rest.stopped_by)

    def ends_a_line(self, said: Completion) -> bool:
        """Whether an attempt stands behind a line, and goes on."""
        return self.said is not None and isinstance(said.stopped_by, str)

    def graded(self, whole: Completion) -> Solver[float]:
        """The grade of a whole attempt, by the problem's own key; 0 without an answer."""
        answer = self.base.read(whole)
        return 0.0 if answer is None else float((yield Judge(answer)))

    def rollout(self, row: Row, said: Completion) -> Solver[tuple[list[State], float]]:
        """The states behind every line and at the end, and the grade of what a row comes to; the row is given up."""
        states: list[State] = []
        going = True
        while going:
            said = yield from self.gone_on(row, said, line=True)
            going = self.ends_a_line(said)
            if going or said.stop == "end":
                states.append((yield LastState(row)))
        yield Drop(row)
        return states, (yield from self.graded(said))


def rated(base: Strategy, question: Question, wanted: ValueSpec) -> Solver[Rated]:
    """The states of one sampled attempt: behind the prompt and every line, each by its rollouts; at its end by its own grade.

    Behind each of them the states of its rollouts, which end before the attempt goes on: a problem holds ``rollouts`` + 1 rows at
    most. An attempt that its cap cut off has no end: searches rate none.
    """
    attempts = Attempts(base, question, Sampler(wanted.temperature), split_saying(base, question))
    row: Row = yield from base.start(question)
    found: Rated = []
    said, going = NOTHING, True
    while going:
        state = yield LastState(row)
        _, *rows = yield Fork(row, wanted.rollouts + 1)
        rollouts: list[tuple[list[State], float]] = yield Gather(tuple(attempts.rollout(other, said) for other in rows))
        found.append((state, math.fsum(grade for _, grade in rollouts) / len(rollouts)))
        found += [(reached, grade) for states, grade in rollouts for reached in states]
        said = yield from attempts.gone_on(row, said, line=True)
        going = attempts.ends_a_line(said)
    if said.stop == "end":
        state = yield LastState(row)
        found.append((state, (yield from attempts.graded(said))))
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """States (n, D), problem by problem; the shares (n,) of right attempts from each; how many problems, and what all cost."""

    states: Tensor
    shares: Tensor
    problems: int
    flops: int


def sampled(
    spec: RunSpec,
    backbone: Backbone,
    problems: Sequence[Problem],
    *,
    purpose: str,
    rows: int | None = None,
    max_kv_bytes: int | None = None,
    report: Callable[[], None] | None = None,
) -> Sample:
    """The rated states of problems. purpose: of the seeds; report: called after each problem."""
    jobs = _jobs(spec, backbone, problems, purpose, bounded=max_kv_bytes is not None)
    reference = spec.model.reference_layers
    session = Session(backbone, rows=rows, reference_layers=reference, max_kv_bytes=max_kv_bytes, keep_states=True)
    if max_kv_bytes is not None:
        session.check_sizes((job.rows, job.cells) for job in jobs)
    found: dict[int, Rated] = {}
    flops = 0
    for outcome in session.run(jobs):
        found[int(outcome.job.name)] = outcome.value
        flops += outcome.ledger.total_flops
        if report is not None:
            report()
    each = [one for index in range(len(jobs)) for one in found[index]]
    states = np.array([state for state, _ in each], dtype=np.float32).reshape(-1, backbone.width)
    return Sample(torch.from_numpy(states), torch.tensor([share for _, share in each]), len(jobs), flops)


def _jobs(spec: RunSpec, backbone: Backbone, problems: Sequence[Problem], purpose: str, *, bounded: bool) -> list[Job]:
    """A job for each problem, by its number."""
    wanted, base, examples = wanted_by(spec), base_of(spec.strategy), library_of(spec)
    sizes = sizes_of(backbone, bounded=bounded)

    def job(index: int, problem: Problem) -> Job:
        question = problem.question
        rows, cells = sizes(base, question, ())
        return Job(
            str(index), lambda: rated(base, question, wanted), derive(spec.seed, purpose, question.id), math.inf,
            oracle_of(spec.task, problem), examples, referee_of(spec.task, question), max(rows, wanted.rollouts + 1), cells,
        )  # fmt: skip

    return [job(index, problem) for index, problem in enumerate(problems)]
