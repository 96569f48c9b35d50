"""How long commands take that must answer at once. Workloads for `harness.bench`. Knows commands alone."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from harness.bench_turns import result

STARTUP_TARGET_S = 0.5  # at most


def startup_measures() -> list[dict[str, Any]]:
    """CPU seconds of commands that must answer at once."""
    results = []
    for words in (["--help"], ["list"]):
        name = f"startup CPU seconds: {' '.join(words)}"
        if find_spec("harness.__main__") is None:
            results.append(result(name, None, STARTUP_TARGET_S, {"note": "there is no command line yet"}, at_most=True))
            continue
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "harness", *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        results.append(result(name, spent, STARTUP_TARGET_S, {"cpu_s": spent}, at_most=True))
    return results
