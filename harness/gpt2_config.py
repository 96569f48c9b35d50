"""The facts of a GPT-2's config that our own kernels do not follow. Knows the config of the transformers library; loads no model.

The kernels compute one GPT-2: tanh GELU, an inner width of four times the width, a tied head, and attention scaled by the
width of a head. They read layers, width, heads, places and the norms' epsilon; there is no dropout, and weights are float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from harness.pretrained import GPT2

TANH_GELU_ERROR = 1e-5  # of an activation's values, up to rounding


def kind_of_config(config: Any) -> str:
    """The model type; of a GPT-2 with facts that our kernels do not follow, these too: ``gpt2 with n_inner=96``."""
    kind = str(config.model_type)
    odd = odd_facts(config) if kind == GPT2 else ()
    return f"{kind} with {', '.join(odd)}" if odd else kind


def odd_facts(config: Any) -> tuple[str, ...]:
    """Return the facts of a GPT-2's config that our kernels do not follow. ValueError for an unknown activation."""
    followed = {
        "activation_function": _is_tanh_gelu(config.activation_function),
        "n_inner": config.n_inner in (None, 4 * config.n_embd),
        "tie_word_embeddings": config.tie_word_embeddings,
        "scale_attn_weights": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": not config.scale_attn_by_inverse_layer_idx,
        "reorder_and_upcast_attn": not config.reorder_and_upcast_attn,
        "add_cross_attention": not config.add_cross_attention,
    }
    odd = [f"{name}={_as_json(getattr(config, name))}" for name, holds in followed.items() if not holds]
    return (*odd, *(["quantization_config"] if getattr(config, "quantization_config", None) else []))


def _as_json(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_tanh_gelu(name: str) -> bool:
    """Return whether an activation has the values of tanh GELU, of whatever name."""
    from transformers.activations import ACT2FN

    if name not in ACT2FN:
        raise ValueError(f"activation_function={name} is none that the transformers library has")
    places = torch.cat([torch.linspace(-8, 8, 1601), torch.tensor([-100.0, -20.0, 20.0, 100.0])])
    off = (ACT2FN[name](places) - F.gelu(places, approximate="tanh")).abs().max()
    return bool(off <= TANH_GELU_ERROR)
