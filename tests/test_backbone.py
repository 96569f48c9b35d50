"""The backbone is Hugging Face's GPT-2, whatever path its cells take."""

from __future__ import annotations

import json

import pytest
import torch
from support import CPU, DIGITS, batch_of, digits, random_texts, sharpen, states_and_inputs, strategy, tiny

from harness.decoder import Decoder
from harness.problem import SEP
from harness.rows import Feed
from harness.spec import ModelSpec
from harness.strategy import Strategy
from harness.weights import make_backbone, state_of

SIZES = {"xs": 1.0, "s": 1.0}
LENGTHS = {"short": (9, 5, 12, 3), "square": (11, 11, 11), "long": (80, 66, 71), "around": (65, 40), "one": (2,)}


def sized(size, how=None, scale=1.0):
    backbone = make_backbone(ModelSpec(size=size), strategy=how or strategy("direct"), alphabet=digits(), seed=3)
    sharpen(backbone, scale)
    return backbone


def token_rows(texts):
    return [[i for piece in text for i in piece.content.ids] for text in texts]


def theirs(backbone, rows, *, left=False):
    """transformers' logits of each row, from one padded batch."""
    longest = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = backbone.model.eval()(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    return [x[m.bool()][:, backbone.head_ids] for x, m in zip(logits, mask, strict=True)]


def assert_close(ours, reference):
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max()) <= 1e-6 * max(1.0, float(reference.abs().max()))


def trained_logits(backbone, texts):
    """Logits of every row through the training path (the last token is not fed: nothing is read there)."""
    batch = batch_of(backbone, texts)
    states, _ = states_and_inputs(backbone, batch)
    logits = backbone.strategy.readout(backbone, states, batch.cells.reads).detach()
    row = torch.from_numpy(batch.cells.layout.row[batch.cells.reads.cells])
    return [logits[row == i] for i in range(len(texts))]


def asked_logits(backbone, rows):
    """Logits of every row through the session's decoder, the rows fed side by side."""
    decoder = Decoder(backbone, reference_layers=backbone.layers)
    account = decoder.accounts.open(float("inf"))
    feeds = [whole_feed(decoder.new_row(account), row) for row in rows]
    every, broke = decoder.feed(feeds)
    assert not broke
    return [every[f.row] for f in feeds]


def whole_feed(row, ids):
    tokens = torch.tensor(ids).numpy()
    return Feed(row, tokens, tokens * 0, torch.arange(len(ids)).numpy(), every=True)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("size", SIZES)
def test_logits_are_those_of_transformers(size, lengths, scale):
    backbone = sized(size, scale=scale)
    texts = random_texts(LENGTHS[lengths], seed=1)
    rows = token_rows(texts)
    reference = theirs(backbone, rows)
    for ours, there in zip(trained_logits(backbone, texts), reference, strict=True):
        assert_close(ours, there[:-1])
    for ours, there in zip(asked_logits(backbone, rows), reference, strict=True):
        assert_close(ours, there)


def test_left_padded_transformers_agrees_too():
    backbone = sized("xs", scale=4.0)
    rows = token_rows(random_texts((9, 5, 70)))
    for ours, there in zip(asked_logits(backbone, rows), theirs(backbone, rows, left=True), strict=True):
        assert_close(ours, there)


def test_the_comparison_notices_a_wrong_gelu(monkeypatch):
    backbone = sized("xs", scale=4.0)
    rows = token_rows(random_texts((9,)))
    reference = theirs(backbone, rows)[0]
    exact = torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x, approximate: exact(x, approximate="none"))
    with pytest.raises(AssertionError):
        assert_close(asked_logits(backbone, rows)[0], reference)


class SaysSep(Strategy):
    """Direct, but may say <sep>."""

    def sayable(self):
        return (SEP,)


def test_the_head_is_the_sayable_slice():
    alphabet = digits()
    assert tiny(strategy("direct")).outputs == alphabet.core_size == len(DIGITS) - len("chars:") + 1
    backbone = sized("xs", SaysSep())
    assert backbone.head_ids == [*range(alphabet.core_size), alphabet.id_of(SEP)]
    assert backbone.model.config.vocab_size == alphabet.size > backbone.outputs
    rows = token_rows(random_texts((9, 6)))
    for ours, there in zip(asked_logits(backbone, rows), theirs(backbone, rows), strict=True):
        assert_close(ours, there)


@pytest.mark.parametrize(
    "how",
    [
        strategy("future_heads"),
        strategy("reasoning_tokens", per_token=3),
        strategy("reasoning_tokens", per_token=2, place="own", gate="learned", emit="learned"),
        SaysSep(),
    ],
    ids=["future_heads", "thoughts", "parts", "sayable"],
)
def test_reserved_rows_and_parts_change_no_other_weight(how):
    alphabet = digits()
    plain, other = state_of(sized("xs")), state_of(sized("xs", how))
    for name, value in plain.items():
        rows = alphabet.core_size if "wte" in name else len(value)
        assert torch.equal(value[:rows], other[name][:rows]), name
    reserved = other["model.transformer.wte.weight"]
    assert torch.equal(reserved, plain["model.transformer.wte.weight"])
    again = state_of(sized("xs", how))
    assert all(torch.equal(other[name], again[name]) for name in other)


def test_text_and_blocks_are_a_plain_gpt2s_whatever_specials_there_are():
    """As transformers initialises a GPT-2 of text and END alone; more reserved rows or positions change nothing else."""
    alphabet, many = digits(), digits()
    many.size += 7
    spec = ModelSpec(size="xs")
    few_state = state_of(make_backbone(spec, strategy=strategy("direct"), alphabet=alphabet, seed=0))
    far = make_backbone(spec, strategy=strategy("reasoning_tokens", per_token=2, place="own"), alphabet=many, seed=0)
    state = state_of(far)
    assert len(state["model.transformer.wte.weight"]) == many.size and len(state["model.transformer.wpe.weight"]) == 3 * 256
    for name, value in few_state.items():
        assert torch.equal(value, state[name][: len(value)]), name
    std = float(state["model.transformer.wte.weight"][alphabet.core_size :].std())
    assert std == pytest.approx(float(state["model.transformer.wte.weight"][: alphabet.core_size].std()), rel=0.1)


def test_weights_depend_on_the_seed_alone():
    one = state_of(make_backbone(ModelSpec(size="xs"), strategy=strategy("direct"), alphabet=digits(), seed=0))
    torch.manual_seed(99)
    same = state_of(make_backbone(ModelSpec(size="xs"), strategy=strategy("direct"), alphabet=digits(), seed=0))
    other = state_of(make_backbone(ModelSpec(size="xs"), strategy=strategy("direct"), alphabet=digits(), seed=1))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["model.transformer.wte.weight"], other["model.transformer.wte.weight"])


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tiny(strategy("reasoning_tokens", gate="learned"))
    assert torch.equal(before, torch.get_rng_state())


# A pretrained folder


def saved(folder, *, vocab_size):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=vocab_size, n_positions=40, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("how", [strategy("direct"), strategy("reasoning_tokens")], ids=["direct", "thoughts"])
def test_a_pretrained_folder_gives_its_own_logits(tmp_path, how):
    alphabet = digits()
    model = saved(tmp_path, vocab_size=alphabet.core_size)
    backbone = make_backbone(ModelSpec(path=str(tmp_path)), strategy=how, alphabet=alphabet, seed=0)
    assert (backbone.layers, backbone.width, backbone.heads) == (2, 16, 2)
    ids = torch.randint(alphabet.core_size, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reference = model(input_ids=ids).logits[0]
    assert_close(theirs(backbone, ids.tolist())[0], reference)
    if how.passes() and type(how) is type(strategy("direct")):
        assert_close(asked_logits(backbone, ids.tolist())[0], reference)


def test_a_pretrained_model_keeps_its_context_and_drops_no_activation(tmp_path):
    alphabet = digits()
    saved(tmp_path, vocab_size=alphabet.core_size)
    backbone = make_backbone(ModelSpec(path=str(tmp_path)), strategy=strategy("direct"), alphabet=alphabet, seed=0)
    assert backbone.model.config.n_positions == 40
    config = backbone.model.config
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.0, 0.0, 0.0)


def complaint(path):
    with pytest.raises(ValueError) as caught:
        make_backbone(ModelSpec(path=str(path)), strategy=strategy("direct"), alphabet=digits(), seed=0)
    text = str(caught.value)
    assert text.startswith("model.path") and "\n" not in text
    return text


def test_a_wrong_vocabulary_names_both_sizes(tmp_path):
    saved(tmp_path, vocab_size=20)
    text = complaint(tmp_path)
    assert "20" in text and str(digits().core_size) in text


def test_wrong_folders_are_named(tmp_path):
    assert "no-such" in complaint(tmp_path / "no-such")
    complaint(tmp_path)  # there, but empty
    (tmp_path / "config.json").write_text("{}")
    complaint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "bert" in complaint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    complaint(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path):
    saved(tmp_path, vocab_size=digits().core_size)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    complaint(tmp_path)


def test_a_torn_weights_file_is_named(tmp_path):
    saved(tmp_path, vocab_size=digits().core_size)
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    complaint(tmp_path)


def test_a_file_that_lacks_weights_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    saved(tmp_path, vocab_size=digits().core_size)
    (file,) = tmp_path.glob("*.safetensors")
    weights = load_file(file)
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, file, {"format": "pt"})
    assert "h.1.mlp.c_fc" in complaint(tmp_path)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"multiple of heads.*model\.width=30.*model\.heads=4"):
        ModelSpec(width=30, heads=4)


def test_the_device_is_where_the_weights_are():
    assert tiny(strategy("direct")).device == CPU
