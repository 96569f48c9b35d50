"""Seeds derived from (seed, purpose, index), never from a global generator. Knows nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, purpose: str, index: int | str = 0) -> int:
    """A 63-bit seed."""
    text = f"{seed}/{purpose}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, index: int | str = 0) -> np.random.Generator:
    """A numpy generator of its own."""
    return np.random.default_rng(derive(seed, purpose, index))


def uniforms(keys: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.float64]:
    """One number in [0, 1) for each (key, step), by splitmix64: a row's stream does not depend on its company."""
    with np.errstate(over="ignore"):
        z = keys + (steps + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    drawn: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn
