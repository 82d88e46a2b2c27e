"""Sentences that several objects say alike, in words for a radiologist."""

import numpy as np
from numpy.typing import NDArray

from dicom_io.analysis import (
    Analysis,
    Explanation,
    FailedExplanation,
    Finding,
    MeasureValue,
    Verdict,
)
from dicom_io.codes import method_name
from dicom_io.encode.reliability_words import certainty_text, probability_name
from dicom_io.grade import Grade, grade_of
from dicom_io.origin import Origin

#: Characters of a Series Description (VR LO, PS3.5 6.2) behind its leading "AI ".
_SERIES_ROOM = 64 - 3

#: Percent below which a residual is nothing but rounding.
_LEAST_PERCENT = 0.001

#: In the place of a number that there should be.
_UNKNOWN = "could not be measured"

NOT_FOR_DIAGNOSIS = "Research use: not for diagnostic use"


def method_text(asked: Explanation | FailedExplanation) -> str:
    """Return the method as people call it: ``LayerCAM``, ``LRP-gamma``."""
    return method_name(asked.method, asked.parameters.get("rule", ""))


def subject_text(asked: Explanation | FailedExplanation) -> str:
    """Return what is explained: ``nodule``, or ``nodule rather than effusion``."""
    return asked.target if asked.against is None else f"{asked.target} rather than {asked.against}"


def parameter_text(explanation: Explanation) -> str:
    """Return how the method was set, for people and for provenance: ``method=lrp; rule=gamma``."""
    named = dict(sorted(explanation.parameters.items()))
    if explanation.layer:
        named["layer"] = explanation.layer
    if explanation.baseline:
        named["baseline"] = explanation.baseline
    return "; ".join(
        f"{name}={value}" for name, value in {"method": explanation.method, **named}.items()
    )


def residual_text(explanation: Explanation) -> str:
    """Return how far the values are from adding up to the result, or that none is claimed."""
    if explanation.residual is None:
        return "its values are not meant to add up to the result"
    return f"axiom residual {explanation.residual:.2g}"


def finding_text(finding: Finding) -> str:
    """Return one finding as a line: ``nodule: PRESENT, probability 87.0 % (cut-off 50.0 %)``."""
    answer = "PRESENT" if finding.present else "not present"
    certainty = "" if finding.certainty is None else f"; {certainty_text(finding.certainty)}"
    named = f"{probability_name(finding)} {probability_text(finding)}"
    return f"{finding.label}: {answer}, {named}{certainty}"


def probability_text(finding: Finding) -> str:
    """Return probability and cut-off in percent: ``87.0 % (cut-off 50.0 %)``."""
    probability, cut_off = percent_texts(finding)
    return f"{probability} (cut-off {cut_off})"


def percent_texts(finding: Finding) -> tuple[str, str]:
    """Return probability and cut-off in percent, never rounded across each other."""
    for digits in range(1, 12):
        probability = f"{finding.probability * 100:.{digits}f}"
        cut_off = f"{finding.threshold * 100:.{digits}f}"
        if (float(probability) >= float(cut_off)) == finding.present:
            break
    return f"{probability} %", f"{cut_off} %"


def measure_text(measure: MeasureValue) -> str:
    """Return one measure as a line: ``comprehensiveness 0.12 (limit 0): FAILED``.

    The residual is told as the share of the result that the values leave unexplained, and what
    could not be measured as that.
    """
    if measure.name == "residual":
        words = _residual_words(measure)
    else:
        unit = "" if measure.unit == "1" else f" {measure.unit}"
        value, limit = told_apart(measure.value, measure.limit)
        said = f"{value}{unit}" if np.isfinite(measure.value) else _UNKNOWN
        words = f"{measure.name.replace('_', ' ')} {said}"
        words += f" (limit {limit})" if measure.limit is not None else ""
    if measure.passed is not None:
        words += ": passed" if measure.passed else ": FAILED"
    return words


def _residual_words(measure: MeasureValue) -> str:
    limit = None if measure.limit is None else measure.limit * 100
    value, asked = told_apart(measure.value * 100, limit)
    if measure.value * 100 < _LEAST_PERCENT < (limit or 1.0):
        value = f"< {_LEAST_PERCENT}"
    said = f"{value} %" if np.isfinite(measure.value) else _UNKNOWN
    return f"residual {said}" + (f" (limit {asked} %)" if asked else "")


def told_apart(value: float, limit: float | None) -> tuple[str, str]:
    """Return a value and its limit with as few digits as tell them apart, three at least."""
    if limit is None:
        return f"{value:.3g}", ""
    for digits in range(3, 16):
        said, asked = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if said != asked or value == limit:
            break
    return said, asked


def center_text(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> str:
    """Return where the center of a mask lies, as scanners write it: ``L 42.1, P 13.0, H 8.2 mm``.

    Parameters
    ----------
    mask
        bool [slice, row, column], at least one voxel set.
    affine
        4 x 4 from (slice, row, column, 1) to LPS mm.
    """
    filled = np.flatnonzero([plane.any() for plane in mask])
    first, part = int(filled[0]), mask[filled[0] : filled[-1] + 1]
    index = [
        float(np.average(np.arange(n), weights=_along(part, axis)))
        for axis, n in enumerate(part.shape)
    ]
    return place_text((affine @ [index[0] + first, *index[1:], 1.0])[:3])


def place_text(position: NDArray[np.float64]) -> str:
    """Return a place (LPS mm) as scanners write it: ``L 42.1, P 13.0, H 8.2 mm``."""
    named = zip(position, ("LR", "PA", "HF"), strict=True)
    return ", ".join(f"{letters[int(x < 0)]} {abs(x):.1f}" for x, letters in named) + " mm"


def _along(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    others = tuple(other for other in range(mask.ndim) if other != axis)
    return np.asarray(np.count_nonzero(mask, axis=others))


def verdict_text(explanation: Explanation) -> str:
    """Return what the gate decided, in a few words."""
    if explanation.verdict is None:
        return "not measured"
    return {
        Verdict.PASSED: "passed its checks",
        Verdict.LABELLED: "A CHECK FAILED",
        Verdict.WITHHELD: "WITHHELD: a check failed",
    }[explanation.verdict]


def grade_text(explanation: Explanation) -> str:
    """Return how far it may be relied on: ``explanation grade A, passed its checks``.

    A grade alone might be taken for that of a tumor.
    """
    grade = grade_of(explanation)
    said = verdict_text(explanation)
    return said if grade is Grade.NONE else f"explanation grade {grade}, {said}"


def outcome_text(explanation: Explanation) -> str:
    """Return what became of an explanation and every number about it, in one line."""
    told = "; ".join(measure_text(measure) for measure in explanation.measures)
    said = f"{subject_text(explanation)} by {method_text(explanation)}: {grade_text(explanation)}"
    return f"{said} ({told})" if told else said


def series_text(kind: str, explanation: Explanation, grade: str) -> str:
    """Return what a series shows, short enough for a description of which no grade is cut off.

    ``evidence for lesion, LayerCAM: A CHECK FAILED``; target and method are shortened, the grade
    is not.
    """
    ending = f": {grade}" if grade else ""
    room = _SERIES_ROOM - len(kind) - len(", ") - len(" ") - len(ending)
    subject = subject_text(explanation)
    method = _shortened(method_text(explanation), room - min(len(subject), room // 2))
    return f"{kind} {_short_subject(explanation, room - len(method))}, {method}{ending}"


def _short_subject(explanation: Explanation, room: int) -> str:
    """Return what is explained in at most ``room`` characters: of two labels, both remain."""
    target, against = explanation.target, explanation.against
    if against is None or len(subject_text(explanation)) <= room:
        return _shortened(subject_text(explanation), room)
    both = room - len(" vs ")
    first = _shortened(target, both - min(len(against), both // 2))
    return f"{first} vs {_shortened(against, both - len(first))}"


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 3, 1)].rstrip() + "..."


def failure_text(failure: FailedExplanation) -> str:
    """Return what could not be explained, and why: ``lesion by LayerCAM: NOT EXPLAINED, ...``."""
    return f"{subject_text(failure)} by {method_text(failure)}: NOT EXPLAINED, {failure.reason}"


def explained_text(analysis: Analysis) -> str:
    """Return in one sentence what became of every explanation that was asked for."""
    said = [
        f"{subject_text(e)} by {method_text(e)}: {grade_text(e)}" for e in analysis.explanations
    ]
    if any(e.verdict is Verdict.WITHHELD for e in analysis.explanations):
        said.append("a withheld heatmap is in no object of this study")
    if analysis.failures:
        tried = len(analysis.explanations) + len(analysis.failures)
        none = "" if analysis.explanations else "NOTHING IS EXPLAINED: "
        said.append(f"{none}{len(analysis.failures)} of {tried} explanations could not be made")
    return (
        "; ".join(said)
        or "No explanation was made: nothing reached its operating point, or none was asked for"
    )


def is_for_research(origin: Origin) -> bool:
    """Whether the objects must say that they are not for diagnostic use."""
    return origin.mode != "clinical"
