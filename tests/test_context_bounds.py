"""What the user is told of contexts: what bounds a pretrained model's, and how many prompts one did not hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from causal import GROUPED
from lm_eval_made import by_lm_eval, made_run, write_tasks
from lm_eval_support import scored
from test_nothing_to_score import spec_of

from harness import cli, records
from harness.context_bounds import told_bounds, told_truncated
from harness.lm_eval_bridge import ThinkingLM
from harness.recheck import recheck
from harness.runs import run
from harness.spec import ModelSpec
from harness.storage import replace_file


def model_in(folder: Path, kind: str, **fields: object) -> str:
    """A random model's folder."""
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    config = getattr(transformers, f"{kind}Config")(vocab_size=257, **ends, **fields)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> str:
    """96 positions, of which a token sees 40."""
    return model_in(tmp_path_factory.mktemp("mistral"), "Mistral", **GROUPED, sliding_window=40)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """96 positions."""
    return model_in(tmp_path_factory.mktemp("gpt2"), "GPT2", n_positions=96, n_embd=16, n_layer=1, n_head=2)


def told(path: str, asked: int | None) -> list[str]:
    """The lines of a model without its path."""
    lines = list(told_bounds([ModelSpec(path=path, context_tokens=asked)] * 2))
    return [line.removeprefix(f"model.context_tokens: {path} has ") for line in lines]


def test_a_bound_that_shortens_contexts_is_told_once(mistral: str, gpt2: str) -> None:
    window, positions = "40 tokens within its window of attention (sliding_window)", "96 positions (max_position_embeddings)"
    assert told(mistral, None) == [f"{window}, so contexts have 40, not 96"]
    assert told(mistral, 64) == [f"{window}, so contexts have 40, not 64"]
    assert told(gpt2, 1024) == [f"{positions}, so contexts have 96, not 1,024"]
    assert told(mistral, 40) == told(mistral, 12) == told(gpt2, None) == told(gpt2, 96) == []
    assert list(told_bounds([ModelSpec()])) == []


def test_the_line_comes_when_a_model_is_loaded(
    mistral: str, gpt2: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lm = ThinkingLM(mistral, responses=False, **{"model.alphabet": "bytes"})
    assert lm.max_length == 40 and f"{mistral} has 40 tokens within its window of attention" in capfd.readouterr().err
    typed = [
        "run",
        "--strategy",
        "direct",
        "--task",
        "arithmetic",
        "--set",
        f"model.path={gpt2}",
        "--set",
        "model.alphabet=bytes",
    ]
    typed += ["--set", "model.context_tokens=300", "--train-flops", "0", "--problems", "2", "--results", str(tmp_path)]
    assert cli.main([*typed, "--dry-run"]) == 0
    assert capfd.readouterr().err.count(f"{gpt2} has 96 positions (max_position_embeddings), so contexts have 96, not 300") == 1


# Prompts that a context did not hold


def test_how_many_prompts_were_cut_is_told() -> None:
    assert told_truncated(0) is None
    assert str(told_truncated(1)).startswith("truncated_prompts: 1 prompt lost its beginning")
    assert str(told_truncated(1200)).startswith("truncated_prompts: 1,200 prompts lost their beginning")


ROWS = [{"context": "c" * (300 if n % 3 else 9), "choices": ["b", "no"]} for n in range(6)]  # four of them are too long


def test_a_record_counts_the_prompts_that_were_cut(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Once a prompt, whatever its choices; the count can be checked from the lines, and lines of before say nothing."""
    spec = spec_of(tmp_path, None, ROWS)
    record = run(spec, results=tmp_path / "results")
    folder = records.run_folder(tmp_path / "results", spec)
    lines = records.read_lines(folder)
    assert record["truncated_prompts"] == 4 and [line["truncated_prompts"] for line in lines] == [0, 1, 1, 0, 1, 1]
    assert recheck(folder).problems == ()
    lm = ThinkingLM(str(folder), responses=False, trust_plugins=True)
    capfd.readouterr()
    scored(lm, *[(row["context"], row["choices"][0]) for row in ROWS])
    assert capfd.readouterr().err.count("truncated_prompts: 4 prompts lost their beginning") == 1
    assert lm.get_model_info()["ledgers"]["made"]["truncated_prompts"] == 4
    spoilt = "".join(json.dumps(line | {"truncated_prompts": 0}) + "\n" for line in lines)
    replace_file(folder / "problems.jsonl", spoilt.encode())
    kept = {name: value for name, value in record.items() if name not in ("files", "digest", "timing")}
    records.write_json(folder / "run.json", records.sealed(kept, folder, ("problems.jsonl",)))
    assert "truncated_prompts: run.json has 4, its lines give 0" in recheck(folder).problems
    older = {name: value for name, value in kept.items() if name != "truncated_prompts"}
    records.write_json(folder / "run.json", records.sealed(older, folder, ("problems.jsonl",)))
    assert recheck(folder).problems == ()


def test_the_command_says_so_at_its_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec_of(tmp_path, None, ROWS)
    shape = [f"--set=model.{k}={v}" for k, v in (("layers", 1), ("width", 16), ("heads", 2), ("context_tokens", 64))]
    typed = ["run", "--strategy", "direct", "--task", f"lm_eval:choices,include_path={tmp_path}", "--train-flops", "0", *shape]
    assert cli.main([*typed, "--results", str(tmp_path / "results"), "--json"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["truncated_prompts"] == 4
    assert said.err.count("truncated_prompts: 4 prompts lost their beginning") == 1


def test_prompts_of_answers_are_counted_alike_in_both_directions(tmp_path: Path) -> None:
    """Of a benchmark whose prompts do not fit; greedy repetitions are one prompt."""
    folder = write_tasks(tmp_path)
    record, where = made_run("again", folder, tmp_path / "results", model__context_tokens=16, train__flops=0)
    assert record["truncated_prompts"] == 9
    lm = ThinkingLM(str(where), responses=False, trust_plugins=True)
    by_lm_eval(lm, "made_again", folder)
    assert lm.get_model_info()["ledgers"]["made_again"]["truncated_prompts"] == 9
    fits, _ = made_run("again", folder, tmp_path / "results", train__flops=0)
    assert fits["truncated_prompts"] == 0
