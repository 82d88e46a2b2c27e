"""Filling removed cells from their neighbors, so that what was removed leaves no outline.

A cell is filled with the weighted mean of its neighbors, of which some are filled themselves: a
linear system (Rong et al. 2022). In two dimensions the weights are theirs, 1/6 for the four nearest
and 1/12 for the diagonal ones. That is the binomial kernel [1 2 1] x [1 2 1] without its middle,
and so it goes on to any number of axes: in three, faces weigh 4/56, edges 2/56 and corners 1/56.

Their direct sparse solve fills its memory on a volume (a million unknowns in three dimensions). The
matrix is symmetric and positive definite, so conjugate gradients need only its product with an
image, three short sums along each axis. They start from the solution on a grid of half the
resolution, found in the same way: far from what is known the filling is smooth, and a coarse grid
carries it there in few steps.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ai.errors import MeasureError

#: The solution is accepted where its residual is below this share of the image's deviation; its
#: error is then some tenths of a percent of it, less than the noise that is added.
_TOLERANCE = 3e-5
#: No residual is asked to be below this share of the image's values: float32 resolves no more.
_RESOLUTION = 1e-6
#: A grid with an axis of fewer cells is not halved further.
_COARSEST = 4
_MOST_STEPS = 500
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def filled(image: Tensor, removed: Tensor) -> Tensor:
    """Return the image with removed cells filled from the others; those stay as they are.

    Parameters
    ----------
    image
        float [C, *S], one to three axes in space.
    removed
        bool [*S], the same for all channels.

    Raises
    ------
    MeasureError
        If all cells are removed: nothing is left to fill them from.
    """
    if bool(removed.all()):
        raise MeasureError(f"all {removed.numel()} cells are removed: nothing is left to fill from")
    if not bool(removed.any()):
        return image.clone()
    return _solved(image, removed)


def _solved(image: Tensor, removed: Tensor) -> Tensor:
    unknown = removed.to(image.dtype)
    solution = torch.where(removed, _guessed(image, removed), image)
    weight = _neighbor_sum(torch.ones_like(unknown)[None])[0]
    limit = weight.amax() * _accepted(image[:, ~removed])
    tiny = torch.finfo(image.dtype).tiny
    # Conjugate gradients on the removed cells, each channel a system of its own.
    residual = unknown * (_neighbor_sum(solution) - weight * solution)
    direction, square = residual.clone(), _dot(residual, residual)
    for _ in range(_MOST_STEPS):
        open_ = residual.flatten(1).abs().amax(dim=1) > limit
        if not bool(open_.any()):
            break
        product = unknown * (weight * direction - _neighbor_sum(direction))
        step = torch.where(open_, square / _dot(product, direction).clamp_min(tiny), 0.0)
        solution += _spread(step, solution) * direction
        residual -= _spread(step, solution) * product
        before, square = square, _dot(residual, residual)
        direction = residual + _spread(square / before.clamp_min(tiny), solution) * direction
    return solution


def _guessed(image: Tensor, removed: Tensor) -> Tensor:
    """Return the filling of a grid of half the resolution, enlarged; the mean on the coarsest."""
    known = (~removed).to(image.dtype)[None, None]
    shape = [max(1, extent // 2) if extent > _COARSEST else extent for extent in removed.shape]
    if shape == list(removed.shape):
        mean = (image * known[0]).flatten(1).sum(dim=1) / known.sum()
        return _spread(mean, image).expand_as(image)
    share = functional.interpolate(known, shape, mode="area")
    pooled = functional.interpolate(image[None] * known, shape, mode="area") / share.clamp_min(1e-6)
    coarse = _solved(pooled[0], share[0, 0] == 0)
    mode = _LINEAR[removed.ndim]
    return functional.interpolate(coarse[None], removed.shape, mode=mode, align_corners=False)[0]


def _neighbor_sum(image: Tensor) -> Tensor:
    """Return the weighted sum over the neighbors within the grid, [C, *S]."""
    total = image
    for axis in range(1, image.ndim):
        length = image.shape[axis]
        wider = 2.0 * total
        wider.narrow(axis, 1, length - 1).add_(total.narrow(axis, 0, length - 1))
        wider.narrow(axis, 0, length - 1).add_(total.narrow(axis, 1, length - 1))
        total = wider
    return total - 2.0 ** (image.ndim - 1) * image


def _accepted(known: Tensor) -> Tensor:
    """Return the residual that is good enough for each channel, from its known cells [C, N]."""
    deviation, greatest = known.std(dim=1, correction=0), known.abs().amax(dim=1)
    return torch.maximum(_TOLERANCE * deviation, _RESOLUTION * greatest)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).flatten(1).sum(dim=1)


def _spread(values: Tensor, image: Tensor) -> Tensor:
    return values.view(-1, *[1] * (image.ndim - 1))
