"""What there is (`list`), and a start for what there is not yet (`new`). Imports plugins' modules; no torch."""

from __future__ import annotations

import dataclasses
import keyword
from pathlib import Path
from typing import Any

from harness import registry, storage
from harness.settings import hints, legal_values


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Strategies and tasks with their settings, as plain JSON values. A plugin that cannot be loaded is listed with its error."""
    kinds: dict[str, registry.Kind] = {"strategies": "strategy", "tasks": "task"}
    return {group: [_entry(kind, name) for name in registry.names(kind)] for group, kind in kinds.items()}


def _entry(kind: registry.Kind, name: str) -> dict[str, Any]:
    try:
        cls = registry.find(kind, name)
    except ValueError as error:
        return {"name": name, "error": str(error)}
    types = hints(cls)
    settings = [
        {
            "name": f"{kind}.{field.name}",
            "default": field.default,
            "legal": legal_values(field, types[field.name]),
            "when": field.metadata.get("when", "learn"),
            "doc": field.metadata.get("doc", ""),
        }
        for field in dataclasses.fields(cls)
    ]
    facts = {"name": name, "summary": registry.first_line(cls), "source": cls.source, "version": cls.version}
    if kind == "strategy":
        facts["needs"] = sorted(cls().needs())
    return facts | {"settings": settings}


def catalogue_text() -> str:
    """The catalogue as people read it."""
    lines = []
    for group, entries in catalogue().items():
        lines.append(group.upper())
        for entry in entries:
            if "error" in entry:
                lines.append(f"  {entry['name']}: cannot be loaded: {entry['error']}")
                continue
            lines.append(f"  {entry['name']}: {entry['summary']}")
            if entry["source"]:
                lines.append(f"      source: {entry['source']}")
            for s in entry["settings"]:
                lines.append(f"      {s['name']}={_shown(s['default'])}  {s['legal']}; {s['doc']}")
        lines.append("")
    return "\n".join([*lines, "Set any of them with --set, e.g. --set strategy.per_token=2. `list --json` has the same as JSON."])


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


SCAFFOLD = '''"""{name}: one sentence on what this strategy does. Say what it knows nothing of."""

from __future__ import annotations

from dataclasses import dataclass

from harness.problem import THOUGHTS, Piece, Question, Text
from harness.strategy import Problem, Strategy, setting


@dataclass(frozen=True, kw_only=True)
class {cls}(Strategy):
    """Says in one line what `list` should show: here, a few idle thoughts before the answer."""

    source = "where the idea comes from"

    idle: int = setting(2, doc="thoughts between question and answer; 0 is direct", low=0, high=64)

    def prompt(self, question: Question) -> Text:
        """The question, then the thoughts. What stands here is given, not said, and its cost is counted as thinking."""
        return (Piece(question.text, "prompt"), *(Piece(THOUGHTS[0], "thought") for _ in range(self.idle)))

    def lessons(self, problem: Problem, *, progress: float, rng: object) -> list[Text]:
        """What teaches a problem: the same prompt, then the answer, which alone is learnt."""
        plain = super().lessons(problem, progress=progress, rng=rng)[0]  # type: ignore[arg-type]
        return [(*self.prompt(problem.question), *plain[1:])]
'''


def write_scaffold(name: str, folder: Path) -> Path:
    """Write a strategy that works and passes `check`; ValueError for a bad or taken name."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or name != name.lower():
        raise ValueError(f"NAME: expected a lower-case Python name such as my_idea, got {name!r}")
    path = folder / f"{name}.py"
    if path.exists() or name in registry.names("strategy"):
        raise ValueError(f"NAME: there is a strategy {name!r} already; choose another name")
    cls = "".join(part.capitalize() for part in name.split("_"))
    storage.make_folder(folder)
    storage.replace_file(path, SCAFFOLD.format(name=name, cls=cls).encode())
    return path
