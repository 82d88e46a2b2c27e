"""What a report says first, and its tables, in words for a radiologist."""

from collections.abc import Iterator, Sequence

import numpy as np

from dicom_io.analysis import (
    Analysis,
    Explanation,
    MeasureValue,
    PriorComparison,
    PriorValue,
    Quantity,
)
from dicom_io.codes import (
    PARTLY_WITH_FINDINGS,
    PARTLY_WITHOUT_FINDINGS,
    SUCCEEDED_WITH_FINDINGS,
    SUCCEEDED_WITHOUT_FINDINGS,
    Code,
)
from dicom_io.encode.inherit import header_of
from dicom_io.encode.regions import Region
from dicom_io.encode.reliability_words import DO_NOT_RELY, certainty_text
from dicom_io.encode.words import (
    center_text,
    finding_text,
    grade_text,
    method_text,
    percent_texts,
    place_text,
    subject_text,
    told_apart,
)
from dicom_io.read import Input
from dicom_io.volume import Volume

#: More are not read, but counted; the table has them all.
_MOST_SENTENCES = 6
_NEW_LINE = "\r\n"

Table = Sequence[Sequence[str]]


def conclusions(analysis: Analysis, volume: Volume) -> tuple[str, ...]:
    """Return the first sentences of a report: what was found, or that nothing was.

    ``lesion: PRESENT, probability 87.0 % (cut-off 50.0 %)`` is the first of all, unless the image
    is strange to the model.
    """
    present = [finding for finding in analysis.findings if finding.present]
    absent = [finding for finding in analysis.findings if not finding.present]
    said = [DO_NOT_RELY] if analysis.is_strange else []
    said += [finding_text(finding) for finding in present]
    said += _outlined(analysis, volume)
    if not present and not any(segment.mask.any() for segment in analysis.segments):
        said.append(f"{analysis.model.name} {analysis.model.version} ran and found nothing")
    if len(absent) <= _MOST_SENTENCES:
        said += [finding_text(finding) for finding in absent]
    else:
        said.append(f"{len(absent)} other findings: not present (see the table)")
    return tuple(said)


def result_code(analysis: Analysis) -> Code:
    """Return what CID 6047 says of it; an explainer is one of the algorithms."""
    found = _anything(analysis)
    if analysis.failures:
        return PARTLY_WITH_FINDINGS if found else PARTLY_WITHOUT_FINDINGS
    return SUCCEEDED_WITH_FINDINGS if found else SUCCEEDED_WITHOUT_FINDINGS


def result_text(analysis: Analysis) -> str:
    """Return the same in plain words."""
    found = "Something was found." if _anything(analysis) else "Nothing was found."
    if not analysis.failures:
        return f"Yes, the model ran to its end. {found}"
    return f"NO: the model ran, but not everything could be explained. {found}"


def finding_table(analysis: Analysis) -> str:
    """Return findings with probability and cut-off, aligned; of a single one all is said above."""
    if len(analysis.findings) < 2:
        return ""
    rows = [["Finding", "Answer", "Probability", "Cut-off", ""]]
    for finding in analysis.findings:
        answer = "PRESENT" if finding.present else "not present"
        certainty = "" if finding.certainty is None else certainty_text(finding.certainty)
        rows.append([finding.label, answer, *percent_texts(finding), certainty])
    return aligned(rows)


def structure_table(analysis: Analysis, volume: Volume) -> str:
    """Return outlined structures with volume and place, aligned.

    Empty if there are none, and where a single one has no place: of it all is said above.
    """
    affine = volume.affine
    if not analysis.segments or (affine is None and len(analysis.segments) < 2):
        return ""
    rows = [["Structure", "Volume", "Center"]]
    for segment in analysis.segments:
        voxels = int(np.count_nonzero(segment.mask))
        size = _size(voxels, volume) if voxels else "not outlined"
        place = center_text(segment.mask, affine) if voxels and affine is not None else ""
        rows.append([segment.label, size, place])
    return aligned(rows if affine is not None else [row[:2] for row in rows])


def where_text(region: Region, source: Input) -> str:
    """Return on which image to look: ``lesion: series 3, image 4 (L 3.8, A 10.8, H 49.0 mm)``."""
    frame = source.volume.frames[region.box.slice]
    header = header_of(frame, source)
    said = [f"series {header.SeriesNumber}"] if header.get("SeriesNumber") is not None else []
    if header.get("InstanceNumber") is not None:
        said.append(f"image {header.InstanceNumber}")
    if frame.frame_number is not None:
        said.append(f"frame {frame.frame_number}")
    words = ", ".join(said) or f"slice {region.box.slice + 1}"
    affine = source.volume.affine
    placed = "" if affine is None else f" ({place_text((affine @ (*region.box.center, 1.0))[:3])})"
    return f"{region.label}: {words}{placed}"


def explanation_table(explanation: Explanation) -> str:
    """Return what became of an explanation, and every measure with its limit, aligned."""
    head = f"{subject_text(explanation)} by {method_text(explanation)}: {grade_text(explanation)}"
    if not explanation.measures:
        return head
    rows = [["Measure", "Value", "Limit", ""]]
    rows += [_measure_row(measure) for measure in explanation.measures]
    return f"{head}{_NEW_LINE}{aligned(rows)}"


def prior_text(prior: PriorComparison) -> str:
    """Return which study it is compared with, or why with none, in one sentence."""
    dated = f"Study of {prior.study_date.isoformat()}" if prior.study_date else "An earlier study"
    if prior.study_instance_uid:
        words = dated if prior.values else f"{dated}: nothing in it can be compared"
    else:
        words = "There is nothing to compare with"
    return f"{words} ({prior.note})" if prior.note else words


def prior_table(prior: PriorComparison) -> str:
    """Return what was and what is, aligned; empty if nothing can be compared."""
    if not prior.values:
        return ""
    rows = [["", "", "Then", "Now", "Change"]]
    rows += [_prior_row(value) for value in prior.values]
    return aligned(rows)


def aligned(rows: Table) -> str:
    """Return rows as lines whose columns start at the same character, for monospaced type."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return _NEW_LINE.join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _anything(analysis: Analysis) -> bool:
    return any(finding.present for finding in analysis.findings) or any(
        segment.mask.any() for segment in analysis.segments
    )


def _outlined(analysis: Analysis, volume: Volume) -> Iterator[str]:
    filled = [segment for segment in analysis.segments if segment.mask.any()]
    if len(filled) > _MOST_SENTENCES:
        yield f"Outlined: {len(filled)} structures (see the table)"
    elif filled:
        sizes = (f"{s.label} ({_size(int(np.count_nonzero(s.mask)), volume)})" for s in filled)
        yield f"Outlined: {', '.join(sizes)}"


def _size(voxels: int, volume: Volume) -> str:
    milliliters = volume.voxel_volume_ml
    if milliliters is None:
        return f"{voxels} pixels"
    return f"{voxels * milliliters:.3g} ml"


def _measure_row(measure: MeasureValue) -> list[str]:
    unit = "" if measure.unit == "1" else f" {measure.unit}"
    value, limit = told_apart(measure.value, measure.limit)
    if not np.isfinite(measure.value):
        value = "could not be measured"
    passed = {None: "reported only", True: "passed", False: "FAILED"}[measure.passed]
    asked = f"{_side(measure)}{limit}{unit}" if limit else ""
    return [measure.name.replace("_", " "), f"{value}{unit}", asked, passed]


def _side(measure: MeasureValue) -> str:
    """Return on which side of its limit a measure has to be, as the verdict on it tells."""
    if measure.limit is None or measure.passed is None or not np.isfinite(measure.value):
        return ""
    if measure.value == measure.limit:
        return ""
    return "at least " if (measure.value > measure.limit) == measure.passed else "at most "


def _prior_row(value: PriorValue) -> list[str]:
    if value.quantity is Quantity.PROBABILITY:
        then, now = value.then * 100, value.now * 100
        return [
            *(value.label, "probability", f"{then:.1f} %", f"{now:.1f} %"),
            f"{now - then:+.1f} points",
        ]
    grown = f" ({value.now / value.then - 1:+.0%})" if value.then > 0 else ""
    return [
        *(value.label, "volume", f"{value.then:.3g} ml", f"{value.now:.3g} ml"),
        f"{value.now - value.then:+.3g} ml{grown}",
    ]
