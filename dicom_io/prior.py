"""An earlier study of the same patient beside this one, by our own reports of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from pydicom import Dataset

from dicom_io.analysis import Analysis, PriorComparison, PriorValue, Quantity
from dicom_io.reported import report_in

if TYPE_CHECKING:
    from dicom_io.read import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierReport:
    """What one of our reports said of an earlier study."""

    study_instance_uid: str
    study_date: date
    #: Content Date and Time, as text that sorts: of several reports the newest counts.
    written: str
    model_name: str
    model_version: str
    weights_sha256: str
    #: Label of a finding to its probability, 0 to 1, and whether that was calibrated.
    probabilities: Mapping[str, tuple[float, bool]] = field(default_factory=dict)
    #: Label of a segment to its volume in milliliters.
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """What was found of a patient's earlier studies."""

    reports: tuple[EarlierReport, ...] = ()
    #: Why there is nothing to compare with, in words for a radiologist; if there is nothing.
    absent: str = ""


def earlier_report(document: Dataset) -> EarlierReport | None:
    """Return what a document says if it is a report of ours that can be compared, else None.

    A report names its model with the hash of its weights, and has a conclusion; the document of
    measurements beside it, outcomes and other makers' reports do not.
    """
    report = report_in(document)
    studied = study_date(str(document.get("StudyDate", "")))
    if not (report.weights_sha256 and report.conclusions) or studied is None:
        return None
    return EarlierReport(
        study_instance_uid=str(document.StudyInstanceUID),
        study_date=studied,
        written=f"{document.get('ContentDate', '')}{document.get('ContentTime', '')}",
        model_name=report.model_name,
        model_version=report.model_version,
        weights_sha256=report.weights_sha256,
        probabilities={one.label: (one.probability, one.calibrated) for one in report.findings},
        volumes_ml={
            one.label: one.volume_ml for one in report.segments if one.volume_ml is not None
        },
    )


def study_date(text: str) -> date | None:
    """Return a date of DICOM (PS3.5 6.2, VR DA); None if it is empty or no date."""
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").date()  # noqa: DTZ007 (a date has no zone)
    except ValueError:
        return None


def compared(analysis: Analysis, priors: Priors, voxel_ml: float | None) -> PriorComparison:
    """Return an analysis beside the newest earlier report of the very same weights.

    Parameters
    ----------
    voxel_ml
        Volume of one voxel of the analyzed image in milliliters; None if it is not known.
    """
    model = analysis.model
    same = [
        report
        for report in priors.reports
        if (report.model_name, report.weights_sha256) == (model.name, model.weights_sha256)
    ]
    if not same:
        note = "its AI reports are of other models" if priors.reports else priors.absent
        return PriorComparison(note=note)
    newest = max(same, key=lambda report: (report.study_date, report.written))
    return PriorComparison(
        study_instance_uid=newest.study_instance_uid,
        study_date=newest.study_date,
        values=(*_probabilities(analysis, newest), *_volumes(analysis, newest, voxel_ml)),
        note="read from its AI report by the same model",
    )


def beside_prior(
    analyses: Sequence[Analysis], inputs: "Sequence[Input]", priors: Priors | None
) -> tuple[Analysis, ...]:
    """Return the analyses, each beside its prior; as they are where none was asked for."""
    if priors is None:
        return tuple(analyses)
    voxel_ml = {source.name: source.volume.voxel_volume_ml for source in inputs}
    return tuple(
        replace(each, prior=compared(each, priors, voxel_ml.get(each.input_name)))
        for each in analyses
    )


def _probabilities(analysis: Analysis, earlier: EarlierReport) -> Iterator[PriorValue]:
    for finding in analysis.findings:
        then, calibrated = earlier.probabilities.get(finding.label, (None, False))
        # A calibrated and a raw probability of one image differ, too.
        if then is not None and calibrated == finding.calibrated:
            yield _value(finding.label, Quantity.PROBABILITY, then, finding.probability)


def _volumes(
    analysis: Analysis, earlier: EarlierReport, voxel_ml: float | None
) -> Iterator[PriorValue]:
    for segment in analysis.segments:
        then = earlier.volumes_ml.get(segment.label)
        if then is not None and voxel_ml is not None:
            now = int(segment.mask.sum()) * voxel_ml
            yield _value(segment.label, Quantity.VOLUME, then, now)


def _value(label: str, quantity: Quantity, then: float, now: float) -> PriorValue:
    return PriorValue(label=label, quantity=quantity, then=then, now=now)
