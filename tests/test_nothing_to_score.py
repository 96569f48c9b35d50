"""Continuations without a token: encoded alone where a token spans the border, refused where there is no text at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from causal import saved, theirs
from lm_eval_support import asking, scored
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from harness import cli, records
from harness.lm_eval_bridge import ThinkingLM
from harness.runs import plan, run
from harness.spec import RunSpec, make_spec

TEXT = "The Answer: the Answers"
TASK = """
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: %(folder)s/test.jsonl, train: %(folder)s/train.jsonl}}
test_split: test
training_split: train
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: choices
doc_to_target: 0
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A llama whose tokenizer merges "Answer" into one token."""
    folder = tmp_path_factory.mktemp("merging")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train_from_iterator(["Answer"] * 9, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return saved(folder, rows=270)


@pytest.fixture(scope="module")
def ours(merging: str) -> ThinkingLM:
    return ThinkingLM(merging, responses=False)


def nats_behind(path: str, context: list[int], said: list[int]) -> float:
    """By the library."""
    logp = torch.log_softmax(theirs(path, context + said), -1)
    rows = range(len(context) - 1, len(context) + len(said) - 1)
    return float(sum(logp[row, token] for row, token in zip(rows, said, strict=True)))


def test_pairs_are_stock_hfs_wherever_the_continuation_has_a_token_of_its_own(merging: str, ours: ThinkingLM) -> None:
    """All cuts of a text, those through a token too. Where nothing is left stock stops, and both parts are encoded alone."""
    from lm_eval.models.huggingface import HFLM

    stock = HFLM(pretrained=merging, logits_cache=False, batch_size=1, device="cpu")
    cuts = [(TEXT[:at], TEXT[at:end]) for at in range(len(TEXT)) for end in (at + 1, at + 3, len(TEXT)) if end <= len(TEXT)]
    owned = [pair for pair in cuts if not pair[0] or stock._encode_pair(*pair)[1]]
    merged = [pair for pair in cuts if pair not in owned]
    assert ("The Ans", "wer") in merged and len(owned) > 20
    with pytest.raises(AssertionError):
        stock.loglikelihood([asking("loglikelihood", "The Ans", "wer")], disable_tqdm=True)
    wanted = stock.loglikelihood([asking("loglikelihood", *pair) for pair in owned], disable_tqdm=True)
    found = scored(ours, *owned)
    assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in wanted], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    apart = [nats_behind(merging, ours.tok_encode(before), ours.tok_encode(said)) for before, said in merged]
    assert [nats for nats, _ in scored(ours, *merged)] == pytest.approx(apart, abs=1e-4)


def test_choices_of_one_document_are_each_encoded_by_their_own_need(merging: str, ours: ThinkingLM) -> None:
    """Neighbours change nothing, and a blank at the context's end belongs to the continuation either way."""
    pairs = [("The Ans", "wer"), ("The Ans", "wers"), ("The Ans", "!")]
    together = scored(ours, *pairs, together=True)
    assert together == [pytest.approx(scored(ours, pair)[0], abs=1e-5) for pair in pairs]
    assert all(nats < 0 for nats, _ in together)
    assert scored(ours, ("the ", "Answer")) == scored(ours, ("the", " Answer"))


def spec_of(folder: Path, path: str | None, rows: list[dict[str, Any]], **more: Any) -> RunSpec:
    """A run on our task from the file."""
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    taught = [{"context": f"z{n} ", "choices": ["b", "c"]} for n in range(60)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in taught), encoding="utf-8")
    (folder / "choices.yaml").write_text(TASK % {"folder": folder}, encoding="utf-8")
    model = {"model.path": path} if path else {"model.layers": 1, "model.width": 16, "model.heads": 2, "model.context_tokens": 64}
    settings = {**model, "train.flops": 0, **more}
    return make_spec(strategy="direct", task=f"lm_eval:choices,include_path={folder}", settings=settings)


def test_a_random_model_is_not_certain_of_a_choice_that_a_token_swallows(merging: str, tmp_path: Path) -> None:
    rows = [{"context": f"{n} Ans", "choices": ["wer", "n", "t"]} for n in range(6)]
    spec = spec_of(tmp_path, merging, rows)
    record = run(spec, results=tmp_path / "results")
    lines = records.read_lines(records.run_folder(tmp_path / "results", spec))
    assert all(line["targets"] >= 1 and line["nats"] > 0.1 for line in lines)
    assert record["metrics"]["accuracy"]["value"] < 1


EMPTY = [{"context": "a", "choices": ["b", "c"]}, {"context": "a ", "choices": ["b", ""]}]


def test_an_empty_choice_ends_a_run_before_anything_is_taught(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, None, EMPTY, **{"train.flops": 1e8})
    words = r"^choices: document 1, choice 1 \(both count from 0\): its text, '', has nothing to score; give every choice a text$"
    with pytest.raises(ValueError, match=words):
        run(spec, results=tmp_path / "results")
    assert not list((tmp_path / "results").glob("weights/*")) and not list((tmp_path / "results").rglob("run.json"))
    with pytest.raises(ValueError, match=words):
        plan(spec)


def test_an_empty_choice_is_one_line_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(tmp_path, None, EMPTY)
    task = f"lm_eval:choices,include_path={tmp_path}"
    shape = [f"--set=model.{k}={v}" for k, v in (("layers", 1), ("width", 16), ("heads", 2), ("context_tokens", 64))]
    assert spec.task.kind == "requests"
    typed = ["run", "--strategy", "direct", "--task", task, "--train-flops", "0", *shape, "--results", str(tmp_path / "r")]
    assert cli.main(typed) == 2
    told = capsys.readouterr().err.strip().split("\n")
    assert [line for line in told if line.startswith("error:")] == [
        "error: choices: document 1, choice 1 (both count from 0): its text, '', has nothing to score; give every choice a text"
    ]
