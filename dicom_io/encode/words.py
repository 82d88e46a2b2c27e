"""Sentences that several objects say alike, in words for a radiologist."""

from dicom_io.analysis import Analysis, Explanation, Finding, MeasureValue, Verdict
from dicom_io.origin import Origin

NOT_FOR_DIAGNOSIS = "Research use: not for diagnostic use"


def parameter_text(explanation: Explanation) -> str:
    """Return how the method was set, for people and for provenance: ``layer=x; steps=32``."""
    named = dict(sorted(explanation.parameters.items()))
    if explanation.layer:
        named["layer"] = explanation.layer
    if explanation.baseline:
        named["baseline"] = explanation.baseline
    return "; ".join(f"{name}={value}" for name, value in named.items())


def finding_text(finding: Finding) -> str:
    """Return one finding as a line: ``nodule: PRESENT, probability 87.0 % (cut-off 50.0 %)``."""
    answer = "PRESENT" if finding.present else "not present"
    return f"{finding.label}: {answer}, probability {probability_text(finding)}"


def probability_text(finding: Finding) -> str:
    """Return probability and cut-off in percent, never rounded across each other."""
    for digits in range(1, 12):
        probability = f"{finding.probability * 100:.{digits}f}"
        cut_off = f"{finding.threshold * 100:.{digits}f}"
        if (float(probability) >= float(cut_off)) == finding.present:
            break
    return f"{probability} % (cut-off {cut_off} %)"


def measure_text(measure: MeasureValue) -> str:
    """Return one measure as a line: ``comprehensiveness 0.12 (limit 0): failed``."""
    unit = "" if measure.unit == "1" else f" {measure.unit}"
    words = f"{measure.name.replace('_', ' ')} {measure.value:.3g}{unit}"
    if measure.limit is not None:
        words += f" (limit {measure.limit:.3g})"
    if measure.passed is not None:
        words += ": passed" if measure.passed else ": FAILED"
    return words


def verdict_text(explanation: Explanation) -> str:
    """Return what the gate decided, in a few words."""
    if explanation.verdict is None:
        return "not checked"
    return {
        Verdict.PASSED: "passed its checks",
        Verdict.LABELLED: "A CHECK FAILED",
        Verdict.WITHHELD: "WITHHELD: a check failed",
    }[explanation.verdict]


def conclusion(analysis: Analysis) -> str:
    """Return the first sentence of a report: what was found, or that nothing was."""
    present = [finding for finding in analysis.findings if finding.present]
    outlined = [segment.label for segment in analysis.segments if segment.mask.any()]
    ran = f"{analysis.model.name} {analysis.model.version} ran"
    sentences = [finding_text(finding) for finding in present]
    if outlined:
        sentences.append(f"outlined {', '.join(outlined)}")
    if sentences:
        return f"{ran}. " + ". ".join(sentences) + "."
    return f"{ran} and found nothing."


def is_for_research(origin: Origin) -> bool:
    """Whether the objects must say that they are not for diagnostic use."""
    return origin.mode != "clinical"
