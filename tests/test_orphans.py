"""No process outlives the command that started it: the command's own process is ended alone, and the others are looked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_compare import COMPARE, TYPED

PROC = Path("/proc")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROC.is_dir(), reason="processes are looked for in /proc")]
GONE_S = 10.0  # in which every process must have ended
LONG = ["--train-flops", "1e10", "--checkpoint-s", "1"]  # more than a minute of training
SWEEP = ["sweep", "--task", "arithmetic", "--strategy", "reasoning_tokens", "--over", "strategy.per_token=1,2", "--seeds", "0-1"]
COMMANDS = {"compare": [*COMPARE, *TYPED, *LONG], "sweep": [*SWEEP, *TYPED, *LONG]}


class Started:
    """A command in a session of its own."""

    def __init__(self, command: str, results: Path, said: Path) -> None:
        words = [sys.executable, "-m", "harness", *COMMANDS[command], "--workers", "2", "--results", str(results)]
        self.results, self.said = results, said
        with open(said, "w") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)

    def others(self) -> dict[int, str]:
        """The session's processes but the first one, with their commands; those that have ended are not among them."""
        found = {}
        for folder in PROC.glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if int(session) == self.process.pid and int(folder.name) != self.process.pid and state != "Z":
                found[int(folder.name)] = command
        return found

    def wait_until(self, moment: str) -> None:
        """Until the fork server loads its modules, or until both workers train."""
        deadline_s = time.monotonic() + 120
        while not self.is_at(moment):
            assert self.process.poll() is None and time.monotonic() < deadline_s, self.said.read_text()
            time.sleep(0.02)

    def is_at(self, moment: str) -> bool:
        """Whether the command is there."""
        if moment == "loading":
            return any("forkserver" in command for command in self.others().values())
        return len(list(self.results.glob("weights/*/checkpoint.safetensors"))) == 2

    def all_gone(self) -> bool:
        """Whether every process ends in time."""
        deadline_s = time.monotonic() + GONE_S
        while self.others() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return not self.others()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[object]:
    """Starts commands; what they leave is killed in the end."""
    begun: list[Started] = []

    def started(command: str) -> Started:
        begun.append(Started(command, tmp_path / "results", tmp_path / "said.txt"))
        return begun[-1]

    yield started
    for one in begun:
        for process in one.others():
            os.kill(process, signal.SIGKILL)
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(("command", "moment"), [("compare", "loading"), ("compare", "training"), ("sweep", "training")])
def test_workers_and_fork_server_end_with_the_command(begin, command, moment, how) -> None:
    started = begin(command)
    started.wait_until(moment)
    os.kill(started.process.pid, how)
    assert started.process.wait(GONE_S) == -how
    assert started.all_gone(), started.others()


def test_workers_end_with_the_fork_server(begin) -> None:
    """And the command goes on with a new server and new workers."""
    started = begin("compare")
    started.wait_until("training")
    (server,) = (
        pid for pid, words in started.others().items() if "forkserver" in words and parent_of(pid) == started.process.pid
    )
    before = set(started.others())
    os.kill(server, signal.SIGKILL)
    workers = before - {server} - {pid for pid in before if parent_of(pid) == started.process.pid}
    deadline_s = time.monotonic() + GONE_S
    while set(started.others()) & workers and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert len(workers) == 2 and not set(started.others()) & workers
    assert started.process.poll() is None


def parent_of(pid: int) -> int:
    """The number of a process's parent."""
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("moment", ["loading", "training"])
def test_ctrl_c_stops_everything_without_a_traceback(begin, moment) -> None:
    """A terminal sends it to every process of the group."""
    started = begin("compare")
    started.wait_until(moment)
    time.sleep(0.5)  # the fork server has begun to load
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.process.wait(60) == 130
    assert started.all_gone(), started.others()
    said = started.said.read_text()
    assert "Traceback" not in said and "KeyboardInterrupt" not in said and "The same command goes on from there" in said
