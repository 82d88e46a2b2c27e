"""Single-frame slices (CT, MR, PET) to one stack, whatever the order of their files."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.assemble import Place, assembled_volume
from dicom_io.errors import (
    MissingAttributeError,
    MixedSeriesError,
    UnsupportedImageError,
)
from dicom_io.geometry import Plane, plane_of, stacked
from dicom_io.inherited import display_window, inherited_header
from dicom_io.load import load_instance
from dicom_io.localizers import refuse_localizers
from dicom_io.modality import RESCALED_MODALITIES, modality_transform
from dicom_io.pixels import (
    frame_count,
    is_color,
    pixel_keyword,
    stored_frames,
)
from dicom_io.sop_classes import sop_class_name
from dicom_io.study import Instance, Series
from dicom_io.values import items, text
from dicom_io.volume import SourceFrame, Volume


def read_slices(series: Series) -> tuple[Volume, tuple[Dataset, ...]]:
    """Return the stack that the slices of a series form, and their headers in slice order.

    Each slice is rescaled by its own values. Raises as ``dicom_io.read.read_input``.
    """
    uid = series.series_instance_uid
    slices = [_slice(instance) for instance in series.instances]
    _require_one_image([part.header for part in slices], uid)
    stack = stacked([part.plane for part in slices], uid)
    headers = tuple(slices[index].header for index in stack.order)
    values = [slices[index].values for index in stack.order]
    first = slices[stack.order[0]].plane
    del slices
    voxels = np.empty((1, len(values), *first.shape), dtype=np.float32)
    for place in reversed(range(len(values))):
        # Each slice is let go as it is copied: the series is in memory about once.
        voxels[0, place] = values.pop()
    frames = tuple(
        SourceFrame(
            sop_instance_uid=str(header.SOPInstanceUID), sop_class_uid=str(header.SOPClassUID)
        )
        for header in headers
    )
    middle = headers[len(headers) // 2]
    volume = assembled_volume(
        voxels,
        Place(affine=stack.affine, pixel_spacing_mm=first.spacing),
        header=middle,
        frames=frames,
        window=display_window(middle, uid),
    )
    return volume, headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    plane: Plane
    values: NDArray[np.float32]
    header: Dataset


def _slice(instance: Instance) -> _Slice:
    uid = instance.sop_instance_uid
    dataset = load_instance(instance)
    pixel_keyword(dataset, uid)
    if frame_count(dataset, uid) != 1 or is_color(dataset, uid):
        raise UnsupportedImageError(
            f"instance {uid} has {frame_count(dataset, uid)} frames of "
            f"{text(dataset, 'PhotometricInterpretation')}, expected one of grayscale for "
            f"{sop_class_name(instance.sop_class_uid)}"
        )
    _require_units(dataset, uid)
    stored = next(iter(stored_frames(dataset, uid)))
    plane = plane_of(
        image=dataset, position=dataset, orientation=dataset, measures=dataset, uid=uid
    )
    return _Slice(
        plane=plane,
        values=modality_transform(dataset, uid).apply(stored),
        header=inherited_header(dataset),
    )


def _require_units(dataset: Dataset, uid: str) -> None:
    modality = text(dataset, "Modality")
    if modality not in RESCALED_MODALITIES or items(dataset, "ModalityLUTSequence", uid):
        return
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        if not text(dataset, keyword):
            raise MissingAttributeError(
                f"instance {uid} lacks {keyword}: without rescale its {modality} values have "
                "no unit"
            )


def _require_one_image(headers: Sequence[Dataset], series_uid: str) -> None:
    refuse_localizers(headers, series_uid)
    for keyword in ("FrameOfReferenceUID", "Modality"):
        found = {text(header, keyword) for header in headers}
        if len(found) > 1:
            raise MixedSeriesError(
                f"series {series_uid}: {keyword} has {len(found)} values, expected 1"
            )
