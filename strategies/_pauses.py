"""What strategies share that put idle tokens into the text: how they are laid out, and pauses at random places of a window.

Knows pieces of text; knows no model, and not how many idle tokens anyone wants.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.problem import THOUGHTS, Piece, Text, Tokens
from harness.strategy import NOTHING, PAUSE, Woven, plain_weave
from harness.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

Place = Literal["own", "shared"]
PAUSE_PIECE = Piece(THOUGHTS[0], "thought")  # the one <pause>: given, never a target, paid for as thinking


def laid(ids: Any, places: Any, place: Place) -> Woven:
    """One cell a token. own: positions count all cells; shared: idle tokens have the position of the text token before them."""
    woven = plain_weave(ids, places)
    return woven if place == "shared" else dataclasses.replace(woven, position=np.full(len(ids), NOTHING))


def random_pattern(tokens: int, pauses: int, rng: np.random.Generator, *, fixed: int = 1) -> NDArray[np.bool_]:
    """Where pauses stand (tokens + pauses,), all arrangements equally likely; the first ``fixed`` places hold text."""
    pattern = np.zeros(tokens + pauses, dtype=bool)
    pattern[fixed + rng.permutation(tokens + pauses - fixed)[:pauses]] = True
    return pattern


def count_tokens(text: Text) -> int:
    """Tokens of a window."""
    return sum(len(piece.content.ids) for piece in text if isinstance(piece.content, Tokens))


def interleaved(text: Text, pattern: NDArray[np.bool_]) -> Text:
    """A window's tokens in their order, and a pause wherever ``pattern`` says so; tokens beyond its end are cut off."""
    contents = [(piece, piece.content.ids) for piece in text if isinstance(piece.content, Tokens)]
    tokens = iter([Piece(Tokens((i,)), piece.role, piece.target) for piece, ids in contents for i in ids])
    return tuple(PAUSE_PIECE if paused else next(tokens) for paused in pattern.tolist())


def window_with_pauses(text: Text, share: float, rng: np.random.Generator) -> Text:
    """A window of S positions (S + 1 tokens) with round(share x S) pauses inserted at random, then trimmed to S positions.

    Goyal et al. 2310.02226, section 3.1: with share 0.1, pauses are 1/11 of the positions. The first token stays the first: it
    is context, and the target of the window before.
    """
    tokens = count_tokens(text)
    return interleaved(text, random_pattern(tokens, round(share * (tokens - 1)), rng)[:tokens])


def untrained_vector(config: Any) -> nn.Module:
    """A vector like GPT-2's at the start, kept out of the optimizer, whose weight decay would change it without a gradient."""
    import torch

    vector = torch.nn.Embedding(1, config.n_embd)
    vector.weight.data.mul_(config.initializer_range)
    return vector.requires_grad_(False)


def forward_with_vector(backbone: Any, cells: Any, slots: Any) -> Tensor:
    """Once through the blocks; the input of pauses is the part "pause" and their position."""
    import torch

    pauses = torch.from_numpy(np.flatnonzero(cells.layout.kind == PAUSE)).to(backbone.device)
    positions = backbone.model.transformer.wpe.weight[cells.position[pauses]]
    states = backbone.embed(cells).index_copy(0, pauses, positions + backbone.parts["pause"].weight)
    finished: Tensor = backbone.finish(backbone.blocks(states, cells, slots, last=True))
    return finished


def text_of(task_name: str, task: Task) -> Mapping[str, Any]:
    """The pretraining phase's task that holds a task's own text: documents as they are, problems as `strings` joins them.

    Only what is trained on counts, so that settings of asking leave the phase, and who shares it, alone.
    """
    learned = [f for f in dataclasses.fields(task) if f.metadata["when"] == "learn"]
    changed = {f.name: getattr(task, f.name) for f in learned if getattr(task, f.name) != f.default}
    if task.kind == "documents":
        return {"task": task_name, **{f"task.{name}": value for name, value in changed.items()}}
    return {"task": "strings", "task.of": task_name, "task.settings": json.dumps(changed, sort_keys=True)}
