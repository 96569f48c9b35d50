"""Which ValueErrors are refusals: those that this code, or a plugin's, raises for users, apart from those of libraries.

A refusal is one line and exit code 2. A ValueError that a library raises while it works for us is our fault, or a plugin's, and
keeps its traceback. Knows tracebacks; imports nothing heavy.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

OWN = ("harness", "strategies", "tasks")
_RAISE = dis.opmap["RAISE_VARARGS"]


class Unsuited(ValueError):
    """An arm that cannot be on this task or model at its settings, for a reason that the contract names.

    Of the comparator's family such an arm is left out; any other ValueError is a mistake in what was asked for.
    """


def is_refusal(error: ValueError, *, also: Sequence[str] = ()) -> bool:
    """Whether a ``raise`` of ours, of a plugin's or of some other packages raised the error.

    An error from another package comes out of another frame; one from code in C out of an instruction that is no ``raise``.
    """
    last = _innermost(error.__traceback__)
    if last is None:
        return True  # it was made, and not raised yet
    return last.tb_frame.f_code.co_code[last.tb_lasti] == _RAISE and _is_ours(last.tb_frame, also)


def _innermost(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def _is_ours(frame: FrameType, also: Sequence[str]) -> bool:
    """Whether a frame runs code of ours, of a plugin's package, or of a file beside a plugin's."""
    from harness.registry import plugin_modules

    modules = plugin_modules()
    packages = {*OWN, *also, *(name.partition(".")[0] for name in modules)}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in modules)
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in packages or Path(frame.f_code.co_filename).parent in {Path(file).parent for file in files if file}
