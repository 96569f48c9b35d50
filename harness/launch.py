"""What a launcher (torchrun, `accelerate launch`) has told this process of its number among others, in its environment."""

from __future__ import annotations

import os


def launched() -> int:
    """How many processes this one was launched with, itself included."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """This one's number; 0 is the first."""
    return _number("RANK", 0)


def alone_only(command: str) -> None:
    """ValueError if several processes were launched for a command that one makes."""
    if launched() > 1:
        raise ValueError(
            f"{command}: only `run` is made by several processes together; start it once (--engine ray: on more machines)"
        )


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else default
