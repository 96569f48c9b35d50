"""Loading a pretrained model that is asked as it is: what may run on it, what its cells cost, and whether we follow it truly.

Every load ends in a self-test on a short text: our logits, whole and in two cached chunks, against the library's own forward, and
its matrix products against the price. A GPT-2 that our own kernels compute passes the same test. Knows the transformers library;
knows no architecture by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness import registry
from harness.alphabet import Alphabet
from harness.backbone import Backbone
from harness.causal_lm import CausalBackbone, Shape
from harness.context_bounds import bounds_of_config
from harness.decoder import Decoder
from harness.defaults import default
from harness.meter import Price
from harness.pretrained import GPT2, check_rows, local_path, told_in_a_line
from harness.rows import Feed
from harness.spec import DIRECT_BASELINE, ModelSpec
from harness.strategy import Strategy

Made = TypeVar("Made", bound=Backbone)
OWN_METHODS = ("weave", "positions", "sight", "forward", "passes", "readout", "parts")  # that such a model cannot follow
TOLERANCE, RELATIVE_TOLERANCE = 1e-3, 1e-4  # of logits; of the largest one, where that is less
TEST_TOKENS, TEST_CUT = 13, 5
UNEQUAL = ((5, 1, 3), (1, 4, 0), (0, 2, 4), (7, 1, 2))  # tokens that rows advance by, step by step: up to 13, 8 and 9
LOUD = 1024.0  # logits are made as large as this, so that a cap behind the head is seen
PRODUCTS = ("mm", "addmm")  # how linears appear to torch's counter; attention's are batched ones


def load_as_it_is(spec: ModelSpec, kind: str, *, strategy: Strategy, alphabet: Alphabet) -> CausalBackbone:
    """The model at ``spec.path``, tested. ValueError says what it does, or the strategy wants, that cannot be."""
    path = str(spec.path)
    _check_strategy(strategy, path, kind)
    model = _loaded(path, kind)
    config = model.config.get_text_config()
    rows = model.get_input_embeddings().num_embeddings
    check_rows(path, rows, alphabet)
    context = context_tokens_of(spec, config)

    def made(shape: Shape) -> CausalBackbone:
        return CausalBackbone(model, strategy=strategy, alphabet=alphabet, shape=shape, context_tokens=context)

    return _tested(model, made, path=path, kind=kind, most_tokens=context)


def check_plain(model: Any, *, path: str, alphabet: Alphabet) -> None:
    """ValueError if our kernels say or price anything else than the library's own forward of a GPT-2 that was just loaded."""

    def made(shape: Shape) -> Backbone:
        backbone = Backbone(model, strategy=DIRECT_BASELINE, alphabet=alphabet)
        if backbone.price != shape.price:
            raise ValueError(f"its cells are priced {backbone.price} where its weights come to {shape.price}")
        return backbone

    _tested(model, made, path=path, kind=GPT2, most_tokens=model.config.n_positions)


def _tested(model: Any, made: Callable[[Shape], Made], *, path: str, kind: str, most_tokens: int) -> Made:
    """The backbone that ``made`` makes of a model, after the self-test."""
    rows = model.get_input_embeddings().num_embeddings
    ids = np.random.default_rng(0).integers(0, rows, min(TEST_TOKENS, most_tokens))
    try:
        logits, shape = _followed(model, ids)
        backbone = made(shape)
        off = max(float((found - logits[:length]).abs().max()) for length, found in _asked(backbone, ids))
    except Exception as error:  # of whatever kind: its forward may take other arguments than those that we give
        raise _not_followed(path, kind, str(error) or type(error).__name__) from None
    if not off <= min(TOLERANCE, RELATIVE_TOLERANCE * float(logits.abs().max())):  # NaN too
        raise _not_followed(path, kind, f"logits differ by {off:.2g}")
    return backbone


def _not_followed(path: str, kind: str, reason: str) -> ValueError:
    line = reason.strip().split("\n", 1)[0][:200]
    return ValueError(
        f"model.path: {path} is a {kind}, which does something that is not followed here (a sliding window, scaled logits, "
        f"states that are no keys and values, ...): {line}; choose a plain decoder-only causal model"
    )


def _check_strategy(strategy: Strategy, path: str, kind: str) -> None:
    """ValueError if a strategy changes how the model runs, or says what it has no token for."""
    own = [name for name in OWN_METHODS if getattr(type(strategy), name) is not getattr(Strategy, name)]
    own += ["sayable"] if strategy.sayable() else []
    if own:
        raise ValueError(
            f"strategy: {registry.plugin_name(strategy)} answers {', '.join(own)} in its own way, but {path} is a {kind}, "
            "asked as it is: woven cells, sight and shields, further passes, parts and sayable specials are refused there; "
            f"legal: strategies of plain text, such as {default('baseline')}, and searches with it as strategy.base"
        )


def _loaded(path: str, kind: str) -> Any:
    """The whole model in float32."""
    from transformers import AutoModelForCausalLM

    place = local_path(path)
    load: Any = AutoModelForCausalLM.from_pretrained
    with told_in_a_line(path, kind):
        model, loaded = load(place, dtype=torch.float32, output_loading_info=True, trust_remote_code=False)
        if model.config.is_encoder_decoder:
            raise ValueError("it has an encoder, and is no decoder-only causal model")
        if getattr(model.config, "add_cross_attention", False):
            raise ValueError("add_cross_attention=true: it reads an encoder's states, and there are none here")
        if loaded["missing_keys"]:
            raise ValueError(f"it lacks weights: {', '.join(sorted(loaded['missing_keys'])[:3])}")
        if not isinstance(model.get_output_embeddings(), nn.Linear):
            raise ValueError("it has no head that is a single matrix")
    model.config.return_dict = True  # how a forward hands over what it found is ours to say
    return model.eval()


def context_tokens_of(spec: ModelSpec, config: Any) -> int:
    """Text tokens that a sequence may have: what is asked for, within what the model knows and sees at once."""
    known = [*bounds_of_config(config).values(), *([] if spec.context_tokens is None else [spec.context_tokens])]
    if not known:
        raise ValueError("model.context_tokens: this model does not say how long its texts may be; give a number")
    return min(known)


@contextmanager
def _loud(head: nn.Module) -> Iterator[list[Tensor]]:
    """While a head's logits are multiplied by a power of two, which loses no bit: (what it says, the factor)."""
    said: list[Tensor] = []

    def louder(_module: nn.Module, _given: Any, logits: Tensor) -> Tensor:
        most = float(logits.abs().max())
        factor = 2.0 ** np.ceil(np.log2(LOUD / most)) if 0 < most < LOUD else 1.0
        said.extend((logits * factor, torch.tensor(factor)))
        return said[0]

    hook = head.register_forward_hook(louder)
    try:
        yield said
    finally:
        hook.remove()


def _followed(model: Any, ids: np.ndarray[Any, Any]) -> tuple[Tensor, Shape]:
    """The library's own logits (n, V) of a text, and the model's shape by what that forward kept and multiplied."""
    config, given = model.config.get_text_config(), torch.from_numpy(ids)[None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _loud(model.get_output_embeddings()) as said:
        found = model(input_ids=given, use_cache=True, return_dict=True)
    kept = getattr(getattr(found, "past_key_values", None), "layers", ())
    layers = [(layer.keys.shape, layer.values.shape) for layer in kept if hasattr(layer, "keys")]
    if not kept or len(layers) < len(kept):
        raise ValueError("its layers do not keep keys and values, and nothing else, between tokens")
    if getattr(config, "final_logit_softcapping", None):
        raise ValueError("its logits are capped")
    if not torch.equal(found.logits, said[0]):
        off = float((found.logits - said[0]).abs().max() / said[1])
        raise ValueError(f"its logits differ by {off:.2g} from what its head says")
    (_, kv_heads, _, width), _ = layers[0]
    if any(keys != layers[0][0] or values != keys for keys, values in layers):
        raise ValueError("its layers keep keys and values of different shapes")
    heads = int(config.num_attention_heads)
    head = model.get_output_embeddings()
    cell_flops = sum(2 * weights for weights in _matrices(model.base_model))
    price = Price(layers=len(layers), width=head.in_features, cell_flops=cell_flops, key_flops=4 * heads * width * len(layers))
    counts = counter.get_flop_counts()["Global"]
    seen = sum(flops for operation, flops in counts.items() if str(operation).rpartition(".")[2] in PRODUCTS)
    priced = len(ids) * (price.cell_flops + price.head(head.out_features))
    if seen != priced:
        raise ValueError(f"it multiplies matrices of {seen:,} FLOPs where its weights come to {priced:,}")
    return (said[0] / said[1])[0].float(), Shape(heads=heads, kv_heads=kv_heads, head_width=width, price=price)


def _matrices(base: nn.Module) -> Sequence[int]:
    """Sizes of the matrices that every cell meets. ValueError if there are weights of which that cannot be told."""
    from transformers.pytorch_utils import Conv1D

    sizes = []
    for module in base.modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            sizes.append(module.weight.numel())
        elif not isinstance(module, nn.Embedding):
            for name, weight in module.named_parameters(recurse=False):
                if weight.dim() > 1:
                    raise ValueError(f"what {type(module).__name__}.{name} costs is not known here")
    return sizes


def _asked(backbone: Backbone, ids: np.ndarray[Any, Any]) -> list[tuple[int, Tensor]]:
    """Our logits (n, V) of the first n tokens of a text, with n: fed whole, in two chunks, and in rows of unequal chunks."""
    whole, cut = (_fed(backbone, ids, [[size] for size in sizes]) for sizes in ((len(ids),), (TEST_CUT, len(ids) - TEST_CUT)))
    return [*whole, *cut, *_fed(backbone, ids, UNEQUAL)]


def _fed(backbone: Backbone, ids: np.ndarray[Any, Any], steps: Sequence[Sequence[int]]) -> list[tuple[int, Tensor]]:
    """Rows of one text after as many more tokens as each step says of each row: their lengths and logits."""
    decoder = Decoder(backbone, reference_layers=backbone.layers)
    account = decoder.accounts.open(np.inf)
    rows = [decoder.new_row(account) for _ in steps[0]]
    at, found = [0] * len(rows), [list[Tensor]() for _ in rows]
    for sizes in steps:
        feeds = []
        for number, size in enumerate(sizes):
            places = list(range(at[number], min(at[number] + size, len(ids))))
            if places:
                feeds.append(Feed(rows[number], ids[places].tolist(), [0] * len(places), places, every=True))
                at[number] += len(places)
        every, _ = decoder.feed(feeds) if feeds else ({}, set())
        for number, row in enumerate(rows):
            found[number] += [every[row]] if row in every else []
    return [(at[number], torch.cat(parts)) for number, parts in enumerate(found) if parts]
