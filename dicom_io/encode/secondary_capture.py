"""Secondary Capture series: image, relevance, outlines and legend in plain RGB, for any viewer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import RLELossless

from dicom_io.analysis import Analysis, Explanation, Segment, Verdict
from dicom_io.codes import method_code
from dicom_io.encode.geometry import (
    decimal,
    direction_letters,
    image_orientation,
    image_position,
    opposite_letters,
    slice_distance,
)
from dicom_io.encode.inherit import (
    Place,
    code_item,
    header_of,
    identify_private_scheme,
    inherit_image_quality,
    inherit_laterality,
    new_object,
    source_image,
    stand_at,
    writable,
)
from dicom_io.encode.overlay_legend import overlay_legend
from dicom_io.encode.released import released_explanations
from dicom_io.encode.roles import OVERLAY, OVERLAY_RLE
from dicom_io.encode.words import (
    method_text,
    parameter_text,
    residual_text,
    series_text,
    subject_text,
    verdict_text,
)
from dicom_io.legend import Layout, draw_canvas, draw_footer, layout_of
from dicom_io.origin import Origin
from dicom_io.paint import (
    FAINTEST,
    Display,
    displayed,
    draw_outline,
    enlarged,
    gray,
    heat_table,
    heated,
    heated_by,
    key_slice,
    lab_to_rgb,
    segment_lab,
    window_of,
)
from dicom_io.read import Input
from dicom_io.volume import Volume

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.7"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)
#: Longest series of captures; each takes more than a megabyte.
MOST_SLICES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overlay:
    """One series to be painted."""

    role: str
    #: Number of the explanation within its analysis; one more than the last for outlines alone.
    index: int
    explanation: Explanation | None
    display: Display | None
    segments: tuple[Segment, ...]
    analysis: Analysis
    source: Input
    layout: Layout
    #: Indices of the source slices that are sent, evenly spaced.
    slices: range
    #: The slice that holds most of the relevance; None for outlines alone.
    key: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How all slices of a series are painted."""

    #: Values that are black, and white.
    limits: tuple[float, float]
    table: NDArray[np.uint32]


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return one single-frame RGB series per explanation that may leave.

    Where none may, but segments were outlined, one series shows the outlines alone; without
    either there is nothing to paint, and the report says so.
    """
    del produced
    return tuple(
        dataset
        for overlay in _overlays(analysis, source, role=OVERLAY)
        for dataset in _encode_series(overlay, origin)
    )


def encode_rle(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the same series in RLE Lossless (PS3.5 8.2.2), at about a third of the size.

    Under other identifiers: the two are different objects, and no route needs both.
    """
    del produced
    compressed = []
    for overlay in _overlays(analysis, source, role=OVERLAY_RLE):
        for dataset in _encode_series(overlay, origin):
            dataset.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
            compressed.append(dataset)
    return tuple(compressed)


def _overlays(analysis: Analysis, source: Input, *, role: str) -> Iterator[_Overlay]:
    filled = tuple(segment for segment in analysis.segments if segment.mask.any())
    shown = list(released_explanations(analysis, source.volume))
    alone = [(len(analysis.explanations), None)] if filled and not shown else []
    for index, explanation in [*shown, *alone]:
        display = displayed(explanation.heatmap) if explanation else None
        key = key_slice(explanation.heatmap) if explanation else None
        yield _Overlay(
            role=role,
            index=index,
            explanation=explanation,
            display=display,
            segments=filled,
            analysis=analysis,
            source=source,
            layout=layout_of(*source.volume.grid_shape[1:]),
            slices=_slices(key, display, filled, count=source.volume.grid_shape[0]),
            key=key,
        )


def _slices(
    key: int | None,
    display: Display | None,
    segments: Sequence[Segment],
    *,
    count: int,
) -> range:
    """Return which slices are sent: from the first painted one to the last, and a neighbor each.

    Of very many, every second or third, among them the key slice; bands and segmentation have
    them all.
    """
    painted = np.zeros(count, bool)
    if display is not None:
        painted |= (display.levels >= round(FAINTEST * 255)).any(axis=(1, 2))
    for segment in segments:
        painted |= segment.mask.any(axis=(1, 2))
    where = np.flatnonzero(painted)
    if where.size == 0:
        return range(count // 2, count // 2 + 1)
    first, last = max(int(where[0]) - 1, 0), min(int(where[-1]) + 1, count - 1)
    step = ceil((last - first + 1) / MOST_SLICES)
    middle = int(where[where.size // 2]) if key is None else key
    return range(first + (middle - first) % step, last + 1, step)


def _encode_series(overlay: _Overlay, origin: Origin) -> Iterator[Dataset]:
    common = _common(overlay, origin)
    limits = window_of(overlay.source.volume.voxels[0], overlay.source.volume.window)
    legend = overlay_legend(
        overlay.analysis, overlay.explanation, overlay.display, overlay.segments, origin=origin
    )
    canvas = draw_canvas(overlay.layout, legend, _letters(overlay.source)).copy()
    draw_footer(canvas, overlay.layout, [_extent(overlay)], first=1)
    look = _Look(limits=limits, table=heat_table())
    for number, index in enumerate(overlay.slices, 1):
        dataset = Dataset()
        dataset.update(common)
        stand_at(dataset, _place(overlay, number), overlay.analysis, origin)
        frame = overlay.source.volume.frames[index]
        dataset.SourceImageSequence = [source_image(frame)]
        _position(dataset, overlay, index)
        # One canvas for all: what differs is painted over what was there before.
        _insert(canvas, _paint(overlay, index, look), overlay.layout)
        draw_footer(canvas, overlay.layout, [_where(overlay, index)])
        draw_footer(canvas, overlay.layout, [_rank(overlay, index)], first=2)
        octets = canvas.tobytes()
        dataset.PixelData = octets if len(octets) % 2 == 0 else octets + b"\0"
        yield dataset


def _place(overlay: _Overlay, number: int) -> Place:
    explanation = overlay.explanation
    what = f"outlines {overlay.analysis.model.name}"
    if explanation is not None:
        passed = explanation.verdict is Verdict.PASSED
        grade = "passed" if passed else verdict_text(explanation)
        what = series_text("overlay", explanation, grade)
    return Place(
        role=overlay.role,
        series=overlay.index,
        instance=number,
        series_number=(9300 if overlay.role == OVERLAY else 9350) + overlay.index,
        modality="OT",
        sop_class_uid=SOP_CLASS_UID,
        description=what,
    )


def _common(overlay: _Overlay, origin: Origin) -> Dataset:
    """Return what all instances of a series share; what differs is not in it.

    Building one data set and adding to copies of it is what makes long series affordable.
    """
    volume, layout = overlay.source.volume, overlay.layout
    dataset = new_object(_place(overlay, 1), overlay.analysis, overlay.source, origin)
    del dataset.SOPInstanceUID, dataset.InstanceNumber
    header = header_of(volume.frames[0], overlay.source)
    inherit_image_quality(dataset, header)
    inherit_laterality(dataset, header)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.BurnedInAnnotation = header.get("BurnedInAnnotation") or "NO"
    dataset.DerivationDescription = writable(_derivation(overlay), dataset)[:1024]
    if overlay.explanation is not None:
        method = method_code(overlay.explanation.method)
        dataset.DerivationCodeSequence = [code_item(method)]
    dataset.Rows, dataset.Columns = layout.rows, layout.columns
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8
    dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    _orient(dataset, overlay, header)
    identify_private_scheme(dataset)
    return dataset


def _derivation(overlay: _Overlay) -> str:
    what = "Outlines of segments"
    explanation = overlay.explanation
    if explanation is not None:
        what = (
            f"Relevance for {subject_text(explanation)} by {method_text(explanation)} "
            f"({parameter_text(explanation)}; {residual_text(explanation)}), "
            "as fractions of the value that 1 % of the image's positive relevance lies above,"
        )
    return f"{what} over the source image, enlarged {overlay.layout.factor} times; legend beside it"


def _orient(dataset: Dataset, overlay: _Overlay, header: Dataset) -> None:
    volume, factor = overlay.source.volume, overlay.layout.factor
    _, right, _, bottom = _letters(overlay.source)
    dataset.PatientOrientation = [right, bottom] if right and bottom else None
    if volume.affine is None or volume.spacing_mm is None:
        return
    if volume.frame_of_reference_uid is not None:
        dataset.FrameOfReferenceUID = volume.frame_of_reference_uid
        dataset.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    _, row_spacing, column_spacing = volume.spacing_mm
    dataset.ImageOrientationPatient = image_orientation(volume.affine)
    dataset.PixelSpacing = [decimal(row_spacing / factor), decimal(column_spacing / factor)]
    dataset.SliceThickness = decimal(slice_distance(volume.affine))


def _position(dataset: Dataset, overlay: _Overlay, index: int) -> None:
    affine = overlay.source.volume.affine
    if affine is not None:
        corner = overlay.layout.source_index(0)
        dataset.ImagePositionPatient = image_position(affine, index, corner, corner)


def _letters(source: Input) -> tuple[str, str, str, str]:
    """Return what lies at the image's left, right, top and bottom (PS3.3 C.7.6.1.1.1)."""
    affine = source.volume.affine
    if affine is not None:
        right = direction_letters(affine[:3, 2])
        bottom = direction_letters(affine[:3, 1])
    else:
        stated = source.headers[0].get("PatientOrientation")
        # One value, or three, is no statement: a side is never guessed.
        known = isinstance(stated, MultiValue) and len(stated) == 2
        right, bottom = (str(letters) for letters in (stated if known else ("", "")))
    return opposite_letters(right), right, opposite_letters(bottom), bottom


def _paint(overlay: _Overlay, index: int, look: _Look) -> NDArray[np.uint8]:
    factor = overlay.layout.factor
    background = enlarged(_background(overlay.source, index, look.limits), factor)
    if overlay.display is None:
        levels = np.zeros(background.shape[:2], np.uint8)
    else:
        levels = enlarged(overlay.display.levels[index], factor)
    line = max(1, round(overlay.layout.scale))
    if background.ndim == 2:
        painted = heated_by(look.table, background, levels, line=line)
    else:
        painted = heated(background, levels, line=line)
    for number, segment in enumerate(overlay.segments, 1):
        mask = enlarged(segment.mask[index].astype(np.uint8) * 255, factor) >= 128
        draw_outline(painted, mask, lab_to_rgb(segment_lab(number)), line=line)
    return painted


def _background(source: Input, index: int, limits: tuple[float, float]) -> NDArray[np.uint8]:
    voxels = source.volume.voxels
    if source.volume.affine is not None or voxels.shape[0] != 3:
        return gray(voxels[0, index], limits)
    colors = gray(voxels[:, index], (0.0, _brightest_color(source)))
    return np.ascontiguousarray(colors.transpose(1, 2, 0))


def _brightest_color(source: Input) -> float:
    """Return the largest value that a color of a photograph can have."""
    header = source.headers[0]
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        # Bits Stored is that of the indices; the palette has eight bits or sixteen.
        return 255.0 if float(source.volume.voxels.max()) <= 255.0 else 65535.0
    return float(2.0 ** int(header.get("BitsStored") or 8) - 1.0)


def _insert(canvas: NDArray[np.uint8], painted: NDArray[np.uint8], layout: Layout) -> None:
    rows, columns = painted.shape[:2]
    margin = layout.margin
    canvas[margin : margin + rows, margin : margin + columns] = painted


def _where(overlay: _Overlay, index: int) -> str:
    """Return which slice it is, and where it lies."""
    volume: Volume = overlay.source.volume
    if volume.affine is None:
        return ""
    count, rows, columns = volume.grid_shape
    center = volume.affine @ (index, (rows - 1) / 2, (columns - 1) / 2, 1.0)
    axis = int(np.argmax(np.abs(volume.affine[:3, 0])))
    side = ("LR", "PA", "HF")[axis][0 if center[axis] >= 0 else 1]
    return f"slice {index + 1} of {count}, {side} {abs(center[axis]):.1f} mm"


def _rank(overlay: _Overlay, index: int) -> str:
    """Return that it is the slice to look at first, of the one that is."""
    several = overlay.source.volume.grid_shape[0] > 1
    return "the slice with most of the evidence" if several and index == overlay.key else ""


def _extent(overlay: _Overlay) -> str:
    """Return which slices the series shows."""
    sent = overlay.slices
    if overlay.source.volume.affine is None or overlay.source.volume.grid_shape[0] == 1:
        return ""
    step = {1: "", 2: ", every 2nd", 3: ", every 3rd"}.get(sent.step, f", every {sent.step}th")
    return f"shown: {sent[0] + 1} to {sent[-1] + 1}{step}"
