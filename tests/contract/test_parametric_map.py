"""A map of relevance lies where its source lies, in any order of slices, and loses no value."""

import numpy as np
import pydicom
import pytest
from highdicom.pm.sop import pmread

from dicom_io.analysis import Heatmap
from dicom_io.check_source import check_against_source
from dicom_io.encode import parametric_map
from dicom_io.read import read_input
from tests.build import affine_of, enhanced_ct_dataset, marked_volume, slice_datasets, stored
from tests.build_analysis import (
    make_analysis,
    make_explanation,
    make_input,
    make_origin,
    make_photograph,
    make_projection,
)


def reversed_files(folder):
    return stored(folder, reversed(slice_datasets(marked_volume())))


def from_the_feet(folder):
    """Slices that ascend towards the feet: rows run to the right, columns to the back."""
    affine = affine_of()
    affine[:3, 0] *= -1
    affine[:3, 2] *= -1
    return stored(folder, slice_datasets(marked_volume(affine=affine)))


def oblique_and_reversed(folder):
    return stored(folder, reversed(slice_datasets(marked_volume("oblique", modality="MR"))))


SERIES = {
    "axial": lambda folder: stored(folder, slice_datasets(marked_volume())),
    "files in reverse": reversed_files,
    "feet first": from_the_feet,
    "oblique, in reverse": oblique_and_reversed,
    "enhanced, frames reversed": lambda folder: stored(
        folder, [enhanced_ct_dataset(order=[4, 3, 2, 1, 0])]
    ),
}


def explained(source):
    """An analysis whose relevance is unlike in every voxel, partly negative, in two channels."""
    random = np.random.default_rng(3)
    relevance = random.normal(size=(2, *source.volume.grid_shape)).astype(np.float32) * 1e-4
    relevance[:, source.volume.voxels[0] == source.volume.voxels[0].max()] = 0.5
    explanation = make_explanation(source, heatmap=Heatmap(relevance=relevance))
    return make_analysis(source, explanations=(explanation,)), relevance.sum(axis=0)


def read_back(dataset, folder):
    path = folder / "map.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return pmread(path)


@pytest.mark.parametrize("kind", SERIES)
def test_every_value_comes_back_at_its_place(kind, tmp_path):
    source = read_input(SERIES[kind](tmp_path / "in"), "image")
    analysis, relevance = explained(source)

    (dataset,) = parametric_map.encode(analysis, source, make_origin(), ())
    volume = read_back(dataset, tmp_path).get_volume(
        apply_real_world_transform=True, real_world_value_map_selector=0
    )

    slope = (
        dataset.SharedFunctionalGroupsSequence[0]
        .RealWorldValueMappingSequence[1]
        .RealWorldValueSlope
    )

    # highdicom may turn the volume round: points decide.
    for index in np.argwhere(np.abs(relevance) > 0)[::7]:
        point = source.volume.affine @ [*index, 1.0]
        there = np.linalg.solve(volume.affine, point)[:3]
        np.testing.assert_allclose(there, there.round(), atol=1e-3)
        value = volume.array[tuple(there.round().astype(int))]
        assert value * slope == pytest.approx(relevance[tuple(index)], rel=1e-5)


@pytest.mark.parametrize("kind", SERIES)
def test_frames_ascend_along_row_cross_column_and_name_their_source(kind, tmp_path):
    source = read_input(SERIES[kind](tmp_path / "in"), "image")
    analysis, relevance = explained(source)

    (dataset,) = parametric_map.encode(analysis, source, make_origin(), ())
    read_back(dataset, tmp_path)
    again = pydicom.dcmread(tmp_path / "map.dcm")

    shared = again.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    frames = again.PerFrameFunctionalGroupsSequence
    heights = [
        normal @ np.array(f.PlanePositionSequence[0].ImagePositionPatient, float) for f in frames
    ]
    assert heights == sorted(heights)
    pixels = np.frombuffer(again.FloatPixelData, "<f4").reshape(relevance.shape)
    brightest = int(pixels.max(axis=(1, 2)).argmax())
    reference = frames[brightest].DerivationImageSequence[0].SourceImageSequence[0]
    expected = source.volume.frames[int(relevance.max(axis=(1, 2)).argmax())]
    assert reference.ReferencedSOPInstanceUID == expected.sop_instance_uid
    assert reference.get("ReferencedFrameNumber") == expected.frame_number


def test_one_is_the_peak_and_the_quantity_is_the_method(tmp_path):
    source = make_input()
    analysis, relevance = explained(source)

    (dataset,) = parametric_map.encode(analysis, source, make_origin(), ())
    shared = read_back(dataset, tmp_path).SharedFunctionalGroupsSequence[0]
    fraction, mapping = shared.RealWorldValueMappingSequence

    pixels = np.frombuffer(dataset.FloatPixelData, "<f4")
    assert pixels.max() == pytest.approx(1.0)
    assert pixels.min() < 0
    assert fraction.RealWorldValueSlope == 1
    assert fraction.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.RealWorldValueSlope == pytest.approx(float(relevance.max()))
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("130403", "DCM")


def test_a_coarse_map_holds_means_of_blocks_at_their_centers(tmp_path):
    source = make_input(shape=(9, 40, 46))
    analysis, relevance = explained(source)

    (dataset,) = parametric_map.encode_coarse(analysis, source, make_origin(), ())
    volume = read_back(dataset, tmp_path).get_volume(
        apply_real_world_transform=True, real_world_value_map_selector=0
    )

    assert (dataset.NumberOfFrames, dataset.Rows, dataset.Columns) == (3, 10, 12)
    center = source.volume.affine @ [1.5, 5.5, 9.5, 1.0]
    index = np.linalg.solve(volume.affine, center)[:3]
    np.testing.assert_allclose(index, index.round(), atol=1e-3)
    value = volume.array[tuple(index.round().astype(int))]
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[1]
    expected = relevance[0:4, 4:8, 8:12].mean()
    assert value * mapping.RealWorldValueSlope == pytest.approx(expected, rel=1e-4)
    assert check_against_source(dataset, source) == ()


@pytest.mark.parametrize("make", [make_projection, make_photograph])
def test_there_is_no_map_where_there_is_no_place_in_the_patient(make):
    source = make()

    assert parametric_map.encode(make_analysis(source), source, make_origin(), ()) == ()


def test_a_mirrored_map_does_not_pass_our_check():
    source = make_input()
    (dataset,) = parametric_map.encode(make_analysis(source), source, make_origin(), ())

    dataset.PerFrameFunctionalGroupsSequence = list(
        reversed(dataset.PerFrameFunctionalGroupsSequence)
    )

    assert any("away from its place" in said for said in check_against_source(dataset, source))


def test_the_orientation_is_written_digit_by_digit_as_the_source_does(tmp_path):
    source = read_input(SERIES["oblique, in reverse"](tmp_path / "in"), "image")
    analysis, _ = explained(source)

    (dataset,) = parametric_map.encode(analysis, source, make_origin(), ())

    (plane,) = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    stated = source.headers[0].ImageOrientationPatient
    assert [str(v) for v in plane.ImageOrientationPatient] == [str(v) for v in stated]
