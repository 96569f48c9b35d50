"""What a strategy's points reach at any FLOPs in between, when a coin may choose between two of them.

Knows points (mean realised FLOPs, score, name), the front of those worth their price and the concave hull over it; knows no
strategy, record or seed. A hull is laid over validation scores; the coin that it gives is then applied to a seed's test scores.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting of the dials: its mean realised FLOPs and its score. ValueError on what is no number, or below 0 FLOPs."""

    flops: float
    score: float
    name: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.flops) and self.flops >= 0):
            raise ValueError(f"point {self.name}: flops is {self.flops}; give the mean realised FLOPs, finite and not negative")
        if not math.isfinite(self.score):
            raise ValueError(f"point {self.name}: score is {self.score}; leave out points that have no score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A coin a problem: the dear point with probability `dear_share`, else the cheap one. A point alone is both, with share 0."""

    cheap: Point
    dear: Point
    dear_share: float

    @property
    def flops(self) -> float:
        """The mean FLOPs that are spent."""
        return self.applied({self.cheap.name: self.cheap.flops, self.dear.name: self.dear.flops})

    @property
    def score(self) -> float:
        """The score on the data that the hull was laid over."""
        return self.applied({self.cheap.name: self.cheap.score, self.dear.name: self.dear.score})

    def applied(self, values: Mapping[str, float]) -> float:
        """The same coin's mean of other values of the two points, by name: a seed's scores, or its FLOPs."""
        for point in (self.cheap, self.dear):
            if point.name not in values:
                raise ValueError(f"no value for point {point.name}, which the mixture uses; run it for this seed too")
        return (1 - self.dear_share) * values[self.cheap.name] + self.dear_share * values[self.dear.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hull:
    """The corners, cheapest first: each scores better than the one before, and each step pays less per FLOP than the last."""

    corners: tuple[Point, ...]

    def at(self, flops: float) -> Mixture | None:
        """The best mixture that spends `flops`, or less beyond the last corner. None below the cheapest point: infeasible."""
        if math.isnan(flops):
            raise ValueError("flops is NaN; give the FLOPs at which to compare")
        if flops < self.corners[0].flops:
            return None
        after = bisect_left(self.corners, flops, key=lambda corner: corner.flops)
        if after == len(self.corners) or self.corners[after].flops == flops:
            corner = self.corners[min(after, len(self.corners) - 1)]
            return Mixture(cheap=corner, dear=corner, dear_share=0.0)
        cheap, dear = self.corners[after - 1], self.corners[after]
        return Mixture(cheap=cheap, dear=dear, dear_share=(flops - cheap.flops) / (dear.flops - cheap.flops))


def hull(points: Sequence[Point], *, higher_is_better: bool) -> Hull:
    """The upper concave hull, or the lower convex one where lower is better. ValueError on no points, or on names given twice.

    Of equal points the first by name is taken. A point on the line between two corners is a corner: it needs no coin.
    """
    corners: list[Point] = []
    for point in _front(points, higher_is_better):
        while len(corners) > 1 and _sags(corners[-2], corners[-1], point, higher_is_better):
            corners.pop()
        corners.append(point)
    return Hull(corners=tuple(corners))


def pareto(points: Sequence[Point], *, higher_is_better: bool) -> tuple[str, ...]:
    """Names, cheapest first, of points that no other beats in FLOPs or score without losing in the other; equals all stay."""
    kept = {(point.flops, point.score) for point in _front(points, higher_is_better)}
    return tuple(point.name for point in _ranked(points, higher_is_better) if (point.flops, point.score) in kept)


def _ranked(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """Cheapest first, then the better, then by name."""
    if not points:
        raise ValueError("no points; give at least one with its FLOPs and score")
    twice = [name for name, count in Counter(point.name for point in points).items() if count > 1]
    if twice:
        raise ValueError(f"points share a name: {', '.join(twice)}; name each setting of the dials differently")
    return sorted(points, key=lambda p: (p.flops, -p.score if higher_is_better else p.score, p.name))


def _front(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """Points that are better than every cheaper one, cheapest first; of equal ones the first."""
    front: list[Point] = []
    for point in _ranked(points, higher_is_better):
        if not front or (point.score > front[-1].score if higher_is_better else point.score < front[-1].score):
            front.append(point)
    return front


def _sags(a: Point, b: Point, c: Point, higher_is_better: bool) -> bool:
    """Whether b is worse than the coin between a and c that costs as much; FLOPs rise strictly from a to c."""
    before = (b.score - a.score) * (c.flops - b.flops)
    after = (c.score - b.score) * (b.flops - a.flops)
    return before < after if higher_is_better else before > after
