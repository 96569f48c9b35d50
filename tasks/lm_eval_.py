"""Any task or group of lm-eval, asked under our budgets and scored by its own metrics.

Documents, loading and scores are in the files beside it. The library is imported where it is first needed, and the
underscore keeps this file from standing in its place. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from harness.problem import Document, Problem
from harness.task import THOUGHT_TOKENS, Inquiry, Marks, Responses, Split, Task, Taught, Total, setting

if TYPE_CHECKING:
    from tasks._lm_eval_documents import Chat
    from tasks._lm_eval_members import Member, Members


HASHED_PROMPTS = 100
LOOKED_AT = 10_000  # documents that are looked at before training


@dataclass(frozen=True, kw_only=True)
class LmEval(Task):
    """A task or group of lm-eval: `--task lm_eval:NAME,num_fewshot=5,limit=100`; prompts, filters and metrics as they are.

    Metrics are recorded by lm-eval's names and, for the same responses, to the last digit its numbers. What is compared (as
    "accuracy") is the first metric that is a mean of which more is better, unless ``score`` names another; votes count answers
    as its filter reads them. Documents are split as `_lm_eval_documents` says; where some are for training, strategies are taught
    on them (prompt without worked examples, delimiter, target). Of a group, or of all tasks that wear a tag, documents
    are asked in turn; what is compared is their mean, or the tasks' mean where the group says that each of them counts alike.
    """

    kind: ClassVar[Any] = "requests"
    argument: ClassVar[str] = "task"
    source: ClassVar[str] = "lm-evaluation-harness, EleutherAI"

    task: str = setting("", doc="lm-eval's name of a task, a group or a tag; GROUP/NAME for one task of a group")
    include_path: str | None = setting(
        None, doc="folders with YAML files of tasks; a name found there needs no other index", runs_code=True
    )
    metadata: str = setting("", doc="facts that a task's own loader asks for, an object in JSON", runs_code=True)
    num_fewshot: int | None = setting(None, when="ask", doc="worked examples in a prompt; none: the task's own", low=0, high=1000)
    fewshot_seed: int = setting(1234, when="ask", doc="which examples are drawn, as lm-eval's --seed", low=0, high=2**31 - 1)
    chat_template: str | None = setting(None, doc="a model whose tokenizer's chat template is put around prompts")
    system_instruction: str = setting("", doc="what is said before everything, as lm-eval's --system_instruction")
    fewshot_as_multiturn: bool = setting(True, when="ask", doc="worked examples as turns of the chat, not all in one")
    limit: float | None = setting(None, when="ask", doc="test documents: 100 of them, or a share below 1", low=0.0, high=1e9)
    held_out: float = setting(0.0, when="ask", doc="share of test documents that is validation instead", low=0.0, high=0.9)
    steps: str = setting("", doc="worked lines of a document, in Jinja; a chain of thought can then be taught", runs_code=True)
    score: str = setting("", when="ask", doc="what is compared: METRIC or METRIC,FILTER, or nats; empty: the first that can be")
    lines_cap_tokens: int = setting(THOUGHT_TOKENS, when="ask", doc="most worked lines before a likelihood", low=1, high=65536)
    window_tokens: int = setting(128, doc="text tokens of a training window, where whole texts are scored", low=2, high=65536)
    unsafe_code: bool = setting(False, when="ask", doc="run code that models write, for tasks that are marked so", runs_code=True)

    def offers(self) -> frozenset[str]:
        """A prompt; worked lines where it is said which they are."""
        return frozenset({"prompt", "worked_lines"} if self.steps else {"prompt"})

    def data_rows(self, split: Split) -> int:
        """Documents of a split, as far as it takes seconds to make problems of them."""
        return min(_members(self).size(split), LOOKED_AT)

    def origin(self, identity: str) -> str:
        """The task's name, and which document."""
        return f"task.task: {self.task}: document {identity}"

    @property
    def taught_as(self) -> Taught:
        """Documents where whole texts are scored."""
        return "documents" if _members(self).whole_texts else "questions"

    def problems(self, split: Split, *, seed: int, start: int, count: int, lines: bool = True) -> Sequence[Problem]:
        """See Task.problems. ValueError where lm-eval's task has no documents for a split."""
        return _members(self).lessons(split, seed=seed, start=start, count=count, lines=lines)

    def documents(self, split: Split) -> Sequence[Document]:
        """Texts that are scored whole."""
        return _members(self).texts(split)

    def inquiries(self, split: Split, *, count: int) -> Sequence[Inquiry]:
        """See Task.inquiries; ``limit`` is of each task's test documents."""
        return _inquiries(self, split, count)

    def marks(self, inquiry: Inquiry, responses: Responses) -> Marks:
        """See Task.marks."""
        return _members(self).marks(inquiry, responses)

    def totals(self, inquiries: Sequence[Inquiry], responses: Sequence[Responses]) -> Mapping[str, Total]:
        """See Task.totals: what lm-eval's evaluator does with the same responses."""
        return _members(self).totals(inquiries, responses)

    def canonical(self, answer: str) -> str:
        """What the scored metric's filter reads in an answer; a group's first task's."""
        return _members(self).canonical(answer)

    def grade(self, problem: Problem, answer: str | None) -> float:
        """Of a lesson's problem: the score that is compared, where answers are said; else 1.0 for the key."""
        inquiry = None if answer is None else _members(self).inquiry_of(problem)
        if inquiry is None:
            return super().grade(problem, answer)
        return self.marks(inquiry, [[answer] * (request.repeats or 1) for request in inquiry.requests]).score or 0.0

    def provenance(self) -> Mapping[str, Any]:
        """Versions, numbers of documents, and hashes of the test documents and of their first prompts."""
        return _members(self).facts(self.task, self.inquiries("test", count=HASHED_PROMPTS))


@lru_cache(maxsize=4)
def _members(task: LmEval) -> Members:
    """lm-eval's tasks, loaded once for the same settings."""
    from tasks._lm_eval_loading import load
    from tasks._lm_eval_members import Members

    tasks, group = load(task.task, task.include_path, task.metadata)
    lone = len(tasks) == 1
    return Members([_member(task, "" if lone else name, theirs) for name, theirs in tasks.items()], group)


def _member(task: LmEval, name: str, theirs: Any) -> Member:
    from tasks._lm_eval_documents import Documents
    from tasks._lm_eval_members import Member
    from tasks._lm_eval_scores import Scores

    if getattr(theirs, "UNSAFE_CODE", False) and not task.unsafe_code:
        raise ValueError(f"task.unsafe_code: {task.task} runs code that models write; --set task.unsafe_code=true allows it")
    if getattr(theirs, "MULTIMODAL", False):
        raise ValueError(f"task.task: {task.task} asks about pictures or sounds; only tasks in text can be asked here")
    chat = _chat(task.chat_template, task.system_instruction, task.fewshot_as_multiturn)
    documents = Documents(
        theirs, shots=task.num_fewshot, shot_seed=task.fewshot_seed, held_out=task.held_out, steps=task.steps, chat=chat
    )
    return Member(name, documents, Scores(theirs, task.score))


@lru_cache(maxsize=4)
def _chat(model: str | None, system: str, multiturn: bool) -> Chat:
    """How prompts are dressed, as lm-eval's command line would have it."""
    from harness.chat import ChatTemplate, tokenizer_of
    from tasks._lm_eval_documents import Chat

    if model is None:
        return Chat(None, system or None, multiturn=False)
    return Chat(ChatTemplate(tokenizer_of(model), key="task.chat_template", path=model), system or None, multiturn=multiturn)


@lru_cache(maxsize=8)
def _inquiries(task: LmEval, split: Split, count: int) -> tuple[Inquiry, ...]:
    return tuple(_members(task).inquiries(split, count=count, limit=task.limit or 0))
