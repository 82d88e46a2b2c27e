"""How far findings can be trusted, as coded numbers and answers of the report."""

from math import isfinite

from pydicom import Dataset

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
from dicom_io.report_codes import FINDING


def certainty_numbers(finding: Finding, writer: Writer) -> list[Dataset]:
    """Return the level at which answers about a finding were ruled out, if any was asked for."""
    if finding.certainty is None:
        return []
    return [writer.percent(CONFIDENCE_LEVEL, finding.certainty.level)]


def certainty_evaluations(finding: Finding, writer: Writer) -> list[Dataset]:
    """Return that the probability is calibrated, and which answers remain possible."""
    found = [writer.code(CALIBRATION, CALIBRATED)] if finding.calibrated else []
    if finding.certainty is not None:
        found.append(writer.code(POSSIBLE_ANSWERS, answers_code(finding.certainty)))
    return found


def familiarity_groups(writer: Writer) -> list[Dataset]:
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
    return [
        writer.group(
            [
                *writer.tracking("familiarity", 0, writer.analysis.input_name),
                writer.code(FINDING, FAMILIARITY),
                *writer.algorithm(writer.analysis.model.name),
                *(writer.number(code, value) for code, value in numbers),
                writer.code(FAMILIARITY, answer),
            ]
        )
    ]
