"""An endless train stream over a fixed number of problems: every epoch goes through all of them, each in a new order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def endless(size: int, seed: int, start: int, count: int) -> list[int]:
    """Places ``start .. start+count-1`` of a stream that permutes 0 .. size-1 anew in every epoch."""
    return [_permutation(size, seed, i // size)[i % size] for i in range(start, start + count)]


@lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> list[int]:
    places: list[int] = np.random.default_rng([seed, epoch]).permutation(size).tolist()
    return places
