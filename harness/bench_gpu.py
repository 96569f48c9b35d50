"""What one GPU does: updates against a nanoGPT-like twin, shields against none, answers against `generate`, rows side by side.

Wall seconds, since a GPU works while this process waits; equal losses or answers are checked first. Yields nothing where torch
sees no GPU, and asks for no ratio. A workload for `harness.bench`; knows no CPU's numbers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness import bench_peers as peers
from harness.bench_ours import Ours, learner, posed, solve
from harness.bench_turns import medians, over, result, same, turns
from harness.bounds import CPU, bounds_of
from harness.precision import casting, multiplying
from harness.problem import Problem

SIZE, WINDOWS, WINDOW_TOKENS = "gpt2", 16, 512
PRECISIONS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2}  # and how far contenders' losses may lie apart, in nats
TAUGHT_UPDATES = 200  # before answers are compared, so that few of their tokens are nearly tied
ASKED, SAME_SHARE = 512, 0.98


def gpu_measures(rounds: int) -> Iterator[dict[str, Any]]:
    """Results; rounds: of each pair of contenders."""
    if not torch.cuda.is_available():
        return
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            yield from _updates(Path(folder), precision, rounds)
        yield from _answers(Path(folder), rounds)


def _clock() -> float:
    """Wall seconds, when the GPU has done all that it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def _learner(folder: Path, strategy: str, precision: str, **settings: Any) -> Ours:
    wanted = {"train.problems_per_update": WINDOWS, "train.precision": precision, "task.window_tokens": WINDOW_TOKENS}
    named = {f"strategy.{name}": value for name, value in settings.items()}
    return learner(folder, strategy=strategy, task="language_model", size=SIZE, settings=wanted | named, device="cuda")


def _updates(folder: Path, precision: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Whole updates in one precision."""
    ours, plain = _learner(folder, "direct", precision), _learner(folder, "reasoning_tokens", precision, horizon=1)
    shielded = _learner(folder, "reasoning_tokens", precision, horizon=3)
    twin = peers.Twin(peers.stock_model(ours.backbone)).to(ours.backbone.device)
    rows = peers.peer_rows(ours.feed, ours.backbone, ours.alphabet, 0, ours.spec.seed)
    with multiplying(precision):
        with torch.no_grad(), casting(precision, ours.backbone.device):
            peer_nats = float(twin.loss(rows))
        same(f"losses on a GPU in {precision}", [ours.loss(0), peer_nats], PRECISIONS[precision])
        same(f"shielded and plain losses on a GPU in {precision}", [plain.loss(0), shielded.loss(0)], PRECISIONS[precision])
        step = peers.twin_update(twin, ours.spec.train)

        def peer() -> None:
            with casting(precision, ours.backbone.device):
                step(rows)

        calls: dict[str, Callable[[], None]] = {"twin": peer, "ours": ours.update}
        calls |= {"shielded": shielded.update, "plain": plain.update}
        seconds = turns(calls, rounds, clock=_clock)
    median = medians(seconds)
    spent = {"ours": ours.trainer.spent, "shielded": shielded.trainer.spent}
    rates = {f"{name}_flops_per_s": s.flops / s.updates / median[f"{name}_s"] for name, s in spent.items()}
    details = {**median, **rates, "device": torch.cuda.get_device_name()}
    yield result(f"gpu train {SIZE} {precision}: over twin", over(seconds, "twin", "ours"), None, details)
    yield result(f"gpu shield {SIZE} {precision}: over plain", over(seconds, "shielded", "plain"), None, details)


def _answers(folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Greedy answers: ours against `generate`, and as many rows as suit the GPU against as many as suit a CPU."""
    settings = {"task.digits": "1-9"}
    ours = learner(folder, strategy="direct", task="arithmetic", size="m", settings=settings, device="cuda")
    for _ in range(TAUGHT_UPDATES):
        ours.update()
    ours.backbone.eval()
    problems, end = posed(ours, ASKED), ours.alphabet.end_id
    stock = peers.stock_model(ours.backbone).to(ours.backbone.device).eval()
    prompts = [ours.alphabet.encode(str(p.question.text)).tolist() for p in problems]
    cap, most = problems[0].question.answer_cap_tokens, bounds_of(ours.backbone.device).rows

    def theirs() -> list[list[int]]:
        return peers.generate(stock, prompts, end_id=end, cap_tokens=cap)

    share = _agreement(solve(ours, problems, most), theirs())
    seconds = turns({"ours": lambda: solve(ours, problems, most), "generate": theirs}, rounds, clock=_clock)
    details = medians(seconds) | {"answers_agree": share}
    yield result(f"gpu decode m batch of {ASKED}: over generate", over(seconds, "generate", "ours"), None, details)
    yield _rows(ours, posed(ours, 4 * ASKED), most, rounds)


def _rows(ours: Ours, problems: Sequence[Problem], most: int, rounds: int) -> dict[str, Any]:
    """More rows side by side."""
    share = _agreement(solve(ours, problems, most), solve(ours, problems, CPU.rows))
    counts = {"few": CPU.rows, "many": most}
    calls = {name: lambda n=n: solve(ours, problems, n) for name, n in counts.items()}
    seconds = turns(calls, rounds, clock=_clock)
    details = medians(seconds) | {"answers_agree": share}
    return result(f"gpu rows m {most}: over {CPU.rows}", over(seconds, "few", "many"), None, details)


def _agreement(ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> float:
    """The share of equal answers; an error where rounding alone cannot be why others differ."""
    share = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)
    if share < SAME_SHARE:
        raise RuntimeError(f"bench: on the GPU only {share:.0%} of the answers are the same")
    return share
