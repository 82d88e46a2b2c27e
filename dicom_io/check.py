"""What an object must satisfy before it may leave: our own check, rule by rule.

Every rule is a function from a data set to sentences about what is wrong with it; the standard's
section stands in its docstring. ``dciodvfy`` is the second opinion, in the tests.
"""

import re
from collections.abc import Callable, Collection, Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.codes import LONGEST_VALUE, PRIVATE_SCHEME, REJECTION_TITLES
from dicom_io.errors import EncodingError
from dicom_io.read import Input
from dicom_io.volume import Volume

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Modalities of objects without pixels: reports, selections, presentation states.
_DOCUMENTS = frozenset({"SR", "KO", "PR"})
#: Largest distance (mm) or difference of a direction's component that is no error.
_TOLERANCE = 1e-2
_SPACING_TOLERANCE = 1e-4

_TYPE_1 = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("SeriesNumber", "InstanceNumber", "Manufacturer", "ManufacturerModelName"),
    *("SoftwareVersions", "DeviceSerialNumber", "InstanceCreatorUID", "InstanceCreationDate"),
    *("InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDescription"),
)
_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_SAME_AS_SOURCE = (*_TYPE_2, "StudyInstanceUID", "SpecificCharacterSet")

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_LENIENT_UID = re.compile(r"\d+(\.\d+)+")
_INHERITED_UIDS = frozenset({"StudyInstanceUID", "FrameOfReferenceUID"})

Rule = Callable[[Dataset], Iterator[str]]


def check_object(dataset: Dataset) -> tuple[str, ...]:
    """Return what is wrong with a result object by itself; empty if nothing is."""
    return tuple(problem for rule in RULES for problem in rule(dataset))


def check_against_source(dataset: Dataset, source: Input) -> tuple[str, ...]:
    """Return what does not fit the image that the object was made from; empty if all does."""
    problems = [*same_patient_and_study(dataset, source), *same_frame_of_reference(dataset, source)]
    if dataset.get("SOPClassUID") == _SEGMENTATION:
        problems.extend(segmentation_on_source_grid(dataset, source))
    if dataset.get("SOPClassUID") == _SECONDARY_CAPTURE:
        problems.extend(capture_in_source_plane(dataset, source))
    return tuple(problems)


def check_references(dataset: Dataset, known: Collection[str]) -> tuple[str, ...]:
    """Return the instances that the object refers to although nobody knows them."""
    return tuple(
        f"refers to unknown instance {item.ReferencedSOPInstanceUID}"
        for item in _items(dataset)
        if "ReferencedSOPInstanceUID" in item and str(item.ReferencedSOPInstanceUID) not in known
    )


def require_valid(dataset: Dataset, source: Input | None = None) -> None:
    """Let an object pass, or raise with everything that is wrong with it.

    Raises
    ------
    EncodingError
        A rule is broken; the message names the object and every rule's finding.
    """
    problems = check_object(dataset)
    if source is not None:
        problems += check_against_source(dataset, source)
    if problems:
        name = f"{dataset.get('SeriesDescription', '')!r} {dataset.get('SOPInstanceUID', '')}"
        raise EncodingError(f"{name} did not pass its check: {'; '.join(problems)}")


def identified(dataset: Dataset) -> Iterator[str]:
    """Require values of type 1 and presence of type 2 (PS3.3 C.7.1.1 to C.7.5.2, C.12.1)."""
    for keyword in _TYPE_1:
        if dataset.get(keyword) in (None, ""):
            yield f"{keyword} has no value"
    for keyword in _TYPE_2:
        if keyword not in dataset:
            yield f"{keyword} is missing"


def uids_valid(dataset: Dataset) -> Iterator[str]:
    """Require UIDs to be dotted numbers of at most 64 characters (PS3.5 9.1).

    Leading zeros are forbidden and yet occur; what is the source's must be kept as it is.
    """
    for item in _items(dataset):
        for element in item:
            if element.VR != "UI" or element.value in (None, ""):
                continue
            inherited = element.keyword in _INHERITED_UIDS or item is not dataset
            form = _LENIENT_UID if inherited else _UID
            values = [element.value] if isinstance(element.value, str) else element.value
            for value in values:
                if len(value) > 64 or not form.fullmatch(value):
                    yield f"{element.keyword} {value!r} is not a UID"


def file_meta_agrees(dataset: Dataset) -> Iterator[str]:
    """Require the file meta information to name the same object (PS3.10 7.1)."""
    meta = getattr(dataset, "file_meta", None)
    if meta is None or not meta.get("TransferSyntaxUID"):
        yield "file meta information has no TransferSyntaxUID"
        return
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "file meta information names another SOP Instance"
    if meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "file meta information names another SOP Class"


def stands_after_the_scanner(dataset: Dataset) -> Iterator[str]:
    """Require a series number from 9000 and a description that begins with AI (PS3.3 C.7.3.1)."""
    if int(dataset.get("SeriesNumber") or 0) < 9000:
        yield f"SeriesNumber {dataset.get('SeriesNumber')} is below 9000"
    if not str(dataset.get("SeriesDescription", "")).startswith("AI"):
        yield "SeriesDescription does not begin with AI"


def says_who_made_it(dataset: Dataset) -> Iterator[str]:
    """Require our Device UID and the sha256 of the weights (PS3.3 C.12.1.1.5).

    A note that withdraws objects may be of several models, and names none.
    """
    device = dataset.get("DeviceUID")
    contributors = dataset.get("ContributingEquipmentSequence") or []
    if not device:
        yield "DeviceUID has no value: our own objects would come back as work"
    if device not in [item.get("DeviceUID") for item in contributors]:
        yield "ContributingEquipmentSequence does not carry our Device UID"
    if _withdraws(dataset):
        return
    versions = [str(item.get("SoftwareVersions", "")) for item in contributors]
    if not any(len(version) >= 64 for version in versions):
        yield "ContributingEquipmentSequence does not carry the sha256 of the weights"


def qualified(dataset: Dataset) -> Iterator[str]:
    """Require the object to say whether it is research or product (PS3.3 C.8.13.2.1.1)."""
    if dataset.get("ContentQualification") not in {"RESEARCH", "PRODUCT"}:
        yield f"ContentQualification is {dataset.get('ContentQualification')!r}"


def codes_complete(dataset: Dataset) -> Iterator[str]:
    """Require codes to be whole and our scheme to be identified (PS3.3 8, C.12.1.1.1)."""
    schemes = set()
    for item in _items(dataset):
        if "CodeValue" not in item:
            continue
        schemes.add(item.get("CodingSchemeDesignator"))
        if not item.CodeValue or len(item.CodeValue) > LONGEST_VALUE:
            yield f"CodeValue {item.CodeValue!r} does not fit SH"
        if not item.get("CodingSchemeDesignator") or not item.get("CodeMeaning"):
            yield f"code {item.CodeValue!r} has no scheme or no meaning"
    identified_schemes = {
        item.get("CodingSchemeDesignator")
        for item in dataset.get("CodingSchemeIdentificationSequence") or ()
    }
    if PRIVATE_SCHEME in schemes and PRIVATE_SCHEME not in identified_schemes:
        yield f"{PRIVATE_SCHEME} is used but not identified"


def pixels_complete(dataset: Dataset) -> Iterator[str]:
    """Require the length of Pixel Data that its description asks for (PS3.5 8.1, PS3.3 C.7.6.3)."""
    if dataset.get("Modality") in _DOCUMENTS:
        return
    if "PixelData" not in dataset:
        yield "PixelData is missing"
        return
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    octets = ceil(pixels * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) / 8)
    expected = octets + octets % 2
    if len(dataset.PixelData) != expected:
        yield f"PixelData has {len(dataset.PixelData)} bytes, expected {expected}"


def annotations_declared(dataset: Dataset) -> Iterator[str]:
    """Require a capture to name its source and say whether it identifies the patient (C.7.6.1)."""
    if dataset.get("SOPClassUID") == _SECONDARY_CAPTURE:
        if dataset.get("BurnedInAnnotation") not in {"YES", "NO"}:
            yield "BurnedInAnnotation has no value"
        if not dataset.get("SourceImageSequence"):
            yield "SourceImageSequence has no item"


def segments_and_frames_agree(dataset: Dataset) -> Iterator[str]:
    """Require frames as many as stated, of the stated segments (PS3.3 A.51.5, C.8.20.3)."""
    if dataset.get("SOPClassUID") != _SEGMENTATION:
        return
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(frames) != int(dataset.get("NumberOfFrames") or 0):
        yield f"{len(frames)} frames are described, NumberOfFrames is {dataset.NumberOfFrames}"
    numbers = [int(item.SegmentNumber) for item in dataset.get("SegmentSequence") or ()]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"segments are numbered {numbers}"
    shown = {
        int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for frame in frames
    }
    if shown != set(numbers):
        yield f"frames show segments {sorted(shown)}, described are {numbers}"


def evidence_complete(dataset: Dataset) -> Iterator[str]:
    """Require the evidence to list what the content refers to (PS3.3 C.17.2, C.17.2.3)."""
    if dataset.get("Modality") not in {"SR", "KO"}:
        return
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    content = [item for root in dataset.get("ContentSequence") or () for item in _items(root)]
    if not content:
        yield "the report has no content"
    for item in content:
        uid = str(item.get("ReferencedSOPInstanceUID", ""))
        if uid and uid not in listed:
            yield f"{uid} is referred to but is not in the evidence"


def same_patient_and_study(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require patient and study of the source, unchanged (PS3.3 C.7.1.1, C.7.2.1)."""
    header = source.headers[0]
    for keyword in _SAME_AS_SOURCE:
        if (dataset.get(keyword) or "") != (header.get(keyword) or ""):
            # Never the values: the message goes into logs.
            yield f"{keyword} differs from the source"


def same_frame_of_reference(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require an image to lie in the frame of reference of its source (PS3.3 C.7.4.1)."""
    own = dataset.get("FrameOfReferenceUID")
    if own and own != source.volume.frame_of_reference_uid:
        yield f"FrameOfReferenceUID {own} is not the source's"
    placed = dataset.get("Modality") not in _DOCUMENTS
    if placed and source.volume.frame_of_reference_uid and not own:
        yield "FrameOfReferenceUID is missing"


def segmentation_on_source_grid(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require size, place and direction of the source frame referred to (PS3.3 C.7.6.16.2)."""
    volume = source.volume
    if (int(dataset.Rows), int(dataset.Columns)) != volume.grid_shape[1:]:
        yield f"frames have {dataset.Rows} x {dataset.Columns} pixels, the source has others"
    index_of = _slice_indices(volume)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if volume.affine is not None:
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        yield from _same_directions(orientation, volume)
        spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
        if not np.allclose(spacing, _plane_spacing(volume), rtol=_SPACING_TOLERANCE):
            yield f"PixelSpacing {_in_mm(spacing)} is not the source's"
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, 1):
        reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
        index = index_of.get(_frame_key(reference))
        if index is None:
            yield f"frame {number} refers to a frame that is not in the source"
        elif volume.affine is not None:
            stated = frame.PlanePositionSequence[0].ImagePositionPatient
            expected = (volume.affine @ (index, 0, 0, 1))[:3]
            distance = float(np.linalg.norm(np.array(stated, float) - expected))
            if distance > _TOLERANCE:
                yield f"frame {number} lies {distance:.2f} mm away from its source frame"


def capture_in_source_plane(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require a capture to lie in the plane of its source frame (PS3.3 C.7.6.2)."""
    volume = source.volume
    index = _slice_indices(volume).get(_frame_key(dataset.SourceImageSequence[0]))
    if index is None:
        yield "SourceImageSequence refers to a frame that is not in the source"
        return
    if volume.affine is None:
        return
    yield from _same_directions(dataset.ImageOrientationPatient, volume)
    spacing = np.array(dataset.PixelSpacing, float)
    parts = _plane_spacing(volume) / spacing
    # Rows and columns are enlarged alike, by a whole factor.
    if not np.allclose(parts, max(round(float(parts[0])), 1), rtol=_SPACING_TOLERANCE):
        yield f"PixelSpacing {_in_mm(spacing)} is no whole part of the source's"
    normal = np.cross(volume.affine[:3, 2], volume.affine[:3, 1])
    offset = np.array(dataset.ImagePositionPatient, float) - (volume.affine @ (index, 0, 0, 1))[:3]
    distance = float(abs(offset @ normal) / np.linalg.norm(normal))
    if distance > _TOLERANCE:
        yield f"the capture lies {distance:.2f} mm out of the plane of its source frame"


#: The rules that an object must satisfy by itself.
RULES: tuple[Rule, ...] = (
    identified,
    uids_valid,
    file_meta_agrees,
    stands_after_the_scanner,
    says_who_made_it,
    qualified,
    codes_complete,
    pixels_complete,
    annotations_declared,
    segments_and_frames_agree,
    evidence_complete,
)


def _withdraws(dataset: Dataset) -> bool:
    """Return whether an object is a rejection note (CID 7010)."""
    titles = dataset.get("ConceptNameCodeSequence") or ()
    rejecting = {title.value for title in REJECTION_TITLES}
    return dataset.get("Modality") == "KO" and any(t.CodeValue in rejecting for t in titles)


def _plane_spacing(volume: Volume) -> NDArray[np.float64]:
    """Return row and column spacing (mm) of a volume that has a place."""
    if volume.affine is None:
        return np.full(2, np.nan)
    return np.asarray(np.linalg.norm(volume.affine[:3, 1:3], axis=0))


def _in_mm(spacing: NDArray[np.float64]) -> str:
    return ", ".join(f"{each:.4g}" for each in spacing) + " mm"


def _same_directions(stated: object, volume: Volume) -> Iterator[str]:
    if volume.affine is None:
        return
    directions = volume.affine[:3, [2, 1]]
    expected = (directions / np.linalg.norm(directions, axis=0)).T.ravel()
    if np.abs(np.array(stated, float) - expected).max() > _TOLERANCE:
        yield "ImageOrientationPatient differs from the source"


def _slice_indices(volume: Volume) -> dict[tuple[str, int], int]:
    return {
        (frame.sop_instance_uid, frame.frame_number or 1): index
        for index, frame in enumerate(volume.frames)
    }


def _frame_key(reference: Dataset) -> tuple[str, int]:
    return (
        str(reference.ReferencedSOPInstanceUID),
        int(reference.get("ReferencedFrameNumber") or 1),
    )


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data set and all items of its sequences, at every depth."""
    pending = [dataset]
    while pending:
        item = pending.pop()
        yield item
        for element in item:
            if element.VR == "SQ":
                pending.extend(element.value)
