"""Rows that say something by themselves, token after token, until a stop: the want `Generate`, for all rows at once.

Knows rows, samplers and stops; knows neither problems nor what is done with a completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import wants
from harness.backbone import Backbone
from harness.decoder import Decoder
from harness.grammar import Grammar, grammar_of
from harness.instant import Instant
from harness.jobs import Fiber, Turn, Waiting, Writing
from harness.problem import ROLES, Completion
from harness.rows import Feed
from harness.sampling import choose, log_probabilities
from harness.seeds import derive

Send = Callable[[Fiber, Any], None]


class Writers:
    """The writing rows of a session. send: hands a fiber its result."""

    def __init__(self, backbone: Backbone, decoder: Decoder, instant: Instant, turn: Turn, send: Send) -> None:
        self._alphabet, self._decoder, self._instant = backbone.alphabet, decoder, instant
        self._context, self._head_ids = backbone.context_tokens, tuple(backbone.head_ids)
        self._turn, self._send = turn, send
        self._writing: dict[int, Writing] = {}
        self._grammars: dict[str, Grammar] = {}

    def start(self, fiber: Fiber, row: int, want: wants.Generate) -> Completion | None:
        """Let a row write; its completion at once, if there is no room for a token."""
        cap = min(want.cap_tokens, self._context - int(self._decoder.texts[row]))
        if cap <= 0:
            return Completion((), (), 0.0, "cap")
        key = derive(fiber.live.job.seed, "draw", f"{want.row.number}/{fiber.live.drawn}")
        fiber.live.drawn += 1
        grammar = self.grammar(want.sampler.grammar)
        state = 0 if grammar is None else grammar.walk(want.after)
        columns = self._instant.columns(want.without)
        self._writing[row] = Writing(fiber, want, self._alphabet, cap, key, columns, grammar, state)
        return None

    def grammar(self, pattern: str | None) -> Grammar | None:
        """The grammar of a pattern, over what the head says."""
        if pattern is None:
            return None
        if pattern not in self._grammars:
            self._grammars[pattern] = grammar_of(pattern, self._alphabet, self._head_ids)
        return self._grammars[pattern]

    def choose(self) -> bool:
        """One token for every writing row whose distribution stands ready; True if any fiber was resumed."""
        if not self._writing:
            return False
        busy = self._turn.rows()
        ready = [(row, w) for row, w in self._writing.items() if row not in busy]
        if not ready:
            return False
        logits = self._legal(self._decoder.logits_of([row for row, _ in ready]), [w for _, w in ready])
        keys = np.array([w.key for _, w in ready], dtype=np.uint64)
        steps = np.array([len(w.ids) for _, w in ready], dtype=np.uint64)
        columns = choose(logits, [w.want.sampler for _, w in ready], keys, steps)
        logp = log_probabilities(logits).gather(1, torch.from_numpy(columns).to(logits.device)[:, None])[:, 0].tolist()
        tokens = [self._head_ids[column] for column in columns.tolist()]
        done = [self._say(row, w, token, nats) for (row, w), token, nats in zip(ready, tokens, logp, strict=True)]
        return any(done)

    def _legal(self, logits: Tensor, writing: Sequence[Writing]) -> Tensor:
        """Logits (n, V) without what may not be said."""
        if any(w.without or w.grammar is not None for w in writing):
            logits = logits.clone()
        by_grammar: dict[Grammar, list[int]] = {}
        barred: dict[tuple[int, ...], list[int]] = {}
        for line, w in enumerate(writing):
            if w.without:
                barred.setdefault(w.without, []).append(line)
            if w.grammar is not None:
                by_grammar.setdefault(w.grammar, []).append(line)
        for columns, lines in barred.items():
            logits[np.array(lines)[:, None], np.array(columns)] = -torch.inf
        for grammar, lines in by_grammar.items():
            allowed = grammar.allowed([writing[line].state for line in lines]).to(logits.device)
            logits[lines] = logits[lines].masked_fill(~allowed, -torch.inf)
        return logits

    def _say(self, row: int, writing: Writing, token: int, nats: float) -> bool:
        """Add one token to a writing row; True if its fiber was resumed."""
        role = writing.say(token, nats)
        stop = writing.ended
        if stop is not None and writing.unread:
            self._end(row, stop)  # nothing is read behind this token: it is not fed
            return True
        self._turn.feeds.append(Feed(row, (token,), (ROLES.index(role),), (int(self._decoder.texts[row]),)))
        if stop is not None:
            del self._writing[row]
            completion = writing.completion(stop)
            self._turn.waiting.append(Waiting(writing.fiber, {row}, lambda _: completion))
        return False

    def _end(self, row: int, stop: str) -> None:
        writing = self._writing.pop(row)
        self._send(writing.fiber, writing.completion(stop))

    def on(self, rows: set[int]) -> list[Writing]:
        """Who writes on these rows."""
        return [w for row, w in self._writing.items() if row in rows] if rows else []

    def cut(self, writing: Sequence[Writing]) -> None:
        """The budget of these has ended."""
        for row in [row for row, w in self._writing.items() if w in writing] if writing else []:
            self._end(row, "budget")

    def rename(self, moved: dict[int, int]) -> None:
        """Rows have moved in the decoder."""
        self._writing = {moved.get(row, row): w for row, w in self._writing.items()}
