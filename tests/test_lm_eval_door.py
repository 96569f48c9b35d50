"""Our tasks as tasks of lm-eval, and its command line with our model: numbers and ledgers of `run`, traces beside samples."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from lm_eval_support import run_of, squares

from harness import jsonl, records
from harness.cli import main
from harness.lm_eval_door import TASKS
from harness.runs import run
from harness.spec import make_spec

WAYS = {
    "direct": {},
    "chain_of_thought": {},
    "pause_tokens": {"strategy.pauses": 4},
    "reasoning_tokens": {"strategy.per_token": 2},
    "self_consistency": {"strategy.samples": 3},
    "best_of_n": {"strategy.base": "direct", "strategy.samples": 3, "strategy.select": "oracle"},
    "tree_of_thoughts": {"strategy.branching": 2, "strategy.breadth": 2},
}
SLOW_WAYS = ("pause_tokens", "self_consistency", "best_of_n", "tree_of_thoughts")
SETTINGS = {"model.size": "xs", "train.flops": 2e10, "infer.problems": 80, "task.elements": 6, "task.hops": "1-2"}
TEXT = {"model.size": "xs", "train.flops": 1e10, "infer.problems": 3}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("door") / "results"


def made(strategy: str, results: Path, task: str = "k_hop", **settings) -> tuple[dict, Path]:
    spec = make_spec(strategy=strategy, task=task, settings=SETTINGS | WAYS[strategy] | settings)
    return run(spec, results=results), records.run_folder(results, spec)


def evaluated(folder: Path, *tasks: str, **arguments):
    told = {"pretrained": str(folder), "responses": False, **arguments}
    known = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=told)
    return lm_eval.simple_evaluate(model="thinking", model_args=told, tasks=list(tasks), task_manager=known, bootstrap_iters=0)


@pytest.mark.parametrize("way", [pytest.param(w, marks=pytest.mark.slow if w in SLOW_WAYS else ()) for w in WAYS])
def test_our_task_through_their_evaluator_is_run(results, way):
    """Score to the last digit and the whole ledger, on the same problems, drawn answers and votes too."""
    if way == "best_of_n":
        with pytest.raises(ValueError, match="key"):
            evaluated(made(way, results)[1], "thinking_k_hop")
        return
    record, folder = made(way, results)
    found = evaluated(folder, "thinking_k_hop")
    assert found["results"]["thinking_k_hop"]["sample_len"] == record["infer"]["problems"] == 80
    assert found["results"]["thinking_k_hop"]["accuracy,none"] == record["metrics"]["accuracy"]["value"]
    ours, cost = record["infer"], found["config"]["ledgers"]["thinking_k_hop"]
    assert cost["flops_per_document"] == pytest.approx({k: ours["flops_per_problem"][k] for k in cost["flops_per_document"]})
    for name in ("serial_passes", "text_tokens", "woven_tokens"):
        assert cost[f"{name}_per_document"] == pytest.approx(ours[f"{name}_per_problem"])
    lines = records.read_lines(folder)
    assert [s["resps"][0][0] for s in found["samples"]["thinking_k_hop"]] == [line["answer"] or "" for line in lines]


def test_likelihoods_of_keys_are_those_of_run(results):
    """`run` scores the end of text as well, lm-eval the key alone: so each is at most that, and greedy ones are right."""
    _, folder = made("direct", results)
    found = evaluated(folder, "thinking_k_hop_ll")["samples"]["thinking_k_hop_ll"]
    for line, sample in zip(records.read_lines(folder), found, strict=True):
        nats, greedy = sample["resps"][0][0]
        assert 0 <= -nats <= line["nats"] + 1e-4
        assert sample["acc"] == greedy and (greedy or line["score"] == 0)


def test_documents_of_ours_are_scored_whole(results, tmp_path):
    """In the same windows where the context is as long: then bits per byte, by their own count of bytes, are those of `run`."""
    spec = make_spec(strategy="direct", task="language_model", settings=TEXT)
    run(spec, results=results)
    folder = records.run_folder(results, spec)
    found = evaluated(folder, "thinking_language_model", max_length=128)["results"]["thinking_language_model"]
    record = records.read_run(folder)
    assert found["sample_len"] == record["infer"]["problems"]
    assert found["bits_per_byte,none"] == pytest.approx(record["metrics"]["bits_per_byte"]["value"], rel=1e-12)


def test_every_yaml_of_ours_names_a_task_that_is_there():
    known = TaskManager(include_path=str(TASKS), include_defaults=False)
    names = [name for name in known.all_tasks if name.startswith("thinking_") and name not in ("thinking_ll", "thinking_text")]
    assert len(names) == len([path for path in TASKS.glob("*.yaml") if not path.name.startswith("_")])


# Their command line


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "harness", "lm-eval", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.slow
def test_their_command_line_scores_our_model_and_logs_what_was_thought(tmp_path, results):
    """One call, since each costs half a minute whatever the model: examples, limits, both caches, samples, traces."""
    _, folder = made("chain_of_thought", results, **{"model.alphabet": "bytes"})  # examples have lines of their own
    done = command(
        "run", "--model", "thinking", "--model_args", f"pretrained={folder}", "--tasks", "thinking_k_hop", "thinking_k_hop_ll",
        "--log_samples", "--limit", 5, "--num_fewshot", 1, "--output_path", tmp_path / "out", "--use_cache", tmp_path / "cache",
        "--batch_size", "auto",
    )  # fmt: skip
    assert "|thinking_k_hop" in done.stdout and "exact_match" in done.stdout
    (written,) = (tmp_path / "out").rglob("results_*.json")
    assert written.parent.name.endswith(folder.name)
    found = json.loads(written.read_bytes())
    assert found["config"]["ledgers"]["thinking_k_hop"]["flops_per_document"]["think"] > 0
    (logged,) = (tmp_path / "out").rglob("samples_thinking_k_hop_2*.jsonl")
    samples = [json.loads(line) for line in jsonl.lines_of(logged)]
    assert len(samples) == 5 and (tmp_path / "cache_rank0.db").exists()
    for sample in samples:
        ((thought,),) = sample["thinking"]
        assert thought["text"] == sample["resps"][0][0] and thought["ledger"]["flops"]["think"] > 0
        assert thought["raw"].endswith(thought["text"]) or thought["unclosed"]
        assert "\n" in sample["arguments"]["gen_args_0"]["arg_0"]  # an example stands before the question


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process, without the index of the library's own tasks, which takes most of a minute a call."""
    whole, stock = TaskIndex.build, Path(lm_eval.tasks.__file__).parent
    ours_only = staticmethod(lambda paths, **given: whole([path for path in paths if path != stock], **given))
    monkeypatch.setattr(TaskIndex, "build", ours_only)
    monkeypatch.setattr(logging.root, "handlers", [])  # lm-eval's first handler would keep this test's streams

    def command(*arguments: object) -> tuple[int, str, str]:
        code = main(["lm-eval", *map(str, arguments)])
        return code, *capsys.readouterr()

    return command


@pytest.mark.slow
def test_their_other_options(tmp_path, results, inside):
    _, folder = made("direct", results)
    one = ("run", "--model", "thinking", "--tasks", "thinking_k_hop", "--limit", 2, "--model_args")
    code, said, _ = inside(*one, f"pretrained={folder}", "--predict_only", "--output_path", tmp_path / "out")
    assert code == 0 and "bypass" in said and list((tmp_path / "out").rglob("samples_*"))
    for arguments, words in (
        ((f"pretrained={folder}", "--apply_chat_template"), ("no chat template",)),
        ((f"pretrained={folder},strateggy=direct",), ("strateggy", "strategy.NAME")),
        ((f"pretrained={folder}", "--include_path", tmp_path / "nowhere"), ("--include_path", "nowhere")),
    ):
        code, _, complaint = inside(*one, *arguments)
        assert code == 2 and all(word in complaint.splitlines()[-1] for word in words), complaint[-500:]


def test_a_users_own_tasks_are_known_beside_ours(tmp_path, results, inside):
    _, folder = made("direct", results)
    data = squares(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(
        "task: mine\ndataset_path: json\ndataset_kwargs: {data_files: {test: " + str(data) + "}}\ntest_split: test\n"
        'output_type: generate_until\ndoc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\n'
        "metric_list: [{metric: exact_match}]\n"
    )
    with pytest.warns(UserWarning, match="answers of up to 256 tokens leave no room"):  # lm-eval's cap where a task has none
        code, _, complaint = inside(
            "run", "--model", "thinking", "--model_args", f"pretrained={folder}", "--tasks", "mine,thinking_k_hop", "--limit", 2,
            "--include_path", tmp_path / "mine",
        )  # fmt: skip
    assert code == 2 and "no such characters" in complaint  # squares want an alphabet that this run has not
    code, said, _ = inside("ls", "tasks", "--include_path", tmp_path / "mine")
    assert code == 0 and "thinking_k_hop" in said


def test_what_is_no_line_feed_ends_no_sample(tmp_path, results, inside):
    """A document and answers with characters that Python calls line ends: the evaluation ends well, with all of its traces."""
    odd = "\u2028a\u2029b\x85c\x0bd\x0ce\x1cf"
    folder = run_of("direct", {}, data=squares(tmp_path), results=results)
    rows = [json.dumps({"question": f"{n}{odd}?", "answer": odd}, ensure_ascii=False) for n in range(3)]
    (tmp_path / "odd.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "odd.yaml").write_text(
        f"task: odd\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path / 'odd.jsonl'}}}}}\ntest_split: test\n"
        'output_type: generate_until\ndoc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\n'
        "generation_kwargs: {until: [], max_gen_toks: 4}\nmetric_list: [{metric: exact_match}]\n"
    )
    code, _, complaint = inside(
        "run", "--model", "thinking", "--model_args", f"pretrained={folder}", "--tasks", "odd", "--log_samples",
        "--include_path", tmp_path / "mine", "--output_path", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, complaint
    (logged,) = (tmp_path / "out").rglob("samples_odd_*.jsonl")
    samples = [json.loads(line) for line in jsonl.lines_of(logged)]
    assert [sample["doc"]["answer"] for sample in samples] == [odd] * 3
    for sample in samples:
        ((thought,),) = sample["thinking"]
        assert thought["text"] == sample["resps"][0][0] and thought["ledger"]["flops"]["prefill"] > 0


def test_the_folder_of_our_tasks_is_told_at_once():
    done = command("--tasks-path")
    assert Path(done.stdout.strip()) == TASKS and (TASKS / "arithmetic.yaml").exists()
