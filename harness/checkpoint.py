"""Where training stands, on disk: weights, optimizer and counts in one file that is replaced by rename, and the log beside it.

The log is appended just before the state is replaced, and its length is part of the state, so what a crash leaves beyond it is
cut off. What is written are whole tensors, however many ranks hold parts of them: so any number of ranks goes on. Knows files
and tensors; knows no loss.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import shapes, storage
from harness.backbone import Backbone
from harness.target import Spent
from harness.weights import load_state, pack, read_packed, state_of, whole

State = dict[str, Tensor]


class Checkpoint:
    """``checkpoint.safetensors`` and ``train.jsonl`` in a folder; owner: what is trained there; nothing else resumes it."""

    def __init__(self, folder: Path, *, owner: str) -> None:
        self._path, self.log, self._owner = folder / "checkpoint.safetensors", folder / "train.jsonl", owner
        self._pending: list[str] = []

    def note(self, line: str) -> None:
        """Keep a line for the log; lines reach the file together with a state, never before it."""
        self._pending.append(line)

    def flush(self) -> None:
        """Append the lines that are kept."""
        if self._pending:
            storage.append(self.log, "".join(self._pending))
            self._pending = []

    def write(self, backbone: Backbone, optimizer: torch.optim.Optimizer, spent: Spent, *, keep: bool) -> None:
        """Append the log, then replace the state. keep: whether this rank is the one that writes; all take part in gathering."""
        self.flush()
        tensors = {f"weights/{k}": v for k, v in state_of(backbone).items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{k}": whole(v).contiguous() for k, v in state.items()}
        if keep:
            log_bytes = self.log.stat().st_size if self.log.exists() else 0
            facts = {"owner": self._owner, "spent": asdict(spent), "log_bytes": log_bytes}
            storage.replace_file(self._path, pack(tensors, facts))

    def read(self, backbone: Backbone) -> tuple[Spent, State]:
        """Go back to the last state: load its weights, cut the log, return what was spent and the optimizer's tensors.

        ValueError if the state is another run's, or the log was cut short.
        """
        if not self._path.exists():
            storage.remove(self.log)
            return Spent(), {}
        tensors, facts = read_packed(self._path)
        try:
            shapes.check(facts, shapes.Checkpoint)
        except ValueError as error:
            raise ValueError(f"{self._path} is damaged or not ours ({error}); delete it and run again") from None
        if facts["owner"] != self._owner:
            raise ValueError(f"{self._path} is the checkpoint of another run; delete it and run again")
        load_state(backbone, _below("weights/", tensors))
        logged = self.log.stat().st_size if self.log.exists() else 0
        if logged < facts["log_bytes"]:
            raise ValueError(f"{self.log} was cut short since its checkpoint; delete {self._path} to train anew")
        if logged > facts["log_bytes"]:
            storage.truncate(self.log, facts["log_bytes"])
        return Spent(**facts["spent"]), _below("optimizer/", tensors)


def _below(prefix: str, tensors: State) -> State:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_moments(optimizer: torch.optim.Optimizer, tensors: State) -> None:
    """Give an optimizer the tensors that `Checkpoint.read` returned."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in sorted(tensors.items()):  # ranks must agree on the order
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, kept in optimizer.state.items():  # moments are stored the way their weights are
        for key, value in kept.items():
            kept[key] = _like(parameter, value) if value.shape == parameter.shape else value


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, stored (and split among ranks) as a parameter is."""
    if hasattr(parameter, "placements"):
        from torch.distributed.tensor import distribute_tensor

        own: Any = parameter
        split: Tensor = distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
        return split
    return torch.empty_like(parameter).copy_(value)
