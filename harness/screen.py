"""Consoles on which text is text: brackets are no markup, colons no emoji, and nothing in a text acts on the terminal.

Style is given by `styled`, never by what stands in a text. Knows rich.
"""

from __future__ import annotations

from rich.console import Console, HighlighterType, JustifyMethod, OverflowMethod
from rich.progress import Task, TextColumn
from rich.style import Style
from rich.text import Text

from harness.visible import visible

WIDTH = 118


class Screen(Console):
    """A console of plain text, on stdout or stderr. width: None for the terminal's."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: HighlighterType | None = None,
    ) -> Text:
        """Make a text of a string, as it stands; every string that is printed, in a table too, comes here."""
        return Text(visible(text), style=style, justify=justify, overflow=overflow)


class Words(TextColumn):
    """A progress bar's column of text."""

    def render(self, task: Task) -> Text:
        """Make the column's text of a task, as it stands."""
        return Text(visible(self.text_format.format(task=task)))


def console() -> Screen:
    """Standard output; as wide as the terminal, or wide enough for our tables."""
    out = Screen()
    return out if out.is_terminal else Screen(width=WIDTH)


def styled(*parts: str | tuple[str, str]) -> Text:
    """A text of strings and of (string, style) pairs."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in pairs))
