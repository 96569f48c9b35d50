"""What tests of lm-eval share: tiny runs of every strategy over bytes, models of lm-eval on them, and hand-made requests."""

from __future__ import annotations

import json
from pathlib import Path

from lm_eval.api.instance import Instance

from harness import records
from harness.lm_eval_bridge import ThinkingLM
from harness.runs import run
from harness.spec import make_spec

TINY = {
    "model.layers": 2,
    "model.width": 16,
    "model.heads": 2,
    "model.context_tokens": 64,
    "train.flops": 2e8,
    "infer.problems": 6,
}
WAYS = {  # every strategy at small settings, by the name that tests show
    "direct": ("direct", {}),
    "chain": ("chain_of_thought", {}),
    "forced": ("chain_of_thought", {"strategy.force_after": 3}),
    "sampled chains": ("chain_of_thought", {"strategy.samples": 2}),
    "dialogue": ("chain_of_thought", {"strategy.style": "dialogue", "model.context_tokens": 192}),
    "pauses": ("pause_tokens", {"strategy.pauses": 3}),
    "reasoning": ("reasoning_tokens", {"strategy.per_token": 2}),
    "spans": ("thinking_spans", {}),
    "looped": ("looped_depth", {"strategy.loops": 2}),
    "filler": ("filler", {}),
    "future heads": ("future_heads", {}),
    "multi-token": ("multi_token", {}),
    "votes": ("self_consistency", {"strategy.samples": 3}),
    "best of n": ("best_of_n", {"strategy.samples": 3}),
    "beam": ("beam_search", {"strategy.width": 2}),
    "beam over plain": ("beam_search", {"strategy.width": 2, "strategy.base": "direct"}),
    "sampling": ("sampling", {}),
    "first tokens": ("sampling", {"strategy.branches": 2}),
    "tree": ("tree_of_thoughts", {"strategy.branching": 2, "strategy.breadth": 2, "strategy.levels": 3}),
}
FAST = ("direct", "chain", "pauses", "reasoning", "spans", "beam")  # the others run where slow tests do
NEUTRAL = {  # settings that equal plain asking, of strategies whose learner is plain training's
    "chain_of_thought": {"strategy.steps": "none"},
    "reasoning_tokens": {"strategy.per_token": 0},
    "pause_tokens": {"strategy.pauses": 0},
    "looped_depth": {"strategy.loops": 1, "strategy.train_loops": 1},
    "beam_search": {"strategy.base": "direct", "strategy.width": 1},
    "self_consistency": {"strategy.base": "direct", "strategy.samples": 1, "strategy.temperature": 0.0},
}


def squares(folder: Path) -> Path:
    """A file of questions with worked lines, in bytes."""
    path = folder / "squares.jsonl"
    rows = [{"question": f"{n}*{n}?", "answer": str(n * n), "steps": [f"{n} times {n}", f"= {n * n}"]} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run_of(strategy: str, settings: dict, *, data: Path, results: Path) -> Path:
    """The folder of a tiny run."""
    spec = make_spec(strategy=strategy, task="file", settings=TINY | {"task.path": str(data)} | settings)
    run(spec, results=results)
    return records.run_folder(results, spec)


def model(folder: Path, **arguments: object) -> ThinkingLM:
    """lm-eval's model of a run; answers are not kept."""
    return ThinkingLM(str(folder), **({"responses": False} | arguments))


def asking(kind: str, *arguments: object, doc_id: int = 0, task: str = "made") -> Instance:
    """A request."""
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=(task, doc_id, 1))


def scored(lm: ThinkingLM, *pairs: tuple[str, str], together: bool = False) -> list[tuple[float, bool]]:
    """Log-likelihoods; together: as one document's choices."""
    made = [asking("loglikelihood", *pair, doc_id=0 if together else at) for at, pair in enumerate(pairs)]
    return lm.loglikelihood(made, disable_tqdm=True)


def said(lm: ThinkingLM, *contexts: str, **given: object) -> list[str]:
    """What follows each context."""
    return lm.generate_until(
        [asking("generate_until", c, dict(given), doc_id=i) for i, c in enumerate(contexts)], disable_tqdm=True
    )


def rolled(lm: ThinkingLM, *texts: str) -> list[float]:
    """Log-likelihoods of whole texts."""
    made = [asking("loglikelihood_rolling", text, doc_id=at) for at, text in enumerate(texts)]
    return lm.loglikelihood_rolling(made, disable_tqdm=True)
