"""Choosing next tokens for many rows at once. Knows logits (n, V) and samplers; knows no rows.

Each row's draw depends on its own key and step alone, so sampling too gives the same answers in any company.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.seeds import uniforms
from harness.wants import Likelihood, Sampler

UNSCORED = -2  # in place of a head's column: a token that is fed, but whose likelihood is not asked for
LEAST_TEMPERATURE = 1e-200  # by which any logit can be divided
FLOATS_TOGETHER = 1 << 17  # of a batch of rows that are sampled or scored: beyond, they leave the cache (measured)


def log_probabilities(logits: Tensor) -> Tensor:
    """(n, V) in float32, row by row."""
    return torch.log_softmax(logits.float(), -1)


def barred(logits: Tensor, columns: Sequence[int]) -> Tensor:
    """Logits (n, V) without some columns: what they would have got goes to the others."""
    if not len(columns):
        return logits
    left = logits.clone()
    left[:, list(columns)] = -torch.inf
    return left


def best(logits: Tensor, k: int) -> Tensor:
    """The columns (k,) or fewer of the largest of logits (V,), best first; of equals the first, as greedy choice has it."""
    k = min(k, len(logits))
    near = (logits >= logits.topk(k).values[-1]).nonzero()[:, 0]
    order: Tensor = logits[near].argsort(descending=True, stable=True)[:k]
    return near[order]


def choose(logits: Tensor, samplers: Sequence[Sampler], keys: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Columns (n,): the most probable one at temperature 0 (ties: the first), else a draw by inverse CDF."""
    chosen: NDArray[np.int64] = logits.argmax(-1).cpu().numpy()
    alike: dict[Sampler, list[int]] = {}
    for i, sampler in enumerate(samplers):
        if sampler.temperature > 0:
            alike.setdefault(sampler, []).append(i)
    if alike:
        chosen = chosen.copy()
    together = max(1, FLOATS_TOGETHER // logits.shape[1])
    for sampler, rows in alike.items():
        for at in range(0, len(rows), together):
            some = rows[at : at + together]
            chosen[some] = _drawn(truncated(logits[some], sampler), uniforms(keys[some], steps[some]))
    return chosen


def _drawn(weights: Tensor, draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Columns (n,) by inverse CDF of weights (n, V), from draws (n,) in [0, 1)."""
    cumulative = weights.cumsum(-1).cpu().numpy()
    columns: NDArray[np.int64] = (cumulative <= draws[:, None] * cumulative[:, -1:]).sum(1)
    return np.minimum(columns, weights.shape[1] - 1)


def truncated(logits: Tensor, sampler: Sampler) -> Tensor:
    """Weights (..., V) in float64, row by row: temperature, then top-k, top-p, min-p and typical, each of what the last one left.

    What is kept keeps its weight, so a row's sum is below 1 where something was cut. top-p and typical keep the token that
    crosses their mass.
    """
    scaled = logits.double()
    if sampler.temperature < LEAST_TEMPERATURE:  # the quotient may be more than a float holds; of differences it is 0 or less
        scaled = scaled - scaled.amax(-1, keepdim=True)
    scaled = scaled / sampler.temperature
    if sampler.top_k:
        least = scaled.topk(min(sampler.top_k, scaled.shape[-1])).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    p = torch.softmax(scaled, -1)
    if sampler.top_p < 1.0:
        p = _within(p, p.argsort(dim=-1, descending=True, stable=True), sampler.top_p)
    if sampler.min_p > 0.0:
        p = p.masked_fill(p < sampler.min_p * p.amax(-1, keepdim=True), 0.0)
    if sampler.typical < 1.0:
        left = p / p.sum(-1, keepdim=True)
        strange = (-left.log() - torch.special.entr(left).sum(-1, keepdim=True)).abs()
        p = _within(p, strange.argsort(dim=-1, stable=True), sampler.typical * p.sum(-1, keepdim=True))
    return p


def _within(p: Tensor, order: Tensor, mass: Tensor | float) -> Tensor:
    """Probabilities (..., V) of the first tokens in an order whose mass before them is below ``mass``; 0 for the others.

    The first one is kept, however small the mass.
    """
    ordered = p.gather(-1, order)
    beyond = ordered.cumsum(-1) - ordered >= mass
    beyond[..., 0] = False
    return p.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)


def likelihood(parts: Sequence[Tensor], columns: NDArray[np.int64], without: Sequence[int] = ()) -> Likelihood:
    """Of the tokens in the head's ``columns`` (n,), UNSCORED ones apart, given logits (n, V) in parts, one behind another.

    without: columns that are barred. ValueError if a token, -1, cannot be said.
    """
    if ((columns < 0) & (columns != UNSCORED)).any():
        raise ValueError("a continuation holds a special token that this strategy cannot say")
    said, greedy, rest = list[Tensor](), True, columns
    for logits in parts:
        mine, rest = rest[: len(logits)], rest[len(logits) :]
        for start in range(0, len(mine), together := max(1, FLOATS_TOGETHER // logits.shape[1])):
            here = mine[start : start + together]
            some, scored = logits[start : start + len(here)], here != UNSCORED
            if not scored.all():
                some, here = some[torch.from_numpy(scored).to(logits.device)], here[scored]
            if len(here):
                column = torch.from_numpy(here).to(logits.device)
                logp = log_probabilities(barred(some, without))
                said.append(logp.gather(1, column[:, None]))
                greedy = greedy and bool((logp.argmax(1) == column).all())  # mostly the first tokens settle it
    return Likelihood(-float(torch.cat(said).double().sum()), sum(map(len, said)), greedy) if said else Likelihood(0.0, 0, True)
