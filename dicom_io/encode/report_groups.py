"""Measurement groups of the report: one per finding, segment and explanation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom.sr import (
    ImageContentItem,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.templates import Template
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
    VISUAL_EXPLANATION,
    VOLUME,
    VOXEL_COUNT,
    Code,
    code_for_label,
    measure_code,
    method_code,
    segment_category,
    unit_code,
)
from dicom_io.encode.inherit import instance_uid, series_uid
from dicom_io.encode.released import released_explanations
from dicom_io.encode.report_reliability import certainty_evaluations, certainty_numbers
from dicom_io.encode.report_writer import Writer
from dicom_io.encode.roles import BANDS, OVERLAY, SEGMENTATION
from dicom_io.encode.words import (
    center_text,
    measure_text,
    method_text,
    parameter_text,
    subject_text,
)
from dicom_io.errors import EncodingError
from dicom_io.grade import grade_of
from dicom_io.paint import key_slice
from dicom_io.read import Input
from dicom_io.volume import SourceFrame


def measurement_groups(writer: Writer) -> list[Template]:
    """Return the groups: findings, then segments, then explanations."""
    analysis = writer.analysis
    return [
        *(_finding(f, index, writer) for index, f in enumerate(analysis.findings)),
        *(_segment(s, index, writer) for index, s in enumerate(analysis.segments)),
        *(_explanation(e, index, writer) for index, e in enumerate(analysis.explanations)),
    ]


def key_frames(analysis: Analysis, source: Input) -> tuple[SourceFrame, ...]:
    """Return the frames where most of each heatmap and segment lies, else the middle one."""
    shown = released_explanations(analysis, source.volume)
    indices = [key_slice(explanation.heatmap) for _, explanation in shown]
    indices += [
        int(segment.mask.sum(axis=(1, 2)).argmax())
        for segment in analysis.segments
        if segment.mask.any()
    ]
    if not indices:
        indices = [len(source.volume.frames) // 2]
    return tuple(source.volume.frames[index] for index in sorted(set(indices)))


def _finding(finding: Finding, index: int, writer: Writer) -> Template:
    if not 0.0 <= finding.probability <= 1.0:
        raise EncodingError(
            f"finding {finding.label!r} has probability {finding.probability}, expected 0 to 1"
        )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=writer.tracking("finding", index, finding.label),
        finding_type=writer.concept(finding.concept),
        algorithm_id=writer.algorithm(writer.analysis.model.name),
        measurements=[
            writer.number(PROBABILITY, finding.probability),
            writer.number(OPERATING_POINT, finding.threshold),
            *certainty_numbers(finding, writer),
        ],
        qualitative_evaluations=[
            writer.evaluation(PRESENCE, PRESENT if finding.present else ABSENT),
            *certainty_evaluations(finding, writer),
        ],
    )


def _segment(segment: Segment, index: int, writer: Writer) -> Template:
    category = writer.concept(segment_category(segment.concept))
    tracking = writer.tracking("segment", index, segment.label)
    placed = _placed_segment(index, writer)
    if placed is not None:
        item = placed[1]
        tracking = TrackingIdentifier(uid=item.TrackingUID, identifier=item.TrackingID)
    common: dict[str, Any] = {
        "tracking_identifier": tracking,
        "finding_category": category,
        "finding_type": writer.concept(segment.concept),
        "algorithm_id": writer.algorithm(writer.analysis.model.name),
        "measurements": _sizes(segment, writer),
    }
    if placed is None:
        return MeasurementsAndQualitativeEvaluations(**common)
    group = _placed_group(placed, common, writer)
    if writer.source.volume.affine is not None:
        center = writer.words(
            CENTER_OF_MASS, center_text(segment.mask, writer.source.volume.affine)
        )
        group[0].ContentSequence.append(center)
    return group


def _placed_group(
    placed: tuple[Dataset, Dataset], common: dict[str, Any], writer: Writer
) -> Template:
    segmentation, item = placed
    number = int(item.SegmentNumber)
    if writer.source.volume.affine is None:
        frame = _segmentation_frame(segmentation, number, writer.source.volume.frames[0])
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **common)
    reference = ReferencedSegment(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        segment_number=number,
        source_series=SourceSeriesForSegmentation(writer.source.volume.series_instance_uid),
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=reference, **common
    )


def _sizes(segment: Segment, writer: Writer) -> list[Measurement]:
    voxels = int(np.count_nonzero(segment.mask))
    sizes = [writer.number(VOXEL_COUNT, voxels)]
    milliliters = writer.source.volume.voxel_volume_ml
    if milliliters is not None:
        # To the nanoliter: the last digits of a binary fraction are no measurement.
        sizes.insert(0, writer.number(VOLUME, round(voxels * milliliters, 6), MILLILITER))
    return sizes


def _placed_segment(index: int, writer: Writer) -> tuple[Dataset, Dataset] | None:
    """Return the segmentation object and its item that hold a segment, if they were made."""
    segments = writer.analysis.segments
    if not segments[index].mask.any():
        return None
    number = sum(bool(segment.mask.any()) for segment in segments[: index + 1])
    uid = instance_uid(SEGMENTATION, writer.analysis, writer.origin)
    for dataset in writer.produced:
        if dataset.SOPInstanceUID == uid:
            return dataset, dataset.SegmentSequence[number - 1]
    return None


def _segmentation_frame(
    segmentation: Dataset, number: int, frame: SourceFrame
) -> ReferencedSegmentationFrame:
    frames = segmentation.PerFrameFunctionalGroupsSequence
    numbers = [int(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for f in frames]
    reference = ReferencedSegmentationFrame(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        segment_number=number,
        frame_number=numbers.index(number) + 1,
        source_image=SourceImageForSegmentation(
            referenced_sop_class_uid=frame.sop_class_uid,
            referenced_sop_instance_uid=frame.sop_instance_uid,
            referenced_frame_numbers=None if frame.frame_number is None else [frame.frame_number],
        ),
    )
    # A frame of a segmentation belongs to one segment: naming both is forbidden (C.18.4.1).
    del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return reference


def _explanation(explanation: Explanation, index: int, writer: Writer) -> Template:
    numbers = [
        writer.number(measure_code(m.name), m.value, unit_code(m.unit))
        for m in explanation.measures
        if np.isfinite(m.value)
    ]
    subject, method = subject_text(explanation), method_text(explanation)
    evaluations = [
        (EXPLANATION_METHOD, method_code(explanation.method)),
        (EXPLANATION_GRADE, EXPLANATION_GRADES[grade_of(explanation)]),
        (GATE_VERDICT, _verdict(explanation)),
    ]
    if explanation.against is not None:
        other = _target_concept(explanation.against, writer.analysis)
        evaluations.append((EXPLANATION_AGAINST, other))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=writer.tracking("explanation", index, f"{subject}, {method}"),
        finding_type=writer.concept(_target_concept(explanation.target, writer.analysis)),
        algorithm_id=writer.algorithm(method, parameter_text(explanation)),
        measurements=numbers or None,
        qualitative_evaluations=[writer.evaluation(name, value) for name, value in evaluations],
    )
    content = group[0].ContentSequence
    content.append(writer.words(EXPLANATION_OF, subject))
    content.extend(_remarks(explanation, writer))
    # The slot of TID 1410 and 1411 for what no one fills: the image that explains.
    content.extend(_visual_explanations(explanation, index, writer))
    return group


def _target_concept(target: str, analysis: Analysis) -> Code:
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


def _remarks(explanation: Explanation, writer: Writer) -> list[TextContentItem]:
    held = [m for m in explanation.measures if m.passed is not None or not np.isfinite(m.value)]
    return [
        *(writer.words(MEASURE_LIMIT, measure_text(measure)) for measure in held),
        *(writer.words(GATE_REASON, reason) for reason in explanation.reasons),
        *(writer.words(EXPLANATION_WARNING, warning) for warning in explanation.warnings),
    ]


def _visual_explanations(
    explanation: Explanation, index: int, writer: Writer
) -> list[ImageContentItem]:
    return [
        ImageContentItem(
            name=writer.concept(VISUAL_EXPLANATION),
            referenced_sop_class_uid=str(dataset.SOPClassUID),
            referenced_sop_instance_uid=str(dataset.SOPInstanceUID),
            relationship_type="CONTAINS",
        )
        for dataset in _heatmap_objects(explanation, index, writer)
    ]


def _heatmap_objects(explanation: Explanation, index: int, writer: Writer) -> Sequence[Dataset]:
    """Return the bands, and of the overlay series the key slice, as far as they were made."""
    if explanation.verdict is Verdict.WITHHELD:
        return ()
    analysis, origin = writer.analysis, writer.origin
    bands = instance_uid(BANDS, analysis, origin, series=index)
    overlay = series_uid(OVERLAY, analysis, origin, index=index)
    key = writer.source.volume.frames[key_slice(explanation.heatmap)]
    found = [dataset for dataset in writer.produced if dataset.SOPInstanceUID == bands]
    painted = [dataset for dataset in writer.produced if dataset.SeriesInstanceUID == overlay]
    at_key = [dataset for dataset in painted if _shows(dataset, key)]
    return [*found, *(at_key or painted[len(painted) // 2 :])[:1]]


def _shows(dataset: Dataset, frame: SourceFrame) -> bool:
    item = dataset.SourceImageSequence[0]
    return bool(
        item.ReferencedSOPInstanceUID == frame.sop_instance_uid
        and item.get("ReferencedFrameNumber") == frame.frame_number
    )
