"""SEG to regions on the grid of an image, frame by frame (PS3.3 A.51)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.codes import Code
from dicom_io.errors import TruthError
from dicom_io.geometry import Plane, plane_of
from dicom_io.header import PARSE_ERRORS
from dicom_io.truth.grid import laid_onto
from dicom_io.truth.regions import Region
from dicom_io.volume import Volume

SOP_CLASSES = frozenset(("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"))
#: Of the largest value of a fractional segment: from here on a voxel belongs to it.
_BELONGS_FROM = 0.5
#: Slices thicker than the image's by more than this share would leave some of them out.
_THICKER = 1.1


def read_segmentation(dataset: Dataset, volume: Volume) -> tuple[Region, ...]:
    """Return each segment of a SEG that has voxels; fractional ones from one half on.

    Raises
    ------
    TruthError
        If the SEG lies in another frame of reference or on another grid, if a frame names another
        slice as its source than the one it lies on, or if it cannot be decoded.
    """
    what = f"segmentation {dataset.SOPInstanceUID}"
    _require_same_frame_of_reference(dataset, volume, what)
    masks: dict[int, NDArray[np.bool_]] = {}
    for number, item, pixels in _frames(dataset, what):
        if pixels.any():
            laid = _laid(pixels, item, dataset, volume, what)
            masks[number] = masks[number] | laid if number in masks else laid
    described = {int(item.SegmentNumber): item for item in dataset.SegmentSequence}
    return tuple(_region(number, described[number], masks[number]) for number in sorted(masks))


def _require_same_frame_of_reference(dataset: Dataset, volume: Volume, what: str) -> None:
    own = str(dataset.get("FrameOfReferenceUID") or "")
    known = volume.frame_of_reference_uid
    if volume.affine is not None and own and known and own != known:
        raise TruthError(
            f"{what} lies in the frame of reference {own}, the image in {known}: register it "
            "to the image first"
        )


def _frames(dataset: Dataset, what: str) -> Iterator[tuple[int, Dataset, NDArray[np.bool_]]]:
    """Yield segment number, functional groups and pixels [row, column] of each frame."""
    try:
        pixels = np.asarray(dataset.pixel_array)
    except PARSE_ERRORS as error:
        raise TruthError(f"{what} cannot be decoded: {error}") from error
    pixels = pixels.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != len(pixels):
        raise TruthError(f"{what} has {len(pixels)} frames and describes {len(groups)}")
    kind = str(dataset.SegmentationType)
    whole = float(dataset.get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else 1.0
    for item, frame in zip(groups, pixels, strict=True):
        if kind == "LABELMAP":
            for number in np.unique(frame[frame > 0]):
                yield int(number), item, frame == number
        else:
            number = _group(item, dataset, "SegmentIdentificationSequence", what)
            yield int(number.ReferencedSegmentNumber), item, frame >= _BELONGS_FROM * whole


def _group(item: Dataset, dataset: Dataset, keyword: str, what: str) -> Dataset:
    """Return a functional group of a frame, or the one that all frames share."""
    for groups in (item, *(dataset.get("SharedFunctionalGroupsSequence") or ())):
        if groups.get(keyword):
            found: Dataset = groups[keyword].value[0]
            return found
    raise TruthError(f"{what}: its frames lack {keyword}")


def _laid(
    pixels: NDArray[np.bool_], item: Dataset, dataset: Dataset, volume: Volume, what: str
) -> NDArray[np.bool_]:
    sources = _source_instances(item)
    if volume.affine is None:
        return _laid_on_projection(pixels, sources, volume, what)
    plane = plane_of(
        image=dataset,
        position=_group(item, dataset, "PlanePositionSequence", what),
        orientation=_group(item, dataset, "PlaneOrientationSequence", what),
        measures=_group(item, dataset, "PixelMeasuresSequence", what),
        uid=str(dataset.SOPInstanceUID),
    )
    laid = laid_onto(pixels[None], _frame_affine(plane, volume, what), volume, what)
    _require_own_slice(laid, sources, volume, what)
    return laid


def _laid_on_projection(
    pixels: NDArray[np.bool_], sources: frozenset[str], volume: Volume, what: str
) -> NDArray[np.bool_]:
    if pixels.shape != volume.grid_shape[1:]:
        raise TruthError(
            f"{what} has {pixels.shape} rows and columns, the image {volume.grid_shape[1:]}"
        )
    if volume.frames and volume.frames[0].sop_instance_uid not in sources:
        raise TruthError(f"{what} does not name the image as its source")
    return pixels[None]


def _frame_affine(plane: Plane, volume: Volume, what: str) -> NDArray[np.float64]:
    """Return from (0, row, column, 1) to LPS mm; the first column is the image's own step."""
    if volume.affine is None:
        raise TruthError(f"{what}: the image has no place in patient space")
    steps = volume.affine[:3, :3]
    along = plane.normal @ steps / np.linalg.norm(steps, axis=0)
    axis = int(np.argmax(np.abs(along)))
    distance = float(abs(plane.normal @ steps[:, axis]))
    if plane.thickness is not None and plane.thickness > _THICKER * distance:
        raise TruthError(
            f"{what}: its slices are {plane.thickness:.2f} mm thick, those of the image "
            f"{distance:.2f} mm apart: resample it onto the image's grid"
        )
    affine = np.eye(4)
    affine[:3, 0] = steps[:, axis]
    affine[:3, 1] = plane.column_direction * plane.spacing[0]
    affine[:3, 2] = plane.row_direction * plane.spacing[1]
    affine[:3, 3] = plane.position
    return affine


def _require_own_slice(
    laid: NDArray[np.bool_], sources: frozenset[str], volume: Volume, what: str
) -> None:
    """Refuse a frame that lies elsewhere than on the slice that it was drawn on."""
    slices = np.flatnonzero(laid.any(axis=(1, 2)))
    lies_on = {volume.frames[index].sop_instance_uid for index in slices if volume.frames}
    named = sources & {frame.sop_instance_uid for frame in volume.frames}
    if len(slices) == 1 and named and not named & lies_on:
        raise TruthError(
            f"{what}: a frame was drawn on instance {min(named)} and lies on {min(lies_on)}"
        )


def _source_instances(item: Dataset) -> frozenset[str]:
    return frozenset(
        str(source.ReferencedSOPInstanceUID)
        for derivation in item.get("DerivationImageSequence") or ()
        for source in derivation.get("SourceImageSequence") or ()
    )


def _region(number: int, item: Dataset, mask: NDArray[np.bool_]) -> Region:
    codes = item.get("SegmentedPropertyTypeCodeSequence")
    return Region(
        label=str(item.get("SegmentLabel") or ""),
        concept=code_of(codes[0]) if codes else None,
        value=number,
        mask=mask,
    )


def code_of(item: Dataset) -> Code | None:
    """Return a coded entry (PS3.3 8.8); None if it is incomplete."""
    value, scheme = item.get("CodeValue"), item.get("CodingSchemeDesignator")
    if not value or not scheme:
        return None
    return Code(str(value), str(scheme), str(item.get("CodeMeaning") or ""))
