"""Alphabets: text to token ids and back, and where the special tokens stand.

Order of the vocabulary: text ids < END < sayable specials < inserted-only specials. (GPT-2's own <|endoftext|> is already the
last of its text ids and serves as END.) Every alphabet is lossless: what cannot be encoded is an error, never <unk>. Knows no
model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.problem import END, INSERTED, SAYABLE, Special

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IntArray = NDArray[np.int64]
ALPHABETS = "chars:CHARACTERS, bytes, bpe:SIZE, gpt2, tokenizer:FOLDER, pretrained:MODEL"
KEPT = ("bpe:", "pretrained:")  # alphabets whose tokenizer is kept beside a learner's weights


class Codec(Protocol):
    """Plain text to ids 0 .. size-1 and back."""

    size: int

    def encode_many(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """All ids one after another (n,), and how many each text has."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids -> text."""

    def tokenizer_json(self) -> str:
        """The same codec as a `tokenizers` JSON, for export."""


class CharCodec:
    """One token a character of a fixed list."""

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) != len(characters):
            raise ValueError(f"alphabet chars: wants distinct characters, got {characters!r}")
        self.characters, self.size = characters, len(characters)
        points = [ord(c) for c in characters]
        self._ids = np.full(max(points) + 2, -1, dtype=np.int64)
        self._ids[points] = np.arange(self.size)

    def encode_many(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """See Codec; ValueError names the characters that are not in the alphabet."""
        joined = "".join(texts)
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._ids[np.minimum(points, len(self._ids) - 1)]
        if (ids < 0).any():
            bad = sorted(set(joined) - set(self.characters))
            raise ValueError(f"no such characters in this task's alphabet: {bad[:8]}; legal: {self.characters!r}")
        return ids, np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))

    def decode(self, ids: Sequence[int]) -> str:
        """See Codec."""
        return "".join([self.characters[i] for i in ids])

    def tokenizer_json(self) -> str:
        """A WordLevel model over single characters."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(self.characters)}, unk_token=self.characters[0]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return str(tokenizer.to_str())


class ByteCodec:
    """One token a byte of UTF-8; decoding replaces errors."""

    size = 256

    def encode_many(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """See Codec."""
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        ids = np.frombuffer(b"".join(parts), dtype=np.uint8).astype(np.int64)
        return ids, np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))

    def decode(self, ids: Sequence[int]) -> str:
        """See Codec."""
        return bytes(ids).decode("utf-8", "replace")

    def tokenizer_json(self) -> str:
        """A byte-level BPE without merges, whose ids are the bytes."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        vocabulary = {_byte_character(b): b for b in range(256)}
        tokenizer = Tokenizer(models.BPE(vocabulary, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return str(tokenizer.to_str())


def _byte_character(byte: int) -> str:
    """The printable character that stands for a byte in byte-level vocabularies (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(byte) if byte in plain else chr(256 + sum(b not in plain for b in range(byte)))


class BpeCodec:
    """A tokenizer of the `tokenizers` library. unknown_id: see `Alphabet`."""

    def __init__(self, tokenizer: Tokenizer, *, size: int) -> None:
        self._tokenizer, self.size = tokenizer, size
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.unknown_id: int | None = None if unknown is None else tokenizer.token_to_id(unknown)
        tokenizer.encode_special_tokens = True  # a literal "<|endoftext|>" is text like any other

    def encode_many(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """See Codec."""
        rows = [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        flat = np.fromiter((i for row in rows for i in row), dtype=np.int64, count=int(lengths.sum()))
        return flat, lengths

    def decode(self, ids: Sequence[int]) -> str:
        """See Codec."""
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False))

    def tokenizer_json(self) -> str:
        """See Codec."""
        return str(self._tokenizer.to_str())


class Alphabet:
    """A codec with its special tokens.

    end_id: END as it is taught and scored; end_ids: every id that ends what a model says, which is read as END too.
    text_end: ids below it are text (END may be one of them); sayable_end: ids below it may be said by some strategy; size: all.
    bos_ids: what every text that is asked begins with (see `harness.stream.opened`); prefix_id: what an empty context is.
    rows: the vocabulary of the pretrained model that it belongs to, which may have more rows than there are tokens.
    """

    def __init__(self, codec: Codec, *, spec: str, end_id: int | None = None, rows: int = 0) -> None:
        self.codec, self.spec = codec, spec
        self.end_id = codec.size if end_id is None else end_id
        self.end_ids = frozenset({self.end_id})
        self.bos_ids: tuple[int, ...] = ()
        self.prefix_id = self.end_id
        self.text_end = self.end_id if self.end_id == codec.size - 1 else codec.size
        first = max(codec.size, self.end_id + 1, rows)
        self.core_size = first  # text and END: the GPT-2 that every strategy shares
        self._ids = {special: first + i for i, special in enumerate((*SAYABLE, *INSERTED))} | {END: self.end_id}
        self._heads: dict[tuple[Special, ...], IntArray] = {}
        self._specials = {i: special for special, i in self._ids.items()}
        self.sayable_end = first + len(SAYABLE)
        self.size = first + len(SAYABLE) + len(INSERTED)

    def id_of(self, special: Special) -> int:
        """Token id of a special."""
        if special not in self._ids:
            raise ValueError(f"no special token {special.name!r}; legal: {', '.join(s.name for s in self._ids)}")
        return self._ids[special]

    def ids_of(self, special: Special) -> list[int]:
        """All token ids that say a special."""
        return sorted(self.end_ids) if special == END else [self.id_of(special)]

    def ends(self, ids: IntArray) -> NDArray[np.bool_]:
        """Which of some token ids end a text."""
        found: NDArray[np.bool_] = ids == self.end_id if len(self.end_ids) == 1 else np.isin(ids, list(self.end_ids))
        return found

    def head_ids(self, sayable: Iterable[Special]) -> list[int]:
        """The ids that a strategy's head computes: text, END, and the specials that it may say."""
        return [*range(self.core_size), *sorted(self.id_of(s) for s in sayable if s != END)]

    def head_columns(self, ids: IntArray, sayable: tuple[Special, ...]) -> IntArray:
        """Columns of the head for token ids (n,), -1 for ids that cannot be said."""
        if sayable not in self._heads:
            self._heads[sayable] = np.array(self.head_ids(sayable))
        heads = self._heads[sayable]
        columns = np.minimum(np.searchsorted(heads, ids), len(heads) - 1)
        return np.where(heads[columns] == ids, columns, -1)

    def encode_many(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """All ids one after another, and how many each text has."""
        if not texts:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return self.codec.encode_many(texts)

    def encode(self, text: str) -> IntArray:
        """One text's ids."""
        return self.encode_many([text])[0]

    def opened(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """A text's ids behind `bos_ids`; as they are, if they begin so already."""
        return ids if ids[: len(self.bos_ids)] == self.bos_ids else self.bos_ids + ids

    @property
    def unknown_id(self) -> int | None:
        """What a tokenizer that cannot spell every text puts in place of what it cannot spell; None: it spells every text."""
        return self.codec.unknown_id if isinstance(self.codec, BpeCodec) else None

    def silent_ids(self, spelled: Sequence[str] = ()) -> frozenset[int]:
        """The tokenizer's own special tokens, but those that one of some strings spells; ours have none."""
        return frozenset()

    def without_specials(self, text: str, silent: Collection[int]) -> str:
        """A text that was said, without the names of the tokenizer's own special tokens that are not silent."""
        return text

    def kept_json(self) -> str:
        """What is kept beside a learner's weights, for `make_alphabet`."""
        return self.codec.tokenizer_json()

    def pieces(self, ids: Sequence[int], *, silent: Collection[int] = ()) -> tuple[str | Special, ...]:
        """Ids -> strings and the specials between them. silent: ids that say nothing, not even their names."""
        pieces: list[str | Special] = []
        run: list[int] = []
        for i in [*ids, -1]:
            if i >= 0 and i not in self._specials:
                run.append(int(i))
                continue
            if run:
                pieces.append(self.codec.decode([i for i in run if i not in silent] if silent else run))
                run = []
            if i >= 0:
                pieces.append(self._specials[int(i)])
        return tuple(pieces)


def make_alphabet(spec: str, *, texts: Sequence[str] = (), tokenizer_json: str | None = None) -> Alphabet:
    """The alphabet that a task names: one of ALPHABETS. texts: what a new BPE is trained on (the train split); tokenizer_json:
    the tokenizer kept beside a learner's weights, so that a trained BPE is never trained twice."""
    kind, _, rest = spec.partition(":")
    if kind == "chars":
        return Alphabet(CharCodec(rest), spec=spec)
    if kind == "bytes":
        return Alphabet(ByteCodec(), spec=spec)
    if kind == "bpe":
        return Alphabet(_trained_bpe(rest, texts, tokenizer_json), spec=spec)
    if kind == "pretrained":
        from harness.own_alphabet import kept_alphabet, own_alphabet

        return own_alphabet(rest) if tokenizer_json is None else kept_alphabet(rest, tokenizer_json)
    if kind in ("gpt2", "tokenizer"):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(tokenizer_json) if tokenizer_json else _saved_tokenizer(rest if rest else "gpt2")
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        return Alphabet(BpeCodec(tokenizer, size=size), spec=spec, end_id=_end_id(tokenizer))
    raise ValueError(f"unknown alphabet {spec!r}; legal: {ALPHABETS}")


def _trained_bpe(size_text: str, texts: Sequence[str], tokenizer_json: str | None) -> BpeCodec:
    """A byte-level BPE of the given size, from its JSON or trained on ``texts``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not re.fullmatch("[0-9]{1,6}", size_text) or not 257 <= int(size_text) <= 65_536:
        raise ValueError(f"alphabet bpe: wants a vocabulary size from 257 to 65536, got {size_text!r}")
    if tokenizer_json is not None:
        return BpeCodec(Tokenizer.from_str(tokenizer_json), size=int(size_text))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(size_text), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BpeCodec(tokenizer, size=int(size_text))


def _end_id(tokenizer: Any) -> int | None:
    """The tokenizer's own end of text, if it has one."""
    ids = (tokenizer.token_to_id(name) for name in ("<|endoftext|>", "</s>", "<eos>"))
    return next((i for i in ids if i is not None), None)


def _saved_tokenizer(name: str) -> Any:
    """The tokenizer of a local folder, or GPT-2's from wherever it can be had."""
    from tokenizers import Tokenizer

    if name == "gpt2":
        from harness.fetch import gpt2_tokenizer

        return gpt2_tokenizer()
    path = Path(name) / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"no tokenizer.json in {name!r}: give a folder that a tokenizer was saved to")
    return Tokenizer.from_file(str(path))
