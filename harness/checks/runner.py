"""Runs checks: which there are, on what each runs, and how failures are told. Names no plugin."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness import registry
from harness.checks import contract, cost, model, tasks, training
from harness.checks.context import PLAIN, Context, NotApplicable
from harness.checks.outsider import Sums
from harness.plugin_spec import with_bases
from harness.settings import build, unknown
from harness.strategy import Strategy
from harness.task import Task

Status = Literal["passed", "failed", "known", "skipped"]
PluginCheck = Callable[[Any, str], None]  # plugin, its name
ContextCheck = Callable[[Context], None]
C = TypeVar("C", bound=Callable[..., None])

PLUGIN_CHECKS: tuple[PluginCheck, ...] = (
    contract.frozen_dataclass, contract.documented, contract.settings_documented, contract.file_name,
    contract.declared_settings_legal,
)  # fmt: skip
CROSS_CHECKS: tuple[ContextCheck, ...] = (contract.json_round_trip, contract.asking_trains_nothing, contract.blind_to_key)
MODEL_CHECKS: tuple[ContextCheck, ...] = (  # these run on a strategy's variants too
    contract.weave_gives_text_back, model.no_leak_in_training, model.no_leak_when_asking, model.cached_is_whole,
    model.training_is_asking, model.batched_is_alone, model.company_changes_nothing, model.inserted_is_unsayable,
    model.neutral_is_plain, cost.meter_is_recount, cost.training_meter_is_recount, cost.never_above_budget,
    cost.answers_on_little, training.parts_are_the_whole,
)  # fmt: skip
TASK_CHECKS: tuple[ContextCheck, ...] = (
    tasks.problems_repeat, tasks.splits_disjoint, tasks.grades, tasks.worked_lines_end_in_answer, tasks.floor_reported,
    tasks.caps_are_bounds, tasks.alphabet_spells_all, tasks.parse_knows_its_questions, tasks.documents_disjoint,
)  # fmt: skip
TRAINING_CHECKS: tuple[ContextCheck, ...] = (
    training.memorises, training.random_tokens_teach_nothing, training.same_seed_same_weights, training.resumes,
)  # fmt: skip
TRAINED_TASKS = {"none": 0, "one": 1, "two": 2}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check of one plugin (or of a strategy on a task) went. None: the check is not about that kind of plugin.

    message: how to mend a failure, the declared reason of a known one, or why it was skipped. The first line of `doc` is what
    must hold.
    """

    check: str
    strategy: str | None
    task: str | None
    status: Status
    message: str
    seconds: float
    doc: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


Report = Callable[[CheckResult], None]


def check_names() -> dict[str, str]:
    """All checks with what must hold, in the order in which they run."""
    every: tuple[Callable[..., None], ...] = (*PLUGIN_CHECKS, *TASK_CHECKS, *CROSS_CHECKS, *MODEL_CHECKS, *TRAINING_CHECKS)
    return {check.__name__: _first_line(check) for check in every}


def run_checks(
    *,
    strategies: Sequence[str],
    tasks: Sequence[str],
    training: Literal["none", "one", "two"] = "none",
    report: Report | None = None,
    only: Collection[str] | None = None,
    variants: bool = True,
) -> list[CheckResult]:
    """Every check on every plugin; on every strategy with every task that offers what it needs.

    Model checks run on a strategy's variants too, with the first such task, unless variants is False. training: on how many
    tasks each strategy is also trained, for some seconds each. report is told each result at once. only: names of checks, if
    not all. ValueError: an unknown plugin or check.
    """
    for name in only or ():
        if name not in check_names():
            raise unknown("check", name, check_names())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), strategies, tasks, only, variants=variants)
        results: list[CheckResult] = []
        for result in chain(bench.results(TRAINED_TASKS[training]), bench.strict(results)):
            results.append(result)
            if report is not None:
                report(result)
        return results


def small(cls: type[Strategy]) -> Strategy:
    """A strategy at the settings that it names for checks."""
    return cls(**cls.example)


class Bench:
    """The plugins under check, by name."""

    def __init__(
        self,
        folder: Path,
        strategies: Sequence[str],
        tasks: Sequence[str],
        only: Collection[str] | None = None,
        *,
        variants: bool = True,
    ) -> None:
        self.folder, self.only, self.variants = folder, only, variants
        self.strategies: dict[str, Strategy] = {n: small(registry.find("strategy", n)) for n in strategies}
        self.tasks: dict[str, Task] = {n: make_example(registry.find("task", n), folder) for n in tasks}
        self.exact = Context(PLAIN, Sums(), "", "", folder).machine_is_exact()

    def context(self, strategy: Strategy, task: Task, strategy_name: str = "", task_name: str = "") -> Context:
        """A strategy on a task."""
        return Context(with_bases(strategy, task), task, strategy_name, task_name, self.folder, self.exact)

    def wanted(self, checks: Sequence[C]) -> list[C]:
        """Those of the checks that are to run."""
        return [check for check in checks if self.only is None or check.__name__ in self.only]

    def results(self, trained_tasks: int) -> Iterator[CheckResult]:
        """All of them, plugin by plugin."""
        for name, task in self.tasks.items():
            for plugin_check in self.wanted(PLUGIN_CHECKS):
                yield judged(plugin_check, partial(plugin_check, task, name), task=name, known=task.known_failures)
            context = self.context(PLAIN, task, task_name=name)
            for check in self.wanted(TASK_CHECKS):
                yield judged(check, partial(check, context), task=name, known=task.known_failures)
        for name, strategy in self.strategies.items():
            yield from self.of_strategy(name, strategy, self.tasks, trained_tasks)

    def of_strategy(self, name: str, strategy: Strategy, tasks: Mapping[str, Task], trained_tasks: int) -> Iterator[CheckResult]:
        """One strategy by itself, then on each task."""
        for plugin_check in self.wanted(PLUGIN_CHECKS):
            yield judged(plugin_check, partial(plugin_check, strategy, name), strategy=name, known=strategy.known_failures)
        fitting = 0
        for task_name, task in tasks.items():
            if task.kind == "requests":
                why = "it asks what somebody else's library poses; try the strategy on the harness's own tasks"
                yield CheckResult("needs", name, task_name, "skipped", why, 0.0, "The task offers what the strategy needs.")
                continue
            lacking = with_bases(strategy, task).needs() - task.offers()
            if lacking:
                why = f"the task does not offer {', '.join(sorted(lacking))}"
                yield CheckResult("needs", name, task_name, "skipped", why, 0.0, "The task offers what the strategy needs.")
                continue
            contexts = {"": self.context(strategy, task, name, task_name)}
            if fitting == 0 and self.variants:
                contexts |= {words: self.context(v, task, name, task_name) for words, v in variants_of(strategy).items()}
            known = {**task.known_failures, **strategy.known_failures}
            yield from self._cross(contexts, known, trained=fitting < trained_tasks)
            fitting += 1

    def _cross(self, contexts: Mapping[str, Context], known: Mapping[str, str], *, trained: bool) -> Iterator[CheckResult]:
        """Checks of a strategy on a task; contexts: by the settings that they differ in, "" for the defaults."""
        plain = contexts[""]
        names = {"strategy": plain.strategy_name, "task": plain.task_name}
        for check in self.wanted(CROSS_CHECKS):
            yield judged(check, partial(check, plain), known=known, **names)
        for check in self.wanted(MODEL_CHECKS):
            yield judged(check, partial(_on_all, check, contexts), known=known, **names)
        for check in self.wanted(TRAINING_CHECKS if trained else ()):
            yield judged(check, partial(check, plain), known=known, **names)

    def strict(self, results: Sequence[CheckResult]) -> Iterator[CheckResult]:
        """A failure for each declared one that is unknown, or whose check passed wherever it ran."""
        plugins: dict[str, Mapping[str, Strategy | Task]] = {"strategy": self.strategies, "task": self.tasks}
        for kind, named in plugins.items():
            for name, plugin in named.items():
                for check, reason in plugin.known_failures.items():
                    statuses = {r.status for r in results if r.check == check and getattr(r, kind) == name}
                    message = None
                    if check not in check_names():
                        message = f"known_failures names no check {check!r}; legal: {', '.join(check_names())}"
                    elif "passed" in statuses and "known" not in statuses:
                        message = f"declared as known failure ({reason}) but it passes: remove it from known_failures"
                    if message is not None:
                        who = {"strategy": None, "task": None} | {kind: name}
                        yield CheckResult(check=check, status="failed", message=message, seconds=0.0, doc="", **who)


def variants_of(strategy: Strategy) -> dict[str, Strategy]:
    """The strategy at each of its variants, by the settings in words; illegal ones are left to declared_settings_legal."""
    made = {}
    for settings in strategy.variants:
        with contextlib.suppress(TypeError, ValueError):
            made[", ".join(f"{k}={v}" for k, v in settings.items())] = contract.changed(strategy, settings)
    return made


def make_example(cls: type[Task], folder: Path) -> Task:
    """A small instance of a task."""
    made: Task = build(cls, cls.example(folder), prefix="task.example")
    return made


def _on_all(check: ContextCheck, contexts: Mapping[str, Context]) -> None:
    """Run a check at all settings; it is skipped if it applies to none."""
    skipped = []
    for words, context in contexts.items():
        try:
            check(context)
        except NotApplicable as reason:
            skipped.append(str(reason))
        except Exception as error:
            if not words:
                raise
            raise AssertionError(f"with {words}: {_said(error)}") from error
    if len(skipped) == len(contexts):
        raise NotApplicable(skipped[0])


def judged(
    check: Callable[..., None],
    call: Callable[[], None],
    *,
    strategy: str | None = None,
    task: str | None = None,
    known: Mapping[str, str] | None = None,
) -> CheckResult:
    """Run a check and say how it went."""
    started_s = time.monotonic()
    status: Status = "passed"
    message = ""
    name = check.__name__
    try:
        call()
    except NotApplicable as reason:
        status, message = "skipped", str(reason)
    except Exception as error:
        status, message = "failed", _said(error)
        if known and name in known:
            status, message = "known", known[name]
    return CheckResult(name, strategy, task, status, message, time.monotonic() - started_s, _first_line(check))


def _said(error: Exception) -> str:
    """An error's message; of one that no check raised, its type too."""
    return str(error) if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: {error}"


def _first_line(check: Callable[..., None]) -> str:
    return (check.__doc__ or "").split("\n", 1)[0]
