"""Result objects read back from their files: what a PACS holds, as numbers and words.

The demo and the acceptance tests judge by this reading alone, never by what was in memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from dicom_io.check import check_object
from dicom_io.codes import (
    EXPLANATION_FAILED,
    EXPLANATION_GRADE,
    EXPLANATION_OF,
    GATE_VERDICT,
    PRESENCE,
    PRESENT,
    PROBABILITY,
    RELEVANCE_BANDS,
    Code,
)

_FINDING = Code("121071", "DCM", "Finding")
_ALGORITHM = Code("111001", "DCM", "Algorithm Name")
_MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")


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
class ReportedFinding:
    """A finding as the report states it."""

    meaning: str
    probability: float
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedExplanation:
    """An explanation as the report states it."""

    target: str
    method: str
    verdict: str
    #: With what it means: ``A: all checks passed``; empty in reports of before there were grades.
    grade: str = ""
    #: Name of the measure, in words, to value.
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report says."""

    findings: tuple[ReportedFinding, ...]
    explanations: tuple[ReportedExplanation, ...]
    #: One sentence for each explanation that could not be made.
    failures: tuple[str, ...] = ()


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


def read_report(path: Path) -> Report:
    """Return the findings and explanations of a TID 1500 report."""
    document = dcmread(path)
    findings, explanations = [], []
    for group in _groups(document):
        numbers = _numbers(group)
        target = _value(group, EXPLANATION_OF)
        if target is not None:
            explanations.append(
                ReportedExplanation(
                    target=target,
                    method=_value(group, _ALGORITHM) or "",
                    verdict=_value(group, GATE_VERDICT) or "",
                    grade=_value(group, EXPLANATION_GRADE) or "",
                    measures=numbers,
                )
            )
        elif PROBABILITY.meaning in numbers:
            findings.append(
                ReportedFinding(
                    meaning=_value(group, _FINDING) or "",
                    probability=numbers[PROBABILITY.meaning],
                    present=_value(group, PRESENCE) == PRESENT.meaning,
                )
            )
    return Report(
        findings=tuple(findings),
        explanations=tuple(explanations),
        failures=tuple(_texts(document, EXPLANATION_FAILED)),
    )


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


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        if _is_named(child, _MEASUREMENT_GROUP):
            yield child
        else:
            yield from _groups(child)


def _texts(item: Dataset, name: Code) -> Iterator[str]:
    """Yield every text under a name, anywhere in the document."""
    for child in item.get("ContentSequence") or ():
        if _is_named(child, name):
            yield str(child.TextValue)
        yield from _texts(child, name)


def _is_named(item: Dataset, name: Code) -> bool:
    concept = item.get("ConceptNameCodeSequence")
    return bool(concept) and (concept[0].CodeValue, concept[0].CodingSchemeDesignator) == (
        name.value,
        name.scheme,
    )


def _value(group: Dataset, name: Code) -> str | None:
    """Return the first text or coded meaning under a name, or None if there is none."""
    for item in group.ContentSequence:
        if _is_named(item, name):
            if "ConceptCodeSequence" in item:
                return str(item.ConceptCodeSequence[0].CodeMeaning)
            return str(item.TextValue)
    return None


def _numbers(group: Dataset) -> dict[str, float]:
    return {
        str(item.ConceptNameCodeSequence[0].CodeMeaning): float(
            item.MeasuredValueSequence[0].NumericValue
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM" and item.MeasuredValueSequence
    }


def _strength(item: Dataset) -> float:
    """Return the middle of the band that a segment stands for."""
    value = str(item.SegmentedPropertyTypeCodeSequence[0].CodeValue)
    lower = {code.value: limit for limit, code in RELEVANCE_BANDS}[value]
    return lower + 0.1
