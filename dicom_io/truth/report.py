"""SR with regions to masks: outlines on slices, and references to segments (TID 1410, 1411)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_io.codes import Code
from dicom_io.errors import TruthError
from dicom_io.truth.polygons import circle, ellipse, inside_polygon
from dicom_io.truth.regions import Region
from dicom_io.truth.segmentation import SOP_CLASSES as SEGMENTATIONS
from dicom_io.truth.segmentation import code_of, read_segmentation
from dicom_io.volume import Volume

SOP_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{kind}" for kind in (11, 22, 33, 34))
_GROUP, _FINDING = ("125007", "DCM"), ("121071", "DCM")
_REGION = ("111030", "DCM")
#: Referenced Segment, Referenced Segmentation Frame: any other image of a group is no region.
_SEGMENTS = frozenset((("121191", "DCM"), ("121214", "DCM")))
#: An outline in space may lie this far from the middle of a slice, in slices.
_BESIDE_SLICE = 0.5

Mask = NDArray[np.bool_]


def read_report(
    document: Dataset, volume: Volume, segmentations: Mapping[str, Dataset]
) -> tuple[Region, ...]:
    """Return the region of each measurement group that has one.

    Outlines are POLYLINE, POLYGON, CIRCLE and ELLIPSE on a slice, and POLYGON in space parallel
    to the slices. Outlines and segments of one group are one region.

    Parameters
    ----------
    segmentations
        By SOP Instance UID: where referenced segments are looked up.

    Raises
    ------
    TruthError
        If the report has no region, or one of another image, frame of reference or kind, or refers
        to a segmentation that is not there.
    """
    what = f"report {document.SOPInstanceUID}"
    regions = []
    for group in _groups(document):
        masks = list(_masks(group, volume, segmentations, what))
        if masks:
            concept = _finding(group)
            label = concept.meaning if concept else ""
            mask = np.logical_or.reduce(masks)
            regions.append(Region(label=label, concept=concept, mask=mask))
    if not regions:
        raise TruthError(f"{what} has no region: neither an outline nor a reference to a segment")
    return tuple(region for region in regions if region.mask.any())


def referenced_segmentations(document: Dataset) -> frozenset[str]:
    """Return the SOP Instance UIDs of the segmentations whose segments a report refers to."""
    return frozenset(
        uid
        for group in _groups(document)
        for item in _children(group)
        if (uid := _segment_of(item))
    )


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in _children(item):
        if _name(child) == _GROUP:
            yield child
        else:
            yield from _groups(child)


def _children(item: Dataset) -> Iterator[Dataset]:
    yield from item.get("ContentSequence") or ()


def _name(item: Dataset) -> tuple[str, str]:
    code = code_of(item.ConceptNameCodeSequence[0]) if item.get("ConceptNameCodeSequence") else None
    return (code.value, code.scheme) if code else ("", "")


def _finding(group: Dataset) -> Code | None:
    for item in _children(group):
        if _name(item) == _FINDING and item.get("ConceptCodeSequence"):
            return code_of(item.ConceptCodeSequence[0])
    return None


def _segment_of(item: Dataset) -> str:
    """Return the SOP Instance UID of the segmentation that an item refers to, else nothing."""
    references = item.get("ReferencedSOPSequence") or ()
    if item.get("ValueType") != "IMAGE" or _name(item) not in _SEGMENTS or not references:
        return ""
    is_segmentation = str(references[0].ReferencedSOPClassUID) in SEGMENTATIONS
    return str(references[0].ReferencedSOPInstanceUID) if is_segmentation else ""


def _masks(
    group: Dataset, volume: Volume, segmentations: Mapping[str, Dataset], what: str
) -> Iterator[Mask]:
    for item in _children(group):
        kind = item.get("ValueType")
        if uid := _segment_of(item):
            yield _segment(item, uid, volume, segmentations, what)
        elif kind == "SCOORD" and _name(item) == _REGION:
            yield _outlined(item, volume, what)
        elif kind == "SCOORD3D" and _name(item) == _REGION:
            yield _outlined_in_space(item, volume, what)


def _segment(
    item: Dataset, uid: str, volume: Volume, segmentations: Mapping[str, Dataset], what: str
) -> Mask:
    if uid not in segmentations:
        raise TruthError(f"{what} refers to segmentation {uid}: put that beside it")
    segmentation, reference = segmentations[uid], item.ReferencedSOPSequence[0]
    numbers = {int(n) for n in _values(reference.get("ReferencedSegmentNumber"))}
    if not numbers:
        groups = segmentation.PerFrameFunctionalGroupsSequence
        frames = [int(n) for n in _values(reference.get("ReferencedFrameNumber"))]
        numbers = {_number_of(groups[frame - 1]) for frame in frames or range(1, len(groups) + 1)}
    regions = read_segmentation(segmentation, volume)
    found = [region.mask for region in regions if region.value in numbers]
    if not found:
        raise TruthError(f"{what} refers to segment {sorted(numbers)} of {uid}, which has none")
    merged: Mask = np.logical_or.reduce(found)
    return merged


def _number_of(group: Dataset) -> int:
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _values(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple | MultiValue) else (value,)


def _outlined(item: Dataset, volume: Volume, what: str) -> Mask:
    """Return an outline on the slice that it was drawn on."""
    image = next((child for child in _children(item) if child.get("ReferencedSOPSequence")), None)
    if image is None:
        raise TruthError(f"{what}: an outline does not say on which image it lies")
    reference = image.ReferencedSOPSequence[0]
    index = _slice_of(reference, volume, what)
    points = np.array([float(value) for value in item.GraphicData]).reshape(-1, 2)
    mask = np.zeros(volume.grid_shape, np.bool_)
    mask[index] = inside_polygon(
        _corners(points, str(item.GraphicType), what), volume.grid_shape[1:]
    )
    return mask


def _slice_of(reference: Dataset, volume: Volume, what: str) -> int:
    uid = str(reference.ReferencedSOPInstanceUID)
    numbers = {int(n) for n in _values(reference.get("ReferencedFrameNumber"))}
    found = [
        index
        for index, frame in enumerate(volume.frames)
        if frame.sop_instance_uid == uid
        and (frame.frame_number is None or not numbers or frame.frame_number in numbers)
    ]
    if len(found) != 1:
        raise TruthError(f"{what}: an outline lies on {uid}, which is {len(found)} slices here")
    return found[0]


def _corners(points: NDArray[np.float64], kind: str, what: str) -> NDArray[np.float64]:
    if kind in {"POLYLINE", "POLYGON"} and len(points) >= 3:
        return points
    if kind == "CIRCLE" and len(points) == 2:
        return circle(points[0], points[1])
    if kind == "ELLIPSE" and len(points) == 4:
        return ellipse(points)
    raise TruthError(
        f"{what}: {kind} of {len(points)} points encloses nothing; expected POLYLINE, POLYGON, "
        "CIRCLE or ELLIPSE"
    )


def _outlined_in_space(item: Dataset, volume: Volume, what: str) -> Mask:
    """Return an outline in patient space on the slice whose plane it lies in."""
    own, known = str(item.ReferencedFrameOfReferenceUID), volume.frame_of_reference_uid
    if volume.affine is None or own != known:
        raise TruthError(f"{what} lies in the frame of reference {own}, the image in {known}")
    if str(item.GraphicType) not in {"POLYGON", "POLYLINE"}:
        raise TruthError(f"{what}: {item.GraphicType} in space encloses no area; expected POLYGON")
    points = np.array([float(value) for value in item.GraphicData]).reshape(-1, 3)
    to_index = np.linalg.inv(volume.affine)
    places = points @ to_index[:3, :3].T + to_index[:3, 3]
    index = round(float(places[:, 0].mean()))
    beside = float(np.abs(places[:, 0] - index).max())
    if beside > _BESIDE_SLICE or not 0 <= index < volume.grid_shape[0]:
        raise TruthError(f"{what}: an outline lies {beside:.2f} slices beside slice {index + 1}")
    mask = np.zeros(volume.grid_shape, np.bool_)
    mask[index] = inside_polygon(places[:, [2, 1]] + 0.5, volume.grid_shape[1:])
    return mask
