"""How much a device takes at a time when asking: rows side by side, and rows and numbers of one forward pass.

On a CPU they keep what a pass touches in its cache; on a GPU, where a pass costs much the same whatever its rows, as many go
together as a share of its free memory holds. All of it is measured, and none of it changes an answer or a ledger.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

MEMORY_SHARE = 0.25  # of a GPU's free memory, or of a machine's, for keys and values: a search may hold thrice the rows
FEWEST_ROWS = 8  # on a CPU, whatever its memory: fewer would read all weights for next to nothing
USUAL_CELLS = 1024  # that a row comes to hold: most texts are far from filling a pretrained model's context


@dataclass(frozen=True, slots=True)
class Bounds:
    """rows: about how many are decoded side by side; forward_rows, forward_floats (of attention scores or logits): of one pass.

    piece_keys: what one more piece of a pass costs, in keys that a row attends to (see `harness.cached`). call_cells: what one
    more call of a library's forward costs, which reads all weights, in cells (measured on a CPU, on a GPU a guess).
    """

    rows: int
    forward_rows: int
    forward_floats: int
    piece_keys: int
    call_cells: int


CPU = Bounds(rows=128, forward_rows=128, forward_floats=1 << 24, piece_keys=200, call_cells=32)
GPU = Bounds(rows=1024, forward_rows=1024, forward_floats=1 << 28, piece_keys=1 << 13, call_cells=1 << 12)


def bounds_of(device: torch.device) -> Bounds:
    """What suits a device."""
    return GPU if device.type == "cuda" else CPU


def rows_of(device: torch.device, *, cells: int, bytes_per_cell: int) -> int:
    """How many rows to decode side by side, that come to hold so many cells at most (on a GPU no fewer than on a CPU)."""
    on_gpu = device.type == "cuda"
    memory_bytes = torch.cuda.mem_get_info(device)[0] if on_gpu else physical_bytes()
    held = int(MEMORY_SHARE * memory_bytes) // (min(cells, USUAL_CELLS) * bytes_per_cell)
    return min(bounds_of(device).rows, max(CPU.rows if on_gpu else FEWEST_ROWS, held))


def physical_bytes() -> int:
    """This machine's memory; where that cannot be asked, as much as a small laptop has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30
