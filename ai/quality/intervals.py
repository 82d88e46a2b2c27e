"""How sure a figure over some cases is, without a law for how they are spread."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai.errors import MeasureError

#: Share of the intervals that hold the true figure.
LEVEL = 0.95
#: Sets of cases that are drawn.
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure of some cases, and where that of all cases lies."""

    estimate: float
    low: float
    high: float

    def is_above(self, other: "Interval") -> bool:
        """Whether the two do not overlap and this one is higher."""
        return self.low > other.high


def bootstrap_interval(
    cases: NDArray[np.floating],
    *,
    generator: np.random.Generator,
    statistic: Callable[[NDArray[np.floating]], float] = np.mean,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return a figure of the cases with its bootstrap interval (Efron 1979, by percentiles).

    As many cases as there are, are drawn from them again and again, with repetition; the interval
    holds the middle ``level`` of the figures of these sets. Few cases, or cases that are nearly all
    the same, give too narrow an interval: where all are 1, it is [1, 1]. To compare two methods on
    the same cases, hand in their differences. No forward pass.

    Parameters
    ----------
    cases
        [N], or [N, ...] with what belongs to one case in a row, as a score and its truth.
    generator
        Draws the cases.
    statistic
        From cases as above to their figure; by default the mean. Sets of which it is NaN are left
        out: an area under a curve has none where all that was drawn is of one class.
    level
        Between 0 and 1, neither included.

    Raises
    ------
    MeasureError
        If there is no case, or one is not finite.
    """
    if cases.shape[0] == 0 or not np.isfinite(cases).all():
        wrong = int((~np.isfinite(cases)).sum())
        raise MeasureError(
            f"{cases.shape[0]} cases, {wrong} values not finite: expected at least one case and "
            "finite values"
        )
    count = cases.shape[0]
    figures = [
        float(statistic(cases[generator.integers(count, size=count)])) for _ in range(resamples)
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(figures, (tail, 1.0 - tail))
    return Interval(estimate=float(statistic(cases)), low=float(low), high=float(high))
