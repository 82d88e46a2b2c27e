"""SEG BINARY of relevance bands: a heatmap that every viewer with segmentations can show."""

from collections.abc import Iterator

from pydicom import Dataset

from dicom_io.analysis import Analysis, Explanation, Verdict
from dicom_io.codes import RELEVANCE_BANDS, SPATIAL_CONCEPT, method_code
from dicom_io.encode.binary_segmentation import SOP_CLASS_UID, Layer, encode_layers
from dicom_io.encode.inherit import Place
from dicom_io.encode.released import released_explanations
from dicom_io.encode.roles import BANDS, BANDS_PLACED
from dicom_io.encode.words import (
    method_text,
    parameter_text,
    residual_text,
    series_text,
    subject_text,
    verdict_text,
)
from dicom_io.origin import Origin
from dicom_io.paint import heat_lab, relevance_bands
from dicom_io.read import Input

SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)

_PLACEHOLDER = (
    "The plane orientation is a placeholder, so that viewers load the segmentation: the image is "
    "a projection and has no place in patient space. Pixels correspond to those of the source."
)


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return one segmentation per explanation that may leave and has positive relevance.

    Only for images with a place in patient space: viewers overlay bands by their geometry.
    """
    del produced
    if source.volume.affine is None or source.volume.frame_of_reference_uid is None:
        return ()
    return tuple(_encode(analysis, source, origin, role=BANDS))


def encode_placed(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return bands of a projection with an orientation that is a placeholder, and says so.

    Some viewers load a segmentation only if its planes have an orientation. A projection has
    none; no frame of reference and no position is claimed. Images with a place have ``encode``.
    """
    del produced
    if source.volume.affine is not None or source.volume.pixel_spacing_mm is None:
        return ()
    objects = tuple(_encode(analysis, source, origin, role=BANDS_PLACED))
    for dataset in objects:
        orientation = Dataset()
        orientation.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [orientation]
        dataset.ImageComments = _PLACEHOLDER
        dataset.ContentDescription = f"{dataset.ContentDescription[:36]}; orientation: placeholder"
    return objects


def _encode(analysis: Analysis, source: Input, origin: Origin, *, role: str) -> Iterator[Dataset]:
    for index, explanation in released_explanations(analysis, source.volume):
        layers = _layers(explanation)
        if layers:
            place = _place(explanation, index, role=role)
            yield encode_layers(layers, place, analysis, source, origin)


def _layers(explanation: Explanation) -> list[Layer]:
    bands = relevance_bands(explanation.heatmap)
    upper = [limit for limit, _ in RELEVANCE_BANDS[1:]] + [1.0]
    layers = []
    for number, (lower, concept) in enumerate(RELEVANCE_BANDS, 1):
        mask = bands == number
        if not mask.any():
            continue
        layers.append(
            Layer(
                label=_band_label(lower, explanation),
                description=(
                    f"{concept.meaning} (1 % of the whole volume's positive relevance lies "
                    f"above the peak); evidence for {subject_text(explanation)} by "
                    f"{method_text(explanation)} ({residual_text(explanation)}); "
                    "not the outline of a finding"
                ),
                category=SPATIAL_CONCEPT,
                concept=concept,
                lab=heat_lab((lower + upper[number - 1]) / 2),
                mask=mask,
                algorithm=method_text(explanation),
                algorithm_code=method_code(explanation.method),
                parameters=parameter_text(explanation),
            )
        )
    return layers


def _band_label(lower: float, explanation: Explanation) -> str:
    limits = ">= 80 %" if lower >= 0.8 else f"{lower * 100:.0f}-{lower * 100 + 20:.0f} %"
    return f"{limits} evidence for {subject_text(explanation)}"


def _place(explanation: Explanation, index: int, *, role: str) -> Place:
    grade = "" if explanation.verdict is Verdict.PASSED else verdict_text(explanation)
    return Place(
        role=role,
        series=index,
        series_number=(9200 if role == BANDS else 9250) + index,
        modality="SEG",
        sop_class_uid=SOP_CLASS_UID,
        description=series_text("evidence for", explanation, grade),
    )
