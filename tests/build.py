"""Builders of stored series: small ones with a marker, and a real head, in any orientation."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    VLPhotographicImageStorage,
)

from dicom_io.encode.source_series import Subject, encode_source_series
from dicom_io.header import read_header
from dicom_io.study import Series
from dicom_io.uids import named_uid
from dicom_io.volume import Volume
from tests.peers import require_shared

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SUBJECT = Subject(
    patient_name="Παπαδοπούλου^Ελένη",
    patient_id="H-1",
    birth_date="19700301",
    sex="F",
    accession_number="A-7",
    study_description="Head",
    study_id="S1",
)

#: Directions (LPS) along which slice, row and column index grow.
DIRECTIONS = {
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "sagittal": ((-1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}

#: Values that a builder's marker has; the background is -1000.
MARKER = 900


def rotation(degrees: float, axis: Iterable[float]) -> NDArray[np.float64]:
    """4 x 4 rotation of LPS points about an axis through the origin (Rodrigues)."""
    x, y, z = np.asarray(tuple(axis), dtype=float) / np.linalg.norm(tuple(axis))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn


#: What "oblique" means: turned by 20 degrees, out of all three planes.
OBLIQUE = rotation(20.0, (1.0, 2.0, 3.0))


def affine_of(
    orientation: str = "axial",
    spacing: tuple[float, float, float] = (2.5, 0.9, 1.2),
    position: tuple[float, float, float] = (-20.0, -30.0, 40.0),
) -> NDArray[np.float64]:
    """From (slice, row, column, 1) to LPS mm; spacing is (slice, row, column)."""
    name = "axial" if orientation == "oblique" else orientation
    affine = np.eye(4)
    affine[:3, :3] = np.array(DIRECTIONS[name], dtype=float).T * spacing
    affine[:3, 3] = position
    return OBLIQUE @ affine if orientation == "oblique" else affine


def volume_of(
    voxels: NDArray[np.float32], affine: NDArray[np.float64] | None, modality: str = "CT"
) -> Volume:
    """A volume of [slice, row, column] voxels, with nothing else that matters."""
    spacing = None if affine is None else np.linalg.norm(affine[:3, 1:3], axis=0)
    return Volume(
        voxels=np.ascontiguousarray(voxels, dtype=np.float32)[None],
        affine=affine,
        frames=(),
        modality=modality,
        series_instance_uid=named_uid("volume"),
        frame_of_reference_uid=None,
        pixel_spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        window=(40.0, 400.0),
        body_part="HEAD",
    )


def marked_volume(
    orientation: str = "axial",
    modality: str = "CT",
    shape: tuple[int, int, int] = (5, 8, 10),
    affine: NDArray[np.float64] | None = None,
) -> Volume:
    """A background of -1000 with a ramp, and a marker in one voxel that is in no symmetry."""
    voxels = -1000.0 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 4 // 1
    voxels[marker_index(shape)] = MARKER
    return volume_of(voxels, affine_of(orientation) if affine is None else affine, modality)


def marker_index(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(slice, row, column) of the marker: the fourth of the slices, third rows, last column."""
    return max(shape[0] - 2, 0), 2, shape[2] - 2


def slice_datasets(volume: Volume | None = None, seed: str = "series") -> list[Dataset]:
    """The instances of a volume, in slice order, to be spoilt before they are stored."""
    return encode_source_series(
        volume or marked_volume(), SUBJECT, seed=seed, created=CREATED, description="built"
    )


def stored(folder: Path, datasets: Iterable[Dataset]) -> Series:
    """The series that the data sets are, written as files in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    instances = []
    for number, dataset in enumerate(datasets):
        path = folder / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        instances.append(read_header(path))
    return Series(series_instance_uid=instances[0].series_instance_uid, instances=tuple(instances))


def ct_series(folder: Path, volume: Volume | None = None) -> Series:
    """A stored CT series of a few slices."""
    return stored(folder, slice_datasets(volume))


def mr_series(folder: Path, orientation: str = "axial") -> Series:
    """A stored MR series of a few slices."""
    return stored(folder, slice_datasets(marked_volume(orientation, modality="MR")))


def renamed(dataset: Dataset, name: str) -> Dataset:
    """The same data set under another SOP Instance UID."""
    dataset.SOPInstanceUID = named_uid(name)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def image_dataset(
    sop_class: str, pixels: NDArray[np.generic], *, modality: str, photometric: str
) -> Dataset:
    """A single image of [row, column] or [row, column, 3] pixels, or of frames of them."""
    color = photometric == "RGB"
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = named_uid(f"{modality} {photometric}")
    dataset.StudyInstanceUID = named_uid("study")
    dataset.SeriesInstanceUID = named_uid(f"{modality} series")
    dataset.Modality = modality
    dataset.PatientName = SUBJECT.patient_name
    dataset.PatientID = SUBJECT.patient_id
    dataset.StudyDate = "20260304"
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = photometric
    if color:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if color else pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def cr_dataset(pixels: NDArray[np.generic] | None = None) -> Dataset:
    """A computed radiograph with the spacing of its plate."""
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) if pixels is None else pixels
    dataset = image_dataset(
        ComputedRadiographyImageStorage, pixels, modality="CR", photometric="MONOCHROME2"
    )
    dataset.ImagerPixelSpacing = [0.15, 0.1]
    return dataset


def dx_dataset() -> Dataset:
    """A digital radiograph whose larger values are darker, in 12 of 16 bits."""
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80
    dataset = image_dataset(
        DigitalXRayImageStorageForPresentation, pixels, modality="DX", photometric="MONOCHROME1"
    )
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelSpacing = [0.2, 0.2]
    dataset.ImagerPixelSpacing = [0.25, 0.25]
    dataset.WindowCenter, dataset.WindowWidth = 1000, 500
    return dataset


def photo_dataset() -> Dataset:
    """A photograph: red in its upper left corner, green at the right edge."""
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    pixels[0, 0] = (200, 10, 20)
    pixels[3, 7] = (5, 250, 15)
    return image_dataset(VLPhotographicImageStorage, pixels, modality="XC", photometric="RGB")


def enhanced_ct_dataset(
    volume: Volume | None = None, order: Iterable[int] | None = None
) -> Dataset:
    """An enhanced CT whose frames are the slices of a volume, stored in the given order."""
    volume = volume or marked_volume()
    slices = slice_datasets(volume)
    chosen = [slices[index] for index in (order or range(len(slices)))]
    stack = np.stack([np.frombuffer(part.PixelData, dtype=np.int16) for part in chosen])
    pixels = stack.reshape(len(chosen), slices[0].Rows, slices[0].Columns)
    dataset = image_dataset(
        EnhancedCTImageStorage, pixels, modality="CT", photometric="MONOCHROME2"
    )
    dataset.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    dataset.NumberOfFrames = len(chosen)
    first = chosen[0]
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_frame_item(part) for part in chosen])
    return dataset


def _frame_item(part: Dataset) -> Dataset:
    item, content, position, transform, voi = (Dataset() for _ in range(5))
    content.StackID = "1"
    position.ImagePositionPatient = part.ImagePositionPatient
    transform.RescaleSlope, transform.RescaleIntercept = part.RescaleSlope, part.RescaleIntercept
    transform.RescaleType = "HU"
    voi.WindowCenter, voi.WindowWidth = part.WindowCenter, part.WindowWidth
    item.FrameContentSequence = Sequence([content])
    item.PlanePositionSequence = Sequence([position])
    item.PixelValueTransformationSequence = Sequence([transform])
    item.FrameVOILUTSequence = Sequence([voi])
    return item


def t1_head_volume(orientation: str = "axial") -> Volume:
    """The real T1 head of the shared test data as an MR volume; skips where it is absent.

    ``axial``, ``sagittal`` and ``coronal`` are the same voxels sliced otherwise; ``oblique``
    are the axial voxels with their affine turned by ``OBLIQUE``; ``resampled`` is the head
    itself in place, interpolated on an oblique grid.
    """
    voxels, affine = _t1_head()
    if orientation in DIRECTIONS:
        return volume_of(*_sliced(voxels, affine, orientation), modality="MR")
    if orientation == "oblique":
        axial, axial_affine = _sliced(voxels, affine, "axial")
        return volume_of(axial, OBLIQUE @ axial_affine, modality="MR")
    return volume_of(*_resampled_head(), modality="MR")


def t1_head_series(folder: Path, orientation: str = "axial", seed: str = "t1 head") -> Series:
    """The real T1 head, stored as an MR series; see ``t1_head_volume``."""
    volume = replace(t1_head_volume(orientation), window=(80.0, 160.0))
    datasets = encode_source_series(
        volume, SUBJECT, seed=f"{seed} {orientation}", created=CREATED, description="T1"
    )
    return stored(folder, datasets)


def _t1_head() -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    import nibabel

    image = nibabel.load(require_shared("data/t1_head.nii.gz"))
    ras_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    return np.asanyarray(image.dataobj), ras_to_lps @ np.asarray(image.affine, dtype=np.float64)


@cache
def _resampled_head() -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The head on an oblique grid, made once, as it takes ten seconds; read-only."""
    voxels, affine = _resampled(*_sliced(*_t1_head(), "axial"), OBLIQUE)
    voxels.setflags(write=False)
    return voxels, affine


def _sliced(
    voxels: NDArray[np.generic], affine: NDArray[np.float64], orientation: str
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    # Exact: axes are exchanged and turned round, no value is interpolated.
    wanted = np.array(DIRECTIONS[orientation], dtype=float)
    along = wanted @ affine[:3, :3]
    axes = np.abs(along).argmax(axis=1)
    signs = np.sign(along[np.arange(3), axes])
    source = np.eye(4)
    source[:3, :3] = 0
    for new, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        source[axis, new] = sign
        source[axis, 3] = 0 if sign > 0 else voxels.shape[axis] - 1
    turned = np.transpose(voxels, axes)
    flipped = turned[tuple(slice(None, None, int(sign)) for sign in signs)]
    return np.ascontiguousarray(flipped), affine @ source


def _resampled(
    voxels: NDArray[np.generic], affine: NDArray[np.float64], turn: NDArray[np.float64]
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    from scipy.ndimage import affine_transform

    grid = turn @ affine
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in voxels.shape])).reshape(3, -1)
    in_grid = np.linalg.inv(grid) @ affine @ np.vstack([corners, np.ones(corners.shape[1])])
    lowest = np.floor(in_grid[:3].min(axis=1))
    shape = tuple(int(n) for n in np.ceil(in_grid[:3].max(axis=1)) - lowest + 1)
    grid = grid @ np.block([[np.eye(3), lowest[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    to_source = np.linalg.inv(affine) @ grid
    resampled = affine_transform(
        voxels.astype(np.float32), to_source[:3, :3], to_source[:3, 3], output_shape=shape, order=3
    )
    # Cubic: linear interpolation blurs as no scanner does, and a network sees it. No undershoot.
    return np.rint(resampled).clip(min=0), grid
