"""Stacks: where their voxels are, whatever the order and the direction of the slices."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_io.errors import (
    ConflictingPatientsError,
    MissingSeriesError,
    SeveralImagesError,
)
from dicom_io.read import read_input, read_inputs, read_volume
from dicom_io.select import ANY_IMAGE, Selector
from dicom_io.study import Series, group_studies
from tests.build import (
    DIRECTIONS,
    MARKER,
    OBLIQUE,
    SUBJECT,
    affine_of,
    cr_dataset,
    ct_series,
    enhanced_ct_dataset,
    marked_volume,
    marker_index,
    mr_series,
    renamed,
    rotation,
    slice_datasets,
    stored,
    volume_of,
)


def marker_place(volume):
    """LPS mm of the brightest voxel."""
    index = np.unravel_index(volume.voxels[0].argmax(), volume.grid_shape)
    return (volume.affine @ np.append(index, 1.0))[:3]


def place_of(affine, index):
    return (affine @ np.append(index, 1.0))[:3]


@pytest.mark.parametrize("orientation", [*DIRECTIONS, "oblique"])
def test_marker_is_read_where_it_was_written(tmp_path, orientation):
    written = marked_volume(orientation)

    volume = read_volume(ct_series(tmp_path, written))

    assert volume.voxels[0][marker_index(volume.grid_shape)] == MARKER
    expected = place_of(affine_of(orientation), marker_index(written.grid_shape))
    assert np.allclose(marker_place(volume), expected, atol=1e-6)
    assert np.array_equal(volume.voxels, written.voxels)
    assert np.allclose(volume.affine, written.affine, atol=1e-9)


def test_known_axial_place_in_plain_numbers(tmp_path):
    volume = read_volume(ct_series(tmp_path))

    # Slice 3, row 2, column 8 of 2.5, 0.9 and 1.2 mm, from -20, -30, 40.
    assert np.allclose(marker_place(volume), (-20 + 8 * 1.2, -30 + 2 * 0.9, 40 + 3 * 2.5))


@pytest.mark.parametrize("orientation", DIRECTIONS)
def test_order_of_files_does_not_matter(tmp_path, orientation):
    datasets = slice_datasets(marked_volume(orientation))
    expected = read_volume(stored(tmp_path / "a", datasets))

    for name, order in (("b", datasets[::-1]), ("c", random.Random(1).sample(datasets, 5))):
        volume = read_volume(stored(tmp_path / name, order))

        assert np.array_equal(volume.voxels, expected.voxels)
        assert np.array_equal(volume.affine, expected.affine)
        assert volume.frames == expected.frames


def test_slices_written_downwards_are_read_upwards(tmp_path):
    # Rows that run to the right: the slices ascend towards the feet.
    affine = np.array(
        [[0, 0, -1.2, 9], [0, 0.9, 0, 0], [-2.5, 0, 0, 50], [0, 0, 0, 1]], dtype=float
    )
    written = marked_volume(affine=affine)

    volume = read_volume(ct_series(tmp_path, written))

    assert np.allclose(volume.affine, affine)
    assert np.allclose(marker_place(volume), place_of(affine, marker_index((5, 8, 10))))


def test_tilted_gantry_is_a_sheared_affine(tmp_path):
    affine = affine_of()
    affine[1, 0] = 0.7  # each slice lies 0.7 mm further back
    written = marked_volume(affine=affine)

    volume = read_volume(ct_series(tmp_path, written))

    assert np.allclose(volume.affine, affine)
    assert np.isclose(volume.voxel_volume_ml, 2.5 * 0.9 * 1.2 / 1000)


def test_single_slice_is_as_thick_as_it_says(tmp_path):
    dataset = slice_datasets()[2]
    dataset.SliceThickness, dataset.SpacingBetweenSlices = 5, 20

    volume = read_volume(stored(tmp_path, [dataset]))

    assert volume.spacing_mm == pytest.approx((5, 0.9, 1.2))
    assert volume.grid_shape == (1, 8, 10)


def test_every_slice_is_rescaled_by_its_own_values(tmp_path):
    datasets = slice_datasets(marked_volume(modality="MR"))
    for number, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + number, 7

    volume = read_volume(stored(tmp_path, datasets))

    expected = marked_volume().voxels[0]
    for number in range(5):
        assert np.array_equal(volume.voxels[0, number], expected[number] * (1 + number) + 7)


def test_volume_says_what_its_source_says(tmp_path):
    volume = read_volume(ct_series(tmp_path))

    assert volume.modality == "CT"
    assert volume.body_part == "HEAD"
    assert volume.window == (40, 400)
    assert volume.age_years == pytest.approx(56.01, abs=0.01)
    assert volume.pixel_spacing_mm == (0.9, 1.2)
    assert volume.frame_of_reference_uid
    assert [frame.frame_number for frame in volume.frames] == [None] * 5
    assert not volume.voxels.flags.writeable
    assert not volume.affine.flags.writeable


def test_headers_follow_the_slices_and_carry_no_pixels(tmp_path):
    series = stored(tmp_path, slice_datasets()[::-1])

    read = read_input(series, "ct")

    assert read.name == "ct"
    uids = [frame.sop_instance_uid for frame in read.volume.frames]
    assert [header.SOPInstanceUID for header in read.headers] == uids
    assert all("PixelData" not in header for header in read.headers)
    assert str(read.headers[0].PatientName) == SUBJECT.patient_name


def test_headers_gain_no_attribute_but_empty_ones(tmp_path):
    (written, *_) = slice_datasets()

    (header, *_) = read_input(ct_series(tmp_path), "ct").headers

    gained = {element.keyword for element in header} - {element.keyword for element in written}
    assert gained == set()


def test_headers_have_what_the_source_lacks_empty(tmp_path):
    dataset = cr_dataset()
    del dataset.StudyDate

    (header,) = read_input(stored(tmp_path, [dataset]), "cr").headers

    for keyword in ("PatientBirthDate", "StudyDate", "StudyID", "Manufacturer", "SeriesNumber"):
        assert keyword in header
        assert not header[keyword].value


def test_malformed_attribute_that_nobody_needs_is_left_out_of_the_header(tmp_path):
    series = ct_series(tmp_path)
    path = series.instances[0].path
    acquisition_number = b"\x20\x00\x12\x00IS\x02\x00"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(acquisition_number + b"1 ", acquisition_number + b"?!"))

    read = read_input(series, "ct")

    broken = [header for header in read.headers if "AcquisitionNumber" not in header]
    assert len(broken) == 1


def test_enhanced_frames_are_placed_whatever_their_order(tmp_path):
    expected = marked_volume()
    dataset = enhanced_ct_dataset(order=[3, 0, 4, 2, 1])

    volume = read_volume(stored(tmp_path, [dataset]))

    assert np.array_equal(volume.voxels, expected.voxels)
    assert np.allclose(volume.affine, expected.affine)
    assert [frame.frame_number for frame in volume.frames] == [2, 5, 4, 1, 3]
    assert volume.window == (40, 400)


def test_inputs_come_in_the_order_of_the_selectors(tmp_path):
    ct = ct_series(tmp_path / "ct")
    cr = cr_dataset()
    cr.StudyInstanceUID = ct.instances[0].study_instance_uid
    (study,) = group_studies([*ct.instances, *stored(tmp_path / "cr", [cr]).instances])
    select = [
        Selector(name="film", conditions={"Modality": "CR"}),
        Selector(name="slices", conditions={"Modality": "CT"}),
    ]

    film, slices = read_inputs(study, select)

    assert (film.name, film.volume.modality) == ("film", "CR")
    assert (slices.name, slices.volume.modality) == ("slices", "CT")


def test_selector_that_takes_nothing_is_refused(tmp_path):
    (study,) = group_studies(mr_series(tmp_path).instances)

    with pytest.raises(MissingSeriesError, match="'pet'"):
        read_inputs(study, [Selector(name="pet", conditions={"Modality": "PT"})])


def test_study_of_two_patients_is_refused_without_naming_them(tmp_path):
    datasets = slice_datasets()
    datasets[2].PatientID = "SOMEONE"
    (study,) = group_studies(stored(tmp_path, datasets).instances)

    with pytest.raises(ConflictingPatientsError, match="2 different patients") as caught:
        read_inputs(study, [ANY_IMAGE])
    assert "SOMEONE" not in str(caught.value)


def test_two_radiographs_in_one_series_are_no_stack(tmp_path):
    series = stored(tmp_path, [cr_dataset(), renamed(cr_dataset(), "another")])

    with pytest.raises(SeveralImagesError, match="2 images"):
        read_volume(series)


def test_localizers_are_read_over_when_excluded(tmp_path):
    datasets = slice_datasets()
    scout = renamed(slice_datasets(marked_volume("coronal"))[0], "scout")
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    (study,) = group_studies(stored(tmp_path, [scout, *datasets]).instances)

    (read,) = read_inputs(study, [Selector(name="ct", conditions={"ImageType": ["!LOCALIZER"]})])

    assert read.volume.grid_shape == (5, 8, 10)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    degrees=st.floats(-180, 180),
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    position=st.tuples(*[st.floats(-900, 900)] * 3),
    modality=st.sampled_from(["CT", "MR"]),
    shape=st.tuples(*[st.integers(2, 6)] * 3),
    seed=st.integers(0, 10_000),
)
def test_any_orientation_comes_back_as_it_was(
    tmp_path_factory, degrees, axis, spacing, position, modality, shape, seed
):
    generator = np.random.default_rng(seed)
    voxels = generator.integers(-2000, 4000, shape).astype(np.float32)
    affine = affine_of(spacing=spacing)
    affine = rotation(degrees, axis) @ affine
    affine[:3, 3] = position
    datasets = slice_datasets(volume_of(voxels, affine, modality))
    generator.shuffle(datasets)

    volume = read_volume(stored(tmp_path_factory.mktemp("series"), datasets))

    assert np.array_equal(volume.voxels[0], voxels)
    assert np.allclose(volume.affine, affine, atol=1e-6)


def test_same_files_make_the_same_volume_twice(tmp_path):
    series = ct_series(tmp_path, marked_volume(affine=OBLIQUE @ affine_of("sagittal")))

    first, second = read_volume(series), read_volume(series)

    assert first.voxels.tobytes() == second.voxels.tobytes()
    assert first.affine.tobytes() == second.affine.tobytes()
    shuffled = Series(
        series_instance_uid=series.series_instance_uid, instances=series.instances[::-1]
    )
    assert replace(read_volume(shuffled), voxels=first.voxels, affine=first.affine) == first
