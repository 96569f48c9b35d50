"""The report page: the same bytes for the same records, nothing of a model's runs, every control does what it says."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import CANDIDATES, HOSTILE, TREE, a_comparison, a_line, a_results, a_run, a_trace, an_entry

from harness import page, page_data, records, storage
from harness.alphabet import make_alphabet
from harness.cli import main
from harness.page import write_report
from harness.page_data import as_script, text_of
from harness.page_html import seen


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a headless browser saw while every control was used."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("NO BROWSER: the report page is not tried here; install chromium to try it")
    results = tmp_path_factory.mktemp("results")
    a_results(results)
    text = write_report(results).index.read_text(encoding="utf-8")
    listen = (
        "<script>window.errors = []; console.error = (...words) => errors.push(words.join(' '));"
        "addEventListener('error', (event) => errors.push(event.message ?? 'not loaded: ' + event.target.src), true);"
        "addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)))</script>"
    )
    drive = (Path(__file__).parent / "page_drive.js").read_text(encoding="utf-8")
    start, end = text.index("<head>") + len("<head>"), text.rindex("</body>")
    copy = results / "tried.html"
    copy.write_text(f"{text[:start]}{listen}{text[start:end]}<script>{drive}</script>{text[end:]}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={results / 'browser'}"]
    command = [browser, *options, "--virtual-time-budget=30000", "--dump-dom", copy.as_uri()]
    shown = subprocess.run(command, capture_output=True, timeout=300, check=True).stdout.decode()
    found = re.search(r'<pre id="seen">(.*?)</pre>', shown, re.DOTALL)
    assert found, "the browser did not come to the end of tests/page_drive.js"
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    return told


def test_no_control_makes_an_error_and_nothing_of_a_record_runs(browsed: dict[str, Any]) -> None:
    assert browsed["errors"] == [] and browsed["hacked"] is None
    assert browsed["unlabelled"] == 0 and not browsed["wide"]
    assert {one["id"] for one in browsed["runs"]} == {"comparison", "budget", "seed", "first", "second"}


def test_tables_sort_by_numbers_and_filter(browsed: dict[str, Any]) -> None:
    (table,) = browsed["tables"]
    scores = ["9.7% [9.0, 10.1]", "45.1% [44.0, 46.2]", "100.0%"]
    assert table["columns"]["score [95%]"] == [["ascending", [*scores, "-"]], ["descending", [*scores[::-1], "-"]]]
    assert table["columns"]["FLOPs"][0][1] == ["1,661", "3e+09", "1.25e+10", "infeasible"]
    assert table["columns"]["seeds"][1][1] == ["10", "8", "2", "-"]
    arms = table["columns"]["arm"][0][1]
    assert seen(HOSTILE) in arms and arms.index("first arm") < arms.index("fourth") < arms.index("second arm")
    assert table["filtered"] == {
        "words": [1, "1 of 4 rows"],
        "": 4,
        "first arm": 1,
        "second arm": 1,
        "fourth": 1,
        seen(HOSTILE): 1,
    }


def test_what_a_model_said_is_shown_to_the_letter(browsed: dict[str, Any]) -> None:
    """Both sides show what cannot be seen alike."""
    start = browsed["start"]
    assert start["texts"][:3] == [seen(HOSTILE), "2", seen(HOSTILE)] and start["marks"] == ["✓ right"]
    assert start["titles"] == [seen(HOSTILE)]
    assert start["cells"] == ["<", "/", "○", "<bot>" if start["cells"][3] == "<bot>" else "<sep>", "\\xe2", "↵\n"]
    assert start["chips"] == ["○", start["cells"][3]]
    assert start["groups"] == [" prompt, prefill: ", " answer, answer: "]
    assert start["shades"] == ["1.000", "0.500", "0.200", "", "0.000", ""]
    assert "role prompt, class prefill" in start["titles_of_cells"][0] and "0.2500" in start["titles_of_cells"][0]
    assert start["ledger"] == ["1,000", "0", "234", "0", "0", "1,234", "2", "5", "0", "4,096"]


def test_problems_are_walked_through_and_filtered(browsed: dict[str, Any]) -> None:
    assert [browsed[x]["number"] for x in ("start", "next", "previous", "last")] == ["1", "2", "1", "3"]
    assert [browsed[f"key {x}"] for x in ("n", "ArrowRight", "p", "ArrowLeft")] == ["2", "3", "2", "1"]
    assert browsed["right"]["status"].startswith("Problem 2 of 2 that fit.") and browsed["wrong"]["marks"] == ["✗ wrong"]
    assert browsed["difficulty 2"].startswith("Problem 1 of 1 that fit.")
    assert len(browsed["last"]["cells"]) == 2000  # the others wait behind a button


def test_two_runs_side_by_side_on_the_same_problem(browsed: dict[str, Any]) -> None:
    both = browsed["both"]
    assert both["titles"] == [seen(HOSTILE), "second arm"] and len(both["marks"]) == 2
    assert both["chosen"] == 1 and "(question)" in both["boxes"] and "abc" in both["boxes"]  # a, b and c are one box
    assert both["rows"] == ["row 0", "row 1, from cell 2"]
    assert both["cells"][-6:] == ["1", "+", "2", "4", "3", "5"]


def test_documents_and_runs_without_traces_are_shown(browsed: dict[str, Any]) -> None:
    pages = [one for one in browsed["runs"] if "language_model" in one["option"]]
    assert pages and all(one["cells"] == ["H", "i"] and one["marks"] == ["2.5 nats a token"] for one in pages)
    bare = [one for one in browsed["runs"] if one["titles"] == ["third"]]
    assert bare and all("The record holds no trace of this problem." in one["paragraphs"] for one in bare)


def test_same_records_same_bytes_and_nothing_stale(tmp_path: Path) -> None:
    a_results(tmp_path)
    report = write_report(tmp_path)
    before = {path: path.read_bytes() for path in [report.index, *(tmp_path / "page").iterdir()]}
    assert (report.comparisons, report.runs, report.left_out) == (1, 4, ()) and len(before) == 5
    (tmp_path / "page" / "old.js").write_text("harnessRun({})")
    assert write_report(tmp_path) == report
    assert {path: path.read_bytes() for path in [report.index, *(tmp_path / "page").iterdir()]} == before


def test_the_page_holds_no_live_text_of_a_record(tmp_path: Path) -> None:
    a_results(tmp_path)
    text = write_report(tmp_path).index.read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<script>window" not in text and text.count("</script>") == text.count("<script") == 2
    for path in (tmp_path / "page").iterdir():
        content = path.read_text(encoding="utf-8")
        assert "<" not in content and "\u2028" not in content and content.count("\n") == 1


def test_scripts_make_no_html_of_data_and_reach_for_no_network() -> None:
    for path in sorted(page.PARTS.iterdir()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\(|@import|url\(", text
        )
        assert re.findall(r"https?://[^\"' ]+", text) in ([], ["http://www.w3.org/2000/svg"])
        assert len(text.splitlines()) <= 300
    assert {path.name for path in page.PARTS.iterdir()} == {*page.SCRIPTS, "index.html", "page.css"}


@given(st.recursive(st.text(st.characters(codec=None)), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_scripts_hold_any_text(value: Any) -> None:
    text = as_script(value).encode("utf-8", "backslashreplace").decode()
    assert json.loads(text) == value
    assert not set(text) & {"<", "\u2028", "\u2029"}


@given(st.data())
def test_a_packed_trace_holds_every_cell(data: st.DataObject) -> None:
    rows = [0, *data.draw(st.lists(st.integers(0, 3), max_size=12))]
    tokens = data.draw(st.lists(st.none() | st.integers(0, 70_000), min_size=len(rows), max_size=len(rows)))
    trace = a_trace("x", tokens, kind="".join("t" if t is None else "x" for t in tokens), rows=rows)
    words, looks = page_data._letters_of_words([trace], None), page_data._letters_of_looks([trace])
    packed = page_data._packed(trace, [0.0001 * at for at in range(len(rows))], words, looks)
    order = packed["got"]
    assert sorted(order) == list(range(len(rows))) and [rows[at] for at in order] == [
        r for _, r, _, n in packed["parts"] for _ in range(n)
    ]
    texts = dict(words.values())
    assert [texts[letter] for letter in packed["t"]] == ["" if tokens[at] is None else f"#{tokens[at]}" for at in order]


def test_letters_are_those_of_the_record() -> None:
    from harness import lines, strategy
    from harness.instrument import ATTENTION
    from harness.meter import CLASSES

    assert dict(zip(lines.KIND_LETTERS, strategy.KINDS, strict=True)) == page_data.KIND_OF
    assert dict(zip(lines.CLASS_LETTERS, CLASSES, strict=True)) == page_data.CLASS_OF
    assert ATTENTION == "attention.jsonl"


def test_tokens_as_text() -> None:
    letters, octets = make_alphabet("chars:ab"), make_alphabet("bytes")
    pairs = make_alphabet("bpe:300", texts=["lower lowest \u00e9\u00e9"] * 20)
    assert [text_of(letters, i) for i in (0, 1, 2, 999, -1)] == ["a", "b", "<end>", "#999", "#-1"]
    assert [text_of(octets, i) for i in (65, 0xE2, 256)] == ["A", "\\xe2", "<end>"]
    assert "".join(text_of(pairs, int(i)) for i in pairs.encode("low lowest")) == "low lowest"
    assert text_of(None, 7) == "#7"


def test_a_trained_tokenizer_is_found_beside_the_weights(tmp_path: Path) -> None:
    """Where it is gone or torn, tokens are numbers."""
    folder = tmp_path / a_run(tmp_path, [a_line("a")], task="language_model", model__alphabet="bpe:300")
    record = records.read_run(folder)
    assert page_data.alphabet_of(tmp_path, record) is None
    pairs = make_alphabet("bpe:300", texts=["lower lowest"] * 20)
    kept = {"tokenizer.json": pairs.codec.tokenizer_json().encode()}
    beside = records.weights_folder(tmp_path, records.spec_of(record))
    storage.replace_files(beside, kept)
    found = page_data.alphabet_of(tmp_path, record)
    assert found is not None and found.pieces(pairs.encode("lowest").tolist()) == ("lowest",)
    storage.replace_file(beside / "tokenizer.json", kept["tokenizer.json"][:-9])
    assert page_data.alphabet_of(tmp_path, record) is None


def test_a_run_holds_its_first_problems_and_the_page_stays_small(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(5000)]
    folder = a_run(
        tmp_path,
        [a_line(n, question="q" * 1000, candidates=CANDIDATES) for n in names],
        [a_trace(n, [1, 2, 3], tree=TREE) for n in names[:200]],
    )
    big = b'<svg xmlns="http://www.w3.org/2000/svg">' + b" " * 400_000 + b"</svg>"
    plots = [f"plots/{number}.svg" for number in range(12)]
    storage.replace_files(tmp_path / "plots", {Path(name).name: big for name in plots})
    a_comparison(tmp_path, [an_entry(folder, str(n)) for n in range(300)], plots=plots)
    index = write_report(tmp_path).index
    assert index.stat().st_size < 5_000_000
    text = index.read_text(encoding="utf-8")
    assert text.count("<img ") == 12 and text.count('src="plots/') == 7  # five fit in
    (script,) = (tmp_path / "page").iterdir()
    held = json.loads(script.read_text(encoding="utf-8").removeprefix("harnessRun(").removesuffix(");\n"))
    assert held["count"] == 5000 and [problem["id"] for problem in held["problems"]] == names[:200]


def test_what_is_spoilt_is_named_and_left_out(tmp_path: Path) -> None:
    good = a_run(tmp_path, [a_line("a")], [a_trace("a", [1, 2])])
    edited, unfit = (a_run(tmp_path, [a_line("a")], [a_trace("a", [1, 2]) | {"kind": "xxx"}], seed=seed) for seed in (1, 2))
    path = tmp_path / edited / "run.json"
    path.write_text(path.read_text().replace('"complete": true', '"complete": false'))
    runs = [an_entry(folder, "x") for folder in (good, edited, unfit, "runs/none/of/these")]
    a_comparison(tmp_path, runs, plots=["plots/gone.svg", "../away.svg"])
    a_comparison(tmp_path, [], name="torn", tables=[{"name": "t", "title": "t", "columns": ["a"], "rows": [["1", "2"]]}])
    (tmp_path / "tables" / "half.json").write_text('{"name": "ha')
    report = write_report(tmp_path)
    assert (report.comparisons, report.runs) == (1, 1)
    text = html.unescape(report.index.read_text(encoding="utf-8"))
    told = "\n".join(report.left_out)
    for name in ("was edited", unfit, "runs/none/of/these", "gone.svg", "away.svg", "half.json", "torn.json"):
        assert name in told and name in text
    assert len(report.left_out) == 7 and str(tmp_path) not in text


def test_only_test_runs_are_shown_unless_a_comparison_names_others(tmp_path: Path) -> None:
    a_run(tmp_path, [a_line("a")])
    chosen_by = a_run(tmp_path, [a_line("a")], infer__split="validation")
    assert write_report(tmp_path).runs == 1
    assert "No comparison lies here" in (tmp_path / "index.html").read_text(encoding="utf-8")
    a_comparison(tmp_path, [an_entry(chosen_by, "x")])
    assert write_report(tmp_path).runs == 2


def test_a_page_of_some_seeds_and_problems_says_nothing_of_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [a_run(tmp_path, [a_line(n) for n in "abc"], [a_trace(n, [1]) for n in "abc"], seed=seed) for seed in range(3)]
    a_comparison(tmp_path, [an_entry(folder, "x") | {"seed": seed} for seed, folder in enumerate(folders)])
    assert main(["report", "--seeds", "0,2", "--problems", "2", "--results", str(tmp_path)]) == 0
    assert "comparisons: 1, runs: 2, left out: 0" in capsys.readouterr().out
    scripts = [path.read_text(encoding="utf-8") for path in (tmp_path / "page").iterdir()]
    held = [json.loads(text.removeprefix("harnessRun(").removesuffix(");\n")) for text in scripts]
    assert [(one["count"], [p["id"] for p in one["problems"]]) for one in held] == [(3, ["a", "b"])] * 2
    assert folders[1] not in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert main(["report", "--check", "--seeds", "0", "--results", str(tmp_path)]) == 2
    assert "leave out --seeds" in capsys.readouterr().err


def test_a_run_of_no_problems(tmp_path: Path) -> None:
    a_run(tmp_path, [])
    assert dataclasses.astuple(write_report(tmp_path))[1:] == (0, 1, ())


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --results: ") and "compare --suite" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_loads_no_model(tmp_path: Path) -> None:
    a_results(tmp_path)
    code = (
        "import sys; from harness.cli import main; code = main(sys.argv[1:]);"
        "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'scipy') if m in sys.modules], code)"
    )
    command = [sys.executable, "-W", "error", "-c", code, "report", "--results", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.endswith("[] 0\n") and json.loads(done.stdout.removesuffix("[] 0\n"))["runs"] == 4
