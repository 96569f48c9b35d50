"""Everything that a comparison writes beside its pictures, from records alone: tables in four forms, and all of it as one JSON.

results/tables/NAME.md, .csv, .tex, .html and NAME.json; NAME-points, -difficulty, -rankings, -worth, -questions, -spending,
-searchers alike; NAME-rankings-timing, which holds seconds and so does not repeat. Knows tables; computes nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import records, storage
from harness.comparison import Measured, Row
from harness.curves import PRIMARY
from harness.line_stats import searchers, spending
from harness.rankings import REPEATABLE, rankings
from harness.table_forms import forms
from harness.tables import by_difficulty, frame, points, shown
from harness.tuning import Tuned
from harness.tuning import table as tuning_table
from harness.wording import sentences
from harness.worth import gain_sentences, headline, questions, worth

if TYPE_CHECKING:
    import pandas as pd

SECONDS = "rankings-timing"
ONE_SEED = "Of a single seed, scores have intervals over its problems; they say nothing of other seeds."


@dataclass(frozen=True, slots=True)
class Table:
    """A table: ending of its files' names (none: the main one), what it shows, its words; numbers: for CSV, if not the words."""

    ending: str
    title: str
    words: pd.DataFrame
    numbers: pd.DataFrame | None = None

    def name(self, comparison: str) -> str:
        """Its files' name."""
        return f"{comparison}-{self.ending}" if self.ending else comparison


def tables_of(rows: Sequence[Row], every: Sequence[Measured], results: Path) -> list[Table]:
    """All tables of a block; those that would be empty are left out."""
    last = headline(every)
    found = [
        Table("", "Scores, differences to the comparator at equal cost, verdicts and ledgers", shown(rows), frame(rows)),
        Table("points", "Every point that was asked, the cheapest first", points(every)),
        Table("difficulty", "Scores by difficulty, mean over seeds", by_difficulty(rows)),
        Table(
            "rankings", "Rank, and lead over the comparator, when something else is equal; a rank is no verdict", rankings(every)
        ),
        Table("worth", "Training compute saved, and seeds that solved the task, at the headline budget", worth(rows, every)),
        Table(
            "questions",
            "The cheapest way to a score, training included, by numbers of questions, among the comparator's and arms whose "
            "verdict is better or equivalent",
            questions(rows, every),
        ),
        Table(
            "spending",
            "Whether harder problems cost more: Spearman's rho of FLOPs and difficulty (longer questions and answers count too)",
            spending(last, results),
        ),
        Table(
            "searchers",
            "Ways to ask one checkpoint: problems that only the first / only the second got right (McNemar's exact p; it says "
            "nothing of other training seeds)",
            searchers(last, results),
        ),
        Table(SECONDS, "The same with seconds, which do not repeat", rankings(every, (*REPEATABLE, "seconds"))),
    ]
    return [table for table in found if len(table.words)]


def write(
    rows: Sequence[Row],
    every: Sequence[Measured],
    results: Path,
    target: Path,
    *,
    suite: str,
    plots: Sequence[str],
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write a block's tables below target, from records in results; plots: paths below target; notes: what the tables lack."""
    block, tables = every[0].block, tables_of(rows, every, results)
    alone = [ONE_SEED] if len(every[0].curves[PRIMARY].seeds) == 1 else []
    mixed = [line for one in every for line in one.mixed]
    notes = list(dict.fromkeys([*alone, *mixed, *notes]))  # told once, also where the notes are a written comparison's
    results_said = [*sentences(rows), *gain_sentences(rows, every)]
    files: dict[str, str] = {}
    for table in tables:
        said = [*results_said, *notes] if not table.ending else [table.title + "."]
        files |= forms(table.name(block.name), said, table.words, table.numbers)
    facts = {
        "name": block.name,
        "suite": suite,
        "task": block.task,
        "block": dataclasses.asdict(block),
        "declared": None if block.primary is None else dataclasses.asdict(block.primary),
        "sentences": results_said,
        "notes": notes,
        "tables": [_json(table, block.name) for table in tables if table.ending != SECONDS],
        "threads": every[0].sample["spec"]["threads"],
        "plots": sorted(path for path in plots if path.endswith(".svg")),
        "runs": list(_runs(every, results)),
    }
    files[f"{block.name}.json"] = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False, default=list) + "\n"
    return storage.replace_files(target / "tables", {file: text.encode() for file, text in files.items()})


def write_tuning(told: Sequence[Tuned], results: Path, name: str) -> list[Path]:
    """The table of what equal tuning chose and cost, if anything was tuned."""
    if not told:
        return []
    title = "Learning rate and batch by equal tuning: chosen on validation, the same trials for every arm"
    table = Table("tuning", title, tuning_table(told))
    files = forms(table.name(name), [f"{title}."], table.words)
    return storage.replace_files(results / "tables", {file: text.encode() for file, text in files.items()})


def _json(table: Table, comparison: str) -> dict[str, Any]:
    columns = [str(column) for column in table.words.columns]
    return {"name": table.name(comparison), "title": table.title, "columns": columns, "rows": table.words.to_numpy().tolist()}


def _runs(every: Sequence[Measured], results: Path) -> Sequence[Mapping[str, Any]]:
    """Where the records of the comparison lie."""
    found = []
    for one in every:
        curves = one.curves["flops"]
        for number, name in curves.names:
            for seed, record in sorted(curves.records[name].items()):
                folder = records.folder_of(results, record).relative_to(results).as_posix()
                label = one.arms[number].label
                point = name.removeprefix(label).strip(" []")
                facts = {"folder": folder, "arm": label, "point": point, "train_flops": one.train_flops}
                found.append(facts | {"seed": seed, "split": record["spec"]["infer"]["split"]})
    return found
