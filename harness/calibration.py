"""How well chances foretell shares: Brier scores, ten bins, and their picture. Knows numbers; knows no models and no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.figures import STYLE, figure_of, files_of

Calibration = dict[str, Any]
BINS = 10  # of equal width


def calibration(chances: Sequence[float], shares: Sequence[float]) -> Calibration:
    """Of n states, their foretold chances of success and observed shares of it, both from 0 to 1.

    brier: the mean squared difference of the two (Brier 1950, with shares of several outcomes in place of one);
    brier_of_constant: the same for the best constant, their ``base_rate``. bins: of the chances, with the count of states and the
    means of both. All numbers are None where there is nothing to count.
    """
    p, s = np.array(chances, dtype=np.float64), np.array(shares, dtype=np.float64)
    found: Calibration = {"states": len(p), "base_rate": _mean(s), "brier": _mean((p - s) ** 2)}
    found["brier_of_constant"] = float(s.var()) if len(s) else None
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    found["bins"] = [_bin(at, p[which == at], s[which == at]) for at in range(BINS)]
    return found


def _bin(at: int, p: np.ndarray[Any, Any], s: np.ndarray[Any, Any]) -> Calibration:
    return {"low": at / BINS, "high": (at + 1) / BINS, "count": len(p), "predicted": _mean(p), "observed": _mean(s)}


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def diagram(found: Calibration) -> dict[str, bytes]:
    """The reliability diagram as files' bytes by name, png and svg, the same ones whenever it is drawn."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = figure_of(5.2, 5.2)
        _draw(figure.add_subplot(), found)
        return files_of(figure, "reliability")


def _draw(axes: Any, found: Calibration) -> None:
    """The diagonal, and a marker for each bin that holds states, its area their share."""
    filled = [one for one in found["bins"] if one["count"]]
    sizes = [40 + 900 * one["count"] / found["states"] for one in filled]
    predicted, observed = ([one[name] for one in filled] for name in ("predicted", "observed"))
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="perfectly calibrated", zorder=1)
    axes.scatter(predicted, observed, s=sizes, color="tab:blue", alpha=0.6, edgecolor="white", zorder=2)
    for one in filled:
        axes.annotate(f"{one['count']:,}", (one["predicted"], one["observed"]), ha="center", va="center", fontsize=8, zorder=3)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")
    axes.set_xlabel("predicted chance of success (mean of the bin)")
    axes.set_ylabel("observed share of right rollouts (mean of the bin)")
    scores = "no states" if not found["states"] else f"Brier {found['brier']:.3f}, constant {found['brier_of_constant']:.3f}"
    axes.set_title(f"{found['states']:,} held-out states; {scores}", fontsize=11)
    axes.legend(loc="upper left", frameon=False)
