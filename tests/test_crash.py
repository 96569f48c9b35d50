"""Runs that are cut off anywhere and taken up again end in the same bytes; what is spoilt is named in one line."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import evaluate, records, runs, storage, train
from harness.alphabet import make_alphabet
from harness.jsonl import lines_of
from harness.runs import run
from harness.spec import RunSpec, make_spec
from harness.weights import make_backbone

CHANGES = ("write_bytes", "rename", "append", "truncate", "remove")  # every change of a file goes through these
TINY = {
    "task.digits": "1-2",
    "model.size": "xs",
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "infer.problems": 8,
    "train.problems_per_update": 8,
    "strategy.per_token": 1,
}
UPDATES = 3


class Crash(BaseException):
    """The process ends here; nothing that handles errors sees it."""


def spec_of(updates: int = UPDATES, *, pretrained: bool = False, **settings: Any) -> RunSpec:
    """A run of so many updates."""
    plain = {**TINY, **settings}
    cost = runs.plan(make_spec(strategy="reasoning_tokens", task="arithmetic", settings=plain)).flops_per_update
    plain["train.flops"] = cost * (updates + 0.5)
    if pretrained:
        plain |= {"pretraining.task": "arithmetic", "pretraining.task.digits": "1", "pretraining.train.problems_per_update": 8}
        plain |= {"pretraining.strategy": "direct", "pretraining.train.flops": cost * 1.2}
    return make_spec(strategy="reasoning_tokens", task="arithmetic", settings=plain)


def contents(results: Path) -> dict[str, bytes]:
    """All files but those that cannot repeat."""
    files = (p for p in results.rglob("*") if p.is_file() and p.name != "timing.json")
    return {str(p.relative_to(results)): p.read_bytes() for p in files}


class Changes:
    """Counts changes of files; at number ``crash_at`` it crashes before, in the middle of, or after the change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, crash_at: int = -1, when: str = "before") -> None:
        self.seen: list[str] = []
        self.crash_at, self.when = crash_at, when
        for name in CHANGES:
            monkeypatch.setattr(storage, name, self.wrapped(name, getattr(storage, name)))

    def wrapped(self, name: str, change: Any) -> Any:
        def changed(path: Path, *rest: Any) -> None:
            self.seen.append(f"{name} {path.name}")
            if len(self.seen) - 1 != self.crash_at:
                return change(path, *rest)
            if self.when == "within":
                change(path, *(part[: len(part) // 2] for part in rest))
            if self.when == "after":
                change(path, *rest)
            raise Crash(f"{self.when} {self.seen[-1]}")

        return changed


def dead_process() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def cases_of(seen: list[str]) -> list[tuple[int, str]]:
    """Every crash: before and after each change, and halfway through those that take time."""
    torn = [(i, "within") for i, name in enumerate(seen) if name.startswith(("append", "write_bytes"))]
    return sorted([(i, when) for i in range(len(seen)) for when in ("before", "after")] + torn)


def crash_everywhere(spec: RunSpec, tmp_path: Path) -> list[str]:
    """Crash at each case of a run, run again, compare; returns the changes of an undisturbed run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "FLUSH_LINES", 3)
        patch.setattr(runs, "bit_stable", lambda *_: True)  # half of so small a run, and no matter of files
        with pytest.MonkeyPatch.context() as counting:
            seen = Changes(counting).seen
            run(spec, results=tmp_path / "whole", checkpoint_s=0)
        whole = contents(tmp_path / "whole")
        gone = dead_process()
        for at, when in cases_of(seen):
            results = tmp_path / "crashed"
            with pytest.MonkeyPatch.context() as crashing:
                Changes(crashing, at, when)
                crashing.setattr(storage.os, "getpid", lambda: gone)  # temporary files bear the number of a process
                with pytest.raises(Crash):
                    run(spec, results=results, checkpoint_s=0)
            run(spec, results=results, checkpoint_s=0)
            again = contents(results)
            assert again.keys() == whole.keys(), (at, when, seen[at])
            assert [n for n in whole if whole[n] != again[n]] == [], (at, when, seen[at])
            shutil.rmtree(results)
    return seen


def test_slow_answers_are_kept_after_some_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would otherwise wait for sixty others; and what was kept is not asked again."""
    spec, kept = spec_of(), []
    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=make_alphabet(spec.alphabet), seed=0).eval()
    monkeypatch.setattr(evaluate, "FLUSH_S", 0.0)

    def stop(done: int, _: int) -> None:
        kept.append(len(list(lines_of(tmp_path / "problems.jsonl"))))
        if done == 3:
            raise Crash

    with pytest.raises(Crash):
        evaluate.evaluate(spec, backbone, tmp_path, report=stop)
    assert kept == [1, 2, 3]
    evaluate.evaluate(spec, backbone, tmp_path, report=lambda done, _: kept.append(done))
    assert kept[3] == 4


@pytest.mark.slow
def test_a_crash_at_any_change_of_a_file_changes_nothing(tmp_path: Path) -> None:
    seen = crash_everywhere(spec_of(), tmp_path)
    kinds = {name.split()[0] for name in seen}
    assert kinds == {"write_bytes", "rename", "append", "remove"}  # truncate is for those who come after a crash
    assert sum(name.startswith("append train.jsonl") for name in seen) == UPDATES
    assert sum(name.startswith("append problems.jsonl") for name in seen) == 3


@pytest.mark.slow
def test_a_crash_at_any_change_with_pretraining_changes_nothing(tmp_path: Path) -> None:
    seen = crash_everywhere(spec_of(pretrained=True), tmp_path)
    assert sum(name.startswith("append train.jsonl") for name in seen) > UPDATES


def test_crashes_while_recovering_change_nothing(tmp_path: Path) -> None:
    """One crash after another, each a little later."""
    spec, rng = spec_of(), random.Random(0)
    run(spec, results=tmp_path / "whole", checkpoint_s=0)
    crashes = 0
    for _ in range(200):
        with pytest.MonkeyPatch.context() as crashing:
            Changes(crashing, rng.randrange(1, 14), rng.choice(["before", "within", "after"]))
            try:
                run(spec, results=tmp_path / "crashed", checkpoint_s=0)
                break
            except (Crash, TypeError):  # "within" a rename or a removal is not defined
                crashes += 1
    run(spec, results=tmp_path / "crashed", checkpoint_s=0)
    assert crashes >= 3
    assert contents(tmp_path / "crashed") == contents(tmp_path / "whole")


class Watcher:
    """Notes updates; crashes after one of them."""

    def __init__(self, crash_at: int = 0) -> None:
        self.updates: list[int] = []
        self.crash_at = crash_at

    def training(self, spec: RunSpec, spent: Any, progress: float, loss_nats: float) -> None:
        self.updates.append(spent.updates)
        if spent.updates == self.crash_at:
            raise Crash

    def evaluating(self, spec: RunSpec, done: int, total: int) -> None:
        pass


@pytest.mark.parametrize("interval", [0, 3])
def test_at_most_the_last_checkpoint_interval_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: int) -> None:
    """A clock that makes every update last one second."""
    clock = iter(range(10**6))
    monkeypatch.setattr(train.time, "monotonic", lambda: next(clock))
    spec = spec_of(12)
    first = Watcher(crash_at=8)
    with pytest.raises(Crash):
        run(spec, results=tmp_path, checkpoint_s=interval, reporter=first)
    second = Watcher()
    run(spec, results=tmp_path, checkpoint_s=interval, reporter=second)
    assert first.updates == list(range(1, 9))
    assert second.updates[-1] == 12
    repeated = len(set(first.updates) & set(second.updates))
    assert repeated <= max(interval, 1)


KILLED = """
import sys
from pathlib import Path
from harness import evaluate, make_spec
from harness.runs import run
import json
evaluate.FLUSH_LINES = 16
spec = make_spec(strategy="reasoning_tokens", task="arithmetic", settings=json.loads(sys.argv[1]))
run(spec, results=Path(sys.argv[2]), checkpoint_s=0)
"""


def started(settings: dict[str, Any], results: Path) -> subprocess.Popen[bytes]:
    """The run as a process of its own, at work on its files."""
    root = Path(harness.__file__).parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, json.dumps(settings), str(results)], env=env)
    deadline_s = time.monotonic() + 120
    while not (results / "weights").exists() and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return process


def kill_at_random(tmp_path: Path, *, kills: int, updates: int, seed: int) -> None:
    """Real kills, then the same bytes."""
    settings = {**TINY, "infer.problems": 200}
    settings["train.flops"] = spec_of(updates, **{"infer.problems": 200}).train.flops
    rng = random.Random(seed)
    begun_s = time.monotonic()
    run(make_spec(strategy="reasoning_tokens", task="arithmetic", settings=settings), results=tmp_path / "whole", checkpoint_s=0)
    whole_s = time.monotonic() - begun_s
    killed = 0
    for _ in range(kills):
        process = started(settings, tmp_path / "killed")
        time.sleep(rng.uniform(0.0, whole_s))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(make_spec(strategy="reasoning_tokens", task="arithmetic", settings=settings), results=tmp_path / "killed", checkpoint_s=0)
    assert killed
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_real_kills_change_nothing(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=3, updates=60, seed=int(time.time()))


@pytest.mark.slow
def test_many_real_kills_change_nothing(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=8, updates=200, seed=int(time.time()) + 1)


# Complete and spoilt runs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    """A complete run."""
    spec, results = spec_of(), tmp_path_factory.mktemp("made")
    run(spec, results=results, checkpoint_s=0)
    return spec, results


@pytest.fixture
def complete(made: tuple[RunSpec, Path], tmp_path: Path) -> tuple[RunSpec, Path]:
    """A copy of a complete run, to be spoilt."""
    shutil.copytree(made[1], tmp_path / "results")
    return made[0], tmp_path / "results"


def test_a_complete_run_is_returned_at_once(complete: tuple[RunSpec, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spec, results = complete
    before = contents(results)
    monkeypatch.setattr(runs, "learn", lambda *_, **__: pytest.fail("it trained again"))
    monkeypatch.setattr(storage, "write_bytes", lambda *_: pytest.fail("it wrote"))
    record = run(spec, results=results)
    assert record["complete"] and record["infer"]["problems"] == 8 and "evaluate_s" in record["timing"]
    assert contents(results) == before


def test_a_complete_run_needs_no_torch(complete: tuple[RunSpec, Path]) -> None:
    spec, results = complete
    code = (
        "import sys, json, harness\nfrom harness.spec import from_json\n"
        "record = harness.run(from_json(json.loads(sys.argv[1])), results=sys.argv[2])\n"
        "assert record['complete'] and 'torch' not in sys.modules\n"
    )
    root = Path(harness.__file__).parent.parent
    env = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, json.dumps(spec.to_json()), str(results)], env=env, check=True)


def test_again_makes_it_anew(complete: tuple[RunSpec, Path]) -> None:
    spec, results = complete
    before = contents(results)
    watcher = Watcher()
    run(spec, results=results, again=True, checkpoint_s=0, reporter=watcher)
    assert watcher.updates == [1, 2, 3]
    assert contents(results) == before


def test_again_that_is_cut_off_is_taken_up(complete: tuple[RunSpec, Path]) -> None:
    spec, results = complete
    before = contents(results)
    with pytest.raises(Crash):
        run(spec, results=results, again=True, checkpoint_s=0, reporter=Watcher(crash_at=2))
    assert not (records.run_folder(results, spec) / "run.json").exists()
    watcher = Watcher()
    run(spec, results=results, checkpoint_s=0, reporter=watcher)
    assert watcher.updates == [2, 3]
    assert contents(results) == before


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(bytes(data))


def foreign(path: Path) -> None:
    path.write_text('{"a": 1}\n')


SPOILT_RUN = [
    ("run.json", truncated, "no JSON"),
    ("run.json", foreign, "not a record"),
    ("run.json", lambda p: p.write_text(p.read_text().replace('"problems": 8', '"problems": 9')), "edited"),
    ("problems.jsonl", lambda p: p.write_text(p.read_text().replace('"score":0.0', '"score":1.0', 1)), "problems.jsonl"),
    ("problems.jsonl", truncated, "problems.jsonl"),
    ("problems.jsonl", Path.unlink, "problems.jsonl"),
    ("train.jsonl", flipped, "train.jsonl"),
]


@pytest.mark.parametrize("name,spoil,words", SPOILT_RUN, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_spoilt_run_is_named_and_nothing_is_lost(complete: Any, name: str, spoil: Any, words: str) -> None:
    spec, results = complete
    whole = contents(results)
    spoil(records.run_folder(results, spec) / name)
    before = contents(results)
    with pytest.raises(ValueError, match=words) as error:
        run(spec, results=results)
    assert "\n" not in str(error.value) and "--again" in str(error.value) and name in str(error.value)
    assert contents(results) == before
    run(spec, results=results, again=True)
    assert contents(results) == whole


def test_another_runs_record_is_refused(complete: tuple[RunSpec, Path]) -> None:
    spec, results = complete
    other = spec_of(**{"infer.problems": 7})
    (folder := records.run_folder(results, other)).mkdir(parents=True)
    for path in records.run_folder(results, spec).iterdir():
        shutil.copy(path, folder / path.name)
    with pytest.raises(ValueError, match="another run"):
        run(other, results=results)


@pytest.mark.parametrize("spoil", [truncated, flipped, foreign, Path.unlink], ids=lambda x: x.__name__)
@pytest.mark.parametrize("name", ["model.safetensors", "learner.json", "train.jsonl"])
def test_a_spoilt_learner_is_named_and_nothing_is_lost(complete: Any, name: str, spoil: Any) -> None:
    spec, results = complete
    whole = contents(results)
    (records.run_folder(results, spec) / "run.json").unlink()
    spoil(records.weights_folder(results, spec) / name)
    before = contents(results)
    if name == "learner.json" and spoil is Path.unlink:  # that is a learner that is not complete: it is made anew
        run(spec, results=results)
        assert contents(results) == whole
        return
    with pytest.raises(ValueError, match=name) as error:
        run(spec, results=results)
    assert "\n" not in str(error.value) and "--again" in str(error.value)
    assert contents(results) == before
    run(spec, results=results, again=True)
    assert contents(results) == whole


def test_another_learner_is_refused(complete: tuple[RunSpec, Path]) -> None:
    spec, results = complete
    other = spec_of(4)
    shutil.copytree(records.weights_folder(results, spec), records.weights_folder(results, other))
    with pytest.raises(ValueError, match=r"learner\.json is the record of another learner"):
        run(other, results=results)


def test_a_spoilt_tokenizer_is_named(tmp_path: Path) -> None:
    settings = {**TINY, "task.tokens": "bpe", "task.vocabulary": 300, "task.window_tokens": 16, "infer.problems": 1}
    del settings["task.digits"]
    spec = make_spec(strategy="reasoning_tokens", task="language_model", settings={**settings, "train.flops": 3e8})
    with pytest.raises(Crash):
        run(spec, results=tmp_path, reporter=Watcher(crash_at=1))
    foreign(records.weights_folder(tmp_path, spec) / "tokenizer.json")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged") as error:
        run(spec, results=tmp_path)
    assert "\n" not in str(error.value)


def half_trained(spec: RunSpec, results: Path) -> Path:
    """A run that was cut off in training; its checkpoint."""
    with pytest.raises(Crash):
        run(spec, results=results, checkpoint_s=0, reporter=Watcher(crash_at=3))
    return records.weights_folder(results, spec) / "checkpoint.safetensors"


@pytest.mark.parametrize("spoil", [truncated, flipped, foreign], ids=lambda x: x.__name__)
def test_a_spoilt_checkpoint_is_named_and_nothing_is_lost(made: Any, tmp_path: Path, spoil: Any) -> None:
    spec = made[0]
    checkpoint = half_trained(spec, tmp_path)
    spoil(checkpoint)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged or not ours") as error:
        run(spec, results=tmp_path)
    assert "\n" not in str(error.value) and "delete it" in str(error.value)
    assert contents(tmp_path) == before
    checkpoint.unlink()
    run(spec, results=tmp_path)
    assert contents(tmp_path) == contents(made[1])


def test_another_runs_checkpoint_is_refused(made: Any, tmp_path: Path) -> None:
    spec = made[0]
    checkpoint = half_trained(spec, tmp_path)
    shutil.copy(half_trained(spec_of(5), tmp_path), checkpoint)
    with pytest.raises(ValueError, match="another run"):
        run(spec, results=tmp_path)


def test_a_log_that_was_cut_short_is_named(made: Any, tmp_path: Path) -> None:
    spec = made[0]
    checkpoint = half_trained(spec, tmp_path)
    truncated(checkpoint.with_name("train.jsonl"))
    with pytest.raises(ValueError, match=r"train\.jsonl was cut short"):
        run(spec, results=tmp_path)


def test_what_dead_processes_left_is_swept_and_what_live_ones_write_is_not(tmp_path: Path) -> None:
    names = [f".run.json.{dead_process()}.tmp", f".run.json.{os.getpid()}.tmp", f".run.json.{os.getppid()}.tmp", "kept.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    storage.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[2:])
