"""The alphabet of a pretrained model: its own tokenizer, with its own end of text and as many rows as the model has.

Unlike ours it reads special strings ("<|im_start|>") in a text as the specials that they name: chat templates are written so.
Knows tokenizers; loads no weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.alphabet import Alphabet, BpeCodec, IntArray
from harness.pretrained import local_path, told_in_a_line


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
    """A pretrained model's alphabet. rows: of its embedding, all of which its head says."""

    def __init__(self, tokenizer: Any, *, spec: str, end_id: int, rows: int) -> None:
        super().__init__(OwnCodec(tokenizer, rows=rows), spec=spec, end_id=end_id, rows=rows)

    def kept_json(self) -> str:
        """The tokenizer, and what it does not say itself."""
        tokenizer = json.loads(self.codec.tokenizer_json())
        return json.dumps({"end_id": self.end_id, "rows": self.core_size, "tokenizer": tokenizer}, ensure_ascii=False)


def kept_alphabet(path: str, text: str) -> OwnAlphabet:
    """What `kept_json` has kept."""
    from tokenizers import Tokenizer

    kept = json.loads(text)
    tokenizer = Tokenizer.from_str(json.dumps(kept["tokenizer"]))
    return OwnAlphabet(tokenizer, spec=f"pretrained:{path}", end_id=kept["end_id"], rows=kept["rows"])


def own_alphabet(path: str) -> OwnAlphabet:
    """The alphabet of the model at a folder or hub name. ValueError if it has no tokenizer that we can use."""
    from transformers import AutoConfig, AutoTokenizer

    place = local_path(path)
    with told_in_a_line(path):
        config: Any = AutoConfig.from_pretrained(place).get_text_config()
        tokenizer: Any = AutoTokenizer.from_pretrained(place)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    end_id = tokenizer.eos_token_id
    if backend is None or end_id is None or end_id >= config.vocab_size:
        lacks = "is not of the tokenizers library" if backend is None else "has no end-of-text token that the model knows"
        raise ValueError(f"model.path: the tokenizer of {path} {lacks}; name another one, --set model.alphabet=tokenizer:FOLDER")
    return OwnAlphabet(backend, spec=f"pretrained:{path}", end_id=int(end_id), rows=int(config.vocab_size))
