"""In what numbers training multiplies: fp32, TensorFloat-32, or bfloat16 under autocast. Weights and optimizer are always fp32.

Asking is always fp32: its bits must not depend on company. Shielded attention is too where its backward pass is our own, on a
CPU or with a gate; a GPU's fused kernels take what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """While matrices are multiplied so; put back afterwards. Only GPUs have TensorFloat-32; elsewhere it is fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def casting(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward pass: autocast if that is wanted."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def exact(device: torch.device) -> AbstractContextManager[object]:
    """Around what is multiplied in fp32 whatever is wanted."""
    return torch.autocast(device.type, enabled=False)
