"""NIfTI label map to regions: from its RAS space to the image's grid, without interpolation."""

from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from dicom_io.errors import TruthError
from dicom_io.truth.grid import laid_onto
from dicom_io.truth.regions import Region
from dicom_io.volume import Volume

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: A label map has no more kinds of voxels than this; an image has.
_MOST_VALUES = 256


def read_nifti(path: Path, volume: Volume) -> tuple[Region, ...]:
    """Return one region for each whole number above 0 that a NIfTI file holds.

    NIfTI knows no frame of reference: that the file belongs to the image is said by its name, and
    that its grid coincides is required here. A file without any place is refused, as the
    direction of its axes would have to be guessed; so is one for an image without a place.

    Raises
    ------
    TruthError
        If it is no NIfTI label map of three axes, does not say where it lies, or lies elsewhere.
    """
    what = f"truth {path.name}"
    try:
        image = cast("Any", nibabel.load(path))
        values = np.asanyarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise TruthError(f"{what} cannot be read: {error}") from error
    if not int(image.header["sform_code"]) and not int(image.header["qform_code"]):
        raise TruthError(
            f"{what} does not say where it lies (sform and qform codes are 0): left and right "
            "would have to be guessed"
        )
    labels = _labels(values, what)
    affine = _LPS_FROM_RAS @ np.asarray(image.affine, np.float64)
    return tuple(
        Region(
            label="",
            value=int(value),
            mask=laid_onto(labels == value, affine, volume, what),
        )
        for value in np.unique(labels)
        if value != 0
    ) or _nothing(labels, affine, volume, what)


def _nothing(
    labels: NDArray[np.int64], affine: NDArray[np.float64], volume: Volume, what: str
) -> tuple[Region, ...]:
    """Return no region of a map of zeros, if its grid is the image's at all."""
    laid_onto(labels != 0, affine, volume, what)
    return ()


def _labels(values: NDArray[np.generic], what: str) -> NDArray[np.int64]:
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise TruthError(f"{what} has the shape {values.shape}, expected three axes")
    labels = np.rint(values.astype(np.float64))
    if not np.array_equal(labels, values) or labels.min() < 0:
        raise TruthError(f"{what} holds values that are no labels: expected whole numbers from 0")
    if len(np.unique(labels)) > _MOST_VALUES:
        raise TruthError(f"{what} holds more than {_MOST_VALUES} values: an image, no label map")
    return labels.astype(np.int64)
