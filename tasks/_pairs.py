"""Pairs of operands: how long they are, which split they belong to, how they are drawn.

Everything is an array over problems. A kind of problem is a row (operation, long, short, carries): the operation as an index of
OPERATIONS, the digits of the longer and of the shorter operand, and the number of carries (ANY where it is left to chance).
Knows nothing of texts, answers or worked lines.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.task import SPLITS, Split
from tasks._carries import pairs_with, unrank

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Kind = tuple[int, int, int, int]

OPERATIONS: Final = "+-x"
PLUS, MINUS, TIMES = range(3)
ANY: Final = -1
MOST_DIGITS: Final = 18  # so that a sum fits into 64 bits
BUCKETS: Final = 20
FIRST_BUCKET: Final[dict[Split, int]] = {"train": 0, "value": 16, "validation": 17, "test": 18}  # 80, 5, 5 and 10 percent
SALT: Final = 129  # the first with which the small kinds (one digit; rare numbers of carries to 5 digits) are in every split
GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
LISTED: Final = 200_000  # kinds with at most so many pairs are listed in full, others are drawn from
CHUNK: Final = 8192  # pairs drawn at a time

LOWEST: Int = np.array([0, 0] + [10**n for n in range(1, MOST_DIGITS)], dtype=np.int64)  # smallest number of n digits
BEYOND: Int = np.array([10**n for n in range(MOST_DIGITS + 1)], dtype=np.int64)  # smallest number of more than n digits


def mix(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: every input bit changes every output bit with chance one half."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def in_split(split: Split, operation: Int, a: Int, b: Int) -> Bool:
    """Whether pairs belong to a split: a matter of the operation and the unordered operands alone, never of a seed."""
    low, high = np.minimum(a, b).astype(np.uint64), np.maximum(a, b).astype(np.uint64)
    h = mix(low + GOLDEN * (operation + 1 + 3 * SALT).astype(np.uint64))
    return falls_in(split, mix(h + GOLDEN * high))


def falls_in(split: Split, h: NDArray[np.uint64]) -> Bool:
    """Whether contents with these hashes belong to a split."""
    bucket = h % np.uint64(BUCKETS)
    return (bucket >= FIRST_BUCKET[split]) & (bucket < FIRST_BUCKET[split] + buckets(split))


def buckets(split: Split) -> int:
    """How many of the BUCKETS a split has."""
    ends = [*FIRST_BUCKET.values(), BUCKETS]
    return ends[SPLITS.index(split) + 1] - FIRST_BUCKET[split]


def draw(rng: np.random.Generator, kinds: Int) -> tuple[Int, Int]:
    """First and second operands of problems of the given kinds (M, 4): uniform within each kind, in random order."""
    if np.all(kinds[:, 3] == ANY):
        a, b = (rng.integers(LOWEST[digits], BEYOND[digits]) for digits in (kinds[:, 1], kinds[:, 2]))
    else:
        a, b = unrank(kinds, rng.integers(0, pairs_with(kinds)))
    swap = rng.random(len(kinds)) < 0.5
    return np.where(swap, b, a), np.where(swap, a, b)


def number_of_pairs(kind: Kind) -> int:
    """How many pairs (longer, shorter operand) a kind has."""
    _, long, short, carries = kind
    if carries != ANY:
        return int(pairs_with(np.array([kind]))[0])
    return int(BEYOND[long] - LOWEST[long]) * int(BEYOND[short] - LOWEST[short])


def _every(kind: Kind) -> tuple[Int, Int]:
    """All problems of a kind, in both orders, each once."""
    operation, long, short, carries = kind
    rank = np.arange(number_of_pairs(kind), dtype=np.int64)
    if carries == ANY:
        a, b = np.divmod(rank, BEYOND[short] - LOWEST[short])
        a, b = a + LOWEST[long], b + LOWEST[short]
    else:
        a, b = unrank(np.tile(np.array(kind), (len(rank), 1)), rank)
    if long == short and not (operation == MINUS and carries != ANY):
        return a, b  # both orders are among them
    other = a != b
    return np.concatenate([a, b[other]]), np.concatenate([b, a[other]])


@lru_cache(maxsize=512)
def _listed(kind: Kind, split: Split) -> tuple[Int, Int]:
    """All problems of a kind in a split."""
    a, b = _every(kind)
    inside = in_split(split, np.full(len(a), kind[0]), a, b)
    return a[inside], b[inside]


def capacity(kind: Kind, split: Split) -> int:
    """How many problems `held_out` can give: all of them where they are listed, else a quarter of those expected.

    A quarter, and at most 100,000, so that drawing without replacement stays quick.
    """
    pairs = number_of_pairs(kind)
    return len(_listed(kind, split)[0]) if pairs <= LISTED else min(pairs * buckets(split) // (4 * BUCKETS), 100_000)


def generator(split: Split, seed: int, *rest: int) -> np.random.Generator:
    """The random numbers of one purpose; different for every split, seed and ``rest`` (whole numbers from 0)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([SPLITS.index(split), seed, *rest])))


def held_out(kind: Kind, split: Split, seed: int, count: int) -> tuple[Int, Int]:
    """The first ``count`` of a kind's problems in a split, distinct, in an order drawn by ``seed``.

    ``count`` is at most `capacity`. A smaller count gives the beginning of a larger one.
    """
    number = [k + 1 for k in kind]  # ANY as 0
    if number_of_pairs(kind) <= LISTED:
        a, b = _listed(kind, split)
        order = generator(split, seed, *number).permutation(len(a))[:count]
        return a[order], b[order]
    return _drawn(kind, split, seed, count)


def _drawn(kind: Kind, split: Split, seed: int, count: int) -> tuple[Int, Int]:
    """As `held_out`, for kinds with too many pairs to list: drawn in chunks, repetitions left out."""
    kinds, found, chunk = np.tile(np.array(kind, dtype=np.int64), (CHUNK, 1)), np.zeros((0, 2), dtype=np.int64), 0
    while len(found) < count:
        a, b = draw(generator(split, seed, *[k + 1 for k in kind], chunk), kinds)
        inside = in_split(split, kinds[:, 0], a, b)
        found = np.concatenate([found, np.stack([a[inside], b[inside]], axis=1)])
        found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
        chunk += 1
    return found[:count, 0], found[:count, 1]
