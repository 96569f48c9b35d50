"""One odd file ends no command over many: each kind of damage in each kind of file, and every command that reads it."""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_crash import TINY, contents, spec_of

from harness import compare, load_runs, records, storage
from harness.cli import main
from harness.grid import Cell
from harness.merging import merge
from harness.packs import pack
from harness.problem import ACCESS
from harness.records import RUN, read_run
from harness.responses import Responses, by_arguments
from harness.runs import run
from harness.shapes import Line
from harness.spec import RunSpec, make_spec
from harness.suite_file import read_suite

DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
TEXTS = {
    "empty": b"",
    "torn": b'{"schema": 3, "spec": {',
    "deep object": DEEP,
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "not a number": b'{"schema": NaN}',
    "too large": b'{"schema": 1e999, "digest": ""}',
    "many digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "no utf-8": b'{"schema": "\xff\xfe"}',
    "half a pair": b'{"schema": 3, "digest": "\\ud800"}',
    "a list": b"[1]",
    "a number": b"3",
    "null": b"null",
    "zeros": b"\0" * 64,
}


def a_folder(path: Path) -> None:
    path.mkdir()


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_dead_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def of_text(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


DAMAGES = {name: of_text(content) for name, content in TEXTS.items()}
DAMAGES |= {f.__name__: f for f in (a_folder, a_loop, a_dead_link, a_pipe, a_device)}


def spoil(path: Path, damage: str) -> None:
    """Put something odd in a file's place."""
    path.unlink(missing_ok=True)
    DAMAGES[damage](path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    """A complete run."""
    spec, results = spec_of(), tmp_path_factory.mktemp("made")
    run(spec, results=results, checkpoint_s=0)
    return spec, results


def copied(made: tuple[RunSpec, Path], results: Path, seed: int, change: Callable[[Any], Any] = lambda record: record) -> Path:
    """The run as another seed's, changed and sealed again; its folder."""
    source = records.run_folder(made[1], made[0])
    target = results / source.relative_to(made[1]).with_name(f"{made[0].fingerprint()}-s{seed}")
    shutil.copytree(source, target)
    record = json.loads((source / RUN).read_bytes())
    record |= {"seed": seed, "spec": record["spec"] | {"seed": seed}}
    record = change(record)
    record["digest"] = records.seal(record)
    (target / RUN).write_text(json.dumps(record))
    return target


COMMANDS = {
    "list": ["list", "--runs"],
    "report": ["report"],
    "check": ["report", "--check"],
    "pack": ["pack", "{tmp}/all.tar.xz"],
    "gc": ["gc", "--dry-run"],
    "run": ["run", "--strategy", "reasoning_tokens", "--task", "arithmetic", "{set}"],
}
EXIT = {"check": 1}  # what is spoilt differs


def command(name: str, spec: RunSpec, results: Path, tmp_path: Path) -> list[str]:
    """A command's words."""
    settings = [f"--set={key}={value}" for key, value in {**TINY, "train.flops": spec.train.flops}.items()]
    words = [w.format(tmp=tmp_path, set="") for w in COMMANDS[name]]
    words[-1:] = settings if COMMANDS[name][-1] == "{set}" else words[-1:]
    return [*words, "--results", str(results)]


@pytest.fixture(scope="module")
def spoilt(made: tuple[RunSpec, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A results folder with one sound run, and one for each kind of damage to run.json; their folders."""
    results = tmp_path_factory.mktemp("spoilt")
    shutil.copytree(made[1], results, dirs_exist_ok=True)
    folders = {}
    for seed, damage in enumerate(DAMAGES, start=100):  # no folder's name begins as another's
        folders[damage] = copied(made, results, seed)
        spoil(folders[damage] / RUN, damage)
    return results, folders


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_over_all_runs_leave_odd_records_out(name, spoilt, made, tmp_path, capfd) -> None:
    """Each is told by its name in a line of its own, and the sound one is there."""
    results, folders = spoilt
    assert main(command(name, made[0], results, tmp_path)) == EXIT.get(name, 0)
    said = capfd.readouterr()
    lines = (said.out + said.err).replace(f"{results}/", "").splitlines()
    assert "Traceback" not in said.err
    if name == "gc":  # nothing that a run might need is removed while one cannot be read
        assert "not every run tells what it refers to" in said.err
        return
    for damage, folder in folders.items():
        told = [line for line in lines if str(folder.relative_to(results)) in line]
        assert len(told) == 1 and len(told[0]) < 600, (damage, told)
    if name in ("list", "pack", "run"):
        assert sum(line.startswith("left out: ") for line in lines) == len(folders)


def test_load_runs_leaves_odd_records_out(spoilt) -> None:
    results, folders = spoilt
    with pytest.warns(UserWarning, match="left out") as told:
        assert set(load_runs(results)["seed"]) == {0}
    assert all(sum(str(folder) in str(one.message) for one in told) == 1 for folder in folders.values())


def test_a_comparison_leaves_odd_records_out(spoilt, made) -> None:
    results, folders = spoilt
    left_out: list[str] = []
    cells = [Cell(dataclasses.replace(made[0], seed=seed), ()) for seed in (0, *range(100, 100 + len(DAMAGES)))]
    assert [cell.spec.seed for cell in compare.read(cells, results, left_out.append)] == [0]
    assert all(sum(str(folder) in line for line in left_out) == 1 for folder in folders.values())


def test_merge_leaves_odd_records_out(spoilt, tmp_path) -> None:
    results, folders = spoilt
    found = merge(results, results=tmp_path / "new")
    assert len(found.merged) == 1 and len(found.left_out) == len(folders)
    assert all(sum(str(folder) in line for line in found.left_out) == 1 for folder in folders.values())
    assert len(list(records.run_folders(tmp_path / "new"))) == 1


def test_a_merge_that_leaves_everything_out_is_no_success(spoilt, tmp_path, capsys) -> None:
    folder = spoilt[1]["torn"]
    shutil.copytree(folder, tmp_path / "source" / folder.relative_to(spoilt[0]))
    assert main(["merge", str(tmp_path / "source"), "--results", str(tmp_path / "new")]) == 1
    assert "1 left out" in capsys.readouterr().out


@pytest.mark.parametrize("damage", DAMAGES)
def test_commands_for_one_run_say_one_line(damage, spoilt, capsys) -> None:
    results, folders = spoilt
    folder = folders[damage]
    for words in (["ask", folder.name, "1+1="], ["verify", folder.name], ["export", folder.name, str(results / "exported")],
                  ["run", "--twin", "long", "--of", folder.name], ["run", "--spec", str(folder / RUN)]):  # fmt: skip
        assert main([*words, "--results", str(results)]) == 2, words
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and said.err.count("\n") == 1 and str(folder / RUN) in said.err, words


# Records of another shape, sealed again as by another program

ODD = (None, True, -1, 10**400, "x", [], {}, [[]], {"a": {"b": None}})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values inside a JSON value, the outer ones first."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for at, one in enumerate(value[:1]):
            yield from places(one, (*path, at))


def put(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The record with another value at a path, or without what stands there."""
    record = json.loads(json.dumps(record))
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


@pytest.fixture(scope="module")
def misshapen(made: tuple[RunSpec, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one sound run, and many in which one value is of another kind, or is not there."""
    results = tmp_path_factory.mktemp("misshapen")
    shutil.copytree(made[1], results, dirs_exist_ok=True)
    whole = read_run(records.run_folder(made[1], made[0]))
    seed = 0
    for number, path in enumerate(path for path in places(whole) if path[0] not in ("digest", "seed", "fingerprint")):
        for value in (..., ODD[number % len(ODD)], ODD[(number * 5 + 3) % len(ODD)]):
            seed += 1
            copied(made, results, seed, lambda record, path=path, value=value: fitting(put(record, path, value)))
    return results


def fitting(record: Any) -> Any:
    """The record with the fingerprint of its spec, if that is one."""
    spec = record.get("spec")
    if isinstance(spec, dict):
        record["fingerprint"] = records.digest({k: v for k, v in spec.items() if k != "seed"})
    return record


@pytest.mark.parametrize("name", [*COMMANDS, "load_runs", "merge"])
def test_no_misshapen_record_ends_a_command(name, misshapen, made, tmp_path, capfd) -> None:
    if name == "load_runs":
        with pytest.warns(UserWarning):
            assert 0 in set(load_runs(misshapen)["seed"])
        return
    words = ["merge", str(misshapen), "--results", str(tmp_path / "new")]
    code = main(words if name == "merge" else command(name, made[0], misshapen, tmp_path))
    assert code == EXIT.get(name, 0), capfd.readouterr().err


# Files beside a record


@pytest.mark.parametrize("damage", DAMAGES)
def test_odd_files_beside_a_sealed_record_are_told(damage, made, tmp_path, capsys) -> None:
    results = tmp_path / "results"
    shutil.copytree(made[1], results)
    folder = copied(made, results, 1)
    spoil(folder / "timing.json", damage)  # no record vouches for it: the run is as it was
    assert main(["list", "--runs", "--results", str(results)]) == 0
    assert main(["report", "--results", str(results)]) == 0
    assert "train_s" not in records.read_timing(folder) and read_run(folder)["seed"] == 1
    capsys.readouterr()
    spoil(folder / "problems.jsonl", damage)
    for name in ("report", "check", "pack", "run"):
        assert main(command(name, made[0], results, tmp_path)) == EXIT.get(name, 0)
        said = capsys.readouterr()
        told = [line for line in (said.out + said.err).splitlines() if "problems.jsonl" in line and folder.name in line]
        assert len(told) == 1, (name, said)


@pytest.mark.parametrize("damage", DAMAGES)
def test_odd_learners_are_one_line(damage, made, tmp_path, capsys) -> None:
    results = tmp_path / "results"
    shutil.copytree(made[1], results)
    learner = records.weights_folder(results, made[0])
    name = records.run_folder(results, made[0]).name
    for file in ("learner.json", "model.safetensors"):
        kept = (learner / file).read_bytes()
        spoil(learner / file, damage)
        assert main(["ask", name, "1+1=", "--results", str(results)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and str(learner) in said
        (learner / file).rmdir() if (learner / file).is_dir() else (learner / file).unlink()
        (learner / file).write_bytes(kept)
    assert main(["ask", name, "1+1=", "--results", str(results)]) == 0
    assert main(["gc", "--dry-run", "--results", str(results)]) == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_odd_comparisons_are_left_out(damage, made, tmp_path, capsys) -> None:
    results = tmp_path / "results"
    shutil.copytree(made[1], results)
    (results / "tables").mkdir()
    spoil(results / "tables" / "odd.json", damage)
    gone = damage in ("a_dead_link", "a_loop")
    assert main(["report", "--results", str(results)]) == 0
    assert gone or "left out: " in capsys.readouterr().err
    assert main(["report", "--check", "--results", str(results)]) == (1)
    assert "odd.json" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="odd.json"):
        assert len(load_runs(results))


# Half-made runs


@pytest.fixture
def half(made: tuple[RunSpec, Path], tmp_path: Path) -> Path:
    """A run whose answers are there and whose record is not."""
    shutil.copytree(made[1], tmp_path / "results")
    (records.run_folder(tmp_path / "results", made[0]) / RUN).unlink()
    return tmp_path / "results"


SPOILT_LINES = {name: content for name, content in TEXTS.items() if name != "empty"} | {
    "an empty line": b"",
    "no object": b'"a"',
    "the id alone": None,
    "a number as text": b"",
    "without flops": b"",
}


def spoilt_line(line: bytes, how: str) -> bytes:
    """A line that cannot be summed up."""
    value = json.loads(line)
    if how == "the id alone":
        return json.dumps({"id": value["id"]}).encode()
    if how == "a number as text":
        return json.dumps({**value, "weight": "1", "t": "x"}).encode()
    if how == "without flops":
        return json.dumps({k: v for k, v in value.items() if k not in ("flops", "kind")}).encode()
    return SPOILT_LINES[how] or b""


@pytest.mark.parametrize("file", ["problems.jsonl", "traces.jsonl"])
@pytest.mark.parametrize("how", SPOILT_LINES)
def test_problems_of_spoilt_lines_are_asked_again(how, file, half, made) -> None:
    """And the run is as if it had never been cut off."""
    path = records.run_folder(half, made[0]) / file
    lines = path.read_bytes().split(b"\n")
    lines[3] = spoilt_line(lines[3], how)
    path.write_bytes(b"\n".join(lines))
    asked: list[int] = []

    class Watcher:
        def training(self, *_: object) -> None:
            raise AssertionError("it is trained already")

        def evaluating(self, spec: RunSpec, done: int, total: int) -> None:
            asked.append(done)

    run(made[0], results=half, reporter=Watcher())
    assert contents(half) == contents(made[1])
    assert asked == list(range(4, 9))  # the three before it are kept


@pytest.mark.parametrize("damage", [a_folder, a_pipe])
def test_a_half_made_run_whose_file_cannot_be_read_is_one_line(damage, half, made, capsys) -> None:
    path = records.run_folder(half, made[0]) / "problems.jsonl"
    spoil(path, damage.__name__)
    assert main(command("run", made[0], half, half)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and str(path) in said


@pytest.mark.parametrize("facts", [{}, {"spent": 3}, {"spent": {"updates": "x"}}, {"spent": {"else": 1}}, {"log_bytes": "3"}])
def test_a_checkpoint_with_odd_facts_is_one_line(facts, half, made, capsys) -> None:
    from harness.weights import pack as packed
    from harness.weights import read_packed

    learner = records.weights_folder(half, made[0])
    tensors, _ = read_packed(learner / "model.safetensors")
    (learner / "learner.json").unlink()
    whole = {"owner": learner.name, "spent": {}, "log_bytes": 0} | facts
    storage.replace_file(learner / "checkpoint.safetensors", packed(tensors, whole))
    assert main(command("run", made[0], half, half)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and "checkpoint.safetensors is damaged" in said and "delete it" in said


def test_lines_name_the_levels_of_access_that_there_are() -> None:
    assert Line.__annotations__["access"] == f"Literal[{str(ACCESS)[1:-1]}]"


# Packs


def tarred(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], *, format_: int = tarfile.PAX_FORMAT) -> Path:
    """An archive of these members."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=format_) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(lzma.compress(held.getvalue()))
    return path


def member(name: str, content: bytes = b"{}", **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


PLACE = "runs/arithmetic/direct/0123456789ab-s0/run.json"


def odd_packs(folder: Path) -> Iterator[Path]:
    """Archives that no `pack` made."""
    whole = tarred(folder / "whole.tar.xz", [member(PLACE)])
    data = whole.read_bytes()
    for name, content in TEXTS.items():
        (folder / f"{name}.tar.xz").write_bytes(content)
        yield folder / f"{name}.tar.xz"
        (folder / f"{name} within.tar.xz").write_bytes(lzma.compress(content))
        yield folder / f"{name} within.tar.xz"
    for cut in range(8, len(data), 37):
        (folder / f"cut-{cut}.tar.xz").write_bytes(data[:cut])
        yield folder / f"cut-{cut}.tar.xz"
    tar = bytearray(lzma.decompress(data))
    for at in range(0, 512, 7):  # of the member's header
        broken = bytes(tar[:at]) + b"\xff" + bytes(tar[at + 1 :])
        (folder / f"header-{at}.tar.xz").write_bytes(lzma.compress(broken))
        yield folder / f"header-{at}.tar.xz"
    for number, pax in enumerate(
        ({"size": "x"}, {"size": "-5"}, {"size": "9" * 5000}, {"GNU.sparse.map": "1,x"}, {"path": "\0"})
    ):
        yield tarred(folder / f"pax-{number}.tar.xz", [member(PLACE, pax_headers=pax)])
    yield tarred(folder / "away.tar.xz", [member("../../etc/passwd")])
    yield tarred(folder / "link.tar.xz", [member(PLACE, type=tarfile.SYMTYPE, linkname="/etc/passwd")])
    yield tarred(folder / "pipe.tar.xz", [member(PLACE, type=tarfile.FIFOTYPE)])
    yield tarred(folder / "twice.tar.xz", [member(PLACE), member(PLACE)])
    for damage in ("a_folder", "a_loop", "a_dead_link", "a_pipe", "a_device"):
        spoil(folder / f"{damage}.tar.xz", damage)
        yield folder / f"{damage}.tar.xz"


def test_odd_packs_are_one_line(tmp_path: Path) -> None:
    for path in odd_packs(tmp_path):
        try:
            merge(path, results=tmp_path / "new")
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert list(records.run_folders(tmp_path / "new")) == []


def test_odd_packs_beside_records_are_left_out(made, tmp_path) -> None:
    results = tmp_path / "results"
    shutil.copytree(made[1], results)
    (results / "records").mkdir()
    paths = list(odd_packs(results / "records"))
    with pytest.warns(UserWarning, match="left out") as told:
        assert set(load_runs(results)["seed"]) == {0}
    said = [str(one.message) for one in told]
    for path in paths:
        if not path.name.startswith(("a_loop", "a_dead_link")):
            assert any(str(path) in line for line in said), path


def test_a_damaged_record_in_a_pack_is_left_out(made, tmp_path) -> None:
    results = tmp_path / "results"
    shutil.copytree(made[1], results)
    pack(tmp_path / "one.tar.xz", results=results)
    with lzma.open(tmp_path / "one.tar.xz") as xz, tarfile.open(fileobj=xz) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]
    for damage, content in TEXTS.items():
        others = [member(info.name.replace("-s0/", "-s7/"), content) for info, _ in members if info.name.endswith(RUN)]
        path = tarred(tmp_path / "two.tar.xz", [*((member(info.name, data)) for info, data in members), *others])
        found = merge(path, results=tmp_path / f"new {damage}")
        assert len(found.merged) == 1 and len(found.left_out) == 1 and f"{path}/runs/" in found.left_out[0], damage


# Suites and rows

SUITES = {
    "deep": b"name = 'a'\nx = " + b"[" * 5000 + b"]" * 5000,
    "no utf-8": b"name = '\xff'",
    "empty": b"",
    "torn": b"[[block",
    "numbers": b"name = 3",
    **{
        f"{key} = {value}": f"name = 'a'\n[[block]]\ntask = 'arithmetic'\n{key} = {value}\n".encode()
        for key in ("strategies", "arm", "settings", "seeds", "fewer_seeds", "train_flops", "problems", "infer", "with_family",
                    "tune", "primary", "validation", "task")
        for value in ("nan", "[[1]]", "'x'", "{a = 1}", "2020-01-01", "true")
        if not (key == "task" and value == "'x'")
    },
}  # fmt: skip


@pytest.mark.parametrize("content", SUITES.values(), ids=SUITES)
def test_odd_suites_are_one_line(content, tmp_path) -> None:
    path = tmp_path / "suite.toml"
    if b"task = 'arithmetic'\ntask" in content:
        content = content.replace(b"task = 'arithmetic'\n", b"")
    path.write_bytes(content)
    legal = (b"tune = true", b"with_family = true", b"strategies = 'x'")
    if content.strip().endswith(legal) and b"strategies" not in content:
        content += b"strategies = 3\n"
        path.write_bytes(content)
    with pytest.raises(ValueError, match="suite") as error:
        read_suite(path)
    assert "\n" not in str(error.value) or content == b"[[block"


RUN_IT = ["run", "--dry-run", "--strategy", "direct", "--task"]


@pytest.mark.parametrize("damage", ["a_folder", "a_loop", "a_dead_link", "a_pipe", "a_device"])
def test_odd_files_given_by_name_are_one_line(damage, tmp_path, capsys) -> None:
    path = tmp_path / "odd"
    spoil(path, damage)
    for words in (["compare", "--suite", str(path)], ["run", "--spec", str(path)], ["merge", str(path)],
                  [*RUN_IT, "file", "--set", f"task.path={path}"],
                  [*RUN_IT, "language_model", "--set", f"task.corpus={path}"]):  # fmt: skip
        assert main([*words, "--results", str(tmp_path / "results")]) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and str(path) in said, words


ROWS = {name: content for name, content in TEXTS.items() if name != "empty"} | {
    "no text": b'{"question": null, "answer": "2"}',
    "lists": b'{"question": ["1"], "answer": "2"}',
    "endless": b'{"question": Infinity, "answer": "2"}',
    "an odd difficulty": b'{"question": "1+1=", "answer": "2", "difficulty": 1e999}',
    "odd steps": b'{"question": "1+1=", "answer": "2", "steps": [[[]]]}',
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_odd_rows_are_told_with_their_line(row, tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "1+2=", "answer": "3"}\n' + row + b"\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl") as error:
        make_spec(strategy="direct", task="file", settings={"task.path": str(path)}).task.problems(
            "test", seed=0, start=0, count=1
        )
    assert "\n" not in str(error.value) and (":2" in str(error.value) or "UTF-8" in str(error.value))


# Kept responses


@pytest.mark.parametrize("how", [*TEXTS, "another shape", "no request"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_damaged_response_costs_no_other(how, at, tmp_path) -> None:
    """At 0 it is the header, whose content the file's name tells."""
    path = tmp_path / "responses.jsonl"
    kept = Responses(path, facts={"model": "a"})
    for number in range(3):
        kept.put(f"key {number}", {"arguments": [f"args {number}"], "text": "x"})
    lines = path.read_bytes().split(b"\n")
    whole = lines[at]
    lines[at] = {"another shape": b'{"request": 3, "arguments": []}', "no request": b'{"arguments": ["a"]}'}.get(how) or TEXTS[
        how
    ]
    path.write_bytes(b"\n".join(lines))
    others = {number for number in range(3) if number != at - 1}
    found = by_arguments(path) if at else None
    again = Responses(path, facts={"model": "a"})
    assert {number for number in range(3) if f"key {number}" in again} == others and again.damaged == (at > 0)
    assert found is None or set(found) == {f"args {number}" for number in others}
    if at:
        again.put(f"key {at - 1}", json.loads(whole) | {})
    assert set(by_arguments(path)) == {f"args {number}" for number in range(3)}
    assert Responses(path, facts={"model": "a"}).damaged == 0


# Files that may not be read, as another user meets them


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """While nobody's rights hold; the folder is theirs to look into."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, path.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", ["run.json", "the run", "the strategy", "problems.jsonl"])
def test_what_may_not_be_read_is_left_out(closed, made, capsys) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        results = Path(scratch) / "results"
        shutil.copytree(made[1], results)
        folder = copied(made, results, 1)
        target = {"the run": folder, "the strategy": results / "runs" / "arithmetic" / "other"}.get(closed, folder / closed)
        if closed == "the strategy":
            shutil.copytree(folder.parent, target)
        assert main(["list", "--runs", "--results", str(results)]) == 0  # imports what it needs
        main(["report", "--check", "--results", str(results)])
        with as_nobody(Path(scratch)):
            os.seteuid(0)
            os.chmod(target, 0)
            os.seteuid(65534)
            capsys.readouterr()
            assert main(["report", "--check", "--results", str(results)]) == 1
            said = capsys.readouterr()
            assert (
                "Permission denied" in said.out and str(target.relative_to(results)) in said.out and "Traceback" not in said.err
            )
            if closed != "problems.jsonl":  # a list reads run.json alone
                assert main(["list", "--runs", "--results", str(results)]) == 0
                said = capsys.readouterr()
                assert (
                    f"{1 + (closed == 'the strategy')} complete runs" in said.out
                    and "Permission denied" in said.err
                    and str(target) in said.err
                )
            os.seteuid(0)
            os.chmod(target, 0o755)
            os.seteuid(65534)
