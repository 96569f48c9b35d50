"""Splits of given data by a hash of its content, before anything is trained. Knows nothing of what the data is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from harness.task import Split

SHARES: Final[dict[Split, float]] = {"test": 0.10, "validation": 0.05, "value": 0.05}  # the rest is train's


def content_hash(text: str) -> str:
    """sha256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def cut(texts: Sequence[str], *, weights: Sequence[int], held_out: Mapping[Split, float] = SHARES) -> list[Split]:
    """The split of each text: the same for the same texts, in whatever order and on whatever machine.

    weights: how much each counts (bytes, or 1). In the order of their hashes, texts fill up test, then validation, then value, to
    their shares of all weight. A text above twice a share goes past that split, so that one long document cannot eat the train
    split; a split that is left empty so gets a light text of train (or of one that has several). Wants a text for each split.
    """
    if len(texts) <= len(held_out):
        raise ValueError(f"only {len(texts)} different texts for {len(held_out) + 1} splits")
    splits: list[Split] = ["train"] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: content_hash(texts[i]))
    target = {split: share * sum(weights) for split, share in held_out.items()}
    room = dict(target)
    for i in order:
        fitting = [s for s in target if room[s] > 0 and weights[i] <= 2 * target[s]]
        if fitting:
            splits[i] = fitting[0]
            room[fitting[0]] -= weights[i]
    for split in held_out:
        if split not in splits:
            several = {s for s, number in Counter(splits).items() if number > 1}
            donors = [i for i in order if splits[i] in several]
            splits[min(donors, key=lambda i: (splits[i] != "train", weights[i]))] = split
    return splits


def fill(texts: Sequence[str], *, weights: Sequence[int], given: Sequence[Split | None]) -> list[Split]:
    """As `cut`, where data names splits of its own: those stay, and the splits that are missing are cut from train.

    given: the named split of each text; None everywhere if there are none.
    """
    missing: dict[Split, float] = {s: share for s, share in SHARES.items() if s not in given}
    train = [i for i, split in enumerate(given) if split in (None, "train")]
    fresh = cut([texts[i] for i in train], weights=[weights[i] for i in train], held_out=missing)
    splits: list[Split] = [split or "train" for split in given]
    for i, split in zip(train, fresh, strict=True):
        splits[i] = split
    return splits
