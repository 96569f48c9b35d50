"""Corpora: where documents come from, as (name, text, the split that the source gave, if any).

`load` knows the built-in names, local text files and the `datasets` library, and turns every failure into one ValueError that
names ``task.corpus``. Knows nothing of splits by hash, alphabets or windows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from harness.settings import did_you_mean
from harness.task import Split

Source = tuple[str, str, Split | None]
BUILT_IN: Final = ("pydoc", "shakespeare")
LEGAL: Final = "legal: pydoc, shakespeare, a UTF-8 text file's path, a folder, or datasets:NAME or datasets:NAME:CONFIG"
GROUP_CHARACTERS: Final = 4000  # documents of local files are at least so long, as far as 20 documents can be had
LEAST_BYTES: Final = 2000
_SPLITS: Final[dict[str, Split]] = {
    "train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test",
}  # fmt: skip


def load(corpus: str, column: str) -> list[Source]:
    """All documents of a corpus that are not empty, duplicates included."""
    return [(name, text, split) for name, text, split in _sources(corpus, column) if text.strip()]


def _sources(corpus: str, column: str) -> Iterator[Source]:
    if corpus == "pydoc":
        return _pydoc()
    if corpus == "shakespeare":
        from tasks._shakespeare import plays_and_poems

        return plays_and_poems()
    if Path(corpus).is_file():
        return _local(Path(corpus))
    hint = did_you_mean(corpus, BUILT_IN)
    if hint and not Path(corpus).exists():  # said at once, before the hub is asked in vain
        raise ValueError(f"task.corpus: no corpus {corpus!r}{hint}; {LEGAL}")
    return _dataset(corpus, corpus.removeprefix("datasets:"), column)


def _pydoc() -> Iterator[Source]:
    """The topics of Python's own help, about half a megabyte; they change with Python."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield name, topics[name], None


def _local(path: Path) -> Iterator[Source]:
    """The paragraphs of a text file (or its lines, if it has no blank ones), gathered into documents."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ValueError(f"task.corpus: cannot read {str(path)!r}: {error.strerror}; {LEGAL}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"task.corpus: {str(path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8 first") from None
    blank = re.search(r"\n[ \t]*\n", text)
    units = [u for u in (re.split(r"\n[ \t]*\n\s*", text) if blank else text.split("\n")) if u.strip()]
    documents = _gathered(units, "\n\n" if blank else "\n", min(GROUP_CHARACTERS, len(text) // 20))
    if len(raw) < LEAST_BYTES or len(set(documents)) < 4:
        raise ValueError(
            f"task.corpus: {str(path)!r} is too small: {len(raw)} bytes, {len(set(documents))} different documents;"
            f" wants at least {LEAST_BYTES} bytes and 4 documents (paragraphs, or lines)"
        )
    return ((f"{path.name}:{i}", document, None) for i, document in enumerate(documents))


def _gathered(units: list[str], joint: str, characters: int) -> list[str]:
    """Neighbours joined until each document has at least so many characters; what is left over goes to the last one."""
    documents: list[str] = []
    group: list[str] = []
    for unit in units:
        group.append(unit)
        if sum(map(len, group)) >= characters:
            documents.append(joint.join(group))
            group = []
    if group:
        documents.append(joint.join([*documents[-1:], *group]))
        del documents[-2:-1]
    return documents


def _dataset(corpus: str, name: str, column: str) -> Iterator[Source]:
    """A data set of the `datasets` library; a row is a document."""
    folder, colon, config = name.rpartition(":")
    if not colon:
        folder, config = name, ""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    try:
        from datasets import DatasetDict, load_dataset

        log.setLevel(logging.ERROR)  # its warnings about every retry would bury the one line that is raised below
        loaded = load_dataset(folder, config or None)
    except Exception as error:  # the library raises dozens of types, by origin of the data
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"task.corpus: {corpus!r} could not be loaded: {first[:300]}; {LEGAL}") from None
    finally:
        log.setLevel(level)
    parts: dict[str, Any] = dict(loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}
    return _rows(corpus, parts, column)


def _rows(corpus: str, parts: dict[str, Any], column: str) -> Iterator[Source]:
    """The rows of a data set's splits as documents; splits of other names are left out."""
    known = {name: part for name, part in parts.items() if name in _SPLITS}
    if not known:
        raise ValueError(f"task.corpus: {corpus!r} has the splits {', '.join(parts)}; legal: {', '.join(_SPLITS)}")
    for name, part in known.items():
        if column not in part.column_names:
            raise ValueError(f"task.column: {corpus!r} has no column {column!r}; legal: {', '.join(part.column_names)}")
        for i, text in enumerate(part[column]):
            if not isinstance(text, str):
                raise ValueError(f"task.column: {column!r} of {corpus!r} holds no text (row {i} of {name})")
            yield f"{name}-{i}", text, _SPLITS[name] if len(known) > 1 else None
