"""A value model: a small network that reads the chance of success off a row's last state. Knows tensors; knows no training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

VALUE_ROWS = 16  # as a strategy's parts: whole vector registers, the same bits in any company


@dataclass(frozen=True, slots=True)
class ValueModel:
    """up (H, D), up_bias (H,), down (H,), down_bias (): the chance is sigmoid(down . gelu(up state + up_bias) + down_bias)."""

    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    @property
    def flops_per_state(self) -> int:
        """2 for each weight of its matrices."""
        return 2 * (self.up.numel() + self.down.numel())

    def logits(self, states: Tensor) -> Tensor:
        """(n, D) -> (n,)."""
        return F.gelu(F.linear(states, self.up, self.up_bias)) @ self.down + self.down_bias

    @torch.inference_mode()
    def chances(self, states: Tensor) -> list[float]:
        """(n, D) -> n numbers between 0 and 1, each the same whatever stands beside it."""
        padded = F.pad(states, (0, 0, 0, -len(states) % VALUE_ROWS))
        chances: list[float] = torch.sigmoid(self.logits(padded))[: len(states)].tolist()
        return chances
