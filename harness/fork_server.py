"""The first module that the fork server of `harness.workers` loads: it makes the server end with the process that started it.

A fork server ends by itself when nobody holds its pipe any more, but it looks only after it has loaded all its modules, and the
workers hold copies of that pipe. A timer is used rather than a thread, since threads do not survive the forks that follow.
Importing this module changes signal handlers in a fork server alone.
"""

from __future__ import annotations

import os
import signal
import sys

POLL_S = 1.0


def end_with_parent() -> None:
    """Look every second whether the parent is still there, and leave when it is not; leave Ctrl-C to the parent."""
    parent = os.getppid()

    def look(number: int, frame: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, POLL_S, POLL_S)  # children of a fork have no timer


if any("multiprocessing.forkserver import main" in word for word in sys.orig_argv):
    end_with_parent()
