"""Whether a bundle's preprocessing leaves the image where it says: tried once, with a known one.

A step of a bundle may move voxels and keep silent about it (a flip in a ``Lambda``): affines
cannot show that, and left would become right. Two images that differ in one bright place can.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ai.errors import ModelUnavailableError
from ai.model import Prepared
from dicom_io.volume import SourceFrame, Volume

_SHAPE = (48, 80, 96)
_SPACING_MM = 2.0
#: Of the bright places from the middle, in voxels: other along each axis, so that no flip and no
#: exchange of axes leaves a place where it was.
_OFFSETS = ((5, -9, 14), (-8, 12, -6))
_WIDTH = 5.0
#: Beyond every window of gray values that begins below it; around it is zero.
_BRIGHT = 3000.0
#: Of a place from where it should be, in source voxels.
_TOLERANCE = 2.0


def require_true_geometry(
    prepare: Callable[[Volume], Prepared], *, channels: int, spatial_dims: int
) -> None:
    """Prepare two images with one bright place each and check where the way back leads to.

    What differs between the two prepared images are the places, whatever scaling and padding did.
    Preprocessing that takes a place out of sight (a crop, a window of gray values) or cuts the two
    images differently shows nothing, and passes.

    Raises
    ------
    ModelUnavailableError
        A place is elsewhere; the message says where.
    """
    shape = _SHAPE if spatial_dims == 3 else (1, *_SHAPE[1:])
    middle = np.array(shape) // 2
    places = [np.where(np.array(shape) > 1, middle + offset, 0) for offset in _OFFSETS]
    first, second = (prepare(_image(shape, place, channels)) for place in places)
    matrix = first.source_from_prepared
    same = first.tensor.shape == second.tensor.shape
    if not same or not np.allclose(matrix, second.source_from_prepared):
        return
    change = (first.tensor - second.tensor)[0, 0]
    for place, found in zip(places, (_peak(change), _peak(-change)), strict=True):
        if found is not None:
            _require_near(place, found, matrix)


def _require_near(
    place: NDArray[np.int64], found: NDArray[np.float64], matrix: NDArray[np.float64]
) -> None:
    back = matrix[:3, :3] @ found + matrix[:3, 3]
    tolerance = max(_TOLERANCE, float(np.linalg.norm(matrix[:3, :3], axis=0).max()))
    if np.abs(back - place).max() > tolerance:
        raise ModelUnavailableError(
            f"its preprocessing moves voxels without saying so in the affine: a mark at (slice, "
            f"row, column) {tuple(place.tolist())} comes back at "
            f"{tuple(round(float(each), 1) for each in back)}"
        )


def _image(shape: tuple[int, ...], place: NDArray[np.int64], channels: int) -> Volume:
    axes = np.meshgrid(*(np.arange(size, dtype=np.float64) for size in shape), indexing="ij")
    squares = sum((axis - at) ** 2 for axis, at in zip(axes, place, strict=True))
    bright = _BRIGHT * np.exp(-squares / (2 * _WIDTH**2))
    affine = np.diag([_SPACING_MM, _SPACING_MM, _SPACING_MM, 1.0])[[2, 1, 0, 3]]
    return Volume(
        voxels=np.repeat(bright[None].astype(np.float32), channels, axis=0),
        affine=affine if shape[0] > 1 else None,
        frames=(SourceFrame(sop_instance_uid="", sop_class_uid=""),) * shape[0],
        modality="",
        series_instance_uid="",
        frame_of_reference_uid=None,
        pixel_spacing_mm=(_SPACING_MM, _SPACING_MM),
    )


def _peak(change: Tensor) -> NDArray[np.float64] | None:
    """Return the center of the highest part of [*S], as an index of three axes.

    None if there is nothing that is wholly inside.
    """
    top = float(change.max())
    if not np.isfinite(top) or top <= 0.0:
        return None
    cells = torch.nonzero(change > top / 2).cpu().numpy()
    last = np.array(change.shape) - 1
    if np.any((cells.min(axis=0) == 0) | (cells.max(axis=0) == last)):
        return None
    return np.append(cells.mean(axis=0), np.zeros(3 - cells.shape[1]))
