"""How well a score tells cases apart: the ROC curve, its area, and how sure both are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ai.errors import MeasureError

#: Resamples of a bootstrap: the limits of a 95 % interval rest on 50 of them on either side.
DRAWS = 2000
#: Steps of the false positive rate at which a band is given.
_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RocCurve:
    """Every operating point of a score, from calling nothing to calling everything."""

    #: [P + 1], ascending from 0 to 1: 1 - specificity.
    false_positive_rate: NDArray[np.float64]
    #: [P + 1], ascending from 0 to 1: sensitivity.
    true_positive_rate: NDArray[np.float64]
    #: [P + 1], descending: a case is called from this score on; the first is infinite.
    thresholds: NDArray[np.float64]
    area: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RocBand:
    """Where the curve would lie on other cases of the same kind."""

    #: [101], 0 to 1.
    false_positive_rate: NDArray[np.float64]
    #: [101], limits of the sensitivity at each.
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    area_low: float
    area_high: float
    #: Share of resamples between the limits, at each point by itself.
    level: float


def area_under_curve(
    scores: Sequence[float] | NDArray[np.floating], truths: Sequence[bool] | NDArray[np.bool_]
) -> float:
    """Return the area under the ROC curve, ties counted by half (Mann and Whitney 1947).

    Parameters
    ----------
    scores
        [N], higher where the truth is more likely.
    truths
        [N].

    Raises
    ------
    MeasureError
        If all truths are alike.
    """
    positive = _both_kinds(truths)
    count = int(positive.sum())
    ranks = rankdata(scores)
    wins = ranks[positive].sum() - count * (count + 1) / 2
    return float(wins / (count * (len(positive) - count)))


def roc_curve(
    scores: Sequence[float] | NDArray[np.floating], truths: Sequence[bool] | NDArray[np.bool_]
) -> RocCurve:
    """Return the ROC curve with one point for each score; parameters and errors as for its area."""
    positive, values = _both_kinds(truths), np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], positive[order]
    # Cases of one score are called together: the curve has a point at the last of each.
    ends = np.append(np.nonzero(np.diff(values))[0], len(values) - 1)
    called, found = ends + 1, np.cumsum(hits)[ends]
    sensitivity = np.append(0.0, found / hits.sum())
    fallout = np.append(0.0, (called - found) / (~hits).sum())
    return RocCurve(
        false_positive_rate=fallout,
        true_positive_rate=sensitivity,
        thresholds=np.append(np.inf, values[ends]),
        area=float(np.trapezoid(sensitivity, fallout)),
    )


def bootstrap_roc(
    scores: Sequence[float] | NDArray[np.floating],
    truths: Sequence[bool] | NDArray[np.bool_],
    *,
    generator: np.random.Generator,
    draws: int = DRAWS,
    level: float = 0.95,
) -> RocBand:
    """Return percentile limits of the ROC curve and of its area (Efron 1979).

    Cases with and without the finding are drawn apart, so that each resample has as many of each.
    At each false positive rate stands the greatest sensitivity that does not exceed it.

    Parameters
    ----------
    scores, truths
        As in ``area_under_curve``.
    generator
        Draws the resamples.
    draws
        How many.
    level
        0 to 1.

    Raises
    ------
    MeasureError
        If all truths are alike.
    """
    positive, values = _both_kinds(truths), np.asarray(scores, np.float64)
    ill, healthy = values[positive], values[~positive]
    kinds = np.repeat([True, False], [len(ill), len(healthy)])
    grid = np.linspace(0.0, 1.0, _STEPS + 1)
    areas, curves = np.empty(draws), np.empty((draws, len(grid)))
    for draw in range(draws):
        drawn = np.concatenate(
            (generator.choice(ill, len(ill)), generator.choice(healthy, len(healthy)))
        )
        curve = roc_curve(drawn, kinds)
        areas[draw], curves[draw] = curve.area, sensitivity_at(curve, grid)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(curves, tails, axis=0)
    area_low, area_high = np.quantile(areas, tails)
    return RocBand(
        false_positive_rate=grid,
        low=low,
        high=high,
        area_low=float(area_low),
        area_high=float(area_high),
        level=level,
    )


def sensitivity_at(
    curve: RocCurve, false_positive_rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the greatest sensitivity whose false positive rate is not above each of these."""
    last = np.searchsorted(curve.false_positive_rate, false_positive_rates, side="right") - 1
    reached: NDArray[np.float64] = curve.true_positive_rate[last]
    return reached


def _both_kinds(truths: Sequence[bool] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    positive = np.asarray(truths, dtype=np.bool_)
    count = int(positive.sum())
    if count in {0, len(positive)}:
        raise MeasureError(f"{count} of {len(positive)} cases are positive: need both kinds")
    return positive
