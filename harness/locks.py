"""One maker at a time for what lies in a results folder: runs, learners and value models.

results/locks/NAME.lock, only while something is being made. The system lets go of a lock when its process ends, however it ends,
so none outlives its holder; a file that a killed process left is taken over. Knows names; knows nothing of what is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness import storage

POLL_S = 0.25


class Busy(Exception):
    """Another process is making it."""


@contextmanager
def alone(results: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of ``name``; whoever else wants it waits, or with wait=False meets `Busy`.

    The file is removed while it is held: who waits for the removed one takes the next (`filelock` sees to that). A results folder
    that was made for it goes with it if nothing else came into it.
    """
    path, had_results = results / "locks" / f"{name}.lock", results.exists()
    lock = FileLock(path, timeout=-1 if wait else 0, poll_interval=POLL_S)
    while not lock.is_locked:
        storage.make_folder(path.parent)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(name) from None
        except FileNotFoundError:  # whoever was the last to leave removed the folder
            continue
        except OSError as error:
            raise storage.Unwritable(path, error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # unless others are at work
            if not had_results:
                results.rmdir()
        lock.release()
