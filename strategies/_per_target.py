"""A diagnostic of `reasoning_tokens`: how far the edge shield's gradient is from the per-target rule's.

The edge shield cuts thoughts of place i from queries of places i+1 .. i+H-1, once, for all targets; so it also cuts the way
R_i -> x_{i+1} -> later, and farther targets get a biased gradient. The rule itself would take one backward pass a target, in
which every thought within the horizon of that target is cut off from all queries. Run `python -m strategies._per_target`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.strategy import THOUGHT, Sight, View
from strategies.reasoning_tokens import ReasoningTokens


@dataclass(frozen=True, kw_only=True)
class PerTarget(ReasoningTokens):
    """The per-target rule for the one target that is read at ``target_place``."""

    target_place: int = 0

    def sight(self, q: View, k: View, heads: int) -> Sight | None:
        """Thoughts from target_place + 1 - horizon on teach nothing to anyone."""
        cut = (k.kind == THOUGHT) & (k.place >= self.target_place + 1 - self.horizon)
        return Sight(learn_kv=(~cut)[:, None, None, :].expand(-1, 1, q.index.shape[1], -1))


def cosines(*, horizon: int, per_token: int = 1, size: str = "xs", problems: int = 32, seed: int = 0) -> dict[str, float]:
    """Cosine of the two gradients, of all weights together and of the thoughts' vectors, on one batch of arithmetic."""
    import torch

    edge = ReasoningTokens(horizon=horizon, per_token=per_token)
    plain = _gradients(edge, size, problems, seed, places=None)
    places = range(64)
    ruled = [
        _gradients(PerTarget(horizon=horizon, per_token=per_token, target_place=t), size, problems, seed, places=t)
        for t in places
    ]
    total = {name: sum(g[name] for g in ruled) for name in plain}

    def cosine(a: Any, b: Any) -> float:
        return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))

    flat = [torch.cat([g[n].flatten() for n in plain if n != "thoughts"]) for g in (plain, total)]
    return {"all weights": cosine(*flat), "thoughts": cosine(plain["thoughts"], total["thoughts"])}


def _gradients(strategy: ReasoningTokens, size: str, problems: int, seed: int, *, places: int | None) -> dict[str, Any]:
    """Gradients by name of the mean loss over targets, or of the part of it that is read at one place."""
    import torch
    import torch.nn.functional as F

    from harness.alphabet import make_alphabet
    from harness.feed import Feed
    from harness.spec import make_spec
    from harness.weights import make_backbone

    spec = make_spec(strategy="reasoning_tokens", task="arithmetic", settings={"model.size": size}, seed=seed)
    alphabet = make_alphabet(spec.task.alphabet())
    backbone = make_backbone(spec.model, strategy=strategy, alphabet=alphabet, seed=seed)
    feed = Feed(task=spec.task, alphabet=alphabet, seed=seed, problems_per_update=problems, context_tokens=256)
    cells = feed.batch(strategy, 0, progress=0.0, device=torch.device("cpu")).cells
    states = strategy.forward(backbone, cells, None)
    losses = F.cross_entropy(backbone.head(states, cells.reads), cells.targets, reduction="none") / len(cells.targets)
    if places is not None:
        losses = losses[torch.from_numpy(cells.layout.place[cells.reads.cells] == places)]
    losses.sum().backward()
    found = {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}
    table = found["model.transformer.wte.weight"]
    return found | {"thoughts": table[alphabet.sayable_end : alphabet.sayable_end + strategy.per_token]}


if __name__ == "__main__":
    for h in (1, 2, 3, 4):
        found = cosines(horizon=h)
        print(f"horizon {h}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
