"""What an update is taught: problems -> lessons -> text tokens -> cells with targets.

The problems of update k are a function of task, seed and k alone, so every strategy meets the same ones. Documents become windows
of equal length, cut from the train documents joined by END, in a new random order each epoch. Knows no weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from harness.alphabet import Alphabet
from harness.backbone import Backbone
from harness.cells import Cells, lay, make_cells
from harness.meter import Bill, Price
from harness.problem import Key, Problem, Question, Special, Text, Tokens
from harness.sampling import barred
from harness.seeds import derive, generator
from harness.spec import DIRECT_BASELINE, RunSpec
from harness.strategy import PAUSE, THOUGHT, Strategy
from harness.stream import Stream, encode, tokens_of
from harness.task import Task

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """One update's cells, and what they hold: text tokens fed, woven tokens fed, distinct text tokens that are targets.

    look_flops: what looking at the texts first has cost, beside the cells' own bill (see `Strategy.revise`).
    """

    cells: Cells
    examples: int
    text_tokens: int
    woven_tokens: int
    supervised_tokens: int
    look_flops: int = 0

    @property
    def flops(self) -> int:
        """FLOPs that are booked so far: the first look and the passes over the cells."""
        return self.look_flops + self.cells.bill.total_flops


@dataclass(frozen=True, slots=True)
class Share:
    """Which texts of an update one of several ranks is taught, and in how many parts one after another."""

    rank: int = 0
    ranks: int = 1
    parts: int = 1

    def slices(self, texts: int) -> list[slice]:
        """Each part's texts, of so many: none is empty. ValueError if there are fewer than ranks."""
        if texts < self.ranks:
            raise ValueError(
                f"train.problems_per_update: an update of {texts} texts cannot be shared among {self.ranks} processes; "
                "set it higher, or launch fewer"
            )
        parts = min(self.parts, texts // self.ranks)
        ends = [texts * n // (self.ranks * parts) for n in range(self.rank * parts, (self.rank + 1) * parts + 1)]
        return [slice(start, end) for start, end in itertools.pairwise(ends)]


WHOLE = Share()


class Look:
    """What `Strategy.revise` may find out about an update's texts. flops: what looking has cost."""

    def __init__(self, strategy: Strategy, backbone: Backbone, context_tokens: int) -> None:
        self._strategy, self._backbone, self.context_tokens = strategy, backbone, context_tokens
        self.flops = 0

    def tokens(self, texts: Sequence[Text]) -> list[Text]:
        """The same texts, a piece for each token."""
        return tokens_of(texts, self._backbone.alphabet)

    @torch.no_grad()
    def confidences(self, texts: Sequence[Text], *, without: tuple[Special, ...] = ()) -> list[NDArray[np.float64]]:
        """Of each text, for each of its tokens (n,), the chance of the most probable next token there.

        By the model as it is, in one forward pass that the update pays for; NaN where no target follows. without: specials
        whose chance is shared out among the others.
        """
        backbone, alphabet = self._backbone, self._backbone.alphabet
        stream = encode(texts, alphabet)
        batch = make_batch(
            self._strategy, alphabet, stream, len(texts), device=backbone.device, context_tokens=self.context_tokens
        )
        cells = batch.cells
        logits = self._strategy.readout(backbone, self._strategy.forward(backbone, cells, None), cells.reads)
        self.flops += cells.bill.total_flops
        ids = np.array([i for s in without for i in alphabet.ids_of(s)], dtype=np.int64)
        columns = alphabet.head_columns(ids, self._strategy.sayable())
        top = torch.softmax(barred(logits.float(), columns[columns >= 0].tolist()), -1).amax(-1)
        first = np.unique(cells.reads.group.cpu().numpy(), return_index=True)[1]
        row, place = (x[cells.reads.cells[first]] for x in (cells.layout.row, cells.layout.place))
        found = [np.full(int((stream.row == r).sum()), np.nan) for r in range(len(texts))]
        for r, p, chance in zip(row.tolist(), place.tolist(), top.tolist(), strict=True):
            found[r][p] = chance
        return found


class Feed:
    """Batches of one training phase.

    context_tokens: the most text tokens that a lesson may have. epoch_tokens: tokens of unique text, None where problems never
    end.
    """

    def __init__(self, *, task: Task, alphabet: Alphabet, seed: int, problems_per_update: int, context_tokens: int) -> None:
        self._task, self._alphabet, self._seed = task, alphabet, seed
        self._count, self._context_tokens = problems_per_update, context_tokens
        self._of_documents = task.taught_as == "documents"
        self._met: _Windows | None = None
        if task.kind == "documents":
            self._windows()  # what is wrong is said at once; requests may have no train documents, if nothing is taught

    def _windows(self) -> _Windows:
        if self._met is None:
            self._met = _Windows(self._task, self._alphabet, self._seed, self._context_tokens)
        return self._met

    @property
    def epoch_tokens(self) -> int | None:
        """Tokens of unique text (documents only)."""
        return None if self._met is None else len(self._met.ids)

    def problems(self, update: int, *, lines: bool) -> Sequence[Problem]:
        """The problems of update ``update`` (from 0)."""
        start = update * self._count
        if self._of_documents:
            return [self._windows().problem(i) for i in range(start, start + self._count)]
        return self._task.problems("train", seed=self._seed, start=start, count=self._count, lines=lines)

    def batch(
        self, strategy: Strategy, update: int, *, progress: float, device: torch.device, backbone: Backbone | None = None
    ) -> Batch:
        """The cells of one update under a strategy. backbone: the model that it teaches, for strategies that revise."""
        (whole,) = self.parts(strategy, update, progress=progress, device=device, backbone=backbone)
        return whole

    def parts(
        self,
        strategy: Strategy,
        update: int,
        *,
        progress: float,
        device: torch.device,
        backbone: Backbone | None = None,
        share: Share = WHOLE,
    ) -> list[Batch]:
        """The cells of a share of an update's texts, in parts. What looking has cost is booked once, on the first part of all."""
        rng = generator(self._seed, "lessons", update)
        problems = self.problems(update, lines="worked_lines" in strategy.needs())
        texts = [text for p in problems for text in strategy.lessons(p, progress=progress, rng=rng)]
        look_flops = 0
        if type(strategy).revise is not Strategy.revise:
            assert backbone is not None, "a strategy that revises its texts looks at them with its model"
            look = Look(strategy, backbone, self._context_tokens)
            texts = strategy.revise(texts, look, rng)
            look_flops = look.flops
        draw, batches = derive(self._seed, "draw", update), []
        for some in (texts[part] for part in share.slices(len(texts))):
            batch = make_batch(
                strategy, self._alphabet, encode(some, self._alphabet), len(some),
                device=device, context_tokens=self._context_tokens, draw=draw,
            )  # fmt: skip
            batches.append(batch)
        if share.rank == 0 and look_flops:
            batches[0] = replace(batches[0], look_flops=look_flops)
        return batches


def make_feed(spec: RunSpec, backbone: Backbone) -> Feed:
    """The feed of a run's last training phase."""
    return Feed(
        task=spec.task,
        alphabet=backbone.alphabet,
        seed=spec.seed,
        problems_per_update=spec.train.problems_per_update,
        context_tokens=backbone.context_tokens,
    )


def make_batch(
    strategy: Strategy,
    alphabet: Alphabet,
    stream: Stream,
    rows: int,
    *,
    device: torch.device,
    context_tokens: int,
    draw: int | None = None,
) -> Batch:
    """Lay out whole texts for training. What stands behind a text's last target is not fed: nothing is read there.

    An inserted-only special that is a target is looked through: the token before it is taught the text token behind it.
    """
    longest = int(stream.places.max(initial=0)) + 1
    if longest > context_tokens + 1:
        raise ValueError(f"a text of {longest} tokens is longer than the context of {context_tokens} (model.context_tokens)")
    following = np.concatenate([stream.row[1:] == stream.row[:-1], [False]])
    is_target = np.concatenate([stream.target[1:], [False]]) & following
    supervised = int((is_target[:-1] & (stream.ids[1:] < alphabet.sayable_end)).sum())
    ahead = _next_text(stream, alphabet.sayable_end)
    is_target &= ahead >= 0
    next_ids = np.full(len(stream.ids), -1, dtype=np.int64)
    next_ids[is_target] = alphabet.head_columns(stream.ids[ahead[is_target]], strategy.sayable())
    if (next_ids[is_target] < 0).any():
        raise ValueError("a lesson's target is a special token that the strategy cannot say: name it in sayable()")
    last = np.full(rows, -1, dtype=np.int64)
    last[stream.row[is_target]] = np.flatnonzero(is_target)
    fed = np.arange(len(stream.ids)) <= last[stream.row]
    shown = stream.take(fed)
    final = np.zeros(len(fed), dtype=bool)
    final[last[last >= 0]] = True
    nothing = np.zeros(len(shown.ids), dtype=bool)
    layout = lay(strategy, alphabet, shown, before=np.zeros(rows, dtype=np.int64), carried=nothing, final=final[fed])
    zeros = np.zeros(len(layout.index), dtype=np.int64)
    bill = Bill(accounts=zeros, classes=zeros, cells_so_far=layout.index + 1, n_accounts=1)
    cells = make_cells(layout, bill=bill, device=device, next_ids=next_ids[fed], draw=draw)
    woven = int(((layout.kind == THOUGHT) | (layout.kind == PAUSE)).sum())
    return Batch(cells, rows, len(layout.index) - woven, woven, supervised)


def _next_text(stream: Stream, sayable_end: int) -> IntArray:
    """Index (n,) of the next token of the same row that is no inserted-only special, or -1."""
    count = len(stream.ids)
    own = np.where(stream.ids < sayable_end, np.arange(count), count)
    ahead = np.concatenate([np.minimum.accumulate(own[::-1])[::-1][1:], [count]])[:count]
    row = np.concatenate([stream.row, [-1]])
    found: IntArray = np.where(row[ahead] == stream.row, ahead, -1)
    return found


def direct_flops(batch: Batch, price: Price, *, outputs: int) -> int:
    """Forward FLOPs of plain training on a batch laid out by the baseline."""
    blocks = price.blocks(batch.cells.layout.index + 1).sum()
    return int(blocks) + price.head(outputs) * len(batch.cells.reads.cells)


def baseline_batch(feed: Feed, update: int) -> Batch:
    """The batch that plain training would meet at this update."""
    return feed.batch(DIRECT_BASELINE, update, progress=0.0, device=torch.device("cpu"))


class _Windows:
    """Windows of ``window_tokens`` targets over the joined train documents."""

    def __init__(self, task: Task, alphabet: Alphabet, seed: int, context_tokens: int) -> None:
        self._seed, self._length = seed, task.window_tokens
        if self._length > context_tokens:
            raise ValueError(f"task.window_tokens: {self._length} is longer than the context of {context_tokens} tokens")
        end = np.array([alphabet.end_id], dtype=np.int64)
        parts = [part for document in task.documents("train") for part in (end, alphabet.encode(document.text))]
        self.ids: IntArray = np.concatenate([*parts, end])
        self._per_epoch = (len(self.ids) - 1) // self._length
        if self._per_epoch < 2:
            raise ValueError(f"task: the train text has {len(self.ids)} tokens, less than two windows of {self._length}")
        self._order: tuple[int, int, IntArray] = (-1, 0, np.zeros(0, dtype=np.int64))

    def problem(self, index: int) -> Problem:
        """Window ``index`` of the endless stream."""
        epoch, within = divmod(index, self._per_epoch)
        if self._order[0] != epoch:
            rng = generator(self._seed, "windows", epoch)
            self._order = (epoch, int(rng.integers(len(self.ids) - 1)), rng.permutation(self._per_epoch))
        _, offset, order = self._order
        start = offset + int(order[within]) * self._length
        circle = self.ids[:-1]  # the text ends as it begins, so windows may run over its end: each token once, none favoured
        ids = circle.take(np.arange(start, start + self._length + 1), mode="wrap").tolist()
        question = Question(f"window-{index}", Tokens((ids[0],)), window=True)
        return Problem(question, Key(Tokens(tuple(ids[1:])), (), False))
