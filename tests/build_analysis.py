"""Builders of what encoders receive: images with headers, analyses, origins."""

from datetime import UTC, datetime

import numpy as np
from pydicom import Dataset

from dicom_io.analysis import (
    Analysis,
    Cost,
    Explanation,
    FailedExplanation,
    Finding,
    Heatmap,
    MeasureValue,
    ModelCard,
    Segment,
    Verdict,
)
from dicom_io.codes import SYNTHETIC_LESION, code_for_label
from dicom_io.origin import Origin, Site
from dicom_io.read import Input
from dicom_io.uids import named_uid
from dicom_io.volume import SourceFrame, Volume

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
PHOTO = "1.2.840.10008.5.1.4.1.1.77.1.4"

#: Directions of growing column and growing row, in LPS.
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
OBLIQUE = ((np.cos(0.35), np.sin(0.35), 0.0), (-np.sin(0.35) * 0.8, np.cos(0.35) * 0.8, -0.6))


def make_origin(mode="research", route="head", inputs=("1.2.3.4",)):
    return Origin(
        study_instance_uid="1.2.3",
        input_sop_instance_uids=inputs,
        route=route,
        config_hash="c0ffee",
        created=datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=UTC),
        site=Site(
            institution="General Hospital",
            device_serial_number="4711",
            device_uid=named_uid("a node"),
        ),
        software_version="0.1.0",
        mode=mode,
        contact="ai@hospital",
    )


def make_affine(orientation=AXIAL, spacing=(3.0, 0.8, 0.7), position=(-20.0, -30.0, 40.0)):
    """From (slice, row, column, 1) to LPS mm; spacing is (slice, row, column)."""
    along_columns, along_rows = (np.array(direction) for direction in orientation)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along_columns, along_rows) * spacing[0]
    affine[:3, 1] = along_rows * spacing[1]
    affine[:3, 2] = along_columns * spacing[2]
    affine[:3, 3] = position
    return affine


def make_input(orientation=AXIAL, modality="CT", shape=(6, 40, 48), **patient):
    """A single-frame series with a ramp, a body and a bright marker at the patient's left."""
    affine = make_affine(orientation)
    sop_class = {"CT": CT, "MR": MR}[modality]
    uids = [f"1.2.3.4.{index + 1}" for index in range(shape[0])]
    headers = [
        header(sop_class, uid, modality, shape, number=index + 1, **patient)
        for index, uid in enumerate(uids)
    ]
    for index, each in enumerate(headers):
        each.FrameOfReferenceUID = "1.2.3.9"
        each.ImagePositionPatient = [float(v) for v in (affine @ (index, 0, 0, 1))[:3]]
        each.ImageOrientationPatient = [float(v) for direction in orientation for v in direction]
        each.PixelSpacing = [0.8, 0.7]
        each.SliceThickness = 3.0
    frames = tuple(SourceFrame(sop_instance_uid=uid, sop_class_uid=sop_class) for uid in uids)
    volume = volume_of(body_with_marker(shape, affine), affine, frames, modality)
    return Input(name="image", volume=volume, headers=tuple(headers))


def make_enhanced_input(orientation=AXIAL, shape=(6, 40, 48)):
    """A multi-frame MR whose frames are stored in reverse order, as scanners do."""
    affine = make_affine(orientation)
    each = header(ENHANCED_MR, "1.2.3.4.1", "MR", shape)
    each.FrameOfReferenceUID = "1.2.3.9"
    each.NumberOfFrames = shape[0]
    frames = tuple(
        SourceFrame(
            sop_instance_uid="1.2.3.4.1",
            sop_class_uid=ENHANCED_MR,
            frame_number=shape[0] - index,
        )
        for index in range(shape[0])
    )
    volume = volume_of(body_with_marker(shape, affine), affine, frames, "MR")
    return Input(name="image", volume=volume, headers=(each,))


def make_projection(shape=(1, 60, 50)):
    """A digital radiograph: a pixel spacing, but no place in patient space."""
    each = header(DX, "1.2.3.4.1", "DX", shape)
    each.PatientOrientation = ["L", "F"]
    each.ImagerPixelSpacing = [0.2, 0.2]
    each.BodyPartExamined = "CHEST"
    frames = (SourceFrame(sop_instance_uid="1.2.3.4.1", sop_class_uid=DX),)
    volume = volume_of(body_with_marker(shape, None), None, frames, "DX")
    return Input(name="image", volume=volume, headers=(each,))


def make_photograph(shape=(1, 60, 80)):
    """An RGB photograph: neither spacing nor place."""
    each = header(PHOTO, "1.2.3.4.1", "XC", shape)
    each.PhotometricInterpretation = "RGB"
    each.SamplesPerPixel = 3
    frames = (SourceFrame(sop_instance_uid="1.2.3.4.1", sop_class_uid=PHOTO),)
    red = np.linspace(40, 220, shape[2], dtype=np.float32)
    voxels = np.zeros((3, *shape), np.float32)
    voxels[0] = red
    voxels[1] = 120
    voxels[2] = red[::-1]
    volume = Volume(
        voxels=voxels,
        affine=None,
        frames=frames,
        modality="XC",
        series_instance_uid="1.2.3.5",
        frame_of_reference_uid=None,
        pixel_spacing_mm=None,
    )
    return Input(name="image", volume=volume, headers=(each,))


def header(sop_class, uid, modality, shape, number=1, **patient):
    """A source header without pixels."""
    each = Dataset()
    each.SpecificCharacterSet = patient.get("character_set", "ISO_IR 100")
    each.SOPClassUID = sop_class
    each.SOPInstanceUID = uid
    each.StudyInstanceUID = "1.2.3"
    each.SeriesInstanceUID = "1.2.3.5"
    each.PatientName = patient.get("name", "Müller^Änne")
    each.PatientID = "P-17"
    each.PatientBirthDate = "19500102"
    each.PatientSex = "F"
    each.PatientAge = "076Y"
    each.StudyDate = "20260228"
    each.StudyTime = "235959"
    each.StudyID = "S1"
    each.AccessionNumber = "A-99"
    each.ReferringPhysicianName = "Who^Doctor"
    each.StudyDescription = "Head"
    each.Modality = modality
    each.SeriesNumber = 3
    each.InstanceNumber = number
    each.BodyPartExamined = "HEAD"
    each.Rows, each.Columns = shape[1:]
    each.SamplesPerPixel = 1
    each.PhotometricInterpretation = "MONOCHROME2"
    return each


def volume_of(values, affine, frames, modality):
    return Volume(
        voxels=values[None],
        affine=affine,
        frames=frames,
        modality=modality,
        series_instance_uid="1.2.3.5",
        frame_of_reference_uid="1.2.3.9" if affine is not None else None,
        pixel_spacing_mm=(0.2, 0.2) if affine is None else (0.8, 0.7),
        window=(100.0, 400.0),
        body_part="HEAD",
    )


def body_with_marker(shape, affine):
    """float32 [slice, row, column]: noise-free body, brighter where the marker is."""
    slices, rows, columns = np.indices(shape)
    center = (np.array(shape) - 1) / 2
    radius = sum(
        ((axis - middle) / (0.42 * size + 1)) ** 2
        for axis, middle, size in zip(
            (slices, rows, columns), center, (shape[0] * 2, *shape[1:]), strict=True
        )
    )
    body = np.where(radius < 1, 60.0 + 2.0 * columns, -90.0)
    return np.where(left_marker(shape, affine), 250.0, body).astype(np.float32)


def left_marker(shape, affine):
    """bool [slice, row, column]: a small block away from every plane of symmetry.

    With an affine it lies left, posterior and high in the patient; without one, in the upper
    right of the image.
    """
    if affine is None:
        mask = np.zeros(shape, bool)
        mask[:, 10:18, shape[2] - 20 : shape[2] - 10] = True
        return mask
    index = np.stack([*np.indices(shape), np.ones(shape)], axis=-1)
    lps = index @ affine.T
    low, high = lps.min(axis=(0, 1, 2)), lps.max(axis=(0, 1, 2))
    fraction = (lps - low)[..., :3] / np.maximum(high - low, 1e-9)[:3]
    return (np.abs(fraction - (0.72, 0.62, 0.6)) < (0.12, 0.14, 0.26)).all(axis=-1)


def make_card(**changes):
    return ModelCard(
        **{
            "name": "phantom",
            "version": "1.0",
            "weights_sha256": "ab" * 32,
            "description": "Classifier of the phantom",
            "manufacturer": "Pellucid",
            "intended_use": "Checks of the explanation chain",
            "notice": "Synthetic-lesion phantom: not trained on patients.",
        }
        | changes
    )


def make_heatmap(source, *, channels=1):
    """Relevance that is highest in the marker and fades over a few voxels; a little negative."""
    marker = np.argwhere(left_marker(source.volume.grid_shape, source.volume.affine))
    # Images too small for the marker get their relevance in the middle.
    middle = marker.mean(axis=0) if marker.size else np.array(source.volume.grid_shape) / 2
    distance = np.zeros(source.volume.grid_shape, np.float32)
    for axis, position in zip(np.indices(source.volume.grid_shape), middle, strict=True):
        distance += ((axis - position) / 6.0) ** 2
    relevance = 0.02 * np.exp(-distance) - 0.0005
    return Heatmap(relevance=np.repeat(relevance[None].astype(np.float32), channels, axis=0))


def make_explanation(source, verdict=Verdict.PASSED, **changes):
    failed = verdict is not Verdict.PASSED
    values = {
        "target": "synthetic lesion",
        "method": "layer_cam",
        "heatmap": make_heatmap(source),
        "measures": (
            MeasureValue(name="integrity", value=1.0, limit=1.0, passed=True),
            MeasureValue(
                name="comprehensiveness",
                value=-0.01 if failed else 0.31,
                limit=0.0,
                passed=not failed,
            ),
            MeasureValue(name="comprehensiveness_top", value=0.42),
        ),
        "cost": Cost(forwards=1.1, backwards=1.0),
        "parameters": {"channels": "sum"},
        "layer": "features.denseblock3",
        "residual": None,
        "verdict": verdict,
        "reasons": ("removing what it marks lowers the answer no more than elsewhere",)
        if failed
        else (),
    }
    return Explanation(**(values | changes))


def make_failure(target="synthetic lesion", method="grad_cam", **changes):
    values = {"reason": "the network has no feature map", "parameters": {"channels": "sum"}}
    return FailedExplanation(target=target, method=method, **(values | changes))


def make_finding(probability=0.87, label="synthetic lesion"):
    concept = SYNTHETIC_LESION if label == "synthetic lesion" else code_for_label(label)
    return Finding(label=label, concept=concept, probability=probability, threshold=0.5)


def make_segment(source, label="lesion"):
    mask = left_marker(source.volume.grid_shape, source.volume.affine)
    return Segment(label=label, concept=code_for_label(label), mask=mask)


def make_analysis(source, **changes):
    """A present finding, one segment in the marker, one explanation that passed."""
    values = {
        "model": make_card(),
        "input_name": source.name,
        "findings": (make_finding(),),
        "segments": (make_segment(source),),
        "explanations": (make_explanation(source),),
    }
    return Analysis(**(values | changes))
