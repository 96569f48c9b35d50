"""Names and numbers of suites: which are legal, checked where they are read, so that none does harm in a path or a table.

A name of a suite or of a comparison is the beginning of file names; a name of an arm stands in tables, pictures and sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

GREATEST_SEED = 2**31 - 1
MOST_FLOPS = 1e24  # of a training budget
MOST_PROBLEMS = 1_000_000
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
ARM_NAME = re.compile(r"[^\W_](?:[\w .,:;=+()%&'!?@~^*-]{0,98}[\w.)%!?*+-])?")


def check_file_name(key: str, name: str) -> str:
    """Return a name of files; ValueError names the key and the legal characters."""
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"{key}: expected 1 to 200 of the characters A-Z a-z 0-9 _ - . (the first one no point), got {name!r}")
    return name


def check_arm_name(key: str, name: str) -> str:
    """Return a name of an arm; ValueError names the key and the legal characters."""
    if not ARM_NAME.fullmatch(name):
        legal = "letters, digits, spaces and _ - . , : ; = + ( ) % & ' ! ? @ ~ ^ *"
        raise ValueError(f"{key}: expected up to 100 characters that begin with a letter or digit: {legal}; got {name!r}")
    return name


def check_distinct(key: str, values: Sequence[object]) -> None:
    """ValueError if there is no value, or if one is named twice."""
    if not values:
        raise ValueError(f"{key}: holds nothing; name at least one")
    (most, times), *_ = Counter(map(str, values)).most_common(1)
    if times > 1:
        raise ValueError(f"{key}: {most} is named twice")


def whole_of(words: str, option: str, *, low: int, high: int) -> int:
    """Read a whole number of an option, such as 2000 or 2e3; ValueError names the option and the range."""
    try:
        number = float(words)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not number.is_integer() or not low <= number <= high:
        raise ValueError(f"{option}: expected a whole number from {low:,} to {high:,}, got {words!r}")
    return int(number)


def shortened(given: object) -> str:
    """Quote what was given, cut off where it is long."""
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}.."
