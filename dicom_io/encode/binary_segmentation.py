"""SEG BINARY, whatever its segments mean: masks on the grid of the source, frame by frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag

from dicom_io.analysis import Analysis
from dicom_io.codes import ARTIFICIAL_INTELLIGENCE, SEGMENTATION_DERIVATION, Code
from dicom_io.encode.frame_groups import (
    POSITION,
    Pointer,
    add_derivation,
    add_dimensions,
    add_position,
    placed_groups,
)
from dicom_io.encode.geometry import decimal
from dicom_io.encode.inherit import (
    Place,
    code_item,
    header_of,
    identify_private_scheme,
    inherit_image_quality,
    new_object,
    other_uid,
    referenced_series,
    writable,
)
from dicom_io.errors import EncodingError
from dicom_io.origin import Origin
from dicom_io.read import Input
from dicom_io.volume import Volume

SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.66.4"
SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)
_SEGMENT: Pointer = (
    Tag("ReferencedSegmentNumber"),
    Tag("SegmentIdentificationSequence"),
    "Segment",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One segment to be written."""

    label: str
    description: str
    category: Code
    concept: Code
    #: CIELab, L from 0 to 100, a and b from -128 to 127.
    lab: tuple[float, float, float]
    #: bool [slice, row, column] on the grid of the source; at least one voxel.
    mask: NDArray[np.bool_]
    #: Name and parameters of what made it, for the algorithm identification.
    algorithm: str
    parameters: str = ""
    #: What kind of algorithm it was; None where no concept says more than its name.
    algorithm_code: Code | None = None


def can_hold(source: Input) -> bool:
    """Whether a SEG can lie on this image without inventing geometry.

    A photograph has neither a place nor a pixel spacing, and a spacing must not be made up.
    """
    return source.volume.affine is not None or source.volume.pixel_spacing_mm is not None


def encode_layers(
    layers: Sequence[Layer], place: Place, analysis: Analysis, source: Input, origin: Origin
) -> Dataset:
    """Return one SEG BINARY (PS3.3 A.51) of the layers, frames without voxels left out.

    Raises
    ------
    EncodingError
        A mask is not on the grid of its source, or empty.
    """
    dataset = describe_layers(layers, place, analysis, source, origin)
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "NO" if _disjoint(layers) else "YES"
    describe_pixels(dataset, bits=1)
    bits = np.stack([layers[number - 1].mask[index] for number, index in filled_slices(layers)])
    dataset.PixelData = packed(bits)
    return dataset


def describe_layers(
    layers: Sequence[Layer], place: Place, analysis: Analysis, source: Input, origin: Origin
) -> Dataset:
    """Return a segmentation of the layers without its type and pixels; raises as ``encode_layers``.

    Its frames are ``filled_slices``, in that order.
    """
    _require_grid(layers, source.volume)
    dataset = new_object(place, analysis, source, origin)
    header = source.headers[0]
    inherit_image_quality(dataset, header)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "AI_" + place.role.upper()[:13]
    dataset.ContentDescription = writable(place.description, dataset)[:64]
    dataset.ContentCreatorName = ""
    dataset.SegmentSequence = [
        _segment(layer, number, analysis, dataset) for number, layer in enumerate(layers, 1)
    ]
    for item in dataset.SegmentSequence:
        item.TrackingUID = other_uid(
            f"{place.role} {place.series} region", analysis, origin, index=item.SegmentNumber
        )
    organization = other_uid(f"{place.role} dimensions", analysis, origin, index=place.series)
    _add_frames(dataset, layers, source, organization)
    identify_private_scheme(dataset)
    return dataset


def _require_grid(layers: Sequence[Layer], volume: Volume) -> None:
    for layer in layers:
        if layer.mask.shape != volume.grid_shape:
            raise EncodingError(
                f"segment {layer.label!r} has shape {layer.mask.shape}, its source "
                f"{volume.series_instance_uid} has {volume.grid_shape}"
            )
        if not layer.mask.any():
            raise EncodingError(f"segment {layer.label!r} has no voxels")


def _disjoint(layers: Sequence[Layer]) -> bool:
    if len(layers) == 1:
        return True
    for planes in zip(*(layer.mask for layer in layers), strict=True):
        covered = planes[0].copy()
        for plane in planes[1:]:
            if (covered & plane).any():
                return False
            covered |= plane
    return True


def _segment(layer: Layer, number: int, analysis: Analysis, dataset: Dataset) -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = writable(layer.label, dataset)[:64]
    item.SegmentDescription = writable(layer.description, dataset)[:1024]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = writable(layer.algorithm, dataset)[:64]
    item.SegmentationAlgorithmIdentificationSequence = [_algorithm(layer, analysis, dataset)]
    item.RecommendedDisplayCIELabValue = encoded_lab(layer.lab)
    item.SegmentedPropertyCategoryCodeSequence = [code_item(layer.category)]
    item.SegmentedPropertyTypeCodeSequence = [_writable_code(layer.concept, dataset)]
    item.TrackingID = writable(f"{number} {layer.label}", dataset)[:64]
    return item


def _writable_code(code: Code, dataset: Dataset) -> Dataset:
    return code_item(Code(code.value, code.scheme, writable(code.meaning, dataset)))


def _algorithm(layer: Layer, analysis: Analysis, dataset: Dataset) -> Dataset:
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(ARTIFICIAL_INTELLIGENCE)]
    if layer.algorithm_code is not None:
        item.AlgorithmNameCodeSequence = [_writable_code(layer.algorithm_code, dataset)]
    item.AlgorithmName = writable(layer.algorithm, dataset)[:64]
    item.AlgorithmVersion = writable(analysis.model.version or "unknown", dataset)[:64]
    item.AlgorithmSource = writable(analysis.model.manufacturer or "unknown", dataset)[:64]
    if layer.parameters:
        item.AlgorithmParameters = writable(layer.parameters, dataset)
    return item


def encoded_lab(lab: tuple[float, float, float]) -> list[int]:
    """Return a CIELab color as DICOM writes it: three 16-bit numbers (PS3.3 C.10.7.1.1)."""
    lightness, a, b = lab
    return [
        round(lightness / 100.0 * 65535.0),
        round((a + 128.0) / 255.0 * 65535.0),
        round((b + 128.0) / 255.0 * 65535.0),
    ]


def _add_frames(
    dataset: Dataset, layers: Sequence[Layer], source: Input, organization_uid: str
) -> None:
    volume = source.volume
    places = list(filled_slices(layers))
    slices = sorted({index for _, index in places})
    _, dataset.Rows, dataset.Columns = volume.grid_shape
    dataset.NumberOfFrames = len(places)
    pointers = [_SEGMENT, *([POSITION] if volume.affine is not None else [])]
    add_dimensions(dataset, pointers, organization_uid)
    dataset.SharedFunctionalGroupsSequence = [_shared(volume)]
    # Frames of one slice share what they have alike: building it takes most of the time.
    alike = {index: _slice_groups(volume, index) for index in slices}
    position = {index: number for number, index in enumerate(slices, 1)}
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(number, position[index], volume, alike[index]) for number, index in places
    ]
    dataset.ReferencedSeriesSequence = [
        referenced_series(source, (volume.frames[index] for index in slices))
    ]
    if volume.affine is None or volume.frame_of_reference_uid is None:
        orientation = header_of(volume.frames[0], source).get("PatientOrientation")
        dataset.PatientOrientation = orientation or None
    else:
        dataset.FrameOfReferenceUID = volume.frame_of_reference_uid
        dataset.PositionReferenceIndicator = ""


def packed(frames: NDArray[np.bool_]) -> bytes:
    """Return frames as one string of bits, first pixel in the lowest bit (PS3.5 8.1.1, D)."""
    octets = np.packbits(frames.ravel(), bitorder="little").tobytes()
    return octets + b"\0" * (len(octets) % 2)


def filled_slices(layers: Sequence[Layer]) -> Iterator[tuple[int, int]]:
    """Yield the segment number and slice of every frame: those with voxels, by segment."""
    for number, layer in enumerate(layers, 1):
        for index in np.flatnonzero(layer.mask.any(axis=(1, 2))):
            yield number, int(index)


def describe_pixels(dataset: Dataset, *, bits: int) -> None:
    """Say that pixels are whole numbers of so many bits (PS3.3 C.7.6.3, C.8.20.2)."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0


def _shared(volume: Volume) -> Dataset:
    if volume.affine is not None:
        return placed_groups(volume.affine)
    shared, measures = Dataset(), Dataset()
    if volume.pixel_spacing_mm is not None:
        measures.PixelSpacing = [decimal(spacing) for spacing in volume.pixel_spacing_mm]
    shared.PixelMeasuresSequence = [measures]
    return shared


def _slice_groups(volume: Volume, index: int) -> Dataset:
    groups = Dataset()
    if volume.affine is not None:
        add_position(groups, volume.affine, index)
    add_derivation(groups, SEGMENTATION_DERIVATION, [volume.frames[index]])
    return groups


def _frame(segment: int, position: int, volume: Volume, alike: Dataset) -> Dataset:
    frame, content, identification = Dataset(), Dataset(), Dataset()
    frame.update(alike)
    content.DimensionIndexValues = [segment]
    if volume.affine is not None:
        content.DimensionIndexValues = [segment, position]
    frame.FrameContentSequence = [content]
    identification.ReferencedSegmentNumber = segment
    frame.SegmentIdentificationSequence = [identification]
    return frame
