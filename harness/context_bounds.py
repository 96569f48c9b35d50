"""Bounds on the texts of a pretrained model, and lines for whoever meets them. Knows configurations alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from harness.pretrained import local_path, told_in_a_line
from harness.spec import ModelSpec

POSITIONS = "max_position_embeddings"  # GPT-2 calls them n_positions, and answers to this name too
WINDOW = re.compile(r"(^|_)(windows?(_size|_len)?|attention_chunk_size|local_attention)$")  # of a config: all is seen within it
BY_LENGTH = ("dynamic", "longrope")  # rotary angles that are other ones in texts beyond the original length
ORIGINAL = "original_max_position_embeddings"


def bounds_of_config(config: Any) -> dict[str, int]:
    """What bounds the text tokens of a sequence, by its name in the configuration: positions, windows of attention by whatever
    name (some models have one for each layer), and the length from which on the rotary angles of all tokens change, so that
    cached keys would be stale."""
    found = [(POSITIONS, getattr(config, POSITIONS, None)), *_windows(config), *_rotary_lengths(config)]
    known = [(name, bound) for name, bound in found if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0]
    return {name: min(bound for other, bound in known if other == name) for name, _ in known}


def _windows(config: Any) -> Iterator[tuple[str, Any]]:
    for name, value in config.to_dict().items():
        if WINDOW.search(name):
            yield from ((name, one) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _rotary_lengths(config: Any) -> Iterator[tuple[str, Any]]:
    rotary = getattr(config, "rope_parameters", None) or {}
    for one in (rotary, *rotary.values()):  # of all layers, or by the type of a layer
        if isinstance(one, dict) and one.get("rope_type") in BY_LENGTH and ORIGINAL in one:
            yield ORIGINAL, one[ORIGINAL]


def told_bounds(models: Iterable[ModelSpec]) -> Iterator[str]:
    """A line for each pretrained model whose contexts are shorter than what was asked for, or than its positions allow."""
    for path, asked in dict.fromkeys((model.path, model.context_tokens) for model in models if model.path is not None):
        line = _told_bound(str(path), asked)
        if line is not None:
            yield line


def _told_bound(path: str, asked: int | None) -> str | None:
    from transformers import AutoConfig

    with told_in_a_line(path):
        bounds = bounds_of_config(AutoConfig.from_pretrained(local_path(path)).get_text_config())
    wanted = asked or bounds.get(POSITIONS)
    if not bounds or wanted is None:
        return None
    name = min(bounds, key=lambda one: bounds[one])
    if bounds[name] >= wanted:
        return None
    known = {POSITIONS: "positions", ORIGINAL: "tokens before its rotary angles change"}
    why = known.get(name, "tokens within its window of attention")
    return f"model.context_tokens: {path} has {bounds[name]:,} {why} ({name}), so contexts have {bounds[name]:,}, not {wanted:,}"


def told_truncated(prompts: int) -> str | None:
    """A line where contexts did not hold some prompts."""
    if not prompts:
        return None
    lost = "1 prompt lost its beginning" if prompts == 1 else f"{prompts:,} prompts lost their beginning"
    return f"truncated_prompts: {lost}, since the context did not hold all of it; take a longer context or shorter prompts"
