"""How fast our model answers lm-eval's requests, against lm-eval's own `hf` on the same checkpoint, equal answers checked first.

`hf` has logits_cache=False: with it on, its likelihoods are wrong where contexts repeat.
Workloads for `harness.bench`. Knows requests and targets; imports lm-eval when it measures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.bench_turns import medians, over, result, same, turns
from harness.defaults import default
from harness.export import export_run
from harness.records import run_folder
from harness.responses import Responses
from harness.runs import run
from harness.spec import make_spec

REQUESTS, SAID_TOKENS = 500, 32
HF_BATCHES = (1, 64)  # its default, and one that suits it
TARGETS, PRETRAINED_TARGETS = (1.5, 2.0), (1.0, 1.0)  # of likelihoods, of saying
TOLERANCE_NATS = 1e-3
PRETRAINED, PRETRAINED_REQUESTS = "smollm2-135m", 24
WORDS = "the a of to and in that it was for with as his on be at by had not but from they which you were her all there"


def of_size_s(folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Of a learner of size s over bytes, hardly taught: what it says does not end early."""
    data = folder / "questions.jsonl"
    data.write_text("".join(f'{{"question": "{n}+{n}?", "answer": "{2 * n}"}}\n' for n in range(100)), encoding="utf-8")
    settings = {"model.size": "s", "task.path": str(data), "train.flops": 3e10, "infer.problems": 1}
    spec = make_spec(strategy=default("baseline"), task="file", settings=settings)
    run(spec, results=folder)
    export_run(str(run_folder(folder, spec)), folder / "exported", results=folder)
    yield from _against_hf(f"{run_folder(folder, spec)}", str(folder / "exported"), REQUESTS, rounds, "s", TARGETS)


def of_pretrained(rounds: int) -> Iterator[dict[str, Any]]:
    """Of a real pretrained model."""
    from harness.pretrained import local_path

    yield from _against_hf(PRETRAINED, str(local_path(PRETRAINED)), PRETRAINED_REQUESTS, rounds, PRETRAINED, PRETRAINED_TARGETS)


def lm_eval_measures(rounds: int) -> Iterator[dict[str, Any]]:
    """Both."""
    with tempfile.TemporaryDirectory() as folder:
        yield from of_size_s(Path(folder), rounds)
    yield from of_pretrained(max(1, rounds // 3))


def _against_hf(
    ours_name: str, theirs_name: str, count: int, rounds: int, label: str, targets: tuple[float, float]
) -> Iterator[dict[str, Any]]:
    """Both kinds of request, for each batch size of `hf`."""
    from lm_eval.models.huggingface import HFLM

    from harness.lm_eval_bridge import ThinkingLM

    models: dict[str, Any] = {"ours": ThinkingLM(ours_name, responses=False, threads=1)}
    for batch in HF_BATCHES:
        models[f"hf {batch}"] = HFLM(
            pretrained=theirs_name, logits_cache=False, batch_size=batch, device="cpu", dtype="float32"
        )  # fmt: skip
    for kind, target in (("loglikelihood", targets[0]), ("generate_until", targets[1])):
        requests = _requests(kind, count)
        call: dict[str, Callable[[], Any]] = {
            name: lambda m=model, k=kind, r=requests: _asked(m, k, r)  # type: ignore[misc]
            for name, model in models.items()
        }
        answers = {name: ask() for name, ask in call.items()}
        differ = max(_checked(kind, answers["ours"], theirs) for name, theirs in answers.items() if name != "ours")
        taken = rounds if kind == "loglikelihood" else max(1, rounds // 2)  # one by one, `hf` says 500 answers in minutes
        seconds = turns(call, taken, warm=True)
        details = medians(seconds) | {"requests": count, "differ": differ, "rounds": taken}
        for batch in HF_BATCHES:
            asked = target if batch == HF_BATCHES[0] else None  # its default; the other is its fastest here
            yield result(f"lm-eval {label} {kind}: over hf, batch {batch}", over(seconds, f"hf {batch}", "ours"), asked, details)


def _asked(lm: Any, kind: str, requests: Sequence[Any]) -> Any:
    """Answers, none of them from a round before."""
    if hasattr(lm, "responses"):
        lm.responses = Responses(None, facts={})
    return getattr(lm, kind)(list(requests), disable_tqdm=True)


def _checked(kind: str, ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """How far answers are apart: nats, or the share of texts that differ (where two tokens are as good as tied)."""
    if kind == "loglikelihood":
        return max(same("likelihoods", [a[0], b[0]], TOLERANCE_NATS) for a, b in zip(ours, theirs, strict=True))
    differ = sum(a != b for a, b in zip(ours, theirs, strict=True)) / len(ours)
    return same("texts", [0.0, differ], 0.05)


def _requests(kind: str, count: int) -> list[Any]:
    """Contexts of 8 to 30 words; continuations of one to three, or 32 tokens to be said."""
    from lm_eval.api.instance import Instance

    rng, words, made = np.random.default_rng(0), WORDS.split(), []
    for at in range(count):
        context = " ".join(rng.choice(words, int(rng.integers(8, 31))))
        said = " " + " ".join(rng.choice(words, int(rng.integers(1, 4))))
        arguments = (context, said) if kind == "loglikelihood" else (context, {"until": ["\n\n"], "max_gen_toks": SAID_TOKENS})
        made.append(Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("bench", at, 1)))
    return made
