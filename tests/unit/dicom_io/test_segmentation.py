"""The segmentation lies where the mask lies, as an independent reader sees it."""

import subprocess

import highdicom as hd
import numpy as np
import pytest

from dicom_io.analysis import Segment
from dicom_io.codes import code_for_label
from dicom_io.encode.binary_segmentation import packed
from dicom_io.encode.segmentation import encode
from dicom_io.errors import EncodingError
from tests.build_analysis import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    left_marker,
    make_analysis,
    make_enhanced_input,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
    make_segment,
)
from tests.peers import require


def encoded(source, **changes):
    (dataset,) = encode(make_analysis(source, **changes), source, make_origin(), ())
    return dataset


def read_back(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return hd.seg.segread(path)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
def test_reader_finds_the_mask_at_its_place_in_the_patient(orientation, tmp_path):
    source = make_input(orientation, "MR")
    marker = left_marker(source.volume.grid_shape, source.volume.affine)
    expected = source.volume.affine @ [*np.argwhere(marker).mean(axis=0), 1.0]

    volume = read_back(encoded(source), tmp_path / "seg.dcm").get_volume(combine_segments=True)

    index = np.argwhere(volume.array > 0).mean(axis=0)
    np.testing.assert_allclose(volume.affine @ [*index, 1.0], expected, atol=1e-4)
    assert np.count_nonzero(volume.array) == marker.sum()


def test_marker_on_the_left_stays_on_the_left(tmp_path):
    source = make_input()

    volume = read_back(encoded(source), tmp_path / "seg.dcm").get_volume(combine_segments=True)

    index = np.argwhere(volume.array > 0).mean(axis=0)
    left_of_center = (source.volume.affine @ [0, 0, 23.5, 1])[0]
    assert (volume.affine @ [*index, 1.0])[0] > left_of_center


def test_frames_refer_to_the_slices_they_lie_on(tmp_path):
    source = make_input(OBLIQUE, "MR")
    marker = left_marker(source.volume.grid_shape, source.volume.affine)
    uids = [frame.sop_instance_uid for frame in source.volume.frames]

    read = read_back(encoded(source), tmp_path / "seg.dcm")
    pixels = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)

    np.testing.assert_array_equal(pixels[..., 0].astype(bool), marker)


def test_frames_of_a_multi_frame_source_are_named_by_number(tmp_path):
    source = make_enhanced_input()
    marker = left_marker(source.volume.grid_shape, source.volume.affine)
    numbers = [frame.frame_number for frame in source.volume.frames]

    read = read_back(encoded(source), tmp_path / "seg.dcm")
    pixels = read.get_pixels_by_source_frame(
        "1.2.3.4.1", numbers, assert_missing_frames_are_empty=True
    )

    np.testing.assert_array_equal(pixels[..., 0].astype(bool), marker)


def test_several_segments_may_overlap_and_keep_their_codes(tmp_path):
    source = make_input()
    everything = Segment(
        label="Gray matter",
        concept=code_for_label("Gray matter"),
        mask=np.ones(source.volume.grid_shape, bool),
    )

    dataset = encoded(source, segments=(make_segment(source), everything))
    read = read_back(dataset, tmp_path / "seg.dcm")

    assert dataset.SegmentsOverlap == "YES"
    assert [read.get_segment_description(n).segmented_property_type.value for n in (1, 2)] == [
        "52988006",
        "389081007",
    ]
    assert read.get_volume(segment_numbers=[2], combine_segments=True).array.all()


def test_segment_without_voxels_is_left_out():
    source = make_input()
    nothing = Segment(
        label="edema",
        concept=code_for_label("edema"),
        mask=np.zeros(source.volume.grid_shape, bool),
    )

    dataset = encoded(source, segments=(nothing, make_segment(source)))
    none = encode(make_analysis(source, segments=(nothing,)), source, make_origin(), ())

    assert [item.SegmentLabel for item in dataset.SegmentSequence] == ["lesion"]
    assert none == ()


def test_projection_gets_a_segmentation_without_invented_geometry():
    dataset = encoded(make_projection())

    assert "FrameOfReferenceUID" not in dataset
    assert "PlaneOrientationSequence" not in dataset.SharedFunctionalGroupsSequence[0]
    assert list(dataset.PatientOrientation) == ["L", "F"]


def test_photograph_gets_no_segmentation_because_its_spacing_is_unknown():
    source = make_photograph()

    assert encode(make_analysis(source), source, make_origin(), ()) == ()


def test_mask_of_another_grid_is_refused():
    source = make_input()
    wrong = Segment(label="x", concept=code_for_label("x"), mask=np.ones((2, 3, 4), bool))

    with pytest.raises(EncodingError, match=r"shape \(2, 3, 4\).*1\.2\.3\.5"):
        encode(make_analysis(source, segments=(wrong,)), source, make_origin(), ())


def test_bits_are_packed_lowest_first_and_to_an_even_length():
    frames = np.zeros((1, 3, 3), bool)
    frames[0, 0, 1] = frames[0, 2, 2] = True

    assert packed(frames) == b"\x02\x01"
    assert len(packed(np.ones((1, 1, 3), bool))) == 2


@pytest.mark.peers
def test_dcmtk_reads_the_segmentation(tmp_path):
    dcmdump = require("/usr/bin/dcmdump", "install Debian's dcmtk")
    encoded(make_input()).save_as(tmp_path / "seg.dcm", enforce_file_format=True)

    ran = subprocess.run(
        [dcmdump, "+P", "SegmentLabel", "+P", "PatientID", tmp_path / "seg.dcm"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "[lesion]" in ran.stdout
    assert "[P-17]" in ran.stdout
