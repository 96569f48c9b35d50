"""Code that only a record names is not run by any command that reads records; tables, lists and merges need none of it."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from records_made import TINY, reseal

import harness
from harness import records, registry
from harness.asked_model import load
from harness.cli import main
from harness.plugin_spec import plugin_json
from harness.runs import run
from harness.spec import from_json, make_spec
from harness.suite import Arm, Block
from harness.trust import check_block
from harness.weights import kind_of

TRACE = "from pathlib import Path\nPath(__file__).with_name('ran').write_text(__name__)\n"
STRATEGY = (
    TRACE
    + """
from dataclasses import dataclass
from harness.strategy import Strategy, setting

@dataclass(frozen=True, kw_only=True)
class Mine(Strategy):
    '''Theirs.'''
    source = "a test"
    late: int = setting(7, doc="it came later", late=True)
"""
)
TASK = (
    TRACE
    + """
from dataclasses import dataclass
from tasks.arithmetic import Arithmetic

@dataclass(frozen=True, kw_only=True)
class Sums(Arithmetic):
    '''Theirs.'''
    source = "a test"
"""
)
KINDS = ("strategy", "task", "base", "module")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with a run of our own, and runs that name code of others; none of that code is loaded any more."""
    place = tmp_path_factory.mktemp("theirs")
    (place / "strategy.py").write_text(STRATEGY)
    (place / "task.py").write_text(TASK)
    (place / "their_module.py").write_text(STRATEGY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        for spec in (make_spec(strategy="direct", task="arithmetic", settings=TINY), *specs(place).values()):
            run(spec, results=place / "results")
        forget(place)
        yield place
        forget(place)


def specs(place: Path) -> dict[str, Any]:
    """Runs that name a file as strategy, task and base of a search, and a module's class; the code is loaded."""
    strategy, task = str(place / "strategy.py"), str(place / "task.py")
    return {
        "strategy": make_spec(strategy=strategy, task="arithmetic", settings=TINY),
        "task": make_spec(strategy="direct", task=task, settings=TINY),
        "base": make_spec(
            strategy="best_of_n", task="arithmetic", settings=TINY | {"strategy.base": strategy, "strategy.samples": 2}
        ),
        "module": make_spec(strategy="their_module:Mine", task="arithmetic", settings=TINY),
    }


def forget(place: Path) -> None:
    for name in ("harness_plugin_strategy", "harness_plugin_task", "their_module"):
        sys.modules.pop(name, None)
    (place / "ran").unlink(missing_ok=True)


def folder_of(place: Path, kind: str) -> Path:
    """The run of a kind, found without its code."""
    found = {
        "strategy": "arithmetic/*strategy.py/*", "task": "*task.py/direct/*", "base": "arithmetic/best_of_n/*",
        "module": "arithmetic/their_module_Mine/*",
    }  # fmt: skip
    (folder,) = (place / "results" / "runs").glob(found[kind])
    return folder


@pytest.fixture(autouse=True)
def nothing_ran(place: Path) -> Iterator[None]:
    forget(place)
    yield
    forget(place)


def ran(place: Path) -> bool:
    return (place / "ran").exists()


COMMANDS: dict[str, tuple[Callable[[Path, Path], list[str]], int]] = {
    "list": (lambda results, _: ["list", "--runs", "--json", "--results", str(results)], 0),
    "gc": (lambda results, _: ["gc", "--dry-run", "--results", str(results)], 0),
    "gc of weights": (lambda results, _: ["gc", "--weights", "--dry-run", "--results", str(results)], 0),
    "pack": (lambda results, free: ["pack", str(free / "p.tar.xz"), "--results", str(results)], 0),
    "merge": (lambda results, free: ["merge", str(results), "--results", str(free / "merged")], 0),
    "merge and audit": (lambda results, free: ["merge", str(results), "--results", str(free / "audited"), "--audit", "9"], 1),
    "report": (lambda results, _: ["report", "--results", str(results)], 0),
    "report --check": (lambda results, _: ["report", "--check", "--results", str(results)], 0),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_over_all_runs_import_nothing(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All runs take part under their names; what needs a class is left out, by name."""
    words, code = COMMANDS[name]
    assert main(words(place / "results", tmp_path)) == code and not ran(place)
    said = capsys.readouterr()
    every = said.out + said.err
    if name in ("list", "merge and audit", "report --check"):
        assert "strategy.py" in every.replace("\n", "") and "their_module" in every
    if name.startswith("merge"):
        assert "5 merged" in said.out
    if name == "merge and audit":
        assert said.out.count("--trust-plugins") == 4 and "1 of 5 made again are equal" in said.out
    if name == "report":
        assert "runs: 5, left out: 1" in said.out and "task.py" in said.err and "--trust-plugins" in said.err
        assert "strategy.py" in (place / "results" / "index.html").read_text()
    if name == "report --check":  # a task grades, a strategy tells the shape of what it cost
        not_told = [line for line in said.err.splitlines() if line.startswith("not recounted")]
        assert len(not_told) == 4 and all("--trust-plugins" in line for line in not_told)
        assert "5 records, 16 traces" in said.out and "32 answers re-graded, 8 not" in said.out and ": 0 differ" in said.out


def test_trusted_records_are_checked_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--check", "--trust-plugins", "--results", str(place / "results")]) == 0
    assert ran(place) and "40 answers re-graded, 0 not" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_commands_of_one_run_refuse_and_name_it(
    kind: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the code and the option; nothing was written."""
    folder, results = str(folder_of(place, kind)), ["--results", str(place / "results")]
    for words in (
        ["ask", folder, "1+2=", *results],
        ["verify", folder, *results],
        ["export", folder, str(tmp_path / "exported"), *results],
        ["run", "--spec", f"{folder}/run.json", "--results", str(tmp_path / "r")],
        ["run", "--twin", "long", "--of", folder, *results],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "--trust-plugins" in said, said
        assert ("their_module:Mine" if kind == "module" else ".py") in said
    with pytest.raises(registry.Untrusted, match="--trust-plugins"):
        load(folder, settings={}, device="cpu")
    assert not ran(place) and list(tmp_path.iterdir()) == []


def test_a_user_who_trusts_them_can_ask_and_verify(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The option runs the code; the API and lm-eval's model take it too. Once the code is loaded, its name is the user's."""
    folder = str(folder_of(place, "strategy"))
    assert main(["ask", folder, "1+2=", "--trust-plugins"]) == 0 and ran(place)
    assert main(["verify", folder]) == 0
    forget(place)
    assert load(folder, settings={}, device="cpu", trust_plugins=True).results == place / "results" and ran(place)
    capsys.readouterr()


def test_a_run_is_shown_beside_those_of_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Comparable ones, by their names."""
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    words = ["run", "--strategy", "direct", "--task", "arithmetic", *settings, "--results", str(place / "results")]
    assert main(words) == 0 and not ran(place)
    assert "their_module:Mine" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_comparison_over_records_of_others(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reads its own runs alone; its tables can be checked beside theirs."""
    results = shutil.copytree(place / "results", tmp_path / "results")
    own = {"train.flops": "--train-flops", "infer.problems": "--problems"}
    settings = [
        word for key, value in TINY.items() for word in ((own[key], str(value)) if key in own else ("--set", f"{key}={value}"))
    ]
    words = ["compare", "--task", "arithmetic", "--strategies", "direct", "--no-family", "--seeds", "0", *settings]
    assert main([*words, "--validation", "8", "--workers", "1", "--results", str(results)]) == 0
    assert main(["report", "--check", "--results", str(results)]) == 0
    assert ": 0 differ" in capsys.readouterr().out and not ran(place)


def test_load_runs_needs_no_code(place: Path) -> None:
    """But for a setting that records leave out at its default: it is missing for those who do not trust them, by name."""
    with pytest.warns(UserWarning, match="left out: settings of") as told:
        table = harness.load_runs(place / "results")
    assert not ran(place) and {"their_module:Mine", str(place / "strategy.py"), "direct"} <= set(table["strategy"])
    assert str(place / "task.py") in set(table["task"]) and "strategy.late" not in table
    assert len(told) == 3 and all("trust_plugins=True" in str(one.message) for one in told)
    trusted = harness.load_runs(place / "results", trust_plugins=True).set_index("strategy")
    assert ran(place) and set(trusted.loc[["their_module:Mine", str(place / "strategy.py")], "strategy.late"]) == {7}
    assert trusted["strategy.late"].isna()["direct"].all()


@pytest.mark.parametrize(
    "task",
    [
        {"include_path": "/theirs"}, {"metadata": '{"tokenizer": "/theirs"}'}, {"steps": "{{ x.__class__ }}"},
        {"unsafe_code": True},
    ],
    ids=lambda task: next(iter(task)),
)  # fmt: skip
def test_settings_that_run_code_are_not_taken_from_records(task: dict[str, Any], place: Path, tmp_path: Path) -> None:
    """A folder whose YAML may name functions, facts for a loader, templates: refused where they are not the default."""
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY).to_json()
    theirs = plugin_json(registry.find("task", "lm_eval")(task="sums"))
    assert from_json(spec | {"task": theirs}).task.task == "sums"
    with pytest.raises(registry.Untrusted, match=rf"task\.{next(iter(task))}=.*--trust-plugins"):
        from_json(spec | {"task": theirs | task})
    assert from_json(spec | {"task": theirs | task}, trust_plugins=True)
    block = Block(task="lm_eval:sums", name="b", arms=[Arm(strategy="direct")], train_flops=[0], seeds=[0])
    check_block(block)
    with pytest.raises(registry.Untrusted, match="--trust-plugins"):
        check_block(Block(**{**as_fields(block), "settings": {f"task.{name}": value for name, value in task.items()}}))


@pytest.mark.parametrize("kind", ["strategy", "task"])
def test_the_phase_before_is_not_trusted_either(kind: str, place: Path) -> None:
    spec = make_spec(strategy="direct", task="arithmetic", settings=TINY | {"pretraining.task": "arithmetic"}).to_json()
    assert from_json(spec).pretraining is not None
    theirs = spec["pretraining"] | {kind: spec["pretraining"][kind] | {"name": str(place / f"{kind}.py")}}
    with pytest.raises(registry.Untrusted, match=f"{kind}.py"):
        from_json(spec | {"pretraining": theirs})
    assert not ran(place)


def as_fields(block: Block) -> dict[str, Any]:
    return {name: getattr(block, name) for name in ("task", "name", "arms", "train_flops", "seeds", "settings")}


THEIR_BLOCKS: dict[str, dict[str, Any]] = {
    "task": {"task": "X.py"},
    "arm": {"arms": [Arm(strategy="X.py")]},
    "module": {"arms": [Arm(strategy="their_module:Mine")]},
    "base": {"arms": [Arm(strategy="best_of_n", settings={"strategy.base": "X.py"})]},
    "base of a base": {"arms": [Arm(strategy="best_of_n", settings={"strategy.base.base": "X.py"})]},
    "point": {"arms": [Arm(strategy="best_of_n", points={"strategy.base": ["direct", "X.py"]})]},
    "block": {"settings": {"strategy.base": "X.py"}},
    "phase": {"settings": {"pretraining.strategy": "X.py", "pretraining.task": "arithmetic"}},
    "base of a phase": {"settings": {"pretraining.strategy.base": "X.py"}},
    "task of a phase": {"settings": {"pretraining.task": "X.py"}},
    "folder of a phase's task": {"settings": {"pretraining.task": "lm_eval:sums,include_path=/theirs"}},
    "folder": {"task": "lm_eval:sums,include_path=/theirs"},
}


@pytest.mark.parametrize("name", THEIR_BLOCKS)
def test_declarations_beside_tables_run_nothing(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`report --check` makes tables again from them: not those that would import what they name."""
    shutil.copy(place / "strategy.py", tmp_path / "X.py")
    fields = as_fields(Block(task="arithmetic", name="b", arms=[Arm(strategy="direct")], train_flops=[1e9], seeds=[0]))
    facts = {"name": "theirs", "suite": "theirs", "threads": 1, "plots": [], "notes": [], "block": fields | THEIR_BLOCKS[name]}
    text = json.dumps(facts, default=lambda arm: {key: getattr(arm, key) for key in ("strategy", "settings", "points")})
    (tmp_path / "r" / "tables").mkdir(parents=True)
    (tmp_path / "r" / "tables" / "theirs.json").write_text(text.replace("X.py", str(tmp_path / "X.py")))
    assert main(["report", "--check", "--results", str(tmp_path / "r")]) == 0
    assert not (tmp_path / "ran").exists() and not ran(place)
    assert "tables of theirs" in (said := capsys.readouterr().err) and "--trust-plugins" in said


def test_our_own_declarations_are_trusted() -> None:
    arms = [Arm(strategy="best_of_n", settings={"strategy.base": "chain_of_thought", "model.alphabet": "chars:01"})]
    check_block(Block(task="language_model", name="b", arms=arms, train_flops=[1e9], seeds=[0]))


def test_which_names_are_trusted() -> None:
    """Our own packages, but no module that runs when it is imported; classes of modules that are loaded."""
    for name in ("direct", "no_such", "strategies.direct:Direct", "harness.asked_model:Elsewhere", f"{__name__}:Loaded"):
        assert registry.is_trusted(name), name
    for name in ("x.py", "harness.__main__:X", "os.path:X", "no.such:X", "harness_else:X", f"{__name__}:Missing"):
        assert not registry.is_trusted(name), name


class Loaded:
    """Something that a loaded module holds."""


def test_a_pretraining_run_is_found_without_its_plugin(place: Path, tmp_path: Path) -> None:
    """`gc` keeps what a run refers to by what its record says."""
    results = tmp_path / "results"
    shutil.copytree(folder_of(place, "strategy"), folder := results / "runs" / "t" / "s" / "000000000000-s0")

    def with_phase(record: dict[str, Any]) -> dict[str, Any]:
        spec = record["spec"]
        phase = {name: spec[name] for name in ("strategy", "task", "train")}
        train = record["train"] | {"pretraining": {"learner": "aaaaaaaaaaaa"} | record["train"]}
        return record | {"spec": spec | {"pretraining": phase}, "train": train}

    reseal(folder, with_phase)
    from harness.garbage import collect

    for name in ("aaaaaaaaaaaa-s0", "bbbbbbbbbbbb-s0"):
        (results / "weights" / name).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.garbage.SETTLED_S", -1.0)
        assert [one.path.name for one in collect(results, dry_run=True).removed] == ["bbbbbbbbbbbb-s0"]
    assert not ran(place)


def test_a_model_folders_own_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks at the terminal whether to run it, unless it is told."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs"}}))
    (tmp_path / "theirs.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).write_text('')\n")
    with pytest.raises(ValueError, match=r"model\.path: cannot load"):
        kind_of(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_run_of_a_task_with_an_argument_has_its_place(place: Path, tmp_path: Path) -> None:
    """Its folder is named NAME_VALUE, and packs and merges know that."""
    spec = make_spec(strategy="direct", task="lm_eval:sums", settings={"model.layers": 1}).to_json()
    record = {"spec": spec, "fingerprint": "0123456789ab", "seed": 0}
    assert records.place_of(record) == "runs/lm_eval_sums/direct/0123456789ab-s0"
