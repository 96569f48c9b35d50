"""Devices that models run on: cpu, cuda and cuda:N. Knows names at once, and what this machine has by asking torch."""

from __future__ import annotations

import re

NAME = re.compile(r"cpu|cuda(?::(0|[1-9][0-9]{0,3}))?")


def check_device(device: str, *, here: bool = True, option: str = "--device") -> None:
    """ValueError if there is no such device; the CPU is always there. here: on this machine, else the name alone is checked."""
    found = NAME.fullmatch(device)
    if found is None:
        raise ValueError(f"{option}: expected cpu, cuda or cuda:N, got {device!r}")
    if device == "cpu" or not here:
        return
    import torch

    count = torch.cuda.device_count()
    if int(found[1] or 0) >= count:
        legal = ", ".join(["cpu", *(["cuda"] if count else []), *(f"cuda:{n}" for n in range(count))])
        raise ValueError(f"{option}: no such CUDA device is available here, got {device!r}; legal: {legal}")
