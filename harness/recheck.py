"""Records held against themselves, without a model: is run.json what its lines come to, and a line what its trace comes to?

Metrics, costs, access and search are computed once more from problems.jsonl and must be equal. FLOPs, tokens and other habits of
counting are counted once more from each kept trace's cells by the formulas of `harness.meter`. Answers are graded once more by
their task (`harness.regrade`). Runs of one learner must have asked the same weights (`harness.trainings`). What cannot be checked
is named as left out. Knows records, formulas and shapes; runs nothing, and cannot tell whether an answer was ever given: see
`harness.merging.audit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import records, summary, trainings
from harness.lines import CLASS_LETTERS
from harness.meter import CLASSES, Price, gpt2_price, other_conventions
from harness.plugin_spec import plugin_from_json
from harness.records import Record
from harness.regrade import Regrader
from harness.settings import build
from harness.spec import ModelSpec
from harness.strategy import Strategy

Line = dict[str, Any]
TRACES = "traces.jsonl"
VALUED = "values"  # the note of all that a value model gave
WOVEN = "tp"  # kinds: thoughts and pauses
LETTERS = {letter: at for at, letter in enumerate(CLASS_LETTERS)}
UNCOUNTED = ("unit_flops",)  # of infer: told by the task, not by lines
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Recheck:
    """What came of one record. problems: what is wrong; left_out: what could not be told.

    traced: how many problems were recounted; graded, ungraded: how many were graded again by their task, and how many were not.
    training: the learner, its seed and the weights that the run asked.
    """

    problems: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    traced: int = 0
    graded: int = 0
    ungraded: int = 0
    training: tuple[str, int, str] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all records of a results folder, by the run's path. spoilt: runs whose record cannot be trusted at all.

    mixed: a line for each learner of which several trainings were asked.
    """

    checked: dict[str, Recheck]
    spoilt: dict[str, str]
    mixed: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return not self.spoilt and not self.mixed and not any(one.problems for one in self.checked.values())


@dataclass(frozen=True, slots=True)
class Shape:
    """What prices a cell: all its passes, outputs of a head; FLOPs of a value model's state; parts that may run."""

    price: Price
    outputs: int
    value_flops: int
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What a trace tells of a problem: FLOPs, cells and reads by class (5,), tokens, FLOPs by other habits without parts."""

    flops: NDArray[np.int64]
    cells: NDArray[np.int64]
    reads: NDArray[np.int64]
    tokens: tuple[int, int]
    beyond: int  # what whole squares would cost more
    heads: int


def check_records(results: Path, *, report: Callable[[str], None] | None = None, trust_plugins: bool = False) -> Report:
    """Recheck all complete runs of a results folder; spoilt ones are named and not looked into.

    trust_plugins: whether code to which only a record points may be run, for what needs it.
    """
    checked, spoilt, regrader = {}, {}, Regrader(trust_plugins=trust_plugins)
    for folder in records.run_folders(results):
        name = folder.relative_to(results).as_posix()
        try:
            record = records.check_place(records.read_run(folder), folder)
            checked[name] = _recheck(record, folder, regrader, trust_plugins)
        except ValueError as error:
            spoilt[name] = str(error)
        if report is not None:
            report(name)
    return Report(checked, spoilt, tuple(trainings.mixed(_by_training(checked))))


def _by_training(checked: Mapping[str, Recheck]) -> trainings.Named:
    """Names of runs by what they asked."""
    asked = [(name, one.training) for name, one in checked.items() if one.training is not None]
    return trainings.named((name, *training) for name, training in asked)


def check_record(folder: Path) -> list[str]:
    """All that is wrong with a record; a spoilt one has that as its only problem."""
    try:
        return list(recheck(folder).problems)
    except ValueError as error:
        return [str(error)]


def recheck(folder: Path, *, regrader: Regrader | None = None, trust_plugins: bool = False) -> Recheck:
    """Hold one record against its lines and traces, its task, and the weights that lie there. ValueError if it is spoilt.

    regrader: keeps what records share.
    """
    return _recheck(records.read_run(folder), folder, regrader, trust_plugins)


def _recheck(record: Record, folder: Path, regrader: Regrader | None, trust_plugins: bool) -> Recheck:
    """Hold a record that was read from its folder against all that lies there."""
    lines, traces = _lines(folder, "problems.jsonl"), _lines(folder, TRACES)
    try:
        problems = list(_summarised(record, lines))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        problems = [f"problems.jsonl cannot be summed up: {type(error).__name__}: {error}"]
    try:
        found, left_out, traced = _traced(record, lines, traces, trust_plugins)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        found, left_out, traced = [f"{TRACES} cannot be counted: {type(error).__name__}: {error}"], [], 0
    again = (regrader or Regrader(trust_plugins=trust_plugins)).regrade(record, lines)
    asked, other = trainings.training_of(record), trainings.other_weights(record, folder)
    return Recheck(
        problems=(*problems, *found, *_first(again.problems), *([other] if other else [])),
        left_out=(*_taken(record), *left_out, *again.left_out),
        traced=traced,
        graded=again.graded,
        ungraded=again.ungraded,
        training=None if asked is None else (record["learner"], record["seed"], asked),
    )


def _first(wrong: Sequence[str]) -> list[str]:
    """The first problems of a kind, and how many more there are."""
    more = [f"{len(wrong) - SHOWN:,} more of the kind"] if len(wrong) > SHOWN else []
    return [*wrong[:SHOWN], *more]


def _taken(record: Record) -> list[str]:
    """Metrics of the task's own that are no means of what lines hold: they stand as they are."""
    theirs = [name for name, one in record["metrics"].items() if one.get("aggregation", "mean") != "mean"]
    return [f"metrics that only their task can put together were not recomputed: {', '.join(theirs)}"] if theirs else []


def _lines(folder: Path, name: str) -> list[Line]:
    """Lines of a file; ValueError if they are none."""
    try:
        return records.read_lines(folder, name)
    except ValueError as error:
        raise ValueError(
            f"{folder / name} is no file of JSON lines ({error}); restore it, or use --again to make it anew"
        ) from None


def _summarised(record: Record, lines: Sequence[Line]) -> Iterator[str]:
    """Where run.json is not what its lines come to."""
    kind, outputs, theirs = summary.kind_of(lines[0]), record["model"]["outputs"], record["metrics"]
    again: Line = {
        "metrics": summary.metrics(lines, kind=kind, outputs=outputs, theirs=theirs),
        "by_difficulty": summary.by_difficulty(lines, kind=kind, outputs=outputs, theirs=theirs),
        "infer": summary.infer(lines),
        "search": summary.search(lines),
        "access": summary.access(lines),
    }
    if "truncated_prompts" in record:
        again["truncated_prompts"] = summary.truncated_prompts(lines)
    recorded = {name: record[name] for name in again}
    recorded["infer"] = {key: value for key, value in record["infer"].items() if key not in UNCOUNTED}
    yield from _differences("", recorded, again)


def _differences(path: str, recorded: Any, again: Any) -> Iterator[str]:
    """Every number that differs, by its path."""
    if isinstance(recorded, dict) and isinstance(again, dict):
        for key in recorded | again:
            yield from _differences(f"{path}.{key}".lstrip("."), recorded.get(key), again.get(key))
    elif isinstance(recorded, list) and isinstance(again, list) and len(recorded) == len(again):
        for at, (one, other) in enumerate(zip(recorded, again, strict=True)):
            yield from _differences(f"{path}[{at}]", one, other)
    elif recorded != again:
        yield f"{path}: run.json has {_short(recorded)}, its lines give {_short(again)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + ".."


def _traced(
    record: Record, lines: Sequence[Line], traces: Sequence[Line], trust_plugins: bool
) -> tuple[list[str], list[str], int]:
    """What is wrong with lines by their traces, what was left out, and how many were recounted."""
    if not traces:
        return [], ["no traces are kept here: FLOPs of problems were not recounted"], 0
    ids = [line["id"] for line in lines[: len(traces)]]
    if ids != [trace["id"] for trace in traces]:
        return [f"{TRACES} is not of the first problems of problems.jsonl"], [], 0
    try:
        shape = shape_of(record, trust_plugins=trust_plugins)
    except ValueError as error:
        return [], [f"FLOPs of problems were not recounted: {error}"], 0
    pairs = [
        (line, count(trace, shape, documents=summary.kind_of(line) != "questions"))
        for line, trace in zip(lines, traces, strict=False)
    ]
    each, left_out = _price(pairs, shape)
    wrong = [word for line, counted in pairs for word in _line_differences(line, counted, each, shape)]
    return _first(wrong), left_out, len(pairs)


def shape_of(record: Record, *, trust_plugins: bool = False) -> Shape:
    """What a run's cells cost: by its spec; of a pretrained model by what the record says of it. ValueError if it does not."""
    spec, model = record["spec"], record["model"]
    strategy: Strategy = plugin_from_json("strategy", spec["strategy"], prefix="strategy", trust_plugins=trust_plugins)
    own = build(ModelSpec, spec["model"], prefix="model")
    if own.path is None:
        layers, width, _, _ = own.shape
        price = gpt2_price(layers=layers, width=width)
    elif "price" in model:
        price = Price(**model["price"])
    else:
        raise ValueError(f"the model's shape stands in {own.path}, not in the record")
    wanted = strategy.value_spec()
    value_flops = 0 if wanted is None else 2 * wanted.hidden * (price.width + 1)
    parts = tuple(name for name, times in strategy.part_uses(price.layers).items() if any(times))
    return Shape(price.times(strategy.passes()), model["outputs"], value_flops, parts)


def count(trace: Line, shape: Shape, *, documents: bool = False) -> Count:
    """Count a trace's cells. documents: its windows stand one behind another, each a sequence of its own."""
    index = np.array(trace["index"], dtype=np.int64)
    read = np.array([mark == "1" for mark in trace["read"]], dtype=np.int64)
    row = np.array(trace["row"], dtype=np.int64)
    classes = np.array([LETTERS[letter] for letter in trace["class"]], dtype=np.int64)
    if documents:
        row += np.cumsum((index == 0) & (row == 0)) * (row.max(initial=0) + 1)
    each = shape.price.blocks(index + 1) + shape.price.head(shape.outputs) * read
    by_class = [classes == at for at in range(len(CLASSES))]
    flops, cells, reads = (np.array([int(x[mask].sum()) for mask in by_class]) for x in (each, np.ones_like(read), read))
    woven = sum(trace["kind"].count(kind) for kind in WOVEN)
    other = other_conventions(0, index=index, row=row, read=read, price=shape.price, outputs=shape.outputs)
    return Count(flops, cells, reads, (len(index) - woven, woven), other["quadratic"], -other["non_embedding"])


def _booked(line: Line) -> NDArray[np.int64]:
    return np.array([line["flops"][name] for name in CLASSES], dtype=np.int64)


def _base(line: Line, counted: Count, shape: Shape) -> NDArray[np.int64]:
    """FLOPs by class without parts."""
    flops = counted.flops.copy()
    flops[CLASSES.index("verify")] += len(line["notes"].get(VALUED, ())) * shape.value_flops
    return flops


def _price(pairs: Sequence[tuple[Line, Count]], shape: Shape) -> tuple[tuple[int, int], list[str]]:
    """FLOPs of parts for a cell and for a read: their sizes are not in a record, but all problems must pay the same."""
    if not shape.parts:
        return (0, 0), []
    bids: Counter[tuple[int, int]] = Counter({(0, 0): 0})
    for line, counted in pairs:
        bids.update(_bids(np.stack([counted.cells, counted.reads], 1), _booked(line) - _base(line, counted, shape)))
    price = max(bids, key=lambda bid: (sum(_pays(bid, line, counted, shape) for line, counted in pairs), bid == (0, 0)))
    if price == (0, 0):
        return price, []
    words = f"{price[0]:,} FLOPs a cell and {price[1]:,} a read, which most problems paid"
    return price, [f"sizes of parts ({', '.join(shape.parts)}) are not in the record; taken to cost {words}"]


def _bids(weights: NDArray[np.int64], rest: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Prices (a cell, a read) that explain one problem: of both, of cells alone, of reads alone."""
    for columns in ((0, 1), (0,), (1,)):
        used = weights[:, columns].astype(np.float64)
        if np.linalg.matrix_rank(used) < len(columns):
            continue
        price = np.zeros(2, dtype=np.int64)
        price[list(columns)] = np.rint(np.linalg.lstsq(used, rest.astype(np.float64), rcond=None)[0]).astype(np.int64)
        if (price >= 0).all() and (weights @ price == rest).all():
            yield int(price[0]), int(price[1])


def _pays(price: tuple[int, int], line: Line, counted: Count, shape: Shape) -> bool:
    """Whether a problem's FLOPs are what its trace comes to at this price."""
    return bool((_base(line, counted, shape) + counted.cells * price[0] + counted.reads * price[1] == _booked(line)).all())


def _line_differences(line: Line, counted: Count, each: tuple[int, int], shape: Shape) -> Iterator[str]:
    """Where a line says other than its trace."""
    flops = _base(line, counted, shape) + counted.cells * each[0] + counted.reads * each[1]
    total = int(flops.sum())
    again: Mapping[str, Any] = {
        "flops": dict(zip(CLASSES, flops.tolist(), strict=True)),
        "text_tokens": counted.tokens[0],
        "woven_tokens": counted.tokens[1],
        "conventions": {"quadratic": total + counted.beyond, "non_embedding": total - counted.heads},
    }
    for name, value in again.items():
        if line[name] != value:
            yield f"problem {line['id']!r}: {name}: its line has {line[name]}, its trace gives {value}"
