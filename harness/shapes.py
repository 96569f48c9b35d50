"""The shapes of records: which keys readers rely on, and what kinds of values these have. Knows no files and no meaning.

A record may have more keys than are named here, and those that have a default may be missing: older records lack them.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

Shape = TypeVar("Shape", bound=msgspec.Struct)


class _Plugin(msgspec.Struct):
    name: str


class _Asking(msgspec.Struct):
    split: str


class _Spec(msgspec.Struct):
    strategy: _Plugin
    task: _Plugin
    infer: _Asking


class Run(msgspec.Struct):
    """A run.json, as far as its runs are listed, packed and shown."""

    command: str
    spec: _Spec
    fingerprint: str
    learner: str
    seed: int
    threads: int
    train: dict[str, Any]
    infer: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    by_difficulty: list[dict[str, Any]]
    value: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}


class _Total(msgspec.Struct):
    total: float


class _AskedFor(msgspec.Struct):
    flops_per_problem: _Total


class _Spent(msgspec.Struct):
    spent_flops: float


class _Metric(msgspec.Struct):
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    n: int


class Listed(msgspec.Struct):
    """The numbers of a run.json that a list of runs shows."""

    metrics: dict[str, _Metric]
    train: _Spent
    infer: _AskedFor


class _Train(msgspec.Struct):
    spent_flops: float
    updates: int
    examples: int
    epochs: float | None
    target_flops: float | None = None
    supervised_tokens: float | None = None
    pretraining: _Train | None = None


class _Flops(msgspec.Struct):
    total: float
    prefill: float
    think: float
    answer: float
    score: float
    verify: float
    p50: float | None = None
    p95: float | None = None
    quadratic: float | None = None
    non_embedding: float | None = None


class _Infer(msgspec.Struct):
    problems: int
    flops_per_problem: _Flops
    serial_passes_per_problem: float
    text_tokens_per_problem: float
    woven_tokens_per_problem: float
    peak_kv_bytes: float | None = None
    unit_flops: float | None = None


class _Difficulty(msgspec.Struct):
    difficulty: int | float | str | None
    headline: bool
    metrics: dict[str, _Metric]


class _Search(msgspec.Struct):
    coverage: _Metric | None = None
    selected: float | None = None
    gap: float | None = None
    pool: list[dict[str, Any]] | None = None


class _Model(msgspec.Struct):
    weights_sha256: str


class Measured(msgspec.Struct):
    """The numbers of a run.json from which tables are made."""

    train: _Train
    infer: _Infer
    metrics: dict[str, _Metric]
    by_difficulty: list[_Difficulty]
    model: _Model
    search: _Search | None = None
    access: str = "none"


class Learner(msgspec.Struct):
    """A learner.json."""

    learner: str
    seed: int
    weights_sha256: str
    parameters: int
    train: _Train


class _Flopses(msgspec.Struct):
    rollouts: float
    fitting: float
    check: float


class _Calibration(msgspec.Struct):
    brier: float | None
    brier_of_constant: float | None


class Value(msgspec.Struct):
    """A value.json."""

    fingerprint: str
    seed: int
    flops: _Flopses
    ratio: float | None
    states: int
    calibration: _Calibration


class Timing(msgspec.Struct):
    """A timing.json."""

    train_s: float | None = None
    evaluate_s: float | None = None
    seconds_per_problem: float | None = None
    bit_stable: bool | None = None
    finished: str | None = None
    device: str | None = None


class _Classes(msgspec.Struct):
    prefill: float
    think: float
    answer: float
    score: float
    verify: float


class _Conventions(msgspec.Struct):
    quadratic: float
    non_embedding: float


class _Ended(msgspec.Struct):
    pool: str
    nodes: float
    answers: dict[str, str | None]
    scores: dict[str, float]
    votes: dict[str, str]
    nats: dict[str, float]
    tokens: dict[str, float]
    value: dict[str, float | None] | None


class Line(msgspec.Struct):
    """A line of problems.jsonl, as far as a run.json is summed up from it."""

    id: str
    key: Any
    difficulty: int | float | str
    weight: float
    score: float
    flops: _Classes
    conventions: _Conventions
    serial_passes: float
    text_tokens: float
    woven_tokens: float
    kv_bytes: float
    access: Literal["none", "checker", "oracle"]
    notes: dict[str, list[Any]]
    nats: float | None
    targets: float
    candidates: _Ended | None


class DocumentLine(Line, kw_only=True):
    """The line of a document."""

    bytes: int


class InquiryLine(Line, kw_only=True):
    """The line of an inquiry, whose answers are metrics of its own task."""

    scored: str | None
    metrics: dict[str, Any]
    responses: list[Any]


LINES: dict[str, type[Line]] = {"questions": Line, "documents": DocumentLine, "requests": InquiryLine}  # by kind of task


class Trace(msgspec.Struct):
    """A line of traces.jsonl."""

    id: str
    t: list[int | None]
    kind: str
    place: list[int]
    role: str
    read: str
    charge: str = msgspec.field(name="class")
    index: list[int]
    row: list[int]
    tree: dict[str, Any] | None


class _Spending(msgspec.Struct, forbid_unknown_fields=True):
    updates: int
    flops: int
    examples: int
    text_tokens: int
    woven_tokens: int
    supervised_tokens: int
    stage: int


class Checkpoint(msgspec.Struct):
    """The facts of a checkpoint.safetensors."""

    owner: str
    spent: _Spending
    log_bytes: int


class Response(msgspec.Struct):
    """A line of a file of responses, but for the first."""

    request: str
    arguments: list[str]


def check(value: object, shape: type[Shape]) -> None:
    """Raise a ValueError that says which part of a value has not the kind that a shape names."""
    try:
        msgspec.convert(value, shape)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
