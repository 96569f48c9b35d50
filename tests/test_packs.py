"""Packs: the same records are the same bytes; what was tampered with is refused whole, and writes nothing."""

from __future__ import annotations

import io
import json
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from records_made import contents, written

from harness.cli import main
from harness.merging import merge
from harness.packs import KEPT, OF_ONE_SEED, pack, read_pack, unpacked

RUN = "runs/arithmetic/direct/0123456789ab-s0"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Runs of two seeds, two splits and two tasks."""
    folder = tmp_path / "results"
    for seed in (1, 0):
        for split in ("validation", "test"):
            written(folder, seed=seed, split=split)
    written(folder, task="k_hop")
    return folder


def names_of(path: Path) -> list[str]:
    """What an archive holds, in order."""
    with tarfile.open(path) as tar:
        return tar.getnames()


def packed_runs(path: Path) -> list[str]:
    """Runs of an archive, in order."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in names_of(path)))


def test_same_records_same_bytes(results: Path, tmp_path: Path) -> None:
    """Whatever the files' times, modes and order of making; other records are other bytes."""
    one = pack(tmp_path / "one.tar.xz", results=results)
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(results, copy)
    for at, path in enumerate(sorted(copy.rglob("*.json"))):
        os.utime(path, (at, at))
        path.chmod(0o600)
    other = pack(tmp_path / "deep" / "er" / "other.tar.xz", results=copy)
    assert one.path.read_bytes() == other.path.read_bytes()
    assert (one.runs, one.left_out, one.packed_bytes) == (5, (), one.path.stat().st_size)
    written(copy, seed=2)
    assert pack(other.path, results=copy).runs == 6 and one.path.read_bytes() != other.path.read_bytes()


def test_order_and_what_is_kept(results: Path, tmp_path: Path) -> None:
    """By seed, split and path; traces of one seed alone, train.jsonl of none, and nothing of who packed it."""
    found = pack(tmp_path / "p.tar.xz", results=results, traces_of_seed=1)
    runs = packed_runs(found.path)
    facts = [json.loads((results / run / "run.json").read_text()) for run in runs]
    keys = [(r["seed"], r["spec"]["infer"]["split"], run) for r, run in zip(facts, runs, strict=True)]
    assert keys == sorted(keys) and len(keys) == 5
    for run, record in zip(runs, facts, strict=True):
        kept = {name.rpartition("/")[2] for name in names_of(found.path) if name.startswith(run)}
        assert kept == {*KEPT, *(OF_ONE_SEED if record["seed"] == 1 else ())}
    with tarfile.open(found.path) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}
        assert sum(m.size for m in tar) == found.content_bytes


def test_one_task(results: Path, tmp_path: Path) -> None:
    assert pack(tmp_path / "p.tar.xz", results=results, task="k_hop").runs == 1
    with pytest.raises(ValueError, match=r"--task.*'parity'.*arithmetic, k_hop"):
        pack(tmp_path / "p.tar.xz", results=results, task="parity")


def test_spoilt_runs_are_left_out_and_named(results: Path, tmp_path: Path) -> None:
    """An edited line, and a record in a foreign folder."""
    bad, moved, *_ = sorted((results / "runs" / "arithmetic" / "direct").iterdir())
    (bad / "problems.jsonl").write_text("")
    moved.rename(moved.with_name("0123456789ab-s0"))
    found = pack(tmp_path / "p.tar.xz", results=results)
    assert found.runs == 3 and {bad.name in line or "0123456789ab-s0" in line for line in found.left_out} == {True}
    with pytest.raises(ValueError, match="spoilt"):
        for path in results.rglob("problems.jsonl"):
            path.write_text("")
        pack(tmp_path / "p.tar.xz", results=results)


def test_nothing_to_pack_and_bad_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no complete run"):
        pack(tmp_path / "p.tar.xz", results=tmp_path)
    for name in ("p.tar", ".tar.xz", "p.zip"):
        with pytest.raises(ValueError, match=r"TARGET.*\.tar\.xz"):
            pack(tmp_path / name, results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_come_one_at_a_time(results: Path, tmp_path: Path) -> None:
    """A run's files are gone when the next one is asked for."""
    found = pack(tmp_path / "p.tar.xz", results=results)
    folders = []
    for run, folder in unpacked(found.path):
        assert all(not before.exists() for before in folders)
        assert {p.name for p in folder.iterdir()} >= set(KEPT)
        assert all(p.read_bytes() == (results / run / p.name).read_bytes() for p in folder.iterdir())
        folders.append(folder)
    assert len(folders) == 5 and not folders[-1].exists()


def tar_of(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """An archive of files by name, or of entries as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in entries:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry[0])
            data = b"" if isinstance(entry, tarfile.TarInfo) else entry[1]
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    """A link, folder or device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


GOOD = (f"{RUN}/run.json", b"{}")
TAMPERED: dict[str, Callable[[], bytes]] = {
    "no file of a run: up": lambda: tar_of(GOOD, ("runs/arithmetic/../../../evil/0123456789ab-s0/run.json", b"x")),
    "no file of a run: plain up": lambda: tar_of(GOOD, ("../evil", b"x")),
    "no file of a run: absolute": lambda: tar_of(GOOD, ("/tmp/evil/run.json", b"x")),
    "no file of a run: absolute run": lambda: tar_of(GOOD, (f"/{RUN}/run.json", b"x")),
    "no file of a run: dots": lambda: tar_of(GOOD, ("runs/../direct/0123456789ab-s0/run.json", b"x")),
    "no file of a run: foreign name": lambda: tar_of(GOOD, (f"{RUN}/evil.py", b"x")),
    "no file of a run: deeper": lambda: tar_of(GOOD, (f"{RUN}/more/run.json", b"x")),
    "no file of a run: no fingerprint": lambda: tar_of(GOOD, ("runs/arithmetic/direct/evil/run.json", b"x")),
    "no file of a run: folder": lambda: tar_of(GOOD, special(RUN, tarfile.DIRTYPE)),
    "no plain file: symlink": lambda: tar_of(special(f"{RUN}/run.json", tarfile.SYMTYPE, "/etc/passwd")),
    "no plain file: hard link": lambda: tar_of(GOOD, special(f"{RUN}/timing.json", tarfile.LNKTYPE, GOOD[0])),
    "no plain file: device": lambda: tar_of(GOOD, special(f"{RUN}/timing.json", tarfile.CHRTYPE)),
    "twice or apart: file": lambda: tar_of(GOOD, GOOD),
    "twice or apart: run": lambda: tar_of(GOOD, ("runs/a/b/0123456789ab-s1/run.json", b"x"), (f"{RUN}/timing.json", b"x")),
    "holds no run": lambda: tar_of(),
    "truncated or damaged: no tar": lambda: b"hello" * 1000,
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_packs_are_refused(case: str, tmp_path: Path) -> None:
    """In one line, before anything is written, in the results folder or out of it."""
    source, results = tmp_path / "in" / "p.tar.xz", tmp_path / "out" / "results"
    source.parent.mkdir()
    source.write_bytes(lzma.compress(TAMPERED[case]()))
    with pytest.raises(ValueError, match=case.partition(":")[0]) as error:
        merge(source, results=results)
    assert str(source) in str(error.value) and "\n" not in str(error.value)
    assert list(contents(tmp_path)) == ["in/p.tar.xz"] and not Path("/tmp/evil").exists()


def test_truncated_packs_are_refused(results: Path, tmp_path: Path) -> None:
    """Cut anywhere, one bit turned, or no xz at all: nothing is taken."""
    found = pack(tmp_path / "p.tar.xz", results=results)
    whole = found.path.read_bytes()
    middle = len(whole) // 2
    turned = whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :]
    for spoilt in (*(whole[: len(whole) * at // 7] for at in range(7)), whole[:-1], turned, b"PK" + whole[2:]):
        found.path.write_bytes(spoilt)
        with pytest.raises(ValueError, match="truncated or damaged"):
            merge(found.path, results=tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_command(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary in words and in JSON; mistakes are one line and exit code 2."""
    argv = ["pack", str(tmp_path / "p.tar.xz"), "--results", str(results)]
    assert main(argv) == 0
    assert "5 runs" in capsys.readouterr().out
    assert main([*argv, "--task", "k_hop", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["runs"] == 1 and printed["packed_bytes"] == (tmp_path / "p.tar.xz").stat().st_size
    assert main([*argv, "--task", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_in_a_packs_place_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "p.tar.xz").mkdir()
    with pytest.raises(ValueError, match=r"p\.tar\.xz cannot be read: it is a folder$"):
        read_pack(tmp_path / "p.tar.xz")
