"""Whether a map could be an explanation at all, looked at beside the image (G5, G6).

Relevance in the air around a patient, or a map that is an image of edges or of brightness, needs no
network to be doubted.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ai.errors import MeasureError
from ai.quality.agreement import correlation
from ai.quality.controls import intensity_map, sobel_map
from ai.quality.scoring import require_finite, require_on_grid


def plausibility(values: Tensor, mask: Tensor) -> Tensor:
    """Return the share of the positive relevance inside the body or the organ, [B].

    From 0 to 1, higher is better; by chance, the share of the image that the mask takes. A map
    without positive relevance has the value 0. No forward pass.

    Parameters
    ----------
    values
        The attribution, [B, C, *S] or [B, 1, *S]; channels are summed.
    mask
        bool [*S] for all entries, or [B, *S].

    Raises
    ------
    MeasureError
        If the mask is not bool or lies on another grid, or a value is not finite.
    """
    require_finite(values)
    relevance = values.sum(dim=1).clamp_min(0).double()
    if mask.dtype != torch.bool or mask.shape not in {relevance.shape, relevance.shape[1:]}:
        raise MeasureError(
            f"a mask of {mask.dtype} {tuple(mask.shape)} for an attribution "
            f"{tuple(values.shape)}: expected bool, on one grid"
        )
    inside = (relevance * mask.to(relevance.device)).flatten(1).sum(dim=1)
    total = relevance.flatten(1).sum(dim=1)
    return torch.where(total > 0, inside / total, 0.0).cpu()


def edge_correlation(values: Tensor, x: Tensor) -> Tensor:
    """Return how much the map is one of the image's edges, [B].

    The size of Pearson's correlation of the relevance with the Sobel control, from 0 to 1; lower is
    better. Saliency of a network without knowledge is often near an image of edges (Adebayo et al.
    2018). A map or an image that is the same everywhere has the value 0. No forward pass.

    Parameters
    ----------
    values
        The attribution, [B, C, *S] or [B, 1, *S]; channels are summed.
    x
        float [B, C, *S], the input; the controls of its channels are summed.

    Raises
    ------
    MeasureError
        If the attribution does not fit the input or is not finite.
    """
    return _alikeness(values, x, sobel_map)


def intensity_correlation(values: Tensor, x: Tensor) -> Tensor:
    """Return how much the map is one of the image's brightness or darkness, [B].

    As ``edge_correlation``, with the intensity control; lower is better. Only its size counts: dark
    is as telling. No forward pass.
    """
    return _alikeness(values, x, intensity_map)


def _alikeness(
    values: Tensor, x: Tensor, control: Callable[[NDArray[np.floating]], NDArray[np.float32]]
) -> Tensor:
    require_on_grid(values, x)
    found = []
    for relevance, image in zip(
        values.sum(dim=1).cpu(), x.detach().float().cpu().numpy(), strict=True
    ):
        known = np.sum([control(channel) for channel in image], axis=0)
        found.append(correlation(relevance, torch.from_numpy(known)).abs())
    return torch.stack(found)
