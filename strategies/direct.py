"""direct: plain next-token training, greedy asking. Everything is the contract's default; knows nothing more."""

from __future__ import annotations

from dataclasses import dataclass

from harness.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Direct(Strategy):
    """Plain next-token training and greedy asking: the baseline."""

    source = "the baseline"
