"""A mask on its own grid to the grid of an image: voxel by voxel, or not at all.

Nothing is interpolated. The two grids may differ in the order and direction of their axes and in
their extent, but every voxel of the mask must be one of the image.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import TruthError
from dicom_io.volume import Volume

#: A voxel of the mask may lie beside one of the image by this share of a voxel.
TOLERANCE = 0.1


def laid_onto(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], volume: Volume, what: str
) -> NDArray[np.bool_]:
    """Return a mask on the grid of an image, bool [slice, row, column].

    Parameters
    ----------
    mask
        bool [a, b, c], axes in any order and direction.
    affine
        4 x 4, from (a, b, c, 1) to LPS mm.
    volume
        With a place in patient space.
    what
        What the mask is, for the message.

    Raises
    ------
    TruthError
        If spacing or directions are not the image's, voxels lie between the image's, or some of
        the mask lies outside of the image.
    """
    if volume.affine is None:
        raise TruthError(f"{what}: the image has no place in patient space to lay it onto")
    to_image = np.linalg.inv(volume.affine) @ affine
    axes = np.rint(to_image[:3, :3])
    if not _is_turn(axes):
        raise TruthError(
            f"{what}: its voxels are not those of the image (one step along its axes is "
            f"{_steps(to_image)} voxels of the image): resample it onto the image's grid"
        )
    offset = np.rint(to_image[:3, 3])
    beside = _farthest(to_image, axes, offset, mask.shape)
    if beside > TOLERANCE:
        raise TruthError(
            f"{what}: its voxels lie up to {beside:.2f} voxels beside those of the image, at most "
            f"{TOLERANCE} is accepted: resample it onto the image's grid"
        )
    index = (np.argwhere(mask) @ axes.T + offset).astype(np.int64)
    inside = ((index >= 0) & (index < volume.grid_shape)).all(axis=1)
    if not inside.all():
        raise TruthError(
            f"{what}: {int((~inside).sum())} of its {len(index)} voxels lie outside of the image"
        )
    result = np.zeros(volume.grid_shape, np.bool_)
    result[tuple(index.T)] = True
    return result


def _is_turn(axes: NDArray[np.float64]) -> bool:
    """Whether a matrix only exchanges axes and turns them round."""
    size = np.abs(axes)
    return bool((size.sum(axis=0) == 1).all() and (size.sum(axis=1) == 1).all())


def _farthest(
    to_image: NDArray[np.float64],
    axes: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
) -> float:
    """Return how far a corner of the mask lies from the voxel that it is taken for."""
    corners = np.array(list(itertools.product(*((0, size - 1) for size in shape))), np.float64)
    exact = corners @ to_image[:3, :3].T + to_image[:3, 3]
    return float(np.abs(exact - (corners @ axes.T + offset)).max())


def _steps(to_image: NDArray[np.float64]) -> str:
    return ", ".join(f"{length:.2f}" for length in np.linalg.norm(to_image[:3, :3], axis=0))
