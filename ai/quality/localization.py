"""How well relevance falls onto a structure whose place is known: needs a truth mask.

All measures take relevance and truth on one grid and return a number from 0 (bad) to 1 (good).
Ties are resolved by their expectation, so a constant map scores what guessing would.
"""

import numpy as np
from numpy.typing import NDArray

from ai.errors import MeasureError


def pointing_game(relevance: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return 1 if the most relevant voxel lies in the truth, else 0 (Zhang et al. 2018).

    Of several voxels that share the maximum, the share that lies in the truth is returned.

    Parameters
    ----------
    relevance
        [*S], signed.
    truth
        bool [*S], at least one voxel set.

    Raises
    ------
    MeasureError
        If the shapes differ, the truth is empty, or the relevance is not finite.
    """
    _require_measurable(relevance, truth)
    return float(truth[relevance == relevance.max()].mean())


def relevance_mass_accuracy(relevance: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the share of the positive relevance that lies in the truth (Arras et al. 2022).

    A map without any positive relevance has the value 0. Parameters and errors as in
    ``pointing_game``.
    """
    _require_measurable(relevance, truth)
    positive = np.clip(relevance, 0.0, None).astype(np.float64)
    total = float(positive.sum())
    return float(positive[truth].sum()) / total if total > 0.0 else 0.0


def relevance_rank_accuracy(relevance: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the share of the K most relevant voxels that lie in the truth of K voxels.

    As in Arras et al. 2022. Voxels that share the K-th value count by the share of them that
    would be chosen at random. Parameters and errors as in ``pointing_game``.
    """
    _require_measurable(relevance, truth)
    size = int(truth.sum())
    limit = np.partition(relevance.ravel(), -size)[-size]
    above, tied = relevance > limit, relevance == limit
    chosen_of_tied = (size - int(above.sum())) / int(tied.sum())
    hits = int((above & truth).sum()) + chosen_of_tied * int((tied & truth).sum())
    return float(hits / size)


def _require_measurable(relevance: NDArray[np.floating], truth: NDArray[np.bool_]) -> None:
    if relevance.shape != truth.shape:
        raise MeasureError(
            f"relevance of shape {relevance.shape}, truth of shape {truth.shape}: expected one grid"
        )
    if truth.dtype != np.bool_ or not truth.any():
        raise MeasureError(
            f"the truth mask ({truth.dtype}, {int(np.count_nonzero(truth))} voxels set) must be "
            "bool with at least one voxel set"
        )
    if not np.isfinite(relevance).all():
        raise MeasureError(
            f"{int((~np.isfinite(relevance)).sum())} relevance values are not finite"
        )
