"""Documents of an lm-eval task by our splits, as inquiries and as lessons.

test: theirs, whole. validation: their validation documents where they test on others; else a fixed share of their training
documents by a hash of the content; else, if the user wants it, of the test documents. value: another share of the training
documents. A training document that is equal to one held out is dropped. Knows lm-eval's tasks (0.4.13); scores nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from harness.problem import END, Key, Problem, Question
from harness.task import Inquiry, Split
from tasks._splits import SHARES, content_hash

GENERATE, LIKELIHOOD, CHOICE, ROLLING = "generate_until", "loglikelihood", "multiple_choice", "loglikelihood_rolling"
Document = Any  # as their data set gives it


@dataclass(frozen=True)
class Chat:
    """How prompts are dressed. template: of (turns, add_generation_prompt) or None; multiturn: worked examples are turns."""

    template: Callable[..., str] | None
    system: str | None
    multiturn: bool


class Documents:
    """Of one task. shots: worked examples in a prompt; held_out: the share of test documents that is validation instead; steps:
    the worked lines of a document, in Jinja, or nothing."""

    def __init__(self, theirs: Any, *, shots: int | None, shot_seed: int, held_out: float, steps: str, chat: Chat) -> None:
        self.theirs, self._shot_seed, self._held_out, self._steps, self._chat = theirs, shot_seed, held_out, steps, chat
        if shots is not None and theirs.get_config("num_fewshot") != 0:  # their rule: a task's own 0 stays
            theirs.set_config(key="num_fewshot", value=shots)
        self.shots = int(theirs.get_config("num_fewshot") or 0)
        self._own_validation = theirs.has_test_docs() and theirs.has_validation_docs()
        if held_out and (self._own_validation or theirs.has_training_docs()):
            raise ValueError(f"task.held_out: {theirs.task_name} has other documents for validation; leave it 0")

    @property
    def output_type(self) -> str:
        """What is asked of a model."""
        return str(self.theirs.get_config("output_type") or self.theirs.OUTPUT_TYPE)

    @cached_property
    def test(self) -> list[Document]:
        """Theirs, without what is held out."""
        return [doc for doc in self.theirs.eval_docs if not self._owner or self._owner[hash_of(doc)] == "test"]

    @cached_property
    def validation(self) -> list[Document]:
        """See the top."""
        return list(self.theirs.validation_docs()) if self._own_validation else self._cut("validation")

    @cached_property
    def value(self) -> list[Document]:
        """A share of the training documents."""
        return self._cut("value")

    @cached_property
    def train(self) -> list[Document]:
        """What is left of the training documents."""
        return self._cut("train")

    def _cut(self, split: Split) -> list[Document]:
        if self.theirs.has_training_docs():
            return [doc for doc in self.theirs.training_docs() if self._trained.get(hash_of(doc)) == split]
        return [doc for doc in self.theirs.eval_docs if self._owner.get(hash_of(doc)) == split]

    @cached_property
    def _owner(self) -> dict[str, Split]:
        """Of the test documents, where some are held out: whose each is."""
        if not self._held_out:
            return {}
        return _shared({hash_of(doc) for doc in self.theirs.eval_docs}, {"validation": self._held_out}, "test")

    @cached_property
    def _trained(self) -> dict[str, Split]:
        """Of the training documents that are not tested on: whose each is."""
        own = self.theirs.validation_docs() if self._own_validation else ()
        elsewhere = {hash_of(doc) for docs in (self.theirs.eval_docs, own) for doc in docs}
        found = {hash_of(doc) for doc in self.theirs.training_docs()} - elsewhere
        wanted: tuple[Split, ...] = ("value",) if self._own_validation else ("validation", "value")
        return _shared(found, {split: SHARES[split] for split in wanted}, "train")

    def of(self, split: Split) -> list[Document]:
        """A split's; ValueError if it has none."""
        found: list[Document] = getattr(self, split)
        if found:
            return found
        name = self.theirs.task_name
        ways = {
            "train": "lm-eval's task has no training documents; ask what was taught elsewhere: --set train.flops=0, and --set "
            "model.path=FOLDER or --set pretraining.task=NAME",
            "value": "lm-eval's task has no training documents to fit a value model on; choose a strategy that needs none",
            "validation": "there are no documents for validation; --set task.held_out=0.2 takes a share of the test documents; "
            "their score is then no longer comparable to other people's",
        }  # fmt: skip
        raise ValueError(f"task.task: {name}: {ways.get(split, 'there are no documents')}")

    # As inquiries

    def most(self, limit: float | None) -> int:
        """How many test documents are asked about, as lm-eval reads its limit."""
        from lm_eval.evaluator_utils import get_sample_size

        return int(get_sample_size(self.theirs, limit or None) or len(self.test))

    def inquiries(self, split: Split, count: int) -> list[Inquiry]:
        """The first ones, with worked examples drawn as lm-eval draws them."""
        docs = self.of(split)[:count]
        sampler: Any = getattr(self.theirs, "sampler", None)
        pool = None if sampler is None else sampler.df
        if pool is not None and split == "validation" and not self._own_validation and self.theirs.has_training_docs():
            mine = {hash_of(doc) for doc in self.validation}
            sampler.replace_df([doc for doc in pool if hash_of(doc) not in mine])  # nobody's own example
        self.theirs.set_fewshot_seed(self._shot_seed)
        try:
            return [self._inquiry(doc, at, self.requests(doc, at, self.shots)) for at, doc in enumerate(docs)]
        finally:
            if pool is not None:
                sampler.replace_df(pool)

    def inquiry(self, split: Split, number: int) -> Inquiry:
        """Of one document, without worked examples: for a lesson's answer."""
        doc = self.of(split)[number]
        return self._inquiry(doc, number, self.requests(doc, number, 0))

    def requests(self, doc: Document, number: int, shots: int) -> list[Any]:
        """What lm-eval's evaluator asks about a document."""
        theirs, chat = self.theirs, self._chat
        dress = {"apply_chat_template": chat.template is not None, "chat_template": chat.template}
        try:
            prefix = theirs.doc_to_prefix(doc)
            context = theirs.fewshot_context(
                doc,
                num_fewshot=shots,
                system_instruction=chat.system,
                fewshot_as_multiturn=chat.multiturn,
                gen_prefix=prefix,
                **dress,
            )
        except (AssertionError, ValueError) as error:
            if not shots:
                raise
            raise ValueError(f"task.num_fewshot: {shots} worked examples cannot be had ({error}); give fewer") from None
        about = (theirs.task_name, number, theirs.get_config("repeats") or 1)
        made = theirs.construct_requests(doc=doc, ctx=context, metadata=about, **dress)
        return list(made) if isinstance(made, list) else [made]

    def _inquiry(self, doc: Document, number: int, requests: Sequence[Any]) -> Inquiry:
        whole = requests[0].request_type == ROLLING
        gold = self._gold(doc, requests)
        key = None if whole else self._target(doc)
        return Inquiry(
            id=str(number), requests=requests, shown=None if whole else self._shown(doc, requests), key=key,
            constant=str(gold) if self.output_type == CHOICE else str(key), gold=gold,
            size_bytes=len(requests[0].args[0].encode("utf-8", "surrogatepass")) if whole else None,
        )  # fmt: skip

    def _shown(self, doc: Document, requests: Sequence[Any]) -> str:
        text = self.theirs.doc_to_text(doc)
        return text if isinstance(text, str) else str(requests[0].args[0])

    def _target(self, doc: Document) -> str:
        """The right answer as text; the first, where there are several."""
        target = self.theirs.doc_to_target(doc)
        if isinstance(target, list):
            target = target[0] if target else ""
        if isinstance(target, int) and self.theirs.get_config("doc_to_choice") is not None:
            choices = self.theirs.doc_to_choice(doc)
            target = choices[target] if 0 <= target < len(choices) else ""
        return str(target)

    def _gold(self, doc: Document, requests: Sequence[Any]) -> int | None:
        """The number of the request whose likelihood is the right answer's, or the whole text's."""
        if self.output_type != CHOICE:
            return 0 if len(requests) == 1 and requests[0].request_type != GENERATE else None
        gold = self.theirs.doc_to_text(doc) if getattr(self.theirs, "multiple_input", 0) else self.theirs.doc_to_target(doc)
        gold = gold[0] if isinstance(gold, list) and gold else gold
        choices = self.theirs.doc_to_choice(doc)
        if isinstance(gold, str):
            gold = choices.index(gold) if gold in choices else None
        return gold if isinstance(gold, int) and 0 <= gold < len(choices) else None

    # As lessons

    def lesson_problem(self, split: Split, number: int, lines: bool) -> Problem:
        """A document as a problem, without worked examples: what stands before the answer, and the answer as lm-eval has it."""
        doc = self.of(split)[number]
        context, answer = self.lesson(doc, number)
        worked = self.worked(doc)
        answer_cap, lines_cap = (len(text.encode()) + 1 for text in (answer, "\n".join(worked)))
        question = Question(f"{split}-{number}", context or END, answer_cap, lines_cap)
        return Problem(question, Key(answer, worked if lines else ()))

    def worked(self, doc: Document) -> tuple[str, ...]:
        """A document's worked lines."""
        from lm_eval.utils import apply_template

        text = apply_template(self._steps, doc) if self._steps else ""
        return tuple(line.strip() for line in text.splitlines() if line.strip())

    def lesson(self, doc: Document, number: int) -> tuple[str, str]:
        """A prompt and what should follow it, blanks between them included."""
        requests = self.requests(doc, number, 0)
        gold = self._gold(doc, requests)
        if requests[0].request_type == GENERATE:
            return requests[0].args[0], f"{self.theirs.get_config('target_delimiter') or ''}{self._target(doc)}"
        if gold is None or requests[gold].request_type != LIKELIHOOD:
            name = self.theirs.task_name
            raise ValueError(f"task.task: {name}: what its training documents teach cannot be told; --set train.flops=0")
        context, answer = requests[gold].args
        bare = context.rstrip()  # as likelihoods are cut
        return bare, context[len(bare) :] + answer


def hash_of(doc: Document) -> str:
    """Of a document's content."""
    return content_hash(json.dumps(doc, sort_keys=True, default=str))


def _shared(hashes: set[str], shares: Mapping[Split, float], rest: Split) -> dict[str, Split]:
    """Documents in the order of their hashes: first come the shares, at least one of each, then the rest."""
    owners: dict[str, Split] = dict.fromkeys(hashes, rest)
    left = iter(sorted(hashes))
    for split, share in shares.items():
        owners |= dict.fromkeys(islice(left, math.ceil(share * len(hashes))), split)
    return owners
