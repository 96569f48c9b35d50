"""chain_of_thought: worked lines before the answer, taught or prompted for, with the controls that tell what they are worth.

Knows the layout of a lesson and when lines are given rather than said; prompts are in `_prompting`, spoilt lines in `_lines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from harness.problem import SEP, Completion, Piece, Problem, Question, Special, Text
from harness.strategy import Strategy, setting
from harness.task import Task
from harness.wants import GREEDY, Holding, Likelihood, Row, Sampler, Saying, Solver, Start
from strategies._lines import check_cap, lines_behind, mean_over, taught_lines
from strategies._prompting import Settings, answer_of, answered, in_one_go, opened, talked, wording

TAUGHT = ("steps", "ask_steps", "force_after")  # settings of style=trained alone


@dataclass(frozen=True, kw_only=True)
class ChainOfThought(Strategy):
    """Chain of thought: worked lines, then the answer; taught (q z <sep> a <end>, all but q learnt) or prompted for.

    An answer is what follows the first <sep>; without one within the cap there is none. Styles other than ``trained``
    prompt in the words of `_prompts.toml`, and teach what direct teaches, if anything. Controls: ``steps`` in training, and
    ``ask_steps`` in asking only, where gold lines and the number of fillers are revealed: such records are marked oracle.
    """

    source = "Wei 2201.11903, Kojima 2205.11916, Nye 2112.00114 (scratchpads), Lee 2307.03381; budget forcing: s1 2501.19393"
    neutral: ClassVar[Mapping[str, Any]] = {"style": "trained", "steps": "none"}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"ask_steps": "gold"}, {"ask_steps": "shuffled"}, {"ask_steps": "filler"}, {"steps": "shuffled"}, {"steps": "filler"},
        {"force_after": 2},
    )  # fmt: skip
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"force_after": (0, 2, 4, 8, 16, 32, 64)}

    style: Literal["trained", "standard", "few_shot", "one_go", "zero_shot", "dialogue", "recall", "staged"] = setting(
        "trained",
        doc="trained to say lines (default if taught), or prompted: examples (of answers; worked; in one go), two stages, ..",
    )
    steps: Literal["gold", "none", "shuffled", "filler"] = setting(
        "gold", doc="taught lines: gold; none is direct; shuffled: their characters in disorder; filler: as many idle tokens"
    )
    ask_steps: Literal["own", "gold", "shuffled", "filler"] = setting(
        "own", when="ask", doc="when asked: its own lines, the key's (an oracle), its own in disorder, or idle tokens"
    )
    force_after: int | None = setting(None, when="ask", doc="budget forcing: <sep> after so many tokens", low=0, high=4096)
    cap_tokens: int | None = setting(None, when="ask", doc="most tokens of worked lines; none: the task's", low=1, high=65536)
    samples: int = setting(1, when="ask", doc="likelihoods: the mean probability over so many sampled lines", low=1, high=1024)
    temperature: float = setting(1.0, when="ask", doc="of those samples", low=0.0, high=10.0)
    shots: int = setting(4, when="ask", doc="standard, few_shot, one_go: examples of the train split", low=0, high=64)
    memory_tokens: int = setting(64, when="ask", doc="recall: most tokens of fetched examples", low=0, high=4096)
    between: int = setting(0, when="ask", doc="staged: dots between the steps", low=0, high=1024)

    @property
    def says_lines(self) -> bool:
        """Whether it is taught to say lines."""
        return self.style == "trained" and self.steps in ("gold", "shuffled")

    @property
    def plain(self) -> bool:
        """Whether it is direct."""
        return self.style == "trained" and self.steps == "none"

    def needs(self) -> frozenset[str]:
        """Worked lines, to teach or to show."""
        shown = ("worked_lines",) if self.style in ("trained", "few_shot", "one_go") else ()
        return frozenset() if self.plain else frozenset({"prompt", *shown})

    def suits(self, task: Task) -> None:
        """A cap must let the longest gold lines through."""
        check_cap(self.cap_tokens if self.says_lines else None, task)

    def untaught(self, task: Task, *, given: frozenset[str], key: str, whole: bool = False) -> Strategy:
        """Prompted: by worked examples where the task has some (in one go, where a search branches within), else without any."""
        if self.style != "trained" or self.plain:
            return self
        lines = "worked_lines" in task.offers()
        style: Literal["one_go", "few_shot", "zero_shot"] = ("one_go" if whole else "few_shot") if lines else "zero_shot"
        if named := given & {"style", *TAUGHT}:
            raise ValueError(
                f"{key}.{min(named)}: at style=trained it waits for <sep>, which a pretrained model that is taught nothing never "
                f"says; prompt it (legal here: {key}.style={style} and other styles than trained), or teach it (train.flops)"
            )
        return replace(self, style=style)

    def turned(self) -> Mapping[str, Sequence[Any]]:
        """Prompts are not forced to end."""
        return self.dials if self.style == "trained" else {}

    def wording(self) -> Sequence[str]:
        """The prompts' words."""
        return () if self.style == "trained" else wording(self.style)

    def sayable(self) -> tuple[Special, ...]:
        """<sep>, where it is taught to say it."""
        return (SEP,) if self.says_lines else ()

    def answer_mark(self) -> Special | None:
        """<sep>, unless lines or their end are given."""
        return SEP if self.says_lines and self.ask_steps == "own" and self.force_after is None else None

    def lessons(self, problem: Problem, *, progress: float, rng: Any) -> list[Text]:
        """q z <sep> a <end>; fillers and the <sep> behind them are given, not learnt."""
        (plain,) = super().lessons(problem, progress=progress, rng=rng)
        if self.style != "trained" or self.plain:
            return [plain]
        return [(plain[0], *taught_lines(self.steps, problem), Piece(SEP, "thought", self.says_lines), *plain[1:])]

    def read(self, completion: Completion) -> str | None:
        """What follows <sep>, or the last stage's words."""
        return super().read(completion) if self.style == "trained" else answer_of(self.style, completion)

    def _converses(self, question: Question) -> bool:
        """Whether it prompts: not for windows of documents, which ask nothing."""
        return self.style != "trained" and not question.window

    def start(self, question: Question) -> Solver[Row]:
        """The question, or the first words of a prompt."""
        if self._converses(question):
            return (yield from opened(Settings.of(self), question))
        row: Row = yield Start(self.prompt(question))
        return row

    def ready(self, question: Question) -> Solver[Row]:
        """The row behind greedy thinking."""
        return (yield from self._thought(question, (yield from self.start(question)), GREEDY))

    def saying(self, question: Question) -> Saying | None:
        """Its own lines and the answer in one go; None where lines are given, or a conversation is held."""
        if self._converses(question):
            return in_one_go(Settings.of(self), question)
        return None if self.answer_mark() is None and not self.plain else super().saying(question)

    def lines_cap_tokens(self, question: Question) -> int:
        """The setting's, or the task's."""
        return self.cap_tokens or question.lines_cap_tokens

    def attempt(self, question: Question, row: Row, sampler: Sampler) -> Solver[Completion]:
        """Its own lines and the answer in one completion; where lines are given, the answer alone."""
        if self._converses(question):
            return (yield from answered(Settings.of(self), question, row, sampler))
        if self.answer_mark() is None:  # given lines, or none
            row = yield from self._thought(question, row, sampler)
        return (yield from super().attempt(question, row, sampler))

    def holding(self, question: Question) -> Holding:
        """Samples side by side; given lines may be fillers, which are no text."""
        lines = 0 if self.plain or self.style != "trained" else self.lines_cap_tokens(question) + 1
        return Holding(self.samples, None if self._converses(question) else lines + question.answer_cap_tokens, lines)

    def score(self, question: Question, continuations: tuple[Text, ...]) -> Solver[list[Likelihood]]:
        """Log-likelihoods behind greedy lines, or of the mean probability over sampled ones."""
        if self.samples == 1 or self.plain:
            return (yield from super().score(question, continuations))
        row, sampler = (yield from self.start(question)), Sampler(self.temperature)
        return (yield from mean_over(self.samples, row, continuations, lambda r: self._thought(question, r, sampler)))

    def _thought(self, question: Question, row: Row, sampler: Sampler) -> Solver[Row]:
        """The started row behind lines, its own or given ones, and <sep>; or behind a prompt's stages."""
        if self._converses(question):
            answer = question.answer_cap_tokens
            return (yield from talked(Settings.of(self), question, row, sampler, answer_tokens=answer))[0]
        if self.plain or self.style != "trained":
            return row
        kind = self.ask_steps if self.says_lines else "filler"
        forced = self.force_after is not None and kind == "own"
        cap = self.force_after if forced else self.lines_cap_tokens(question)
        return (yield from lines_behind(kind, question, row, sampler, cap or 0))
