"""lm-eval tasks on local files, of every kind of request, and what lm-eval itself makes of a model on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import records
from harness.runs import run
from harness.spec import make_spec

DOCUMENTS = 9  # tested on
TINY: dict[str, Any] = {
    "model.layers": 1, "model.width": 32, "model.heads": 2, "model.context_tokens": 96,
    "train.learning_rate": 1e-2, "train.problems_per_update": 8, "infer.traces": 4,
}  # fmt: skip
SHARED = """
dataset_path: json
dataset_kwargs: {data_files: {test: %(folder)s/test.jsonl, train: %(folder)s/train.jsonl}}
test_split: test
training_split: train
fewshot_delimiter: "\\n"
metadata: {version: 3.0}
"""
GENERATE = """
output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{word}}"
target_delimiter: ""
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
TASKS = {
    "gen": GENERATE
    + """
num_fewshot: 1
filter_list:
  - {name: strict, filter: [{function: take_first}]}
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
""",
    "drawn": GENERATE
    + """
repeats: 3
generation_kwargs: {until: ["\\n"], max_gen_toks: 5, do_sample: true, temperature: 0.9}
filter_list:
  - {name: first, filter: [{function: take_first}]}
  - {name: vote, filter: [{function: regex, regex_pattern: "(.)"}, {function: majority_vote}, {function: take_first}]}
""",
    "again": GENERATE
    + """
repeats: 2
""",
    "corpus": GENERATE
    + """
metric_list: [{metric: chrf, aggregation: chrf, higher_is_better: true}, {metric: exact_match, higher_is_better: true}]
""",
    "choice": """
output_type: multiple_choice
num_fewshot: 2
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
""",
    "binary": """
output_type: multiple_choice
doc_to_text: "{{question}} odd?"
doc_to_choice: ["no", "yes"]
doc_to_target: odd
metric_list: [{metric: f1, aggregation: f1, higher_is_better: true}]
""",
    "likely": """
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{answer}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "text": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
}


TASKS["taught"] = TASKS["text"]  # with training documents


def write_tasks(folder: Path) -> Path:
    """YAML files and their data: squares, with a text about each."""
    rows = [_row(n) for n in range(DOCUMENTS + 60)]
    for name, some in (("test", rows[:DOCUMENTS]), ("train", rows[DOCUMENTS:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    for name, text in TASKS.items():
        lone = name == "text"
        shared = (SHARED % {"folder": folder}).replace("training_split: train\n", "" if lone else "training_split: train\n")
        (folder / f"{name}.yaml").write_text(f"task: made_{name}{shared}{text}", encoding="utf-8")
    return folder


def _row(n: int) -> dict[str, Any]:
    choices = [str(n * n + off) for off in (0, 1, 7)]
    gold = n % 3
    choices[0], choices[gold] = choices[gold], choices[0]
    text = f"The square of {n} is {n * n}. " * (1 + n % 3) if n != 3 else ""
    return {
        "question": f"{n}*{n}=",
        "answer": str(n * n),
        "choices": choices,
        "gold": gold,
        "odd": n % 2,
        "word": "a" if n % 3 else "b",
        "text": text,
        "steps": f"{n} times {n}\n= {n * n}",
    }


def made_spec(name: str, folder: Path, strategy: str = "direct", **settings: Any) -> Any:
    """The spec of a tiny run on one of the tasks; keys with __ for dots."""
    given = {key.replace("__", "."): value for key, value in settings.items()}
    flops = 0 if name == "text" else 4e8 if "generate_until" in TASKS[name] else 8e7  # answers must be learnt to be right
    return make_spec(
        strategy=strategy,
        task=f"lm_eval:made_{name},include_path={folder}",
        settings=TINY | {"train.flops": flops, "task.window_tokens": 64} | given,
    )


def made_run(name: str, folder: Path, results: Path, strategy: str = "direct", **settings: Any) -> tuple[dict[str, Any], Path]:
    """Record and folder of a tiny run."""
    spec = made_spec(name, folder, strategy, **settings)
    return run(spec, results=results), records.run_folder(results, spec)


def by_lm_eval(model: Any, name: str, folder: Path | list[str], **settings: Any) -> tuple[dict[str, float], list[Any]]:
    """lm-eval's own numbers for a model, by their names, and each document's responses."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    where = folder if isinstance(folder, list) else [str(folder)]
    manager = TaskManager(include_path=where, include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=[name], task_manager=manager, bootstrap_iters=0, **settings)
    (member,) = found["samples"]
    values = {key: value for key, value in found["results"][member].items() if "," in key and "_stderr" not in key}
    first = found["samples"][member][0]["filter"]
    samples = [one for one in found["samples"][member] if one["filter"] == first]
    return values, [one["resps"] for one in sorted(samples, key=lambda one: one["doc_id"])]


def theirs_of(record: dict[str, Any]) -> dict[str, float]:
    """Our record's numbers by lm-eval's names."""
    return {name: one["value"] for name, one in record["metrics"].items() if "," in name}
