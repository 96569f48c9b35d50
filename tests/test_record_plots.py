"""Pictures of single records: thoughts are counted by place in each text that was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import packs, records
from harness.lines import windows_of
from harness.record_plots import thoughts_by_place
from harness.records import Record

PACKS = Path(__file__).parent.parent / "results" / "records"


def trace(*cells: tuple[str, int, int, int]) -> Record:
    """A trace of cells: kind, place, index, row."""
    kind, place, index, row = zip(*cells, strict=True)
    return {"kind": "".join(kind), "place": list(place), "index": list(index), "row": list(row)}


ONE = [("x", 0, 0, 0), ("t", 0, 1, 0), ("x", 1, 2, 0), ("t", 1, 3, 0), ("t", 1, 4, 0)]


def test_a_window_begins_with_the_first_cell_of_the_first_row() -> None:
    assert windows_of(trace(*ONE, *ONE, ("x", 1, 2, 1), ("x", 0, 0, 2))) == [0] * 5 + [1] * 7
    assert windows_of({"index": [], "row": []}) == []


@pytest.mark.parametrize("windows", [1, 2, 55])
def test_thoughts_at_a_place_do_not_grow_with_the_windows_of_a_document(windows: int) -> None:
    assert thoughts_by_place([trace(*ONE * windows), trace(*ONE)]) == {0: 1.0, 1: 2.0}


def test_each_row_of_a_search_is_a_text_of_its_own() -> None:
    """The prompt's thoughts once, and the mean of three rows' thoughts behind it."""
    rows = [("x", 1, 2, row) for row in (0, 1, 2)] + [("p", 1, 3, row) for row in (0, 1)]
    assert thoughts_by_place([trace(("x", 0, 0, 0), ("t", 0, 1, 0), *rows)]) == {0: 1.0, 1: 2 / 3}


def test_a_problem_that_ends_before_a_place_does_not_count_there() -> None:
    assert thoughts_by_place([trace(*ONE), trace(*ONE[:2])]) == {0: 1.0, 1: 2.0}
    assert thoughts_by_place([trace(("x", 0, 0, 0), ("x", 1, 1, 0))]) == {}


def test_one_thought_a_token_is_one_in_the_reference() -> None:
    """Of committed records of the language model, that were asked in 55 windows a document and more."""
    most = set()
    for run, folder in packs.unpacked(PACKS / "reference-language_model.tar.xz"):
        if run.endswith("-s1"):
            break
        if "/reasoning_tokens/" in run:
            places = thoughts_by_place(records.read_lines(folder, "traces.jsonl"))
            assert len(places) == 60 and len(set(places.values())) == 1
            most |= set(places.values())
    assert most == {1.0, 3.0}
