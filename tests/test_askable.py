"""Data that a model cannot hold or spell is refused before anything is trained, with file and line, in dry runs too."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval_made import made_spec, write_tasks
from support import Pages

from harness import runs
from harness.askable import check_before_training
from harness.cli import main
from harness.problem import Document, Piece
from harness.rehearsal import Rehearsal
from harness.spec import RunSpec, make_spec
from harness.wants import Start

TINY = {
    "model.size": "xs", "model.width": 16, "model.heads": 2, "model.layers": 1, "train.problems_per_update": 4,
    "train.flops": 2e7, "infer.traces": 0,
}  # fmt: skip
SPLITS = ("train", "value", "validation", "test")
ASKED_BY = {  # settings, and the text tokens that they add to a row of 10 bytes of question and 2 of answer
    "direct": ({}, 0),
    "chain_of_thought": ({}, 9 + 1),  # the lines, <sep>
    "filler": ({"strategy.made_of": "text", "strategy.fillers": 5}, 5 + 1),  # and the mark behind them
    "pause_tokens": ({"strategy.pauses": 3}, 0),
}


def rows_of(count: int = 24, **changes: Any) -> list[dict[str, Any]]:
    """Rows of 10 bytes of question, 2 of answer and 9 of steps, six in each split."""
    return [
        {
            "question": f"number {n:02}?",
            "answer": f"{n:02}",
            "steps": [f"{n:02}, so", f"{n:02}"],
            "split": SPLITS[n % 4],
            **changes,
        }
        for n in range(count)
    ]


def written(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def spec_of(path: Path, strategy: str = "direct", **settings: Any) -> RunSpec:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return make_spec(strategy=strategy, task="file", settings={**TINY, "task.path": str(path), **given})


def refused(spec: RunSpec, results: Path) -> str:
    """What a dry run says; the run says the same, and leaves nothing behind."""
    with pytest.raises(ValueError, match=r".") as planned:
        runs.plan(spec)
    with pytest.raises(ValueError, match=r".") as made:
        runs.run(spec, results=results)
    assert str(planned.value) == str(made.value) and "\n" not in str(made.value)
    assert not list(results.rglob("*.jsonl")) and not list(results.rglob("*.safetensors"))
    return str(made.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_question_longer_than_the_context_is_named(tmp_path: Path, split: str) -> None:
    rows = rows_of()
    long = [n for n in range(24) if rows[n]["split"] == split][2:4]
    for n in long:
        rows[n]["question"] = "x" * 300 + f"{n:02}"
    path = written(tmp_path, rows)
    said = refused(spec_of(path), tmp_path / "results")
    lines = [n + 1 for n in long]
    assert any(said.startswith(f"task.path: {path}:{line}: this takes 304 tokens as direct") for line in lines)
    assert all(f"{path}:{line}" in said for line in lines) and "the context has 256" in said
    assert "model.context_tokens=304" in said
    record = runs.run(spec_of(path, model__context_tokens=304), results=tmp_path / "results")
    assert record["metrics"]["accuracy"]["n"] == 6


def test_rows_of_splits_that_are_not_used_are_not_looked_at(tmp_path: Path) -> None:
    """Validation rows are asked where the run asks them, or where a value model is checked on them; so are value rows."""
    for n, split in ((1, "value"), (2, "validation")):
        rows = rows_of()
        rows[n]["question"] = "x" * 300
        path = written(tmp_path, rows)
        check_before_training(spec_of(path))
        valued = spec_of(path, "best_of_n", strategy__select="value", strategy__samples=2)
        with pytest.raises(ValueError, match=rf"rows\.jsonl:{n + 1}: "):
            check_before_training(valued)
        if split == "validation":
            with pytest.raises(ValueError, match=r"rows\.jsonl:3: "):
                check_before_training(spec_of(path, infer__split="validation"))
    rows = rows_of()
    rows[23]["question"] = "x" * 300
    check_before_training(spec_of(written(tmp_path, rows), infer__problems=1))


def test_the_context_that_is_named_is_enough(tmp_path: Path) -> None:
    """Where a question leaves no room, what must be said behind it counts as well."""
    rows = rows_of()
    rows[3]["question"] = "x" * 300
    path = written(tmp_path, rows)
    with pytest.raises(
        ValueError, match=rf"{path}:4: this takes 312 tokens as chain_of_thought asks it.* model\.context_tokens=312"
    ):
        runs.plan(spec_of(path, "chain_of_thought"))
    check_before_training(spec_of(path, "chain_of_thought", model__context_tokens=312))


@pytest.mark.parametrize("strategy", ASKED_BY)
def test_what_a_strategy_adds_is_counted(tmp_path: Path, strategy: str) -> None:
    """The least context that is let through is enough for a model that says as much as it may; one token less is refused."""
    settings, added = ASKED_BY[strategy]
    path, needed = written(tmp_path, rows_of()), 10 + 2 + added
    said = refused(spec_of(path, strategy, **settings, model__context_tokens=needed - 1), tmp_path / "less")
    assert f"model.context_tokens={needed}" in said and f"{path}:" in said
    record = runs.run(spec_of(path, strategy, **settings, model__context_tokens=needed), results=tmp_path / "results")
    assert record["metrics"]["accuracy"]["n"] == 6


STYLES = ("standard", "few_shot", "one_go", "zero_shot", "dialogue", "recall", "staged")


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_counted(tmp_path: Path, style: str) -> None:
    """With worked examples, the words of every stage, and thoughts that are as long as they may be."""
    path = written(tmp_path, rows_of())
    few = {"strategy.style": style, "strategy.shots": 2, "strategy.memory_tokens": 16}
    said = refused(spec_of(path, "chain_of_thought", **few, model__context_tokens=20), tmp_path / "less")
    needed = int(said.split("model.context_tokens=")[1].split()[0].rstrip(")"))
    with pytest.raises(ValueError, match=r"rows\.jsonl:"):
        runs.plan(spec_of(path, "chain_of_thought", **few, model__context_tokens=needed - 1))
    record = runs.run(spec_of(path, "chain_of_thought", **few, model__context_tokens=needed), results=tmp_path / "results")
    assert record["metrics"]["accuracy"]["n"] == 6


def test_one_row_without_steps_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of()
    del rows[16]["steps"]
    rows[20]["steps"] = []
    path = written(tmp_path, rows)
    for strategy in ("chain_of_thought", "side_targets"):
        bare = rf"{path}:17 has no 'steps', and 1 more of {len(rows)} rows have none; add them, or leave these rows out"
        with pytest.raises(ValueError, match=rf"needs a task with worked_lines.* \({bare}\)"):
            spec_of(path, strategy)
    with pytest.raises(ValueError, match=rf"noisy_oracle.* \({path}:17 has no 'steps'"):
        spec_of(path, "tree_of_thoughts", strategy__evaluator="noisy_oracle", strategy__base="direct")
    check_before_training(spec_of(path))
    given = [part for key, value in {**TINY, "task.path": path}.items() for part in ("--set", f"{key}={value}")]
    where = ["--results", str(tmp_path / "results"), "--dry-run"]
    for argv in (["compare", "--strategies", "direct,chain_of_thought"], ["run", "--strategy", "chain_of_thought"]):
        capsys.readouterr()
        assert main([*argv, "--task", "file", *given, *where]) == 2
        told = capsys.readouterr().err
        assert f"{path}:17 has no 'steps'" in told and told.count("\n") == 1


@pytest.fixture(scope="module")
def small_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that knows digits, small letters and little else, and reads large letters as small ones."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    folder = tmp_path_factory.mktemp("words")
    known = ["[UNK]", "<|endoftext|>", *"0123456789abcdefghijklmnopqrstuvwxyz? ,.;"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("part", "text", "words"),
    [
        ("question", "number é?", "no token"),
        ("answer", "é5", "no token"),
        ("answer", "A5", "the answer 'A5' reads 'a5'"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_a_tokenizer_cannot_say_is_named(
    tmp_path: Path, small_words: Path, part: str, text: str, words: str, split: str
) -> None:
    rows = rows_of()
    at = next(n for n in range(8, 24) if rows[n]["split"] == split)
    rows[at][part] = text
    path = written(tmp_path, rows)
    said = refused(spec_of(path, model__alphabet=f"tokenizer:{small_words}"), tmp_path / "results")
    assert said.startswith(f"task.path: {path}:{at + 1}: ") and words in said
    check_before_training(spec_of(path))
    check_before_training(spec_of(written(tmp_path, rows_of()), model__alphabet=f"tokenizer:{small_words}"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_the_alphabet_of_pretraining_cannot_say_is_named(tmp_path: Path, split: str) -> None:
    """Before the first phase, which comes hours before."""
    rows = [{"question": f"{n}+{n}=", "answer": str(2 * n), "split": SPLITS[n % 4]} for n in range(40)]
    rows[29] |= {"question": "29 + 29 =", "split": split}
    path = written(tmp_path, rows)
    before = {"pretraining.task": "arithmetic", "pretraining.train.flops": 2e7, "pretraining.train.problems_per_update": 4}
    said = refused(spec_of(path, **before), tmp_path / "results")
    assert said.startswith(f"task.path: {path}:30: no such characters in this task's alphabet: [' ']")


def test_problems_that_a_task_makes_are_looked_at_too(tmp_path: Path) -> None:
    """Longer sums that are in the test alone."""
    settings = {**TINY, "task.digits": "1", "task.longer": "6", "model.context_tokens": 12}
    spec = make_spec(strategy="direct", task="arithmetic", settings=settings)
    said = refused(spec, tmp_path / "results")
    assert said.startswith("task: ") and "the context has 12" in said and "leave it out" not in said
    needed = int(said.split("model.context_tokens=")[1].split()[0].rstrip(")"))
    check_before_training(make_spec(strategy="direct", task="arithmetic", settings={**settings, "model.context_tokens": needed}))


def test_documents_of_other_letters_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join("0123456789" * 300 + f"{n}" for n in range(12)) + "\n\n" + "12+é" * 800 + "\n", encoding="utf-8")
    settings = {
        **TINY, "task.corpus": str(text), "task.window_tokens": 16, "pretraining.task": "arithmetic",
        "pretraining.train.flops": 2e7, "pretraining.train.problems_per_update": 4,
    }  # fmt: skip
    said = refused(make_spec(strategy="direct", task="language_model", settings=settings), tmp_path / "results")
    assert said.startswith(f"task.corpus: {str(text)!r}: document ") and "no such characters" in said and "'é'" in said


class OddPage(Pages):
    """Digits, and in one document of a split a letter."""

    def documents(self, split: Any) -> list[Document]:
        found = list(super().documents(split))
        return [*found[:-1], Document("odd", "12x")] if split == self.odd_in else found

    odd_in = "test"


@pytest.mark.parametrize("split", ["train", "test", "validation"])
def test_only_documents_that_are_used_are_looked_at(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OddPage, "odd_in", split)
    spec = make_spec(strategy="direct", task="language_model", settings=TINY)
    spec = dataclasses.replace(spec, task=OddPage())
    if split == "validation":
        check_before_training(spec)
    else:
        with pytest.raises(ValueError, match=r"^task: odd: no such characters in this task's alphabet: \['x'\]"):
            check_before_training(spec)
    validated = dataclasses.replace(spec, infer=dataclasses.replace(spec.infer, split="validation"))
    if split == "test":
        check_before_training(validated)
    else:
        with pytest.raises(ValueError, match=r"^task: odd: "):
            check_before_training(validated)


def test_requests_that_an_alphabet_cannot_spell_are_named(tmp_path: Path) -> None:
    before = {"pretraining.task": "arithmetic", "pretraining.train.flops": 2e7, "pretraining.train.problems_per_update": 4}
    said = refused(made_spec("likely", write_tasks(tmp_path), train__flops=0, **before), tmp_path / "results")
    assert said.startswith("task.task: made_likely: document 0: no such characters in this task's alphabet: ")


def test_documents_of_lm_eval_are_named(tmp_path: Path) -> None:
    """A training document that is too long to be taught, and one of which the worked lines are empty."""
    place = write_tasks(tmp_path)
    rows = [json.loads(line) for line in (place / "train.jsonl").read_text().splitlines()]
    for row in rows[40:46]:  # some of which are for training
        row |= {"question": "9" * 200 + row["question"], "steps": " "}
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = refused(made_spec("gen", place, train__flops=1e8, model__context_tokens=128), tmp_path / "results")
    assert said.startswith("task.task: made_gen: document train-") and "the context has 128" in said
    spec = made_spec("gen", place, "chain_of_thought", task__steps="{{steps}}", train__flops=1e8, model__context_tokens=512)
    said = refused(spec, tmp_path / "results")
    assert said.startswith("task.task: made_gen: document train-") and "no worked lines, which chain_of_thought needs" in said


BAD_ROWS: list[tuple[Callable[[list[Any]], None], str]] = [
    (lambda rows: rows[4].update(question="x" * 300), ":5: this takes 302 tokens"),
    (lambda rows: rows[4].update(answer=1.5), ":5: 'answer' wants text"),
    (lambda rows: rows[4].update(question=" "), ":5: 'question' wants text that is not empty"),
    (lambda rows: rows[4].update(question=rows[0]["question"]), ": lines 1 and 5 ask the same and answer differently"),
    (lambda rows: rows[4].update(steps=[1]), ":5: 'steps' wants a list of texts"),
    (lambda rows: rows[4].update(split="dev"), ":5: unknown split"),
    (lambda rows: rows[4].pop("answer"), ":5: no 'answer'"),
    (lambda rows: rows.__setitem__(4, [1]), ":5: wants a JSON object"),
    (lambda rows: rows.clear(), "too few questions"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), BAD_ROWS, ids=[words.strip(": ")[:24] for _, words in BAD_ROWS])
def test_every_command_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[list[Any]], None], words: str
) -> None:
    rows: list[Any] = rows_of()
    spoil(rows)
    path, results = written(tmp_path, rows), tmp_path / "results"
    suite = tmp_path / "suite.toml"
    settings = "".join(
        f'"{key}" = {json.dumps(value)}\n' for key, value in {**TINY, "task.path": str(path)}.items() if key != "train.flops"
    )
    suite.write_text(
        'name = "mine"\n[[block]]\ntask = "file"\nstrategies = ["direct"]\nseeds = "0"\ntrain_flops = 2e7\n'
        f"[block.settings]\n{settings}",
        encoding="utf-8",
    )
    given = [part for key, value in {**TINY, "task.path": path}.items() for part in ("--set", f"{key}={value}")]
    where = ["--results", str(results)]
    compare = ["compare", "--task", "file", "--strategies", "direct", "--seeds", "0-1"]
    for argv in (
        ["run", "--strategy", "direct", "--task", "file", *given, *where],
        ["run", "--strategy", "direct", "--task", "file", *given, "--dry-run", *where],
        [*compare, *given, *where],
        [*compare, *given, "--dry-run", *where],
        ["compare", "--suite", str(suite), "--dry-run", *where],
    ):
        assert main(argv) == 2, argv
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and str(path) in told and words in told, (argv, told)
    assert not list(results.rglob("learner.json"))


def test_arms_that_share_a_learner_are_looked_at_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two ways of asking, of which only one is too long for the context; the other one is planned."""
    path = written(tmp_path, rows_of())
    given = {**TINY, "task.path": path, "strategy.style": "few_shot", "model.context_tokens": 128}
    settings = [part for key, value in given.items() if key != "train.flops" for part in ("--set", f"{key}={value}")]
    settings += ["--results", str(tmp_path / "results")]
    sweep = ["sweep", "--strategy", "chain_of_thought", "--task", "file", "--seeds", "0", "--train-flops", "2e7"]
    assert main([*sweep, *settings, "--over", "strategy.shots=0,1", "--dry-run"]) == 0
    capsys.readouterr()
    for dry in ([], ["--dry-run"]):
        assert main([*sweep, *settings, "--over", "strategy.shots=0,4", *dry]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and f"{path}:" in told and "as chain_of_thought asks it" in told
    assert not list((tmp_path / "results").rglob("learner.json"))


def test_real_text_is_measured_too(tmp_path: Path) -> None:
    settings = {**TINY, "task.characters": 300, "task.frequent": 5}
    said = refused(make_spec(strategy="direct", task="cloze", settings=settings), tmp_path / "results")
    assert said.startswith("task.corpus: 'pydoc': question ") and "the context has 256" in said


def test_a_typed_question_that_is_too_long_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(written(tmp_path, rows_of()), model__context_tokens=64)
    runs.run(spec, results=tmp_path / "results")
    (folder,) = (tmp_path / "results" / "runs" / "file" / "direct").iterdir()
    assert main(["ask", str(folder), "number 03?", "--results", str(tmp_path / "results")]) == 0
    capsys.readouterr()
    assert main(["ask", str(folder), "x" * 65, "--results", str(tmp_path / "results")]) == 2
    assert "QUESTION: it takes 65 tokens as it is asked, and the context has 64; shorten it" in capsys.readouterr().err


def test_ten_thousand_rows_take_less_than_a_second(tmp_path: Path) -> None:
    rows = [
        {"question": f"What is {n} times {n}?", "answer": str(n * n), "steps": [f"{n} times {n}", f"= {n * n}"]}
        for n in range(10_000)
    ]
    spec = spec_of(written(tmp_path, rows), "chain_of_thought", infer__problems=10_000)
    started_s = time.process_time()
    check_before_training(spec)
    assert time.process_time() - started_s < 1


@pytest.mark.parametrize("fault", [RuntimeError("no idea"), ZeroDivisionError(), KeyError("x")])
def test_a_solver_that_fails_without_a_model_is_left_to_its_run(fault: Exception) -> None:
    """Its first text is known; one run's fault must not end a comparison before it begins."""

    def failing() -> Any:
        yield Start((Piece("1+1=", "prompt"),))
        raise fault

    rehearsal = Rehearsal(lambda want: ())
    assert rehearsal.follow(failing()) == (False, None)
    assert rehearsal.fed == [((Piece("1+1=", "prompt"),),)]
