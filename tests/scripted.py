"""A model that follows a script: the next token's probabilities as a function of all that was said behind the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from harness.alphabet import Alphabet, make_alphabet
from harness.checks.context import with_methods
from harness.live_rows import LiveRows
from harness.problem import Special, shown
from harness.strategy import Strategy

LETTERS = "chars:0123456789+=;"
RARE = 1e-9
Script = Callable[[str], Mapping[str | Special, float]]


def alphabet() -> Alphabet:
    return make_alphabet(LETTERS)


def follows(how: Strategy, script: Script, monkeypatch: Any) -> Strategy:
    """The strategy with the script in place of the model's head; specials stand in the text by their names. Passes, and what they
    cost, are the model's."""
    told: dict[int, dict[int, int]] = defaultdict(dict)  # row -> index -> token
    letters, texts = alphabet(), list[str]()
    own = LiveRows._copy

    def copy(self: LiveRows, sources: list[int], targets: list[int]) -> None:
        held = [dict(told[s]) for s in sources]
        told.update(zip(targets, held, strict=True))
        own(self, sources, targets)

    monkeypatch.setattr(LiveRows, "_copy", copy)

    def forward(self: Strategy, backbone: Any, cells: Any, slots: Any) -> Any:
        layout = cells.layout
        rows = (layout.row + cells.first_row).tolist()
        for row, index, token in zip(rows, layout.index.tolist(), layout.embed.tolist(), strict=True):
            told[row][index] = token
        texts.clear()
        for at in cells.reads.cells.tolist():
            ids = [told[rows[at]][i] for i in range(int(layout.index[at]) + 1)]
            texts.append(shown(letters.pieces(ids)).partition("=")[2])
        return type(how).forward(self, backbone, cells, slots)

    def readout(self: Strategy, backbone: Any, states: Any, reads: Any) -> torch.Tensor:
        type(how).readout(self, backbone, states, reads)
        logits = torch.full((len(texts), backbone.outputs), RARE)
        for line, text in enumerate(texts):
            for said, p in script(text).items():
                token = letters.id_of(said) if isinstance(said, Special) else letters.encode(said)[0]
                logits[line, backbone.head_ids.index(int(token))] = p
        return logits.log()

    return with_methods(how, forward=forward, readout=readout)
