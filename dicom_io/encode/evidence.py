"""Which objects a document is about: what it refers to, and what was made of the same analysis."""

from collections.abc import Iterator

from pydicom import Dataset

from dicom_io.analysis import Explanation, Verdict
from dicom_io.encode import content
from dicom_io.encode.inherit import instance_uid, series_uid, sop_reference
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import (
    BANDS,
    BANDS_PLACED,
    OVERLAY,
    OVERLAY_RLE,
    PARAMETRIC_MAP,
    PARAMETRIC_MAP_COARSE,
)
from dicom_io.paint import key_slice
from dicom_io.volume import SourceFrame

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: A text and a selection of the same result are no evidence for it.
_DOCUMENTS = ("1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.59")


def image_reference(frame: SourceFrame) -> Dataset:
    """Return a reference to the image, and to the frame of it, that a slice was read from."""
    reference = sop_reference(frame.sop_class_uid, frame.sop_instance_uid)
    if frame.frame_number is not None:
        reference.ReferencedFrameNumber = frame.frame_number
    return reference


def key_frames(writer: Writer) -> tuple[SourceFrame, ...]:
    """Return the frames to look at, else the middle one."""
    frames = writer.source.volume.frames
    slices = {region.box.slice for region in writer.regions} or {len(frames) // 2}
    return tuple(frames[index] for index in sorted(slices))


def heatmap_objects(explanation: Explanation, index: int, writer: Writer) -> list[Dataset]:
    """Return what was made of a heatmap: bands, map, and of the overlay series the key slice.

    Parameters
    ----------
    index
        Number of the explanation within the analysis.
    """
    if explanation.verdict is Verdict.WITHHELD:
        return []
    analysis, origin = writer.analysis, writer.origin
    single = {
        instance_uid(role, analysis, origin, series=index)
        for role in (BANDS, BANDS_PLACED, PARAMETRIC_MAP, PARAMETRIC_MAP_COARSE)
    }
    overlays = {series_uid(role, analysis, origin, index=index) for role in (OVERLAY, OVERLAY_RLE)}
    key = writer.source.volume.frames[key_slice(explanation.heatmap)]
    found = [dataset for dataset in writer.produced if str(dataset.SOPInstanceUID) in single]
    painted = [dataset for dataset in writer.produced if str(dataset.SeriesInstanceUID) in overlays]
    at_key = [dataset for dataset in painted if _shows(dataset, key)]
    return [*found, *(at_key or painted[len(painted) // 2 :])[:1]]


def evidence(document: Dataset, writer: Writer) -> dict[str, list[Dataset]]:
    """Return, by series, references to what a document's content refers to (PS3.3 C.17.2.3)."""
    series_of = {str(d.SOPInstanceUID): str(d.SeriesInstanceUID) for d in writer.produced}
    source_series = writer.source.volume.series_instance_uid
    found: dict[str, list[Dataset]] = {}
    for reference in content.references(document):
        series = series_of.get(str(reference.ReferencedSOPInstanceUID), source_series)
        found.setdefault(series, []).append(reference)
    return found


def evidence_beside(writer: Writer) -> dict[str, list[Dataset]]:
    """Return, by series, the key images and all that was made of the analysis (PS3.3 C.17.2.3).

    For documents that are to be read: viewers print a reference as something they cannot show,
    so that it stands here and not in the content. Of captures only those of key images count.
    """
    keys = key_frames(writer)
    found = {writer.source.volume.series_instance_uid: [image_reference(frame) for frame in keys]}
    for dataset in _shown_beside(writer, keys):
        reference = sop_reference(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
        found.setdefault(str(dataset.SeriesInstanceUID), []).append(reference)
    return found


def _shown_beside(writer: Writer, keys: tuple[SourceFrame, ...]) -> Iterator[Dataset]:
    for dataset in writer.produced:
        if dataset.SOPClassUID in _DOCUMENTS:
            continue
        captured = dataset.SOPClassUID == _SECONDARY_CAPTURE
        if not captured or any(_shows(dataset, key) for key in keys):
            yield dataset


def _shows(dataset: Dataset, frame: SourceFrame) -> bool:
    item = dataset.SourceImageSequence[0]
    return bool(
        item.ReferencedSOPInstanceUID == frame.sop_instance_uid
        and item.get("ReferencedFrameNumber") == frame.frame_number
    )
