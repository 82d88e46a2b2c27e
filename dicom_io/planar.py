"""Images that stand alone: radiographs, ultrasound stills, photographs, captures."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.assemble import Place, assembled_volume
from dicom_io.errors import UnsupportedImageError
from dicom_io.inherited import display_window, inherited_header
from dicom_io.load import load_instance
from dicom_io.modality import ModalityTransform, modality_transform
from dicom_io.pixels import (
    frame_count,
    is_color,
    pixel_keyword,
    stored_frames,
    stored_range,
)
from dicom_io.study import Instance
from dicom_io.values import numbers, text
from dicom_io.volume import SourceFrame, Volume

#: In order of preference: calibrated, at the detector, of a scanned film (PS3.3 10.7, C.8.11.4).
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def read_planar(instance: Instance) -> tuple[Volume, tuple[Dataset, ...]]:
    """Return the one frame of an instance as a volume without affine, and its header.

    Colors become three channels, red first. Grayscale is larger where it shows brighter:
    MONOCHROME1, whose larger values show darker, is mirrored within the range that its stored
    bits can have, and its window with it. Raises as ``dicom_io.read.read_input``.
    """
    uid = instance.sop_instance_uid
    dataset = load_instance(instance)
    pixel_keyword(dataset, uid)
    frames = frame_count(dataset, uid)
    if frames != 1:
        raise UnsupportedImageError(
            f"instance {uid} has {frames} frames that are no stack of slices (cine loop, "
            "rotation, several views), expected 1; send the frame to be analyzed"
        )
    window = display_window(dataset, uid)
    color = is_color(dataset, uid)
    stored = next(iter(stored_frames(dataset, uid)))
    if color:
        voxels = np.ascontiguousarray(np.moveaxis(stored, -1, 0)[:, None], dtype=np.float32)
        window = None
    else:
        transform = modality_transform(dataset, uid)
        voxels = transform.apply(stored)[None, None]
        if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
            voxels, window = _mirrored(voxels, window, total=_range_total(dataset, transform, uid))
    header = inherited_header(dataset)
    volume = assembled_volume(
        voxels,
        Place(affine=None, pixel_spacing_mm=_pixel_spacing(dataset, uid)),
        header=header,
        frames=[SourceFrame(sop_instance_uid=uid, sop_class_uid=instance.sop_class_uid)],
        window=window,
    )
    return volume, (header,)


def _range_total(dataset: Dataset, transform: ModalityTransform, uid: str) -> float:
    if transform.table is not None:
        outputs = transform.table[1]
        return float(outputs.min() + outputs.max())
    lowest, highest = stored_range(dataset, uid)
    return transform.slope * (lowest + highest) + 2 * transform.intercept


def _mirrored(
    voxels: NDArray[np.float32], window: tuple[float, float] | None, *, total: float
) -> tuple[NDArray[np.float32], tuple[float, float] | None]:
    mirrored = (total - voxels.astype(np.float64)).astype(np.float32)
    return mirrored, None if window is None else (total - window[0], window[1])


def _pixel_spacing(dataset: Dataset, uid: str) -> tuple[float, float] | None:
    for keyword in _SPACINGS:
        found = numbers(dataset, keyword, uid)
        # Zeros are written by devices that do not know it; a projection is whole without it.
        if len(found) == 2 and min(found) > 0:
            return found[0], found[1]
    return None
