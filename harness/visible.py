"""The door to the terminal: all text that commands print passes here, so that no text can act on the terminal.

Records, plugins, paths and models' answers are other people's text. Control characters (C0, C1, DEL), changes of direction, line
separators and halves of surrogate pairs are shown as escapes. Knows characters; imports nothing heavy. For tables see `screen`.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

_ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """The text on one line, with an escape such as ``\\x1b`` or ``\\u202e`` for each character that would act on the terminal."""
    return _ACTING.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def say(*lines: str) -> None:
    """Print lines on stdout."""
    for line in lines:
        print(visible(line))


def to_stderr(line: str) -> None:
    """Print one line of progress, or of an error, on stderr."""
    print(visible(line), file=sys.stderr, flush=True)


def count_on_stderr(line: str) -> None:
    """Draw a line on stderr over the one before."""
    print(f"\r{visible(line)}", end="", file=sys.stderr, flush=True)


def say_json(value: Any) -> None:
    """Print a value as JSON on stdout; characters that would act on the terminal are JSON's own escapes, so it reads the same."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    print(_ACTING.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text))
