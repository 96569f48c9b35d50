"""What others ask of a model, as jobs of a strategy: go on from a text, how likely is a continuation, how likely is a whole text.

These are lm-eval's three kinds of request. A strategy thinks as it always does: what it inserts or says before a continuation is
charged and never scored. Knows jobs and the contract; knows nothing of lm-eval, of files, and of where requests come from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.arguments import check_whole
from harness.backbone import Backbone
from harness.documents import rolling_windows
from harness.examination import library_of, referee_of
from harness.jobs import Job, Outcome, Referee
from harness.problem import Answer, Piece, Question, Text, Tokens
from harness.search_wants import Canonical, Check
from harness.seeds import derive
from harness.spec import RunSpec
from harness.strategy import Strategy, attempted
from harness.stream import encode
from harness.wants import Likelihood, Sampler, Solver

Place = tuple[int, int]  # which job, which of its values
CAP_TOKENS = 256  # of an answer, where neither request nor context says less
PROMPTED_TOKENS = 64  # words that a strategy may put around a question, where it does not say how much it holds


@dataclass(frozen=True, kw_only=True)
class Going:
    """How a text is to be gone on from: at most ``cap_tokens`` until one of ``closes``.

    sampler: how each token is drawn (None, or where the strategy searches: the strategy's own way); sample: which of several
    draws this is.
    """

    cap_tokens: int
    closes: tuple[str, ...] = ()
    sampler: Sampler | None = None
    sample: int = 0

    def __post_init__(self) -> None:
        check_whole("cap_tokens", self.cap_tokens, low=1)
        check_whole("sample", self.sample, low=0)
        if not all(self.closes):
            raise ValueError(f"closes: expected texts that are not empty, got {self.closes!r}")


@dataclass(frozen=True, slots=True)
class Said:
    """What came of going on. text: the answer, without thoughts; raw: all that was said; unclosed: it thought to its cap and
    never came to an answer."""

    text: str
    raw: str
    unclosed: bool


class Asker:
    """Makes jobs for one strategy on one backbone. thought_tokens: the most that worked lines may take before a continuation."""

    def __init__(self, spec: RunSpec, backbone: Backbone, *, thought_tokens: int) -> None:
        self.strategy, self.spec, self.thought_tokens = spec.strategy, spec, thought_tokens
        self.alphabet, self.context_tokens = backbone.alphabet, backbone.context_tokens
        self.cap_tokens = min(CAP_TOKENS, self.context_tokens // 2)  # of an answer, where nobody says how long it may be
        self._examples = library_of(spec)

    # Going on

    def going_on(self, name: str, context: str, how: Going, *, question: Question | None = None) -> Job:
        """A job that says what follows ``context``; its value is read by `said`. question: the task's own, if it is one of ours;
        its id, caps and checker then hold."""
        if question is not None:
            return self._saying_job(name, question, how, referee_of(self.spec.task, question))
        cap = self._fitting(how.cap_tokens)
        ids = self.alphabet.opened(self._ids(context)) or (self.alphabet.prefix_id,)
        whole = Question(name, Tokens(ids, context), cap, cap, how.closes, cap_ends=True)
        most = max(self.context_tokens - cap - self._beside(whole), 1)
        asked, opens, cut = self._fitted(whole, most)
        job = self._saying_job(name, asked, how, self._referee(asked))
        crop_tokens = max(self.context_tokens - cap - self._reserve(asked), 1)
        return replace(job, crop_tokens=crop_tokens, opens=opens, cut=cut, silent=self.alphabet.silent_ids(how.closes))

    def _saying_job(self, name: str, asked: Question, how: Going, referee: Referee) -> Job:
        seed = derive(self.spec.seed, "ask", f"{asked.id}#{how.sample}" if how.sample else asked.id)
        return self._job(name, asked, self._solver(asked, how), referee, seed)

    def _fitting(self, cap_tokens: int) -> int:
        """A cap that leaves room for a context; one that does not is told, and half of the context is taken."""
        if cap_tokens < self.context_tokens:
            return cap_tokens
        most = self.context_tokens // 2
        warnings.warn(
            f"answers of up to {cap_tokens} tokens leave no room in a context of {self.context_tokens}: they end at {most}",
            stacklevel=4,
        )
        return most

    def _referee(self, question: Question) -> Referee:
        """Somebody else's benchmark knows which answers are alike; of a text that belongs to no task nobody does."""
        return referee_of(self.spec.task, question) if self.spec.task.kind == "requests" else _text_alone

    def _solver(self, question: Question, how: Going) -> Callable[[], Solver[Any]]:
        """Tokens are drawn as the request says, unless the strategy has its own way of seeking answers."""
        sampler = how.sampler
        if sampler is None or type(self.strategy).solve is not Strategy.solve:
            return lambda: self.strategy.solve(question)
        return lambda: attempted(self.strategy, question, sampler)

    def said(self, outcome: Outcome, *, own: bool = False) -> Said:
        """What a job of `going_on` said. own: a task of ours asked; else an answer has no special token's name, as in lm-eval."""
        answer = outcome.value if isinstance(outcome.value, Answer) else Answer(None)
        raw = "" if answer.completion is None else answer.completion.text
        text = answer.text or ""
        return Said(text if own else self.alphabet.without_specials(text, outcome.job.silent), raw, answer.text is None)

    # Likelihoods

    def likelihoods(self, name: str, context: str, continuations: Sequence[str]) -> tuple[list[Job], list[list[Place]]]:
        """Jobs, and of each continuation the places of the likelihoods that it is the `total` of; none if it has no token.

        Continuations share the reading of their context, and the thinking behind it, where all of them fit.
        """
        ids, pairs = self.pairs(context, continuations)
        context = context.rstrip()  # its last blanks belong to the continuations
        most = self.context_tokens + 1 - self._beside(self._question(name, Tokens(ids, context), 1))
        asked = [at for at, said in enumerate(pairs) if said]
        if len(ids) + max(map(len, pairs), default=0) <= most:
            places = [[(0, asked.index(at))] if said else [] for at, said in enumerate(pairs)]
            return [self._scoring(name, Tokens(ids, context), [pairs[at] for at in asked])] if asked else [], places
        jobs: list[Job] = []
        places = [[] for _ in pairs]
        for at in asked:
            own = self._alone(f"{name}/{at}", ids, context, pairs[at], most)
            places[at] = [(len(jobs) + which, 0) for which in range(len(own))]
            jobs += own
        return jobs, places

    def _alone(self, name: str, ids: Sequence[int], context: str, said: Sequence[int], most: int) -> list[Job]:
        """One continuation behind as much of its context as fits. One that leaves no room for its context begins behind the
        context's last token, and goes on in windows."""
        whole, room = Tokens(tuple(ids), context), most - len(said)
        kept = self._ending(whole, max(room, 1))
        if room > 0:
            return [self._scoring(name, kept, [said], cut=kept is not whole)]
        (_, first), *rest = rolling_windows(said, prefix_id=ids[-1], window_tokens=max(most - 1, 1))
        windows = [self._scoring(f"{name}/{at}", Tokens(tuple(before)), [part]) for at, (before, part) in enumerate(rest, 1)]
        return [self._scoring(f"{name}/0", kept, [first], cut=kept is not whole), *windows]

    def _ending(self, whole: Tokens, tokens: int) -> Tokens:
        """The last ``tokens`` of a context, and the longest end of its text that takes no more of them."""
        if tokens >= len(whole.ids):
            return whole
        text = whole.text or ""
        first, last = 0, len(text)
        while first < last:
            middle = (first + last) // 2
            fits = len(self.alphabet.encode(text[middle:])) <= tokens
            first, last = (first, middle) if fits else (middle + 1, last)
        return Tokens(whole.ids[-tokens:], text[last:])

    def _fitted(self, question: Question, tokens: int) -> tuple[Question, bool, bool]:
        """A question whose text has at most so many tokens, begin of text included; whether it begins as texts do, and whether
        its beginning was cut off."""
        assert isinstance(question.text, Tokens)
        text = self._ending(question.text, tokens)
        within, opens = self._unopened(text)
        return replace(question, text=within), opens, text is not question.text

    def _unopened(self, text: Tokens) -> tuple[Tokens, bool]:
        """A text without its begin of text, which the session puts before what the strategy puts first; and whether it has one.
        What does not begin so is cut from the middle of a text."""
        bos = len(self.alphabet.bos_ids)
        opens = text.ids[:bos] == self.alphabet.bos_ids
        return (replace(text, ids=text.ids[bos:]) if opens and len(text.ids) > bos else text), opens

    def pairs(self, context: str, continuations: Sequence[str]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Token ids of a context, begin of text included, and of continuations, as lm-eval cuts them: both are encoded together,
        the context's last blanks belong to the continuation; an empty context is `Alphabet.prefix_id`.

        Where a continuation has no token of its own in that encoding, because a token spans the border, it is encoded alone.
        """
        bare = context.rstrip()
        blanks = context[len(bare) :]
        ids = self._ids(bare)
        found = [self._ids(bare + blanks + said)[len(ids) :] or self._ids(blanks + said) for said in continuations]
        return self.alphabet.opened(ids) or (self.alphabet.prefix_id,), found

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.alphabet.encode(text).tolist())

    def rolling(self, name: str, text: str) -> list[Job]:
        """Jobs for disjoint windows of a text, each with as much context as fits."""
        ids, prefix = self.alphabet.encode(text).tolist(), self.alphabet.prefix_id
        most = self.context_tokens - self._beside(self._question(name, Tokens((prefix,)), 1))
        windows = rolling_windows(ids, prefix_id=prefix, window_tokens=max(most, 1))
        return [self._scoring(f"{name}/{at}", Tokens(tuple(before)), [said]) for at, (before, said) in enumerate(windows)]

    def _scoring(self, name: str, context: Tokens, continuations: Sequence[Sequence[int]], *, cut: bool = False) -> Job:
        """One job: think, then score. Tokens without a text are a window of a document."""
        within, opens = self._unopened(context)
        longest = max(map(len, continuations))
        asked = self._question(name, within, longest)
        texts: tuple[Text, ...] = tuple((Piece(Tokens(tuple(said)), "answer", True),) for said in continuations)
        seed = derive(self.spec.seed, "ask", repr(asked.text))  # of the context alone: choices are told the same thoughts
        job = self._job(name, asked, lambda: self.strategy.score(asked, texts), _text_alone, seed)
        crop = None if asked.window else max(self.context_tokens + 1 - longest - self._reserve(asked), 1)
        return replace(job, rows=max(job.rows, len(texts)), opens=opens, crop_tokens=crop, cut=cut)

    # What both share

    def _question(self, name: str, text: Tokens, cap_tokens: int) -> Question:
        return Question(name, text, cap_tokens, self.thought_tokens, cap_ends=True, window=text.text is None)

    def _reserve(self, question: Question) -> int:
        """Text tokens that thinking may take, beside prompt and answer; at most half of the context."""
        held, said = self.strategy.holding(question).said_tokens, self.strategy.saying(question)
        if held is None:
            held = question.lines_cap_tokens + PROMPTED_TOKENS + question.answer_cap_tokens if said is None else said.cap_tokens
        return min(max(held - question.answer_cap_tokens, 0), self.context_tokens // 2)

    def _beside(self, question: Question) -> int:
        """Text tokens that stand beside a question and what is scored: those of thinking, and what its prompt adds."""
        prompt = encode([self.strategy.prompt(question)], self.alphabet).ids
        assert isinstance(question.text, Tokens)
        return self._reserve(question) + int((prompt < self.alphabet.sayable_end).sum()) - len(question.text.ids)

    def _job(self, name: str, question: Question, solver: Callable[[], Solver[Any]], referee: Referee, seed: int) -> Job:
        rows = self.strategy.holding(question).rows
        return Job(name, solver, seed, math.inf, None, self._examples, referee, rows)


def total(likelihoods: Sequence[Likelihood]) -> Likelihood:
    """Of consecutive stretches of one text; an empty text, of which there are none, is certain."""
    nats, tokens = math.fsum(x.nats for x in likelihoods), sum(x.tokens for x in likelihoods)
    return Likelihood(nats, tokens, all(x.greedy for x in likelihoods))


def _text_alone(want: Any) -> Any:
    """The referee of a question that belongs to no task of ours: answers are alike if their words are."""
    if isinstance(want, Canonical):
        return want.answer.strip()
    if isinstance(want, Check):
        raise ValueError("a checker needs one of the harness's own tasks; choose another way to select, such as logprob")
    return {}
