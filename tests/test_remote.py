"""Results at a URL: what is complete is there, what is torn is not, and a comparison from another machine makes nothing again."""

from __future__ import annotations

import itertools
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from test_compare import COMPARE, TINY, TYPED, tables

import harness
from harness import records
from harness.cli import main
from harness.remote import Remote, folders_of, scratch_of
from harness.spec import make_spec

SPEC = make_spec(
    strategy="best_of_n", task="arithmetic",
    settings=TINY | {
        "train.flops": 2e7, "infer.problems": 3, "strategy.samples": 2, "strategy.select": "value", "strategy.value_problems": 4,
    },
)  # fmt: skip
URL = "memory://bucket/results"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scratch folders of this test alone, and nothing in the memory's bucket."""
    monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / "scratch"))
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("made")
    harness.run(SPEC, results=results)
    return results


def uploaded(made: Path, url: str = URL) -> Remote:
    """A remote whose scratch folder holds the run; nothing is given yet."""
    remote = Remote(url)
    shutil.copytree(made, remote.local)
    return remote


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_is_made_once(tmp_path, monkeypatch):
    record = harness.run(SPEC, results=URL)
    kinds = {Path(p).relative_to("/bucket/results").parts[0] for p in MemoryFileSystem.store}
    assert kinds == {"runs", "weights", "values"}
    monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / "another machine"))
    monkeypatch.setattr("harness.runs.learn", lambda *_, **__: pytest.fail("it is there"))
    assert harness.run(SPEC, results=URL) == record


def test_another_search_takes_the_learner(tmp_path, monkeypatch):
    harness.run(SPEC, results=URL)
    monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / "another machine"))
    monkeypatch.setattr("harness.learners._train", lambda *_, **__: pytest.fail("it is there"))
    other = make_spec(
        strategy="self_consistency", task="arithmetic",
        settings=TINY | {"train.flops": 2e7, "infer.problems": 3, "strategy.samples": 2},
    )  # fmt: skip
    assert harness.run(other, results=URL)["learner"] == SPEC.learner_fingerprint()


@pytest.mark.parametrize("url", [URL, "a folder"])
def test_many_runs_are_looked_for_by_one_listing(url, made, tmp_path, monkeypatch):
    """Of those beside each other; what is there is taken, and nothing is asked of what is not."""
    url = f"file://{tmp_path / 'bucket'}" if url == "a folder" else url
    giver = uploaded(made, url)
    *_, own = folders_of(giver.local, SPEC)
    giver.give(own)
    monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / "another machine"))
    remote = Remote(url)
    run = remote.local / own.relative_to(giver.local)
    listed, asked = [], []
    ls, exists = remote._files.ls, remote._files.exists
    monkeypatch.setattr(remote._files, "ls", lambda path, **given: listed.append(path) or ls(path, **given))
    monkeypatch.setattr(remote._files, "exists", lambda path: asked.append(path) or exists(path))
    remote.take_those(
        [run, *(run.with_name(f"run-{i}") for i in range(50)), remote.local / "runs" / "no_task" / "none" / "run-0"]
    )
    assert bytes_below(run) == bytes_below(own) and len(asked) == 1
    assert len({path for path in listed if "no_task" in path or str(path).endswith(run.parent.name)}) == 2


class Torn(OSError):
    """The connection is gone."""


class Cut:
    """Uploads as a file system does, until a file of which a share alone arrives."""

    def __init__(self, whole: Any, spare: Path) -> None:
        self._whole, self._spare, self.left, self.share = whole, spare, 0, 0.0

    def __call__(self, local: str, target: str) -> None:
        if self.left == 0:
            data = Path(local).read_bytes()
            self._spare.write_bytes(data[: int(self.share * len(data))])
            if self.share:
                self._whole(str(self._spare), target)
            raise Torn("no route to host")
        self.left -= 1
        self._whole(local, target)


@pytest.mark.parametrize("url", [URL, "a folder"])
def test_a_torn_upload_never_reads_as_complete(url, made, tmp_path, monkeypatch):
    """Cut off before, within and behind every file; the next upload makes good what was half there."""
    url = f"file://{tmp_path / 'bucket'}" if url == "a folder" else url
    count = sum(len(list(folder.iterdir())) for folder in folders_of(made, SPEC))
    for cut, share in itertools.product(range(count), (0.0, 0.5, 1.0)):
        MemoryFileSystem.store.clear()
        for name in ("bucket", "scratch"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        remote = uploaded(made, url)
        folders, whole = folders_of(remote.local, SPEC), bytes_below(made)
        uploads = Cut(remote._files.put_file, tmp_path / "spare")
        uploads.left, uploads.share = cut, share
        with monkeypatch.context() as patch:
            patch.setattr(remote._files, "put_file", uploads)
            with pytest.raises(ValueError, match=r"--results: .*no route to host.*kept in"):
                for folder in folders:
                    remote.give(folder)
        shutil.rmtree(remote.local)
        complete = [folder for folder in folders if remote.take(folder)]
        assert len(complete) < len(folders) or (cut, share) == (count - 1, 1.0)
        for name, data in bytes_below(remote.local).items():
            assert whole[name] == data
        assert all(folder.exists() == (folder in complete) for folder in folders)
        shutil.copytree(made, remote.local, dirs_exist_ok=True)
        for folder in folders:
            remote.give(folder)
        shutil.rmtree(remote.local)
        assert all(remote.take(folder) for folder in folders) and bytes_below(remote.local) == whole


def test_what_is_made_anew_takes_the_place_of_what_was_there(made):
    remote = uploaded(made)
    *_, folder = folders_of(remote.local, SPEC)
    remote.give(folder)
    record = records.read_record(folder)
    records.write_json(
        folder / "run.json", records.sealed({k: v for k, v in record.items() if k != "digest"} | {"new": 1}, folder, ())
    )
    remote.give(folder)
    shutil.rmtree(folder)
    assert remote.take(folder) and records.read_record(folder)["new"] == 1


def test_an_old_page_never_replaces_a_newer_one(tmp_path, monkeypatch):
    """Two machines write tables by turns; whoever writes none uploads none, and who looks sees the newest."""

    def written(name: str, said: str | None) -> str:
        monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / name))
        remote, page = Remote(URL), scratch_of(URL) / "tables" / "table.md"
        if said is None:
            remote.take_all()
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(said)
        remote.give_all()
        return page.read_text()

    assert written("one", "first") == written("two", None) == "first"
    written("two", "second")
    monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / "one"))
    Remote(URL).give_all()
    assert written("three", None) == written("one", None) == "second"


@pytest.mark.slow
def test_a_comparison_goes_on_from_another_machine(tmp_path, monkeypatch, capsys):
    command = [*COMPARE, *TYPED, "--workers", "2"]
    assert main([*command, "--results", str(tmp_path / "folder")]) == 0
    url = f"file://{tmp_path / 'bucket'}"
    assert main([*command, "--results", url]) == 0
    assert tables(tmp_path / "bucket") == tables(tmp_path / "folder")
    monkeypatch.setenv("HARNESS_SCRATCH", str(tmp_path / "another machine"))
    monkeypatch.setattr("harness.compare.make_all", lambda *_, **__: pytest.fail("nothing is to be made"))
    assert main([*command, "--results", url]) == 0
    assert tables(scratch_of(url)) == tables(tmp_path / "folder")
    capsys.readouterr()
    assert main(["list", "--runs", "--json", "--results", url]) == 0
    assert capsys.readouterr().out.count('"strategy"') >= 6
    assert main(["report", "--results", url]) == 0
    assert (tmp_path / "bucket" / "index.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--runs", "--results", "nowhere://bucket"], "nowhere"),
        (["gc", "--results", URL], "not a URL"),
        pytest.param(
            ["list", "--runs", "--results", "s3://bucket/results"], "s3fs",
            marks=pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed"),
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --results") and said in error and error.count("\n") == 1
