"""SEG FRACTIONAL: relevance in 255 steps, for viewers that shade segmentations."""

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from dicom_io.analysis import Analysis, Explanation, Verdict
from dicom_io.codes import RELEVANCE_FRACTION, SPATIAL_CONCEPT, method_code
from dicom_io.encode.binary_segmentation import (
    SOP_CLASS_UID,
    Layer,
    describe_layers,
    describe_pixels,
)
from dicom_io.encode.inherit import Place
from dicom_io.encode.released import released_explanations
from dicom_io.encode.roles import FRACTIONAL
from dicom_io.encode.words import (
    method_text,
    parameter_text,
    residual_text,
    series_text,
    subject_text,
    verdict_text,
)
from dicom_io.origin import Origin
from dicom_io.paint import displayed, heat_lab
from dicom_io.read import Input

SOP_CLASS_UIDS: tuple[str, ...] = (SOP_CLASS_UID,)


def encode(
    analysis: Analysis, source: Input, origin: Origin, produced: tuple[Dataset, ...]
) -> tuple[Dataset, ...]:
    """Return one SEG FRACTIONAL (PS3.3 A.51) per explanation that may leave.

    255 is the peak that bands and colors are fractions of; negative relevance is 0, and slices
    without any other are left out. Only for images with a place in patient space.
    """
    del produced
    if source.volume.affine is None or source.volume.frame_of_reference_uid is None:
        return ()
    return tuple(_encode(analysis, source, origin))


def _encode(analysis: Analysis, source: Input, origin: Origin) -> Iterator[Dataset]:
    for index, explanation in released_explanations(analysis, source.volume):
        levels = displayed(explanation.heatmap).levels
        filled = levels > 0
        if not filled.any():
            continue
        layer = Layer(
            label=f"evidence for {subject_text(explanation)}",
            description=(
                f"{RELEVANCE_FRACTION.meaning} (1 % of the whole volume's positive relevance "
                f"lies above the peak); evidence for {subject_text(explanation)} by "
                f"{method_text(explanation)} ({residual_text(explanation)}); neither a "
                "probability nor the outline of a finding"
            ),
            category=SPATIAL_CONCEPT,
            concept=RELEVANCE_FRACTION,
            lab=heat_lab(0.8),
            mask=filled,
            algorithm=method_text(explanation),
            algorithm_code=method_code(explanation.method),
            parameters=parameter_text(explanation),
        )
        dataset = describe_layers([layer], _place(explanation, index), analysis, source, origin)
        dataset.SegmentationType = "FRACTIONAL"
        # Of the two that the standard has, the one that is read as no chance of disease.
        dataset.SegmentationFractionalType = "OCCUPANCY"
        dataset.MaximumFractionalValue = 255
        describe_pixels(dataset, bits=8)
        octets = levels[np.flatnonzero(filled.any(axis=(1, 2)))].tobytes()
        dataset.PixelData = octets + b"\0" * (len(octets) % 2)
        yield dataset


def _place(explanation: Explanation, index: int) -> Place:
    grade = "" if explanation.verdict is Verdict.PASSED else verdict_text(explanation)
    return Place(
        role=FRACTIONAL,
        series=index,
        series_number=9700 + index,
        modality="SEG",
        sop_class_uid=SOP_CLASS_UID,
        description=series_text("shades, evidence for", explanation, grade),
    )
