"""Made-up results folders for the tests of the report page: records that nobody ran, sealed like real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import records, storage
from harness.spec import SCHEMA, make_spec

HOSTILE = (
    '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2"><!-- \'`${x} $data &amp; \\ '
    "\u2028\u2029\u202eabc\u2066\x00\x07\x1b[31m\x7f\x85\u200f\ufeff\u05d0\u05d1\U000e0041"
)
FLOPS = {"prefill": 1000, "think": 0, "answer": 234, "score": 0, "verify": 0}
TREE = {
    "parent": [None, 0, 0, 2, 3], "said": ["", "left " + HOSTILE, "a", "b", "c"], "nats": [0.0, -1.0, -0.5, -0.6, -0.7],
    "tokens": [0, 4, 1, 2, 3], "value": [None, 0.25, 0.5, 0.5, 0.75], "visits": [1, 0, 1, 1, 0], "fate": [0, 1, 0, 0, 5],
    "flops": [1, 2, 3, 4, 5],
}  # fmt: skip
CANDIDATES = {
    "pool": "none", "nodes": 5, "answers": {"1": None, "4": HOSTILE}, "scores": {"1": 0.0, "4": 1.0}, "votes": {},
    "nats": {"1": -1.0, "4": -0.7}, "tokens": {"1": 4, "4": 3}, "value": {"1": 0.25, "4": 0.75},
}  # fmt: skip


def a_line(name: str, *, question: str | None = "1+1=", score: float = 1.0, difficulty: int = 1, **more: Any) -> dict[str, Any]:
    """A problem's line."""
    return {
        "id": name, "question": question, "completion": "2", "answer": "2", "key": "2", "score": score, "difficulty": difficulty,
        "weight": 1.0, "flops": FLOPS, "serial_passes": 2.0, "text_tokens": 5, "woven_tokens": 0, "kv_bytes": 4096, "stop": "end",
        "access": "none", "notes": {}, "nats": 0.5, "targets": 2, "candidates": None,
    } | more  # fmt: skip


def a_trace(name: str, tokens: list[int | None], *, kind: str = "", rows: list[int] | None = None, tree: Any = None) -> Any:
    """A trace of one row unless others are named: two cells of prompt, the others of answer."""
    n, row = len(tokens), rows or [0] * len(tokens)
    index = [row[:at].count(r) + (2 if r else 0) for at, r in enumerate(row)]
    return {"id": name, "t": tokens, "kind": kind or "x" * n, "place": index, "role": ("pp" + "a" * n)[:n],
            "read": ("01" + "1" * n)[:n], "class": ("pp" + "a" * n)[:n], "index": index, "row": row, "tree": tree}  # fmt: skip


def a_run(
    results: Path, lines: Sequence[Any], traces: Sequence[Any] = (), attention: Sequence[Any] = (), *, strategy: str = "direct",
    seed: int = 0, task: str = "arithmetic", **settings: Any,
) -> str:  # fmt: skip
    """A sealed record of made-up lines; its folder's name on the page."""
    spec = make_spec(strategy=strategy, task=task, settings={k.replace("__", "."): v for k, v in settings.items()}, seed=seed)
    folder = records.run_folder(results, spec)
    files = {"problems.jsonl": lines, "traces.jsonl": traces, "attention.jsonl": attention}
    coded = {name: "".join(json.dumps(x) + "\n" for x in content).encode() for name, content in files.items() if content}
    storage.replace_files(folder, coded)
    record = {"schema": SCHEMA, "complete": True, "command": "run " + HOSTILE, "spec": spec.to_json(), "seed": seed,
              "fingerprint": spec.fingerprint(), "learner": spec.learner_fingerprint(), "threads": 1,
              "train": {"target_flops": 1e10}, "infer": {}, "metrics": {}, "by_difficulty": []}  # fmt: skip
    records.write_json(folder / "run.json", records.sealed(record, folder, tuple(files)))
    return folder.relative_to(results).as_posix()


def a_comparison(results: Path, runs: list[dict[str, Any]], *, name: str = "made", **more: Any) -> None:
    """A comparison's file, in the form that tables are written in."""
    table = {"name": name, "title": "Results", "columns": ["arm", "score [95%]", "FLOPs", "seeds"], "rows": [
        ["first arm", "45.1% [44.0, 46.2]", "1.25e+10", "8"], ["second arm", "9.7% [9.0, 10.1]", "3e+09", "10"],
        [HOSTILE, "100.0%", "1,661", "2"], ["fourth", "-", "infeasible", "-"]]}  # fmt: skip
    content = {"name": name, "suite": "s", "task": "arithmetic", "block": {"task": HOSTILE}, "notes": [HOSTILE], "plots": [],
               "declared": {"train_flops": 1e10, "margin": 0.02, "expected": HOSTILE}, "sentences": [f"It is so: {HOSTILE}"],
               "tables": [table], "runs": runs}  # fmt: skip
    storage.replace_files(results / "tables", {f"{name}.json": json.dumps(content | more).encode()})


def an_entry(folder: str, arm: str, *, train_flops: float = 1e10, seed: int = 0) -> dict[str, Any]:
    return {"folder": folder, "arm": arm, "point": arm, "train_flops": train_flops, "seed": seed, "split": "test"}


def a_results(results: Path) -> None:
    """Three runs of one comparison, one with a tree; a run of documents beside it; a picture that would run a script."""
    names = ["a", "b", "c"]
    lines = [
        a_line("a", question=HOSTILE, answer=HOSTILE),
        a_line("b", score=0.0, difficulty=2),
        a_line("c", question="x" * 20_000),
    ]
    traces = [a_trace("a", [60, 47, None, 257, 226, 10], kind="xxtsxx"), a_trace("b", [49, 43]), a_trace("c", [49] * 2500)]
    attention = [{"id": "a", "received": [0.25, 0.0625, 0.01, None, 0.0, None]}, *({"id": x, "received": None} for x in "bc")]
    first = a_run(results, lines, traces, attention, model__alphabet="bytes")
    forked = [a_trace(name, [49, 43, 50, 51, 52, 53], rows=[0, 0, 0, 1, 0, 1], tree=TREE) for name in names]
    second = a_run(
        results, [a_line(x, candidates=CANDIDATES) for x in names], forked, strategy="beam_search", model__alphabet="bytes"
    )
    third = a_run(results, [a_line("a")], strategy="reasoning_tokens", seed=1)
    document = a_line("page", question=None, answer=None, key=None, completion=None, score=2.5)
    a_run(results, [document], [a_trace("page", [72, 105])], task="language_model")
    picture = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>parent.hacked=3</script></svg>'
    storage.replace_files(results / "plots", {"p.svg": picture})
    runs = [an_entry(first, HOSTILE), an_entry(second, "second arm"), an_entry(third, "third", train_flops=3e10, seed=1)]
    a_comparison(results, runs, plots=["plots/p.svg"])
