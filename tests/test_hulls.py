"""Hulls by hand, against every coin between two points, and what no hull may do."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hulls import Hull, Point, hull, pareto
from harness.plots import told_apart

FLOPS = st.one_of(st.integers(0, 20).map(float), st.integers(0, 10**18).map(lambda sevenths: sevenths / 7))
SCORES = st.one_of(st.integers(0, 10).map(lambda tenth: tenth / 10), st.floats(-5, 5))


@st.composite
def clouds(draw: st.DrawFn) -> list[Point]:
    """Up to 9 points with ties in FLOPs, in scores and in both."""
    pairs = draw(st.lists(st.tuples(FLOPS, SCORES), min_size=1, max_size=9))
    return [Point(flops=flops, score=score, name=f"p{i}") for i, (flops, score) in enumerate(pairs)]


def points_of(text: str) -> list[Point]:
    """'a 1 0.2, b 2 0.5': name, FLOPs, score."""
    rows = (row.split() for row in text.split(","))
    return [Point(name=name, flops=float(flops), score=float(score)) for name, flops, score in rows]


def mirrored(points: list[Point]) -> list[Point]:
    """The same points where lower is better."""
    return [Point(flops=p.flops, score=-p.score, name=p.name) for p in points]


def names(found: Hull) -> str:
    """Of the corners, cheapest first."""
    return "".join(point.name for point in found.corners)


EXAMPLE = points_of("a 10 0.2, b 20 0.6, c 30 0.5, d 40 0.7, e 60 0.9, f 80 0.9, g 90 0.1")


def test_a_hull_by_hand() -> None:
    """The line from b to e runs above d; c, f and g are dearer than something no worse."""
    found = hull(EXAMPLE, higher_is_better=True)
    assert names(found) == "abe"
    mixture = found.at(50)
    assert mixture is not None and (mixture.cheap.name, mixture.dear.name) == ("b", "e")
    assert mixture.dear_share == 0.75 and mixture.score == pytest.approx(0.825) and mixture.flops == 50
    assert pareto(EXAMPLE, higher_is_better=True) == ("a", "b", "d", "e")


def test_where_lower_is_better_the_hull_is_the_mirror_image() -> None:
    """Nats fall; the cheapest point starts it, bad as it is."""
    points = points_of("a 10 3.0, b 20 2.0, c 30 1.9, d 40 1.0, e 50 1.5")
    found = hull(points, higher_is_better=False)
    assert names(found) == "abd" and pareto(points, higher_is_better=False) == ("a", "b", "c", "d")
    mixture = found.at(35)
    assert mixture is not None and mixture.score == pytest.approx(1.25)


def test_outside_the_corners() -> None:
    """Below the cheapest it is infeasible; beyond the last nothing more is spent; on a corner no coin is needed."""
    found = hull(EXAMPLE, higher_is_better=True)
    assert found.at(9.999) is None
    for flops, name in ((10, "a"), (20, "b"), (60, "e"), (1e30, "e"), (math.inf, "e")):
        mixture = found.at(flops)
        assert mixture is not None and mixture.cheap == mixture.dear and mixture.dear_share == 0
        assert mixture.cheap.name == name and mixture.flops == mixture.cheap.flops and mixture.score == mixture.cheap.score


def test_a_coin_from_validation_is_applied_to_a_seed() -> None:
    """Scores and FLOPs alike, by name; other points' values are of no matter."""
    mixture = hull(EXAMPLE, higher_is_better=True).at(30)
    assert mixture is not None and mixture.dear_share == 0.25
    assert mixture.applied({"b": 0.4, "e": 0.8, "a": 9.0}) == pytest.approx(0.5)
    assert mixture.applied({"b": 22.0, "e": 58.0}) == pytest.approx(31.0)
    with pytest.raises(ValueError, match="point e"):
        mixture.applied({"b": 0.4})


def test_points_on_a_line_need_no_coin() -> None:
    """The middle one is kept, and of equal points the first by name."""
    points = points_of("z 2 0.25, a 1 0.125, y 2 0.25, c 3 0.375")
    found = hull(points, higher_is_better=True)
    assert names(found) == "ayc" and pareto(points, higher_is_better=True) == ("a", "y", "z", "c")
    mixture = found.at(2)
    assert mixture is not None and mixture.dear_share == 0


@pytest.mark.parametrize("flops, score", [(-1.0, 0.5), (math.nan, 0.5), (math.inf, 0.5), (1.0, math.nan), (1.0, -math.inf)])
def test_what_is_no_point(flops: float, score: float) -> None:
    """The line names the point."""
    with pytest.raises(ValueError, match="point odd"):
        Point(flops=flops, score=score, name="odd")


def test_what_is_no_hull() -> None:
    """No points, names given twice, and a place that is no number."""
    for points, line in (([], "no points"), (points_of("a 1 0.1, b 1 0.2, a 2 0.3"), "share a name: a;")):
        for function in (hull, pareto):
            with pytest.raises(ValueError, match=line):
                function(points, higher_is_better=True)
    with pytest.raises(ValueError, match="NaN"):
        hull(EXAMPLE, higher_is_better=True).at(math.nan)


@given(clouds(), st.floats(0, 1))
def test_the_hull_is_the_best_coin_of_all(points: list[Point], place: float) -> None:
    """At any FLOPs no point that can be paid, and no coin between two points, scores more; the FLOPs are exact."""
    cheapest, dearest = min(p.flops for p in points), max(p.flops for p in points)
    flops = cheapest + place * (dearest - cheapest)
    found = hull(points, higher_is_better=True)
    best = found.at(flops)
    assert best is not None and 0 <= best.dear_share <= 1
    assert best.flops == pytest.approx(min(flops, found.corners[-1].flops), rel=1e-12, abs=1e-300)
    scores = [p.score for p in points if p.flops <= flops]
    for a, b in product(points, points):
        if a.flops < flops < b.flops:
            share = (flops - a.flops) / (b.flops - a.flops)
            scores.append((1 - share) * a.score + share * b.score)
    assert best.score == pytest.approx(max(scores), abs=1e-9)


@given(clouds())
def test_a_hull_rises_ever_less_steeply(points: list[Point]) -> None:
    """Concave, and increasing in FLOPs and in score; made of points on the front."""
    corners = hull(points, higher_is_better=True).corners
    steps = [(b.flops - a.flops, b.score - a.score) for a, b in pairwise(corners)]
    assert all(flops > 0 and score > 0 for flops, score in steps)
    assert all(after[1] * before[0] <= before[1] * after[0] * (1 + 1e-9) for before, after in pairwise(steps))
    assert {p.name for p in corners} <= set(pareto(points, higher_is_better=True))


@given(clouds())
def test_the_front_is_what_nothing_dominates(points: list[Point]) -> None:
    """Pair by pair; the hull starts at the least FLOPs and ends at the best score."""

    def dominates(a: Point, b: Point) -> bool:
        return a.flops <= b.flops and a.score >= b.score and (a.flops, a.score) != (b.flops, b.score)

    front = {b.name for b in points if not any(dominates(a, b) for a in points)}
    assert set(pareto(points, higher_is_better=True)) == front
    corners = hull(points, higher_is_better=True).corners
    assert corners[0].flops == min(p.flops for p in points) and corners[-1].score == max(p.score for p in points)


@given(clouds(), st.data())
def test_a_dominated_point_and_the_order_change_nothing(points: list[Point], data: st.DataObject) -> None:
    """Nor does turning all scores around."""
    found = hull(points, higher_is_better=True)
    worse = data.draw(st.sampled_from(points))
    added = Point(flops=worse.flops + data.draw(FLOPS), score=worse.score - data.draw(st.floats(0, 1)), name="zz")
    assert hull(data.draw(st.permutations([*points, added])), higher_is_better=True) == found
    assert names(hull(mirrored(points), higher_is_better=False)) == names(found)


def test_a_front_is_drawn_where_it_can_be_seen() -> None:
    """A point that is cheaper by a hair than a far better one is not circled."""
    assert told_apart([(1000, 0.2), (1000.5, 0.39), (1008, 0.4), (1100, 0.41)]) == [(1008, 0.4), (1100, 0.41)]
    assert told_apart([(1.0, 0.2), (1.0, 0.2)]) == [(1.0, 0.2)] and told_apart([(1.0, 3.0)]) == [(1.0, 3.0)]
