"""The processes that make one run together (torchrun, `accelerate launch`), of which this is one; `ALONE` where there is but one.

Every rank goes through the same steps on its share of each update's texts and of the test problems. The first one alone writes
into the results folder; the others have a scratch folder that begins as a copy, so that one code serves all. Knows processes and
what they tell each other; knows no model, no strategy and no loss.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from harness.launch import launched

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # for a rank that still answers its problems while the others are done
LINKED = (".safetensors",)  # large, and only ever replaced whole, so a link to it is as good as a copy


class Ranks:
    """This process among its equals. rank: its number; count: of how many; sharded: weights are split among them (FSDP)."""

    def __init__(self, accelerator: Any = None, *, sharded: bool = False) -> None:
        self._accelerator, self.sharded, self._begun, self._theirs = accelerator, sharded, False, Path()
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.count: int = 1 if accelerator is None else accelerator.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def summed(self, counts: Sequence[int]) -> list[int]:
        """Counts, added up over all ranks."""
        return list(counts) if self.count == 1 else [int(n) for n in self._sum(torch.tensor(counts, dtype=torch.int64))]

    def total(self, value: float) -> float:
        """A number, added up over all ranks."""
        return value if self.count == 1 else float(self._sum(torch.tensor([value], dtype=torch.float64))[0])

    def _sum(self, numbers: Tensor) -> Tensor:
        own = numbers.to(self._accelerator.device)
        torch.distributed.all_reduce(own)
        return own.cpu()

    def told(self, value: T) -> T:
        """What the first rank says."""
        if self.count == 1:
            return value
        said = [value]
        torch.distributed.broadcast_object_list(said, src=0, device=self._accelerator.device)
        return said[0]

    def gathered(self, mine: T) -> list[T]:
        """What every rank has, by rank."""
        every: list[Any] = [mine] * self.count
        if self.count > 1:
            torch.distributed.all_gather_object(every, mine)
        return every

    def wrapped(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are means over the ranks; sharded, its parameters are split in place (FSDP2)."""
        if self.count == 1:
            return module
        if not self.sharded:
            prepared: nn.Module = self._accelerator.prepare_model(module)
            return prepared
        from torch.distributed.fsdp import fully_shard

        for parameter in module.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP2 takes no other layout
        split: Any = fully_shard(module)
        return cast(nn.Module, split)

    def quiet(self, module: nn.Module) -> AbstractContextManager[None]:
        """While gradients are added up here and not yet exchanged."""
        if self.count == 1 or self.sharded:  # sharded gradients have no place but where they belong
            return nullcontext()
        hushed: AbstractContextManager[None] = self._accelerator.no_sync(module)
        return hushed

    # Files

    def begin(self) -> None:
        """Let the others begin. For the first rank, once it knows that there is something to do."""
        if self.count > 1 and self.first:
            self._begun = self.told(True)

    def dismiss(self) -> None:
        """Tell the others that there is nothing to do, unless they have begun. For the first rank, at the end."""
        if self.count > 1 and self.first and not self._begun:
            self.told(False)

    @contextmanager
    def followed(self, results: Path) -> Iterator[Path | None]:
        """For the other ranks: a results folder of this rank's own, still empty; None if there is nothing to do."""
        if not self.told(False):
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="harness-rank-") as scratch:
            self._theirs, own = results, Path(scratch)
            yield own

    def mirror(self, results: Path, folder: Path) -> None:
        """Make a folder the same on all ranks, as the first one has it, while nobody else can write there."""
        if self.count == 1:
            return
        names = self.told([p.name for p in sorted(folder.glob("*")) if p.is_file()])
        if not self.first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in names:
                _copy(self._theirs / folder.relative_to(results) / name, folder / name)
        self._accelerator.wait_for_everyone()


ALONE = Ranks()


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise ValueError(f"--results: {source} is seen by the first process only; name a folder that all of them share")
    if source.suffix in LINKED:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)


@contextmanager
def joined(device: str, *, shard: bool = False) -> Iterator[tuple[Ranks, str]]:
    """Meet the other processes that were launched with this one; its ranks and its own device, such as cuda:1."""
    if launched() == 1:
        if shard:
            raise ValueError(
                "--shard: splits weights among processes; launch several: torchrun --nproc-per-node N -m harness run .."
            )
        yield ALONE, device
        return
    accelerator = _accelerator(device)
    ranks = Ranks(accelerator, sharded=shard or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true")
    own = accelerator.device
    yield ranks, "cpu" if own.type == "cpu" else str(own)
    accelerator.wait_for_everyone()
    torch.distributed.destroy_process_group()


def _accelerator(device: str) -> Any:
    """Accelerate's view of the processes; ValueError says how to get it."""
    try:
        accelerate: Any = importlib.import_module("accelerate")
    except ImportError:
        raise ValueError(
            "this is one of several processes, which need Accelerate: pip install 'thinking-harness[accelerate]', or run it alone"
        ) from None
    handlers = [
        accelerate.utils.InitProcessGroupKwargs(timeout=PATIENCE),
        # a strategy may leave weights out of an update; without the search DDP would then exchange nothing, and say nothing
        accelerate.utils.DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True),
    ]
    return accelerate.Accelerator(cpu=device == "cpu", kwargs_handlers=handlers, mixed_precision="no")
