"""What the report page knows of one run: its first problems with traces, attention and trees, as a small script.

A trace is packed: a letter for each cell's token and one for its look, row by row, so that hundreds of traces stay small. Knows
records and alphabets; loads no model. Where a tokenizer is not at hand, tokens are shown by their numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from harness import jsonl, records
from harness.alphabet import Alphabet, make_alphabet
from harness.lines import CLASS_OF, KIND_OF, ROLE_OF, windows_of
from harness.plugin_spec import plugin_from_json
from harness.problem import FATES
from harness.reading import check_plain, parsed
from harness.records import Record
from harness.registry import Untrusted
from harness.settings import build
from harness.spec import ModelSpec
from harness.task import Task

SHOWN_PROBLEMS = 200
FACTS = (
    "id", "question", "completion", "answer", "key", "score", "difficulty", "flops", "serial_passes", "text_tokens",
    "woven_tokens", "kv_bytes", "stop", "access", "nats", "targets",
)  # fmt: skip
TREE = ("pool", "parent", "said", "nats", "tokens", "value", "visits", "fate", "flops", "answers", "scores")
SHADES = 10_000  # attention is kept in ten-thousandths, as the record rounds it
Data = dict[str, Any]


def script_of(results: Path, folder: Path, record: Record, problems: int, *, trust_plugins: bool = False) -> bytes:
    """The script that gives a run's first problems to the page; ValueError if the run's files do not fit together.

    trust_plugins: whether code to which only the record points may be run, to spell tokens.
    """
    try:
        data = as_script(run_data(results, folder, record, problems, trust_plugins=trust_plugins))
        return f"harnessRun({data});\n".encode("utf-8", "backslashreplace")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError, OSError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{folder}: its files do not fit together ({what}); use --again to make it anew") from None


def as_script(value: Any) -> str:
    """JSON that may stand between script tags: no "<", no line ends but JSON's own."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def run_data(results: Path, folder: Path, record: Record, most: int, *, trust_plugins: bool = False) -> Data:
    """A run's first problems, so many at most."""
    shown, count = _first_lines(folder / "problems.jsonl", most)
    traces, attention = (
        {line["id"]: line for line in _first_lines(folder / name, most)[0]} for name in ("traces.jsonl", "attention.jsonl")
    )
    kept = [traces.get(line["id"]) for line in shown]
    alphabet = alphabet_of(results, record, trust_plugins=trust_plugins)
    words, looks = _letters_of_words(kept, alphabet), _letters_of_looks(kept)
    problems = []
    for line, trace in zip(shown, kept, strict=True):
        received = attention.get(line["id"], {}).get("received")
        packed = None if trace is None else _packed(trace, received, words, looks)
        problems.append({name: line[name] for name in FACTS} | {"trace": packed, "tree": _tree(line["candidates"], trace)})
    return {
        "folder": folder.relative_to(results).as_posix(),
        "count": count,
        "command": record["command"],
        "words": dict(words.values()),
        "looks": dict(looks.values()),
        "fates": FATES,
        "problems": problems,
    }


def _first_lines(path: Path, most: int) -> tuple[list[Record], int]:
    """The first lines that a page shows, and how many there are; none where the file is gone."""
    if not records.is_there(path):
        return [], 0
    check_plain(path)
    lines = jsonl.lines_of(path)
    first = [parsed(line, path.name, numbers_only=False) for line in islice(lines, most)]
    return first, len(first) + sum(1 for _ in lines)


def _letters() -> Iterator[str]:
    """Characters that JSON and scripts leave as they are."""
    bare = {*"<\\", "\u2028", "\u2029"}
    spans = (range(0x23, 0x7F), range(0xA1, 0xD800), range(0xE000, 0x110000))
    yield from (chr(point) for span in spans for point in span if chr(point) not in bare)


def _letters_of_words(traces: list[Data | None], alphabet: Alphabet | None) -> dict[int | None, tuple[str, str]]:
    """Token -> its letter and its text; None is a thought, which has no text."""
    ids = sorted({i for trace in traces if trace is not None for i in trace["t"] if i is not None})
    letters = _letters()
    words: dict[int | None, tuple[str, str]] = {None: (next(letters), "")}
    return words | {i: (letter, text_of(alphabet, i)) for i, letter in zip(ids, letters, strict=False)}


def _letters_of_looks(traces: list[Data | None]) -> dict[tuple[str, ...], tuple[str, list[str]]]:
    """Kind, role, class and whether the head was read -> a letter, and the same in words."""
    found = sorted({look for trace in traces if trace is not None for look in _looks(trace)})
    return {
        look: (letter, [KIND_OF[look[0]], ROLE_OF[look[1]], CLASS_OF[look[2]], look[3]])
        for look, letter in zip(found, _letters(), strict=False)
    }


def _looks(trace: Data) -> list[tuple[str, ...]]:
    return list(zip(trace["kind"], trace["role"], trace["class"], trace["read"], strict=True))


def _packed(
    trace: Data,
    received: list[float | None] | None,
    words: dict[int | None, tuple[str, str]],
    looks: dict[tuple[str, ...], tuple[str, list[str]]],
) -> Data:
    """A trace, row by row. parts: window, row, index of its first cell, cells; got: what attention gives to each cell."""
    order, parts = _by_row(trace)
    look = _looks(trace)
    got = None
    if received is not None:
        got = [None if (x := received[at]) is None else round(x * SHADES) for at in order]
    return {
        "parts": parts,
        "t": "".join(words[trace["t"][at]][0] for at in order),
        "look": "".join(looks[look[at]][0] for at in order),
        "got": got,
    }


def _by_row(trace: Data) -> tuple[list[int], list[list[int]]]:
    """The cells' numbers in the order of window and row, and the stretches that these make."""
    rows: dict[tuple[int, int], list[int]] = {}
    for at, place in enumerate(zip(windows_of(trace), trace["row"], strict=True)):
        rows.setdefault(place, []).append(at)
    parts = [[window, row, trace["index"][cells[0]], len(cells)] for (window, row), cells in rows.items()]
    return [at for cells in rows.values() for at in cells], parts


def _tree(candidates: Data | None, trace: Data | None) -> Data | None:
    """A search's tree with fewer digits, and what it ended in; None where no tree was kept."""
    if candidates is None or trace is None or trace["tree"] is None:
        return None
    tree = trace["tree"]
    kept = {name: (candidates if name in candidates and name not in tree else tree)[name] for name in TREE}
    kept["nats"] = [round(x, 3) for x in tree["nats"]]
    kept["value"] = None if tree["value"] is None else [None if x is None else round(x, 4) for x in tree["value"]]
    return kept


def _wanted(record: Record, trust_plugins: bool) -> str:
    """The name of the alphabet of a run's learner; `Untrusted` if only code to which the record alone points tells it."""
    spec = record["spec"]
    own = build(ModelSpec, spec["model"], prefix="model").own_alphabet
    if own is not None:
        return own
    first = spec.get("pretraining") or spec
    task: Task = plugin_from_json("task", first["task"], prefix="task", trust_plugins=trust_plugins)
    return task.alphabet()


def untold(record: Record) -> str | None:
    """The reason why the tokens of a run that nobody trusts cannot be spelled; None if that is no matter of trust."""
    try:
        _wanted(record, False)
    except Untrusted as error:
        return str(error)
    except Exception:  # see `alphabet_of`
        return None
    return None


def alphabet_of(results: Path, record: Record, *, trust_plugins: bool = False) -> Alphabet | None:
    """The alphabet of a run's learner; None if it cannot be had from what lies here."""
    try:
        wanted = _wanted(record, trust_plugins)
        if wanted == "bytes" or wanted.startswith("chars:"):
            return make_alphabet(wanted)
        kept = results / "weights" / f"{record['learner']}-s{record['seed']}" / "tokenizer.json"
        return make_alphabet(wanted, tokenizer_json=kept.read_text(encoding="utf-8"))
    except Exception:  # of whatever kind, a plugin's or the tokenizers library's own: numbers are shown instead
        return None


def text_of(alphabet: Alphabet | None, token: int) -> str:
    """The text of one token; a number where it has none of its own, such as a part of a character."""
    if alphabet is None or not 0 <= token < alphabet.size:
        return f"#{token}"
    (piece,) = alphabet.pieces([token]) or ("",)
    if not isinstance(piece, str):
        return piece.name
    if "\ufffd" in piece or not piece:
        return f"\\x{token:02x}" if alphabet.spec == "bytes" else f"#{token}"
    return piece
