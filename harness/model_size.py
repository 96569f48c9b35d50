"""Whether a run's model is there and fits into memory, told before it is built and before anything heavy is imported.

Sizes are lower bounds: by the spec's shape, without the vocabulary, or of a pretrained model by its safetensors files' headers.
Knows specs and files; imports no torch.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from harness.launch import launched
from harness.pretrained import check_there, there
from harness.spec import ModelSpec, RunSpec

BYTES = 4  # of a weight in float32
TAUGHT = 4  # weights, their gradients, and the two moments of the optimizer
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def check_model(spec: RunSpec) -> None:
    """ValueError if the model at ``model.path`` is not there, or if the run's model does not fit into this machine's memory."""
    if spec.model.path is not None:
        check_there(spec.model.path)
    check_fits(spec.model, taught=spec.train.flops > 0 or spec.pretraining is not None)


def check_fits(model: ModelSpec, *, taught: bool, key: str = "model.path") -> None:
    """ValueError if a model does not fit into this machine's memory. key: what a pretrained one's name was given as."""
    copies = TAUGHT if taught and launched() == 1 else 1  # several processes may share them
    count, have = weights_of(model), memory_bytes()
    need = count * BYTES * copies
    if need > have:
        whose, cure = ("model", "fewer model.layers or a smaller model.width")
        if model.path is not None:
            whose, cure = f"{key}: {model.path}", "a smaller model"
        beside = " with their gradients and the optimizer's moments" if copies > 1 else ""
        raise ValueError(
            f"{whose} has at least {count:,} weights, which take {need / 1e9:,.1f} GB in float32{beside}; "
            f"this machine has {have / 1e9:,.1f} GB; choose {cure}"
        )


def weights_of(model: ModelSpec) -> int:
    """How many weights a model has at least; 0 where its files do not say."""
    if model.path is not None:
        folder = there(model.path)
        return 0 if folder is None else sum(_weights_in(folder / name) for name in _files(folder))
    layers, width, _, context = model.shape
    return layers * (12 * width * width + 13 * width) + (context + 2) * width


def memory_bytes() -> int:
    """What this process may hold: the machine's memory, or its container's limit."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        whole = 1 << 62  # it cannot be asked, so nothing is refused
    return min([whole, *(int(text) for path in LIMITS if (text := _text(path)).isdigit())])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _files(folder: Path) -> set[str]:
    """The names of a folder's safetensors files."""
    if not (folder / INDEX).is_file():
        return {WEIGHTS}
    try:
        return set(map(str, json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return set()  # whoever loads it says what is wrong


def _weights_in(path: Path) -> int:
    """Of one file, by its header; 0 if it has none that can be read: whoever loads it says what is wrong."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: Any = json.loads(file.read(min(length, path.stat().st_size)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return 0
