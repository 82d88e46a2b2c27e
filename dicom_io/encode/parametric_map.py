"""Parametric Map: relevance itself, signed and unrounded, for viewers that blend and measure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.analysis import Analysis, Explanation, Verdict
from dicom_io.codes import NO_UNITS, QUANTITY, Code, method_code
from dicom_io.encode.frame_groups import (
    POSITION,
    add_derivation,
    add_dimensions,
    add_position,
    placed_groups,
)
from dicom_io.encode.geometry import decimal
from dicom_io.encode.inherit import (
    Place,
    code_item,
    identify_private_scheme,
    inherit_image_quality,
    inherit_laterality,
    new_object,
    other_uid,
    referenced_series,
    writable,
)
from dicom_io.encode.released import released_explanations
from dicom_io.encode.roles import PARAMETRIC_MAP, PARAMETRIC_MAP_COARSE
from dicom_io.encode.words import (
    method_text,
    parameter_text,
    residual_text,
    series_text,
    subject_text,
    verdict_text,
)
from dicom_io.origin import Origin
from dicom_io.paint import relevance_peak, summed
from dicom_io.read import Input
from dicom_io.volume import SourceFrame

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.30"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)
#: Voxels of the source along each axis that one voxel of the coarse map stands for.
COARSE_FACTOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Relevance on the grid that is written."""

    #: float32 [slice, row, column], signed.
    relevance: NDArray[np.float32]
    #: 4 x 4 from (slice, row, column, 1) to LPS mm.
    affine: NDArray[np.float64]
    #: The source frames of each slice.
    sources: Sequence[Sequence[SourceFrame]]
    #: Relevance that is stored as 1.
    unit: float


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return one float32 Parametric Map (PS3.3 A.75) per explanation that may leave.

    Stored values are fractions of the peak, as bands and colors are; the second Real World Value
    Mapping gives the relevance itself, channels summed. Frames ascend along row x column
    direction, as those of a volume do: viewers that stack frames in the order of the file would
    otherwise show the map mirrored. Only for images with a place in patient space.
    """
    del produced
    return tuple(_encode(analysis, source, origin, coarse=1))


def encode_coarse(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return the same maps on a grid that is four times coarser along each axis, as means.

    A sixty-fourth of the size, for archives; viewers that need the grid of the source show none.
    """
    del produced
    return tuple(_encode(analysis, source, origin, coarse=COARSE_FACTOR))


def _encode(analysis: Analysis, source: Input, origin: Origin, *, coarse: int) -> Iterator[Dataset]:
    affine = source.volume.affine
    if affine is None or source.volume.frame_of_reference_uid is None:
        return
    for index, explanation in released_explanations(analysis, source.volume):
        relevance = summed(explanation.heatmap)
        unit = relevance_peak(relevance) or float(np.abs(relevance).max())
        if unit <= 0:
            continue
        grid = _Grid(
            relevance=_means(relevance, coarse),
            affine=_coarser(affine, coarse),
            sources=_grouped(source.volume.frames, coarse),
            unit=unit,
        )
        place = _place(explanation, index, coarse=coarse)
        yield _encode_map(grid, explanation, place, analysis, (source, origin))


def _means(relevance: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return the means of blocks; the last block of an axis may be smaller than the others."""
    coarse = relevance
    if factor == 1:
        return coarse
    for axis, extent in enumerate(relevance.shape):
        starts = np.arange(0, extent, factor)
        counts = np.minimum(extent - starts, factor).astype(np.float32)
        shape = [1] * relevance.ndim
        shape[axis] = -1
        coarse = np.add.reduceat(coarse, starts, axis=axis) / counts.reshape(shape)
    return coarse


def _coarser(affine: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return the affine of blocks: their centers, and ``factor`` times the steps."""
    step = np.diag([factor, factor, factor, 1.0])
    step[:3, 3] = (factor - 1) / 2
    return np.asarray(affine @ step)


def _grouped(frames: Sequence[SourceFrame], factor: int) -> list[Sequence[SourceFrame]]:
    return [frames[start : start + factor] for start in range(0, len(frames), factor)]


def _place(explanation: Explanation, index: int, *, coarse: int) -> Place:
    grade = "" if explanation.verdict is Verdict.PASSED else verdict_text(explanation)
    kind = "map, evidence for" if coarse == 1 else "coarse map, evidence for"
    return Place(
        role=PARAMETRIC_MAP if coarse == 1 else PARAMETRIC_MAP_COARSE,
        series=index,
        series_number=(9400 if coarse == 1 else 9500) + index,
        # The standard allows the source's modality too, which would be taken for an image of it.
        modality="OT",
        sop_class_uid=SOP_CLASS_UID,
        description=series_text(kind, explanation, grade),
    )


def _encode_map(
    grid: _Grid,
    explanation: Explanation,
    place: Place,
    analysis: Analysis,
    task: tuple[Input, Origin],
) -> Dataset:
    source, origin = task
    dataset = new_object(place, analysis, source, origin)
    inherit_image_quality(dataset, source.headers[0])
    inherit_laterality(dataset, source.headers[0])
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    dataset.ContentLabel = "AI_RELEVANCE"
    dataset.ContentDescription = writable(place.description, dataset)[:64]
    dataset.ContentCreatorName = ""
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = dataset.get("RecognizableVisualFeatures") or "NO"
    dataset.AcquisitionContextSequence = []
    dataset.FrameOfReferenceUID = source.volume.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.DerivationDescription = writable(_derivation(grid, explanation), dataset)[:1024]
    dataset.ReferencedSeriesSequence = [referenced_series(source, source.volume.frames)]
    organization = other_uid(f"{place.role} dimensions", analysis, origin, index=place.series)
    add_dimensions(dataset, [POSITION], organization)
    stored = grid.relevance / np.float32(grid.unit)
    dataset.SharedFunctionalGroupsSequence = [_shared(grid, stored, explanation, dataset)]
    _state_orientation_as(source.headers[0], dataset)
    dataset.PerFrameFunctionalGroupsSequence = list(_frames(grid, explanation))
    _describe_pixels(dataset, stored)
    dataset.FloatPixelData = stored.astype("<f4", copy=False).tobytes()
    identify_private_scheme(dataset)
    return dataset


def _state_orientation_as(header: Dataset, dataset: Dataset) -> None:
    """Write the orientation digit by digit as the source does, where that is the same one.

    OHIF 3.12 takes a map whose cosines differ in the twelfth digit for an oblique one.
    """
    (plane,) = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    stated = header.get("ImageOrientationPatient")
    # Longer than a DS may be (PS3.5 6.2) is what some devices write, and what we must not.
    if not stated or any(len(str(value)) > 16 for value in stated):
        return
    if np.allclose(
        np.array(stated, float), np.array(plane.ImageOrientationPatient, float), atol=1e-6
    ):
        plane.ImageOrientationPatient = stated


def _derivation(grid: _Grid, explanation: Explanation) -> str:
    return (
        f"Relevance for {subject_text(explanation)} by {method_text(explanation)} "
        f"({parameter_text(explanation)}; {residual_text(explanation)}), summed over channels; "
        f"stored as fractions of {grid.unit:.6g}, the value that 1 % of the image's positive "
        "relevance lies above"
    )


def _shared(
    grid: _Grid, stored: NDArray[np.float32], explanation: Explanation, dataset: Dataset
) -> Dataset:
    shared = placed_groups(grid.affine)
    frame_type, identity, window = Dataset(), Dataset(), Dataset()
    frame_type.FrameType = dataset.ImageType
    shared.ParametricMapFrameTypeSequence = [frame_type]
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = "0", "1", "US"
    shared.PixelValueTransformationSequence = [identity]
    window.WindowCenter, window.WindowWidth = decimal(0.5), decimal(1)
    # LINEAR, the default, would make a step of a width of one (PS3.3 C.11.2.1.2.1).
    window.VOILUTFunction = "LINEAR_EXACT"
    shared.FrameVOILUTSequence = [window]
    quantity = method_code(explanation.method)
    meaning = writable(quantity.meaning, dataset)
    concept = Code(quantity.value, quantity.scheme, meaning)
    ends = float(stored.min()), float(stored.max())
    # Readers take the first mapping: what is stored is the fraction, so that none is needed. OHIF
    # takes none, multiplies by a hundred and shows 0 to 100.
    fraction = _mapping("FRACTION_OF_PEAK", 1.0, NO_UNITS, concept)
    relevance = _mapping("RELEVANCE", grid.unit, NO_UNITS, concept)
    for mapping in (fraction, relevance):
        mapping.DoubleFloatRealWorldValueFirstValueMapped = ends[0]
        mapping.DoubleFloatRealWorldValueLastValueMapped = ends[1]
    fraction.LUTExplanation = "Fraction of the peak of the whole image's relevance"
    relevance.LUTExplanation = "Relevance as the method gave it, channels summed"
    shared.RealWorldValueMappingSequence = [fraction, relevance]
    return shared


def _mapping(label: str, slope: float, unit: Code, quantity: Code) -> Dataset:
    """Return one way to read the stored values (PS3.3 C.7.6.16.2.11)."""
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = [code_item(QUANTITY)]
    item.ConceptCodeSequence = [code_item(quantity)]
    mapping = Dataset()
    mapping.LUTLabel = label
    mapping.RealWorldValueIntercept = 0.0
    mapping.RealWorldValueSlope = slope
    mapping.MeasurementUnitsCodeSequence = [code_item(unit)]
    mapping.QuantityDefinitionSequence = [item]
    return mapping


def _frames(grid: _Grid, explanation: Explanation) -> Iterator[Dataset]:
    for index, sources in enumerate(grid.sources):
        frame, content = Dataset(), Dataset()
        content.DimensionIndexValues = [index + 1]
        frame.FrameContentSequence = [content]
        add_position(frame, grid.affine, index)
        add_derivation(frame, method_code(explanation.method), sources)
        yield frame


def _describe_pixels(dataset: Dataset, stored: NDArray[np.float32]) -> None:
    """Describe 32-bit floating-point pixels (PS3.3 C.7.6.24), which have no stored bits."""
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.BitsAllocated = 32
