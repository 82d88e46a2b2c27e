"""Result objects read back from their files: what a PACS holds, as numbers and words.

The demo and the acceptance tests judge by this reading alone, never by what was in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from dicom_io.check import check_object
from dicom_io.codes import RELEVANCE_BANDS
from dicom_io.report_codes import AI_REPORT
from dicom_io.reported import Report, report_in


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """One result object in a folder."""

    path: Path
    sop_instance_uid: str
    #: Name of the SOP class, such as ``Segmentation Storage``.
    sop_class: str
    modality: str
    series_instance_uid: str
    series_description: str
    size_bytes: int
    #: What ``dicom_io.check`` has to say about it; empty if nothing.
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Relevance as its bands tell it: the middle of each band, 0 where there is none."""

    #: Series Description of the object.
    description: str
    #: float32 [slice, row, column], 0 to 1; only the slices between the outermost bands.
    relevance: NDArray[np.float32]
    #: 4 x 4 float64 from (slice, row, column, 1) to LPS mm.
    affine: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One picture of an overlay series."""

    description: str
    #: uint8 [row, column, 3].
    picture: NDArray[np.uint8]
    #: Center of the first voxel of the source's plane, LPS mm.
    position_mm: NDArray[np.float64]


def list_results(folder: Path) -> tuple[StoredResult, ...]:
    """Return every DICOM file of a folder, checked, by series and then instance number."""
    found = sorted(
        ((dcmread(path), path) for path in folder.glob("*.dcm")),
        key=lambda each: (int(each[0].SeriesNumber), int(each[0].InstanceNumber)),
    )
    return tuple(_stored(dataset, path) for dataset, path in found)


def read_reports(results: Sequence[StoredResult]) -> tuple[Report, ...]:
    """Return what the reports among the results say; measurements and selections are none."""
    documents = (dcmread(result.path) for result in results if result.modality == "SR")
    titled = ((d, d.ConceptNameCodeSequence[0].CodeValue) for d in documents)
    return tuple(report_in(d) for d, title in titled if title == AI_REPORT.value)


def read_bands(path: Path) -> Bands:
    """Return relevance bands on their grid in patient space, by highdicom's reader."""
    segmentation = highdicom.seg.segread(path)
    volume = segmentation.get_volume(combine_segments=False)
    strengths = np.array([_strength(item) for item in segmentation.SegmentSequence], np.float32)
    relevance = (volume.array.astype(np.float32) * strengths).max(axis=-1)
    return Bands(
        description=str(segmentation.SeriesDescription),
        relevance=relevance,
        affine=np.asarray(volume.affine, dtype=np.float64),
    )


def read_overlay(path: Path) -> Overlay:
    """Return a secondary-capture overlay of an image that has a place in patient space."""
    dataset = dcmread(path)
    return Overlay(
        description=str(dataset.SeriesDescription),
        picture=np.asarray(dataset.pixel_array, dtype=np.uint8),
        position_mm=np.array([float(value) for value in dataset.ImagePositionPatient]),
    )


def _stored(dataset: Dataset, path: Path) -> StoredResult:
    return StoredResult(
        path=path,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class=UID(dataset.SOPClassUID).name,
        modality=str(dataset.Modality),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        series_description=str(dataset.get("SeriesDescription", "")),
        size_bytes=path.stat().st_size,
        problems=check_object(dataset),
    )


def _strength(item: Dataset) -> float:
    """Return the middle of the band that a segment stands for."""
    value = str(item.SegmentedPropertyTypeCodeSequence[0].CodeValue)
    lower = {code.value: limit for limit, code in RELEVANCE_BANDS}[value]
    return lower + 0.1
