"""Rechecking: what was edited is found from the record alone; real records of many kinds pass."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_made import TINY, reseal

from harness import instant, lines, records, registry, summary
from harness import recheck as recheck_module
from harness.cli import main
from harness.lines import written as as_line
from harness.meter import CLASSES
from harness.recheck import LETTERS, VALUED, WOVEN, check_record, check_records, recheck
from harness.runs import run
from harness.spec import make_spec
from harness.strategy import KINDS, PAUSE, THOUGHT

Change = Callable[[list[Any]], None]
GATED = {"strategy.per_token": 2, "strategy.gate": "learned", "strategy.emit": "learned"}
PAGES = {"infer.problems": 2, "train.flops": 3e8, "train.problems_per_update": 2}
VALUE = {
    "strategy.select": "value",
    "strategy.value_problems": 4,
    "strategy.value_rollouts": 1,
    "strategy.samples": 2,
    "infer.problems": 5,
}
KINDS_OF_RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("direct", "arithmetic", {}),
    "thoughts": ("reasoning_tokens", "arithmetic", {}),
    "gates": ("reasoning_tokens", "arithmetic", GATED),
    "loops": ("looped_depth", "arithmetic", {}),
    "pauses": ("pause_tokens", "arithmetic", {"strategy.ask_pauses": 3}),
    "lines": ("chain_of_thought", "multi_step", {}),
    "documents": ("direct", "language_model", PAGES),
    "thoughts in documents": ("reasoning_tokens", "language_model", PAGES),
    "votes": ("self_consistency", "multi_step", {"strategy.samples": 4}),
    "beams": ("beam_search", "multi_step", {"strategy.width": 3}),
    "tree": ("tree_of_thoughts", "countdown", {"strategy.branching": 2, "strategy.breadth": 2, "strategy.levels": 3}),
    "values": ("best_of_n", "countdown", VALUE),
    "cap": ("self_consistency", "arithmetic", {"strategy.samples": 8, "infer.cap_flops": 2e6}),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of a second for each kind, half of their traces kept."""
    results = tmp_path_factory.mktemp("results")
    for strategy, task, settings in KINDS_OF_RUNS.values():
        run(spec_of(strategy, task, settings), results=results)
    return results


def spec_of(strategy: str, task: str, settings: dict[str, Any]) -> Any:
    return make_spec(strategy=strategy, task=task, settings=TINY | {"infer.traces": 4, "train.flops": 6e7} | settings)


def folder_of(results: Path, kind: str) -> Path:
    return records.run_folder(results, spec_of(*KINDS_OF_RUNS[kind]))


@pytest.mark.parametrize("kind", KINDS_OF_RUNS)
def test_real_records_pass(kind: str, results: Path) -> None:
    """Every trace that is kept is recounted, parts and value models included."""
    found = recheck(folder_of(results, kind))
    assert found.problems == () and found.traced == (2 if "documents" in kind else 4)
    assert bool(found.left_out) == (kind == "gates"), found.left_out


def test_a_recount_sees_woven_cells_parts_and_values(results: Path) -> None:
    """The cases above hold what they are for."""
    lines_of = {kind: records.read_lines(folder_of(results, kind)) for kind in KINDS_OF_RUNS}
    assert all(line["woven_tokens"] for kind in ("thoughts", "gates", "pauses") for line in lines_of[kind])
    assert any(line["notes"].get(VALUED) and line["flops"]["verify"] for line in lines_of["values"])
    assert any(line["stop"] == "budget" for line in lines_of["cap"])
    assert any(len(line["windows"]) > 1 for line in lines_of["documents"])


def edited(results: Path, tmp_path: Path, kind: str, change: Change, file: str = "problems.jsonl") -> Path:
    """A copy of a run with its lines changed and all hashes mended."""
    folder = tmp_path / "runs" / "copy"
    shutil.copytree(folder_of(results, kind), folder)
    some = records.read_lines(folder, file)
    change(some)
    (folder / file).write_text("".join(map(as_line, some)))
    reseal(folder, lambda record: record)
    return folder


def test_an_edited_score_is_found(results: Path, tmp_path: Path) -> None:
    def better(some: list[Any]) -> None:
        some[6]["score"] = 1.0 - some[6]["score"]

    problems = check_record(edited(results, tmp_path, "plain", better))
    assert any(line.startswith("metrics.accuracy.value: run.json has") for line in problems)
    assert any(line.startswith("by_difficulty[") for line in problems)


def refabricated(folder: Path) -> Path:
    """A copied run whose record is summed up from its lines as they are now, and sealed: nothing in it contradicts them."""
    some = records.read_lines(folder)
    kind = summary.kind_of(some[0])

    def summed(record: dict[str, Any]) -> dict[str, Any]:
        outputs = record["model"]["outputs"]
        unit = {"unit_flops": record["infer"]["unit_flops"]}
        return record | {
            "metrics": summary.metrics(some, kind=kind, outputs=outputs),
            "by_difficulty": summary.by_difficulty(some, kind=kind, outputs=outputs),
            "infer": summary.infer(some) | unit, "search": summary.search(some), "access": summary.access(some),
        }  # fmt: skip

    reseal(folder, summed)
    return folder


def all_right(some: list[Any]) -> None:
    for line in some:
        line["score"] = 1.0


@pytest.mark.parametrize("kind", ["plain", "lines", "votes", "tree", "values", "cap"])
def test_fabricated_scores_are_found(kind: str, results: Path, tmp_path: Path) -> None:
    """All answers called right, summed up and sealed again: every one that its task grades otherwise is named."""
    before = records.read_lines(folder_of(results, kind))
    wrong = [line["id"] for line in before if line["score"] < 1.0]
    assert wrong, "the case needs a wrong answer"
    folder = refabricated(edited(results, tmp_path, kind, all_right))
    assert records.read_run(folder)["metrics"]["accuracy"]["value"] == 1.0
    found = recheck(folder)
    told = [f"problem {name!r}: score: its line has 1.0, its task gives 0.0" for name in wrong]
    more = [f"{len(told) - recheck_module.SHOWN} more of the kind"] if len(told) > recheck_module.SHOWN else []
    assert list(found.problems) == told[: recheck_module.SHOWN] + more
    assert (found.graded, found.ungraded) == (len(before), 0)


FORGERIES: dict[str, tuple[str, Change, str]] = {
    "wrong answers left out": ("plain", lambda some: some.__delitem__(slice(4, None)), "4 lines, its task asks 8 problems"),
    "another question": ("plain", lambda some: some[0].update(question="1+1="), "question: its line has '1+1='"),
    "a key that the answer meets": ("plain", lambda some: some[0].update(key=some[0]["answer"], score=1.0), "key: its line has"),
    "an easier problem": ("plain", lambda some: some[0].update(difficulty=some[0]["difficulty"] + 7), "difficulty: its line has"),
    "a weight": ("plain", lambda some: some[0].update(weight=9.0), "weight: its line has 9.0"),
    "one problem twice": ("plain", lambda some: some.__setitem__(1, some[0]), "id: its line has"),
    "a candidate's score": (
        "votes", lambda some: some[0]["candidates"]["scores"].update({one_of(some): 0.5}), "candidates.scores: its line has 0.5",
    ),
    "answers that vote together": ("votes", lambda some: [one_vote(line) for line in some], "candidates.votes: its line counts"),
    "lines of another kind": ("plain", lambda some: [line.update(bytes=4) for line in some], "is not of the kind questions"),
    "an answer that is none": ("plain", lambda some: some[0].update(answer=[1]), "its line cannot be graded: TypeError"),
}  # fmt: skip


def one_of(some: list[Any]) -> str:
    """The first candidate of the first problem."""
    return str(next(iter(some[0]["candidates"]["answers"])))


def one_vote(line: Any) -> None:
    """Every answer counts for one form."""
    line["candidates"]["votes"] = dict.fromkeys(line["candidates"]["votes"], "x")


def test_forms_of_votes_count_by_being_equal_alone(results: Path, tmp_path: Path) -> None:
    """A task may come to write a form otherwise: the same answers still vote together."""

    def rewritten(some: list[Any]) -> None:
        for line in some:
            line["candidates"]["votes"] = {node: f"<{form}>" for node, form in line["candidates"]["votes"].items()}

    assert recheck(edited(results, tmp_path, "votes", rewritten)).problems == ()


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_lines_are_found_by_their_task(name: str, results: Path, tmp_path: Path) -> None:
    """Though the record is what its lines come to."""
    kind, change, word = FORGERIES[name]
    folder = refabricated(edited(results, tmp_path, kind, change))
    assert any(word in line for line in recheck(folder).problems), recheck(folder).problems


def test_a_better_answer_for_lines_that_only_a_form_tells_apart(results: Path, tmp_path: Path) -> None:
    """A task may accept more answers than its key; those are graded as in the run."""
    folder = edited(results, tmp_path, "tree", lambda some: some[0].update(answer=some[0]["key"], score=1.0))
    assert not any("score" in line for line in recheck(refabricated(folder)).problems if line.startswith("problem"))


def test_texts_and_what_its_task_cannot_make_are_counted(results: Path, tmp_path: Path) -> None:
    """Documents have no key; a task at another version, or one that raises, is named."""
    found = recheck(folder_of(results, "documents"))
    assert (found.graded, found.ungraded) == (0, 2) and found.left_out == ()
    folder = edited(results, tmp_path, "plain", lambda _: None)

    def other(record: dict[str, Any]) -> dict[str, Any]:
        spec = record["spec"] | {"task": record["spec"]["task"] | {"version": 99}}
        return record | {"spec": spec, "fingerprint": records.digest({k: v for k, v in spec.items() if k != "seed"})}

    reseal(folder, other)
    found = recheck(folder)
    assert (found.problems, found.graded, found.ungraded) == ((), 0, 8)
    assert any(line.startswith("answers were not graded again: task arithmetic is at version") for line in found.left_out)


def test_questions_are_made_once_for_runs_that_ask_the_same(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, made = registry.find("task", "arithmetic"), []
    own = cls.problems
    monkeypatch.setattr(cls, "problems", lambda self, *args, **more: (made.append(more["seed"]), own(self, *args, **more))[1])
    assert check_records(results).sound
    assert len(made) == 1


def test_report_check_counts_what_was_graded(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--check", "--results", str(results)]) == 0
    questions = sum(len(records.read_lines(folder_of(results, kind))) for kind in KINDS_OF_RUNS if "documents" not in kind)
    assert f"{questions} answers re-graded, 4 not re-graded: text" in capsys.readouterr().out
    assert main(["report", "--check", "--json", "--results", str(results)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["regraded_answers"], facts["not_regraded_answers"]) == (questions, 4)


@pytest.mark.parametrize("kind", ["plain", "thoughts", "gates", "documents", "beams", "values"])
def test_edited_flops_are_found(kind: str, results: Path, tmp_path: Path) -> None:
    """A problem that says it was cheaper, by one FLOP; and with its traces gone, by what the record's means say."""

    def cheaper(some: list[Any]) -> None:
        name = max(some[1]["flops"], key=some[1]["flops"].get)
        some[1]["flops"][name] -= 1

    folder = edited(results, tmp_path, kind, cheaper)
    problems = check_record(folder)
    name = records.read_lines(folder)[1]["id"]
    assert any(line.startswith(f"problem {name!r}: flops: its line has") for line in problems), problems
    assert any(line.startswith("infer.flops_per_problem.total") for line in problems)
    (folder / "traces.jsonl").unlink()
    assert {line.partition(":")[0] for line in check_record(folder)} == {
        line.partition(":")[0] for line in problems if not line.startswith("problem ")
    }


def test_all_flops_edited_alike_are_found(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line made cheaper: the first few are told, and how many more."""
    monkeypatch.setattr(recheck_module, "SHOWN", 3)

    def cheaper(some: list[Any]) -> None:
        for line in some:
            line["flops"] = {name: flops // 2 for name, flops in line["flops"].items()}

    problems = check_record(edited(results, tmp_path, "lines", cheaper))
    assert sum(": flops: its line has" in line for line in problems) == 3 and problems[-1] == "1 more of the kind"


@pytest.mark.parametrize("key", ["text_tokens", "woven_tokens"])
def test_edited_tokens_are_found(key: str, results: Path, tmp_path: Path) -> None:
    def fewer(some: list[Any]) -> None:
        some[0][key] += 1

    assert any(f": {key}: its line has" in line for line in check_record(edited(results, tmp_path, "thoughts", fewer)))


def test_an_edited_metric_is_found(results: Path, tmp_path: Path) -> None:
    """Also of a search, of a difficulty, of access and of a mean cost; after the record was sealed again."""
    folder = tmp_path / "copy"
    shutil.copytree(folder_of(results, "votes"), folder)

    def better(record: dict[str, Any]) -> dict[str, Any]:
        record["metrics"]["accuracy"]["high"] += 1e-12
        record["search"]["coverage"]["value"] = 1.5
        record["search"]["pool"][0]["n"] = 7
        record["access"] = "oracle"
        record["infer"]["flops_per_problem"]["p95"] += 1
        record["infer"]["unit_flops"] = 1.0  # not of the lines
        record["by_difficulty"][0]["n"] += 1
        return record

    reseal(folder, better)
    assert {line.partition(":")[0] for line in check_record(folder)} == {
        "metrics.accuracy.high", "search.coverage.value", "search.pool[0].n", "access", "infer.flops_per_problem.p95",
        "by_difficulty[0].n",
    }  # fmt: skip


def test_edited_traces_are_found(results: Path, tmp_path: Path) -> None:
    """A cell less, another order, another class."""

    def cell_less(some: list[Any]) -> None:
        some[0] = some[0] | {name: some[0][name][:-1] for name in lines.TRACE_COLUMNS}

    def other_order(some: list[Any]) -> None:
        some.reverse()

    def other_class(some: list[Any]) -> None:
        some[0]["class"] = some[0]["class"].replace("p", "v")

    def torn(some: list[Any]) -> None:
        del some[0]["row"]

    for change, word in (
        (cell_less, "flops: its line has"), (other_order, "not of the first problems"), (other_class, "flops: its line has"),
        (torn, "cannot be counted: KeyError: 'row'"),
    ):  # fmt: skip
        problems = check_record(edited(results, tmp_path, "lines", change, "traces.jsonl"))
        assert problems and word in problems[0], (word, problems)
        shutil.rmtree(tmp_path / "runs")


def test_lines_that_say_too_little(results: Path, tmp_path: Path) -> None:
    """Are one problem, not a crash."""

    def torn(some: list[Any]) -> None:
        del some[0]["weight"]

    assert any("cannot be summed up: KeyError: 'weight'" in x for x in check_record(edited(results, tmp_path, "plain", torn)))
    shutil.rmtree(tmp_path / "runs")
    folder = edited(results, tmp_path, "plain", list.clear)
    assert any("summed up" in line for line in check_record(folder))
    (folder / "problems.jsonl").write_text("torn")
    reseal(folder, lambda record: record)
    assert len(check_record(folder)) == 1 and "no file of JSON lines" in check_record(folder)[0]


def test_what_cannot_be_recounted_is_told(results: Path, tmp_path: Path) -> None:
    """No traces; a model from a folder; a plugin at another version. The rest is checked."""
    folder = tmp_path / "copy"
    shutil.copytree(folder_of(results, "plain"), folder)

    def resealed(change: Callable[[dict[str, Any]], None]) -> tuple[str, ...]:
        def changed(record: dict[str, Any]) -> dict[str, Any]:
            change(record["spec"])
            return record | {"fingerprint": records.digest({k: v for k, v in record["spec"].items() if k != "seed"})}

        reseal(folder, changed)
        found = recheck(folder)
        assert found.problems == () and found.traced == 0
        return found.left_out

    assert "gpt2-folder" in resealed(lambda spec: spec["model"].update(path="gpt2-folder"))[0]
    assert "another" in resealed(lambda spec: spec["strategy"].update(version=99))[0]
    (folder / "traces.jsonl").unlink()
    assert "no traces" in recheck(folder).left_out[0]


def test_all_records_of_a_folder(results: Path, tmp_path: Path) -> None:
    """Sound ones, wrong ones and spoilt ones, by their paths."""
    sound = check_records(results)
    assert sound.sound and len(sound.checked) == len(KINDS_OF_RUNS) and not sound.spoilt
    copy = tmp_path / "results"
    for kind in ("plain", "loops", "lines"):
        shutil.copytree(folder_of(results, kind), copy / folder_of(results, kind).relative_to(results))
    plain, loops = (folder_of(results, kind).relative_to(results) for kind in ("plain", "loops"))
    (copy / plain / "problems.jsonl").write_text("")
    reseal(copy / loops, lambda record: record | {"access": "oracle"})
    seen: list[str] = []
    found = check_records(copy, report=seen.append)
    assert not found.sound and set(found.spoilt) == {plain.as_posix()} and len(seen) == 3
    assert {name for name, one in found.checked.items() if one.problems} == {loops.as_posix()}
    assert check_record(copy / plain) == [found.spoilt[plain.as_posix()]]
    with pytest.raises(ValueError, match=r"problems\.jsonl"):
        recheck(copy / plain)


def test_names_that_are_told_twice_agree() -> None:
    """The recheck reads records without loading what wrote them, and so names some things itself."""
    assert VALUED == instant.VALUED
    assert {lines.CLASS_LETTERS[at]: at for at in range(len(CLASSES))} == LETTERS
    assert set(WOVEN) == {lines.KIND_LETTERS[kind] for kind in (THOUGHT, PAUSE)} and len(KINDS) == len(lines.KIND_LETTERS)


def test_needs_no_torch(results: Path) -> None:
    """Neither the recheck of every kind, nor packs, merges, gc and lists."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom harness.recheck import check_records\n"
        f"assert check_records(Path({str(results)!r})).sound\n"
        "from harness.cli import main\n"
        f"assert main(['list', '--runs', '--results', {str(results)!r}]) == 0\n"
        f"assert main(['gc', '--dry-run', '--results', {str(results)!r}]) == 0\n"
        f"assert main(['pack', {str(results / 'p.tar.xz')!r}, '--results', {str(results)!r}]) == 0\n"
        f"assert main(['merge', {str(results / 'p.tar.xz')!r}, '--results', {str(results)!r}]) == 0\n"
        "print({'torch', 'matplotlib', 'transformers'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "set()", done.stderr
