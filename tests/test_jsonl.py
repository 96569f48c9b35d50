"""JSONL is split at "\\n" alone: every file that is written is read back line by line, whatever characters its values hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from made_results import a_line, a_run

from harness import jsonl, page_data, records
from harness.lm_eval_door import add_traces
from harness.responses import Responses, arguments_key, by_arguments
from harness.runs import run
from harness.spec import make_spec
from tasks.file import File
from tasks.language_model import LanguageModel

ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"  # at all of them str.splitlines splits
ODD = "".join(f"{end}{at}" for at, end in enumerate(ENDS))
TINY = {"model.width": 16, "model.layers": 1, "model.heads": 2, "train.flops": 2e7, "train.problems_per_update": 2}


def raw(*values: object) -> str:
    """JSONL with every character as it is."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"a{ODD}\r\n\nb{ODD}".encode())
    assert list(jsonl.lines_of(path)) == [f"a{ODD}\r".encode(), b"", f"b{ODD}".encode()]
    assert jsonl.whole_lines_of(path) == [f"a{ODD}\r".encode(), b""]
    assert jsonl.whole_lines_of(tmp_path / "none") == []


def test_no_other_module_splits_a_file_as_python_splits_text() -> None:
    """Lines of files come from `harness.jsonl` or a split at a line feed."""
    root = Path(jsonl.__file__).parent.parent
    paths = [path for name in ("harness", "strategies", "tasks") for path in (root / name).rglob("*.py")]
    assert len(paths) > 150
    split = re.compile(r"read_text\([^)]*\)\.splitlines|open\([^)]*\)(\.readlines|:$)|for \w+ in (file\b|open\()")
    assert [path.name for path in paths if path.name != "jsonl.py" and split.search(path.read_text(encoding="utf-8"))] == []


def test_a_runs_files_are_read_back_and_gone_on_with(tmp_path: Path) -> None:
    """Problems and traces of questions that hold them: read, shown on the page, and resumed behind them."""
    (tmp_path / "rows.jsonl").write_text(raw(*({"question": f"{n}{ODD}?", "answer": f"{n}{ODD}"} for n in range(60))), "utf-8")
    settings = TINY | {"task.path": str(tmp_path / "rows.jsonl"), "infer.problems": 5, "infer.traces": 5}
    spec = make_spec(strategy="direct", task="file", settings=settings)
    record, folder = run(spec, results=tmp_path), records.run_folder(tmp_path, spec)
    lines, traces = (records.read_lines(folder, name) for name in ("problems.jsonl", "traces.jsonl"))
    assert len(lines) == 5 and all(ODD in line["question"] and ODD in line["key"] for line in lines)
    assert [trace["id"] for trace in traces] == [line["id"] for line in lines]
    shown = page_data.run_data(tmp_path, folder, record, most=2)
    assert shown["count"] == 5 and [p["question"] for p in shown["problems"]] == [line["question"] for line in lines[:2]]

    whole = {name: (folder / name).read_bytes() for name in ("problems.jsonl", "traces.jsonl")}
    (folder / "run.json").unlink()
    (folder / "problems.jsonl").write_bytes(whole["problems.jsonl"][:-20])
    run(spec, results=tmp_path)
    assert {name: (folder / name).read_bytes() for name in whole} == whole


def test_a_page_counts_lines_as_records_do(tmp_path: Path) -> None:
    """A carriage return between the parts of a JSON value is a blank, and ends no line."""
    folder = tmp_path / a_run(tmp_path, [a_line(name, question=ODD) for name in "abc"])
    path = folder / "problems.jsonl"
    path.write_bytes(path.read_bytes().replace(b', "question"', b',\r"question"'))
    assert len(records.read_lines(folder)) == 3
    found = page_data.run_data(tmp_path, folder, json.loads((folder / "run.json").read_bytes()), most=2)
    assert (found["count"], len(found["problems"])) == (3, 2)


def test_rows_of_questions_are_read_as_written(tmp_path: Path) -> None:
    rows = [{"question": f"{n}{ODD}?", "answer": f"{n}", "steps": [f"s{ODD}{n}"]} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text(raw(*rows), encoding="utf-8")
    task = File(path=str(tmp_path / "rows.jsonl"))
    problems = [p for split in ("train", "test") for p in task.problems(split, seed=0, start=0, count=6)]  # type: ignore[arg-type]
    assert all(ODD in str(p.question.text) and ODD in p.key.lines[0] for p in problems)


def test_documents_of_a_folder_are_read_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    texts = [f"document {n}{ODD}with words behind it" for n in range(60)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.jsonl").write_text(raw(*({"text": text} for text in texts)), encoding="utf-8")
    task = LanguageModel(corpus=str(tmp_path / "set"))
    found = [d.text for split in ("train", "value", "validation", "test") for d in task.documents(split)]  # type: ignore[arg-type]
    assert sorted(found) == sorted(texts)


def test_kept_responses_are_read_back(tmp_path: Path) -> None:
    """By the evaluation that goes on, and for traces; a file that another writer made without escapes too."""
    path = tmp_path / "r" / "kept.jsonl"
    kept = Responses(path, facts={"who": ODD})
    for name in ("a", "b"):
        kept.put(name, {"text": name + ODD, "arguments": [arguments_key(name)]})
    again = Responses(path, facts={"who": ODD})
    assert again["a"]["text"] == "a" + ODD and again["b"]["text"] == "b" + ODD
    path.write_text(raw(*map(json.loads, jsonl.lines_of(path))), encoding="utf-8")
    assert by_arguments(path)[arguments_key("b")] == [{"text": "b" + ODD}]
    assert Responses(path, facts={"who": ODD})["b"]["text"] == "b" + ODD


def test_traces_are_put_beside_samples_that_hold_them(tmp_path: Path) -> None:
    kept = Responses(tmp_path / "kept.jsonl", facts={})
    given = {"until": ["\n"]}
    kept.put("a", {"text": ODD, "arguments": [arguments_key("Q" + ODD, given)]})
    samples = [{"doc": {"q": ODD}, "arguments": {"gen_args_0": {"arg_0": "Q" + ODD, "arg_1": given}}, "resps": [[ODD]]}] * 2
    path = tmp_path / "samples_made_2026-01-01T00-00-00.jsonl"
    path.write_text(raw(*samples), encoding="utf-8")
    (tmp_path / "results_2026-01-01T00-00-00.json").write_text(json.dumps({"config": {"responses": str(kept.path)}}))
    add_traces([path])
    found = [json.loads(line) for line in jsonl.lines_of(path)]
    assert found == [sample | {"thinking": [[{"text": ODD}]]} for sample in samples]
