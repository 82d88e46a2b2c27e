"""Values from one grid to another, by the affine between their indices; zero outside."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Shape = tuple[int, int, int]

#: Grids whose axes stay parallel within this many voxels over their whole length are separable.
_PARALLEL_VOXELS = 1e-3
#: A sample this near to a voxel center is that voxel.
_ON_CENTER = 1e-4
#: Output slices that an oblique resampling works on at once, which bounds its memory.
_SLAB = 8


def resample_linear(values: Tensor, from_output: NDArray[np.float64], shape: Shape) -> Tensor:
    """Return ``values`` on another grid by linear interpolation.

    Parameters
    ----------
    values
        Floating point [C, a, b, c].
    from_output
        4 x 4, from an index of the new grid to an index of ``values``.
    shape
        Of the new grid.

    Returns
    -------
    Tensor
        [C, *shape]; zero beyond the outer faces of the outermost voxels, whose half toward
        the face holds the voxel's own value.
    """
    return _resample(values, from_output, shape, sample=_linear_along, mode="bilinear")


def resample_nearest(values: Tensor, from_output: NDArray[np.float64], shape: Shape) -> Tensor:
    """Return ``values`` [C, a, b, c] on another grid, each voxel from the nearest; else zero.

    Parameters are those of ``resample_linear``; any dtype that float32 holds exactly.
    """
    return _resample(values, from_output, shape, sample=_nearest_along, mode="nearest")


def _resample(
    values: Tensor,
    from_output: NDArray[np.float64],
    shape: Shape,
    *,
    sample: Callable[[Tensor, int, NDArray[np.float64]], Tensor],
    mode: str,
) -> Tensor:
    axes = _parallel_axes(from_output, shape)
    result = values.new_empty((values.shape[0], *shape))
    if axes is None:
        # Where to look is worked out once for all channels; others than float32 are copied.
        size = values.shape[0] if values.dtype == torch.float32 else 1
        for first in range(0, values.shape[0], size):
            together = slice(first, first + size)
            _fill_oblique(result[together], values[together], from_output, mode)
    else:
        for channel, one in enumerate(values):
            result[channel] = _separable(one.permute(axes), from_output, shape, sample)
    return result


def _parallel_axes(from_output: NDArray[np.float64], shape: Shape) -> tuple[int, int, int] | None:
    """Return the axis of the values that each output axis runs along; None if oblique."""
    reach = np.abs(from_output[:3, :3]) * np.asarray(shape, dtype=np.float64)
    first, second, third = (int(axis) for axis in np.argmax(np.abs(from_output[:3, :3]), axis=0))
    if {first, second, third} != {0, 1, 2}:
        return None
    reach[[first, second, third], [0, 1, 2]] = 0.0
    return (first, second, third) if reach.max() < _PARALLEL_VOXELS else None


def _separable(
    values: Tensor,
    from_output: NDArray[np.float64],
    shape: Shape,
    sample: Callable[[Tensor, int, NDArray[np.float64]], Tensor],
) -> Tensor:
    rows = np.argmax(np.abs(from_output[:3, :3]), axis=0)
    for axis, row in enumerate(rows):
        scale, offset = from_output[row, axis], from_output[row, 3]
        coordinates = scale * np.arange(shape[axis], dtype=np.float64) + offset
        size = values.shape[axis]
        outside = (coordinates < -0.5 - _ON_CENTER) | (coordinates > size - 0.5 + _ON_CENTER)
        values = sample(values, axis, np.clip(coordinates, 0, size - 1))
        if outside.any():
            values = values.index_fill(axis, _indices(np.flatnonzero(outside), values), 0)
    return values


def _linear_along(values: Tensor, axis: int, coordinates: NDArray[np.float64]) -> Tensor:
    lower = np.floor(coordinates + _ON_CENTER).astype(np.int64)
    weights = coordinates - lower
    weights[np.abs(weights) <= _ON_CENTER] = 0.0
    at_lower = _taken(values, axis, lower)
    if not weights.any():
        return at_lower
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    column = torch.as_tensor(weights, dtype=values.dtype, device=values.device)
    along = [-1 if each == axis else 1 for each in range(3)]
    return at_lower.lerp(_taken(values, axis, upper), column.view(along))


def _nearest_along(values: Tensor, axis: int, coordinates: NDArray[np.float64]) -> Tensor:
    nearest = np.floor(coordinates + 0.5).astype(np.int64)
    nearest = np.minimum(nearest, values.shape[axis] - 1)
    return _taken(values, axis, nearest)


def _taken(values: Tensor, axis: int, positions: NDArray[np.int64]) -> Tensor:
    """Return the values at positions along an axis; a view where these follow one another."""
    steps = np.diff(positions)
    if (steps == 1).all():
        return values.narrow(axis, int(positions[0]), len(positions))
    if (steps == -1).all():
        return values.narrow(axis, int(positions[-1]), len(positions)).flip(axis)
    return values.index_select(axis, _indices(positions, values))


def _indices(positions: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.as_tensor(positions, device=like.device)


def _fill_oblique(
    result: Tensor, values: Tensor, from_output: NDArray[np.float64], mode: str
) -> None:
    """Fill ``result`` [C, slice, row, column] from ``values`` [C, a, b, c], slab by slab."""
    source = values[None].to(torch.float32)
    matrix = torch.as_tensor(from_output, dtype=torch.float64, device=values.device)
    sizes = torch.tensor(values.shape[1:], dtype=torch.float64, device=values.device)
    for start in range(0, result.shape[1], _SLAB):
        slab = result[:, start : start + _SLAB]
        index = _index_grid(slab.shape[1:], start, values.device)
        coordinates = index @ matrix[:3, :3].T + matrix[:3, 3]
        inside = ((coordinates >= -0.5) & (coordinates <= sizes - 0.5)).all(dim=-1)
        scaled = 2.0 * coordinates / (sizes - 1).clamp(min=1.0) - 1.0
        sampled = functional.grid_sample(
            source,
            scaled.flip(-1)[None].to(torch.float32),
            mode=mode,
            padding_mode="border",
            align_corners=True,
        )
        slab.copy_(sampled[0].to(result.dtype) * inside)


def _index_grid(shape: torch.Size, start: int, device: torch.device) -> Tensor:
    """Return float64 [*shape, 3], the index of each voxel of a slab that begins at ``start``."""
    axes = [torch.arange(size, dtype=torch.float64, device=device) for size in shape]
    axes[0] += start
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
