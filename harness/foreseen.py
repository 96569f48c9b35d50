"""What asking costs by formula, before anything is asked: answers as long as their keys, one pass over plain text.

Of plain training's model this is the unit of budgets, x1: a constant of task and model. Knows formulas, problems and alphabets;
runs no model.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.alphabet import Alphabet
from harness.documents import rolling_windows
from harness.examination import asked_problems, gold_text
from harness.inquiries import asked_inquiries
from harness.inquiry_costs import request_costs
from harness.meter import Price
from harness.problem import Problem
from harness.spec import InferSpec, RunSpec
from harness.strategy import Strategy
from harness.stream import encode, opened

UNIT_PROBLEMS = 500  # of validation, whatever a run is asked


@dataclass(frozen=True, slots=True)
class Costs:
    """What the baseline feeds and reads for a problem, in means over problems: cells, the sum of their c, reads of V outputs."""

    cells: float
    cells_so_far: float
    reads: float
    outputs: int

    def flops(self, price: Price) -> float:
        """Of asking one problem, by the meter's formula, which is linear in c."""
        return self.cells * price.cell_flops + self.cells_so_far * price.key_flops + self.reads * price.head(self.outputs)


def costs_of(spec: RunSpec, alphabet: Alphabet) -> Costs:
    """Means as `harness.summary` takes them, of test problems answered with their keys, or of test documents."""
    if spec.task.kind == "documents":
        documents = list(spec.task.documents(spec.infer.split))[: spec.infer.problems]
        parts = [_windows(alphabet.encode(d.text).tolist(), spec, alphabet) for d in documents]
        weights = np.ones(len(parts))
    elif spec.task.kind == "requests":
        parts = request_costs(spec, alphabet)
        weights = np.array([inquiry.weight for inquiry in asked_inquiries(spec)])
    else:
        problems = asked_problems(spec)
        counted = [p for p in problems if p.weight > 0] or problems
        if not counted:
            raise ValueError(f"there are no {spec.infer.split} problems")
        parts = [_cells_and_reads(*_lengths(spec, p, alphabet)) for p in counted]
        weights = np.array([p.weight or 1.0 for p in counted])
    means: NDArray[np.float64] = np.average(np.array(parts, dtype=np.float64), axis=0, weights=weights)
    cells, cells_so_far, reads = means.tolist()
    return Costs(cells, cells_so_far, reads, len(alphabet.head_ids(spec.strategy.sayable())))


def _lengths(spec: RunSpec, problem: Problem, alphabet: Alphabet) -> tuple[int, int]:
    """Tokens of a prompt and of its answer."""
    prompt, gold = opened(spec.strategy.prompt(problem.question), alphabet), gold_text(problem)
    return len(encode([prompt], alphabet).ids), len(encode([gold], alphabet).ids)


def _cells_and_reads(prompt: int, said: int) -> tuple[int, int, int]:
    """Cells, the sum of their c, and reads: what is said last is not fed."""
    cells = prompt + said - 1
    return cells, cells * (cells + 1) // 2, said


def _windows(ids: list[int], spec: RunSpec, alphabet: Alphabet) -> tuple[int, int, int]:
    """The same of a document."""
    windows = rolling_windows(ids, prefix_id=alphabet.prefix_id, window_tokens=spec.task.window_tokens)
    counted = [_cells_and_reads(len(context), len(said)) for context, said in windows]
    cells, cells_so_far, reads = (sum(x) for x in zip(*counted, strict=True))
    return cells, cells_so_far, reads


def unit_flops(spec: RunSpec, alphabet: Alphabet, price: Price) -> float:
    """FLOPs of x1: what asking plain training's model one problem costs, on average over validation problems of seed 0."""
    asked = InferSpec(problems=UNIT_PROBLEMS, split="validation")
    costs = costs_of(dataclasses.replace(spec, strategy=Strategy(), infer=asked, seed=0), alphabet)
    return costs.flops(price)
