"""Solvers that are run without a model feed what they would feed, with everything that is said at its longest."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from harness.problem import Piece, Text
from harness.rehearsal import Rehearsal
from harness.wants import Drop, Examples, Extend, Fork, Gather, Generate, Mark, Note, Peek, Reveal, Rewind, Row, Score, Start

A, B, C = ((Piece(letter, "prompt"),) for letter in "abc")


def test_every_stretch_of_every_row_is_told() -> None:
    def solver() -> Generator[Any, Any, str]:
        row = yield Start(A)
        said = yield Generate(row, 7)
        assert said.pieces == () and said.stop == "end"
        mark = yield Mark(row)
        row = yield Extend(row, B)
        (likelihood, other) = yield Score(row, (A, C))
        assert likelihood.tokens and other.tokens
        row = yield Rewind(row, mark)
        first, second = yield Fork(row, 2)
        yield Drop(first)
        yield Note("name", [1.0])
        yield Extend(second, C)
        yield Extend(row, C)
        return "done"

    rehearsal = Rehearsal(lambda want: ())
    assert rehearsal.follow(solver()) == (True, "done")
    assert rehearsal.fed == [(A,), (A, 7, B), (A, 7, C), (A, 7, C)]
    assert rehearsal.read == [(A, 7, B, A), (A, 7, B, C)]


def test_examples_and_revealed_lines_are_supplied() -> None:
    asked: list[Any] = []

    def supplies(want: Any) -> Any:
        asked.append(want)
        return ("line",) if isinstance(want, Reveal) else ()

    def solver() -> Generator[Any, Any, tuple[Any, Any]]:
        return (yield Examples(3)), (yield Reveal("lines"))

    assert Rehearsal(supplies).follow(solver()) == (True, ((), ("line",))) and len(asked) == 2


def test_solvers_side_by_side_do_alike() -> None:
    begun = []

    def one(row: Row, text: Text) -> Generator[Any, Any, Text]:
        begun.append(text)
        yield Extend(row, text)
        return text

    def solver() -> Generator[Any, Any, Any]:
        rows = yield Fork((yield Start(A)), 3)
        return (yield Gather(tuple(one(row, B) for row in rows)))

    rehearsal = Rehearsal(lambda want: ())
    assert rehearsal.follow(solver()) == (True, [B, B, B]) and begun == [B]
    assert rehearsal.fed == [(A,), (A, B)]


def test_it_ends_where_a_model_is_needed() -> None:
    ended = []

    def solver() -> Generator[Any, Any, None]:
        row = yield Start(A)
        try:
            yield Peek(row, 1)
        finally:
            ended.append(True)

    rehearsal = Rehearsal(lambda want: ())
    assert rehearsal.follow(solver()) == (False, None) and ended == [True] and rehearsal.fed == [(A,)]
    assert Rehearsal(lambda want: ()).follow(iter_of(Gather((solver(),)))) == (False, None)


def iter_of(want: Any) -> Generator[Any, Any, Any]:
    return (yield want)
