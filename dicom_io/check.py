"""What an object must satisfy before it may leave: our own check, rule by rule.

Every rule is a function from a data set to sentences about what is wrong with it; the standard's
section stands in its docstring. ``dciodvfy`` is the second opinion, in the tests.
"""

import re
from collections.abc import Callable, Collection, Iterator
from math import ceil

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from dicom_io.check_documents import content_allowed, groups_can_be_drawn
from dicom_io.check_source import (
    DOCUMENTS,
    PARAMETRIC_MAP,
    PATIENT_AND_STUDY,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    check_against_source,
)
from dicom_io.codes import LONGEST_VALUE, PRIVATE_SCHEME, REJECTION_TITLES
from dicom_io.errors import EncodingError
from dicom_io.read import Input
from dicom_io.report_codes import NOTHING_SUCCEEDED

_TYPE_1 = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("SeriesNumber", "InstanceNumber", "Manufacturer", "ManufacturerModelName"),
    *("SoftwareVersions", "DeviceSerialNumber", "InstanceCreatorUID", "InstanceCreationDate"),
    *("InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDescription"),
)
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_LENIENT_UID = re.compile(r"\d+(\.\d+)+")
_INHERITED_UIDS = frozenset({"StudyInstanceUID", "FrameOfReferenceUID"})

Rule = Callable[[Dataset], Iterator[str]]


def check_object(dataset: Dataset) -> tuple[str, ...]:
    """Return what is wrong with a result object by itself; empty if nothing is."""
    return tuple(problem for rule in RULES for problem in rule(dataset))


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
    for keyword in PATIENT_AND_STUDY:
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

    A note that withdraws objects may be of several models, and names none; a document that tells
    why nothing was analyzed may be of a model that could not be read.
    """
    device = dataset.get("DeviceUID")
    contributors = dataset.get("ContributingEquipmentSequence") or []
    if not device:
        yield "DeviceUID has no value: our own objects would come back as work"
    if device not in [item.get("DeviceUID") for item in contributors]:
        yield "ContributingEquipmentSequence does not carry our Device UID"
    if _withdraws(dataset) or _tells_of_no_analysis(dataset):
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
    """Require the length of pixels that their description asks for (PS3.5 8.1, PS3.3 C.7.6.3)."""
    if dataset.get("Modality") in DOCUMENTS:
        return
    name = "FloatPixelData" if dataset.get("SOPClassUID") == PARAMETRIC_MAP else "PixelData"
    if name not in dataset:
        yield f"{name} is missing"
        return
    # Without a transfer syntax, which another rule misses, they count as uncompressed.
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax and UID(syntax).is_compressed:
        yield from _segments_complete(dataset)
        return
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    octets = ceil(pixels * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) / 8)
    expected = octets + octets % 2
    if len(dataset[name].value) != expected:
        yield f"{name} has {len(dataset[name].value)} bytes, expected {expected}"


def annotations_declared(dataset: Dataset) -> Iterator[str]:
    """Require a capture to name its source and say whether it identifies the patient (C.7.6.1)."""
    if dataset.get("SOPClassUID") == SECONDARY_CAPTURE:
        if dataset.get("BurnedInAnnotation") not in {"YES", "NO"}:
            yield "BurnedInAnnotation has no value"
        if not dataset.get("SourceImageSequence"):
            yield "SourceImageSequence has no item"


def segments_and_frames_agree(dataset: Dataset) -> Iterator[str]:
    """Require frames as many as stated, of the stated segments (PS3.3 A.51.5, C.8.20.3)."""
    if dataset.get("SOPClassUID") != SEGMENTATION:
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
    content_allowed,
    groups_can_be_drawn,
)


def _tells_of_no_analysis(dataset: Dataset) -> bool:
    """Return whether an object stands in the place of a report that could not be made."""
    return dataset.get("Modality") == "SR" and any(
        item.CodeValue == NOTHING_SUCCEEDED.value
        for child in dataset.get("ContentSequence") or ()
        for item in child.get("ConceptCodeSequence") or ()
    )


def _segments_complete(dataset: Dataset) -> Iterator[str]:
    """Require as many RLE segments a frame as there are bytes a pixel (PS3.5 G.3 to G.5)."""
    count = int(dataset.get("NumberOfFrames") or 1)
    expected = int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    segments = [int.from_bytes(frame[:4], "little") for frame in frames]
    if segments != [expected] * count:
        yield f"PixelData has frames of {segments} RLE segments, expected {count} of {expected}"


def _withdraws(dataset: Dataset) -> bool:
    """Return whether an object is a rejection note (CID 7010)."""
    titles = dataset.get("ConceptNameCodeSequence") or ()
    rejecting = {title.value for title in REJECTION_TITLES}
    return dataset.get("Modality") == "KO" and any(t.CodeValue in rejecting for t in titles)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data set and all items of its sequences, at every depth."""
    pending = [dataset]
    while pending:
        item = pending.pop()
        yield item
        for element in item:
            if element.VR == "SQ":
                pending.extend(element.value)
