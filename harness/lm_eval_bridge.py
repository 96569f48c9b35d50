"""Our models as a model of lm-eval: importing this registers `thinking`.

`lm_eval --model thinking --model_args pretrained=RUN_DIR` scores a run of ours, thinking included; with a folder or hub name, any
pretrained causal LM under any strategy that needs no training. Knows lm-eval's contract (0.4.13); what requests mean to a
strategy is in `harness.requests`, which model is asked in `harness.asked_model`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lm_eval.models  # noqa: F401  (the stock list is only loaded while the registry is empty)
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from harness.arguments import check_model_arguments, check_whole
from harness.asked_model import Asked, load
from harness.bridged import TRUNCATED, Costs, Work, draws, rolling, saying, scoring
from harness.chat import ChatTemplate, tokenizer_of
from harness.context_bounds import told_bounds, told_truncated
from harness.decoder import suiting_rows
from harness.devices import check_device
from harness.generation import going_of
from harness.locks import alone
from harness.requests import Asker
from harness.responses import Response, Responses
from harness.runs import compute_threads
from harness.search import Search
from harness.session import Session
from harness.spec import digest
from harness.visible import to_stderr

MARK = "thinking-harness: asked"  # in a cache of lm-eval's: whose answers it holds


@register_model("thinking")
class ThinkingLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """A run of ours, or any pretrained causal LM, that thinks as a strategy says.

    pretrained: the folder that holds run.json (its weights are found under the same results folder), or a folder or hub name.
    strategy, ``strategy.NAME``: how it is asked, if not as the run was. max_gen_toks: most tokens of an answer, and of worked
    lines, where a task does not say; thought_tokens: most worked lines before a continuation. responses: whether answers are kept
    under ``results`` (a run's own), so that an evaluation that was cut off goes on. trust_plugins: whether code to which only a
    run's record points may be run. Unknown arguments are errors.
    """

    backend = "causal"

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        strategy: str | None = None,
        task: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int | None = None,
        thought_tokens: int | None = None,
        results: str = "results",
        responses: bool = True,
        threads: int | None = None,
        trust_plugins: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_model_arguments([*settings, *([] if pretrained is None else ["pretrained"])])
        counts = {"max_length": max_length, "max_gen_toks": max_gen_toks, "thought_tokens": thought_tokens}
        for name, count in (counts | {"max_batch_size": max_batch_size, "threads": threads}).items():
            if count is not None:
                check_whole(f"model_args: {name}", count, low=1)
        self.asked: Asked = load(
            str(pretrained),
            strategy=strategy,
            task=task,
            settings=settings,
            device=_device(device),
            thought_tokens=thought_tokens,
            context_tokens=max_length,
            trust_plugins=trust_plugins is True,  # lm-eval makes true of what is typed so
        )
        if self.asked.defaulted:
            to_stderr(self.asked.defaulted)
        ours = self.asked.results
        for line in told_bounds([self.asked.spec.model]):
            to_stderr(line)
        self._pretrained, self._threads = str(pretrained), threads or (self.asked.spec.threads if ours else None)
        self._rows = _rows(batch_size, max_batch_size, suiting=suiting_rows(self.asked.backbone))
        self._asker = Asker(self.asked.spec, self.asked.backbone, thought_tokens=self.asked.thought_tokens)
        self._max_gen_toks = max_gen_toks or self._asker.cap_tokens
        self._results, self._facts, self._costs = ours or Path(results), self.asked.facts(), Costs()
        self._key = digest(self._facts)
        self._path = self._results / "responses" / f"{self._key}.jsonl" if responses else None
        with self._alone():  # opening mends a torn line, which another process may be writing
            self.responses = Responses(self._path, facts=self._facts)
        if self.responses.damaged:
            to_stderr(f"left out: {self.responses.damaged:,} damaged lines of {self._path}: those requests are asked again")
        self.tokenizer = None if ours else tokenizer_of(self._pretrained)

    # Facts that lm-eval asks for

    @property
    def max_length(self) -> int:
        """Text tokens of the context."""
        return self.asked.backbone.context_tokens

    @property
    def max_gen_toks(self) -> int:
        """Where a task names no cap."""
        return int(self._max_gen_toks)

    @property
    def batch_size(self) -> int:
        """About how many rows are decoded side by side; it changes no answer."""
        return self._rows

    @property
    def eot_token_id(self) -> int:
        """End of text."""
        return self.asked.backbone.alphabet.end_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is: the model's begin of text, or end of text."""
        return self.asked.backbone.alphabet.prefix_id

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's cache of requests."""
        return self._pretrained.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, with nothing added."""
        return [int(i) for i in self.asked.backbone.alphabet.encode(string)]

    def tok_decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids; specials only if they are not to be skipped."""
        alphabet = self.asked.backbone.alphabet
        pieces = alphabet.pieces([int(i) for i in tokens], silent=alphabet.silent_ids() if skip_special_tokens else ())
        return "".join(p if isinstance(p, str) else "" if skip_special_tokens else p.name for p in pieces)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The history in the tokenizer's own template; ValueError if it has none."""
        return self._template()(chat_history, add_generation_prompt)

    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer, key="--apply_chat_template", path=self._pretrained)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text; ValueError if there is none."""
        if chat_template:
            self._template()
        return None if self.tokenizer is None else str(super().chat_template(chat_template) or "")

    def set_cache_hook(self, cache_hook: Any) -> None:
        """lm-eval's own cache has no model in its keys: say so if it holds another's answers."""
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is None:
            return
        before = cache_hook.dbdict.get(MARK)
        if (before is None and len(cache_hook.dbdict)) or before not in (None, self._key):
            import warnings

            warnings.warn(
                "--use_cache: this file holds answers of another model or strategy, and lm-eval gives them for this one's; "
                "name another file. (Answers are kept by model without it, too.)",
                stacklevel=2,
            )
        cache_hook.dbdict[MARK] = self._key

    def get_model_info(self) -> dict[str, Any]:
        """What lands in the results' config: who was asked how, and what each task cost by document."""
        strategy = self.asked.spec.strategy
        return {
            "asked": json.loads(json.dumps(self._facts)),
            "loglikelihoods": "the base's" if isinstance(strategy, Search) else "the strategy's",
            "responses": None if self.responses.path is None else str(self.responses.path),
            "ledgers": self._costs.by_task(),
        }

    # The three kinds of request

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """What the strategy says behind each context, without its thoughts and up to the first stop; "" if it never answers."""
        works = []
        for request, sample in zip(requests, draws(requests), strict=True):
            how = going_of(request.args[1], cap_tokens=self.max_gen_toks, sample=sample)
            works.append(saying(self._asker, request, how))
        return [response["text"] for response in self._answered(works, "generate_until", disable_tqdm)]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation behind its context and the strategy's thinking; whether it is the greedy choice.

        Continuations of one document and context share both.
        """
        groups: dict[tuple[Any, ...], list[int]] = {}
        for at, request in enumerate(requests):
            groups.setdefault((request.task_name, request.doc_id, request.args[0]), []).append(at)
        works = [scoring(self._asker, [requests[at] for at in members]) for members in groups.values()]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        for members, response in zip(groups.values(), self._answered(works, "loglikelihood", disable_tqdm), strict=True):
            for at, (nats, greedy) in zip(members, response["likelihoods"], strict=True):
                found[at] = (-nats, greedy)
        return found

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, **_: Any) -> list[tuple[float, bool]]:
        """Likelihoods are asked for by text, since a strategy may want to put words around it."""
        raise NotImplementedError("ask `loglikelihood`, by text")

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each whole text, in disjoint windows with as much context as fits."""
        works = [rolling(self._asker, request) for request in requests]
        return [-response["likelihoods"][0][0] for response in self._answered(works, "loglikelihood_rolling", disable_tqdm)]

    # Answering

    def _answered(self, works: Sequence[Work], attr: str, quiet: bool) -> list[Response]:
        """Every work's response; what is kept is not made again. Tasks go one after another, so that seconds are theirs."""
        by_task: dict[str, list[Work]] = {}
        for work in works:
            by_task.setdefault(work.task, []).append(work)
        with tqdm(total=len(works), disable=quiet, desc=f"thinking: {attr}") as bar, self._held():
            for mine in by_task.values():
                started_s = time.monotonic()
                made = self._make(mine, attr, bar)
                kept = [self.responses[work.key] for work in mine]
                self._costs.add(mine, kept, made=made, seconds=time.monotonic() - started_s)
        truncated = {(work.documents, work.key): self.responses[work.key].get(TRUNCATED, 0) for work in works}
        if (line := told_truncated(sum(truncated.values()))) is not None:
            to_stderr(line)
        return [self.responses[work.key] for work in works]

    def _make(self, works: Sequence[Work], attr: str, bar: Any) -> frozenset[str]:
        """Make the responses that are missing; returns their keys."""
        by_length = sorted(works, key=lambda w: sum(len(str(part)) for part in w.asked[0]))  # rows of a pass are padded alike
        missing = {work.key: work for work in by_length if work.key not in self.responses}
        bar.update(len(works) - len(missing))
        jobs = {job.name: work for work in missing.values() for job in work.jobs}
        for work in [w for w in missing.values() if not w.jobs]:
            self._keep(work, attr, bar)
        reference = self.asked.spec.model.reference_layers
        session = Session(self.asked.backbone, rows=self._rows, reference_layers=reference, traced=False)
        for outcome in session.run(job for work in missing.values() for job in work.jobs):
            work = jobs[outcome.job.name]
            work.outcomes[outcome.job.name] = outcome
            if len(work.outcomes) == len(work.jobs):
                self._keep(work, attr, bar)
        return frozenset(missing)

    def _keep(self, work: Work, attr: str, bar: Any) -> None:
        """A work is done: keep its response, here and in lm-eval's own cache."""
        response = work.response(self._asker)
        self.responses.put(work.key, response)
        for arguments, answer in work.answers(response):
            self.cache_hook.add_partial(attr, arguments, answer)
        bar.update(1)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody else appends to the same file; threads are the run's."""
        import torch

        with compute_threads(self._threads or torch.get_num_threads()), self._alone():
            yield

    def _alone(self) -> AbstractContextManager[None]:
        """While nobody else is at the file of responses, if there is one."""
        return nullcontext() if self._path is None else alone(self._results, f"responses-{self._key}")


def _device(name: str | None) -> str:
    """lm-eval's default is cuda:0 even where there is none."""
    import torch

    if name is None or (name.startswith("cuda") and not torch.cuda.is_available()):
        return "cpu"
    check_device(name, option="device")
    return name


def _rows(batch_size: int | str | None, most: int | None, *, suiting: int) -> int:
    """Rows side by side, from lm-eval's forms: 8, "8", "auto", "auto:N". suiting: as many as suit model and device."""
    text = str(batch_size if batch_size is not None else "auto")
    if text.startswith("auto"):
        return min(suiting, int(most or suiting))
    rows = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
    if rows < 1:
        raise ValueError(f"batch_size: expected a whole number from 1, auto or auto:N, got {batch_size!r}")
    return min(rows, int(most)) if most else rows
