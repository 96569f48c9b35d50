"""What is committed under results/ is what its records say: packs are merged into an empty folder, every number recomputed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cli import main

RESULTS = Path(__file__).parent.parent / "results"
PACKS = sorted((RESULTS / "records").glob("*.tar.xz"))


def test_there_are_packs_and_they_are_small() -> None:
    assert PACKS and sum(path.stat().st_size for path in RESULTS.rglob("*.tar.xz")) < 50_000_000


@pytest.mark.slow
def test_every_committed_number_follows_from_the_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pack in PACKS:
        assert main(["merge", str(pack), "--results", str(tmp_path)]) == 0
    shutil.copytree(RESULTS / "tables", tmp_path / "tables")
    code = main(["report", "--check", "--results", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
