"""What plain asking feeds and reads for somebody else's requests, by formula. Knows inquiries and alphabets; runs no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.alphabet import Alphabet
from harness.documents import rolling_windows
from harness.inquiries import GENERATE, LIKELIHOOD, asked_inquiries
from harness.spec import RunSpec
from harness.task import Inquiry

Cost = tuple[int, int, int]  # cells, the sum of their c, reads


def request_costs(spec: RunSpec, alphabet: Alphabet) -> list[Cost]:
    """Of each inquiry of a run: answers as long as their keys, continuations behind one reading of their context."""
    window_tokens = spec.model.shape[3]
    return [_added(_parts(inquiry, alphabet, window_tokens)) for inquiry in asked_inquiries(spec)]


def _added(parts: Iterator[Cost]) -> Cost:
    cells, so_far, reads = (sum(x) for x in zip((0, 0, 0), *parts, strict=True))
    return cells, so_far, reads


def _parts(inquiry: Inquiry, alphabet: Alphabet, window_tokens: int) -> Iterator[Cost]:
    contexts: dict[str, list[str]] = {}
    for request in inquiry.requests:
        if request.request_type == GENERATE:
            yield _behind(alphabet.opened(_ids(request.args[0], alphabet)), [len(_ids(inquiry.key or "", alphabet)) + 1])
        elif request.request_type == LIKELIHOOD:
            contexts.setdefault(request.args[0], []).append(request.args[1])
        else:
            ids = _ids(request.args[0], alphabet)
            for window, said in rolling_windows(ids, prefix_id=alphabet.prefix_id, window_tokens=window_tokens):
                yield _behind(window, [len(said)])
    for context, continuations in contexts.items():
        before = _ids(context.rstrip(), alphabet)
        lengths = [max(len(_ids(context + said, alphabet)) - len(before), 1) for said in continuations]
        yield _behind(alphabet.opened(before), lengths)


def _ids(text: str, alphabet: Alphabet) -> tuple[int, ...]:
    return tuple(alphabet.encode(text).tolist())


def _behind(before: Sequence[Any], lengths: Sequence[int]) -> Cost:
    """Continuations behind a context that is read once; the last token of each is not fed."""
    start = max(len(before), 1)
    cells, so_far = start, start * (start + 1) // 2
    for length in lengths:
        cells += length - 1
        so_far += (length - 1) * start + length * (length - 1) // 2
    return cells, so_far, sum(lengths) - len(lengths) + 1
