"""Names in paths, tables and pictures: illegal ones are told where they are read, and every form shows them as they stand."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

from harness import records
from harness.cli import main
from harness.figures import figure_of, files_of
from harness.legal import check_arm_name, check_file_name
from harness.suite import Arm, Block, Suite
from harness.suite_file import read_suite
from harness.table_forms import forms, markdown, spreadsheet
from harness.telling import differing_tables

SUITE = """
name = "NAME"
seeds = "0"
train_flops = [1e8]
with_family = false
[[block]]
task = "arithmetic"
[[block.arm]]
strategy = "direct"
name = "ARM"
"""
ODD = "a|b `c` *d* _e_ f_g <i>h</i> [j](k) $l$ \\ &lt; ~~m~~ {n} #o %p ^q \x1b[31m\u202e\n"
BAD_FILES = ["../../x", "/x", "a/b", "a\\b", "..", ".x", "", "a b", "a\nb", "a\x1b", "x" * 201, "ü", "=x", "a|b", "~x", "C:x"]
BAD_ARMS = [
    "../../x",
    "/x",
    "",
    " x",
    "x ",
    "_x",
    "=x",
    "+x",
    "-x",
    "@x",
    "a|b",
    "a`b",
    "a$b",
    "<b>",
    "[x]",
    "a\nb",
    "a\x1b",
    "\u202ex",
]
BAD_ARMS += ["x" * 101, "#x", "{x}", "a\\b", '"x"']


@pytest.mark.parametrize("name", BAD_FILES)
def test_names_of_suites_are_checked_when_they_are_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file, and in declarations that stand beside tables; the legal characters are named, and nothing is written."""
    path = tmp_path / "in" / "suite.toml"
    path.parent.mkdir()
    path.write_text(SUITE.replace('"NAME"', json.dumps(name)).replace("ARM", "x"))
    assert main(["compare", "--suite", str(path), "--results", str(tmp_path / "in" / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "name: expected 1 to 200 of the characters A-Z a-z 0-9 _ - ." in line
    for made in (lambda: Suite(name=name, blocks=[]), lambda: _block(name)):
        with pytest.raises(ValueError, match="A-Z a-z 0-9"):
            made()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "suite.toml"]


def _block(name: str) -> Block:
    return Block(task="toy", name=name, arms=[Arm(strategy="direct")], train_flops=[1.0], seeds=[0])


@pytest.mark.parametrize("name", BAD_ARMS)
@pytest.mark.parametrize("where", ["block", "top"])
def test_names_of_arms_are_checked_when_they_are_read(name: str, where: str, tmp_path: Path) -> None:
    path, arm = tmp_path / "suite.toml", "[[block.arm]]"
    text = SUITE.replace("NAME", "x").replace('"ARM"', json.dumps(name))
    if where == "top":
        text = text.replace(arm, "[[arm]]").replace('[[block]]\ntask = "arithmetic"\n', "") + '[[block]]\ntask = "arithmetic"\n'
    path.write_text(text)
    with pytest.raises(ValueError, match="arm: name: expected up to 100 characters that begin with a letter or digit"):
        read_suite(path)


def test_usual_names_are_legal() -> None:
    for name in ("reference", "x", "-x", "a.b-c_d", "x" * 200):
        check_file_name("name", name)
    for name in ("votes", "deep x2", "tree, 2 x 2", "per_token=0", "few-shot, one go", "Überlegt 3", "k_hop (5%)", "a", "9"):
        check_arm_name("name", name)


def test_a_strangers_declaration_writes_nothing_elsewhere(tmp_path: Path) -> None:
    """A comparison's name that climbs out of the folder is refused when its tables are checked."""
    block = {"task": "arithmetic", "name": "../../x", "arms": [{"strategy": "direct"}], "train_flops": [1e8], "seeds": [0]}
    facts = {"name": "../../x", "suite": "x", "threads": 1, "plots": [], "notes": [], "block": block}
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.json").write_text(json.dumps(facts))
    (line,) = differing_tables(tmp_path)[0]
    assert re.search(r"x\.json .*A-Z a-z 0-9", line)


@pytest.mark.parametrize("spoil", [{"block": 3}, {"block": {}}, {"threads": "x"}, {"suite": None}, {"block": None}])
def test_a_declaration_in_another_form_is_named(spoil: dict[str, object], tmp_path: Path) -> None:
    block = {"task": "arithmetic", "name": "x", "arms": [{"strategy": "direct"}], "train_flops": [1e8], "seeds": [0]}
    facts = {"name": "x", "suite": "x", "threads": 1, "plots": [], "notes": [], "block": block} | spoil
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.json").write_text(json.dumps(facts))
    (line,) = differing_tables(tmp_path)[0]
    assert re.search(r"x\.json ", line)


def test_folders_of_plugins_are_one_folder_of_a_length_that_is_legal() -> None:
    for name in ("../../x", "/a/b.py", "x" * 5000, "\x1b", "a\u202eb", "..", "file:x/../y"):
        folder = records.folder_name(name)
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", folder), folder
    assert records.folder_name("x" * 5000) != records.folder_name("x" * 5001)
    assert records.folder_name("x" * 200) == "x" * 200


@pytest.fixture
def made() -> dict[str, str]:
    words = pd.DataFrame(
        [{"arm": ODD, "difference": "-12.1 [-16.7, -7.4]", ODD: "=1+1"}, {"arm": "=cmd", "difference": "+x", ODD: "[z]"}]
    )
    return forms("some_table", [ODD, "# no heading", "1. no list", "> no quotation", "- no list"], words)


def test_markdown_shows_names_as_they_stand(made: dict[str, str]) -> None:
    """Rendered by a parser of CommonMark and GFM, every cell and line reads as it was given, and is one cell or line."""
    from markdown_it import MarkdownIt

    page = MarkdownIt("gfm-like", {"linkify": False}).render(made["some_table.md"])
    shown = ODD.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e").replace("\n", "\\n")
    texts = [html.unescape(x) for _, x in re.findall(r"<(td|th|li|h1)\b[^>]*>(.*?)</\1>", page, re.S)]
    assert texts[0] == "some_table"
    assert texts[1:6] == [shown, "# no heading", "1. no list", "> no quotation", "- no list"]
    assert texts[6:] == ["arm", "difference", shown, shown, "-12.1 [-16.7, -7.4]", "=1+1", "=cmd", "+x", "[z]"]


def test_spreadsheets_meet_no_formula_and_numbers_stay(made: dict[str, str]) -> None:
    header, first, second = csv.reader(io.StringIO(made["some_table.csv"]))
    assert header[:2] == ["arm", "difference"] and first[1:] == ["-12.1 [-16.7, -7.4]", "'=1+1"]
    assert second == ["'=cmd", "'+x", "[z]"]
    numbers = pd.DataFrame(
        {"arm": ["=a", "-1", "@b", "-"], "x": [-1.5, None, 2.0, 3.0], "n": [None, -1, 2, 3], "=h": ["a", None, "+", "-x"]}
    )
    assert forms("t", [], numbers, numbers.astype({"n": object}))["t.csv"].splitlines() == [
        "arm,x,n,'=h", "'=a,-1.5,,a", "'-1,,-1.0,", "'@b,2.0,2.0,+", "-,3.0,3.0,'-x",
    ]  # fmt: skip
    assert forms("t", [], numbers)["t.csv"].splitlines()[1] == "'=a,-1.5,,a"


@pytest.mark.parametrize("text", ["=1", "+cmd|x", "-cmd", "@SUM(A1)", "=HYPERLINK()", "+A1", "-A1+2", "+", "-2+cmd|x"])
def test_formulas(text: str) -> None:
    assert spreadsheet(text, is_name=True) == f"'{text}"
    assert spreadsheet(text, is_name=False) == (text if text == "+" else f"'{text}")


@pytest.mark.parametrize("text", ["-", "-1", "+0.5 [-1.2, +3.4]", "-19.4 [-28.9, -9.9]", "1e+12", "+67.5", "-3e-05"])
def test_numbers_of_ours_are_no_formulas(text: str) -> None:
    assert spreadsheet(text, is_name=False) == text


def test_latex_and_html_show_names_as_they_stand(made: dict[str, str]) -> None:
    """LaTeX takes no bracket at a row's beginning for an argument; no special character is left as it is."""
    tex = made["some_table.tex"]
    for mark in ("\\$l\\$", "\\_e\\_", "\\#o", "\\%p", "\\{n\\}", "\\&lt;", "\\textasciicircum", "\\textbackslash"):
        assert mark in tex, mark
    assert "{}[z]" in forms("t", [], pd.DataFrame({"a": ["[z]"]}))["t.tex"]
    assert "<i>h</i>" not in made["some_table.html"] and html.escape("<i>h</i>") in made["some_table.html"]
    assert not any(re.search("[\x1b\u202e]", text) for text in made.values())


def test_words_and_numbers_of_ours_are_left_as_they_are() -> None:
    for text in ("reasoning_tokens minus direct: -23.1 (95% -27.8 to -18.4)", "< 0.11x [< 0.32x]", "> 1.0x", "68.4% [59.0, 76.6]",
                 "tree, 2 x 2", "a & b", "x=1.5", "On k_hop, at 1e+12: equal", "per_token=0", "R&D!"):  # fmt: skip
        assert markdown(text) == text


def test_dollars_in_pictures_are_dollars() -> None:
    """Two of them are no formula, which would be an error of the library where it is none; nothing acts on a terminal."""
    figure = figure_of(3, 2)
    axes = figure.add_subplot()
    axes.plot([1, 2], [1, 2], label="a$\\frac$b \x1b[2J")
    axes.set_title("$x$ costs 1$")
    axes.legend()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        drawn = files_of(figure, "n")["n.svg"].decode()
    assert "$x$ costs 1$" in drawn and "a$\\frac$b \\x1b[2J" in drawn and "\x1b" not in drawn
