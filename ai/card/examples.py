"""Three pictures: the best, the middle and the worst map of the chosen explainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ai.card.cases import Candidate, KnownCase
from ai.card.maps import explained, on_source
from ai.card.reading import Reader, open_case
from ai.card.records import CaseRecord
from ai.errors import ExplanationError
from dicom_io.analysis import Heatmap
from dicom_io.encode.geometry import direction_letters, opposite_letters
from dicom_io.errors import DicomInputError
from dicom_io.paint import displayed, draw_outline, enlarged, gray, heated, key_slice, window_of
from dicom_io.volume import Volume

#: Longer side of a panel, pixels.
_SIDE = 380
_GAP = 8
#: Of a slice: structures below this share are small.
_SMALL = 0.05
_MARGIN = 20
_TRUTH_RGB = (80, 255, 120)
_PAPER = (16, 16, 18)
_LETTER = (225, 225, 225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One case to look at."""

    #: ``best``, ``median`` or ``worst``.
    role: str
    case: str
    #: What it is the best of, and how good it is.
    measure: str
    value: float
    label: str
    probability: float | None
    #: The slice that is shown, from 1, of so many.
    slice_number: int
    slices: int
    path: Path


def ranked_cases(
    records: Sequence[CaseRecord], name: str
) -> tuple[tuple[str, CaseRecord, str, float], ...]:
    """Return role, record, measure and value of the best, the middle and the worst map.

    By the share of relevance in the truth where that is known, else by comprehensiveness.
    """
    for measure in ("mass", "comprehensiveness"):
        found = [
            (each.measures[measure], record)
            for record in records
            if (each := record.map_of(name)) is not None and measure in each.measures
        ]
        if found:
            break
    ordered = sorted(found, key=lambda pair: (-pair[0], pair[1].case))
    places = {"best": 0, "median": len(ordered) // 2, "worst": len(ordered) - 1}
    chosen: dict[int, str] = {}
    for role, place in places.items():
        if 0 <= place < len(ordered):
            chosen.setdefault(place, role)
    return tuple(
        (role, ordered[place][1], measure, ordered[place][0]) for place, role in chosen.items()
    )


def draw_examples(
    records: Sequence[CaseRecord],
    cases: Sequence[KnownCase],
    candidate: Candidate,
    reader: Reader,
    folder: Path,
) -> tuple[Example, ...]:
    """Write a picture of each example, and return them all.

    Maps are made anew, one at a time: none was kept while the cases were read.
    """
    by_name = {case.name: case for case in cases}
    folder.mkdir(exist_ok=True)
    found = []
    for role, record, measure, value in ranked_cases(records, candidate.name):
        path = folder / f"{role}-{record.key[:16]}-{candidate.method}.png"
        reader.told(f"picture: {role}")
        try:
            number, slices = _drawn(by_name[record.case], candidate, reader, path)
        except (DicomInputError, ExplanationError):
            # It could be read and explained before: what changed meanwhile is no example.
            continue
        found.append(
            Example(
                role=role,
                case=record.case,
                measure=measure,
                value=value,
                label=record.target,
                probability=record.probabilities.get(record.target),
                slice_number=number,
                slices=slices,
                path=path,
            )
        )
    return tuple(found)


def _drawn(case: KnownCase, candidate: Candidate, reader: Reader, path: Path) -> tuple[int, int]:
    """Write the picture; return the slice, from 1, and how many there are."""
    opened = open_case(case, reader)
    if opened.question is None:
        raise ExplanationError(f"case {case.name}: there is nothing to explain any more")
    relevance = on_source(
        explained(candidate, opened.question, opened.session).values, opened.question
    )
    heatmap = Heatmap(relevance=relevance[None])
    truth = opened.question.truth
    index = key_slice(heatmap) if truth is None else _shown_slice(relevance, truth)
    levels = displayed(heatmap).levels[index]
    picture(opened.volume, index, levels, None if truth is None else truth[index]).save(path)
    return index + 1, opened.volume.grid_shape[0]


def _shown_slice(relevance: NDArray[np.float32], truth: NDArray[np.bool_]) -> int:
    """Return the slice with most relevance in the truth; without any, that of its largest area."""
    inside = (np.clip(relevance, 0.0, None) * truth).sum(axis=(1, 2), dtype=np.float64)
    return int((inside if inside.any() else truth.sum(axis=(1, 2))).argmax())


def picture(
    volume: Volume, index: int, levels: NDArray[np.uint8], truth: NDArray[np.bool_] | None
) -> Image.Image:
    """Return a slice with its truth outlined, beside the same under its heatmap."""
    plane = volume.voxels[0, index]
    factor = max(1, round(_SIDE / max(plane.shape)))
    shown = enlarged(gray(plane, window_of(volume.voxels[0], volume.window)), factor)
    plain = np.repeat(shown[..., None], 3, axis=2)
    if truth is not None:
        # A large structure has a long outline, and a thick one would hide it.
        line = 2 if truth.mean() < _SMALL else 1
        outline = truth.repeat(factor, axis=0).repeat(factor, axis=1)
        draw_outline(plain, outline, _TRUTH_RGB, line=line)
    heat = heated(plain, enlarged(levels, factor), line=1)
    panels = [_proportioned(Image.fromarray(each), volume) for each in (plain, heat)]
    return _side_by_side(panels, _letters(volume))


def _proportioned(panel: Image.Image, volume: Volume) -> Image.Image:
    """Return a panel whose pixels are as wide as they are high in the patient."""
    spacing = volume.spacing_mm[1:] if volume.spacing_mm else volume.pixel_spacing_mm or (1.0, 1.0)
    rows, columns = panel.height * spacing[0], panel.width * spacing[1]
    scale = _SIDE / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return panel.resize(size, Image.Resampling.LANCZOS)


def _letters(volume: Volume) -> tuple[str, str, str, str]:
    """Return what lies at the left, right, top and bottom; empty where that is not known."""
    if volume.affine is None:
        return "", "", "", ""
    right, bottom = (direction_letters(volume.affine[:3, axis]) for axis in (2, 1))
    return opposite_letters(right), right, opposite_letters(bottom), bottom


def _side_by_side(panels: Sequence[Image.Image], letters: tuple[str, str, str, str]) -> Image.Image:
    width, height = panels[0].size
    one = width + 2 * _MARGIN
    canvas = Image.new("RGB", (2 * one + _GAP, height + 2 * _MARGIN), _PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    left, right, top, bottom = letters
    for number, panel in enumerate(panels):
        begin = number * (one + _GAP)
        canvas.paste(panel, (begin + _MARGIN, _MARGIN))
        middle, center = begin + one / 2, _MARGIN + height / 2
        for text, place in (
            (left, (begin + _MARGIN / 2, center)),
            (right, (begin + one - _MARGIN / 2, center)),
            (top, (middle, _MARGIN / 2)),
            (bottom, (middle, _MARGIN * 1.5 + height)),
        ):
            if text:
                draw.text(place, text, fill=_LETTER, font=font, anchor="mm")
    return canvas
