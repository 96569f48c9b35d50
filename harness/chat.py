"""Chat templates: a history of turns as the text that a tuned model was taught to read. Knows tokenizers of transformers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from harness.pretrained import local_path


def tokenizer_of(path: str) -> Any:
    """The tokenizer of a folder, hub name or shipped model; None if it has none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(local_path(path), trust_remote_code=False)
    except (OSError, ValueError):
        return None


class ChatTemplate:
    """A tokenizer's own template. key: the setting that wants it, and path: whose it is, for the ValueError if there is none."""

    def __init__(self, tokenizer: Any, *, key: str, path: str) -> None:
        if getattr(tokenizer, "chat_template", None) is None:
            raise ValueError(f"{key}: {path} has no chat template; leave it out")
        self._tokenizer = tokenizer

    def __call__(self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The history as text; with an opening for the next answer, or with the last turn left open."""
        from jinja2.exceptions import TemplateError

        try:
            return self._rendered(chat_history, add_generation_prompt)
        except TemplateError:  # some know no system; lm-eval does the same
            logging.getLogger(__name__).warning("the chat template refuses the history; its system turns are left out")
            return self._rendered([turn for turn in chat_history if turn["role"] != "system"], add_generation_prompt)

    def _rendered(self, turns: Sequence[dict[str, str]], opening: bool) -> str:
        how = {"tokenize": False, "add_generation_prompt": opening, "continue_final_message": not opening}
        text: str = self._tokenizer.apply_chat_template(list(turns), **how)
        return text
