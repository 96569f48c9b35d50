"""Tiny random models of the transformers library, saved as folders, and its own word on what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support import DIGITS, digits
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness.alphabet import Alphabet
from harness.causal_lm import CausalBackbone
from harness.spec import ModelSpec
from harness.strategy import Strategy
from harness.weights import make_backbone

SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 96
}  # fmt: skip
GROUPED: dict[str, Any] = SHAPE | {"num_key_value_heads": 2}
GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "llama, tied": ("LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "qwen2, biases": ("Qwen2Config", GROUPED),
    "qwen3, wide heads": ("Qwen3Config", GROUPED | {"head_dim": 12}),
    "phi, a head with a bias": ("PhiConfig", SHAPE),
    "gpt_neox": ("GPTNeoXConfig", SHAPE),
    "gemma, scaled embeddings": ("GemmaConfig", GROUPED | {"head_dim": 8}),
    "gpt2, relu and untied": ("GPT2Config", GPT2 | {"activation_function": "relu", "tie_word_embeddings": False}),
    "gpt2, narrow and scaled by layer": (
        "GPT2Config", GPT2 | {"n_inner": 40, "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    ),
    "gptj, eager only": ("GPTJConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 96}),
    "opt": (
        "OPTConfig",
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 96,
         "word_embed_proj_dim": 16},
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "scaled logits": ("GraniteConfig", GROUPED | {"logits_scaling": 8.0}, "logits differ by"),
    "capped logits": ("Gemma2Config", GROUPED | {"head_dim": 8}, "its logits are capped"),
    "experts": ("MixtralConfig", GROUPED | {"num_local_experts": 4}, "is not known here"),
    "states of another kind": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2}, "do not keep keys and values"),
    "both ways": ("BertConfig", SHAPE, "do not keep keys and values"),
    "masks by column": (
        "GPTNeoConfig",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]], "max_position_embeddings": 96},
        "logits differ by",
    ),
    "places in the mask": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "is not followed here"),
}


def saved(folder: Path, kind: str = "llama", *, rows: int | None = None, seed: int = 0, scale: float = 3.0, **more: Any) -> str:
    """A random model's folder, with as many tokens as `digits` has; matrices are scaled up, so that answers are not uniform."""
    import transformers

    name, fields = KINDS[kind] if kind in KINDS else REFUSED[kind][:2]
    ends = {"bos_token_id": None, "eos_token_id": digits().end_id, "pad_token_id": 0}
    config = getattr(transformers, name)(vocab_size=rows or digits().core_size, **(ends | fields | more))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale) if weight.dim() > 1 else weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return str(folder)


def causal(path: str, *, how: Strategy | None = None, alphabet: Alphabet | None = None, **fields: Any) -> CausalBackbone:
    """The model as the harness loads it."""
    made = make_backbone(ModelSpec(path=path, **fields), strategy=how or Strategy(), alphabet=alphabet or digits(), seed=0)
    assert isinstance(made, CausalBackbone)
    return made


def theirs(path: str, ids: list[int]) -> Tensor:
    """The library's logits (n, V) of one text, in one whole forward."""
    model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([ids])).logits[0]
    return logits


__all__ = ["DIGITS", "KINDS", "REFUSED", "causal", "saved", "theirs"]
