"""Whether two maps say the same (G7): by rank, by value, and by what they mark."""

import math

import numpy as np
import torch
from torch import Tensor

from ai.errors import MeasureError
from ai.quality.faithfulness import TOP_SHARE, top_mask
from ai.quality.scoring import require_finite

#: Ranks are of at most about so many cells: sorting more of them changes a correlation by some
#: thousandths, and takes longer than a small network's forward pass.
MOST_RANKED = 2**18


def rank_agreement(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's rank correlation of two maps, [B].

    From -1 to 1, higher is more alike: 1 if both order the cells in the same way, about 0 by
    chance. Cells of equal relevance share the mean of their ranks. Of more than ``MOST_RANKED``
    cells every second, third or later one counts. A map that is the same everywhere orders
    nothing: 0. Two families that agree may be wrong together; that they differ
    says that the explanation is the method's (Krishna et al. 2022). No forward pass.

    Parameters
    ----------
    one, other
        Attributions [B, C, *S] or [B, 1, *S] on one grid; channels are summed.

    Raises
    ------
    MeasureError
        If batch or grid differ, or a value is not finite.
    """
    require_one_grid(one, other)
    every = _stride(one.shape[2:])
    pairs = zip(one.sum(dim=1).flatten(1), other.sum(dim=1).flatten(1), strict=True)
    return torch.stack([correlation(_ranks(a[::every]), _ranks(b[::every])) for a, b in pairs])


def top_overlap(one: Tensor, other: Tensor, *, share: float = TOP_SHARE) -> Tensor:
    """Return how much of the most relevant ``share`` two maps have in common, [B].

    Feature agreement as in Krishna et al. 2022: the cells that are among the greatest ``share`` of
    both maps, over those of the map that marks more. From 0 to 1, higher is more alike; about
    ``share`` by chance. Only positive relevance is marked. No forward pass. Parameters and errors
    as of ``rank_agreement``.
    """
    require_one_grid(one, other)
    overlaps = []
    for a, b in zip(one.sum(dim=1), other.sum(dim=1), strict=True):
        marked, too = top_mask(a, share), top_mask(b, share)
        most = max(int(marked.sum()), int(too.sum()), 1)
        overlaps.append(int((marked & too).sum()) / most)
    return torch.tensor(overlaps, dtype=torch.float64)


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return Pearson's correlation of two maps [*S], float64; 0 if one is the same everywhere."""
    a, b = one.flatten().double(), other.flatten().double()
    if bool(a.min() == a.max()) or bool(b.min() == b.max()):
        return torch.zeros((), dtype=torch.float64)
    a, b = a - a.mean(), b - b.mean()
    a, b = a / torch.linalg.vector_norm(a), b / torch.linalg.vector_norm(b)
    return torch.dot(a, b).cpu()


def require_one_grid(one: Tensor, other: Tensor) -> None:
    """Refuse two maps [B, C, *S] that differ in batch or grid.

    Raises
    ------
    MeasureError
        If they do, or a value is not finite.
    """
    if one.ndim != other.ndim or one.shape[:1] + one.shape[2:] != other.shape[:1] + other.shape[2:]:
        raise MeasureError(
            f"maps {tuple(one.shape)} and {tuple(other.shape)}: expected as many entries, on one "
            "grid"
        )
    require_finite(one)
    require_finite(other)


def _stride(grid: tuple[int, ...]) -> int:
    """Return which cells of a grid are ranked: every one, every second, or so."""
    every = -(-math.prod(grid) // MOST_RANKED)
    # One that shares a factor with an extent would see some rows or columns alone.
    while math.gcd(every, math.prod(grid)) > 1:
        every += 1
    return every


def _ranks(relevance: Tensor) -> Tensor:
    """Return the rank of each of [N] cells, from the least relevant on; equals share their mean."""
    # numpy sorts several times faster than torch does on one thread.
    flat = relevance.detach().cpu().numpy()
    order = np.argsort(flat)
    sorted_ = flat[order]
    begins = np.flatnonzero(np.append(True, sorted_[1:] != sorted_[:-1]))
    ends = np.append(begins[1:], flat.size)
    ranks = np.empty(flat.size, np.float64)
    ranks[order] = np.repeat((begins + ends + 1) / 2, ends - begins)
    return torch.from_numpy(ranks)
