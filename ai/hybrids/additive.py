"""Logits that are sums over places, so that what each place adds explains them without a rest."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional


@runtime_checkable
class AdditiveHead(Protocol):
    """The end of a network: logits = prior + the sum of all contributions."""

    #: [classes], the logits of an image without any evidence.
    prior: nn.Parameter
    #: Whether its input is a bag of instances, so that the first axis of the places is theirs.
    of_bags: bool

    def contributions(self, features: Tensor) -> Tensor:
        """Return what each place adds to each logit, float64 [B, classes, *places]."""
        ...


def summed(contributions: Tensor, prior: Tensor) -> Tensor:
    """Return the logits [B, classes] of contributions [B, classes, *places], in the prior's type.

    The sum is taken in double precision: thousands of small terms of both signs leave little.
    """
    total = contributions.double().flatten(2).sum(dim=2)
    return (prior.double() + total).to(prior.dtype)


def spread(contributions: Tensor, extents: Sequence[int]) -> Tensor:
    """Return contributions [R, *s] on a finer grid [R, *S], float64, with the same sum.

    Each place gives all that it adds to the voxels around its middle, along each axis by the
    weights of linear interpolation. Without places, [R], every voxel gets the same.
    """
    fine = contributions.double()
    if fine.ndim == 1:
        voxels = torch.Size(extents).numel()
        return (fine / voxels).reshape(-1, *[1] * len(extents)).expand(-1, *extents)
    for axis, extent in enumerate(extents, start=1):
        shares = _shares(fine.shape[axis], extent).to(fine)
        fine = torch.tensordot(fine, shares, dims=([axis], [0])).movedim(-1, axis)
    return fine


def _shares(places: int, voxels: int) -> Tensor:
    """Return how much of each place goes to each voxel along one axis, [places, voxels]."""
    mode = "linear" if voxels >= places else "area"
    weights = functional.interpolate(
        torch.eye(places, dtype=torch.float64)[None], voxels, mode=mode
    )
    return weights[0] / weights[0].sum(dim=1, keepdim=True)
