"""Tiny random models that say text of many characters: Llamas with SentencePiece's kind of tokenizer, a byte-level Qwen2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEXTS = [
    "The quick brown fox jumps over the lazy dog. It was a dark and stormy night; the rain fell in torrents.",
    "Question: what is 12 + 34? Answer: 46. Let us see, step by step: 1, 2, 3.\n\nQuestion: who? Answer: he did it.",
    "naïve café, über and \u20ac 5, “so it is”, he said.\nA new line\tand a tab  and two blanks.",
]
NAMED = ("<|im_start|>", "<|im_end|>")  # specials that end nothing
BLANK = "\u2581"
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip


def pieces_of_sentences(*, strips: bool) -> PreTrainedTokenizerFast:
    """Blanks are parts of tokens, rare characters are spelled in bytes, decoding drops a leading blank.

    strips: as Llama's decoder does it, which strips the text; else as Metaspace's does, which looks at the first token.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="first")
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=140, limit_alphabet=45, show_progress=False))
    told = json.loads(trained.to_str())["model"]
    rare = [f"<0x{value:02X}>" for value in range(256)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(["<unk>", "<s>", "</s>", *rare, *told["vocab"]]))}
    merges = [tuple(pair) for pair in told["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    llama = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    plain = [decoders.Metaspace(replacement=BLANK, prepend_scheme="first"), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(llama if strips else plain)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>", *NAMED)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def pieces_of_bytes() -> PreTrainedTokenizerFast:
    """As Qwen2's: a byte-level BPE behind a split of words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(r"\s?\p{L}+|\p{N}|\s?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=[AddedToken(name, special=True) for name in ("<|endoftext|>", *NAMED)],
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def speaker(kind: str, folder: Path, *, seed: int = 0, louder: float = 0.0) -> str:
    """The folder of a random model: "llama", "metaspace" or "qwen2". louder: how much its named specials' logits are raised."""
    tokenizer = pieces_of_bytes() if kind == "qwen2" else pieces_of_sentences(strips=kind == "llama")
    tokenizer.save_pretrained(folder)
    config, made = (Qwen2Config, Qwen2ForCausalLM) if kind == "qwen2" else (LlamaConfig, LlamaForCausalLM)
    torch.manual_seed(seed)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model: Any = made(config(vocab_size=len(tokenizer), **SHAPE, **ends))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(12)
        for name in NAMED:
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(name)] *= 1 + louder
        single = [i for token, i in tokenizer.get_vocab().items() if len(token) == 1 or token.startswith("<0x")]
        model.lm_head.weight[single] *= 0.6  # words and whole characters are likelier than bytes
        model.lm_head.weight[tokenizer.eos_token_id] *= 0
    model.save_pretrained(folder)
    return str(folder)
