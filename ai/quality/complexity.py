"""How much a reader has to look at: whether few cells carry a map, or all a little.

Relevance of both signs counts by its size. A map of zeros prefers no cell: it is as even as one can
be.
"""

import math

import torch
from torch import Tensor

from ai.quality.scoring import require_finite

#: A cell counts from this share of the map's greatest value on.
COUNTS_FROM = 0.05
#: Equal parts of the range of a map in which its values are counted (Hedström et al. 2024).
BINS = 100


def gini(values: Tensor) -> Tensor:
    """Return the Gini index of the relevance's size, [B] (Chalasani et al. 2020).

    0: all cells carry the same; 1 - 1/n: one of n carries all. Higher is better, as far as a map
    that few cells carry is easier to read. No forward pass.

    Parameters
    ----------
    values
        The attribution, [B, C, *S]; channels are summed.

    Raises
    ------
    MeasureError
        If a value is not finite.
    """
    sizes = _sizes(values).sort(dim=1).values
    cells = sizes.shape[1]
    places = torch.arange(1, cells + 1, dtype=torch.float64, device=sizes.device)
    return ((2 * places - cells - 1) * sizes).sum(dim=1).cpu() / (cells * _totals(sizes))


def entropy_complexity(values: Tensor) -> Tensor:
    """Return the entropy of the cells' shares in the relevance, in nats, [B] (Bhatt et al. 2020).

    0: one cell carries all; ln n: all n carry the same. Lower is better: its exponential is about
    the number of cells to look at. No forward pass. Parameters and errors as of ``gini``.
    """
    sizes = _sizes(values)
    shares = sizes.cpu() / _totals(sizes)[:, None]
    even = math.log(sizes.shape[1])
    return torch.where(sizes.sum(dim=1).cpu() > 0, torch.special.entr(shares).sum(dim=1), even)


def effective_complexity(values: Tensor, *, counts_from: float = COUNTS_FROM) -> Tensor:
    """Return the share of cells that carry something, [B].

    As in Nguyen and Martinez 2020, but as a share, so that images of different size compare: cells
    whose relevance is above ``counts_from`` of the map's greatest, in size. From 1/n to 1, lower is
    better. No forward pass. Parameters and errors as of ``gini``.
    """
    sizes = _sizes(values)
    greatest = sizes.amax(dim=1, keepdim=True)
    carrying = (sizes > counts_from * greatest) | (greatest == 0)
    return carrying.double().mean(dim=1).cpu()


def histogram_entropy(values: Tensor, *, bins: int = BINS) -> Tensor:
    """Return the entropy of how often each value occurs in a map, in nats, [B].

    What eMPRT takes for an explanation's complexity (Hedström et al. 2024): the map's range is
    divided into equal bins. 0: one value everywhere; ln bins: all values are equally frequent. It
    knows the sign and not the place: a single peak on an even ground is simple wherever it lies.
    Parameters and errors as of ``gini``.
    """
    require_finite(values)
    entropies = []
    for entry in values.sum(dim=1).flatten(1).double().cpu():
        counts = torch.histc(entry, bins) if entry.min() < entry.max() else torch.ones(1)
        entropies.append(torch.special.entr(counts.double() / counts.sum()).sum())
    return torch.stack(entropies)


def _sizes(values: Tensor) -> Tensor:
    require_finite(values)
    return values.sum(dim=1).flatten(1).double().abs()


def _totals(sizes: Tensor) -> Tensor:
    """Return what all cells carry, [B]; 1 where none carries anything."""
    totals = sizes.sum(dim=1).cpu()
    return torch.where(totals > 0, totals, 1.0)
