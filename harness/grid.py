"""The grid of a comparison: every run that it needs, from arms, budgets and seeds, and what they share.

Knows suites and specs; loads no model.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import registry
from harness.defaults import default
from harness.legal import check_distinct
from harness.plugin_spec import plugin_json
from harness.refusal import Unsuited, is_refusal
from harness.spec import RunSpec, make_spec
from harness.spec_text import defaulted_line
from harness.suite import MOST_BUDGETS, Arm, Block, Suite
from harness.suite_file import family_arms

Settings = Mapping[str, Any]
MOST_RUNS = 200_000  # of a comparison: twice what planning was measured for


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run stands in the comparison: block and arm by number, the arm's point by its settings of asking.

    cap: the place of asking whose FLOPs no problem may pass, in an anytime comparison.
    """

    block: int
    arm: int
    train_flops: float
    seed: int
    point: str
    split: str
    cap: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A run of the grid, and all places that it fills: equal runs are one."""

    spec: RunSpec
    places: tuple[Place, ...]

    @property
    def learner(self) -> str:
        """What it shares with others."""
        return f"{self.spec.learner_fingerprint()}-s{self.spec.seed}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Blocks with all their arms (those that do not suit their task left out, with the reason), and the runs."""

    suite: Suite
    arms: tuple[tuple[Arm, ...], ...]
    left_out: tuple[tuple[int, str], ...]  # by the number of the block
    cells: tuple[Cell, ...]


def grid_of(suite: Suite, *, threads: int = 1) -> Grid:
    """Everything that a suite asks for; ValueError names an arm that cannot be, or a block that asks for nothing.

    Arms of the comparator's family that do not suit the task or the model are left out instead.
    """
    check_size(suite)
    arms, left_out = [], []
    found: dict[str, Cell] = {}
    for number, block in enumerate(suite.blocks):
        mine: list[Arm] = []
        asked = 0
        check_block(block, threads=threads)
        caps = caps_of(block)
        for arm in arms_of(block):
            try:
                made = list(_runs(block, number, len(mine), arm, threads, caps))
            except ValueError as error:
                if not is_refusal(error):
                    raise
                if not arm.family or not isinstance(error, Unsuited):
                    raise ValueError(f"{block.task}, {arm.label}: {error}") from None
                left_out.append((number, f"{block.task}: {arm.label} is left out of the comparator: {error}"))
                continue
            mine.append(arm)
            asked += len(made)
            for spec, place in made:
                put(found, spec, place)
        if not asked:
            reasons = "".join(f"; {line}" for at, line in left_out if at == number)
            raise ValueError(f"{block.task}: the comparison asks for no run: no arm has one of its budgets and seeds{reasons}")
        arms.append(tuple(mine))
    return Grid(suite, tuple(arms), tuple(left_out), tuple(found.values()))


def check_size(suite: Suite) -> None:
    """ValueError if a suite asks for more runs than can be planned; nothing is made of it before."""
    runs = sum(_most_runs(block) for block in suite.blocks)
    if runs > MOST_RUNS:
        raise ValueError(
            f"the comparison asks for {runs:,} runs; up to {MOST_RUNS:,} are legal: name fewer seeds, budgets, points or arms"
        )
    for block in suite.blocks:
        if len(block.train_flops) > MOST_BUDGETS:
            raise ValueError(f"train_flops: expected at most {MOST_BUDGETS} budgets, got {len(block.train_flops):,}")


def _most_runs(block: Block) -> int:
    """Count the runs that a block's own arms have, with all their points; dials that places of asking turn are not counted."""
    by_budget = {flops: len(block.seeds_at(flops)) for flops in block.train_flops}
    seeds = sum(by_budget.values())
    places = max(len(block.infer), 1) if block.anytime else 1
    return sum(
        (seeds if arm.budgets is None else sum(by_budget.get(flops, 0) for flops in arm.budgets))
        * math.prod(len(values) for values in arm.points.values())
        * places
        for arm in block.arms
    )


def check_block(block: Block, *, threads: int) -> None:
    """ValueError for settings that no arm of a block could have, and for two arms of one name at one budget."""
    settings = {key: value for key, value in block.settings.items() if not key.startswith("strategy.")}
    given = _scaled(block, Arm(strategy=default("baseline")), settings)
    make_spec(strategy=default("baseline"), task=block.task, settings=given, threads=threads)
    arms = arms_of(block)
    for flops in block.train_flops:
        labels = [arm.label for arm in arms if arm.budgets is None or flops in arm.budgets]
        if labels:
            check_distinct(f"{block.task}: names of arms", labels)


def put(found: dict[str, Cell], spec: RunSpec, place: Place) -> None:
    """Add a run's place to the cells, by `key_of`: equal runs are one."""
    key = key_of(spec)
    found[key] = Cell(spec, (*(found[key].places if key in found else ()), place))


def arms_of(block: Block) -> list[Arm]:
    """The block's arms and its comparator's; an arm that is the comparator's baseline itself belongs to it."""
    family = family_arms()
    plain = {arm.strategy for arm in family if not arm.settings and not arm.points}
    own = [arm for arm in block.arms if not (arm.strategy in plain and not arm.settings and not arm.points)]
    if block.with_family:
        return [*family, *own]
    return [arm if arm in own else dataclasses.replace(arm, family=True) for arm in block.arms]


def _runs(
    block: Block, number: int, index: int, arm: Arm, threads: int, caps: Mapping[str, float | None]
) -> Iterator[tuple[RunSpec, Place]]:
    """The runs of an arm: every budget, seed and point; on validation too where there are points to choose among."""
    budgets = [b for b in block.train_flops if arm.budgets is None or b in arm.budgets]
    points = points_of(block, arm)
    choosing = arm.family or len(points) > 1
    for flops, (words, point), (cap, most) in itertools.product(budgets, points.items(), caps.items()):
        for seed, split in itertools.product(block.seeds_at(flops), ("validation", "test") if choosing else ("test",)):
            settings = settings_of(block, arm, {**point, "train.flops": arm.spends_flops or flops})
            settings |= {"infer.split": split} if split != "test" else {}
            settings |= {} if most is None else {"infer.cap_flops": most}
            count = block.validation if split == "validation" else block.problems
            settings |= {} if count is None else {"infer.problems": count}
            spec = make_spec(strategy=arm.strategy, task=block.task, settings=settings, seed=seed, threads=threads)
            yield spec, Place(block=number, arm=index, train_flops=flops, seed=seed, point=words, split=split, cap=cap)


def defaulted_lines(grid: Grid) -> list[str]:
    """Lines on the defaults of arms that ask a pretrained model, taught nothing: one for each arm that has such."""
    first = {(p.block, p.arm): cell.spec for cell in reversed(grid.cells) for p in cell.places if cell.spec.untaught}
    lines = []
    for (number, index), spec in sorted(first.items(), key=lambda one: one[0]):
        block, arm = grid.suite.blocks[number], grid.arms[number][index]
        turned = {key for point in points_of(block, arm).values() for key in point}
        if line := defaulted_line(spec, {*block.settings, *arm.settings, *turned}):
            lines.append(f"{block.name}, {arm.label}: {line}")
    return lines


def caps_of(block: Block) -> dict[str, float | None]:
    """The most that a problem may spend at each place of an anytime comparison; else no cap."""
    if not block.anytime:
        return {"": None}
    if not block.infer or any(not place.startswith(("x", "flops:")) for place in block.infer):
        raise ValueError("--anytime: caps each problem at places in FLOPs; give --infer x1,x2,x4 or flops:1e7")
    unit = _unit_flops(block) if any(place.startswith("x") for place in block.infer) else 0.0
    return {p: float(p[1:]) * unit if p.startswith("x") else float(p.removeprefix("flops:")) for p in block.infer}


def _unit_flops(block: Block) -> float:
    """x1 of the block's task on its model."""
    from harness.model_size import check_model

    settings = {k: v for k, v in block.settings.items() if not k.startswith("strategy.")}
    spec = make_spec(strategy=default("baseline"), task=block.task, settings=settings)
    check_model(dataclasses.replace(spec, train=dataclasses.replace(spec.train, flops=0.0)))  # it is priced, and not taught here
    from harness.foreseen import unit_flops
    from harness.learners import learner_alphabet
    from harness.weights import price_of

    alphabet = learner_alphabet(spec, None)
    return unit_flops(spec, alphabet, price_of(spec.model, alphabet))


def points_of(block: Block, arm: Arm) -> dict[str, Settings]:
    """The points of an arm's curve by their names: as declared; else, where places of asking are wanted, its dials of asking."""
    values = dict(arm.points)
    if not values and block.infer:
        values = _dials(block, arm)
    if not values:
        return {"": {}}
    named: dict[str, Settings] = {}
    for chosen in itertools.product(*values.values()):
        point = dict(zip(values, chosen, strict=True))
        named[", ".join(f"{key.removeprefix('strategy.')}={value}" for key, value in point.items())] = point
    return named


def _dials(block: Block, arm: Arm) -> dict[str, Sequence[Any]]:
    """What a budget may turn when the arm is asked, and to what: the strategy's dials that retrain nothing."""
    budget = {"train.flops": arm.spends_flops or min(block.train_flops)}
    settings = {
        k: v
        for k, v in {**block.settings, **arm.settings, **budget}.items()
        if k.startswith(("strategy.", "task.", "pretraining.")) or k in ("model.path", "train.flops")
    }
    how = make_spec(strategy=arm.strategy, task=block.task, settings=settings).strategy
    asked = {f.name for f in dataclasses.fields(how) if f.metadata.get("when") == "ask"}
    return {
        f"strategy.{name}": values
        for name, values in how.turned().items()
        if name in asked and f"strategy.{name}" not in settings
    }


def settings_of(block: Block, arm: Arm, others: Settings) -> dict[str, Any]:
    """An arm's settings over its block's, with others over both."""
    return _scaled(block, arm, {**block.settings, **arm.settings, **others})


def _scaled(block: Block, arm: Arm, settings: Settings) -> dict[str, Any]:
    """Settings with the model's multiples, such as ``model.layers = "x2"``, worked out on what the model has without them."""
    times = {k: str(v) for k, v in settings.items() if k.startswith("model.") and re.fullmatch(r"x[0-9]{1,6}", str(v))}
    made = {k: v for k, v in settings.items() if k not in times}
    if not times:
        return made
    whole = {**made, **{k: block.settings[k] for k in times if k in block.settings}}
    model = make_spec(strategy=arm.strategy, task=block.task, settings=whole).model
    shape = dict(zip(("model.layers", "model.width", "model.heads", "model.context_tokens"), model.shape, strict=True))
    most = {f"model.{f.name}": f.metadata["high"] for f in dataclasses.fields(model)}
    for key, word in times.items():
        if key not in shape:
            raise ValueError(f"{key}: only {', '.join(shape)} have multiples, got {word!r}")
        if model.path:
            raise Unsuited(f"{key}: the shape of a pretrained model is fixed, so it has no multiples, got {word!r}")
        made[key] = shape[key] * int(word[1:])
        if made[key] > most[key]:
            raise Unsuited(f"{key}: {word} of {shape[key]} is above {most[key]:g}")
    return made


def key_of(spec: RunSpec) -> str:
    """A run's folder's name."""
    return f"{spec.fingerprint()}-s{spec.seed}"


def name_of(cell: Cell, grid: Grid) -> str:
    """A run in a few words."""
    place = cell.places[0]
    arm = grid.arms[place.block][place.arm].label
    words = [
        arm,
        place.point,
        registry.title("task", plugin_json(cell.spec.task)),
        f"{place.train_flops:.3g} FLOPs",
        f"seed {place.seed}",
    ]
    return ", ".join([word for word in words if word] + ([place.split] if place.split != "test" else []))
