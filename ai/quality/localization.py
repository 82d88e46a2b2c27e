"""How well relevance falls onto a structure whose place is known: needs a truth mask.

All measures take relevance and truth on one grid and return a number from 0 (bad) to 1 (good).
Ties are resolved by their expectation, so a constant map scores what guessing would.
"""

import numpy as np
from numpy.typing import NDArray

from ai.errors import MeasureError

#: How many of the most relevant voxels the hit rate looks at.
COUNT = 100


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
    return _share_of_top(relevance, truth, int(truth.sum()))


def hit_rate(
    relevance: NDArray[np.floating], truth: NDArray[np.bool_], *, count: int = COUNT
) -> float:
    """Return the share of the ``count`` most relevant voxels that lie in the truth.

    The top-k intersection of Theiner et al. 2022; with one voxel the hit rate of Saporta et al.
    2022 and the pointing game. A truth of fewer voxels is asked only for as many as it has, so that
    1 can be reached. Ties as in ``relevance_rank_accuracy``. Other parameters and errors as in
    ``pointing_game``; at least one voxel must be asked for.
    """
    _require_measurable(relevance, truth)
    if count < 1:
        raise MeasureError(f"the {count} most relevant voxels: expected at least 1")
    return _share_of_top(relevance, truth, min(count, int(truth.sum())))


def iou_at_otsu(relevance: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the intersection over union of the truth and what the map marks.

    Marked is what lies above Otsu's threshold of the positive relevance (Otsu 1979): the one that
    parts its values into the two most different groups. It is found among all values, without a
    histogram. A map that is the same everywhere marks all of the image, as far as it is positive; a
    map without positive relevance marks nothing and has the value 0. Parameters and errors as in
    ``pointing_game``.
    """
    _require_measurable(relevance, truth)
    positive = np.clip(relevance, 0.0, None)
    marked = (positive > otsu_threshold(positive)) if np.ptp(positive) > 0 else positive > 0
    return float(np.count_nonzero(marked & truth) / np.count_nonzero(marked | truth))


def otsu_threshold(values: NDArray[np.floating]) -> float:
    """Return the value that parts all values, into those above it and the rest, most clearly.

    The variance between the two groups is the greatest (Otsu 1979). Of values that are all the
    same, that value.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    below = np.arange(1, ordered.size)
    sums = np.cumsum(ordered)
    difference = (sums[-1] - sums[:-1]) / (ordered.size - below) - sums[:-1] / below
    between = below * (ordered.size - below) * difference**2
    # Equal values are not parted.
    between[ordered[1:] == ordered[:-1]] = -1.0
    return float(ordered[np.argmax(between)]) if between.size else float(ordered[0])


def _share_of_top(relevance: NDArray[np.floating], truth: NDArray[np.bool_], count: int) -> float:
    limit = np.partition(relevance.ravel(), -count)[-count]
    above, tied = relevance > limit, relevance == limit
    chosen_of_tied = (count - int(above.sum())) / int(tied.sum())
    hits = int((above & truth).sum()) + chosen_of_tied * int((tied & truth).sum())
    return float(hits / count)


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
