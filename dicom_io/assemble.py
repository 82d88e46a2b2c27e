"""The last step of every reader: numbers, place and description become one Volume."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.errors import CorruptPixelsError
from dicom_io.inherited import age_years
from dicom_io.values import text
from dicom_io.volume import SourceFrame, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the voxels of an image are."""

    #: 4 x 4 from (slice, row, column, 1) to LPS mm; None for an image without a place.
    affine: NDArray[np.float64] | None
    #: Distance between rows, then between columns, mm.
    pixel_spacing_mm: tuple[float, float] | None


def assembled_volume(
    voxels: NDArray[np.float32],
    place: Place,
    *,
    header: Dataset,
    frames: Sequence[SourceFrame],
    window: tuple[float, float] | None,
) -> Volume:
    """Return the volume of decoded voxels, read-only.

    Parameters
    ----------
    voxels
        float32 [channel, slice, row, column], in the modality's units.
    header
        Describes the image: modality, series, body part, age.
    frames
        One per slice.

    Raises
    ------
    CorruptPixelsError
        If a value is not a finite number, as after rescale with an absurd slope.
    """
    series_uid = text(header, "SeriesInstanceUID")
    if not all(np.isfinite(part).all() for part in voxels[0]):
        raise CorruptPixelsError(f"series {series_uid} has pixel values that are not finite")
    affine = None if place.affine is None else place.affine.copy()
    for array in (voxels, affine):
        if array is not None:
            array.flags.writeable = False
    return Volume(
        voxels=voxels,
        affine=affine,
        frames=tuple(frames),
        modality=text(header, "Modality"),
        series_instance_uid=series_uid,
        frame_of_reference_uid=text(header, "FrameOfReferenceUID") or None,
        pixel_spacing_mm=place.pixel_spacing_mm,
        window=window,
        body_part=text(header, "BodyPartExamined"),
        age_years=age_years(header),
    )
