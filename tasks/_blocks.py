"""Train streams that are made block by block, since drawing many problems at once is cheap. Knows nothing of problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from harness.problem import Problem

BLOCK: Final = 4096  # problems drawn at a time


def from_blocks(block: Callable[[int], Sequence[Problem]], start: int, count: int) -> list[Problem]:
    """Problems ``start .. start+count-1`` of a stream whose block number n holds problems n BLOCK and on."""
    numbers = range(start // BLOCK, (start + count - 1) // BLOCK + 1)
    found = [problem for number in numbers for problem in block(number)]
    return found[start - numbers[0] * BLOCK :][:count]
