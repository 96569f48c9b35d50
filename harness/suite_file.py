"""Suites from TOML files, and from what `compare`'s options say. Knows their form; makes no spec but to see what suits a task."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.defaults import default, family
from harness.legal import MOST_FLOPS, MOST_PROBLEMS, check_arm_name, check_distinct, check_file_name, shortened, whole_of
from harness.reading import check_plain
from harness.records import folder_name
from harness.refusal import Unsuited
from harness.settings import unknown
from harness.suite import Arm, Block, Primary, Settings, Suite, seeds_of

SEEDS = "0-2"  # where none are named
MOST_BYTES = 1_000_000  # of a suite's file
MOST_PLACES = 1000
SHARED = ("seeds", "fewer_seeds", "train_flops", "problems", "validation", "infer", "with_family", "anytime", "tune")


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A suite as TOML has it: what stands at the top is every block's default."""

    name: str
    block: list[dict[str, Any]]
    seeds: Any = None
    fewer_seeds: Any = None
    train_flops: Any = None
    problems: int | None = None
    validation: int = 500
    settings: dict[str, Any] = {}
    infer: list[str] = []
    with_family: bool = True
    anytime: bool = False
    tune: bool = False
    arm: list[dict[str, Any]] = []


class _Block(msgspec.Struct, kw_only=True):
    """A block as TOML has it, with what it takes from the top."""

    task: str
    seeds: Any
    fewer_seeds: Any
    train_flops: Any
    problems: int | None
    validation: int
    infer: list[str]
    with_family: bool
    anytime: bool
    tune: bool
    settings: dict[str, Any] = {}
    strategies: list[str] = []
    arm: list[dict[str, Any]] = []
    primary: dict[str, Any] | None = None


def family_arms() -> list[Arm]:
    """The comparator family of `defaults.toml`."""
    return [_arm(one | {"family": True}) for one in family()]


def suite_of(
    task: str,
    *,
    strategies: str | None = None,
    settings: Settings | None = None,
    family: bool | None = None,
    seeds: str | None = None,
    train_flops: str | None = None,
    infer: str | None = None,
    anytime: bool = False,
    tune: bool = False,
    problems: str | None = None,
    validation: int | None = None,
) -> Suite:
    """The suite that options ask for, under the task's name. ValueError names the option."""
    if any(key.startswith("strategy.") for key in settings or {}):
        raise ValueError("--set: strategy settings differ from arm to arm; write them into a --suite FILE, arm by arm")
    budgets = default_flops(task, settings or {}) if train_flops is None else numbers(train_flops, "--train-flops")
    spent = {**(settings or {}), "train.flops": budgets[0]}
    names = list(suiting(task, spent)) if strategies is None else [s.strip() for s in strategies.split(",") if s.strip()]
    if not names:
        raise ValueError("--strategies: names none; legal: names of `list`, separated by commas")
    check_distinct("--strategies", names)
    name = folder_name(task)
    block = Block(
        task=task, name=name, arms=[Arm(strategy=name) for name in names], settings=settings or {}, train_flops=budgets,
        problems=None if problems is None else whole_of(problems, "--problems", low=1, high=MOST_PROBLEMS),
        seeds=seeds_of(SEEDS if seeds is None else seeds), infer=places_of(infer or ""), validation=validation or 500,
        anytime=anytime, tune=tune,
        with_family=strategies is None if family is None else family,
    )  # fmt: skip
    return Suite(name=name, blocks=[block])


def suiting(task: str, settings: Settings) -> Sequence[str]:
    """Strategies that suit a task as they are; ValueError for settings that none could have."""
    from harness.registry import names
    from harness.spec import make_spec

    def suits(name: str) -> bool:
        try:
            make_spec(strategy=name, task=task, settings=dict(settings))
        except Unsuited:
            return False
        return True

    return [name for name in names("strategy") if suits(name)]


def default_flops(task: str, settings: Settings) -> list[float]:
    """The task's own budget, at these settings."""
    from harness.spec import make_spec

    given = {key: value for key, value in settings.items() if not key.startswith("strategy.")}
    return [make_spec(strategy=default("baseline"), task=task, settings=given).train.flops]


def places_of(words: str | Sequence[str], option: str = "--infer") -> list[str]:
    """Places of a comparison: x1, x2.5, flops:1e7, passes:12, tokens:40."""
    given = [w.strip() for w in words.split(",") if w.strip()] if isinstance(words, str) else list(words)
    if len(given) > MOST_PLACES:
        raise ValueError(f"{option}: expected up to {MOST_PLACES} places, got {len(given):,}")
    for word in given:
        found = re.fullmatch(r"(?:x|flops:|passes:|tokens:)([0-9.]+(?:e[+]?[0-9]+)?)", word)
        try:
            legal = found is not None and 0 < float(found[1]) <= MOST_FLOPS
        except ValueError:
            legal = False
        if not legal:
            raise ValueError(f"{option}: expected places such as x1,x2,x4, flops:1e7, passes:12 or tokens:40, got {word!r}")
    if given:
        check_distinct(option, given)
    return given


def shipped() -> dict[str, Path]:
    """The suites that come with the harness, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}


def read_suite(path: Path) -> Suite:
    """The suite in a TOML file, or of one of the names in harness/suites; ValueError says what is wrong with it."""
    path = shipped().get(str(path), path)
    try:
        check_plain(path)
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"--suite: {path} is larger than {MOST_BYTES:,} bytes, so it is no suite")
        found = msgspec.convert(tomllib.loads(data.decode()), _File)
    except OSError as error:
        legal = f"a TOML file, or one of {', '.join(shipped())}"
        raise ValueError(f"--suite: cannot read {path}: {error.strerror}; legal: {legal}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"--suite: {path}: {error}") from None
    check_file_name(f"--suite: {path}: name", found.name)
    shared = {name: getattr(found, name) for name in SHARED}
    blocks = [_block(shared | block, found, f"{path}: block {number}") for number, block in enumerate(found.block, 1)]
    if not blocks:
        raise ValueError(f"--suite: {path}: no [[block]]; each names a task and its arms")
    return Suite(name=found.name, blocks=_named(found.name, blocks))


def _named(suite: str, blocks: Sequence[Block]) -> list[Block]:
    """Blocks with names of their own: the suite's and the task's, numbered where a task comes twice."""
    if len(blocks) == 1:
        return [dataclasses.replace(blocks[0], name=suite)]
    seen: Counter[str] = Counter()
    named = []
    for block in blocks:
        task = folder_name(block.task)
        seen[task] += 1
        end = f"-{seen[task]}" if seen[task] > 1 else ""
        named.append(dataclasses.replace(block, name=f"{suite}-{task}{end}"))
    return named


def _block(facts: dict[str, Any], file: _File, where: str) -> Block:
    """One block, from its facts over the file's."""
    legal = ("task", "arm", "strategies", "settings", "primary", *SHARED)
    for key in facts:
        if key not in legal:
            raise ValueError(f"--suite: {where}: {unknown('key', key, legal)}")
    if "task" not in facts:
        raise ValueError(f"--suite: {where}: names no task")
    try:
        given = msgspec.convert(facts, _Block)
        arms = [_arm(one) for one in [*({"strategy": s} for s in given.strategies), *file.arm, *given.arm]]
        if not arms:
            raise ValueError("has no arm; give strategies = [..] or [[block.arm]]")
        block = Block(
            task=given.task, name=file.name, arms=arms, train_flops=numbers(given.train_flops, "train_flops"),
            seeds=seeds_of(given.seeds, "seeds"),
            fewer_seeds=None if given.fewer_seeds is None else seeds_of(given.fewer_seeds, "fewer_seeds"),
            problems=given.problems, validation=given.validation, settings=file.settings | given.settings,
            infer=places_of(given.infer, "infer"), with_family=given.with_family, anytime=given.anytime, tune=given.tune,
            primary=None if given.primary is None else _converted(given.primary, Primary, "primary"),
        )  # fmt: skip
        if block.primary is not None and block.primary.train_flops not in block.train_flops:
            raise ValueError(f"primary: train_flops: expected one of {block.train_flops}, got {block.primary.train_flops}")
    except ValueError as error:
        raise ValueError(f"--suite: {where}: {error}") from None
    return block


def _arm(facts: Mapping[str, Any]) -> Arm:
    arm: Arm = _converted(facts, Arm, "arm")
    if arm.name is not None:
        check_arm_name("arm: name", arm.name)
    return arm


def _converted(facts: Mapping[str, Any], kind: type[Any], key: str) -> Any:
    """A dataclass from a table; ValueError for a key or a value that it does not have."""
    for name in facts:
        legal = [f.name for f in dataclasses.fields(kind)]
        if name not in legal:
            raise ValueError(f"{key}: {unknown('key', name, legal)}")
    try:
        return msgspec.convert(facts, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{key}: {error}") from None


def numbers(given: Any, option: str) -> list[float]:
    """Training budgets from a list, or from words such as 1e11,3e11."""
    words = given if isinstance(given, list) else str(given).split(",")
    try:
        found = [float(word) for word in words if not isinstance(word, bool)]
    except (TypeError, ValueError, OverflowError):
        found = []
    if len(found) != len(words) or not found or any(not 0 <= x <= MOST_FLOPS for x in found):
        raise ValueError(
            f"{option}: expected one or more numbers from 0 to {MOST_FLOPS:g} such as 3e11 or 1e11,3e11, got {shortened(given)}"
        )
    check_distinct(option, found)
    return found
