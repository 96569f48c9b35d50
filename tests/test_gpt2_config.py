"""GPT-2 folders of every config: what our kernels do not follow runs through the library's own forward, or is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from causal import GPT2, theirs
from support import digits, strategy
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from harness import as_it_is, make_spec
from harness.backbone import Backbone
from harness.decoder import Decoder
from harness.export import export_run
from harness.gpt2_config import odd_facts
from harness.rows import Feed
from harness.runs import plan, run
from harness.spec import ModelSpec
from harness.strategy import Strategy
from harness.weights import make_backbone

IDS = [1, 2, 3, 10, 4, 5, 11, 9, 0, 7, 12, 12, 6, 8, 3, 3]
READ: dict[str, Any] = {  # values of the config that our kernels read, or that no logit depends on
    "vocab_size": 13, "n_positions": 32, "n_embd": 48, "n_layer": 3, "n_head": 2, "layer_norm_epsilon": 0.1,
    "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5, "initializer_range": 0.5, "use_cache": False,
    "summary_type": "mean", "summary_use_proj": False, "summary_activation": "tanh", "summary_proj_to_labels": False,
    "summary_first_dropout": 0.5, "bos_token_id": 3, "eos_token_id": [12, 3], "pad_token_id": 3,
}  # fmt: skip
ODD: dict[str, Any] = {  # values that our kernels do not compute
    "activation_function": "relu", "n_inner": 40, "tie_word_embeddings": False, "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True,
}  # fmt: skip
ACTIVATIONS = ("relu", "gelu", "gelu_python", "silu", "quick_gelu", "gelu_10", "tanh", "linear")
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
ASKED: dict[str, Any] = {"train.flops": 0, "train.problems_per_update": 2, "infer.problems": 3}


def saved(folder: Path, *, scale: float = 4.0, dtype: torch.dtype = torch.float32, **fields: Any) -> str:
    """A tiny random GPT-2's folder, with ``fields`` of its config; matrices are scaled, so that answers are not uniform."""
    ends = {"vocab_size": digits().core_size, "bos_token_id": None, "eos_token_id": digits().end_id}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**GPT2, **ends, **fields}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale) if weight.dim() > 1 else weight.add_(0.1 * torch.randn_like(weight))
    model.to(dtype).save_pretrained(folder)
    return str(folder)


def loaded(path: str, how: Strategy | None = None) -> Backbone:
    return make_backbone(ModelSpec(path=path), strategy=how or Strategy(), alphabet=digits(), seed=0)


def asked(backbone: Backbone, *, cuts: tuple[int, ...]) -> tuple[torch.Tensor, int]:
    """Our logits of IDS, fed in chunks that begin at ``cuts``, and the FLOPs that were booked."""
    decoder = Decoder(backbone, reference_layers=backbone.layers)
    row, found = decoder.new_row(decoder.accounts.open(math.inf)), []
    for start, stop in zip(cuts, (*cuts[1:], len(IDS)), strict=True):
        said = IDS[start:stop]
        found.append(decoder.feed([Feed(row, said, [0] * len(said), list(range(start, stop)), every=True)])[0][row])
    return torch.cat(found), int(decoder.accounts.flops.sum())


def counted_flops(path: str) -> int:
    """By torch's counter, one token at a time through the library's own forward with plain matrix products."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    cache, total = None, 0
    for token in IDS:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
        cache, total = found.past_key_values, total + counter.get_total_flops()
    return total


def assert_as_the_library_says(path: str) -> Backbone:
    backbone, reference = loaded(path), theirs(path, IDS)
    for cuts in ((0,), (0, 3, 4, 11)):
        logits, flops = asked(backbone, cuts=cuts)
        assert float((logits - reference).abs().max()) <= 1e-4 and logits.argmax(-1).equal(reference.argmax(-1))
        assert flops == counted_flops(path)
    return backbone


def test_every_field_of_the_config_is_covered_here() -> None:
    named = {*READ, *ODD, "add_cross_attention"}
    own = {f.name for f in dataclasses.fields(GPT2Config)} & set(GPT2Config.__annotations__)
    assert own and own - named == {"keys_to_ignore_at_inference", "attribute_map", "model_type"} & own


def test_what_the_config_says_is_read(tmp_path: Path) -> None:
    backbone = assert_as_the_library_says(saved(tmp_path, **READ))
    assert not backbone.as_it_is and (backbone.context_tokens, backbone.layers, backbone.width, backbone.heads) == (32, 3, 48, 2)


@pytest.mark.parametrize("name", ODD)
def test_what_our_kernels_do_not_compute_goes_through_the_librarys_forward(name: str, tmp_path: Path) -> None:
    assert assert_as_the_library_says(saved(tmp_path, **{name: ODD[name]})).as_it_is


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_that_our_kernels_do_not_compute(name: str) -> None:
    assert odd_facts(GPT2Config(activation_function=name)) == (f"activation_function={name}",)


@pytest.mark.parametrize("name", TANH_GELUS)
def test_activations_are_told_by_their_values(name: str, tmp_path: Path) -> None:
    assert odd_facts(GPT2Config(activation_function=name)) == ()
    path = saved(tmp_path, activation_function=name)
    assert float((asked(loaded(path), cuts=(0,))[0] - theirs(path, IDS)).abs().max()) <= 1e-4


def test_the_price_follows_the_inner_width(tmp_path: Path) -> None:
    """Four matrices of attention, 32 x 32 each, and two of 32 x 40 in each of two blocks."""
    price = loaded(saved(tmp_path, n_inner=40)).price
    assert price.cell_flops == 2 * 2 * (4 * 32 * 32 + 2 * 32 * 40) and price.key_flops == 2 * 4 * 32
    assert not loaded(saved(tmp_path / "four", n_inner=4 * 32)).as_it_is


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_asked_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    path = saved(tmp_path, dtype=dtype)
    model = GPT2LMHeadModel.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        reference = model(input_ids=torch.tensor([IDS])).logits[0]
    assert float((asked(loaded(path), cuts=(0,))[0] - reference).abs().max()) <= 1e-4


def edited(path: str, **facts: Any) -> str:
    """A folder whose config.json says something else."""
    file = Path(path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    return path


@pytest.mark.parametrize(
    "facts", [{"n_ctx": 7}, {"return_dict": False}, {"output_hidden_states": True}, {"output_attentions": True}]
)
@pytest.mark.parametrize("odd", [{}, {"n_inner": 40}])
def test_keys_that_no_logit_depends_on(facts: dict[str, Any], odd: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path, **odd)
    reference = theirs(path, IDS)
    backbone = loaded(edited(path, **facts))
    assert backbone.as_it_is == bool(odd) and float((asked(backbone, cuts=(0, 5))[0] - reference).abs().max()) <= 1e-4


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"add_cross_attention": True}, "add_cross_attention=true"),
        ({"activation_function": "sine"}, "activation_function=sine"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "quantization_config"),
        ({"n_head": 5}, "divisible"),
        ({"n_inner": 40}, ""),  # weights of another shape than the config says
    ],
)
def test_what_cannot_be_is_refused_by_name(facts: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = edited(saved(tmp_path), **facts)
    with pytest.raises(ValueError, match=r"^model\.path: [^\n]*$") as told:
        loaded(path)
    assert named in str(told.value) and path in str(told.value)


@pytest.mark.parametrize("name", ODD)
def test_such_a_model_is_not_taught(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "model", **{name: ODD[name]})
    spec = make_spec(strategy="direct", task="support:Toy", settings={"model.path": path, "train.flops": 1e6})
    for make in (lambda: run(spec, results=tmp_path / "r"), lambda: plan(spec)):
        with pytest.raises(ValueError, match=rf"^train\.flops: .* is a gpt2 with {name}=.*; legal for it: train\.flops=0"):
            make()
    assert not (tmp_path / "r").exists()


def test_strategies_that_change_the_model_name_the_fact(tmp_path: Path) -> None:
    path = saved(tmp_path, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"^strategy: reasoning_tokens .* is a gpt2 with tie_word_embeddings=false, asked as"):
        loaded(path, strategy("reasoning_tokens"))


def test_such_a_model_is_asked_by_a_run_and_not_exported(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", activation_function="silu", tie_word_embeddings=False)
    record = run(make_spec(strategy="direct", task="support:Toy", settings=ASKED | {"model.path": path}), results=tmp_path)
    assert record["model"]["parameters"] == sum(p.numel() for p in GPT2LMHeadModel.from_pretrained(path).parameters())
    with pytest.raises(ValueError, match="its model is a checkpoint already"):
        export_run(record["fingerprint"], tmp_path / "out", results=tmp_path)


@pytest.mark.parametrize("spoilt", ["logits", "price"])
def test_a_gpt2_that_our_kernels_follow_passes_the_same_self_test(
    spoilt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the config's facts were not told apart, the self-test would."""
    monkeypatch.setattr("harness.gpt2_config.odd_facts", lambda config: ())
    path = saved(tmp_path, **{"logits": {"tie_word_embeddings": False}, "price": {"n_inner": 40}}[spoilt])
    told = {"logits": r"logits differ by", "price": r"priced Price\(.*Price\("}[spoilt]
    with pytest.raises(ValueError, match=rf"^model\.path: {path} is a gpt2, which does something .*{told}"):
        loaded(path)


def test_logits_that_are_small_are_held_as_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of at most 0.01, off by a third of themselves."""
    path = saved(tmp_path, scale=0.02)
    assert float(theirs(path, IDS).abs().max()) < 0.01
    loaded(path)
    own = as_it_is._asked
    monkeypatch.setattr(as_it_is, "_asked", lambda *given: [(n, 1.05 * found) for n, found in own(*given)])
    with pytest.raises(ValueError, match="logits differ by"):
        loaded(path)


def test_facts_are_spelt_as_in_json() -> None:
    config = GPT2Config(tie_word_embeddings=False, n_inner=7, scale_attn_weights=False)
    assert odd_facts(config) == ("n_inner=7", "tie_word_embeddings=false", "scale_attn_weights=false")
    assert odd_facts(GPT2Config()) == ()
