"""Disks that are full and folders that may not be written to: one line, exit 2, no leftovers, and what needs no write works."""

from __future__ import annotations

import builtins
import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_crash import CHANGES, TINY, contents, spec_of
from test_damage import as_nobody

from harness import cli, evaluate, merging, records, runs, storage
from harness.cli import main
from harness.packs import pack
from harness.runs import run
from harness.spec import RunSpec
from harness.storage import Unwritable


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    """A complete run."""
    spec, results = spec_of(), tmp_path_factory.mktemp("made")
    run(spec, results=results, checkpoint_s=0)
    return spec, results


def words(spec: RunSpec, results: Path) -> list[str]:
    settings = [f"--set={key}={value}" for key, value in {**TINY, "train.flops": spec.train.flops}.items()]
    named = ["--strategy", "reasoning_tokens", "--task", "arithmetic", "--checkpoint-s", "0", "--results", str(results)]
    return ["run", *named, *settings]


class Full:
    """A disk that is full from its n-th write on: half of what is written fits."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.writes, self.at = 0, at
        patch.setattr("builtins.open", self.opened(open))

    def opened(self, real: Any) -> Any:
        def opened(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            file = real(path, mode, *rest, **more)
            if mode in ("wb", "a"):
                self.writes += 1
                if self.writes > self.at:
                    write = file.write
                    file = _Half(file, write)
            return file

        return opened


class _Half:
    """A file that takes half of what it is given."""

    def __init__(self, file: Any, write: Any) -> None:
        self._file, self._write = file, write

    def __enter__(self) -> _Half:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        self._write(data[: len(data) // 2])
        self._file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_disk_that_fills_up_at_any_write_is_one_line_and_the_run_goes_on(made, tmp_path, capsys, monkeypatch) -> None:
    """The files are then as if it had never been full; until then no temporary file is left, and no half line."""
    monkeypatch.setattr(evaluate, "FLUSH_LINES", 3)
    monkeypatch.setattr(runs, "bit_stable", lambda *_: True)
    at = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            full = Full(patch, at)
            code = main(words(made[0], tmp_path / "results"))
        if code == 0:
            break
        said = capsys.readouterr().err.splitlines()
        assert code == 2 and said[-1].startswith("error: --results: cannot write ") and said[-1].endswith("is kept"), said
        assert "No space left on device" in said[-1] and not any("Traceback" in line for line in said)
        assert full.writes == at + 1
        left = contents(tmp_path / "results") if (tmp_path / "results").exists() else {}
        assert not [name for name in left if name.endswith(".tmp")]
        assert all(data.endswith(b"\n") for name, data in left.items() if name.endswith(".jsonl") and data), left
        at += 1
    assert at == 0 or contents(tmp_path / "results") == contents(made[1])
    assert at > 3


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_file_that_fails_says_which_and_why(change, reason, tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fails(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason))

    where, name = {"remove": (Path, "unlink"), "rename": (os, "replace")}.get(change, (builtins, "open"))
    monkeypatch.setattr(where, name, fails)
    changes = {
        "write_bytes": lambda: storage.replace_file(path, b"after"),
        "rename": lambda: storage.replace_file(path, b"after"),
        "append": lambda: storage.append(path, "after"),
        "truncate": lambda: storage.truncate(path, 2),
        "remove": lambda: storage.remove(path),
    }
    with pytest.raises(Unwritable) as error:
        changes[change]()
    monkeypatch.undo()
    assert str(path) in str(error.value) and os.strerror(reason) in str(error.value) and "\n" not in str(error.value)
    assert error.value.read_only == (reason in (errno.EROFS, errno.EACCES))
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_did_not_exist_is_gone_after_a_failed_append(tmp_path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Unwritable):
        Full(patch, 0)
        storage.append(tmp_path / "new.jsonl", "line\n")
    assert not list(tmp_path.iterdir())


# Folders that may not be written to


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """While nobody's rights hold, who may read and not write."""
    with as_nobody(folder):
        yield


@pytest.fixture
def theirs(made: tuple[RunSpec, Path]) -> Iterator[Path]:
    """A copy of the run in a folder that others can look into."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        shutil.copytree(made[1], Path(scratch) / "results")
        yield Path(scratch) / "results"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_what_only_reads_works_where_nothing_can_be_written(made, theirs, tmp_path, capsys, monkeypatch) -> None:
    name = records.run_folder(theirs, made[0]).name
    before = contents(theirs)
    commands = [["ask", name, "1+1="], ["verify", name], ["list", "--runs"], ["report", "--check"]]
    shutil.copytree(made[1], tmp_path / "own")
    for command in (*commands, ["report"]):  # imports what it needs, as another user cannot
        assert main([*command, "--results", str(tmp_path / "own")]) == 0
    (theirs.parent / "work").mkdir()
    monkeypatch.chdir(theirs.parent / "work")
    os.chmod(theirs.parent / "work", 0o777)
    with read_only(theirs):
        for command in commands:
            assert main([*command, "--results", str(theirs)]) == 0, (command, capsys.readouterr().err)
        capsys.readouterr()
        assert main(["report", "--results", str(theirs)]) == 0
        said = capsys.readouterr()
        assert "may not be written to" in said.err and "wrote results-report/index.html" in said.out
        assert main(words(made[0], theirs)) == 0  # it is there already
        page = Path("results-report/index.html").read_bytes()
        assert main([*words(made[0], theirs), "--seed", "1"]) == 2
        assert "Permission denied" in capsys.readouterr().err.splitlines()[-1]
    assert contents(theirs) == before
    assert main(["report", "--results", str(theirs)]) == 0 and (theirs / "index.html").read_bytes() == page
    with read_only(theirs):  # nothing is to be written: the page is as it was
        assert main(["report", "--results", str(theirs)]) == 0
    assert f"wrote {theirs / 'index.html'}" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_a_merge_into_a_folder_that_cannot_be_written_to_is_an_error(made, theirs, capsys) -> None:
    (theirs.parent / "new").mkdir()
    pack(theirs.parent / "all.tar.xz", results=theirs)
    assert main(["merge", str(made[1]), "--results", str(theirs)]) == 0
    capsys.readouterr()
    with read_only(theirs.parent):
        for source in (theirs, theirs.parent / "all.tar.xz"):
            assert main(["merge", str(source), "--results", str(theirs.parent / "new")]) == 2
            said = capsys.readouterr()
            assert said.err.startswith("error: --results: cannot write ") and said.err.count("\n") == 1 and not said.out
    assert not list((theirs.parent / "new").iterdir())


def test_a_merge_that_fills_the_disk_keeps_whole_runs_alone(made, tmp_path, monkeypatch, capsys) -> None:
    """Not the files of the run that did not fit."""
    source = tmp_path / "source"
    shutil.copytree(made[1], source)
    for at in range(1, 5):
        with pytest.MonkeyPatch.context() as patch:
            Full(patch, at)
            assert main(["merge", str(source), "--results", str(tmp_path / "new")]) == 2
        assert "No space left on device" in capsys.readouterr().err
        assert not [p for p in (tmp_path / "new").rglob("*") if p.is_file() and p.parent.name != "locks"], at
    assert merging.merge(source, results=tmp_path / "new").merged


def test_a_report_whose_script_does_not_fit_is_no_report_without_it(made, tmp_path, monkeypatch, capsys) -> None:
    """The write error is told as such, though the page itself would still fit."""
    shutil.copytree(made[1], tmp_path / "results")
    replace = storage.replace_file

    def fails(path: Path, data: bytes) -> None:
        if path.suffix == ".js":
            with storage.writing(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(path, data)

    monkeypatch.setattr(storage, "replace_file", fails)
    assert main(["report", "--results", str(tmp_path / "results")]) == 2
    assert "No space left on device" in capsys.readouterr().err and not (tmp_path / "results" / "index.html").exists()


def test_an_export_that_does_not_fit_leaves_nothing(made, tmp_path, monkeypatch, capsys) -> None:
    from transformers import PreTrainedTokenizerFast

    def fails(self: object, folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", fails)
    name = records.run_folder(made[1], made[0]).name
    assert main(["export", name, str(tmp_path / "out"), "--results", str(made[1])]) == 2
    assert "No space left on device" in capsys.readouterr().err and not list(tmp_path.iterdir())


# Errors of the system that reach the top


def test_an_error_of_the_system_is_one_line(monkeypatch, capsys) -> None:
    for error, line in ((OSError(errno.ENOSPC, "No space left on device", "/a/b"), "error: /a/b: No space left on device\n"),
                        (PermissionError(errno.EACCES, "Permission denied"), "error: Permission denied\n"),
                        (OSError("odd"), "error: odd\n")):  # fmt: skip

        def fails(*_: object, error: OSError = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(cli.cli, "main", fails)
        assert main(["list"]) == 2 and capsys.readouterr().err == line


def command(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *arguments], stderr=subprocess.PIPE, text=True, check=False, **more)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_does_not_fit_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = command("list", stdout=full)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = command("list", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [100, 3000, 20_000])
def test_a_real_limit_on_files_is_one_line(most_bytes, made, tmp_path) -> None:
    """The system's own error, at files of such a size."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    done = command(*words(made[0], tmp_path / "results"), stdout=subprocess.DEVNULL, preexec_fn=limit)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr and "File too large" in line and str(tmp_path) in line
    assert not list(tmp_path.rglob("*.tmp"))
    assert command(*words(made[0], tmp_path / "results"), stdout=subprocess.DEVNULL).returncode == 0
    assert contents(tmp_path / "results") == contents(made[1])
