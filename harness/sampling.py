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


def choose(logits: Tensor, samplers: Sequence[Sampler], keys: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Columns (n,): the most probable one at temperature 0 (ties: the first), else a draw by inverse CDF."""
    chosen: NDArray[np.int64] = logits.argmax(-1).cpu().numpy()
    sampled = [i for i, s in enumerate(samplers) if s.temperature > 0]
    if sampled:
        draws = uniforms(keys[sampled], steps[sampled])
        probabilities = torch.stack([truncated(logits[i], samplers[i]) for i in sampled])
        cumulative = probabilities.cumsum(-1).cpu().numpy()
        columns = (cumulative <= draws[:, None] * cumulative[:, -1:]).sum(1)
        chosen = chosen.copy()
        chosen[sampled] = np.minimum(columns, logits.shape[1] - 1)
    return chosen


def truncated(logits: Tensor, sampler: Sampler) -> Tensor:
    """Probabilities (V,) in float64 after temperature, top-k and top-p (which keeps the token that crosses p)."""
    scaled = logits.double() / sampler.temperature
    if sampler.top_k:
        least = scaled.topk(min(sampler.top_k, len(scaled))).values[-1]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    p = torch.softmax(scaled, -1)
    if sampler.top_p < 1.0:
        ordered, order = p.sort(descending=True, stable=True)
        beyond = ordered.cumsum(-1) - ordered >= sampler.top_p
        p = p.index_fill(0, order[beyond], 0.0)
    return p


def likelihood(logits: Tensor, columns: NDArray[np.int64]) -> Likelihood:
    """Of the tokens in the head's ``columns`` (n,), given logits (n, V), UNSCORED ones apart.

    ValueError if one of them, -1, cannot be said.
    """
    if (columns == UNSCORED).any():
        scored = columns != UNSCORED
        logits, columns = logits[: len(columns)][torch.from_numpy(scored).to(logits.device)], columns[scored]
    if not len(columns):
        return Likelihood(0.0, 0, True)
    if (columns < 0).any():
        raise ValueError("a continuation holds a special token that this strategy cannot say")
    column = torch.from_numpy(columns).to(logits.device)
    logp = log_probabilities(logits[: len(columns)])
    nats = -float(logp.gather(1, column[:, None]).double().sum())
    return Likelihood(nats, len(columns), bool((logp.argmax(1) == column).all()))
