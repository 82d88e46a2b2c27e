"""The way into the network and the exact way back."""

import numpy as np
import pytest
import torch
from monai.transforms import (
    CenterSpatialCropd,
    Flipd,
    Lambdad,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    Spacingd,
    SpatialPadd,
    Transposed,
)

from ai.errors import ModelUnavailableError, UnsuitableInputError
from ai.prepare import (
    labels_to_source_grid,
    mask_to_prepared_grid,
    prepare,
    probabilities_to_source_grid,
    to_source_grid,
)
from tests.build_bundles import (
    ORIENTATIONS,
    blob_volume,
    centroid_mm,
    make_affine,
    make_volume,
)

LEFT_FRONT_TOP_MM = (8.0, -4.0, 5.0)


def turned(directions, degrees):
    angle = np.radians(degrees)
    turn = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0],
            [np.sin(angle), np.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    return turn @ directions


def volume_around_blob(orientation, spacing_mm=(1.0, 1.0, 1.0), degrees=0.0):
    shape = np.array((30, 36, 40))
    directions = turned(ORIENTATIONS[orientation], degrees)
    affine = make_affine(directions, spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ (shape / 2)
    return blob_volume(shape=tuple(shape), affine=affine, center_mm=LEFT_FRONT_TOP_MM)


@pytest.mark.parametrize("degrees", [0, 20])
@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_asymmetric_marker_is_where_the_affine_says_and_comes_back(orientation, degrees):
    volume = volume_around_blob(orientation, (1.2, 1.0, 1.0), degrees)
    steps = [
        Orientationd(keys="image", axcodes="LIA", labels=None),
        Spacingd(keys="image", pixdim=(1.5, 1.5, 1.5)),
        ResizeWithPadOrCropd(keys="image", spatial_size=(48, 48, 48)),
    ]

    prepared = prepare(volume, steps)
    back = to_source_grid(prepared.tensor[0], prepared)

    inside = centroid_mm(prepared.tensor[0, 0].numpy(), prepared.affine)
    assert np.allclose(inside, LEFT_FRONT_TOP_MM, atol=0.1)
    assert back.shape == volume.voxels.shape
    assert np.allclose(centroid_mm(back[0], volume.affine), LEFT_FRONT_TOP_MM, atol=0.1)
    assert np.corrcoef(back.ravel(), volume.voxels.ravel())[0, 1] > 0.98


def test_first_axis_of_orientation_lia_runs_to_the_left():
    volume = volume_around_blob("axial")

    prepared = prepare(volume, [Orientationd(keys="image", axcodes="LIA", labels=None)])

    toward = prepared.affine[:3, :3] / np.linalg.norm(prepared.affine[:3, :3], axis=0)
    assert np.allclose(toward, [[1, 0, 0], [0, 0, -1], [0, -1, 0]])  # LPS: left, inferior, front


def test_cropping_and_flipping_come_back_exactly_and_zero_outside():
    rng = np.random.default_rng(0)
    voxels = rng.random((9, 10, 11), dtype=np.float32) + 1
    volume = make_volume(voxels, affine=make_affine(ORIENTATIONS["coronal"], (2.0, 1.0, 1.0)))
    steps = [Flipd(keys="image", spatial_axis=0), CenterSpatialCropd(keys="image", roi_size=6)]

    prepared = prepare(volume, steps)
    back = to_source_grid(prepared.tensor[0], prepared)[0]

    inside = back > 0
    assert inside.sum() == 6**3
    assert np.array_equal(back[inside], voxels[inside])


def test_padding_at_the_far_end_is_no_lie():
    volume = make_volume(np.ones((4, 5, 6), np.float32), affine=make_affine(ORIENTATIONS["axial"]))
    pad = SpatialPadd(keys="image", spatial_size=(8, 8, 8), method="end")

    prepared = prepare(volume, [pad])

    assert np.array_equal(to_source_grid(prepared.tensor[0], prepared), volume.voxels)


@pytest.mark.parametrize(
    "dishonest",
    [
        Lambdad(keys="image", func=lambda image: image[:, ::2]),
        Lambdad(keys="image", func=lambda image: torch.as_tensor(np.asarray(image))),
        Transposed(keys="image", indices=(0, 2, 1, 3)),
        lambda entry: {"image": entry["image"].as_tensor()},
    ],
)
def test_a_step_that_moves_voxels_without_the_affine_is_refused(dishonest):
    volume = make_volume(np.ones((8, 8, 8), np.float32), affine=make_affine(ORIENTATIONS["axial"]))

    with pytest.raises(ModelUnavailableError, match="affine"):
        prepare(volume, [dishonest])


def test_labels_and_masks_take_the_nearest_voxel_both_ways():
    volume = volume_around_blob("sagittal")
    mask = volume.voxels[0] > 0.5
    steps = [
        Orientationd(keys="image", axcodes="RAS", labels=None),
        SpatialPadd(keys="image", spatial_size=(48, 48, 48)),
    ]
    prepared = prepare(volume, steps)

    moved = mask_to_prepared_grid(mask, prepared)
    labels = labels_to_source_grid(moved[None].to(torch.int16) * 7, prepared)

    assert moved.dtype == torch.bool
    assert moved.shape == prepared.tensor.shape[2:]
    assert np.array_equal(moved.numpy(), prepared.tensor[0, 0].numpy() > 0.5)
    assert np.array_equal(labels[0].numpy(), mask * 7)


def test_an_oblique_label_map_keeps_its_volume_and_its_labels():
    volume = volume_around_blob("axial", degrees=20)
    prepared = prepare(volume, [Spacingd(keys="image", pixdim=(0.8, 0.8, 0.8), diagonal=True)])
    assert np.abs(prepared.source_from_prepared[1, 0]) > 0.1

    labels = labels_to_source_grid((prepared.tensor[0] > 0.5).to(torch.uint8) * 3, prepared)

    assert set(labels.unique().tolist()) == {0, 3}
    assert (labels > 0).sum() == pytest.approx((volume.voxels > 0.5).sum(), rel=0.05)


def test_oblique_channels_come_back_together_as_each_does_alone():
    steps = [Spacingd(keys="image", pixdim=(0.8, 0.8, 0.8), diagonal=True)]
    prepared = prepare(volume_around_blob("axial", degrees=20), steps)
    there = prepared.tensor[0]
    channels = torch.cat([there, there.flip(1), 1 - there])

    together = probabilities_to_source_grid(channels, prepared)

    for channel, back in zip(channels, together, strict=True):
        assert torch.equal(back, probabilities_to_source_grid(channel[None], prepared)[0])


def test_a_coarser_map_is_a_density_with_the_same_mean():
    volume = volume_around_blob("coronal")
    prepared = prepare(volume, [Resized(keys="image", spatial_size=(20, 18, 15))])

    back = probabilities_to_source_grid(torch.ones_like(prepared.tensor[0]), prepared)

    assert torch.equal(back, torch.ones_like(back))


def test_projection_keeps_rows_and_columns():
    picture = np.zeros((1, 12, 20), np.float32)
    picture[0, 2, 15] = 1
    volume = make_volume(picture, affine=None, modality="DX", pixel_spacing_mm=(0.2, 0.1))

    prepared = prepare(volume, [Resized(keys="image", spatial_size=(40, 24))], spatial_dims=2)
    back = to_source_grid(prepared.tensor[0], prepared)

    assert prepared.affine is None
    assert prepared.tensor.shape == (1, 1, 40, 24)  # columns, then rows, as MONAI reads pictures
    assert back.shape == (1, 1, 12, 20)
    assert np.unravel_index(back.argmax(), back.shape) == (0, 0, 2, 15)


def test_color_photograph_keeps_its_channels():
    picture = np.random.default_rng(0).random((3, 1, 6, 8), dtype=np.float32)

    prepared = prepare(make_volume(picture, modality="XC"), [], spatial_dims=2)

    assert np.array_equal(to_source_grid(prepared.tensor[0], prepared), picture)


def test_dimensions_that_do_not_fit_are_refused():
    affine = make_affine(ORIENTATIONS["axial"])
    with pytest.raises(UnsuitableInputError, match="takes one slice, the image has 3"):
        prepare(make_volume(np.ones((3, 4, 4), np.float32), affine=affine), [], spatial_dims=2)
    with pytest.raises(UnsuitableInputError, match="no place in patient space"):
        prepare(make_volume(np.ones((1, 4, 4), np.float32)), [])


def test_relevance_of_another_grid_is_refused():
    volume = make_volume(np.ones((4, 4, 4), np.float32), affine=make_affine(ORIENTATIONS["axial"]))
    prepared = prepare(volume, [])

    with pytest.raises(ValueError, match="grid"):
        to_source_grid(torch.ones(1, 4, 4, 5), prepared)


def test_source_voxels_are_never_changed():
    volume = make_volume(np.ones((4, 4, 4), np.float32), affine=make_affine(ORIENTATIONS["axial"]))

    prepared = prepare(volume, [])
    prepared.tensor.zero_()

    assert volume.voxels.min() == 1
