"""The README is true: its commands run, its strategy passes `check`, its table is what the main job prints."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from harness.cli import cli, main
from harness.grid import grid_of
from harness.suite_file import read_suite

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.M | re.S)
TINY = "model.size=xs model.width=16 model.heads=2 model.layers=1 train.problems_per_update=4 train.flops=3e8 infer.problems=2"
SUMS = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for _, block in BLOCKS
    for line in block.replace("\\\n", "").splitlines()
    if line.startswith("python -m harness")
]


def test_every_command_is_in_the_readme() -> None:
    """And the README names no other."""
    assert {words[0] for words in COMMANDS} == set(cli.commands)


def _costly(words: list[str]) -> bool:
    return "tree_of_thoughts" in words or any("pretraining=" in w for w in words)


EVERYDAY = 6  # of the commands of `run`; the others in CI
RUNS = [w for w in COMMANDS if w[0] == "run"]
RUNS = [pytest.param(w, marks=pytest.mark.slow if _costly(w) or at >= EVERYDAY else ()) for at, w in enumerate(RUNS)]


@pytest.mark.parametrize("words", RUNS, ids=lambda words: " ".join(words))
def test_run_commands_run(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `run` of the README, at a tiny size, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems.jsonl").write_text("".join(f'{{"question": "{i}+1=", "answer": "{i + 1}"}}\n' for i in range(200)))
    if "task.corpus=shakespeare" in words:
        words = [w if w != "task.corpus=shakespeare" else "task.corpus=pydoc" for w in words]  # the fetch has a test of its own
    settings = TINY.split()
    if any("model.path=" in w for w in words):  # a real model, and a task of lm-eval's
        words, settings = [f"model.path={_model(tmp_path)}" if "model.path=" in w else w for w in words], ["infer.problems=2"]
        (tmp_path / "my_tasks").mkdir()
        (tmp_path / "my_tasks" / "sums.yaml").write_text(SUMS.replace("DATA", str(tmp_path / "problems.jsonl")))
    settings += ["pretraining.train.flops=3e8"] if any("pretraining=" in w for w in words) else []
    tiny = [w for setting in settings for w in ("--set", setting)]
    if any("model.path=" in w for w in words):
        assert main([*words, *tiny, "--dry-run"]) == 0
    assert main([*words, *tiny]) == 0
    assert ("--dry-run" in words) != (tmp_path / "results").exists()


def _model(folder: Path) -> Path:
    """A tiny random Llama over bytes, with a tokenizer of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from harness.alphabet import ByteCodec

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=257, eos_token_id=256, max_position_embeddings=4096, **shape)).save_pretrained(
        folder / "model"
    )
    tokenizer = Tokenizer.from_str(ByteCodec().tokenizer_json())
    tokenizer.add_special_tokens(["</s>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder / "model")
    return folder / "model"


def test_its_strategy_passes_check_and_is_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe, copied into a file."""
    code = next(block for language, block in BLOCKS if language == "python" and "Strategy" in block)
    assert len(code.splitlines()) < 40
    path = tmp_path / "idle_thoughts.py"
    path.write_text(code, encoding="utf-8")
    assert main(["check", str(path)]) == 0, capsys.readouterr().out


def test_its_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API example, at a tiny size."""
    monkeypatch.chdir(tmp_path)
    code = next(block for language, block in BLOCKS if language == "python" and "load_runs" in block)
    settings = ", ".join(f'"{k}": "{v}"' for k, v in (s.split("=") for s in TINY.split()))
    names: dict[str, object] = {}
    exec(code.replace('{"strategy.per_token": 2}', '{"strategy.per_token": 2, ' + settings + "}"), names)
    table = names["table"]
    assert list(table["strategy"]) == ["reasoning_tokens"] * 2  # type: ignore[index]


def test_its_results_are_those_of_the_tables() -> None:
    """Sentences and rows of the reference are in the committed tables, and nothing of them is left out."""
    part = " ".join(README.partition("## What the reference finds")[2].partition("\n## ")[0].split())
    table = (ROOT / "results" / "tables" / "reference-k_hop.md").read_text(encoding="utf-8")
    said = [
        line[2:]
        for line in table.splitlines()
        if re.match(r"- On k_hop after 1e\+12 .* (chain_of_thought|reasoning_tokens) scores", line)
    ]
    assert len(said) == 2 and all(sentence in part for sentence in said)
    heads, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| "))
    rows = [dict(zip(heads, row, strict=True)) for row in rows if row[1] == "1e+12"]
    assert len(rows) == 21
    for row in rows:
        point = "" if row["point"] == "-" else f" ({row['point']})"
        numbers = [row[k] for k in ("score [95%]", "FLOPs a problem", "serial passes", "supervised tokens", "difference [95%]")]
        assert " | ".join([f"| {row['arm']}{point}", *numbers, row["verdict"].partition(" (")[0]]) in part


def test_no_machine_paths_or_hosts() -> None:
    """What we ship speaks of the project alone."""
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("harness/**/*.py"),
        *ROOT.glob("tasks/*.py"),
        ROOT / "Makefile",
    ]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/work/|/root/|/opt/|pypi\.org|files\.pythonhosted", text), path


def test_its_suite_is_one(tmp_path: Path) -> None:
    """Both comparisons of the README plan what they say."""
    (tmp_path / "my_suite.toml").write_text(next(block for language, block in BLOCKS if language == "toml"), encoding="utf-8")
    grid = grid_of(read_suite(tmp_path / "my_suite.toml"))
    labels = [arm.label for arm in grid.arms[0]]
    assert labels[-2:] == ["two thoughts", "self_consistency"] and "direct" in labels and not grid.left_out
    assert {cell.spec.seed for cell in grid.cells} == set(range(8))


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] in ("compare", "sweep") and "--suite" not in w], ids=" ".join)
def test_compare_commands_plan(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a tiny size."""
    monkeypatch.chdir(tmp_path)
    assert main([*words, *[w for setting in TINY.split()[:5] for w in ("--set", setting)]]) == 0
    assert "--dry-run" in words and not (tmp_path / "results").exists()


def test_its_pretrained_table_tells_the_floor() -> None:
    """As the committed table has it; and tables without records or a command say so."""
    with open(ROOT / "results" / "tables" / "smollm2-word_problems.csv", encoding="utf-8", newline="") as file:
        (floor,) = {row["floor"] for row in csv.DictReader(file)}
    part = README.partition("## A pretrained model, asked as it is")[2].partition("\n## ")[0]
    assert f"commonest answer, is {100 * float(floor):.1f}%" in " ".join(part.split())
    for name in ("## Where saying worked lines pays", "## Where searching pays"):
        assert "were measured once" in README.partition(name)[2].partition("\n## ")[0]
