"""Models that are not there or do not fit into memory: one line before anything is built."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from causal import saved
from support import digits, tiny
from test_gpt2_config import saved as saved_gpt2
from transformers import AutoModelForCausalLM

from harness import make_spec, model_size
from harness.api import run
from harness.asked_model import load
from harness.cli import main
from harness.lm_eval_door import model_arguments_in, run_lm_eval
from harness.pretrained import check_there
from harness.runs import plan
from harness.spec import ModelSpec
from harness.strategy import Strategy

HUGE: dict[str, Any] = {"model.layers": 96, "model.width": 8192, "model.heads": 64}


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that holds 50 kB."""
    monkeypatch.setattr(model_size, "memory_bytes", lambda: 50_000)


# Models that are not there


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere", "no such folder"),
        ("./nowhere/at/all", "no such folder"),
        ("a name with blanks", "no such folder"),
        ("smollm2-135", r"did you mean smollm2-135m\?"),
        ("nobody/nothing", "no such model of the hub"),
        ("{folder}/llamo", r"did you mean {folder}/llama\?"),
        ("{folder}/llama/config.json", "it is a file"),
        ("{folder}/empty", "holds no config.json"),
    ],
)
def test_a_mistyped_path_is_told_with_what_is_near(
    path: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    saved(tmp_path / "llama")
    (tmp_path / "empty").mkdir()
    capsys.readouterr()  # the library's progress
    path, why = (text.replace("{folder}", str(tmp_path)) for text in (path, why))
    with pytest.raises(ValueError, match=rf"^model\.path: cannot load '{path}': [^\n]*{why}[^\n]*smollm2-135m$"):
        check_there(path)
    assert main(["run", "--strategy=direct", "--task=k_hop", f"--set=model.path={path}", f"--results={tmp_path}/r"]) == 2
    assert main(["compare", "--task=k_hop", f"--set=model.path={path}", "--train-flops=0", f"--results={tmp_path}/r"]) == 2
    assert main(["lm-eval", "run", "--model=thinking", "--model_args", f"pretrained={path},strategy=direct", "--tasks=x"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": cannot")[0] for line in said] == ["error: model.path", "error: model.path", "error: pretrained"]
    assert not (tmp_path / "r" / "runs").exists()


def test_a_name_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ValueError, match=r"^model\.path: cannot load 'gpt3': .* can be had \(ConnectionError\); give"):
        check_there("gpt3")


def test_models_that_are_there_pass(tmp_path: Path) -> None:
    check_there(saved(tmp_path))
    check_there("smollm2-135m")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("run --model thinking --model_args pretrained=a/b,strategy=direct", "a/b"),
        ("--model=thinking --model_args=strategy=direct,pretrained=a", "a"),
        ("-M thinking -a strategy=direct pretrained=a --tasks x", "a"),
        ("run --model hf --model_args pretrained=a", None),
        ("run --model thinking --tasks pretrained=a", None),
        ("ls tasks", None),
    ],
)
def test_the_model_is_found_among_lm_evals_arguments(words: str, named: str | None) -> None:
    assert model_arguments_in(words.split()).get("pretrained") == named


# Models that do not fit


def test_weights_are_those_of_the_files(tmp_path: Path) -> None:
    for name, path in (("whole", saved(tmp_path / "whole")), ("tied", saved_gpt2(tmp_path / "tied"))):
        model: Any = AutoModelForCausalLM.from_pretrained(path)
        count = sum(p.numel() for p in model.parameters())
        assert model_size.weights_of(ModelSpec(path=path)) == count
        model.save_pretrained(tmp_path / f"{name} parts", max_shard_size="20KB")
        assert (tmp_path / f"{name} parts" / model_size.INDEX).exists()
        assert model_size.weights_of(ModelSpec(path=str(tmp_path / f"{name} parts"))) == count


def test_weights_of_a_shape_are_all_but_the_vocabularys() -> None:
    backbone = tiny(Strategy(), layers=3, width=16, context=40)
    count = sum(p.numel() for p in backbone.parameters()) - digits().size * 16
    assert model_size.weights_of(ModelSpec(layers=3, width=16, heads=4, context_tokens=40)) == count


@pytest.mark.parametrize("text", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]"])
def test_files_that_cannot_be_read_are_left_to_whoever_loads_them(text: bytes, tmp_path: Path) -> None:
    (tmp_path / model_size.WEIGHTS).write_bytes(text)
    assert model_size.weights_of(ModelSpec(path=str(tmp_path))) == 0
    (tmp_path / model_size.INDEX).write_bytes(text)
    assert model_size.weights_of(ModelSpec(path=str(tmp_path))) == 0


def test_what_does_not_fit_is_refused_before_it_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_spec(strategy="direct", task="k_hop", settings=HUGE)
    for make in (lambda: plan(spec), lambda: run(spec, results=tmp_path)):
        with pytest.raises(
            ValueError, match=r"^model has at least 77,3\d\d,\d{3},\d{3} weights, which take 1,237\.\d GB .*moments"
        ):
            make()
    words = [f"--set={key}={value}" for key, value in HUGE.items()]
    given = ["compare", "--task=k_hop", "--strategies=direct", *words, f"--results={tmp_path}"]
    assert main([*given, "--dry-run"]) == main([*given, "--infer=x1"]) == 2
    assert all(line.startswith("error: model has at least") for line in capsys.readouterr().err.splitlines())
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("small_machine")
def test_what_is_taught_takes_four_times_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """8,000 weights fit; with gradients and two moments they do not, unless several processes share them."""
    monkeypatch.setattr(model_size, "weights_of", lambda model: 8_000)
    model_size.check_fits(ModelSpec(), taught=False)
    with pytest.raises(ValueError, match=r"8,000 weights, which take 0\.0 GB in float32 with their gradients"):
        model_size.check_fits(ModelSpec(), taught=True)
    monkeypatch.setenv("WORLD_SIZE", "4")
    model_size.check_fits(ModelSpec(), taught=True)


@pytest.mark.usefixtures("small_machine")
def test_a_pretrained_model_that_does_not_fit_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "model")
    capsys.readouterr()  # the library's progress
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it was loaded"))
    settings = {"model.path": path, "train.flops": 0}
    spec = make_spec(strategy="direct", task="support:Toy", settings=settings)
    told = rf"^model\.path: {path} has at least [\d,]+ weights, .*; choose a smaller model$"
    for make in (lambda: plan(spec), lambda: run(spec, results=tmp_path / "r"), lambda: load(path, settings={}, device="cpu")):
        with pytest.raises(ValueError, match=told):
            make()
    assert main(["lm-eval", "run", "--model", "thinking", "--model_args", f"pretrained={path}", "--tasks", "x"]) == 2
    assert capsys.readouterr().err.startswith(f"error: pretrained: {path} has at least")


def test_a_containers_limit_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for text, limit in (("123456789\n", 123_456_789), ("max\n", whole), (str(1 << 62), whole), ("", whole)):
        (tmp_path / "max").write_text(text)
        monkeypatch.setattr(model_size, "LIMITS", (tmp_path / "max", tmp_path / "none"))
        assert model_size.memory_bytes() == limit


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["run", "--strategy=direct", "--task=k_hop", "--set=model.path=/nowhere"],
        ["run", "--strategy=direct", "--task=k_hop", "--set=model.path=gpt3"],
        ["run", "--strategy=direct", "--task=k_hop", "--set=model.layers=96", "--set=model.width=8192"],
        ["compare", "--task=k_hop", "--set=model.path=/nowhere", "--train-flops=0"],
        ["lm-eval", "run", "--model", "thinking", "--model_args", "pretrained=/nowhere", "--tasks", "x"],
        ["lm-eval", "run", "--model", "thinking", "--model_args", "pretraind=nope", "--tasks", "x"],
        ["lm-eval", "run", "--model", "thinking", "--model_args", "strategy=direct", "--tasks", "x"],
        ["lm-eval", "run", "--model", "thinking", "--model_args", "pretrained=a,device=cpu", "--tasks", "x"],
    ],
)
def test_it_takes_less_than_three_seconds_of_cpu(words: list[str], tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "harness", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, cwd=Path(__file__).parent.parent
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and done.stdout == ""
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretraind=nope", "unknown argument 'pretraind'; legal: pretrained, "),
        ("strategy=direct", "name the run or the model that is asked"),
        ("pretrained=a,device=cpu", "device is an option of lm-eval itself; give it as --device"),
    ],
)
def test_mistyped_model_arguments_are_told_before_lm_eval_is_asked(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^model_args: ") as told:
        run_lm_eval(["run", "--model", "thinking", "--model_args", words, "--tasks", "x"])
    assert said in str(told.value)
