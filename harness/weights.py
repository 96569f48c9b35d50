"""Building the shared GPT-2, and keeping a learner's weights as safetensors.

One seed gives one GPT-2 whatever the strategy: rows for special tokens and positions beyond the context come from generators of
their own. Knows files and initialisation; knows nothing of training.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from harness.alphabet import Alphabet
from harness.backbone import Backbone
from harness.gpt2_config import kind_of_config
from harness.meter import Price, gpt2_price
from harness.pretrained import GPT2, check_rows, local_path, told_in_a_line
from harness.reading import read_bytes
from harness.seeds import derive
from harness.spec import DIRECT_BASELINE, ModelSpec, RunSpec
from harness.strategy import Strategy

INIT_STD = 0.02  # GPT-2's


def make_backbone(spec: ModelSpec, *, strategy: Strategy, alphabet: Alphabet, seed: int) -> Backbone:
    """A fresh (or pretrained, if spec.path is set) GPT-2 for what this strategy learns by, and an alphabet; at a path also any
    causal model that is asked as it is. What is loaded from a path has passed the self-test of `harness.as_it_is`."""
    strategy = strategy.learner()
    if spec.path and (kind := kind_of(spec.path)) != GPT2:
        from harness.as_it_is import load_as_it_is

        return load_as_it_is(spec, kind, strategy=strategy, alphabet=alphabet)
    model = _pretrained(spec.path, alphabet) if spec.path else _fresh(spec, alphabet, seed)
    if spec.path:
        from harness.as_it_is import check_plain

        check_plain(model, path=spec.path, alphabet=alphabet)
    own = model.config.n_positions
    context = own if spec.path and spec.context_tokens is None else min(spec.shape[3], own)
    rows = _grown(model.transformer.wte.weight, alphabet.size, seed, "special tokens")
    places = _grown(model.transformer.wpe.weight, strategy.positions(context), seed, "positions")
    model.transformer.wte = nn.Embedding.from_pretrained(rows, freeze=False)
    model.transformer.wpe = nn.Embedding.from_pretrained(places, freeze=False)
    model.lm_head = nn.Linear(rows.shape[1], rows.shape[0], bias=False, device="meta")  # its weight is the next line's
    model.lm_head.weight = model.transformer.wte.weight
    model.config.vocab_size, model.config.n_positions = rows.shape[0], places.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "parts"))
        backbone = Backbone(model, strategy=strategy, alphabet=alphabet)
    backbone.context_tokens = context
    return backbone


def _fresh(spec: ModelSpec, alphabet: Alphabet, seed: int) -> Any:
    """GPT-2 as Hugging Face initialises it, from its own seed, for text and END only."""
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads, context = spec.shape
    config = GPT2Config(
        vocab_size=alphabet.core_size,
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=alphabet.end_id,
        eos_token_id=alphabet.end_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        return GPT2LMHeadModel(config)


def context_of(spec: ModelSpec) -> int:
    """Text tokens that a model's context has, told without its weights."""
    if spec.path is None:
        return spec.shape[3]
    if kind_of(spec.path) == GPT2:
        own = int(_config(spec.path).n_positions)
        return own if spec.context_tokens is None else min(spec.context_tokens, own)
    from harness.as_it_is import context_tokens_of

    return context_tokens_of(spec, _config(spec.path).get_text_config())


def kind_of(path: str) -> str:
    """The model type of a pretrained model, as the transformers library calls it; ValueError names model.path.

    Of a GPT-2 that our kernels do not compute, with the facts of its config that they do not follow: it is asked as it is.
    """
    config = _config(path)
    try:
        return kind_of_config(config)
    except ValueError as error:
        raise ValueError(f"model.path: {path} cannot be read: {error}") from None


def _config(path: str) -> Any:
    from transformers import AutoConfig

    place = local_path(path)
    with told_in_a_line(path):
        return AutoConfig.from_pretrained(place, trust_remote_code=False)


def check_teachable(spec: RunSpec) -> None:
    """ValueError if a run would teach a pretrained model that is no GPT-2 as our kernels compute it."""
    path = spec.model.path
    if path is None or (spec.train.flops == 0 and spec.pretraining is None) or (kind := kind_of(path)) == GPT2:
        return
    named = "train.flops" if spec.pretraining is None else "pretraining"
    legal = "train.flops=0 (--train-flops 0)" if spec.pretraining is None else "no pretraining phase, and train.flops=0"
    raise ValueError(f"{named}: {path} is a {kind}, and only GPT-2s as OpenAI shaped them are taught here; legal for it: {legal}")


def _pretrained(path: str, alphabet: Alphabet) -> Any:
    """A GPT-2 from a folder or the hub; ValueError names model.path."""
    from transformers import GPT2LMHeadModel

    place = local_path(path)
    drops: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    load: Any = GPT2LMHeadModel.from_pretrained
    with told_in_a_line(path, GPT2):
        model, loaded = load(place, output_loading_info=True, dtype=torch.float32, **drops)
    model.config.return_dict = True  # how a forward hands over what it found is ours to say
    if loaded["missing_keys"]:
        raise ValueError(f"model.path: {path} lacks weights: {', '.join(sorted(loaded['missing_keys'])[:3])}")
    check_rows(path, model.config.vocab_size, alphabet)
    return model


def price_of(spec: ModelSpec, alphabet: Alphabet) -> Price:
    """What a model's cells cost under plain training: by its shape, or of a pretrained one by itself."""
    if spec.path is not None:
        return make_backbone(spec, strategy=DIRECT_BASELINE, alphabet=alphabet, seed=0).price
    layers, width, _, _ = spec.shape
    return gpt2_price(layers=layers, width=width)


def _grown(weight: Tensor, rows: int, seed: int, purpose: str) -> Tensor:
    """The rows of ``weight``, and new ones from a generator of their own."""
    kept = weight.detach().clone()
    generator = torch.Generator().manual_seed(derive(seed, purpose))
    extra = torch.randn(max(rows - len(kept), 0), kept.shape[1], generator=generator) * INIT_STD
    return torch.cat([kept, extra])


def state_of(backbone: Backbone) -> dict[str, Tensor]:
    """All weights by name, a tied head once."""
    own = {name for named in (backbone.named_parameters(), backbone.named_buffers()) for name, _ in named}
    return {k: whole(v.detach()).contiguous() for k, v in backbone.state_dict().items() if k in own}


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each rank may hold a part (FSDP), gathered; every rank must ask for it."""
    gather = getattr(tensor, "full_tensor", None)
    gathered: Tensor = tensor if gather is None else gather()
    return gathered


def load_state(backbone: Backbone, state: dict[str, Tensor]) -> None:
    """Put weights back; parts and extra rows that ``state`` does not have keep their initial values."""
    own = backbone.state_dict()
    with torch.no_grad():
        for name, value in state.items():
            if name in own and value.dim():
                rows = min(len(value), len(own[name]))
                own[name][:rows].copy_(value[:rows])
            elif name in own:
                own[name].copy_(value)


def weights_hash(backbone: Backbone) -> str:
    """sha256 over names and values."""
    return state_hash(state_of(backbone))


def state_hash(state: dict[str, Tensor]) -> str:
    """The same of weights that are not in a backbone."""
    summed = hashlib.sha256()
    for name in sorted(state):
        summed.update(name.encode())
        summed.update(state[name].cpu().numpy().tobytes())
    return summed.hexdigest()


def pack(tensors: dict[str, Tensor], facts: dict[str, Any]) -> bytes:
    """Tensors and JSON facts as one safetensors file's bytes, so that both change in one rename; with the tensors' sha256."""
    data = bytes(save_tensors(tensors))
    start = 8 + int.from_bytes(data[:8], "little")
    metadata = {"facts": json.dumps(facts, sort_keys=True), "sha256": hashlib.sha256(data[start:]).hexdigest()}
    header = json.dumps({"__metadata__": metadata} | json.loads(data[8:start])).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[start:]


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `pack` packed; ValueError if it was changed since."""
    start = 8 + int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8:start])["__metadata__"]
    if hashlib.sha256(data[start:]).hexdigest() != metadata["sha256"]:
        raise ValueError("changed since it was written")
    return load_tensors(data), json.loads(metadata["facts"])


def read_packed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`unpack` of a file; ValueError if it is torn or foreign."""
    try:
        return unpack(read_bytes(path))
    except Exception as error:
        raise ValueError(f"{path} is damaged or not ours ({type(error).__name__}); delete it and run again") from None
