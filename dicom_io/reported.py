"""What our documents say, read back from their data sets: as numbers, words and references."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pydicom import Dataset

from dicom_io.codes import (
    CALIBRATED,
    CALIBRATION,
    CONCLUSION,
    DETECTION_RESULT,
    EXPLANATION_FAILED,
    EXPLANATION_GRADE,
    EXPLANATION_OF,
    GATE_VERDICT,
    OPERATING_POINT,
    PRESENCE,
    PRESENT,
    PROBABILITY,
    VISUAL_EXPLANATION,
    VOLUME,
    VOXEL_COUNT,
    Code,
)
from dicom_io.report_codes import (
    ALGORITHM_NAME,
    FINDING,
    IMAGE_REGION,
    LABEL,
    MEASUREMENT_GROUP,
    MODEL,
    MODEL_VERSION,
    PERCENT,
    TRACKING_UID,
    WEIGHTS_SHA256,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFinding:
    """A finding as the report states it."""

    #: What the model calls it.
    label: str
    meaning: str
    #: 0 to 1.
    probability: float
    threshold: float
    present: bool
    #: Whether the probability was held against known cases.
    calibrated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSegment:
    """An outlined structure as the report states it."""

    label: str
    meaning: str
    voxels: int
    #: None where the image has no place in patient space.
    volume_ml: float | None
    #: As the segmentation object has it.
    tracking_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedExplanation:
    """An explanation as the report states it."""

    target: str
    method: str
    verdict: str
    #: With what it means: ``A: all checks passed``; empty in reports of before there were grades.
    grade: str = ""
    #: Name of the measure, in words, to value.
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRegion:
    """A region as the measurement report states it."""

    label: str
    meaning: str
    #: The image that it lies on, and the frame where that has several.
    sop_instance_uid: str
    frame_number: int | None
    #: (column, row) pairs; 0 is the outer edge of the first pixel.
    outline: tuple[tuple[float, float], ...]
    #: 0 to 1; None for what is outlined only.
    probability: float | None
    volume_ml: float | None
    #: SOP Instance UIDs of the pictures that explain it.
    pictures: tuple[str, ...]
    tracking_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report says."""

    findings: tuple[ReportedFinding, ...]
    segments: tuple[ReportedSegment, ...]
    explanations: tuple[ReportedExplanation, ...]
    #: One sentence for each explanation that could not be made.
    failures: tuple[str, ...] = ()
    #: Sentences, the most important first.
    conclusions: tuple[str, ...] = ()
    #: Value of CID 6047, such as ``111242``: all succeeded, with findings; empty if not said.
    outcome: str = ""
    model_name: str = ""
    model_version: str = ""
    #: In hexadecimal.
    weights_sha256: str = ""


def report_in(document: Dataset) -> Report:
    """Return what a report, or a document in its place, says."""
    groups = list(_groups(document))
    explained = [g for g in groups if _item(g, EXPLANATION_OF)]
    others = [g for g in groups if not _item(g, EXPLANATION_OF)]
    return Report(
        findings=tuple(_finding(g) for g in others if _number(g, PROBABILITY) is not None),
        segments=tuple(_segment(g) for g in others if _number(g, VOXEL_COUNT) is not None),
        explanations=tuple(_explanation(g) for g in explained),
        failures=tuple(_texts(document, EXPLANATION_FAILED)),
        conclusions=tuple(_texts(document, CONCLUSION)),
        outcome=next((_code_value(i) for i in _named(document, DETECTION_RESULT)), ""),
        model_name=next(_texts(document, MODEL), ""),
        model_version=next(_texts(document, MODEL_VERSION), ""),
        weights_sha256=next(_texts(document, WEIGHTS_SHA256), ""),
    )


def regions_in(document: Dataset) -> tuple[ReportedRegion, ...]:
    """Return the regions of a measurement report (TID 1410); none of any other document."""
    return tuple(_region(group) for group in _groups(document) if _item(group, IMAGE_REGION))


def _finding(group: Dataset) -> ReportedFinding:
    return ReportedFinding(
        label=_value(group, LABEL),
        meaning=_value(group, FINDING),
        probability=_number(group, PROBABILITY) or 0.0,
        threshold=_number(group, OPERATING_POINT) or 0.0,
        present=_value(group, PRESENCE) == PRESENT.meaning,
        calibrated=_value(group, CALIBRATION) == CALIBRATED.meaning,
    )


def _segment(group: Dataset) -> ReportedSegment:
    return ReportedSegment(
        label=_value(group, LABEL),
        meaning=_value(group, FINDING),
        voxels=int(_number(group, VOXEL_COUNT) or 0),
        volume_ml=_number(group, VOLUME),
        tracking_uid=_value(group, TRACKING_UID),
    )


def _explanation(group: Dataset) -> ReportedExplanation:
    return ReportedExplanation(
        target=_value(group, EXPLANATION_OF),
        method=_value(group, ALGORITHM_NAME),
        verdict=_value(group, GATE_VERDICT),
        grade=_value(group, EXPLANATION_GRADE),
        measures=dict(_measures(group)),
    )


def _measures(group: Dataset) -> Iterator[tuple[str, float]]:
    for item in group.ContentSequence:
        if item.ValueType == "NUM" and (measured := _measured(item)) is not None:
            yield str(item.ConceptNameCodeSequence[0].CodeMeaning), float(measured[0])


def _region(group: Dataset) -> ReportedRegion:
    (region,) = _named(group, IMAGE_REGION)
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    numbers = [float(value) for value in region.GraphicData]
    frame = reference.get("ReferencedFrameNumber")
    return ReportedRegion(
        label=_value(group, LABEL),
        meaning=_value(group, FINDING),
        sop_instance_uid=str(reference.ReferencedSOPInstanceUID),
        frame_number=None if frame is None else int(frame),
        outline=tuple(zip(numbers[::2], numbers[1::2], strict=True)),
        probability=_number(group, PROBABILITY),
        volume_ml=_number(group, VOLUME),
        pictures=tuple(
            str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            for item in _named(group, VISUAL_EXPLANATION)
        ),
        tracking_uid=_value(group, TRACKING_UID),
    )


def _groups(item: Dataset) -> Iterator[Dataset]:
    yield from _named(item, MEASUREMENT_GROUP)


def _named(item: Dataset, name: Code) -> Iterator[Dataset]:
    """Yield every item under a name, anywhere below."""
    for child in item.get("ContentSequence") or ():
        concept = child.get("ConceptNameCodeSequence")
        known = concept and (concept[0].CodeValue, concept[0].CodingSchemeDesignator)
        if known == (name.value, name.scheme):
            yield child
        yield from _named(child, name)


def _item(group: Dataset, name: Code) -> Dataset | None:
    return next(_named(group, name), None)


def _texts(item: Dataset, name: Code) -> Iterator[str]:
    for each in _named(item, name):
        if "TextValue" in each:
            yield str(each.TextValue)


def _code_value(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeValue)


def _value(group: Dataset, name: Code) -> str:
    """Return the first text, UID or coded meaning under a name; empty if there is none."""
    item = _item(group, name)
    if item is None:
        return ""
    if "ConceptCodeSequence" in item:
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    return str(item.get("UID") or item.get("TextValue", ""))


def _number(group: Dataset, name: Code) -> float | None:
    """Return the first number under a name, a percentage as its share; None if there is none."""
    item = _item(group, name)
    measured = None if item is None else _measured(item)
    if measured is None:
        return None
    value, unit = measured
    # In decimal numbers: 7 % is 0.07 and not 0.07000000000000001.
    return float(value / 100 if unit == PERCENT.value else value)


def _measured(item: Dataset) -> tuple[Decimal, str] | None:
    """Return value and unit of a NUM item, or of the TEXT that stands for it in Basic Text SR."""
    if item.ValueType == "TEXT":
        said, _, unit = str(item.TextValue).partition(" ")
        return Decimal(said), unit
    if not item.get("MeasuredValueSequence"):
        return None
    measured = item.MeasuredValueSequence[0]
    exact = measured.get("FloatingPointValue")
    value = repr(float(exact)) if exact is not None else str(measured.NumericValue)
    return Decimal(value), str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
