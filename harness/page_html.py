"""Pieces of the report page as HTML: what was asked, sentences, tables, plots.

Every text is escaped, and what cannot be seen in it is shown. Knows the comparison's files; reads none but pictures.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Data = dict[str, Any]
INLINE_BYTES = 3_000_000  # of all pictures together; those beyond are named by path
LONG = 32  # letters that a cell may have on one line
_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb"
    "\\ud800-\\udfff\\U000e0000-\\U000e007f]"
)


def seen(text: str) -> str:
    """A text with its control characters as numbers, so that none acts and none hides; harness/page/common.js does the same."""
    return _UNSEEN.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", text)


def safe(text: object) -> str:
    """A text as HTML."""
    return html.escape(seen(str(text)))


def comparison_html(comparison: Data, plots: Sequence[str]) -> str:
    """The section of one comparison. plots: its pictures, as HTML."""
    parts = [f"<h2>{own(comparison['name'])}</h2>", _asked(comparison)]
    parts.append(_listed("Verdicts", comparison["sentences"], none="No verdict: nothing was judged here."))
    if comparison["notes"]:
        parts.append(_listed("Notes", comparison["notes"], none=""))
    parts += [table_html(table) for table in comparison["tables"]]
    if plots:
        parts.append('<div class="plots">' + "\n".join(plots) + "</div>")
    return f'<section class="comparison" id="{html.escape(anchor(comparison["name"]))}">\n' + "\n".join(parts) + "\n</section>"


def anchor(name: str) -> str:
    """Where a comparison stands on the page."""
    return "comparison-" + re.sub(r"[^A-Za-z0-9_-]", lambda found: f".{ord(found[0]):x}.", name)


def own(text: object) -> str:
    """A text that is somebody's, apart from the direction of what stands around it."""
    return f'<bdi dir="ltr">{safe(text)}</bdi>'


def _asked(comparison: Data) -> str:
    """What was asked, and what was expected before any run."""
    declared = comparison["declared"]
    facts = [("task", comparison["task"]), ("suite", comparison["suite"])]
    if declared is None:
        facts.append(("declared beforehand", "nothing: what is found here describes, and decides nothing"))
    else:
        facts.append(("declared training FLOPs", short(declared["train_flops"])))
        facts.append(("margin within which scores count as equivalent", short(declared["margin"])))
        facts.append(("expected shape", declared["expected"] or "none was written down"))
    rows = "".join(f"<dt>{safe(name)}</dt><dd>{own(value)}</dd>" for name, value in facts)
    block = safe(json.dumps(comparison["block"], indent=1, ensure_ascii=False))
    return (
        f'<dl class="asked">{rows}</dl>\n'
        f"<details><summary>The declaration in full</summary>"
        f'<pre tabindex="0" dir="ltr">{block}</pre></details>'
    )


def short(value: object) -> str:
    """A number in few digits; anything else as it is."""
    return (
        f"{value:.3g}" if isinstance(value, int | float) and not isinstance(value, bool) else "-" if value is None else str(value)
    )


def _listed(title: str, lines: Sequence[str], *, none: str) -> str:
    body = "<ul>" + "".join(f"<li>{own(line)}</li>" for line in lines) + "</ul>" if lines else f"<p>{safe(none)}</p>"
    return f"<h3>{safe(title)}</h3>{body}"


def table_html(table: Data) -> str:
    """A table whose headers sort and which can be filtered by words and by arm."""
    columns, rows, title = table["columns"], table["rows"], safe(table["title"])
    head = "".join(f'<th scope="col" aria-sort="none"><button type="button">{safe(c)}</button></th>' for c in columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    arm = columns.index("arm") if "arm" in columns else None
    choice = "" if arm is None else _arms(arm, [row[arm] for row in rows])
    return (
        f'<div class="table"><h3>{title}</h3><div class="controls">'
        f'<label>Filter rows <input type="search" autocomplete="off"></label>{choice}<output>{len(rows):,} rows</output></div>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _cell(text: object) -> str:
    """A cell of a table; only a long one may take several lines."""
    words = "-" if text is None else str(text)
    opening = '<td class="long">' if len(words) > LONG else "<td>"
    return f"{opening}{own(words)}</td>"


def _arms(column: int, arms: Sequence[str]) -> str:
    """Among which rows to choose. data-column: where the arm stands."""
    options = "".join(f'<option value="{safe(arm)}">{safe(arm)}</option>' for arm in dict.fromkeys(arms))
    return f'<label>Arm <select data-column="{column}"><option value="">all</option>{options}</select></label>'


class Plots:
    """Pictures as HTML, inside the page while there is room. A picture in an <img> runs nothing."""

    def __init__(self, results: Path, *, inline: bool = False) -> None:
        self._results, self._room = results, sys.maxsize if inline else INLINE_BYTES

    def html(self, name: str) -> str:
        """One picture; ValueError if it is not there, or lies elsewhere."""
        path = (self._results / name).resolve()
        if path.suffix != ".svg" or not path.is_relative_to(self._results.resolve()) or not path.is_file():
            raise ValueError(f"{self._results / name}: no such picture; make it again with the comparison")
        coded = base64.b64encode(path.read_bytes()).decode()
        source = html.escape(name)
        if len(coded) <= self._room:
            self._room -= len(coded)
            source = f"data:image/svg+xml;base64,{coded}"
        words = safe(path.stem)
        return (
            f'<figure><img src="{source}" alt="Plot: {words}" loading="lazy"><figcaption>{own(path.stem)}</figcaption></figure>'
        )
