"""A head as the phantom network wants it: on axial axes of 2 mm, in standard deviations."""

from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ai.errors import UnsuitableInputError
from ai.model import Prepared
from ai.phantom.network import STRIDE
from ai.resample import resample_linear
from dicom_io.volume import Volume

GRID_MM = 2.0
#: Limits that every spacing of the source must keep: beyond them the texture is lost or aliased.
SPACING_MM = (0.5, 2.5)
#: Limits of a head's extent along each axis.
EXTENT_MM = (100.0, 320.0)
#: Voxels brighter than this share of the 99th percentile are head.
_HEAD_SHARE = 0.05
_LEAST_HEAD_VOXELS = 10_000
#: Brightness is cut off at this many standard deviations.
_CLIP = 4.0


def prepare_head(volume: Volume) -> Prepared:
    """Return a head as the network wants it: [1, 1, slice, row, column] of 2 mm.

    Raises
    ------
    UnsuitableInputError
        If the image is not MR, has no place in patient space, or its grid is no head's.
    """
    affine = _suitable_affine(volume)
    source_from_prepared, shape = _axial_grid(affine, volume.grid_shape)
    voxels = torch.from_numpy(volume.voxels.copy())
    resampled = resample_linear(voxels, source_from_prepared, shape)
    return Prepared(
        tensor=_standardized(resampled[None], volume),
        affine=affine @ source_from_prepared,
        source_from_prepared=source_from_prepared,
        source=volume,
    )


def _suitable_affine(volume: Volume) -> NDArray[np.float64]:
    series = f"series {volume.series_instance_uid}"
    if volume.modality != "MR":
        raise UnsuitableInputError(f"{series}: modality {volume.modality}, the phantom is MR")
    if volume.affine is None or volume.spacing_mm is None or volume.voxels.shape[0] != 1:
        raise UnsuitableInputError(
            f"{series}: the phantom model takes one channel with a place in patient space, "
            f"got voxels of shape {volume.voxels.shape}"
        )
    for spacing, size in zip(volume.spacing_mm, volume.grid_shape, strict=True):
        if not SPACING_MM[0] <= spacing <= SPACING_MM[1]:
            raise UnsuitableInputError(
                f"{series}: spacing {spacing:.2f} mm, expected {SPACING_MM[0]} to {SPACING_MM[1]}"
            )
        if not EXTENT_MM[0] <= spacing * size <= EXTENT_MM[1]:
            raise UnsuitableInputError(
                f"{series}: extent {spacing * size:.0f} mm, "
                f"a head has {EXTENT_MM[0]:.0f} to {EXTENT_MM[1]:.0f}"
            )
    return volume.affine


def _axial_grid(
    affine: NDArray[np.float64], source_shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return the matrix from prepared to source index, and the prepared shape.

    Prepared axes run to the head, to the back and to the left, as nearly as the source's own axes
    do; the outer faces of both first voxels coincide, so 1 mm voxels are averaged in pairs.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    order = max(permutations(range(3)), key=lambda axes: np.abs(cosines[[2, 1, 0], axes]).sum())
    matrix, shape = np.eye(4), []
    matrix[:3, :3] = 0.0
    for prepared_axis, axis in enumerate(order):
        size, step = source_shape[axis], GRID_MM / spacing[axis]
        runs_along = cosines[2 - prepared_axis, axis] > 0
        matrix[axis, prepared_axis] = step if runs_along else -step
        matrix[axis, 3] = (step - 1) / 2 if runs_along else size - 1 - (step - 1) / 2
        shape.append(STRIDE * int(np.ceil(size / step / STRIDE - 1e-6)))
    return matrix, (shape[0], shape[1], shape[2])


def _standardized(resampled: Tensor, volume: Volume) -> Tensor:
    """Return brightness in standard deviations of the head about its mean, cut off."""
    voxels = volume.voxels
    head = voxels[voxels > _HEAD_SHARE * np.percentile(voxels, 99)]
    if head.size < _LEAST_HEAD_VOXELS or head.std() == 0:
        raise UnsuitableInputError(
            f"series {volume.series_instance_uid}: {head.size} voxels brighter than the "
            f"background, a head has at least {_LEAST_HEAD_VOXELS}"
        )
    return ((resampled - float(head.mean())) / float(head.std())).clamp(-_CLIP, _CLIP)
