"""The ways in which the error of probabilities is counted, and what chance alone shows of it."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ai.reliability.calibration import (
    adaptive_bins,
    calibration_error,
    calibration_error_beyond_chance,
    even_bins,
)

#: Of the phantom's model: from here on the answer is yes.
OPERATING = 0.5


def error_in_even_bins(claims: NDArray[np.floating]) -> float:
    """Return the calibration error of [N, (probability, outcome)], in bins of like width."""
    return calibration_error(even_bins(claims[:, 0], claims[:, 1].astype(bool)))


def error_in_like_numbers(claims: NDArray[np.floating]) -> float:
    """Return the calibration error of [N, (probability, outcome)], in bins of like numbers."""
    return calibration_error(adaptive_bins(claims[:, 0], claims[:, 1].astype(bool)))


def error_beyond_chance(claims: NDArray[np.floating]) -> float:
    """Return the root mean squared error beyond chance of [N, (probability, outcome)]."""
    bins = adaptive_bins(claims[:, 0], claims[:, 1].astype(bool))
    return calibration_error_beyond_chance(bins)


def error_of_answers(claims: NDArray[np.floating]) -> float:
    """Return the error of the confidence in the answer given, of [N, (probability, outcome)]."""
    yes, true = claims[:, 0], claims[:, 1].astype(bool)
    return calibration_error(even_bins(np.maximum(yes, 1.0 - yes), (yes > OPERATING) == true))


#: Calibration errors by name: none is chosen over the others.
ERRORS: Mapping[str, Callable[[NDArray[np.floating]], float]] = {
    "error": error_in_even_bins,
    "like_numbers": error_in_like_numbers,
    "beyond_chance": error_beyond_chance,
    "of_answers": error_of_answers,
}


def honest_error(
    claimed: NDArray[np.floating], of: Callable[[NDArray[np.floating]], float], *, draws: int = 500
) -> float:
    """Return the error that chance alone gives as many cases whose probabilities are all true."""
    rng = np.random.default_rng(0)
    drawn = [
        of(np.column_stack((claimed, rng.random(len(claimed)) < claimed))) for _ in range(draws)
    ]
    return float(np.mean(drawn))
