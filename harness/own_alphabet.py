"""The alphabet of a pretrained model: its own tokenizer, with its own begin and end of text and as many rows as the model has.

Unlike ours it reads special strings ("<|im_start|>") in a text as the specials that they name: chat templates are written so.
Knows tokenizers; loads no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.alphabet import Alphabet, BpeCodec, IntArray
from harness.pretrained import GPT2, local_path, told_in_a_line
from harness.problem import END

GENERATION = "generation_config.json"
FACTS = ("end_id", "bos_ids", "prefix_id")  # that a tokenizer's JSON does not say
SAMPLE = "a"  # a text, to see what is put before it


class OwnCodec(BpeCodec):
    """A pretrained model's tokenizer. rows: its tokens beyond these have no embedding, and cannot be encoded."""

    def __init__(self, tokenizer: Any, *, rows: int) -> None:
        super().__init__(tokenizer, size=min(tokenizer.get_vocab_size(with_added_tokens=True), rows))
        tokenizer.encode_special_tokens = False
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def encode_many(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """See Codec; ValueError names a token that the model has no embedding for."""
        ids, lengths = super().encode_many(texts)
        if (ids >= self.size).any():
            token = self._tokenizer.id_to_token(int(ids.max()))
            raise ValueError(f"the text holds {token!r}, which the model's tokenizer knows and the model has no embedding for")
        return ids, lengths


class OwnAlphabet(Alphabet):
    """A pretrained model's alphabet. rows: of its embedding, all of which its head says; other_ends: ids beside end_id that end a
    text; bos_ids, prefix_id: see `Alphabet`."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        spec: str,
        end_id: int,
        rows: int,
        other_ends: Sequence[int] = (),
        bos_ids: Sequence[int] = (),
        prefix_id: int | None = None,
    ) -> None:
        super().__init__(OwnCodec(tokenizer, rows=rows), spec=spec, end_id=end_id, rows=rows)
        self.end_ids |= set(other_ends)
        self._specials |= dict.fromkeys(self.end_ids, END)
        self.bos_ids, self.prefix_id = tuple(bos_ids), end_id if prefix_id is None else prefix_id
        named = {int(i): str(token.content) for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._named = {i: name for i, name in named.items() if i not in self.end_ids}

    def silent_ids(self, spelled: Sequence[str] = ()) -> frozenset[int]:
        """See Alphabet."""
        return frozenset(i for i, name in self._named.items() if not any(name in text for text in spelled))

    def without_specials(self, text: str, silent: Collection[int]) -> str:
        """See Alphabet."""
        names = [re.escape(name) for i, name in self._named.items() if i not in silent]
        return re.sub("|".join(names), "", text) if names else text

    def kept_json(self) -> str:
        """The tokenizer, and what it does not say itself."""
        facts = {name: getattr(self, name) for name in FACTS} | {"rows": self.core_size}
        if others := sorted(self.end_ids - {self.end_id}):
            facts["other_ends"] = others
        return json.dumps(facts | {"tokenizer": json.loads(self.codec.tokenizer_json())}, ensure_ascii=False)


def kept_alphabet(path: str, text: str) -> OwnAlphabet:
    """What `kept_json` has kept; a fact that it has not is as it was before there was one."""
    from tokenizers import Tokenizer

    kept = json.loads(text)
    tokenizer = Tokenizer.from_str(json.dumps(kept["tokenizer"]))
    facts = {name: kept[name] for name in (*FACTS, "other_ends") if name in kept}
    return OwnAlphabet(tokenizer, spec=f"pretrained:{path}", rows=kept["rows"], **facts)


def own_alphabet(path: str) -> OwnAlphabet:
    """The alphabet of the model at a folder or hub name. ValueError if it has no tokenizer that we can use."""
    from transformers import AutoConfig, AutoTokenizer

    place = local_path(path)
    with told_in_a_line(path):
        whole: Any = AutoConfig.from_pretrained(place, trust_remote_code=False)
        config = whole.get_text_config()
        tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        declared = _declared_ends(place, (whole, config))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    end_id = tokenizer.eos_token_id
    if backend is None or end_id is None or end_id >= config.vocab_size:
        lacks = "is not of the tokenizers library" if backend is None else "has no end-of-text token that the model knows"
        raise ValueError(f"model.path: the tokenizer of {path} {lacks}; name another one, --set model.alphabet=tokenizer:FOLDER")
    rows = int(config.vocab_size)
    begins = {} if config.model_type == GPT2 else _begins(tokenizer, rows)  # lessons begin with nothing, so asking does too
    others = sorted(end for end in declared - {end_id} if 0 <= end < rows)
    return OwnAlphabet(backend, spec=f"pretrained:{path}", end_id=int(end_id), rows=rows, other_ends=others, **begins)


def _declared_ends(place: str, configs: Sequence[Any]) -> set[int]:
    """The ids that end a text by the model's configs, and by generation_config.json if there is one."""
    from transformers.utils.hub import cached_file

    file = cached_file(
        place, GENERATION, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    said = {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
    if not isinstance(said, dict):
        raise ValueError(f"{GENERATION} holds no object")
    found: set[int] = set()
    for ends in (said.get("eos_token_id"), *(getattr(config, "eos_token_id", None) for config in configs)):
        every = ends if isinstance(ends, list) else [] if ends is None else [ends]
        if any(isinstance(end, bool) or not isinstance(end, int) for end in every):
            raise ValueError(f"eos_token_id={ends!r} is no token id, and no list of such")
        found.update(every)
    return found


def _begins(tokenizer: Any, rows: int) -> dict[str, Any]:
    """What the tokenizer itself puts before a text, and its begin of text; what the model has no embedding for is left out."""
    bare, whole = (tokenizer(SAMPLE, add_special_tokens=added)["input_ids"] for added in (False, True))
    before = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    bos = tokenizer.bos_token_id
    known = {"bos_ids": [i for i in whole[:before] if i < rows]}
    return known | ({} if bos is None or bos >= rows else {"prefix_id": int(bos)})
