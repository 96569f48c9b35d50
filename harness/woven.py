"""What strategies say about cells: which ones text tokens become, and who sees whom. Knows arrays and shapes only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

KINDS: tuple[str, ...] = ("text", "thought", "pause", "special")
TEXT, THOUGHT, PAUSE, SPECIAL = range(4)
NOTHING = -(1 << 30)


@dataclass(frozen=True, slots=True)
class Woven:
    """The cells that text tokens become, in arrays over all cells (M,). Each token's cells stand together, in order.

    source: index of the text token; kind: one of KINDS' indices; embed: vocabulary id whose embedding is the input, or -j for
    the j-th inserted-only special; added: a second one that is added, or NOTHING; position: row of the position table, or
    NOTHING for the cell's index in its sequence;
    slot: number of the thought at its place (0: the text token itself); read: the next text token's distribution is read
    here (the last read of a token ends what must be fed before the next token is known; cells behind it are owed);
    taught: the next text token is a target here in training.
    """

    source: IntArray
    kind: IntArray
    embed: IntArray
    added: IntArray
    position: IntArray
    slot: IntArray
    read: BoolArray
    taught: BoolArray


def plain_weave(ids: IntArray, places: IntArray) -> Woven:
    """Text as it is: one cell a token, read and taught there."""
    n, yes = np.arange(len(ids)), np.ones(len(ids), dtype=bool)
    zero = np.zeros(len(ids), dtype=np.int64)
    return Woven(n, zero, ids, np.full_like(zero, NOTHING), places, zero, yes, yes)


@dataclass(frozen=True, slots=True)
class View:
    """Facts about cells for `sight`, each a tensor (B, N): their index in the sequence, place, kind and slot.

    Padding has index -1 among queries and an index beyond every query's among keys.
    """

    index: Tensor
    place: Tensor
    kind: Tensor
    slot: Tensor


@dataclass(frozen=True, slots=True)
class Sight:
    """Who sees whom, for queries Q and keys K: boolean tensors (B, 1 or heads, Q, K), or None for the plain case.

    look: the pair is attended (None: causal). learn_kv: False stops the gradient into the pair's key and value. learn_state:
    False stops it at the state behind them, while the key and value weights still learn. gated: pairs to whose scores the
    strategy's key bias is added.
    """

    look: Tensor | None = None
    learn_kv: Tensor | None = None
    learn_state: Tensor | None = None
    gated: Tensor | None = None
