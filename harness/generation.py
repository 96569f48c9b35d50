"""Generation arguments as lm-eval's tasks and users give them, read and checked: how a text is to be gone on from.

Each argument is followed or refused. Knows lm-eval's names and their documented meaning, and nothing of its library.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from harness.arguments import check_whole
from harness.requests import Going
from harness.task import CAP_NAMES
from harness.wants import GREEDY, Sampler

DRAWS = {name: name for name in ("temperature", "top_k", "top_p", "min_p")} | {"typical_p": "typical"}  # to a sampler's fields
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0, "num_return_sequences": 1, "use_cache": True}
KNOWN = ("until", "do_sample", *CAP_NAMES, *DRAWS)
WHERE = "generation_kwargs"


def going_of(given: Mapping[str, Any], *, cap_tokens: int, sample: int = 0) -> Going:
    """Read generation arguments; an argument that is None is not given. ValueError names one that is not legal.

    cap_tokens: the most tokens where no argument says; sample: which of several draws it is.
    """
    said = {name: value for name, value in given.items() if value is not None}
    odd = [name for name in said if name not in KNOWN and not (name in NEUTRAL and said[name] == NEUTRAL[name])]
    if odd:
        raise ValueError(f"{WHERE}: {odd[0]}={said[odd[0]]!r} is not followed here; legal: {', '.join(sorted(KNOWN))}")
    sampler = _sampler(said)
    return Going(
        cap_tokens=_cap_tokens(said, cap_tokens),
        closes=_closes(said.get("until", ())),
        sampler=sampler,
        sample=sample if sampler else 0,
    )


def _sampler(said: Mapping[str, Any]) -> Sampler | None:
    """The sampler that the arguments describe; None for greedy choice.

    As in lm-eval: without ``do_sample`` tokens are drawn if the temperature is above 0, and ``do_sample=false`` is greedy
    whatever the temperature. As in transformers: ``do_sample=true`` draws at temperature 1 if none is given, and with
    temperature 0 it is an error.
    """
    for name, field in DRAWS.items():
        if name in said:
            _check_draw(name, field, said[name])
    wanted = said.get("do_sample")
    if wanted is not None and not isinstance(wanted, bool):
        raise ValueError(f"{WHERE}: do_sample: expected true or false, got {wanted!r}")
    temperature = said.get("temperature")
    drawn = bool(temperature) if wanted is None else wanted
    if not drawn:
        _tell_of_no_effect(said)
        return None
    if temperature == 0:
        raise ValueError(
            f"{WHERE}: temperature: expected a number above 0 with do_sample=true, got {temperature!r}; "
            "for greedy answers give do_sample=false"
        )
    return Sampler(**({"temperature": 1.0} | {field: said[name] for name, field in DRAWS.items() if name in said}))


def _check_draw(name: str, field: str, value: Any) -> None:
    """ValueError, under the argument's own name, for a value that no sampler takes."""
    try:
        Sampler(**{field: value})
    except ValueError as error:
        raise ValueError(f"{WHERE}: {name}{str(error).removeprefix(field)}") from None


def _tell_of_no_effect(said: Mapping[str, Any]) -> None:
    """Warn of arguments of drawing beside greedy choice, as lm-eval and transformers do."""
    idle = [name for name, field in DRAWS.items() if name in said and said[name] != getattr(GREEDY, field)]
    if idle:
        warnings.warn(
            f"{WHERE}: {', '.join(f'{name}={said[name]!r}' for name in idle)} without effect: answers are greedy; "
            "do_sample=true draws them",
            stacklevel=4,
        )


def _cap_tokens(said: Mapping[str, Any], cap_tokens: int) -> int:
    """The most tokens, from whichever of its names is given; ValueError where two of them disagree."""
    caps = {name: said[name] for name in CAP_NAMES if name in said}
    for name, value in caps.items():
        check_whole(f"{WHERE}: {name}", value, low=1)
    if len(set(caps.values())) > 1:
        both = " and ".join(f"{name}={value}" for name, value in caps.items())
        raise ValueError(f"{WHERE}: {both} name one cap by different numbers; give {CAP_NAMES[0]} alone")
    return int(next(iter(caps.values()), cap_tokens))


def _closes(until: Any) -> tuple[str, ...]:
    """Stop strings from a text or a list of texts; an empty one stops nothing."""
    texts = [until] if isinstance(until, str) else until
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{WHERE}: until: expected a text or a list of texts, got {until!r}")
    return tuple(text for text in texts if text)
