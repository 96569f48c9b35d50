"""The report page: results/index.html, whole in itself, and results/page/*.js, which it loads when a run is looked at.

Knows the files of comparisons (results/tables/NAME.json) and which runs there are; judges nothing, and loads no model. The same
records give the same bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from harness import records, registry, storage
from harness.page_data import SHOWN_PROBLEMS, as_script, script_of, untold
from harness.page_html import Plots, anchor, comparison_html, own, safe
from harness.reading import read_json
from harness.records import Record

Data = dict[str, Any]
PARTS = Path(__file__).parent / "page"
SCRIPTS = ("common.js", "tables.js", "trace.js", "tree.js", "problem.js", "browser.js")
INDEX, FOLDER = "index.html", "page"
SHAPE: dict[str, type] = {"name": str, "suite": str, "task": str, "block": dict, "sentences": list, "notes": list,
         "tables": list, "plots": list, "runs": list}  # fmt: skip
RUN_SHAPE = {"folder": str, "arm": str, "point": str, "train_flops": int | float, "seed": int}
LEFT = "runs of no comparison"


@dataclass(frozen=True, slots=True)
class Report:
    """What was written. left_out: what could not be read, and why."""

    index: Path
    comparisons: int
    runs: int
    left_out: tuple[str, ...]


def write_report(
    results: Path,
    *,
    seeds: Collection[int] | None = None,
    problems: int = SHOWN_PROBLEMS,
    trust_plugins: bool = False,
    target: Path | None = None,
) -> Report:
    """Write the page of a results folder; ValueError if nothing lies there. target: the folder for the page, if not the same.

    seeds: of which runs single problems can be looked at, None for all; problems: how many of each run at most. trust_plugins:
    whether code to which only a record points may be run, to spell its tokens.
    """
    target = target or results
    comparisons, spoilt = _comparisons(results)
    runs = {folder.relative_to(results).as_posix(): folder for folder in records.run_folders(results)}
    if not comparisons and not runs and not spoilt:
        raise ValueError(
            f"--results: {results} holds no runs and no comparisons to report; make some first: "
            f"python -m harness compare --suite demo --results {shlex.quote(str(results))}"
        )
    for comparison in comparisons:
        comparison["runs"] = [run for run in comparison["runs"] if _chosen(run, seeds)]
    wanted = {run["folder"] for comparison in comparisons for run in comparison["runs"]}
    kept: dict[str, Data] = {}
    others: list[Data] = []
    numbered: dict[str, list[str]] = {}
    for name, (folder, record) in _read(runs, spoilt):
        if not _chosen(record, seeds):
            continue
        is_wanted = name in wanted
        if not is_wanted and record["spec"]["infer"]["split"] != "test":
            continue  # of the validation split: only what points were chosen by
        try:
            entry = None if is_wanted else _entry(name, record)
            kept[name] = _written(results, folder, record, problems, trust_plugins, target)
        except storage.Unwritable:
            raise
        except ValueError as error:
            spoilt.append(str(error))
            continue
        if not trust_plugins and (reason := untold(record)) is not None:
            numbered.setdefault(reason, []).append(name)
        if entry is not None:
            others.append(entry)
    spoilt += [f"words of tokens in {_listed(names)}, shown by their numbers: {why}" for why, names in numbered.items()]
    page = _page(results, comparisons, kept, others, spoilt, alone=target != results).encode("utf-8", "backslashreplace")
    if not _holds(target / INDEX, page):
        storage.replace_files(target, {INDEX: page})
    for path in sorted((target / FOLDER).glob("*.js")):
        if path.name not in {run["file"] for run in kept.values()}:
            storage.remove(path)
    return Report(target / INDEX, len(comparisons), len(kept), tuple(spoilt))


def _listed(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1:,} more runs" if len(names) > 1 else "")


def _chosen(run: Mapping[str, Any], seeds: Collection[int] | None) -> bool:
    """Whether a run's problems are to be on the page."""
    return seeds is None or run["seed"] in seeds


def _comparisons(results: Path) -> tuple[list[Data], list[str]]:
    """The files of comparisons, by name, and what is wrong with the others."""
    found, spoilt = [], []
    for path in sorted((results / "tables").glob("*.json")):
        try:
            found.append(_checked(read_json(path)))
        except (OSError, ValueError) as error:
            reason = str(error).removeprefix(f"{path} ")
            spoilt.append(f"{path} is no comparison ({reason}); make it again with compare")
    return found, spoilt


def _checked(content: Any) -> Data:
    """A comparison's file, if it has the shape that the page relies on."""
    _shaped(content, SHAPE, "it")
    comparison: Data = {"declared": None} | content
    declared = comparison["declared"]
    if declared is not None:
        _shaped(declared, {"train_flops": object, "margin": object, "expected": object}, "declared")
    for table in comparison["tables"]:
        _shaped(table, {"name": str, "title": str, "columns": list, "rows": list}, "a table")
        if not all(isinstance(row, list) and len(row) == len(table["columns"]) for row in table["rows"]):
            raise ValueError("a table has rows that are longer or shorter than its header")
    for run in comparison["runs"]:
        _shaped(run, RUN_SHAPE, "a run")
    if not all(isinstance(plot, str) for plot in comparison["plots"]):
        raise ValueError("plots are named by paths")
    return comparison


def _shaped(value: Any, shape: Mapping[str, Any], what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    wrong = [name for name, kind in shape.items() if name not in value or not isinstance(value[name], kind)]
    if wrong:
        raise ValueError(f"{what} lacks {', '.join(wrong)}, or has it in another form")


def _read(runs: Mapping[str, Path], spoilt: list[str]) -> Iterator[tuple[str, tuple[Path, Record]]]:
    """Records by name, one after another; what is wrong with a spoilt one is noted."""
    for name, folder in runs.items():
        try:
            record = records.check_place(records.read_run(folder), folder)
        except ValueError as error:
            spoilt.append(str(error))
            continue
        yield name, (folder, record)


def _written(results: Path, folder: Path, record: Record, problems: int, trust_plugins: bool, target: Path) -> Data:
    """Write a run's script; what the page says of the run before it is loaded."""
    script = script_of(results, folder, record, problems, trust_plugins=trust_plugins)
    name = "--".join(folder.relative_to(results).parts[1:]) + ".js"
    if not _holds(target / FOLDER / name, script):
        storage.replace_files(target / FOLDER, {name: script})
    return {"file": name}


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and holds these bytes, so that it need not be written."""
    return path.is_file() and path.read_bytes() == data


def _entry(name: str, record: Record) -> Data:
    """A run that stands in no comparison, as if it stood in one."""
    budget = record["train"].get("target_flops") or record["spec"].get("train", {}).get("flops") or 0
    if not isinstance(budget, (int, float)):
        raise ValueError(f"{name}/{records.RUN} has no number as its training budget; use --again to make it anew")
    spec = record["spec"]
    return {"task": registry.title("task", spec["task"]), "folder": name, "arm": spec["strategy"]["name"],
            "point": record["fingerprint"], "train_flops": budget, "seed": record["seed"]}  # fmt: skip


def _page(
    results: Path,
    comparisons: Sequence[Data],
    kept: Mapping[str, Data],
    others: Sequence[Data],
    spoilt: list[str],
    *,
    alone: bool,
) -> str:
    """The page's text. alone: it lies apart from the pictures, so that it holds all of them."""
    plots = Plots(results, inline=alone)
    sections = [comparison_html(one, _pictures(plots, one["plots"], spoilt)) for one in comparisons]
    for one in comparisons:
        spoilt += [
            f"{one['name']}: its run {run['folder']} is not there" for run in one["runs"] if not _is_known(run, kept, spoilt)
        ]
    contents = "".join(f'<li><a href="#{anchor(one["name"])}">{own(one["name"])}</a></li>' for one in comparisons)
    data = {"runs": kept, "comparisons": [*_browsable(comparisons, kept), *_by_task(others)]}
    scripts = "\n".join((PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return Template((PARTS / INDEX).read_text(encoding="utf-8")).substitute(
        style=(PARTS / "page.css").read_text(encoding="utf-8"),
        contents=contents,
        sections="\n".join(sections) or "<p>No comparison lies here yet: <code>python -m harness compare</code> makes one.</p>",
        spoilt=_spoilt([line.replace(f"{results}/", "") for line in spoilt]),  # wherever the folder lies
        data=as_script(data),
        script=scripts,
    )


def _is_known(run: Data, kept: Mapping[str, Data], spoilt: Sequence[str]) -> bool:
    """Whether a comparison's run is on the page, or it was told already why it is not."""
    return run["folder"] in kept or any(run["folder"] in line for line in spoilt)


def _pictures(plots: Plots, names: Sequence[str], spoilt: list[str]) -> list[str]:
    found = []
    for name in names:
        try:
            found.append(plots.html(name))
        except ValueError as error:
            spoilt.append(str(error))
    return found


def _browsable(comparisons: Sequence[Data], kept: Mapping[str, Data]) -> list[Data]:
    """What the browser of problems is told of each comparison: its runs that can be shown."""
    return [
        {"name": one["name"], "runs": [{key: run[key] for key in RUN_SHAPE} for run in one["runs"] if run["folder"] in kept]}
        for one in comparisons
    ]


def _by_task(others: Sequence[Data]) -> list[Data]:
    """The runs of no comparison, task by task."""
    tasks = sorted({run["task"] for run in others})
    return [{"name": f"{task}: {LEFT}", "runs": [_bare(run) for run in others if run["task"] == task]} for task in tasks]


def _bare(run: Data) -> Data:
    return {key: run[key] for key in RUN_SHAPE}


def _spoilt(lines: Sequence[str]) -> str:
    """What could not be read, if anything."""
    if not lines:
        return ""
    listed = "".join(f"<li>{own(line)}</li>" for line in lines)
    return f'<section class="spoilt"><h2>Left out</h2><p>{safe(len(lines))} could not be shown:</p><ul>{listed}</ul></section>'
