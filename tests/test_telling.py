"""Tables and page from records alone: made again without weights or a model, and checked against what the records say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_compare import COMMAND
from test_crash import Changes, Crash

from harness import records, storage
from harness.cli import main
from harness.telling import differing_tables


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small comparison whose weights are gone."""
    results = tmp_path_factory.mktemp("made")
    assert main([*COMMAND, "--workers", "1", "--results", str(results)]) == 0
    shutil.rmtree(results / "weights")
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "results"))


@pytest.mark.slow
def test_tables_are_what_the_records_say_and_no_model_is_loaded(made: Path) -> None:
    """In a process of its own: neither torch nor transformers is imported, for tables or for pictures."""
    code = """
import sys
from pathlib import Path
from harness.cli import main
from harness.telling import differing_tables
assert main(sys.argv[2:]) == 0
found, count = differing_tables(Path(sys.argv[1]))
assert found == [] and count > 10, (found, count)
assert not {"torch", "transformers"} & set(sys.modules), "a model's library was loaded"
"""
    command = [sys.executable, "-c", code, str(made), *COMMAND, "--results", str(made)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_an_edited_table_is_named(results: Path) -> None:
    path = results / "tables" / "arithmetic.md"
    path.write_text(path.read_text().replace("0.0%", "99.0%", 1))
    (results / "tables" / "arithmetic-rankings.csv").unlink()
    found, _ = differing_tables(results)
    assert len(found) == 2 and all("make it again" in line for line in found)
    assert sum(name in " ".join(found) for name in ("arithmetic.md", "arithmetic-rankings.csv")) == 2


@pytest.mark.slow
def test_an_edited_record_is_named_and_left_out(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its seed is missing then, for all arms of the budget; compare says so, goes on and fails at the end."""
    path = sorted((results / "runs" / "arithmetic" / "reasoning_tokens").glob("*-s1/problems.jsonl"))[0]
    path.write_text(path.read_text().replace('"score":0.0', '"score":1.0', 1))
    found, _ = differing_tables(results)
    assert any("missing or was changed" in line for line in found) and any("arithmetic.csv" in line for line in found)
    assert main([*COMMAND, "--workers", "1", "--results", str(results)]) == 1
    assert "missing or was changed" in capsys.readouterr().err
    assert set(json.loads((results / "tables" / "arithmetic.json").read_text())["runs"][0]) >= {"folder", "arm", "seed"}
    assert {run["seed"] for run in json.loads((results / "tables" / "arithmetic.json").read_text())["runs"]} == {0, 1}


def test_a_record_of_an_older_schema_is_named(results: Path) -> None:
    path = sorted((results / "runs" / "arithmetic" / "direct").glob("*-s0/run.json"))[0]
    record = json.loads(path.read_text()) | {"schema": 1}
    record["digest"] = records.seal(record)
    storage.replace_file(path, json.dumps(record).encode())
    found, _ = differing_tables(results)
    assert any("has schema 1" in line for line in found)


def test_a_torn_declaration_is_one_clear_line(results: Path) -> None:
    path = results / "tables" / "arithmetic.json"
    path.write_text(path.read_text()[:100])
    (line,) = differing_tables(results)[0]
    assert line.startswith(f"{path} is truncated or no JSON") and "\n" not in line


def test_report_check_recomputes_everything(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--check", "--results", str(made)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("8 records, 44 traces and ") and said.endswith("recomputed: 0 differ\n")
    assert not (made / "index.html").exists()


def test_report_check_names_what_differs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A number of a record, sealed again, and with it the tables that hold it."""
    path = sorted((results / "runs" / "arithmetic" / "reasoning_tokens").glob("*-s0/run.json"))[0]
    record = json.loads(path.read_text())
    record["metrics"]["accuracy"]["value"] = 0.5
    record["digest"] = records.seal(record)
    storage.replace_file(path, json.dumps(record).encode())
    assert main(["report", "--check", "--json", "--results", str(results)]) == 1
    wrong = json.loads(capsys.readouterr().out)["wrong"]
    assert any("metrics.accuracy.value" in line for line in wrong) and any("arithmetic.csv" in line for line in wrong)


def test_the_page_is_made_from_a_comparison(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(made)]) == 0
    page = (made / "index.html").read_text()
    assert "reasoning_tokens" in page and "comparisons: 1, runs: 6" in capsys.readouterr().out
    (made / "index.html").unlink()
    shutil.rmtree(made / "page")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_of_tables_and_pictures_changes_nothing(results: Path, when: str) -> None:
    """Some changes of files; the same command then writes the same bytes, and leaves nothing half-written."""

    def content() -> dict[str, bytes]:
        kept = (path for kind in ("tables", "plots") for path in (results / kind).rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in kept if "timing" not in path.name}

    command, whole = [*COMMAND, "--results", str(results)], content()
    with pytest.MonkeyPatch.context() as counting:
        seen = Changes(counting).seen
        assert main(command) == 0
    assert len(seen) > 60 and content() == whole
    for at in range(5, len(seen), 29):
        for kind in ("tables", "plots"):
            shutil.rmtree(results / kind)
        with pytest.MonkeyPatch.context() as crashing:
            Changes(crashing, at, when)
            with pytest.raises(Crash):
                main(command)
        assert main(command) == 0
        assert content() == whole, seen[at]
