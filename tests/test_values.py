"""Value models: what they are fitted on, what they cost, that they foretell, and that nothing half-made is taken for complete."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import alphabet, follows
from support import Pages, Toy, ask, batch_of, states_and_inputs, strategy, tiny

from harness import make_spec, rating, records, run, show_runs, storage, values
from harness.calibration import BINS, calibration, diagram
from harness.checks.context import with_methods
from harness.examination import oracle_of
from harness.inspect import ask_run, load_run, verify_run
from harness.jsonl import lines_of
from harness.learners import Means, Silent, learn
from harness.meter import CLASSES, gpt2_price, head_flops
from harness.problem import END, SEP, Key, Piece, Problem, Question, Tokens
from harness.search_wants import LastState, ValueSpec
from harness.seeds import derive
from harness.session import Job, Session
from harness.strategy import Strategy
from harness.task import Task
from harness.trace import FACTS
from harness.value_model import ValueModel
from harness.wants import Generate, Sampler, Start, Unroll
from harness.weights import read_packed
from tasks.countdown import Countdown

TINY = {
    "model.size": "xs", "model.width": 16, "model.heads": 2, "model.layers": 1, "train.problems_per_update": 4,
    "train.flops": 3e8,     "infer.problems": 2, "strategy.value_problems": 8, "strategy.value_rollouts": 2,
}  # fmt: skip
WIDTH, LAYERS, HIDDEN, EPOCHS, ROLLOUTS = 16, 1, 64, 2, 2
BEST, TREE = ("best_of_n", "strategy.select"), ("tree_of_thoughts", "strategy.evaluator")


def spec_of(how=BEST, **settings: Any) -> Any:
    """A tiny run on countdown that asks for a value model."""
    return make_spec(strategy=how[0], task="countdown", settings={**TINY, how[1]: "value", **settings})


def learned(results: Path) -> Any:
    return learn(spec_of(), results=results, means=Means(), reporter=Silent())


@pytest.fixture(scope="module", autouse=True)
def easy():
    """Answers of odd length are right on countdown: so small a learner would never be right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Countdown, "grade", lambda self, problem, answer: float(len(answer or "") % 2))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A learner, and a value model of it with all outcomes of the jobs that it took: (results, record, outcomes)."""
    results, outcomes = tmp_path_factory.mktemp("made"), []

    class Watched(Session):
        def run(self, jobs):
            for outcome in super().run(jobs):
                outcomes.append(outcome)
                yield outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating, "Session", Watched)
        backbone, learner = learned(results)
        _, record = values.fitted(spec_of(), backbone, learner, results=results, again=False)
    return results, record, outcomes


def files_of(results: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (results / "values").glob("*/*")}


def copied(made, tmp_path: Path, *, weights_only: bool = False) -> Path:
    """Results to be spoilt."""
    shutil.copytree(made[0], tmp_path / "results")
    if weights_only:
        shutil.rmtree(tmp_path / "results" / "values")
    return tmp_path / "results"


# What is sampled


def numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(map(int, text.partition(">")[0].split())))


def prompts(backbone, outcome) -> set[str]:
    """All that was given to the model, from the cells that were fed."""
    cells = [dict(zip(FACTS, cell, strict=True)) for cell in outcome.trace.cells]
    given = [c["embed"] for c in cells if CLASSES[c["charge"]] == "prefill"]
    return {str(piece) for piece in backbone.alphabet.pieces(given)}


def test_no_test_problem_and_none_of_their_numbers_is_met(made):
    spec, (backbone, _) = spec_of(), learned(made[0])
    splits = {
        s: [p.question.text for p in spec.task.problems(s, seed=0, start=0, count=10**6)] for s in ("value", "validation", "test")
    }
    met = [text for outcome in made[2] for text in prompts(backbone, outcome)]
    assert sorted(met) == sorted(splits["value"][:8] + splits["validation"][:32])
    held_out = set(map(numbers, splits["test"]))
    assert len(held_out) > 100 and not held_out & set(map(numbers, met))
    assert {o.access for o in made[2]} <= {"none", "oracle"}


def test_a_rows_last_state_is_that_of_a_full_forward_pass():
    for name in ("direct", "looped_depth", "reasoning_tokens"):
        how = strategy(name)
        backbone = tiny(how, heads=2)

        def solver(how=how):
            row = yield Start((Piece("12+34=", "prompt"),))
            first = yield LastState(row)
            said = yield Generate(row, 3, Sampler(1.0), role="thought", stops=())
            last = yield LastState(row)
            yield Unroll(row, (Piece("56", "thought"),))  # its every token's state is read at once
            return (first, last, (yield LastState(row))), said.ids

        session = Session(backbone, keep_states=True)
        found, ids = next(iter(session.run([Job("0", solver)]))).value
        text = (Piece("12+34=", "prompt", True), Piece(Tokens(ids), "thought", True), Piece("560", "thought", True))
        states, _ = states_and_inputs(backbone, batch_of(backbone, [text]))
        assert len(states) == 11
        for state, at in zip(found, (5, 8, 10), strict=True):
            torch.testing.assert_close(torch.from_numpy(state), states[at].detach(), atol=1e-4, rtol=1e-4)
        with pytest.raises(ValueError, match="keep_states"):
            ask(backbone, [Job("0", solver)])


SCRIPT = {
    "": {"1": 0.5, "2": 0.5}, "1": {";": 1.0}, "2": {";": 0.8, SEP: 0.2}, "1;": {"4": 0.5, "5": 0.5}, "2;": {"5": 0.9, "8": 0.1},
}  # fmt: skip


def script(text):
    """One or two lines, <sep>, and the last line's number as the answer; "8" goes on until its cap."""
    if text in SCRIPT:
        return SCRIPT[text]
    lines, sep, answer = text.partition(SEP.name)
    if lines.endswith("8"):
        return {"8": 1.0}
    return {END: 1.0} if answer else {lines[-1]: 1.0} if sep else {SEP: 1.0}


@dataclass(frozen=True, kw_only=True)
class Fives(Task):
    """The answer is 5 in the value split; the numbers of problems make them differ, the model does not see it."""

    def offers(self):
        return frozenset({"prompt", "worked_lines"})

    def alphabet(self):
        return alphabet().spec

    def problems(self, split, *, seed, start, count, lines=True):
        return [Problem(Question(f"{split}-{i}", "7+8=", 4, 12), Key("5", ("2", "5"))) for i in range(start, start + count)]


def test_shares_are_an_independent_recount_of_rollouts(monkeypatch):
    """Every attempt that was read, in order: rollouts of each state, which begin with its lines, then the attempt itself.

    Rollouts' own states stand behind the state that they go on from, each with its rollout's grade.
    """
    wanted, read, reached = ValueSpec(40, 5, 1.0, 8, 1), [], 0

    def noted(self, completion):
        read.append(completion)
        return type(plain).read(self, completion)

    plain = follows(strategy("chain_of_thought"), script, monkeypatch)
    base, task = with_methods(plain, read=noted), Fives()
    backbone = tiny(strategy("chain_of_thought"), alphabet=alphabet())
    backbone.strategy = base
    kinds = {"": [], "1;": [], "2;": [], "end": []}
    for number, problem in enumerate(task.problems("value", seed=0, start=0, count=wanted.problems)):
        read.clear()
        job = Job(
            "0", lambda p=problem: rating.rated(base, p.question, wanted), seed=number, oracle=oracle_of(task, problem), rows=6
        )
        found = next(iter(Session(backbone, keep_states=True).run([job]))).value
        texts = [c.text for c in read]
        right = [float(bool(re.fullmatch(r"[\d;]*<sep>5", text))) for text in texts]
        whole = read[-1] if len(read) % 5 else None  # an attempt that its cap cut off is not read
        assert whole is None or whole.stop == "end"
        prefixes = re.findall(r"[^;]*;", texts[-1]) if whole else ["2;"]
        for at in range(len(read) // 5):
            mine, before = texts[5 * at : 5 * at + 5], "".join(prefixes[:at])
            assert all(text.startswith(before) for text in mine)
            (_, share), found = found[0], found[1:]
            assert share == pytest.approx(sum(right[5 * at : 5 * at + 5]) / 5)
            kinds[before].append(share)
            grades = []  # of rollouts' own states: behind each line and at the end
            for rollout in range(5 * at, 5 * at + 5):  # in the order in which they ended
                lines = texts[rollout][len(before) :].count(";")
                grades += [right[rollout]] * (lines + (read[rollout].stop == "end"))
            own, found = found[: len(grades)], found[len(grades) :]
            assert sorted(grade for _, grade in own) == sorted(grades)
            reached += len(grades)
        if whole:
            (_, grade), found = found[0], found[1:]
            assert grade == right[-1] == float(whole.text.endswith("5"))
            kinds["end"].append(grade)
        assert not found
    assert reached > 500
    chances = {"": 0.5 * 0.5 + 0.5 * 0.8 * 0.9, "1;": 0.5, "2;": 0.9}
    for state, chance in chances.items():
        n = 5 * len(kinds[state])
        assert n > 50 and abs(sum(kinds[state]) / len(kinds[state]) - chance) < 4 * math.sqrt(chance * (1 - chance) / n)
    assert 0 < sum(kinds["end"]) < len(kinds["end"]) < wanted.problems


def test_a_base_without_lines_has_the_prompt_and_ends():
    task, how, wanted = Toy(), strategy("direct"), ValueSpec(8, 3, 1.0, 8, 1)
    for problem in task.problems("value", seed=0, start=0, count=8):
        job = Job("0", lambda p=problem: rating.rated(how, p.question, wanted), oracle=oracle_of(task, problem))
        outcome = next(iter(Session(tiny(how), keep_states=True).run([job])))
        assert 1 <= len(outcome.value) <= 1 + 3 + 1  # the prompt, three rollouts' ends and the attempt's, but for those cut off
        assert outcome.ledger.by_class()["prefill"] > 0


def test_company_and_memory_change_nothing(made):
    spec, (backbone, _) = spec_of(), learned(made[0])
    problems = values.problems_of(spec)["value"]
    one, many, bounded = (
        rating.sampled(spec, backbone, problems, purpose="value", **how)
        for how in ({"rows": 1}, {"rows": 128}, {"max_kv_bytes": 150_000})
    )
    assert len(set(one.shares.tolist())) > 2
    for other in (many, bounded):
        assert torch.equal(one.states, other.states) and torch.equal(one.shares, other.shares) and one.flops == other.flops
    with pytest.raises(ValueError, match="--max-kv-bytes"):
        rating.sampled(spec, backbone, problems, purpose="value", max_kv_bytes=1000)


# What it costs


@pytest.mark.slow
def test_the_flops_are_those_of_another_run_cell_by_cell(made):
    """Jobs one by one, each cell by the formula; and the fitting's."""
    spec, (backbone, learner), record = spec_of(), learned(made[0]), made[1]
    wanted, base, flops, states = values.wanted_by(spec), spec.strategy.asked, {}, 0
    for split, purpose in (("value", "value"), ("validation", "value check")):
        flops[split] = 0
        for problem in spec.task.problems(split, seed=0, start=0, count=8 if split == "value" else 32):
            seed = derive(0, purpose, problem.question.id)
            job = Job("0", lambda p=problem: rating.rated(base, p.question, wanted), seed, oracle=oracle_of(spec.task, problem))
            outcome = next(iter(Session(backbone, rows=1, keep_states=True).run([job])))
            states += len(outcome.value) * (split == "value")
            for cell in outcome.trace.cells:
                facts = dict(zip(FACTS, cell, strict=True))
                blocks = gpt2_price(layers=LAYERS, width=WIDTH).blocks(facts["index"] + 1)
                flops[split] += int(blocks) + facts["read"] * head_flops(width=WIDTH, outputs=backbone.outputs)
    fitting = 3 * 2 * (HIDDEN * WIDTH + HIDDEN) * states * EPOCHS
    assert record["flops"] == {"rollouts": flops["value"], "fitting": fitting, "check": flops["validation"]}
    assert 0 < record["positives"] < 1 and record["calibration"]["brier_of_constant"] > 0
    assert record["states"] == states and record["problems"] == {"asked": 8, "used": 8}
    assert record["ratio"] == (flops["value"] + fitting) / learner["train"]["spent_flops"]
    train = {"spent_flops": 3, "pretraining": {"spent_flops": 4, "pretraining": {"spent_flops": 5, "pretraining": None}}}
    assert records.training_flops(train) == 12


# What it foretells


def test_it_tells_states_apart_where_success_is_linear_in_them():
    drawn = torch.Generator().manual_seed(0)
    states = 2 * torch.randn(1200, WIDTH, generator=drawn)
    chances = torch.sigmoid(states @ torch.randn(WIDTH, generator=drawn) / 2)
    shares = torch.binomial(torch.full_like(chances, 4), chances, generator=drawn) / 4
    model = values.fit(states[:800], shares[:800], ValueSpec(0, 4, 1.0, 64, 20), seed=3)
    found = calibration(model.chances(states[800:]), shares[800:].tolist())
    assert found["brier"] < 0.35 * found["brier_of_constant"]
    least = float(((chances[800:] - shares[800:]) ** 2).mean())
    assert found["brier"] < least + 0.02
    assert sum(b["count"] for b in found["bins"]) == found["states"] == 400
    full = [b for b in found["bins"] if b["count"] > 20]
    assert len(full) > 5 and all(abs(b["predicted"] - b["observed"]) < 0.15 for b in full)
    again, other = (values.fit(states[:800], shares[:800], ValueSpec(0, 4, 1.0, 64, 20), seed=s) for s in (3, 4))
    assert torch.equal(again.up, model.up) and torch.equal(again.down, model.down) and not torch.equal(other.up, model.up)


def test_calibration_is_counted_by_hand():
    found = calibration([0.05, 0.05, 0.55, 1.0], [0.0, 0.5, 1.0, 1.0])
    assert found["brier"] == pytest.approx((0.05**2 + 0.45**2 + 0.45**2) / 4)
    assert found["base_rate"] == 0.625 and found["brier_of_constant"] == pytest.approx((0.625**2 + 0.125**2 + 2 * 0.375**2) / 4)
    assert [b["count"] for b in found["bins"]] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1] and len(found["bins"]) == BINS
    assert (found["bins"][0]["predicted"], found["bins"][0]["observed"]) == (pytest.approx(0.05), 0.25)
    assert found["bins"][1]["predicted"] is None
    nothing = calibration([], [])
    assert nothing["brier"] is nothing["base_rate"] is None and nothing["states"] == 0
    for drawn in (diagram(found), diagram(nothing)):
        assert drawn["reliability.png"].startswith(b"\x89PNG") and b"<svg" in drawn["reliability.svg"]
    assert diagram(found) == diagram(found)


# What is kept


def test_twice_the_same_bytes(made, tmp_path):
    results, told = copied(made, tmp_path, weights_only=True), []
    backbone, learner = learned(results)
    model, record = values.fitted(spec_of(), backbone, learner, results=results, again=False, report=lambda *x: told.append(x))
    assert files_of(results) == files_of(made[0]) and set(files_of(results)) == {
        "value.json", "value.safetensors", "reliability.png", "reliability.svg",
    }  # fmt: skip
    assert told == [(i, 40) for i in range(1, 41)] and record == made[1]
    tensors, _ = read_packed(next((results / "values").glob("*/value.safetensors")))
    assert {k: v.shape for k, v in tensors.items()} == {
        "up": (HIDDEN, WIDTH), "up_bias": (HIDDEN,), "down": (HIDDEN,), "down_bias": (),
    }  # fmt: skip
    assert all(torch.equal(getattr(model, name), tensor) for name, tensor in tensors.items())


def test_a_complete_one_is_loaded_without_its_pictures(made, tmp_path, monkeypatch):
    results = copied(made, tmp_path)
    backbone, learner = learned(results)
    for path in (results / "values").glob("*/reliability.*"):
        path.unlink()
    monkeypatch.setattr(values, "sampled", lambda *_, **__: pytest.fail("it sampled again"))
    model, record = values.fitted(spec_of(), backbone, learner, results=results, again=False)
    assert isinstance(model, ValueModel) and record == made[1]
    same = (spec_of(TREE), spec_of(BEST, **{"strategy.samples": 3, "infer.problems": 5}))  # other searches that ask for the same
    assert {values.value_folder(results, spec) for spec in same} == {values.value_folder(results, spec_of())}
    other = (
        {"strategy.value_rollouts": 3}, {"strategy.value_problems": 9}, {"task.largest": 30}, {"train.flops": 4e8},
        {"strategy.base": "chain_of_thought", "strategy.base.cap_tokens": 60},
    )  # fmt: skip
    prints = {values.fingerprint(spec_of(BEST, **settings)) for settings in other}
    assert len(prints) == len(other) and values.fingerprint(spec_of()) not in prints
    longer = [make_spec(strategy=BEST[0], task="arithmetic", settings={**TINY, BEST[1]: "value", "task.longer": n}) for n in "45"]
    assert longer[0].learner_fingerprint() == longer[1].learner_fingerprint() and len(set(map(values.fingerprint, longer))) == 2
    assert values.value_folder(results, dataclasses.replace(spec_of(), seed=1)).name.endswith("-s1")


class Crash(BaseException):
    """The process ends here."""


def crashing(monkeypatch, at: int, when: str) -> list[str]:
    """Crash before, within or after change ``at`` of a file; all changes' names."""
    seen: list[str] = []

    def wrapped(name: str, own: Any) -> Any:
        def changed(path, *rest):
            seen.append(f"{name} {(rest[0] if name == 'rename' else path).name}")
            if len(seen) - 1 != at:
                return own(path, *rest)
            if when == "within" and name == "write_bytes":
                own(path, rest[0][: len(rest[0]) // 2])
            if when == "after":
                own(path, *rest)
            raise Crash

        return changed

    for name in ("write_bytes", "rename", "remove"):
        monkeypatch.setattr(storage, name, wrapped(name, getattr(storage, name)))
    return seen


@pytest.mark.slow
def test_a_making_that_is_cut_off_is_never_taken_for_complete(made, tmp_path, monkeypatch):
    """Crashes at every change of a file, first and made anew; the sampling, which changes none, is remembered."""
    spec, results, kept = spec_of(), copied(made, tmp_path, weights_only=True), {}
    backbone, learner = learned(results)
    own, pictures = rating.sampled, {name: data for name, data in files_of(made[0]).items() if name.startswith("reliability")}

    def remembered(*args, purpose, **how):
        if purpose not in kept:
            kept[purpose] = own(*args, purpose=purpose, **how)
        return kept[purpose]

    monkeypatch.setattr(values, "sampled", remembered)
    monkeypatch.setattr(values, "diagram", lambda _: pictures)

    def fitted(again=False):
        return values.fitted(spec, backbone, learner, results=results, again=again)

    (process := subprocess.Popen([sys.executable, "-c", ""])).wait()
    gone = process.pid
    with pytest.MonkeyPatch.context() as patch:
        seen = crashing(patch, -1, "")
        fitted()
    assert seen[-1] == "rename value.json" and seen[0].startswith("write_bytes") and len(seen) == 8
    for again in (False, True):
        for at in range(len(seen) + again):
            for when in ("before", "within", "after"):
                if not again:
                    shutil.rmtree(results / "values")
                with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
                    patch.setattr(storage.os, "getpid", lambda: gone)  # what it leaves half-written bears its number
                    crashing(patch, at, when)
                    fitted(again)
                last = at == len(seen) + again - 1 and when == "after"
                first = again and at == 0 and when != "after"
                assert (values.value_folder(results, spec) / "value.json").exists() == (last or first)
                assert fitted()[1] == made[1] and files_of(results) == files_of(made[0])


def test_an_error_while_sampling_leaves_nothing(made, tmp_path, monkeypatch):
    results = copied(made, tmp_path, weights_only=True)
    backbone, learner = learned(results)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(values, "fit", lambda *_, **__: 1 / 0)
        values.fitted(spec_of(), backbone, learner, results=results, again=False)
    assert not (results / "values").exists()


@pytest.mark.parametrize("name", ["value.json", "value.safetensors"])
def test_a_spoilt_one_is_named(made, tmp_path, name):
    results = copied(made, tmp_path)
    backbone, learner = learned(results)
    path = next((results / "values").glob(f"*/{name}"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=name) as error:
        values.fitted(spec_of(), backbone, learner, results=results, again=False)
    assert "--again" in str(error.value) and "\n" not in str(error.value)
    values.fitted(spec_of(), backbone, learner, results=results, again=True)
    assert files_of(results) == files_of(made[0])
    with pytest.raises(ValueError, match="other weights"):
        values.fitted(spec_of(), backbone, learner | {"weights_sha256": "0"}, results=results, again=False)


# Runs


@pytest.mark.parametrize("how", [BEST, pytest.param(TREE, marks=pytest.mark.slow)], ids=lambda how: how[0])
def test_a_run_is_valued_asked_and_verified(made, tmp_path, how, capsys):
    results, spec = copied(made, tmp_path), spec_of(how)
    if how is TREE:
        shutil.rmtree(results / "values")  # made by the run itself
    record = run(spec, results=results)
    names = ("fingerprint", "flops", "ratio", "states", "calibration")
    scores = {name: made[1]["calibration"][name] for name in ("brier", "brier_of_constant")}
    assert record["value"] == {name: made[1][name] for name in names} | scores
    assert files_of(results)["value.json"] == files_of(made[0])["value.json"]
    (folder,) = (results / "runs" / "countdown" / how[0]).iterdir()
    lines = [json.loads(line) for line in lines_of(folder / "problems.jsonl")]
    assert all(line["notes"]["values"] for line in lines)
    assert [line["flops"]["verify"] for line in lines] == [
        len(x["notes"]["values"]) * 2 * (HIDDEN * WIDTH + HIDDEN) for x in lines
    ]
    asked = ask_run(str(folder), "2 3 8>18", results=results, device="cpu")
    assert asked["notes"]["values"] and asked["access"] == "none"
    verified = verify_run(str(folder), results=results, device="cpu", reporter=Silent())
    assert verified["problems"] == verified["equal"] == 2
    show_runs.print_runs(record, spec, results)
    shown = " ".join(capsys.readouterr().out.split())
    spent = made[1]["flops"]["rollouts"] + made[1]["flops"]["fitting"]
    assert f"value model FLOPs (x learner's training) │ {spent:.3g} ({made[1]['ratio']:.3g}x)" in shown
    assert f"Brier score (constant) │ {scores['brier']:.4f} ({scores['brier_of_constant']:.4f})" in shown
    next((results / "values").glob("*/value.json")).unlink()
    with pytest.raises(ValueError, match=re.escape(f"make it again with: {record['command']} --again")):
        load_run(str(folder), results=results, device="cpu")


def test_a_run_that_asks_for_none_has_none(made, tmp_path):
    results = copied(made, tmp_path, weights_only=True)
    settings = {k: v for k, v in TINY.items() if not k.startswith("strategy.")}
    record = run(make_spec(strategy="best_of_n", task="countdown", settings=settings), results=results)
    assert record["value"] is None and not (results / "values").exists()


@dataclass(frozen=True, kw_only=True)
class Asking(Strategy):
    """Asks for a value model, of no problems."""

    source = "tests"

    def value_spec(self):
        return ValueSpec(0, 1, 1.0, 8, 1)


@pytest.mark.parametrize("task", [Toy(), Pages()], ids=lambda t: t.kind)
def test_nothing_to_fit_on_is_told_before_training(tmp_path, task, monkeypatch):
    from harness import registry, runs

    monkeypatch.setattr(runs, "learn", lambda *_, **__: pytest.fail("it trained"))
    monkeypatch.setattr(registry, "plugin_name", lambda p: type(p).__name__)
    spec = dataclasses.replace(spec_of(), strategy=Asking(), task=task)
    with pytest.raises(ValueError, match=r"0 problems of the split `value`.*value_problems") as error:
        run(spec, results=tmp_path / "results")
    assert "\n" not in str(error.value) and not (tmp_path / "results").exists()


@pytest.mark.parametrize("how", [BEST, TREE], ids=lambda how: how[0])
def test_a_search_that_wants_no_problems_is_refused(how):
    with pytest.raises(ValueError, match="value_problems=0") as error:
        spec_of(how, **{"strategy.value_problems": 0})
    assert "\n" not in str(error.value)
