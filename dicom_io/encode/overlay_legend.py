"""What the legend of an overlay says, in words for a radiologist."""

from collections.abc import Iterator, Sequence

from dicom_io.analysis import Analysis, Explanation, Segment, Verdict
from dicom_io.encode.reliability_words import DO_NOT_RELY, certainty_text, probability_name
from dicom_io.encode.words import (
    NOT_FOR_DIAGNOSIS,
    is_for_research,
    measure_text,
    method_text,
    probability_text,
    verdict_text,
)
from dicom_io.grade import Grade, counted_checks, grade_of
from dicom_io.legend import Legend, Line, Style
from dicom_io.origin import Origin
from dicom_io.paint import OUTLINE, OUTLINE_RGB, Display, lab_to_rgb, segment_lab


def overlay_legend(
    analysis: Analysis,
    explanation: Explanation | None,
    display: Display | None,
    segments: Sequence[Segment],
    *,
    origin: Origin,
) -> Legend:
    """Return the legend: what is shown, how strong, how well checked, and by whom."""
    return Legend(
        head=_head(analysis, explanation, origin),
        scale=_scale(display) if display is not None else (),
        # Outlines come last: of very many the end may not fit.
        body=(_checks(analysis, explanation), _model(analysis), _outlines(segments)),
    )


def _head(analysis: Analysis, explanation: Explanation | None, origin: Origin) -> tuple[Line, ...]:
    title = "AI evidence map" if explanation else "AI outlines"
    lines = [Line(text=title, style=Style.STRONG)]
    if is_for_research(origin):
        lines.append(Line(text=NOT_FOR_DIAGNOSIS, style=Style.ALERT))
    if analysis.is_strange:
        lines.append(Line(text=DO_NOT_RELY, style=Style.ALERT))
    if explanation is not None:
        lines.append(Line(text="evidence for", style=Style.MUTED))
        lines.append(Line(text=explanation.target, style=Style.STRONG))
        lines.extend(_answer(analysis, explanation))
        if explanation.against is not None:
            lines.append(Line(text="rather than", style=Style.MUTED))
            lines.append(Line(text=explanation.against, style=Style.STRONG))
        lines.append(Line(text=f"method {method_text(explanation)}"))
        if explanation.layer:
            lines.append(Line(text=f"layer {explanation.layer}", style=Style.MUTED))
        if explanation.baseline:
            lines.append(Line(text=f"baseline {explanation.baseline}", style=Style.MUTED))
    return tuple(lines)


def _answer(analysis: Analysis, explanation: Explanation) -> list[Line]:
    lines = []
    for finding in analysis.findings:
        if finding.label == explanation.target:
            answer = "PRESENT" if finding.present else "not present"
            lines.append(Line(text=answer, style=Style.STRONG if finding.present else Style.PLAIN))
            said = f"{probability_name(finding)} {probability_text(finding)}"
            lines.append(Line(text=said))
            if finding.certainty is not None:
                style = Style.PLAIN if finding.certainty.is_single else Style.ALERT
                lines.append(Line(text=certainty_text(finding.certainty), style=style))
    return lines


def _scale(display: Display) -> tuple[Line, ...]:
    if display.peak <= 0:
        return (Line(text="No relevance speaks for it: nothing is painted", style=Style.ALERT),)
    return (
        Line(
            text=f"100 % = {display.peak:.2g}: 1 % of the whole image's positive relevance lies "
            f"above (range {display.lowest:.2g} to {display.highest:.2g})",
            style=Style.MUTED,
        ),
        Line(text=f"{OUTLINE * 100:.0f} %: evidence, no outline of a finding", swatch=OUTLINE_RGB),
    )


def _outlines(segments: Sequence[Segment]) -> tuple[Line, ...]:
    return tuple(
        Line(text=segment.label, swatch=lab_to_rgb(segment_lab(number)))
        for number, segment in enumerate(segments, 1)
    )


def _checks(analysis: Analysis, explanation: Explanation | None) -> tuple[Line, ...]:
    if explanation is None:
        methods = sorted({method_text(failure) for failure in analysis.failures})
        text = f"NOT EXPLAINED: {', '.join(methods)} could not be made, the report says why"
        return (Line(text=text, style=Style.STRONG_ALERT),) if methods else ()
    lines = [*_grade(explanation)]
    for measure in explanation.measures:
        failed = Style.ALERT if measure.passed is False else Style.PLAIN
        # Who failed is said; that all others passed stands above them.
        lines.append(Line(text=measure_text(measure).removesuffix(": passed"), style=failed))
    lines.extend(Line(text=reason, style=Style.ALERT) for reason in explanation.reasons)
    lines.extend(Line(text=warning, style=Style.MUTED) for warning in explanation.warnings)
    return tuple(lines)


def _grade(explanation: Explanation) -> Iterator[Line]:
    """Yield the letter, large, and what it rests on."""
    passed = explanation.verdict is Verdict.PASSED
    grade = grade_of(explanation)
    if grade is Grade.NONE:
        yield Line(text=f"Explanation: {verdict_text(explanation)}", style=Style.STRONG_ALERT)
        return
    style = Style.STRONG if passed else Style.STRONG_ALERT
    yield Line(text=f"Explanation grade {grade}", style=style)
    met, made = counted_checks(explanation)
    said = f"{verdict_text(explanation)}, {met} of {made}" + ("" if passed else " passed")
    yield Line(text=said, style=Style.PLAIN if passed else Style.ALERT)


def _model(analysis: Analysis) -> tuple[Line, ...]:
    card = analysis.model
    lines = [Line(text=f"model {card.name} {card.version}", style=Style.MUTED)]
    if card.notice:
        lines.append(Line(text=card.notice, style=Style.ALERT))
    return tuple(lines)
