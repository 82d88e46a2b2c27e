"""Grayscale Softcopy Presentation State: contours and words over the source's own images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.analysis import Analysis, Explanation, Verdict
from dicom_io.contours import contours
from dicom_io.encode.binary_segmentation import encoded_lab
from dicom_io.encode.inherit import (
    Place,
    identify_private_scheme,
    inherit_laterality,
    new_object,
    referenced_series,
    sop_reference,
    writable,
)
from dicom_io.encode.released import released_explanations
from dicom_io.encode.reliability_words import DO_NOT_RELY, certainty_text, probability_name
from dicom_io.encode.roles import PRESENTATION
from dicom_io.encode.softcopy import Shown, is_grayscale, shown_alike
from dicom_io.encode.words import (
    NOT_FOR_DIAGNOSIS,
    grade_text,
    is_for_research,
    method_text,
    probability_text,
    series_text,
    subject_text,
    verdict_text,
)
from dicom_io.origin import Origin
from dicom_io.paint import OUTLINE, displayed, heat_lab, segment_lab
from dicom_io.read import Input
from dicom_io.volume import SourceFrame

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.11.1"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)
#: Most lines that are drawn of one thing on one image: a scattered map has hundreds of specks.
MOST_LINES = 24
#: Most points of a line: a value of VR FL has at most 65534 bytes in explicit VR (PS3.5 7.1.2).
_MOST_POINTS = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """One thing that is outlined."""

    layer: str
    description: str
    lab: tuple[float, float, float]
    #: Lines by slice, the largest first; slices without any are absent.
    lines: dict[int, list[NDArray[np.float32]]]
    #: What stands under the largest line.
    label: str
    #: What stands in the corner of the picture; empty: nothing.
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What the presentation states of one series share."""

    drawn: Sequence[_Drawn]
    place: Place
    analysis: Analysis
    source: Input
    origin: Origin


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return presentation states (PS3.3 A.33.1) of the source's images with contours on them.

    One series per explanation that may leave, with the line at half of the peak and the outlines
    of all segments; of outlines alone where no explanation may. Only images with a contour are
    referred to. A series has more than one object where its images turn stored values into grays
    in different ways. Colored images have none.
    """
    del produced
    if not is_grayscale(source):
        return ()
    outlines = tuple(_outlines(analysis))
    states = [
        _State(
            drawn=(_evidence(explanation, analysis, origin), *outlines),
            place=_place(explanation, analysis, index),
            analysis=analysis,
            source=source,
            origin=origin,
        )
        for index, explanation in released_explanations(analysis, source.volume)
    ]
    if not states and outlines:
        place = _place(None, analysis, len(analysis.explanations))
        words = "\r\n".join(["AI outlines", *_warnings(analysis, origin)])
        outlines = (replace(outlines[0], words=words), *outlines[1:])
        states = [
            _State(drawn=outlines, place=place, analysis=analysis, source=source, origin=origin)
        ]
    return tuple(dataset for state in states for dataset in _encode_state(state))


def _evidence(explanation: Explanation, analysis: Analysis, origin: Origin) -> _Drawn:
    levels = displayed(explanation.heatmap).levels
    said = [f"AI evidence for {subject_text(explanation)}"]
    for finding in analysis.findings:
        if finding.label == explanation.target:
            answer = "PRESENT" if finding.present else "not present"
            said.append(f"{answer}, {probability_name(finding)} {probability_text(finding)}")
            said += [] if finding.certainty is None else [certainty_text(finding.certainty)]
    said.append(f"{method_text(explanation)}: {grade_text(explanation)}")
    return _Drawn(
        layer="AI_EVIDENCE",
        description=f"Where the relevance is at least {OUTLINE * 100:.0f} % of its peak",
        lab=heat_lab(0.8),
        lines=_lines(levels, round(OUTLINE * 255) - 0.5),
        label=f"AI: {subject_text(explanation)}",
        words="\r\n".join([*said, *_warnings(analysis, origin)]),
    )


def _warnings(analysis: Analysis, origin: Origin) -> list[str]:
    said = [DO_NOT_RELY] if analysis.is_strange else []
    return [*said, NOT_FOR_DIAGNOSIS] if is_for_research(origin) else said


def _outlines(analysis: Analysis) -> Iterator[_Drawn]:
    for number, segment in enumerate(analysis.segments, 1):
        if segment.mask.any():
            yield _Drawn(
                layer=f"AI_OUTLINE_{number}",
                description=f"{segment.label}, outlined by {analysis.model.name}",
                lab=segment_lab(number),
                lines=_lines(segment.mask, 0.5),
                label=f"AI outline: {segment.label}",
            )


def _lines(
    values: NDArray[np.uint8] | NDArray[np.bool_], level: float
) -> dict[int, list[NDArray[np.float32]]]:
    reached = np.flatnonzero((values >= level).any(axis=(1, 2)))
    return {int(index): contours(values[index], level)[:MOST_LINES] for index in reached}


def _place(explanation: Explanation | None, analysis: Analysis, index: int) -> Place:
    what = f"contours {analysis.model.name}"
    if explanation is not None:
        passed = explanation.verdict is Verdict.PASSED
        grade = "" if passed else verdict_text(explanation)
        what = series_text("contour, evidence for", explanation, grade)
    return Place(
        role=PRESENTATION,
        series=index,
        series_number=9600 + index,
        modality="PR",
        sop_class_uid=SOP_CLASS_UID,
        description=what,
    )


def _encode_state(state: _State) -> Iterator[Dataset]:
    slices = sorted({index for drawn in state.drawn for index in drawn.lines})
    frames = [state.source.volume.frames[index] for index in slices]
    by_transform: dict[str, list[Shown]] = {}
    for shown in shown_alike(state.source, frames):
        by_transform.setdefault(str(shown.modality), []).append(shown)
    for number, alike in enumerate(by_transform.values(), 1):
        yield _encode_alike(state, alike, number)


def _encode_alike(state: _State, alike: Sequence[Shown], number: int) -> Dataset:
    """Return one presentation state, of images that share their Modality LUT."""
    place, source = replace(state.place, instance=number), state.source
    dataset = new_object(place, state.analysis, source, state.origin)
    if source.headers[0].get("BodyPartExamined"):
        dataset.BodyPartExamined = source.headers[0].BodyPartExamined
    inherit_laterality(dataset, source.headers[0])
    dataset.ContentLabel = "AI_CONTOURS"
    dataset.ContentDescription = writable(place.description, dataset)[:64]
    dataset.ContentCreatorName = ""
    dataset.PresentationCreationDate = dataset.ContentDate
    dataset.PresentationCreationTime = dataset.ContentTime
    frames = [frame for shown in alike for frame in shown.frames]
    series = referenced_series(source, frames)
    del series.ReferencedInstanceSequence
    series.ReferencedImageSequence = _images(frames)
    dataset.ReferencedSeriesSequence = [series]
    dataset.update(alike[0].modality)
    _add_voi(dataset, alike)
    inverse = source.headers[0].PhotometricInterpretation == "MONOCHROME1"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.DisplayedAreaSelectionSequence = [_displayed_area(source)]
    _draw(dataset, state, frames)
    identify_private_scheme(dataset)
    return dataset


def _images(frames: Iterable[SourceFrame]) -> list[Dataset]:
    """Return references to images, each instance once with the frames that are meant."""
    items: dict[str, Dataset] = {}
    for frame in frames:
        reference = sop_reference(frame.sop_class_uid, frame.sop_instance_uid)
        item = items.setdefault(frame.sop_instance_uid, reference)
        if frame.frame_number is not None:
            known = item.get("ReferencedFrameNumber")
            numbers = [] if known is None else [known] if isinstance(known, int) else list(known)
            item.ReferencedFrameNumber = [*numbers, frame.frame_number]
    return list(items.values())


def _add_voi(dataset: Dataset, alike: Sequence[Shown]) -> None:
    items = []
    for shown in alike:
        if len(shown.voi):
            item = Dataset()
            item.update(shown.voi)
            if len(alike) > 1:
                item.ReferencedImageSequence = _images(shown.frames)
            items.append(item)
    if items:
        dataset.SoftcopyVOILUTSequence = items


def _displayed_area(source: Input) -> Dataset:
    """Return the whole image (PS3.3 C.10.4): here pixels count from 1."""
    _, rows, columns = source.volume.grid_shape
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [columns, rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    spacing = source.volume.pixel_spacing_mm
    if spacing is not None and not np.isclose(spacing[0], spacing[1], rtol=1e-3):
        item.PresentationPixelSpacing = [float(each) for each in spacing]
    else:
        item.PresentationPixelAspectRatio = [1, 1]
    return item


def _draw(dataset: Dataset, state: _State, frames: Sequence[SourceFrame]) -> None:
    dataset.GraphicLayerSequence = []
    dataset.GraphicAnnotationSequence = []
    volume = state.source.volume
    for order, drawn in enumerate(state.drawn, 1):
        layer = Dataset()
        layer.GraphicLayer = drawn.layer
        layer.GraphicLayerOrder = order
        layer.GraphicLayerRecommendedDisplayCIELabValue = encoded_lab(drawn.lab)
        layer.GraphicLayerDescription = writable(drawn.description, dataset)[:64]
        dataset.GraphicLayerSequence.append(layer)
        for index, lines in drawn.lines.items():
            if volume.frames[index] in frames:
                item = Dataset()
                item.ReferencedImageSequence = _images([volume.frames[index]])
                item.GraphicLayer = drawn.layer
                item.TextObjectSequence = _texts(drawn, lines[0], volume.grid_shape, dataset)
                item.GraphicObjectSequence = [_polyline(line) for line in lines]
                dataset.GraphicAnnotationSequence.append(item)


def _polyline(line: NDArray[np.float32]) -> Dataset:
    """Return a closed polyline; 0, 0 is the corner of the first pixel (PS3.3 C.10.5)."""
    step = -(-len(line) // _MOST_POINTS)
    points = line if step == 1 else np.concatenate([line[:-1:step], line[-1:]])
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [float(value) for value in points.ravel()]
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _texts(
    drawn: _Drawn, line: NDArray[np.float32], shape: tuple[int, int, int], dataset: Dataset
) -> list[Dataset]:
    """Return a label at the largest line, so that it is on no other side, and words in a corner."""
    _, rows, columns = shape
    left, top = (float(value) for value in line.min(axis=0))
    bottom = float(line[:, 1].max())
    label = Dataset()
    label.AnchorPointAnnotationUnits = "PIXEL"
    label.UnformattedTextValue = writable(drawn.label, dataset)[:1024]
    below = bottom < 0.9 * rows
    label.AnchorPoint = [min(left, 0.7 * columns), bottom if below else max(top - 0.08 * rows, 0.0)]
    label.AnchorPointVisibility = "N"
    if not drawn.words:
        return [label]
    words = Dataset()
    words.BoundingBoxAnnotationUnits = "DISPLAY"
    words.UnformattedTextValue = writable(drawn.words, dataset)[:1024]
    words.BoundingBoxTopLeftHandCorner = [0.02, 0.84]
    words.BoundingBoxBottomRightHandCorner = [0.6, 0.98]
    words.BoundingBoxTextHorizontalJustification = "LEFT"
    return [label, words]
