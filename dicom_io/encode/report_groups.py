"""Measurement groups of a report: numbers and codes of all that it says, for machines."""

import numpy as np
from pydicom import Dataset

from dicom_io.analysis import Analysis, Explanation, Finding, Segment, Verdict
from dicom_io.codes import (
    ABSENT,
    CENTER_OF_MASS,
    EXPLANATION_AGAINST,
    EXPLANATION_GRADE,
    EXPLANATION_GRADES,
    EXPLANATION_METHOD,
    EXPLANATION_OF,
    EXPLANATION_WARNING,
    GATE_LABELLED,
    GATE_NOT_RUN,
    GATE_PASSED,
    GATE_REASON,
    GATE_VERDICT,
    GATE_WITHHELD,
    MEASURE_LIMIT,
    MILLILITER,
    OPERATING_POINT,
    PRESENCE,
    PRESENT,
    PROBABILITY,
    VOLUME,
    VOXEL_COUNT,
    Code,
    code_for_label,
    measure_code,
    method_code,
    segment_category,
    unit_code,
)
from dicom_io.encode.inherit import instance_uid
from dicom_io.encode.report_reliability import certainty_evaluations, certainty_numbers
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import SEGMENTATION
from dicom_io.encode.words import (
    center_text,
    measure_text,
    method_text,
    parameter_text,
    subject_text,
)
from dicom_io.errors import EncodingError
from dicom_io.grade import grade_of
from dicom_io.report_codes import FINDING, FINDING_CATEGORY, LABEL


def measurement_groups(writer: Writer) -> list[Dataset]:
    """Return the groups: findings, then segments, then explanations (TID 1501)."""
    analysis = writer.analysis
    return [
        *(_finding(f, index, writer) for index, f in enumerate(analysis.findings)),
        *(_segment(s, index, writer) for index, s in enumerate(analysis.segments)),
        *(_explanation(e, index, writer) for index, e in enumerate(analysis.explanations)),
    ]


def require_probability(finding: Finding) -> None:
    """Let a finding pass whose probability is one.

    Raises
    ------
    EncodingError
        It is not between 0 and 1, or no number.
    """
    if not 0.0 <= finding.probability <= 1.0:
        raise EncodingError(
            f"finding {finding.label!r} has probability {finding.probability}, expected 0 to 1"
        )


def segment_tracking(index: int, writer: Writer) -> list[Dataset]:
    """Return the identity of a segment: that of the segmentation object, if it was made."""
    segments = writer.analysis.segments
    uid = instance_uid(SEGMENTATION, writer.analysis, writer.origin)
    for dataset in writer.produced:
        if dataset.SOPInstanceUID == uid and segments[index].mask.any():
            number = sum(bool(segment.mask.any()) for segment in segments[: index + 1])
            item = dataset.SegmentSequence[number - 1]
            return writer.tracked(str(item.TrackingUID), str(item.TrackingID))
    return writer.tracking("segment", index, segments[index].label)


def segment_sizes(segment: Segment, writer: Writer) -> list[Dataset]:
    """Return volume, where there is one, and number of voxels."""
    voxels = int(np.count_nonzero(segment.mask))
    sizes = [writer.number(VOXEL_COUNT, voxels)]
    milliliters = writer.source.volume.voxel_volume_ml
    if milliliters is not None:
        # To the nanoliter: the last digits of a binary fraction are no measurement.
        sizes.insert(0, writer.number(VOLUME, round(voxels * milliliters, 6), MILLILITER))
    return sizes


def _finding(finding: Finding, index: int, writer: Writer) -> Dataset:
    require_probability(finding)
    return writer.group(
        [
            *writer.tracking("finding", index, finding.label),
            writer.code(FINDING, finding.concept),
            writer.words(LABEL, finding.label),
            *writer.algorithm(writer.analysis.model.name),
            writer.code(PRESENCE, PRESENT if finding.present else ABSENT),
            writer.percent(PROBABILITY, finding.probability),
            writer.percent(OPERATING_POINT, finding.threshold),
            *certainty_numbers(finding, writer),
            *certainty_evaluations(finding, writer),
        ]
    )


def _segment(segment: Segment, index: int, writer: Writer) -> Dataset:
    items = [
        *segment_tracking(index, writer),
        writer.code(FINDING_CATEGORY, segment_category(segment.concept)),
        writer.code(FINDING, segment.concept),
        writer.words(LABEL, segment.label),
        *writer.algorithm(writer.analysis.model.name),
        *segment_sizes(segment, writer),
    ]
    affine = writer.source.volume.affine
    if affine is not None and segment.mask.any():
        items.append(writer.words(CENTER_OF_MASS, center_text(segment.mask, affine)))
    return writer.group(items)


def _explanation(explanation: Explanation, index: int, writer: Writer) -> Dataset:
    subject, method = subject_text(explanation), method_text(explanation)
    concept = target_concept(explanation.target, writer.analysis)
    return writer.group(
        [
            *writer.tracking("explanation", index, f"{subject}, {method}"),
            writer.code(FINDING, concept),
            writer.words(EXPLANATION_OF, subject),
            *writer.algorithm(method, parameter_text(explanation)),
            *explanation_codes(explanation, writer),
            *(
                writer.number(measure_code(m.name), m.value, unit_code(m.unit))
                for m in explanation.measures
                if np.isfinite(m.value)
            ),
            *_remarks(explanation, writer),
        ]
    )


def explanation_codes(explanation: Explanation, writer: Writer) -> list[Dataset]:
    """Return method, grade and verdict of an explanation, and what it is weighed against."""
    items = [
        writer.code(EXPLANATION_METHOD, method_code(explanation.method)),
        writer.code(EXPLANATION_GRADE, EXPLANATION_GRADES[grade_of(explanation)]),
        writer.code(GATE_VERDICT, _verdict(explanation)),
    ]
    if explanation.against is not None:
        other = target_concept(explanation.against, writer.analysis)
        items.append(writer.code(EXPLANATION_AGAINST, other))
    return items


def target_concept(target: str, analysis: Analysis) -> Code:
    """Return the concept of a label that an explanation is about."""
    concepts = {finding.label: finding.concept for finding in analysis.findings}
    concepts |= {segment.label: segment.concept for segment in analysis.segments}
    return concepts.get(target) or code_for_label(target)


def _verdict(explanation: Explanation) -> Code:
    if explanation.verdict is None:
        return GATE_NOT_RUN
    return {
        Verdict.PASSED: GATE_PASSED,
        Verdict.LABELLED: GATE_LABELLED,
        Verdict.WITHHELD: GATE_WITHHELD,
    }[explanation.verdict]


def _remarks(explanation: Explanation, writer: Writer) -> list[Dataset]:
    held = [m for m in explanation.measures if m.passed is not None or not np.isfinite(m.value)]
    return [
        *(writer.words(MEASURE_LIMIT, measure_text(measure)) for measure in held),
        *(writer.words(GATE_REASON, reason) for reason in explanation.reasons),
        *(writer.words(EXPLANATION_WARNING, warning) for warning in explanation.warnings),
    ]
