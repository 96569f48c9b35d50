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
from harness.records import folder_name
from harness.settings import unknown
from harness.suite import Arm, Block, Primary, Settings, Suite, seeds_of

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


def family_arms() -> list[Arm]:
    """The comparator family of `defaults.toml`."""
    return [_arm(one | {"family": True}, "family") for one in family()]


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
    names = list(suiting(task, settings or {})) if strategies is None else [s.strip() for s in strategies.split(",") if s.strip()]
    if not names:
        raise ValueError("--strategies: names none; legal: names of `list`, separated by commas")
    if any(key.startswith("strategy.") for key in settings or {}):
        raise ValueError("--set: strategy settings differ from arm to arm; write them into a --suite FILE, arm by arm")
    count = None if problems is None else int(numbers(problems, "--problems")[0])
    name = folder_name(task)
    block = Block(
        task=task, name=name, arms=[Arm(strategy=name) for name in names], settings=settings or {}, problems=count,
        train_flops=default_flops(task) if train_flops is None else numbers(train_flops, "--train-flops"),
        seeds=seeds_of(seeds or "0-2"), infer=places_of(infer or ""), validation=validation or 500, anytime=anytime, tune=tune,
        with_family=strategies is None if family is None else family,
    )  # fmt: skip
    return Suite(name=name, blocks=[block])


def suiting(task: str, settings: Settings) -> Sequence[str]:
    """Strategies that suit a task as they are."""
    from harness.registry import names
    from harness.spec import make_spec

    def suits(name: str) -> bool:
        try:
            make_spec(strategy=name, task=task, settings=dict(settings))
        except ValueError:
            return False
        return True

    return [name for name in names("strategy") if suits(name)]


def default_flops(task: str) -> list[float]:
    """The task's own budget."""
    from harness.spec import make_spec

    return [make_spec(strategy=default("baseline"), task=task).train.flops]


def places_of(words: str | Sequence[str], option: str = "--infer") -> list[str]:
    """Places of a comparison: x1, x2.5, flops:1e7, passes:12, tokens:40."""
    given = [w.strip() for w in words.split(",") if w.strip()] if isinstance(words, str) else list(words)
    for word in given:
        found = re.fullmatch(r"(?:x|flops:|passes:|tokens:)([0-9.]+(?:e[+]?[0-9]+)?)", word)
        try:
            legal = found is not None and float(found[1]) > 0
        except ValueError:
            legal = False
        if not legal:
            raise ValueError(f"{option}: expected places such as x1,x2,x4, flops:1e7, passes:12 or tokens:40, got {word!r}")
    return given


def shipped() -> dict[str, Path]:
    """The suites that come with the harness, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}


def read_suite(path: Path) -> Suite:
    """The suite in a TOML file, or of one of the names in harness/suites; ValueError says what is wrong with it."""
    path = shipped().get(str(path), path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        found = msgspec.convert(content, _File)
    except OSError as error:
        legal = f"a TOML file, or one of {', '.join(shipped())}"
        raise ValueError(f"--suite: cannot read {path}: {error.strerror}; legal: {legal}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"--suite: {path}: {error}") from None
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
        seen[block.task] += 1
        end = f"-{seen[block.task]}" if seen[block.task] > 1 else ""
        named.append(dataclasses.replace(block, name=f"{suite}-{folder_name(block.task)}{end}"))
    return named


def _block(facts: dict[str, Any], file: _File, where: str) -> Block:
    """One block, from its facts over the file's."""
    legal = ("task", "arm", "strategies", "settings", "primary", *SHARED)
    for key in facts:
        if key not in legal:
            raise ValueError(f"--suite: {where}: {unknown('key', key, legal)}")
    if "task" not in facts:
        raise ValueError(f"--suite: {where}: names no task")
    arms = [
        _arm(one, where) for one in [*({"strategy": s} for s in facts.get("strategies", ())), *file.arm, *facts.get("arm", ())]
    ]
    if not arms:
        raise ValueError(f"--suite: {where}: has no arm; give strategies = [..] or [[block.arm]]")
    primary = facts.get("primary")
    return Block(
        task=str(facts["task"]), name=file.name, arms=arms, train_flops=numbers(facts["train_flops"], f"{where}: train_flops"),
        seeds=seeds_of(facts["seeds"], f"{where}: seeds"),
        fewer_seeds=None if facts["fewer_seeds"] is None else seeds_of(facts["fewer_seeds"], f"{where}: fewer_seeds"),
        problems=facts["problems"], validation=facts["validation"], settings=file.settings | facts.get("settings", {}),
        infer=places_of(facts["infer"], f"{where}: infer"), with_family=facts["with_family"],
        anytime=facts["anytime"], tune=facts["tune"],
        primary=None if primary is None else _converted(primary, Primary, f"{where}: primary"),
    )  # fmt: skip


def _arm(facts: Mapping[str, Any], where: str) -> Arm:
    return _converted(facts, Arm, f"{where}: arm")  # type: ignore[no-any-return]


def _converted(facts: Mapping[str, Any], kind: type[Any], where: str) -> Any:
    """A dataclass from a table; ValueError for a key or a value that it does not have."""
    for key in facts:
        legal = [f.name for f in dataclasses.fields(kind)]
        if key not in legal:
            raise ValueError(f"--suite: {where}: {unknown('key', key, legal)}")
    try:
        return msgspec.convert(facts, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"--suite: {where}: {error}") from None


def numbers(given: Any, option: str) -> list[float]:
    """Positive numbers from a list, or from words such as 1e11,3e11."""
    words = given if isinstance(given, list) else str(given).split(",")
    try:
        found = [float(word) for word in words]
    except (TypeError, ValueError):
        found = []
    if not found or any(not 0 <= x < float("inf") for x in found):
        raise ValueError(f"{option}: expected one or more numbers such as 3e11 or 1e11,3e11, got {given!r}")
    return found
