"""Whether a result object fits the image that it was made from: patient, place, plane and grid."""

from collections.abc import Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.check_documents import regions_on_source_images
from dicom_io.read import Input
from dicom_io.volume import Volume

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Modalities of objects without pixels: reports, selections, presentation states.
DOCUMENTS = frozenset({"SR", "KO", "PR"})
#: Attributes of type 2 that are always there, and always the source's.
PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
#: Largest distance (mm) or difference of a direction's component that is no error.
_TOLERANCE = 1e-2
_SPACING_TOLERANCE = 1e-4


def check_against_source(dataset: Dataset, source: Input) -> tuple[str, ...]:
    """Return what does not fit the image that the object was made from; empty if all does."""
    problems = [*same_patient_and_study(dataset, source), *same_frame_of_reference(dataset, source)]
    if dataset.get("SOPClassUID") == SEGMENTATION:
        problems.extend(segmentation_on_source_grid(dataset, source))
    if dataset.get("SOPClassUID") == SECONDARY_CAPTURE:
        problems.extend(capture_in_source_plane(dataset, source))
    if dataset.get("SOPClassUID") == PARAMETRIC_MAP:
        problems.extend(map_in_source_volume(dataset, source))
    if dataset.get("SOPClassUID") == PRESENTATION_STATE:
        problems.extend(annotations_on_source_images(dataset, source))
    problems.extend(regions_on_source_images(dataset, source))
    return tuple(problems)


def same_patient_and_study(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require patient and study of the source, unchanged (PS3.3 C.7.1.1, C.7.2.1)."""
    header = source.headers[0]
    for keyword in (*PATIENT_AND_STUDY, "StudyInstanceUID", "SpecificCharacterSet"):
        if (dataset.get(keyword) or "") != (header.get(keyword) or ""):
            # Never the values: the message goes into logs.
            yield f"{keyword} differs from the source"


def same_frame_of_reference(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require an image to lie in the frame of reference of its source (PS3.3 C.7.4.1)."""
    own = dataset.get("FrameOfReferenceUID")
    if own and own != source.volume.frame_of_reference_uid:
        yield f"FrameOfReferenceUID {own} is not the source's"
    placed = dataset.get("Modality") not in DOCUMENTS
    if placed and source.volume.frame_of_reference_uid and not own:
        yield "FrameOfReferenceUID is missing"


def segmentation_on_source_grid(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require size, place and direction of the source frame referred to (PS3.3 C.7.6.16.2)."""
    volume = source.volume
    if (int(dataset.Rows), int(dataset.Columns)) != volume.grid_shape[1:]:
        yield f"frames have {dataset.Rows} x {dataset.Columns} pixels, the source has others"
    index_of = _slice_indices(volume)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if volume.affine is not None:
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        yield from _same_directions(orientation, volume)
        spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
        if not np.allclose(spacing, _plane_spacing(volume), rtol=_SPACING_TOLERANCE):
            yield f"PixelSpacing {_in_mm(spacing)} is not the source's"
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, 1):
        reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
        index = index_of.get(_frame_key(reference))
        if index is None:
            yield f"frame {number} refers to a frame that is not in the source"
        elif volume.affine is not None:
            stated = frame.PlanePositionSequence[0].ImagePositionPatient
            expected = (volume.affine @ (index, 0, 0, 1))[:3]
            distance = float(np.linalg.norm(np.array(stated, float) - expected))
            if distance > _TOLERANCE:
                yield f"frame {number} lies {distance:.2f} mm away from its source frame"


def map_in_source_volume(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require a map to cover its source, on its grid or one coarser by a whole factor.

    Notes
    -----
    PS3.3 C.7.6.16.2. Frames ascend along row x column direction: viewers that stack them in the
    order of the file would show another order mirrored.
    """
    affine = source.volume.affine
    if affine is None:
        yield "the source has no place in patient space, and so cannot a map of it"
        return
    shared = dataset.SharedFunctionalGroupsSequence[0]
    yield from _same_directions(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, source.volume
    )
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    factor = max(round(float(spacing[0] / _plane_spacing(source.volume)[0])), 1)
    if not np.allclose(spacing, factor * _plane_spacing(source.volume), rtol=_SPACING_TOLERANCE):
        yield f"PixelSpacing {_in_mm(spacing)} is no whole multiple of the source's"
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    expected_shape = tuple(ceil(extent / factor) for extent in source.volume.grid_shape)
    frames = dataset.PerFrameFunctionalGroupsSequence
    if shape != expected_shape or len(frames) != shape[0]:
        yield f"{len(frames)} frames of a grid of {shape}, expected {expected_shape}"
        return
    middle = (factor - 1) / 2
    index_of = _slice_indices(source.volume)
    for number, frame in enumerate(frames):
        expected = (affine @ (number * factor + middle, middle, middle, 1.0))[:3]
        stated = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        distance = float(np.linalg.norm(stated - expected))
        if distance > _TOLERANCE:
            yield f"frame {number + 1} lies {distance:.2f} mm away from its place"
        shown = [
            index_of.get(_frame_key(reference))
            for reference in frame.DerivationImageSequence[0].SourceImageSequence
        ]
        first = number * factor
        if shown != list(range(first, min(first + factor, source.volume.grid_shape[0]))):
            yield f"frame {number + 1} refers to other frames than those that it covers"


def capture_in_source_plane(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require a capture to lie in the plane of its source frame (PS3.3 C.7.6.2)."""
    volume = source.volume
    index = _slice_indices(volume).get(_frame_key(dataset.SourceImageSequence[0]))
    if index is None:
        yield "SourceImageSequence refers to a frame that is not in the source"
        return
    if volume.affine is None:
        return
    yield from _same_directions(dataset.ImageOrientationPatient, volume)
    spacing = np.array(dataset.PixelSpacing, float)
    parts = _plane_spacing(volume) / spacing
    # Rows and columns are enlarged alike, by a whole factor.
    if not np.allclose(parts, max(round(float(parts[0])), 1), rtol=_SPACING_TOLERANCE):
        yield f"PixelSpacing {_in_mm(spacing)} is no whole part of the source's"
    normal = np.cross(volume.affine[:3, 2], volume.affine[:3, 1])
    offset = np.array(dataset.ImagePositionPatient, float) - (volume.affine @ (index, 0, 0, 1))[:3]
    distance = float(abs(offset @ normal) / np.linalg.norm(normal))
    if distance > _TOLERANCE:
        yield f"the capture lies {distance:.2f} mm out of the plane of its source frame"


def annotations_on_source_images(dataset: Dataset, source: Input) -> Iterator[str]:
    """Require annotations to be of frames of the source, and within them (PS3.3 C.10.4, C.10.5)."""
    _, rows, columns = source.volume.grid_shape
    (area,) = dataset.DisplayedAreaSelectionSequence
    if list(area.DisplayedAreaBottomRightHandCorner) != [columns, rows]:
        yield "the displayed area is not the source's whole image"
    known = _slice_indices(source.volume)
    for number, annotation in enumerate(dataset.get("GraphicAnnotationSequence") or (), 1):
        if any(_frame_key(image) not in known for image in annotation.ReferencedImageSequence):
            yield f"annotation {number} is of a frame that is not in the source"
        points = [
            value for drawn in annotation.GraphicObjectSequence for value in drawn.GraphicData
        ]
        corners = np.array(points, float).reshape(-1, 2)
        if (corners < 0).any() or (corners > (columns, rows)).any():
            yield f"annotation {number} reaches beyond its image"


def _plane_spacing(volume: Volume) -> NDArray[np.float64]:
    """Return row and column spacing (mm) of a volume that has a place."""
    if volume.affine is None:
        return np.full(2, np.nan)
    return np.asarray(np.linalg.norm(volume.affine[:3, 1:3], axis=0))


def _in_mm(spacing: NDArray[np.float64]) -> str:
    return ", ".join(f"{each:.4g}" for each in spacing) + " mm"


def _same_directions(stated: object, volume: Volume) -> Iterator[str]:
    if volume.affine is None:
        return
    directions = volume.affine[:3, [2, 1]]
    expected = (directions / np.linalg.norm(directions, axis=0)).T.ravel()
    if np.abs(np.array(stated, float) - expected).max() > _TOLERANCE:
        yield "ImageOrientationPatient differs from the source"


def _slice_indices(volume: Volume) -> dict[tuple[str, int], int]:
    return {
        (frame.sop_instance_uid, frame.frame_number or 1): index
        for index, frame in enumerate(volume.frames)
    }


def _frame_key(reference: Dataset) -> tuple[str, int]:
    return (
        str(reference.ReferencedSOPInstanceUID),
        int(reference.get("ReferencedFrameNumber") or 1),
    )
