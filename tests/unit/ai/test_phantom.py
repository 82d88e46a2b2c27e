from dataclasses import replace

import numpy as np
import pytest
import torch

from ai.errors import UnsuitableInputError
from ai.phantom.anatomy import GRID_SHAPE, SPACING_MM
from ai.phantom.examples import random_batch, store_example
from ai.phantom.head import prepare_head
from ai.phantom.inserts import Kind, NoRoomError, find_site, plant
from ai.phantom.make import make_phantom
from ai.phantom.network import STRIDE, PhantomNetwork
from ai.phantom.template import load_template
from ai.phantom.train import FIRST_TRAINING_SEED, Plan, train

SEED_WITH_LESION = 1
SEED_WITHOUT_LESION = 0


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(SEED_WITH_LESION)


def turned(volume, order, flips):
    """The same image, stored along other axes: ``order`` of the old ones, ``flips`` of the new."""
    voxels = volume.voxels.transpose(0, *(axis + 1 for axis in order))
    affine = volume.affine[:, [*order, 3]].copy()
    for axis in flips:
        voxels = np.flip(voxels, axis + 1)
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis + 1] - 1)
        affine[:3, axis] *= -1
    voxels = np.ascontiguousarray(voxels)
    return replace(volume, voxels=voxels, affine=affine, frames=volume.frames)


def test_a_seed_always_gives_the_same_phantom(phantom):
    again = make_phantom(SEED_WITH_LESION)
    other = make_phantom(SEED_WITH_LESION + 1)

    assert np.array_equal(again.volume.voxels, phantom.volume.voxels)
    assert np.array_equal(again.truth, phantom.truth)
    assert again.volume.series_instance_uid == phantom.volume.series_instance_uid
    assert not np.array_equal(other.volume.voxels, phantom.volume.voxels)
    assert other.volume.series_instance_uid != phantom.volume.series_instance_uid


def test_phantom_is_an_axial_mr_volume_in_patient_space(phantom):
    volume = phantom.volume
    along_slices, along_rows, along_columns = volume.affine[:3, :3].T

    assert volume.modality == "MR"
    assert volume.grid_shape == GRID_SHAPE == phantom.truth.shape
    assert volume.spacing_mm == SPACING_MM
    assert len({frame.sop_instance_uid for frame in volume.frames}) == GRID_SHAPE[0]
    # Columns run to the patient's left, rows to the back, slices along their cross product.
    assert np.array_equal(np.sign(along_columns), (1, 0, 0))
    assert np.array_equal(np.sign(along_rows), (0, 1, 0))
    assert np.array_equal(along_slices, 2 * np.cross(along_columns, along_rows))


def test_phantom_survives_storage_as_twelve_bit_whole_numbers(phantom):
    voxels = phantom.volume.voxels

    assert voxels.dtype == np.float32
    assert np.array_equal(voxels, np.rint(voxels))
    assert voxels.min() == 0
    assert voxels.max() <= 4095
    assert not voxels.flags.writeable


def test_truth_lies_in_the_head_and_is_empty_without_a_lesion(phantom):
    healthy = make_phantom(SEED_WITHOUT_LESION)

    assert phantom.has_lesion
    assert phantom.truth.any()
    assert phantom.volume.voxels[0][phantom.truth].mean() > 100
    assert not healthy.has_lesion
    assert not healthy.truth.any()
    assert "planted" in healthy.description


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_planted_is_as_bright_as_what_it_replaces(kind):
    rng = np.random.default_rng(7)
    grown = np.full((40, 60, 60), 0.8, np.float32)
    grown[:, ::7] = 0.6
    before = grown.copy()
    site = find_site(grown, np.zeros(grown.shape, bool), rng, diameters_mm=(15, 26))

    plant(grown, site, kind, rng)

    inside = site.weight > 0
    assert not np.array_equal(grown, before)
    assert grown[site.box][inside].mean() == pytest.approx(
        before[site.box][inside].mean(), abs=5e-3
    )


def test_a_head_without_tissue_has_no_room():
    empty = np.zeros((60, 60, 60), np.float32)

    with pytest.raises(NoRoomError, match="no room for a region of"):
        find_site(
            empty, np.zeros(empty.shape, bool), np.random.default_rng(0), diameters_mm=(15, 26)
        )


def test_template_file_is_what_its_script_makes_of_nilearns_head(tmp_path, monkeypatch):
    pytest.importorskip("nilearn", reason="pip install nilearn")
    from ai.phantom import build_template

    out = tmp_path / "template.npz"
    monkeypatch.setattr("sys.argv", ["build_template", "--out", str(out)])
    build_template.main()

    shipped = load_template()
    with np.load(out) as made:
        assert np.array_equal(made["intensity"], shipped.intensity)
        assert np.array_equal(made["affine"], shipped.affine)


def test_template_out_of_line_with_patient_axes_is_refused():
    from ai.phantom.build_template import axial_template

    with pytest.raises(ValueError, match="along the axes of RAS"):
        axial_template(np.ones((3, 3, 3), np.uint8), np.eye(4)[[1, 0, 2, 3]])


def test_head_is_prepared_to_two_millimeters_in_multiples_of_the_stride(phantom):
    prepared = prepare_head(phantom.volume)

    assert prepared.tensor.shape[:2] == (1, 1)
    assert all(size % STRIDE == 0 for size in prepared.tensor.shape[2:])
    assert np.allclose(np.linalg.norm(prepared.affine[:3, :3], axis=0), 2.0)
    assert np.allclose(prepared.affine, phantom.volume.affine @ prepared.source_from_prepared)


@pytest.mark.parametrize(
    ("order", "flips"),
    [((2, 0, 1), ()), ((1, 0, 2), (0, 1)), ((0, 1, 2), (0, 2)), ((2, 1, 0), (0, 1, 2))],
)
def test_prepared_head_is_the_same_however_it_is_stored(phantom, order, flips):
    stored = turned(phantom.volume, order, flips)

    straight, other = prepare_head(phantom.volume), prepare_head(stored)

    assert torch.allclose(straight.tensor, other.tensor, atol=1e-4)
    assert np.allclose(straight.affine, other.affine)


def test_images_that_are_no_head_mr_are_refused(phantom):
    volume = phantom.volume
    coarse = volume.affine @ np.diag([2.0, 1.0, 1.0, 1.0])
    small = replace(volume, voxels=volume.voxels[:, :20], frames=volume.frames[:20])
    dark = replace(volume, voxels=np.zeros_like(volume.voxels))

    for unsuitable, reason in (
        (replace(volume, modality="CT"), "modality CT"),
        (replace(volume, affine=None), "place in patient space"),
        (replace(volume, affine=coarse), "spacing 4.00 mm"),
        (small, "extent 40 mm"),
        (dark, "0 voxels brighter"),
    ):
        with pytest.raises(UnsuitableInputError, match=reason):
            prepare_head(unsuitable)


def test_places_of_the_evidence_map_lie_over_their_voxels():
    torch.manual_seed(0)
    network = PhantomNetwork().eval()
    x = torch.zeros(1, 1, 48, 48, 48, requires_grad=True)

    (pull,) = torch.autograd.grad(network.evidence(x + torch.rand(x.shape))[0, 0, 6, 6, 6], x)

    reach = torch.nonzero(pull[0, 0]).double()
    middle = (reach.amin(dim=0) + reach.amax(dim=0)) / 2
    assert torch.allclose(middle, torch.full((3,), 6 * STRIDE + (STRIDE - 1) / 2).double())


def test_training_that_was_stopped_ends_with_the_same_weights(tmp_path):
    whole = Plan(work=tmp_path / "whole", phantoms=2, steps=2, seed=3)
    parts = replace(whole, work=tmp_path / "parts")

    straight = train(whole)
    train(parts, until=1)
    resumed = train(parts)

    for name, weights in straight.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name


def test_crops_of_an_example_keep_the_head_and_its_truth_together(tmp_path):
    seed = FIRST_TRAINING_SEED
    while not make_phantom(seed).has_lesion:
        seed += 1
    store_example(seed, tmp_path)

    heads, truths = random_batch(
        np.array([seed] * 6), tmp_path, crop=(32, 32, 32), rng=np.random.default_rng(0)
    )

    assert heads.shape == truths.shape == (6, 1, 32, 32, 32)
    assert truths.flatten(1).amax(dim=1).sum() >= 4
