"""Checks, before anything is trained, that a model can hold and spell the texts that a run teaches and asks.

An error names where the problem comes from (`Task.origin`: a file and its line) and what to do. Knows tasks, strategies and
alphabets; runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from harness import registry
from harness.alphabet import Alphabet
from harness.examination import asked_problems, gold_text, library_of
from harness.inquiries import asked_inquiries
from harness.learners import learner_alphabet
from harness.problem import Piece, Problem, Question, Special, Text, Tokens
from harness.rehearsal import Rehearsal, Stretch
from harness.seeds import generator
from harness.spec import Phase, RunSpec
from harness.strategy import Strategy
from harness.task import Task
from harness.values import problems_of
from harness.wants import Examples
from harness.weights import context_of

MADE_LESSONS, LONGEST = 500, 100  # of a task that makes its problems: the first ones, and of them the longest
LOSSLESS = ("bytes", "gpt2", "bpe:")  # alphabets that can spell every text
NAMED = 3  # further places that an error names


def check_before_training(spec: RunSpec, alphabets: MutableMapping[str, Alphabet] | None = None) -> None:
    """ValueError if a run would teach or ask what its model cannot hold or spell. alphabets: of other runs, by their names."""
    wanted = spec.alphabet
    lossless = wanted.startswith(LOSSLESS)
    taught = [phase for phase in (spec.pretraining, spec.phase) if phase is not None and phase.train.flops > 0]
    if lossless and spec.task.kind != "questions" and all(phase.task.taught_as == "documents" for phase in taught):
        return
    alphabet = None if alphabets is None or wanted.startswith("bpe:") else alphabets.get(wanted)
    if alphabet is None:
        alphabet = learner_alphabet(spec, None)
        if alphabets is not None:
            alphabets[wanted] = alphabet
    check_data(spec, alphabet, context_of(spec.model))


def check_data(spec: RunSpec, alphabet: Alphabet, context_tokens: int) -> None:
    """The same, with the run's alphabet and the text tokens of its context."""
    ruler = Ruler(alphabet, context_tokens, own_context=spec.model.path is None)
    for phase in (spec.pretraining, spec.phase):
        if phase is not None and phase.train.flops > 0:
            _check_lessons(spec, phase, ruler)
    if spec.task.kind == "questions":
        _check_asked(spec, [*asked_problems(spec), *_valued(spec)], ruler)
    elif not alphabet.spec.startswith(LOSSLESS):
        ruler.check_spelling(spec.task, _given_texts(spec))


def check_question(spec: RunSpec, question: Question, alphabet: Alphabet, context_tokens: int) -> None:
    """ValueError if a question that somebody typed does not fit."""
    ruler = Ruler(alphabet, context_tokens, own_context=False)
    rehearsal = Rehearsal(partial(_supplied, library_of(spec), ()), ruler.count)
    rehearsal.follow(spec.strategy.solve(question))
    needed = ruler.needed(rehearsal)
    if needed > context_tokens:
        raise ValueError(
            f"QUESTION: it takes {needed:,} tokens as it is asked, and the context has {context_tokens:,}; shorten it"
        )


class Ruler:
    """A measure of texts in tokens. own_context: whether the user can give the model a longer context."""

    def __init__(self, alphabet: Alphabet, context_tokens: int, *, own_context: bool) -> None:
        self._alphabet, self._context, self._own_context = alphabet, context_tokens, own_context
        self._lengths: dict[str, int] = {}
        self.lossless = alphabet.spec.startswith(LOSSLESS)

    def check_lengths(self, task: Task, rehearsals: Iterable[tuple[Problem, Rehearsal]], does: str) -> None:
        """ValueError that names the problems of which a text is longer than the context. does: who does what with them."""
        long = [(problem, rehearsal) for problem, rehearsal in rehearsals if self._roughly(rehearsal) > self._context]
        found = [(problem, rehearsal) for problem, rehearsal in long if self.needed(rehearsal) > self._context]
        if found:
            wanted = [self.needed(rehearsal, bounded=False) for _, rehearsal in found]
            tokens, most = wanted[0], max(wanted)
            cure = f"use --set model.context_tokens={most}" if self._own_context else "take a model with a longer context"
            places = [task.origin(problem.question.id) for problem, _ in found]
            mend = "shorten it or leave it out, " if task.data_rows("train") else ""
            raise ValueError(
                f"{places[0]}: this takes {tokens:,} tokens as {does}, and the context has {self._context:,}; "
                f"{mend}let the strategy add less to it, or {cure}{_others(places)}"
            )

    def check_spelling(self, task: Task, texts: Iterable[tuple[str, str]]) -> None:
        """ValueError that names a text (its problem's or document's id, and itself) that the alphabet cannot spell."""
        pairs = list(texts)
        try:
            self._spelled([text for _, text in pairs])
        except ValueError:
            for identity, text in pairs:
                try:
                    self._spelled([text])
                except ValueError as error:
                    raise ValueError(f"{task.origin(identity)}: {error}; change it, or leave it out") from None
            raise

    def check_answers(self, task: Task, problems: Sequence[Problem]) -> None:
        """ValueError that names a problem whose right answer is no longer right once it is put into tokens."""
        for problem in problems:
            answer = problem.key.answer
            if not isinstance(answer, str) or self._alphabet.spec.startswith("chars:"):
                continue
            said = "".join(str(piece) for piece in self._alphabet.pieces(self._alphabet.encode(answer).tolist()))
            if said.strip() != answer.strip() and task.grade(problem, said) < task.grade(problem, answer):
                raise ValueError(
                    f"{task.origin(problem.question.id)}: the answer {answer!r} reads {said!r} in the model's tokens, which is "
                    "not right; change it, leave it out, or choose another alphabet (--set model.alphabet=bytes)"
                )

    def count(self, text: str) -> int:
        """Tokens of a text."""
        if text not in self._lengths:
            self._lengths[text] = len(self._alphabet.encode(text))
        return self._lengths[text]

    def needed(self, rehearsal: Rehearsal, *, bounded: bool = True) -> int:
        """The most text tokens that must fit into the context at once. bounded: a model says what the context has room for."""
        self._measure(rehearsal)
        return self._most(rehearsal, self._lengths.__getitem__, bounded=bounded)

    def _roughly(self, rehearsal: Rehearsal) -> int:
        """No less than `needed`, without encoding anything: a byte is a token at most."""
        return self._most(rehearsal, _bytes, bounded=True)

    def _most(self, rehearsal: Rehearsal, length: Callable[[str], int], *, bounded: bool) -> int:
        fed, read = ([self._length(row, length, bounded) for row in rows] for rows in (rehearsal.fed, rehearsal.read))
        return len(self._alphabet.bos_ids) + max((*fed, *(tokens - 1 for tokens in read)), default=0)

    def _length(self, row: tuple[Stretch, ...], length: Callable[[str], int], bounded: bool) -> int:
        total = 0
        for stretch in row:
            if isinstance(stretch, int):
                total = max(total, min(total + stretch, self._context)) if bounded else total + stretch
            else:
                total += sum(self._piece(piece.content, length) for piece in stretch)
        return total

    def _piece(self, content: str | Special | Tokens, length: Callable[[str], int]) -> int:
        if isinstance(content, str):
            return length(content)
        if isinstance(content, Tokens):
            return len(content.ids)
        return int(self._alphabet.id_of(content) < self._alphabet.sayable_end)  # inserted ones take no place

    def _measure(self, rehearsal: Rehearsal) -> None:
        """Encode the texts that were not met yet, all at once."""
        stretches = (stretch for row in (*rehearsal.fed, *rehearsal.read) for stretch in row if not isinstance(stretch, int))
        contents = {piece.content for stretch in stretches for piece in stretch}
        fresh = [content for content in contents if isinstance(content, str) and content not in self._lengths]
        _, lengths = self._alphabet.encode_many(fresh)
        self._lengths |= dict(zip(fresh, lengths.tolist(), strict=True))

    def _spelled(self, texts: Sequence[str]) -> None:
        ids, _ = self._alphabet.encode_many(texts)
        unknown = self._alphabet.unknown_id
        if unknown is not None and (ids == unknown).any():
            raise ValueError("it holds characters for which the tokenizer has no token")


def _check_lessons(spec: RunSpec, phase: Phase, ruler: Ruler) -> None:
    """The problems that a phase of training teaches."""
    task, strategy = phase.task, phase.strategy.learner()
    if task.taught_as == "documents":
        if spec.alphabet.startswith(LOSSLESS):
            return
        return ruler.check_spelling(task, ((document.id, document.text) for document in task.documents("train")))
    lines = "worked_lines" in strategy.needs()
    count = task.data_rows("train") or MADE_LESSONS
    problems = task.problems("train", seed=spec.seed, start=0, count=count, lines=lines)
    _check_problems(task, strategy, problems, ruler)
    ruler.check_lengths(
        task, _lessons(spec, strategy, _longest(task, problems)), f"{registry.plugin_name(strategy)} is taught it"
    )


def _lessons(spec: RunSpec, strategy: Strategy, problems: Sequence[Problem]) -> Iterator[tuple[Problem, Rehearsal]]:
    """Each problem's lessons, at the beginning and at the end of training."""
    rng = generator(spec.seed, "lessons", 0)
    for problem in problems:
        texts = [text for progress in (0.0, 1.0) for text in strategy.lessons(problem, progress=progress, rng=rng)]
        yield problem, Rehearsal(lambda want: (), read=[(text,) for text in texts])


def _check_asked(spec: RunSpec, problems: Sequence[Problem], ruler: Ruler) -> None:
    """The problems that a run asks."""
    _check_problems(spec.task, spec.strategy, problems, ruler)
    does = f"{registry.plugin_name(spec.strategy)} asks it, with what is said before the right answer"
    ruler.check_lengths(spec.task, _rehearsals(spec, _longest(spec.task, problems), ruler), does)


def _longest(task: Task, problems: Sequence[Problem]) -> Sequence[Problem]:
    """Those that are measured: all where they are data, else the longest, with their worked lines and without."""
    if len(problems) <= LONGEST or task.data_rows("test"):
        return problems
    bare = [len(str(problem.question.text)) + len(str(problem.key.answer)) for problem in problems]
    lined = [tokens + sum(map(len, problem.key.lines)) for tokens, problem in zip(bare, problems, strict=True)]
    kept = {at for sizes in (bare, lined) for at in sorted(range(len(problems)), key=lambda i: -sizes[i])[:LONGEST]}
    return [problems[at] for at in sorted(kept)]


def _rehearsals(spec: RunSpec, problems: Sequence[Problem], ruler: Ruler) -> Iterator[tuple[Problem, Rehearsal]]:
    """Each problem solved and its key scored, as far as that can be told."""
    strategy, examples = spec.strategy, library_of(spec)
    for problem in problems:
        question, gold = problem.question, gold_text(problem)
        rehearsal = Rehearsal(partial(_supplied, examples, problem.key.lines), ruler.count)
        rehearsal.follow(strategy.solve(question))
        before = len(rehearsal.fed)
        whole, _ = rehearsal.follow(strategy.score(question, (gold,)))
        if not whole and len(rehearsal.fed) > before:  # the key stands no nearer than behind the first text
            rehearsal.read.append((*rehearsal.fed[before], gold))
        said = strategy.learner().saying(question)
        if said is not None and said.mark is not None and rehearsal.fed:  # the right way must have room, not any longer one
            lines: Text = (Piece(said.joint.join(problem.key.lines), "thought"), Piece(said.mark, "thought"))
            rehearsal.read.append((*rehearsal.fed[0], lines, gold))
        yield problem, rehearsal


def _supplied(examples: Callable[[Examples], Any], lines: tuple[str, ...], want: Any) -> Any:
    return examples(want) if isinstance(want, Examples) else lines


def _check_problems(task: Task, strategy: Strategy, problems: Sequence[Problem], ruler: Ruler) -> None:
    """Check taught and asked problems alike: worked lines where they are needed, and texts that can be spelled."""
    if "worked_lines" in strategy.needs():
        bare = [task.origin(problem.question.id) for problem in problems if not problem.key.lines]
        if bare:
            name = registry.plugin_name(strategy)
            raise ValueError(f"{bare[0]}: no worked lines, which {name} needs; add them, or leave it out{_others(bare)}")
    if not ruler.lossless:
        ruler.check_spelling(task, _texts(problems))
        ruler.check_answers(task, problems)


def _texts(problems: Iterable[Problem]) -> Iterator[tuple[str, str]]:
    for problem in problems:
        for content in (problem.question.text, problem.key.answer, *problem.key.lines):
            if isinstance(content, str):
                yield problem.question.id, content


def _given_texts(spec: RunSpec) -> Iterator[tuple[str, str]]:
    """Documents that are asked, or the texts of requests."""
    if spec.task.kind == "documents":
        yield from (
            (document.id, document.text) for document in islice(spec.task.documents(spec.infer.split), spec.infer.problems)
        )
        return
    for inquiry in asked_inquiries(spec):
        for request in inquiry.requests:
            yield from ((inquiry.id, text) for text in request.args if isinstance(text, str))


def _valued(spec: RunSpec) -> list[Problem]:
    """Problems that a value model is fitted on and checked on."""
    if spec.strategy.value_spec() is None:
        return []
    return [problem for problems in problems_of(spec).values() for problem in problems]


def _others(places: Sequence[str]) -> str:
    """The further places of an error."""
    more = len(places) - 1 - NAMED
    named = ", ".join(places[1 : 1 + NAMED])
    return f" (also {named}{f' and {more:,} more' if more > 0 else ''})" if named else ""


def _bytes(text: str) -> int:
    """A byte more: some tokenizers put a blank before a text."""
    return len(text.encode("utf-8", "surrogatepass")) + 1
