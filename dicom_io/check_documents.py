"""Rules of structured reports: value types of their class, and regions that viewers can draw."""

from collections.abc import Iterator

from pydicom import Dataset

from dicom_io.codes import IMAGING_MEASUREMENT_REPORT
from dicom_io.read import Input
from dicom_io.report_codes import MEASUREMENT_GROUP

_BASIC = frozenset(
    ("TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE", "IMAGE")
) | {"WAVEFORM", "CONTAINER"}
#: Value types by SOP class: Basic Text SR, Enhanced SR.
_VALUE_TYPES = {
    "1.2.840.10008.5.1.4.1.1.88.11": _BASIC,
    "1.2.840.10008.5.1.4.1.1.88.22": _BASIC | {"NUM", "SCOORD", "TCOORD"},
}


def content_allowed(dataset: Dataset) -> Iterator[str]:
    """Require value types that the SOP class knows (PS3.3 A.35.1.3.1, A.35.2.3.1).

    Containers are separate (C.18.8): viewers run the items of continuous ones together.
    """
    allowed = _VALUE_TYPES.get(str(dataset.get("SOPClassUID")))
    if allowed is None:
        return
    for item in (dataset, *content_items(dataset)):
        if item.get("ValueType") not in allowed:
            yield f"content item of type {item.get('ValueType')} in a document that knows none"
        if item.get("ValueType") == "CONTAINER" and item.get("ContinuityOfContent") != "SEPARATE":
            yield "a container is not separate"


def groups_can_be_drawn(dataset: Dataset) -> Iterator[str]:
    """Require one region in each group of a measurement report (PS3.16 TID 1410, PS3.3 C.18.6).

    A single group without one makes a viewer show none of them.
    """
    titles = dataset.get("ConceptNameCodeSequence") or ()
    if dataset.get("Modality") != "SR" or not titles:
        return
    if titles[0].CodeValue != IMAGING_MEASUREMENT_REPORT.value:
        return
    groups = [i for i in content_items(dataset) if _is_group(i)]
    for number, group in enumerate(groups, 1):
        regions = [i for i in content_items(group) if i.get("ValueType") == "SCOORD"]
        if len(regions) != 1:
            yield f"measurement group {number} has {len(regions)} regions, expected 1"
    if not groups:
        yield "the measurement report has no group"


def regions_on_source_images(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require regions within the frames of the source that they are selected from (C.18.6.1.2)."""
    _, rows, columns = source.volume.grid_shape
    known = {(f.sop_instance_uid, f.frame_number) for f in source.volume.frames}
    for item in content_items(dataset):
        if item.get("ValueType") != "SCOORD":
            continue
        reference = item.ContentSequence[0].ReferencedSOPSequence[0]
        frame = reference.get("ReferencedFrameNumber")
        key = str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame)
        if key not in known:
            yield "a region is selected from a frame that is not in the source"
        points = [float(value) for value in item.GraphicData]
        if min(points) < 0 or max(points[::2]) > columns or max(points[1::2]) > rows:
            yield f"a region reaches beyond its image of {rows} rows and {columns} columns"


def content_items(item: Dataset) -> Iterator[Dataset]:
    """Yield every content item below one, each before its own."""
    for child in item.get("ContentSequence") or ():
        yield child
        yield from content_items(child)


def _is_group(item: Dataset) -> bool:
    names = item.get("ConceptNameCodeSequence")
    return bool(names) and names[0].CodeValue == MEASUREMENT_GROUP.value
