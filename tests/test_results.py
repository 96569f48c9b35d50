"""What is committed under results/ is what its records say: packs are merged into an empty folder, every number recomputed."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from harness.cli import main

RESULTS = Path(__file__).parent.parent / "results"
TABLES = RESULTS / "tables"
PACKS = sorted((RESULTS / "records").glob("*.tar.xz"))


def test_there_are_packs_and_all_that_is_committed_is_small() -> None:
    assert PACKS and sum(path.stat().st_size for path in PACKS) < 50_000_000
    kept = [path for name in ("records", "tables", "plots", "page") for path in (RESULTS / name).rglob("*")]
    kept += [RESULTS / name for name in ("index.html", "LOG.md", "README.md")]
    assert sum(path.stat().st_size for path in kept if path.is_file()) < 60_000_000


def test_the_committed_page_is_of_the_committed_tables() -> None:
    text = (RESULTS / "index.html").read_text(encoding="utf-8")
    for table in TABLES.glob("*.json"):
        comparison = json.loads(table.read_bytes())
        assert comparison["name"] in text and all(html.escape(said) in text for said in comparison["sentences"][:5])
    scripts = set(re.findall(r'"file":"([^"]+)"', text))
    assert scripts and scripts == {path.name for path in (RESULTS / "page").iterdir()}


def test_every_table_has_its_pack() -> None:
    names = {path.name.removesuffix(".tar.xz") for path in PACKS}
    assert {path.stem for path in TABLES.glob("*.json")} == names


@pytest.mark.slow
@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.name)
def test_every_committed_number_follows_from_the_records(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(pack), "--results", str(tmp_path)]) == 0
    (tmp_path / "tables").mkdir()
    for table in TABLES.glob(f"{pack.name.removesuffix('.tar.xz')}*"):
        shutil.copy(table, tmp_path / "tables")
    code = main(["report", "--check", "--results", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
