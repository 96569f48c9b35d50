"""`harness bench`: our speed against peers and against ourselves, as ratios that were measured in one run.

Every contender is first checked to give the same losses or the same tokens; then the contenders take turns, round by round, and
a ratio is the median over rounds of one round's ratio, so that a machine whose speed drifts does not matter. Seconds are CPU
seconds of this process, since others may be at work beside it; they mean nothing on another machine. Knows workloads and
targets; the peers are in `harness.bench_peers`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from harness import bench_peers as peers
from harness.bench_engines import engine_measures
from harness.bench_gpu import gpu_measures
from harness.bench_lm_eval import lm_eval_measures
from harness.bench_ours import Ours, learner, posed, solve
from harness.bench_ranks import rank_measures
from harness.bench_scale import scale_measures
from harness.bench_search import PROBLEMS, Searched, searches
from harness.bench_startup import startup_measures
from harness.bench_turns import line_of, medians, over, result, same, seconds_of, turns
from harness.problem import Completion, Problem
from harness.session import Job, Session
from harness.wants import Generate, Solver

Report = Callable[[str], None]
# What `only` picks from.
NAMES = ("train", "shield", "decode", "thoughts", "search", "lm_eval", "engines", "ranks", "scale", "gpu", "startup")
WORKLOADS = ("arithmetic", "language_model")
STOCK_TARGETS = {"xs": 1.3, "s": 1.2, "m": 1.2}  # times the text tokens a second of transformers.Trainer
TWIN_TARGETS = {"xs": 1.0, "s": 1.0, "m": 1.0}  # of the nanoGPT-like twin
BATCH_TARGET, ALONE_TARGET = 2.0, 3.0  # times the tokens a second of `generate`
SHIELD_TARGET, THOUGHTS_TARGET = 1.35, 1.3  # at most
LOSS_TOLERANCE, CHECKED_UPDATES = 1e-4, 3
ROUNDS_SHARE = {"xs": 1.0, "s": 0.5, "m": 0.2}  # of the repeats, at least MIN_ROUNDS
MIN_ROUNDS, GEMM_SIDE = 3, 1024
DECODED, DECODED_ALONE, DECODE_TRAIN_FLOPS = 256, 32, 3e11
THOUGHTS_TOKENS = 10
DECODE_SETTINGS = {"task.digits": "1-9"}  # prompts of 4 to 20 tokens, answers of 1 to 10: rows finish at different times


def run_bench(*, sizes: Sequence[str], only: Sequence[str] | None, repeats: int, report: Report) -> dict[str, Any]:
    """Measure; returns {"results": [...], "passed": bool, ..}, all of it JSON values. only: some of NAMES.

    A result has name, ratio, target, passed and details; target None means that nothing is asked of it.
    """
    unknown = sorted(set(only or ()) - set(NAMES))
    if unknown:
        raise ValueError(f"--only: unknown measurement {unknown[0]!r}; legal: {', '.join(NAMES)}")
    if set(sizes) - set(STOCK_TARGETS):
        raise ValueError(f"--sizes: unknown size in {','.join(sizes)}; legal: {', '.join(STOCK_TARGETS)}")
    threads, chosen = torch.get_num_threads(), only or NAMES
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    measures: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "train": lambda: (r for size in sizes for task in WORKLOADS for r in _training(size, task, repeats)),
        "shield": lambda: _shield(repeats),
        "decode": lambda: _decoding(repeats),
        "thoughts": lambda: _thoughts(repeats),
        "search": lambda: _search(repeats),
        "lm_eval": lambda: lm_eval_measures(max(MIN_ROUNDS, repeats)),
        "engines": engine_measures,
        "ranks": rank_measures,
        "scale": scale_measures,
        "gpu": lambda: gpu_measures(max(MIN_ROUNDS, repeats)),
        "startup": startup_measures,
    }
    try:
        for name in NAMES:
            if name in chosen:
                report(f"measuring {name}")
                for one in measures[name]():
                    report(line_of(one))
                    results.append(one)
    finally:
        torch.set_num_threads(threads)
    return {"results": results, "passed": all(r["passed"] for r in results), "threads": 1, "torch": torch.__version__}


def _training(size: str, task: str, repeats: int) -> list[dict[str, Any]]:
    """Whole updates of ours, the twin and transformers.Trainer, and matrix products beside them."""
    rounds = max(MIN_ROUNDS, round(repeats * ROUNDS_SHARE[size]))
    with tempfile.TemporaryDirectory() as folder:
        ours = learner(Path(folder), strategy="direct", task=task, size=size)
        stock = peers.stock_model(ours.backbone)
        twin = peers.Twin(stock)
        total = CHECKED_UPDATES + 1 + rounds
        batches = [peers.peer_rows(ours.feed, ours.backbone, ours.alphabet, k, ours.spec.seed) for k in range(total)]
        twin_update = peers.twin_update(twin, ours.spec.train)
        square = torch.randn(GEMM_SIDE, GEMM_SIDE)
        seconds: dict[str, list[float]] = {name: [] for name in ("ours", "twin", "transformers", "gemm")}
        losses: list[list[float]] = []
        resumed = 0.0

        def compare(update: int) -> None:
            with torch.no_grad():
                rows = batches[update]
                losses.append([ours.loss(update), float(twin.loss(rows)), float(peers.stock_loss(stock, rows))])
            same(f"training losses of {task} at size {size}", losses[-1], LOSS_TOLERANCE)

        def others() -> None:
            nonlocal resumed
            seconds["transformers"].append(time.process_time() - resumed)
            done = len(seconds["ours"])
            seconds["ours"].append(seconds_of(ours.update))
            seconds["twin"].append(seconds_of(lambda: twin_update(batches[done])))
            seconds["gemm"].append(seconds_of(lambda: square @ square))
            if done + 1 <= CHECKED_UPDATES:
                compare(done + 1)
            resumed = time.process_time()

        compare(0)
        resumed = time.process_time()
        peers.train_stock(stock, batches, ours.spec.train, Path(folder), others)
    kept = {name: values[CHECKED_UPDATES + 1 :] for name, values in seconds.items()}
    flops = ours.trainer.spent.flops / ours.trainer.spent.updates
    share = flops / (2 * GEMM_SIDE**3) * over(kept, "gemm", "ours")
    tokens = ours.trainer.spent.text_tokens / ours.trainer.spent.updates
    details = medians(kept) | {
        "losses_differ_nats": max(max(x) - min(x) for x in losses),
        "text_tokens": tokens,
        "rounds": rounds,
    }
    name = f"train {size} {task}"
    return [
        result(f"{name}: over transformers.Trainer", over(kept, "transformers", "ours"), STOCK_TARGETS[size], details),
        result(f"{name}: over nanoGPT twin", over(kept, "twin", "ours"), TWIN_TARGETS[size], details),
        result(f"{name}: share of GEMM rate", share, None, details | {"flops_per_update": flops}),
    ]


def _shield(repeats: int) -> list[dict[str, Any]]:
    """Updates of reasoning_tokens with shielded pairs against the same without."""
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for task in WORKLOADS:
            plain, shielded = (
                learner(Path(folder), strategy="reasoning_tokens", task=task, size="s", settings={"strategy.horizon": h})
                for h in (1, 2)
            )
            difference = same(f"shielded and plain losses of {task}", [plain.loss(0), shielded.loss(0)], 0.0)
            seconds = turns({"shielded": shielded.update, "plain": plain.update}, max(MIN_ROUNDS, repeats // 2))
            details = medians(seconds) | {"losses_differ_nats": difference}
            results.append(
                result(
                    f"shield s {task}: over plain causal",
                    over(seconds, "shielded", "plain"),
                    SHIELD_TARGET,
                    details,
                    at_most=True,
                )
            )
    return results


def _taught(
    folder: Path, strategy: str, task: str = "arithmetic", settings: Mapping[str, Any] = MappingProxyType(DECODE_SETTINGS)
) -> Ours:
    """A learner that has learned enough for its answers to differ in length."""
    ours = learner(folder, strategy=strategy, task=task, size="s", settings=settings)
    while ours.trainer.spent.flops < DECODE_TRAIN_FLOPS:
        ours.update()
    return ours


def _decoding(repeats: int) -> list[dict[str, Any]]:
    """Greedy answers to arithmetic against `generate`, in one batch and one by one."""
    with tempfile.TemporaryDirectory() as folder:
        ours = _taught(Path(folder), "direct")
    stock, end = peers.stock_model(ours.backbone).eval(), ours.alphabet.end_id
    problems = posed(ours, DECODED)  # before the clock starts, as the peer's prompts are
    few = problems[:DECODED_ALONE]
    prompts = [ours.alphabet.encode(str(p.question.text)).tolist() for p in problems]
    cap = problems[0].question.answer_cap_tokens

    def theirs(some: Sequence[list[int]]) -> list[list[int]]:
        return peers.generate(stock, some, end_id=end, cap_tokens=cap)

    said = solve(ours, problems, DECODED)
    if said != theirs(prompts) or said[:DECODED_ALONE] != solve(ours, few, 1):
        raise RuntimeError("bench: decoding: generate and ours do not say the same tokens")
    rounds, tokens = max(MIN_ROUNDS, repeats // 2), sum(map(len, said))
    batch = turns({"ours": lambda: solve(ours, problems, DECODED), "generate": lambda: theirs(prompts)}, rounds)
    alone = {"ours": lambda: solve(ours, few, 1), "generate": lambda: [theirs([p]) for p in prompts[:DECODED_ALONE]]}
    one = turns(alone, rounds)
    details = medians(batch) | {"tokens": tokens, "tokens_differ": 0, "rounds": rounds}
    details_alone = medians(one) | {"tokens": sum(map(len, said[:DECODED_ALONE])), "tokens_differ": 0, "rounds": rounds}
    return [
        result(f"decode s batch of {DECODED}: over generate", over(batch, "generate", "ours"), BATCH_TARGET, details),
        result("decode s one by one: over generate", over(one, "generate", "ours"), ALONE_TARGET, details_alone),
    ]


def _thoughts(repeats: int) -> list[dict[str, Any]]:
    """Seconds of saying the same number of tokens at batch 1 with one thought a token, against direct."""
    with tempfile.TemporaryDirectory() as folder:
        learners = {name: _taught(Path(folder), name) for name in ("reasoning_tokens", "direct")}

    problems = {name: posed(ours, DECODED_ALONE) for name, ours in learners.items()}

    def said(name: str, rows: int) -> list[list[int]]:
        ours, some = learners[name], problems[name]
        jobs = (Job(str(i), lambda p=p: _say(ours, p)) for i, p in enumerate(some))  # type: ignore[misc]
        found = {int(o.job.name): list(o.value.ids) for o in Session(ours.backbone, rows=rows).run(jobs)}
        return [found[i] for i in range(len(some))]

    for name in learners:
        if said(name, 1) != said(name, DECODED_ALONE):
            raise RuntimeError(f"bench: {name} says other tokens alone than in company")
    calls = {name: lambda name=name: said(name, 1) for name in learners}
    seconds = turns(calls, max(MIN_ROUNDS, repeats // 2))
    details = medians(seconds) | {"tokens": DECODED_ALONE * THOUGHTS_TOKENS, "tokens_differ": 0}
    ratio = over(seconds, "reasoning_tokens", "direct")
    return [result("thoughts s one by one: over direct", ratio, THOUGHTS_TARGET, details, at_most=True)]


def _say(ours: Ours, problem: Problem) -> Solver[Completion]:
    """A fixed number of tokens after the prompt, whatever they are."""
    row = yield from ours.spec.strategy.ready(problem.question)
    completion: Completion = yield Generate(row, THOUGHTS_TOKENS, stops=())
    return completion


def _search(repeats: int) -> Iterator[dict[str, Any]]:
    """Searches over a learner that answers at once, and over one that says three worked lines first."""
    with tempfile.TemporaryDirectory() as folder:
        plain, lined = _taught(Path(folder), "direct"), _taught(Path(folder), "chain_of_thought", "countdown", {})
    direct, lines = (Searched(o.spec, o.backbone.eval(), posed(o, PROBLEMS)) for o in (plain, lined))
    yield from searches(direct, lines, max(MIN_ROUNDS, repeats // 2))
