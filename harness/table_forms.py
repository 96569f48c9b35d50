"""A table in four forms, Markdown, CSV, LaTeX and HTML, in each of which every text reads as it stands.

Names and settings are other people's text: none is markup, a formula of a spreadsheet, or a character that acts on a terminal.
Numbers stay numbers. Knows tables; computes nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.visible import visible

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("task", "arm", "point", "place", "first", "second", "cheapest", "access")  # columns that hold names, never numbers
_MARKS = re.compile(r"[\\`*|$~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_OPENING = re.compile(r"([0-9]*)([-+>]|#{1,6}|[.)])(?=\s|$)")  # of a line: what would begin a list, a heading or a quotation
_ROW_OPENING = re.compile(r"^(?=[\[*])", re.MULTILINE)  # which LaTeX would take for an argument of the row before
_NUMBER = re.compile(r"[-+](?:[0-9][-+0-9., e%x\[\]()]*)?")  # a number of ours, with its interval, or none


def forms(name: str, said: Sequence[str], words: pd.DataFrame, numbers: pd.DataFrame | None = None) -> dict[str, str]:
    """A table and the lines above it, by file. numbers: the table that CSV has, if not the words."""
    lines, plain = [visible(line) for line in said], _mapped(words, visible)
    table = _mapped(plain, markdown).to_markdown(index=False, disable_numparse=True)
    listed = "".join(f"- {markdown(line, begins_line=True)}\n" for line in lines)
    page = "".join(f"<p>{html.escape(line)}</p>\n" for line in lines) + plain.to_html(index=False, escape=True, border=0)
    return {
        f"{name}.md": f"# {markdown(name, begins_line=True)}\n\n{listed}\n{table}\n",
        f"{name}.csv": _spreadsheet(words if numbers is None else numbers).to_csv(index=False, lineterminator="\n"),
        f"{name}.tex": _ROW_OPENING.sub("{}", plain.to_latex(index=False, escape=True)),
        f"{name}.html": f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(name)}</title>\n{page}\n',
    }


def markdown(text: str, *, begins_line: bool = False) -> str:
    """Escape what Markdown would take for marks; underscores within words are none. begins_line: the text begins a line."""
    escaped = _MARKS.sub(lambda found: {"&": "&amp;", "<": "&lt;"}.get(found[0]) or f"\\{found[0]}", text)
    return _OPENING.sub(r"\1\\\2", escaped, count=1) if begins_line and _OPENING.match(escaped) else escaped


def spreadsheet(text: str, *, is_name: bool) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula; a number of ours, where no name stands, is none."""
    if not text.startswith(("=", "+", "-", "@")) or text == "-" or (not is_name and _NUMBER.fullmatch(text)):
        return text
    return f"'{text}"


def _spreadsheet(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every text, headers too, as a spreadsheet may have it."""
    made = table.copy()
    for column in made.columns:
        is_name = column in NAMES
        made[column] = [spreadsheet(visible(x), is_name=is_name) if isinstance(x, str) else x for x in made[column]]
    made.columns = [spreadsheet(visible(str(column)), is_name=True) for column in made.columns]
    return made


def _mapped(table: pd.DataFrame, change: Any) -> pd.DataFrame:
    """The table with every text changed, headers too."""
    made = table.map(lambda x: change(x) if isinstance(x, str) else x)
    made.columns = [change(str(column)) for column in made.columns]
    return made
