"""How pictures look and are saved: one style, one colour and marker a strategy in the whole project, the same bytes every time.

Knows matplotlib and the names of strategies; knows no data.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from harness import registry
from harness.registry import short_name
from harness.suite import Arm
from harness.visible import visible

# Okabe and Ito's eight, of which the yellow is too light for lines; black is kept for what all are compared with.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
COLOURS_OF_PNG = 256
REFERENCE = "0.35"  # of the comparator: grey
STYLE: Any = {"svg.hashsalt": "thinking-harness", "svg.fonttype": "none", "font.size": 11, "axes.spines.top": False,
         "axes.spines.right": False, "axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True}  # fmt: skip


def figure_of(width: float, height: float) -> Any:
    """A figure of so many inches that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def files_of(figure: Any, name: str) -> dict[str, bytes]:
    """The figure as files' bytes by name, png and svg, without a date."""
    files = {}
    _take_as_it_stands(figure)
    for kind, facts in (("png", {}), ("svg", {"Date": None})):
        figure.savefig(written := io.BytesIO(), format=kind, dpi=150, metadata=facts)
        files[f"{name}.{kind}"] = written.getvalue() if kind == "svg" else _smaller(written)
    return files


def _take_as_it_stands(figure: Any) -> None:
    """Let no text of a figure be a formula: a name may hold dollar signs. Characters that act on a terminal are escapes."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        shown = text.get_text()
        if "$" in shown:
            text.set_parse_math(False)
        made = "\n".join(visible(line) for line in shown.split("\n"))
        if made != shown:
            text.set_text(made)


def _smaller(png: io.BytesIO) -> bytes:
    """The same picture in 256 colours, which lines and letters do with: a third of the bytes."""
    from PIL import Image

    picture = Image.open(png).convert("RGB").quantize(COLOURS_OF_PNG, dither=Image.Dither.NONE)
    picture.save(written := io.BytesIO(), "png", optimize=True)
    return written.getvalue()


LONGEST_LABEL = 50  # characters that fit along a side


def label_of(words: str, tail: str) -> str:
    """Of an axis, in two lines if one is too long for it."""
    return f"{words}, {tail}" if len(words) + len(tail) < LONGEST_LABEL else f"{words},\n{tail}"


def mean_of(seeds: int) -> str:
    """What a score is the mean of."""
    return "one seed" if seeds == 1 else f"mean of {seeds} seeds"


def look_of(strategy: str, nth: int = 0) -> dict[str, str]:
    """Colour and marker of a strategy, by its place among all of them; nth: of several arms of it, by the marker's filling."""
    known = _known()
    place = known.index(strategy) if strategy in known else len(known) + sum(strategy.encode())
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
    filling = (colour, "white", "0.8", "0.5")[min(nth, 3)]
    return {"color": colour, "marker": marker, "markerfacecolor": filling}


@lru_cache(maxsize=1)
def _known() -> list[str]:
    return registry.names("strategy")


def looks(arms: Sequence[Arm]) -> list[dict[str, str]]:
    """A look for each arm."""
    seen: Counter[str] = Counter()
    found = []
    for arm in arms:
        found.append(look_of(short_name(arm.strategy), seen[arm.strategy]))
        seen[arm.strategy] += 1
    return found
