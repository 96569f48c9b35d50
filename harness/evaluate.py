"""Every test problem or document -> one line in problems.jsonl, and the first ones' traces in traces.jsonl.

Lines stand in the problems' order; finished ones survive a crash, an unfinished problem starts again from its own seed. A trace
is written before its problem's line. Knows the session; what is asked is in `harness.examination`; knows no metrics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from harness import jsonl, records, shapes, storage
from harness.backbone import Backbone
from harness.examination import Examination, asked_problems, of_documents, of_questions, sizes_of
from harness.inquiries import of_requests
from harness.lines import Line, trace_line, written
from harness.ranks import ALONE, Ranks
from harness.reading import check_readable
from harness.session import Job, Outcome, Session
from harness.spec import RunSpec

FLUSH_LINES, FLUSH_S = 64, 30.0  # whichever comes first
STRETCH_PROBLEMS = 512  # that a rank asks before all tell each other what they have: a crash loses no more
LINES, TRACES = "problems.jsonl", "traces.jsonl"
Progress = Callable[[int, int], None]  # problems done, problems in all


def evaluate(
    spec: RunSpec,
    backbone: Backbone,
    folder: Path,
    *,
    report: Progress | None = None,
    rows: int | None = None,
    max_kv_bytes: int | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Append the lines and traces that the files in ``folder`` do not have yet.

    max_kv_bytes: the most that keys and values may take; ValueError, before anything is asked, if one problem may need more.
    ranks: the processes that share the problems; each has all lines in the end.
    """
    examination = _examination(spec, backbone, bounded=max_kv_bytes is not None)
    done = _kept(folder, examination, spec.infer.traces, shapes.LINES[spec.task.kind])
    session = Session(backbone, rows=rows, reference_layers=spec.model.reference_layers, max_kv_bytes=max_kv_bytes)
    if max_kv_bytes is not None:
        session.check_sizes(
            (job.rows, job.cells) for index in range(done, len(examination.ids)) for job in examination.jobs(index)
        )
    lines: list[str] = []
    traces: list[str] = []
    flushed_s = time.monotonic()
    for count, (line, trace) in enumerate(_shared(session, examination, done, spec.infer.traces, ranks), start=done + 1):
        lines.append(line)
        if trace is not None:
            traces.append(trace)
        late = time.monotonic() - flushed_s >= FLUSH_S
        if late or len(lines) >= FLUSH_LINES or count == len(examination.ids):
            if traces:
                storage.append(folder / TRACES, "".join(traces))
            storage.append(folder / LINES, "".join(lines))
            lines, traces, flushed_s = [], [], time.monotonic()
        if report is not None:
            report(count, len(examination.ids))


def _examination(spec: RunSpec, backbone: Backbone, *, bounded: bool) -> Examination:
    if spec.task.kind == "requests":
        return of_requests(spec, backbone, bounded=bounded)
    sizes = sizes_of(backbone, bounded=bounded)
    if spec.task.kind == "documents":
        documents = list(spec.task.documents(spec.infer.split))[: spec.infer.problems]
        return of_documents(spec, backbone, documents, sizes)
    return of_questions(spec, backbone, asked_problems(spec), sizes)


def _shared(session: Session, examination: Examination, done: int, traces: int, ranks: Ranks) -> Iterator[tuple[str, str | None]]:
    """Lines and traces as written, of problem ``done`` and those behind it, in order; each rank asks its share.

    A stretch is handed round when all of it is answered, and its problems go round by turns: the last ones may be harder.
    """

    def asked(indices: range) -> Iterator[tuple[str, str | None]]:
        for index, (line, outcomes) in zip(indices, _in_order(session, examination, indices), strict=True):
            kept = outcomes[:1] if examination.solves else outcomes
            yield written(line), written(trace_line(line["id"], kept)) if index < traces else None

    end = len(examination.ids)
    if ranks.count == 1:
        yield from asked(range(done, end))
        return
    for start in range(done, end, STRETCH_PROBLEMS * ranks.count):
        stop = min(start + STRETCH_PROBLEMS * ranks.count, end)
        every = ranks.gathered(list(asked(range(start + ranks.rank, stop, ranks.count))))
        for at in range(stop - start):
            yield every[at % ranks.count][at // ranks.count]


def _in_order(session: Session, examination: Examination, indices: range) -> Iterator[tuple[Line, list[Outcome]]]:
    """Lines, and what they are made of, of some problems in order, whatever order they finish in."""
    held: dict[int, dict[int, Outcome]] = {}
    wanted: dict[int, int] = {}
    following = indices.start

    def jobs() -> Iterable[Job]:
        for index in indices:
            made = examination.jobs(index)
            wanted[index], held[index] = len(made), {}
            yield from made

    def whole() -> bool:
        return following in held and len(held[following]) == wanted[following]

    for outcome in session.run(jobs()):
        index, part = (int(x) for x in outcome.job.name.split("/"))
        held[index][part] = outcome
        while whole():
            parts = held.pop(following)
            yield _made(examination, following, parts)
            following += indices.step
    while whole():  # the last ones, if nothing had to be done for them
        yield _made(examination, following, held.pop(following))
        following += indices.step


def _made(examination: Examination, index: int, parts: Mapping[int, Outcome]) -> tuple[Line, list[Outcome]]:
    outcomes = [parts[part] for part in range(len(parts))]
    return examination.line(index, outcomes), outcomes


def _kept(folder: Path, examination: Examination, traces: int, shape: type[shapes.Line]) -> int:
    """Count the problems that are done, and cut off the rest of the files: a torn or spoilt line and those behind it."""
    kept = {name: _whole_lines(folder / name, examination.ids, kind) for name, kind in ((LINES, shape), (TRACES, shapes.Trace))}
    done = len(kept[LINES]) - 1
    if len(kept[TRACES]) - 1 < min(done, traces):  # traces stand in the problems' order: those behind a gap are asked again
        done = len(kept[TRACES]) - 1
    for name, count in ((LINES, done), (TRACES, min(done, traces))):
        if (folder / name).exists() and (folder / name).stat().st_size != kept[name][count]:
            storage.truncate(folder / name, kept[name][count])
    return done


def _whole_lines(path: Path, ids: Sequence[str], shape: type[shapes.Line] | type[shapes.Trace]) -> list[int]:
    """Return where the first 0, 1, 2, .. whole lines of these problems end. ValueError for a file that cannot be read."""
    check_readable(path)
    ends, decoder = [0], msgspec.json.Decoder(shape)
    for raw, name in zip(jsonl.whole_lines_of(path), ids, strict=False):
        try:
            line = records.shaped(raw, decoder, str(path))
        except ValueError:
            break
        if line.id != name:
            break
        ends.append(ends[-1] + len(raw) + 1)
    return ends
