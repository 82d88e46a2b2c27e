"""From stored files to result objects and back through an independent reader."""

import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dicom_io.analysis import Heatmap, Segment
from dicom_io.codes import code_for_label
from dicom_io.encode import relevance_bands, report, secondary_capture, segmentation
from dicom_io.encode.objects import encode_analyses
from dicom_io.read import read_input
from tests.build import (
    DIRECTIONS,
    MARKER,
    affine_of,
    cr_dataset,
    ct_series,
    dx_dataset,
    enhanced_ct_dataset,
    marked_volume,
    mr_series,
    photo_dataset,
    stored,
)
from tests.build_analysis import make_analysis, make_explanation, make_origin
from tests.peers import require

ENCODERS = {
    "report": report.encode,
    "overlay": secondary_capture.encode,
    "bands": relevance_bands.encode,
    "segmentation": segmentation.encode,
}
ORIENTATIONS = (*DIRECTIONS, "oblique")


def tilted_series(folder):
    """Slices shifted in their plane, as by a gantry tilted by 15 degrees."""
    affine = affine_of()
    affine[1, 0] += np.tan(np.radians(15.0)) * 2.5
    return ct_series(folder, marked_volume(affine=affine))


SERIES = {
    **{name: lambda folder, name=name: mr_series(folder, name) for name in ORIENTATIONS},
    "tilted gantry": tilted_series,
    "enhanced, frames reversed": lambda folder: stored(
        folder, [enhanced_ct_dataset(order=[4, 3, 2, 1, 0])]
    ),
    "CR": lambda folder: stored(folder, [cr_dataset()]),
    "DX, MONOCHROME1": lambda folder: stored(folder, [dx_dataset()]),
    "photograph": lambda folder: stored(folder, [photo_dataset()]),
}


def results_of(source):
    """All objects of an analysis that marks the brightest voxel."""
    brightness = source.volume.voxels.sum(axis=0)
    mask = brightness == brightness.max()
    marked = Segment(label="lesion", concept=code_for_label("lesion"), mask=mask)
    relevance = np.where(mask, 1.0, -0.1).astype(np.float32)[None]
    analysis = make_analysis(
        source,
        segments=(marked,),
        explanations=(make_explanation(source, heatmap=Heatmap(relevance=relevance)),),
    )
    return mask, encode_analyses([analysis], [source], make_origin(), ENCODERS)


@pytest.mark.peers
@pytest.mark.parametrize("kind", SERIES)
def test_an_independent_validator_finds_no_error(kind, tmp_path):
    validator = require("/usr/bin/dciodvfy", "install Debian's dicom3tools")
    source = read_input(SERIES[kind](tmp_path / "in"), "image")

    errors = []
    for number, dataset in enumerate(results_of(source)[1]):
        path = tmp_path / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        ran = subprocess.run([validator, path], capture_output=True, text=True, check=False)
        lines = (ran.stdout + ran.stderr).splitlines()
        errors += [(dataset.Modality, line) for line in lines if line.startswith("Error")]

    assert errors == []


@pytest.mark.parametrize("kind", ORIENTATIONS)
def test_segment_and_bands_come_back_at_the_marker(kind, tmp_path):
    source = read_input(SERIES[kind](tmp_path / "in"), "image")
    mask, objects = results_of(source)
    expected = source.volume.affine @ [*np.argwhere(mask)[0], 1.0]

    for dataset in objects[:2]:
        dataset.save_as(tmp_path / "result.dcm", enforce_file_format=True)
        volume = hd.seg.segread(tmp_path / "result.dcm").get_volume(
            combine_segments=True, skip_overlap_checks=True, allow_missing_positions=True
        )
        (index,) = np.argwhere(volume.array > 0)
        np.testing.assert_allclose(volume.affine @ [*index, 1.0], expected, atol=1e-4)


def test_frames_of_a_tilted_series_lie_on_their_source_slices(tmp_path):
    series = tilted_series(tmp_path / "in")
    source = read_input(series, "image")

    (segmented, *_) = results_of(source)[1]

    frame = segmented.PerFrameFunctionalGroupsSequence[0]
    uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    path = next(i.path for i in series.instances if i.sop_instance_uid == uid)
    original = pydicom.dcmread(path)
    np.testing.assert_allclose(
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float),
        np.array(original.ImagePositionPatient, float),
        atol=1e-6,
    )
    assert original.pixel_array.argmax() == segmented.pixel_array.argmax()
    measures = segmented.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)


def test_frame_of_a_multi_frame_source_holds_the_marker(tmp_path):
    series = SERIES["enhanced, frames reversed"](tmp_path / "in")
    source = read_input(series, "image")

    (segmented, *_) = results_of(source)[1]

    frame = segmented.PerFrameFunctionalGroupsSequence[0]
    number = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    original = pydicom.dcmread(series.instances[0].path)
    np.testing.assert_array_equal(
        original.pixel_array[number - 1] == MARKER - float(rescale_intercept(original)),
        segmented.pixel_array.reshape(original.Rows, original.Columns).astype(bool),
    )


def rescale_intercept(dataset):
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    return frame.PixelValueTransformationSequence[0].RescaleIntercept


@pytest.mark.parametrize("kind", SERIES)
def test_patient_with_a_greek_name_comes_back(kind, tmp_path):
    source = read_input(SERIES[kind](tmp_path / "in"), "image")

    for dataset in results_of(source)[1]:
        dataset.save_as(tmp_path / "result.dcm", enforce_file_format=True)
        again = pydicom.dcmread(tmp_path / "result.dcm")
        assert str(again.PatientName) == "Παπαδοπούλου^Ελένη"
        assert again.StudyInstanceUID == source.headers[0].StudyInstanceUID


@pytest.mark.parametrize("kind", ["CR", "photograph"])
def test_image_without_a_place_still_gets_report_and_overlay(kind, tmp_path):
    source = read_input(SERIES[kind](tmp_path / "in"), "image")

    modalities = [dataset.Modality for dataset in results_of(source)[1]]

    assert modalities == (["SEG", "OT", "SR"] if kind == "CR" else ["OT", "SR"])
