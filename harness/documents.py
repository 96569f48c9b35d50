"""Documents as windows to be scored: lm-eval's disjoint rolling windows, so that our nats are theirs. Knows token ids only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def rolling_windows(ids: Sequence[int], *, prefix_id: int, window_tokens: int) -> Iterator[tuple[list[int], list[int]]]:
    """(context, continuation) pairs whose continuations are ``ids`` cut apart, each token once.

    The first context is the prefix token; each later one the tokens just before, as many as the window has room for, at least
    one. (The windows of lm-eval's `get_rolling_token_windows` with context_len 1, made disjoint.)
    """
    done = 0
    while done < len(ids):
        count = min(len(ids) - done, window_tokens)
        if done == 0:
            yield [prefix_id], list(ids[:count])
        else:
            start = done + count - window_tokens - 1
            yield list(ids[start:done]), list(ids[done : done + count])
        done += count
