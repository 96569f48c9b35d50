"""Tasks of lm-eval under our runs: the same numbers as lm-eval's own evaluator gives for the same model, to the last digit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval_made import TASKS, by_lm_eval, made_run, made_spec, theirs_of, write_tasks

from harness import cli, evaluate, records, registry, runs, storage, summary
from harness.asked_model import load
from harness.export import export_run
from harness.lm_eval_bridge import ThinkingLM
from harness.recheck import recheck
from harness.spec import from_json, make_spec
from harness.spec_text import command_line

WAYS = {  # which tasks are asked how
    "direct": ({}, tuple(TASKS)),
    "pause_tokens": ({"strategy__pauses": 2}, ("gen", "choice", "text")),
    "self_consistency": ({"strategy__samples": 3}, ("gen", "drawn")),
    "beam_search": ({"strategy__width": 2}, ("gen", "choice")),
    "chain_of_thought": ({"task__steps": "{{steps}}", "task__lines_cap_tokens": 24}, ("gen", "choice")),
}
FAST = {("direct", name) for name in ("gen", "drawn", "choice", "binary", "likely", "taught")}
FAST |= {("pause_tokens", "choice"), ("self_consistency", "gen")}
PAIRS = [(way, name) for way, (_, names) in WAYS.items() for name in names]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("lm_eval_tasks"))


def model_of(folder: Path):
    return ThinkingLM(str(folder), responses=False, trust_plugins=True)  # its task lies in a folder of its own


@pytest.mark.parametrize(("way", "name"), [pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow) for pair in PAIRS])
def test_numbers_are_lm_evals(place, way, name):
    """A run of ours, and lm-eval with that run as its model; and the record can be checked from its lines."""
    record, folder = made_run(name, place, place / "results", way, **WAYS[way][0])
    theirs, samples = by_lm_eval(model_of(folder), f"made_{name}", place)
    assert theirs and theirs_of(record) == theirs
    said = [line["responses"] for line in records.read_lines(folder)]
    assert json.loads(json.dumps(samples)) == said
    assert recheck(folder).problems == () and recheck(folder).traced == 4
    headline = next(iter(record["metrics"]))
    assert headline == ("nats_per_token" if name in ("text", "taught") else "accuracy")


def test_what_is_compared(place):
    """The first mean of which more is better; else what a document has alone; else nats; or what is asked for."""
    names = ("gen", "corpus", "choice", "binary", "likely", "text")
    scored = {name: made_spec(name, place).task.provenance()["scored"] for name in names}
    assert scored == {
        "gen": "exact_match,strict", "corpus": "exact_match,none", "choice": "acc,none", "binary": "f1,none",
        "likely": "acc,none", "text": None,
    }  # fmt: skip
    record, folder = made_run("gen", place, place / "results", task__score="exact_match,letter")
    assert record["metrics"]["accuracy"]["value"] == record["metrics"]["exact_match,letter"]["value"] > 0
    assert record["metrics"]["accuracy"]["floor"] == pytest.approx(6 / 9)
    assert {line["scored"] for line in records.read_lines(folder)} == {"exact_match,letter"}
    nats, _ = made_run("likely", place, place / "results", task__score="nats")
    assert next(iter(nats["metrics"])) == "nats_per_token"
    legal = "chrf,none, exact_match,none, nats"
    for score, words in (("chrf", "between 0 and 1"), ("blue", f"no metric 'blue,none'; legal: {legal}")):
        with pytest.raises(ValueError, match=f"task.score: .*{words}"):
            made_run("corpus", place, place / "results", task__score=score)


def test_means_are_recomputed_and_others_stand(place):
    """A mean that was changed is found; a metric of the task's own is named as left out; a choice has its key's likelihood."""
    record, folder = made_run("choice", place, place / "results")
    lines = records.read_lines(folder)
    assert any("brier_score,none" in words for words in recheck(folder).left_out)
    again = summary.metrics(lines, kind="requests", outputs=record["model"]["outputs"], theirs=record["metrics"])
    assert again == record["metrics"]
    lines[0]["metrics"]["acc,none"] += 1
    changed = summary.metrics(lines, kind="requests", outputs=record["model"]["outputs"], theirs=record["metrics"])
    assert changed["acc,none"] != record["metrics"]["acc,none"]
    assert record["metrics"]["brier_score,none"]["aggregation"] == "theirs: brier_score()"
    gold = [line["responses"][json.loads(line["constant"])][0][0] for line in lines]
    assert [-line["nats"] for line in lines] == pytest.approx(gold)


def test_equal_requests_are_asked_once_and_draws_each(place):
    """Greedy repetitions cost nothing more; drawn ones do, and differ."""
    once, _ = made_run("again", place, place / "results")
    drawn, folder = made_run("drawn", place, place / "results")
    lines = records.read_lines(folder)
    assert any(len(set(line["responses"][0])) > 1 for line in lines) and all(len(line["responses"][0]) == 3 for line in lines)
    assert drawn["infer"]["text_tokens_per_problem"] > 2 * once["infer"]["text_tokens_per_problem"]


def test_a_crash_is_taken_up(place, tmp_path, monkeypatch):
    """Killed between lines, the run ends as one that was left alone."""
    _, whole = made_run("drawn", place, place / "results")
    monkeypatch.setattr(evaluate, "FLUSH_LINES", 2)
    spec, appended = made_spec("drawn", place), storage.append
    left = iter(range(3))

    def append(path, text):
        if path.name == evaluate.LINES and next(left, None) is None:
            raise KeyboardInterrupt
        appended(path, text)

    monkeypatch.setattr(storage, "append", append)
    with pytest.raises(KeyboardInterrupt):
        runs.run(spec, results=tmp_path)
    folder = records.run_folder(tmp_path, spec)
    assert 0 < len(records.read_lines(folder)) < 9
    monkeypatch.setattr(storage, "append", appended)
    runs.run(spec, results=tmp_path)
    for name in ("run.json", "problems.jsonl", "traces.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_limits_splits_and_training(place):
    """Documents as lm-eval counts them; shares of the training documents that touch no others; no training documents."""
    task = made_spec("gen", place).task
    assert [len(made_spec("gen", place, task__limit=x).task.inquiries("test", count=99)) for x in (1, 4, 0.5)] == [1, 4, 5]
    splits = ("train", "value", "validation", "test")
    asked = {split: {p.question.text for p in task.problems(split, seed=0, start=0, count=200)} for split in splits}
    assert [len(asked[split]) for split in asked] == [54, 3, 3, 9]
    assert len(set.union(*asked.values())) == 69
    problem = task.problems("train", seed=0, start=0, count=1)[0]
    assert problem.question.text.startswith("Q: ") and problem.key.answer in ("a", "b")
    assert task.grade(problem, problem.key.answer) == 1.0 and task.grade(problem, "c") == 0.0
    with pytest.raises(ValueError, match=r"no training documents.*train\.flops=0.*model\.path"):
        made_run("text", place, place / "results", train__flops=1e8)
    held = made_spec("text", place, task__held_out=0.3).task
    assert [len(held.inquiries(split, count=99)) for split in ("test", "validation")] == [6, 3]
    with pytest.raises(ValueError, match=r"task\.held_out"):
        made_spec("text", place).task.inquiries("validation", count=9)


@pytest.mark.slow
def test_pretrained_elsewhere(place):
    """Taught on another task of ours, and asked theirs."""
    before = {"pretraining__task": "strings", "pretraining__train__flops": 5e7, "train__flops": 0}
    before |= {"pretraining__task__window_tokens": 32, "pretraining__train__problems_per_update": 4, "model__alphabet": "bytes"}
    record, folder = made_run("likely", place, place / "results", **before)
    assert record["train"]["pretraining"]["spent_flops"] > 0 and record["train"]["spent_flops"] == 0
    assert theirs_of(record) == by_lm_eval(model_of(folder), "made_likely", place)[0]


@pytest.mark.slow
def test_a_model_from_a_folder(place, tmp_path):
    """Any causal model, asked as it is: the same numbers as for lm-eval with that folder."""
    _, folder = made_run("gen", place, place / "results")
    export_run(str(folder), tmp_path / "hf", results=place / "results", trust_plugins=True)
    for name in ("gen", "choice", "text"):
        spec = make_spec(
            strategy="self_consistency" if name == "gen" else "direct",
            task=f"lm_eval:made_{name},include_path={place}",
            settings={"model.path": str(tmp_path / "hf"), "train.flops": 0},
        )
        record = runs.run(spec, results=tmp_path)
        how = {"strategy": registry.plugin_name(spec.strategy), "task": f"lm_eval:made_{name},include_path={place}"}
        asked = ThinkingLM(str(tmp_path / "hf"), responses=False, **how)
        assert theirs_of(record) == by_lm_eval(asked, f"made_{name}", place)[0]
        assert recheck(records.run_folder(tmp_path, spec)).problems == ()


TURNS = """{% for turn in messages %}{% if turn['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}
<{{ turn['role'] }}> {{ turn['content'] }}{% if not loop.last or not continue_final_message %}
{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"""
KIND_TURNS = TURNS.replace("{{ raise_exception('no system here') }}", "")


@pytest.fixture(scope="module")
def chatty(place):
    """A model whose tokenizer has a chat template, and one whose template knows no system."""
    from transformers import AutoTokenizer

    _, folder = made_run("gen", place, place / "results")
    for name, template in (("kind", KIND_TURNS), ("strict", TURNS)):
        export_run(str(folder), place / name, results=place / "results", trust_plugins=True)
        tokenizer = AutoTokenizer.from_pretrained(place / name)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(place / name)
    return {name: str(place / name) for name in ("kind", "strict")}


@pytest.mark.slow
@pytest.mark.parametrize("template", ["kind", "strict"])
@pytest.mark.parametrize("multiturn", [True, False], ids=["turns", "one"])
def test_chat_templates_dress_prompts_as_lm_eval_does(place, chatty, tmp_path, multiturn, template):
    model = chatty[template]
    for name in ("gen", "choice", "likely"):
        settings = {
            "model.path": model, "train.flops": 0, "task.chat_template": model, "task.fewshot_as_multiturn": multiturn,
            "task.system_instruction": "be brief",
        }  # fmt: skip
        spec = make_spec(strategy="direct", task=f"lm_eval:made_{name},include_path={place}", settings=settings)
        record = runs.run(spec, results=tmp_path)
        dressed = {"apply_chat_template": True, "fewshot_as_multiturn": multiturn, "system_instruction": "be brief"}
        theirs, samples = by_lm_eval(ThinkingLM(model, responses=False), f"made_{name}", place, **dressed)
        assert theirs_of(record) == theirs
        assert json.loads(json.dumps(samples)) == [x["responses"] for x in records.read_lines(records.run_folder(tmp_path, spec))]
        prompt = spec.task.inquiries("test", count=1)[0].requests[0].args[0]
        assert "<user> " in prompt and prompt.endswith("<assistant> ") and ("be brief" in prompt) == (template == "kind")
        assert prompt.count("<user>") == (1 + (name == "choice") * 2 + (name == "gen") if multiturn else 1)


@pytest.mark.slow
def test_an_answer_that_is_begun_stays_open(chatty):
    """As lm-eval's own models have it, where a task begins the answer (gen_prefix)."""
    turns = [{"role": "user", "content": "3*3"}, {"role": "assistant", "content": "It is"}]
    assert ThinkingLM(chatty["kind"], responses=False).apply_chat_template(turns, False).endswith("<assistant> It is")


def test_a_chat_template_that_is_not_there_is_told(place):
    with pytest.raises(ValueError, match=r"task\.chat_template: .* has no chat template"):
        made_spec("gen", place, task__chat_template=str(place)).task.inquiries("test", count=1)


def test_oracles_and_caps(place):
    """A judge's word is the task's score and is recorded as told; a cap on what an answer may spend; likelihoods have none."""
    told, _ = made_run("gen", place, place / "results", "best_of_n", strategy__samples=4, strategy__select="oracle")
    assert told["access"] == "oracle" and told["metrics"]["accuracy"]["value"] >= told["search"]["selected"] > 0
    free, _ = made_run("gen", place, place / "results")
    cap = free["infer"]["flops_per_problem"]["total"] * 0.9
    _, folder = made_run("gen", place, place / "results", infer__cap_flops=cap)
    assert all(sum(line["flops"].values()) <= cap for line in records.read_lines(folder))
    with pytest.raises(ValueError, match=r"infer\.cap_flops.*likelihoods"):
        made_run("likely", place, place / "results", infer__cap_flops=1e6)


def test_bounded_memory_changes_nothing(place, tmp_path):
    """Requests say how much they hold."""
    spec = made_spec("choice", place)
    free, bounded = (runs.run(spec, results=tmp_path / str(most), max_kv_bytes=most) for most in (None, 400_000))
    assert free["metrics"] == bounded["metrics"]
    with pytest.raises(ValueError, match="max-kv-bytes"):
        runs.run(spec, results=tmp_path / "least", max_kv_bytes=1000)


def test_its_name_as_typed(place):
    """NAME:ARGUMENT,KEY=VALUE; commas in values; the plugin's name, its folder and its command; what was wrong."""
    spec = made_spec("gen", place, task__limit=3)
    assert registry.plugin_name(spec.task) == "lm_eval" and from_json(spec.to_json(), trust_plugins=True) == spec
    assert records.run_folder(Path("r"), spec).parts[2] == "lm_eval_made_gen"
    assert "--task lm_eval:made_gen" in command_line(spec) and "task.task" not in command_line(spec)
    typed = registry.typed("task", "lm_eval:x,score=exact_match,strict,limit=0.5")
    assert typed == ("lm_eval", {"task": "x", "score": "exact_match,strict", "limit": "0.5"})
    assert registry.typed("task", "tasks.parity:Parity") == ("tasks.parity:Parity", {})
    assert make_spec(strategy="direct", task="tasks.parity:Parity").task.kind == "questions"
    with pytest.raises(ValueError, match="takes nothing behind a colon"):
        make_spec(strategy="direct", task="parity:3")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("lm_eval", "task.task: name a task of lm-eval"),
        ("lm_eval:made_gen,include_path={place},limmit=3", "task.limmit: unknown setting 'limmit' (did you mean limit?)"),
        ("lm_eval:made_gen,include_path={place}/none", "task.include_path: no folder"),
        ("lm_eval:made_gen,include_path={place},limit=many", "task.limit: expected a number"),
        ("lm_eval:made_gen,include_path={place},metadata=3", "task.metadata: expected an object"),
        ("lm_eval:made_gen,include_path={place},num_fewshot=500", "task.num_fewshot: 500 worked examples cannot be had"),
        pytest.param("lm_eval:made_gne,include_path={place}", "(did you mean made_gen", marks=pytest.mark.slow),
    ],
)
def test_mistakes_are_one_line(place, capsys, tmp_path, typed, words):
    """Exit code 2, and what is legal."""
    line = f"run --strategy direct --set train.flops=0 --set model.size=xs --results {tmp_path} --task"
    assert cli.main([*line.split(), typed.format(place=place)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("error: ") and words in told[0]


def test_listing_loads_no_library(tmp_path):
    """`list`, and the search for tasks that offer something, know the plugin without lm-eval."""
    code = (
        "import sys; from harness import catalogue, registry; made = catalogue.catalogue(); "
        "assert 'lm_eval' in [t['name'] for t in made['tasks']] and not [t for t in made['tasks'] if 'error' in t]; "
        "assert 'lm_eval' in registry.tasks_that_offer(frozenset({'prompt'})); assert 'lm_eval' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_comparison_of_two_arms(place, tmp_path):
    """Tables, verdicts and pictures as of any task."""
    line = f"compare --task lm_eval:made_choice,include_path={place} --strategies direct,pause_tokens --seeds 0-1"
    line += f" --train-flops 1e8 --results {tmp_path} --set model.width=16 --set model.heads=2 --set model.layers=1"
    line += " --set model.context_tokens=96 --set train.problems_per_update=8"
    assert cli.main(line.split()) == 0
    tables = list((tmp_path / "tables").glob("*.csv"))
    assert any("pause_tokens" in path.read_text() for path in tables)
    assert cli.main(["report", "--check", "--results", str(tmp_path)]) == 0


def test_thoughts_before_likelihoods(place):
    """The cap on worked lines is the task's, for lm-eval's model of the run too."""
    _, folder = made_run("gen", place, place / "results", task__lines_cap_tokens=11)
    assert load(str(folder), settings={}, device="cpu", trust_plugins=True).thought_tokens == 11


STOCK = {
    "arithmetic_2da": {"context": "Question: What is 1{n} plus 2{n}?\nAnswer:", "completion": " {m}"},
    "gsm8k_cot": {"question": "Ann has {n} pens and gets {n} more. How many has she?", "answer": "{n}+{n} = {m}\n#### {m}"},
    "wikitext": {"page": " = Page {n} = \n\n Of {n} things , {m} were counted @-@ twice . \n"},
}


def stock_on_local_data(folder: Path) -> Path:
    """Stock prompts and metrics on data of our own: a group that overrides what is read, and nothing else."""
    folder.mkdir()
    members = []
    for name, row in STOCK.items():
        rows = [{key: text.format(n=n, m=2 * n) for key, text in row.items()} for n in range(3)]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        split = "validation" if name == "arithmetic_2da" else "test"
        other = {} if name == "arithmetic_2da" else {"dataset_path": "json", "dataset_name": None}
        other |= {"training_split": None, "validation_split": None} if name == "wikitext" else {}
        other |= {"training_split": None} if name == "gsm8k_cot" else {}
        members.append({"task": name, **other, "dataset_kwargs": {"data_files": {split: str(path)}}})
    (folder / "off.yaml").write_text(json.dumps({"group": "off", "task": members}))
    return folder


@pytest.mark.slow
def test_stock_tasks(tmp_path):
    """Found by their names without the whole index, and the same as what the whole index gives: prompts, numbers, exemplars."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder = stock_on_local_data(tmp_path / "yaml")
    manager = TaskManager(include_path=str(folder))
    settings = {"model.layers": 1, "model.width": 16, "model.heads": 2, "model.context_tokens": 6000, "train.flops": 0}
    for name in STOCK:
        spec = make_spec(strategy="direct", task=f"lm_eval:off/{name},include_path={folder}", settings=settings)
        record = runs.run(spec, results=tmp_path / "results")
        place = records.run_folder(tmp_path / "results", spec)
        loaded = manager.load(["off"])["tasks"][name]
        found = lm_eval.simple_evaluate(model=model_of(place), tasks=[loaded], bootstrap_iters=0)
        assert theirs_of(record) == {k: v for k, v in found["results"][name].items() if "," in k and "_stderr" not in k}
        assert recheck(place).problems == ()
        samples = found["samples"][name]
        prompts = [one["arguments"][0][0] for one in samples if one["filter"] == samples[0]["filter"]]
        assert prompts == [inquiry.requests[0].args[0] for inquiry in spec.task.inquiries("test", count=9)]
    assert "Page 0" in prompts[0] and "@-@" not in prompts[0]  # as their detokenizer leaves it
    gsm = make_spec(strategy="direct", task=f"lm_eval:off/gsm8k_cot,include_path={folder}", settings=settings).task
    assert gsm.inquiries("test", count=1)[0].requests[0].args[0].count("The answer is") == 8
    with pytest.raises(ValueError, match=r"wikitext by nats.*task\.score=nats compares all"):
        make_spec(strategy="direct", task=f"lm_eval:off,include_path={folder}").task.inquiries("test", count=1)
