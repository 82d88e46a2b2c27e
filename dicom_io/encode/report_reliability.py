"""How far findings can be trusted, as coded numbers and answers of the report."""

from math import isfinite

from highdicom.sr import (
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
)
from highdicom.sr.templates import Template

from dicom_io.analysis import Finding
from dicom_io.codes import (
    CALIBRATED,
    CALIBRATION,
    CONFIDENCE_LEVEL,
    DISTANCE_LIMIT,
    ENERGY,
    ENERGY_LIMIT,
    FAMILIAR,
    FAMILIARITY,
    FEATURE_DISTANCE,
    POSSIBLE_ANSWERS,
    UNFAMILIAR,
)
from dicom_io.encode.reliability_words import answers_code
from dicom_io.encode.report_writer import Writer
from dicom_io.errors import EncodingError


def certainty_numbers(finding: Finding, writer: Writer) -> list[Measurement]:
    """Return the level at which answers about a finding were ruled out, if any was asked for."""
    if finding.certainty is None:
        return []
    return [writer.number(CONFIDENCE_LEVEL, finding.certainty.level)]


def certainty_evaluations(finding: Finding, writer: Writer) -> list[QualitativeEvaluation]:
    """Return that the probability is calibrated, and which answers remain possible."""
    found = [writer.evaluation(CALIBRATION, CALIBRATED)] if finding.calibrated else []
    if finding.certainty is not None:
        found.append(writer.evaluation(POSSIBLE_ANSWERS, answers_code(finding.certainty)))
    return found


def familiarity_groups(writer: Writer) -> list[Template]:
    """Return the group that says whether the image is familiar; none where that is not known.

    Raises
    ------
    EncodingError
        If what is compared is no number.
    """
    familiarity = writer.analysis.familiarity
    if familiarity is None:
        return []
    numbers = [
        (FEATURE_DISTANCE, familiarity.distance),
        (DISTANCE_LIMIT, familiarity.distance_limit),
        (ENERGY, familiarity.energy),
        (ENERGY_LIMIT, familiarity.energy_limit),
    ]
    if broken := [code.meaning for code, value in numbers if not isfinite(value)]:
        raise EncodingError(f"{', '.join(broken)}: no finite number")
    answer = FAMILIAR if familiarity.is_familiar else UNFAMILIAR
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=writer.tracking("familiarity", 0, writer.analysis.input_name),
        finding_type=writer.concept(FAMILIARITY),
        algorithm_id=writer.algorithm(writer.analysis.model.name),
        measurements=[writer.number(code, value) for code, value in numbers],
        qualitative_evaluations=[writer.evaluation(FAMILIARITY, answer)],
    )
    return [group]
