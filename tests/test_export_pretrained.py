"""A pretrained GPT-2 that was taught on and exported: stock transformers reads the same ids, ends and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_pretrained import ROWS, tokenizer_in
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from harness import make_spec
from harness.export import END_TEXT, export_run
from harness.inspect import load_run
from harness.problem import SEP
from harness.runs import run


def gpt2_in(folder: Path, *, eos: str, places: int = 64, **fields: Any) -> str:
    """A tiny GPT-2 with a tokenizer of its own, whose specials have the ids 0, 1, 2, and with rows that no token has."""
    tokenizer = tokenizer_in(folder, eos=eos)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=ROWS, n_embd=16, n_layer=2, n_head=2, n_positions=places, eos_token_id=tokenizer.eos_token_id, **fields
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", ["direct", "chain_of_thought"])
@pytest.mark.parametrize("eos", [END_TEXT, "<|im_end|>"])
def test_ids_and_ends_are_those_of_the_model(name: str, eos: str, tmp_path: Path) -> None:
    path = gpt2_in(tmp_path / "model", eos=eos, layer_norm_epsilon=0.1)
    settings = {
        "model.path": path, "train.flops": 2e7, "train.problems_per_update": 2, "infer.problems": 2, "train.learning_rate": 1e-3
    }  # fmt: skip
    record = run(make_spec(strategy=name, task="k_hop", settings=settings), results=tmp_path)
    assert record["train"]["updates"] > 1
    told = export_run(record["fingerprint"], tmp_path / "out", results=tmp_path)
    if name == "direct":  # which says its answers as plain text does
        assert told["same_scores"] and told["largest_difference_nats"] < 1e-4
    alphabet = load_run(record["fingerprint"], results=tmp_path, device="cpu")[1].alphabet
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == eos and tokenizer.eos_token_id == alphabet.end_id == model.config.eos_token_id
    assert tokenizer("12+34=", add_special_tokens=False)["input_ids"] == alphabet.encode("12+34=").tolist()
    assert model.config.layer_norm_epsilon == 0.1 and model.config.vocab_size == record["model"]["outputs"]
    if name == "chain_of_thought":
        assert tokenizer.convert_tokens_to_ids(SEP.name) == alphabet.id_of(SEP) == ROWS
