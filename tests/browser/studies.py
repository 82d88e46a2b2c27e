"""Studies for the viewer: a body with a marker in no symmetry, and what an analysis says of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

from dicom_io.analysis import Analysis, Heatmap, Segment
from dicom_io.codes import code_for_label
from dicom_io.encode.objects import Encoder, encode_analyses
from dicom_io.encode.outcome import encode_outcome
from dicom_io.encode.source_series import encode_source_series
from dicom_io.outcome import Outcome, OutcomeKind
from dicom_io.read import Input, read_input
from dicom_io.uids import named_uid
from tests.build import (
    CREATED,
    OBLIQUE,
    SUBJECT,
    affine_of,
    image_dataset,
    stored,
    volume_of,
)
from tests.build_analysis import make_analysis, make_explanation, make_finding, make_origin

SHAPE = (12, 128, 160)
SPACING = (5.0, 1.8, 1.8)
#: Where the marker lies, as fractions of slices, rows and columns: no mirror image touches it.
MARKER = ((0.66, 0.84), (0.57, 0.72), (0.62, 0.80))

#: What stands in the place of a report of an image that the model is not for.
NOT_ANALYZED = Outcome(
    kind=OutcomeKind.REJECTED,
    reason="the model is not made for this image",
    criterion="body part is CHEST, expected HEAD",
    model_name="nodule finder",
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A stored study: its images, and the result objects made of them."""

    uid: str
    source: Input
    marker: NDArray[np.bool_]
    images: tuple[Dataset, ...]
    #: By the name of the result, as routes write it; and an ``outcome``.
    results: Mapping[str, tuple[Dataset, ...]]

    def description(self, name: str) -> str:
        """Return the Series Description of a result: by it the viewer's list is read."""
        return str(self.results[name][0].SeriesDescription)

    def image_uid(self, index: int) -> str:
        """Return the SOP Instance UID of a slice, counted along the slice direction."""
        return self.source.volume.frames[index].sop_instance_uid


def marker_mask(shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """A block of a [slice, row, column] grid: high, low and right in the array."""
    fractions = (np.indices(shape).T / np.maximum(np.array(shape) - 1, 1)).T
    inside = np.ones(shape, bool)
    for axis, (low, high) in enumerate(MARKER):
        if shape[axis] > 1:
            inside &= (fractions[axis] >= low) & (fractions[axis] <= high)
    return inside


def phantom(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """A gray body on black with a brighter marker, in HU."""
    z, y, x = ((np.indices(shape).T / np.maximum(np.array(shape) - 1, 1)).T - 0.5) * 2
    body = (y / 0.86) ** 2 + (x / 0.9) ** 2 < 1 - 0.15 * z**2
    values = np.where(body, 10.0 + 20.0 * x - 10.0 * y, -1000.0)
    return np.where(marker_mask(shape), 240.0, values).astype(np.float32).round()


def turned_round(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same grid with rows and slices running the other way: a scan feet first."""
    return affine @ np.diag([-1.0, 1.0, -1.0, 1.0])


AFFINES = {
    "axial": affine_of("axial", SPACING, (-140.0, -110.0, -900.0)),
    "oblique": OBLIQUE @ affine_of("axial", SPACING, (-140.0, -110.0, -900.0)),
    "reversed": affine_of("axial", SPACING, (-140.0, -110.0, -900.0)),
    "feet-first": turned_round(affine_of("axial", SPACING, (-140.0, -110.0, -900.0))),
    "coronal": affine_of("coronal", SPACING, (-140.0, 30.0, -800.0)),
}


def source_datasets(kind: str, seed: str) -> list[Dataset]:
    """The images of a kind; ``reversed`` numbers and sends them from the last to the first."""
    if kind == "radiograph":
        return [radiograph_dataset(seed)]
    volume = replace(volume_of(phantom(), AFFINES[kind]), body_part="CHEST")
    datasets = encode_source_series(
        volume, SUBJECT, seed=seed, created=CREATED, description=f"CT {kind}"
    )
    if kind == "reversed":
        datasets.reverse()
        for number, dataset in enumerate(datasets, 1):
            dataset.InstanceNumber = number
    if kind == "feet-first":
        for dataset in datasets:
            dataset.PatientPosition = "FFS"
    return datasets


def radiograph_dataset(seed: str) -> Dataset:
    """The phantom's marked slice as a digital radiograph: a spacing, but no place in space."""
    pixels = (phantom((1, 256, 320))[0] + 1000).astype(np.uint16)
    dataset = image_dataset(
        DigitalXRayImageStorageForPresentation, pixels, modality="DX", photometric="MONOCHROME2"
    )
    dataset.StudyInstanceUID = named_uid(f"{seed}|study")
    dataset.SeriesInstanceUID = named_uid(f"{seed}|series")
    dataset.SOPInstanceUID = named_uid(f"{seed}|image")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesDescription = "DX"
    dataset.PatientOrientation = ["L", "F"]
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [0.9, 0.9]
    dataset.WindowCenter, dataset.WindowWidth = 1040, 400
    dataset.InstanceNumber = 1
    return dataset


def relevance_at(mask: NDArray[np.bool_]) -> Heatmap:
    """Relevance that is highest in the middle of a mask and is spent outside it."""
    indices = np.argwhere(mask)
    middle, reach = indices.mean(axis=0), np.maximum(np.ptp(indices, axis=0) / 2, 0.5)
    distance = sum(
        ((axis - center) / (0.75 * half)) ** 2
        for axis, center, half in zip(np.indices(mask.shape), middle, reach, strict=True)
    )
    return Heatmap(relevance=(0.02 * np.exp(-distance)).astype(np.float32)[None])


def analysis_of(source: Input, marker: NDArray[np.bool_]) -> Analysis:
    """A finding, its outline and its explanation, all in the marker."""
    segment = Segment(label="nodule", concept=code_for_label("nodule"), mask=marker)
    explanation = make_explanation(source, target="nodule", heatmap=relevance_at(marker))
    return make_analysis(
        source,
        findings=(make_finding(label="nodule"),),
        segments=(segment,),
        explanations=(explanation,),
    )


def study_of(folder: Path, datasets: Iterable[Dataset], names: Iterable[str]) -> Study:
    """Store the images, read them as a node does, and make the results of these names."""
    images = tuple(datasets)
    source = read_input(stored(folder, images), "image")
    # Read back sorted along the slice direction, whatever the order of the instances was.
    marker = marker_mask(source.volume.grid_shape)
    uid = str(images[0].StudyInstanceUID)
    origin = replace(
        make_origin(inputs=tuple(str(image.SOPInstanceUID) for image in images)),
        study_instance_uid=uid,
    )
    made: dict[str, tuple[Dataset, ...]] = {}
    encode_analyses([analysis_of(source, marker)], [source], origin, _keeping(names, made))
    made["outcome"] = (encode_outcome(NOT_ANALYZED, source.headers[0], origin),)
    return Study(uid=uid, source=source, marker=marker, images=images, results=made)


def _keeping(names: Iterable[str], made: dict[str, tuple[Dataset, ...]]) -> dict[str, Encoder]:
    """Return the encoders of these names, which also put down what each of them made."""

    def keeping(name: str, encode: Encoder) -> Encoder:
        def kept(*arguments):
            made[name] = encode(*arguments)
            return made[name]

        return kept

    found = entry_points(group="pellucid.encoders")
    return {name: keeping(name, found[name].load()) for name in names}
