"""A Volume as a modality would have sent it: single-frame CT or MR instances, one per slice."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_io.errors import EncodingError
from dicom_io.uids import named_uid
from dicom_io.volume import Volume

_SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
_IMAGE_TYPES = {
    "CT": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "MR": ["ORIGINAL", "PRIMARY", "OTHER"],
}
#: Body parts without a side, for which Laterality must be absent (PS3.3 C.7.3.1).
_UNPAIRED = frozenset(("HEAD", "BRAIN", "SKULL", "NECK", "CHEST", "ABDOMEN", "PELVIS", "SPINE"))
#: Direction cosines may be off by what 16 characters cannot write.
_COSINE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose images they are: patient and study attributes of a written series."""

    patient_name: str = ""
    patient_id: str = ""
    #: ``YYYYMMDD``; empty if unknown.
    birth_date: str = ""
    #: ``M``, ``F`` or ``O``; empty if unknown.
    sex: str = ""
    accession_number: str = ""
    study_description: str = ""
    study_id: str = ""


def encode_source_series(
    volume: Volume,
    subject: Subject,
    *,
    seed: str,
    created: datetime,
    description: str = "",
) -> list[Dataset]:
    """Return the volume as CT or MR instances, in slice order, each with its file meta.

    Parameters
    ----------
    volume
        One channel, modality ``CT`` or ``MR``, with an affine whose rows and columns are
        orthogonal; slices may be shifted in their plane, as by a tilted gantry.
    seed
        Every UID of the study is derived from it: same seed, same identifiers.
    created
        Study, series and content date and time.
    description
        Series Description.

    Raises
    ------
    EncodingError
        If the volume has another modality, several channels, no affine, a left-handed or
        sheared plane, or values that are not finite.

    Notes
    -----
    Whole numbers of 16 bits are stored as they are; other values are scaled to 16 bits over
    their range, with Rescale Slope and Intercept, and so come back within half a step
    (range / 131070). CT Image (PS3.3 A.3), MR Image (A.4), Image Plane (C.7.6.2).
    """
    _require_encodable(volume)
    stored, slope, intercept = _stored_values(volume.voxels[0])
    common = {
        **_patient_and_study(subject, seed, created),
        **_series_and_equipment(volume, seed, created, description),
        **_acquisition(volume),
        **_pixel_description(volume, stored),
    }
    if volume.modality == "CT" or (slope, intercept) != (1.0, 0.0):
        common |= {
            "RescaleIntercept": format_number_as_ds(intercept),
            "RescaleSlope": format_number_as_ds(slope),
            "RescaleType": "HU" if volume.modality == "CT" else "US",
        }
    return [_instance(common, volume, stored, index, seed) for index in range(stored.shape[0])]


def _require_encodable(volume: Volume) -> None:
    uid = volume.series_instance_uid
    if volume.modality not in _SOP_CLASSES:
        raise EncodingError(f"volume {uid}: modality {volume.modality!r}, expected CT or MR")
    if volume.voxels.shape[0] != 1:
        raise EncodingError(f"volume {uid}: {volume.voxels.shape[0]} channels, expected 1")
    if volume.affine is None:
        raise EncodingError(f"volume {uid}: no affine, so its slices have no place")
    if not np.isfinite(volume.voxels).all():
        raise EncodingError(f"volume {uid}: values that are not finite cannot be stored")
    row, column, _ = _plane(volume.affine)
    if abs(float(row @ column)) > _COSINE_TOLERANCE:
        raise EncodingError(f"volume {uid}: row and column directions are not orthogonal")
    if float(np.cross(row, column) @ volume.affine[:3, 0]) <= 0:
        raise EncodingError(f"volume {uid}: slices descend along row x column, expected ascending")


def _plane(
    affine: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    # Direction of a row (along which the column index grows) first, as DICOM writes it.
    row_spacing, column_spacing = (float(s) for s in np.linalg.norm(affine[:3, 1:3], axis=0))
    row = affine[:3, 2] / column_spacing
    column = affine[:3, 1] / row_spacing
    return row, column, (row_spacing, column_spacing)


def _stored_values(
    voxels: NDArray[np.float32],
) -> tuple[NDArray[np.int16] | NDArray[np.uint16], float, float]:
    lowest, highest = float(voxels.min()), float(voxels.max())
    whole = bool(np.array_equal(voxels, np.rint(voxels)))
    if whole and lowest >= 0 and highest <= 65535:
        return voxels.astype(np.uint16), 1.0, 0.0
    if whole and lowest >= -32768 and highest <= 32767:
        return voxels.astype(np.int16), 1.0, 0.0
    # What is written is what is divided by: the 16 characters of a DS are the slope.
    slope = float(format_number_as_ds((highest - lowest) / 65535 or 1.0))
    intercept = float(format_number_as_ds(lowest))
    levels = np.rint((voxels.astype(np.float64) - intercept) / slope)
    return np.clip(levels, 0, 65535).astype(np.uint16), slope, intercept


def _patient_and_study(subject: Subject, seed: str, created: datetime) -> dict[str, Any]:
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": subject.patient_name,
        "PatientID": subject.patient_id,
        "PatientBirthDate": subject.birth_date,
        "PatientSex": subject.sex,
        "StudyInstanceUID": named_uid(f"{seed}|study"),
        "StudyDate": created.strftime("%Y%m%d"),
        "StudyTime": created.strftime("%H%M%S"),
        "StudyID": subject.study_id,
        "StudyDescription": subject.study_description,
        "AccessionNumber": subject.accession_number,
        "ReferringPhysicianName": "",
    }


def _series_and_equipment(
    volume: Volume, seed: str, created: datetime, description: str
) -> dict[str, Any]:
    return {
        "Modality": volume.modality,
        "SeriesInstanceUID": named_uid(f"{seed}|series"),
        "SeriesNumber": 1,
        "SeriesDate": created.strftime("%Y%m%d"),
        "SeriesTime": created.strftime("%H%M%S"),
        "SeriesDescription": description,
        "BodyPartExamined": volume.body_part,
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": named_uid(f"{seed}|frame of reference"),
        "PositionReferenceIndicator": "",
        "Manufacturer": "Pellucid",
        "ManufacturerModelName": "stand-in modality",
        "ContentDate": created.strftime("%Y%m%d"),
        "ContentTime": created.strftime("%H%M%S"),
        "AcquisitionNumber": 1,
    }


def _acquisition(volume: Volume) -> dict[str, Any]:
    common: dict[str, Any] = {"ImageType": _IMAGE_TYPES[volume.modality]}
    if volume.body_part not in _UNPAIRED:
        common["Laterality"] = ""
    if volume.modality == "CT":
        return common | {"KVP": None}
    return common | {
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "RepetitionTime": None,
        "EchoTime": None,
        "EchoTrainLength": None,
    }


def _pixel_description(
    volume: Volume, stored: NDArray[np.int16] | NDArray[np.uint16]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[1],
        "Columns": stored.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(stored.dtype == np.int16),
    }
    if volume.window is not None:
        center, width = volume.window
        described["WindowCenter"] = format_number_as_ds(float(center))
        described["WindowWidth"] = format_number_as_ds(float(width))
    return described


def _instance(
    common: Mapping[str, Any],
    volume: Volume,
    stored: NDArray[np.int16] | NDArray[np.uint16],
    index: int,
    seed: str,
) -> Dataset:
    sop_class = _SOP_CLASSES[volume.modality]
    dataset = Dataset()
    for keyword, value in common.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = named_uid(f"{seed}|{index}")
    dataset.InstanceNumber = index + 1
    _place(dataset, volume, index)
    dataset.PixelData = stored[index].astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _place(dataset: Dataset, volume: Volume, index: int) -> None:
    affine = volume.affine
    if affine is None:
        raise EncodingError(f"volume {volume.series_instance_uid}: no affine")
    row, column, spacing = _plane(affine)
    position = affine[:3, 3] + index * affine[:3, 0]
    normal = np.cross(row, column)
    thickness = abs(float(normal @ affine[:3, 0]))
    dataset.ImagePositionPatient = _decimals(position)
    dataset.ImageOrientationPatient = _decimals([*row, *column])
    dataset.PixelSpacing = _decimals(spacing)
    dataset.SliceThickness = format_number_as_ds(thickness)
    dataset.SpacingBetweenSlices = format_number_as_ds(thickness)
    dataset.SliceLocation = format_number_as_ds(float(normal @ position))


def _decimals(values: Any) -> list[str]:
    return [format_number_as_ds(float(value)) for value in values]
