"""Two published networks on a real head: known volumes, in whatever order the slices come."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer

from ai.models.monai_bundle import load
from tests.build_bundles import ORIENTATIONS, make_volume, settings_for
from tests.peers import require_shared

pytestmark = pytest.mark.slow

#: Patient's left in LPS.
LEFT = np.array([1.0, 0.0, 0.0])


class RememberedInferer(SimpleInferer):
    """Gives an output that was computed before, for the input that it was computed from."""

    def __init__(self, tensor, output):
        super().__init__()
        self.tensor, self.output = tensor, output

    def __call__(self, inputs, network, *args, **kwargs):
        assert torch.equal(inputs, self.tensor)
        return self.output


def read_head():
    """The head's voxels [i, j, k] and the affine from their index to LPS mm."""
    image = nibabel.load(require_shared("data/t1_head.nii.gz"))
    return np.asarray(image.dataobj, np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine


def head_volume(orientation):
    """The head as a scanner would have sliced it: every voxel where it was."""
    voxels, affine = read_head()
    order, steps, origin = [], [], affine[:3, 3]
    for direction in ORIENTATIONS[orientation].T:
        axis = int(np.argmax(np.abs(affine[:3, :3].T @ direction)))
        column = affine[:3, axis]
        if column @ direction < 0:
            voxels = np.flip(voxels, axis)
            origin = origin + column * (voxels.shape[axis] - 1)
            column = -column
        order.append(axis)
        steps.append(column)
    sliced = np.eye(4)
    sliced[:3, :3], sliced[:3, 3] = np.stack(steps, axis=1), origin
    return make_volume(voxels.transpose(order), affine=sliced)


def turned(volume, degrees):
    """The same voxels in a head turned about the long axis of the body."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return replace(volume, affine=turn @ volume.affine), turn


def volumes_ml(prediction, volume):
    return {
        name: float(mask.sum()) * volume.voxel_volume_ml for name, mask in prediction.masks.items()
    }


def centroid(mask, volume):
    return volume.affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + volume.affine[:3, 3]


@pytest.fixture(scope="module")
def meshnet3():
    return load(settings_for(require_shared("data/brain_meshnet3")))


@pytest.fixture(scope="module")
def axial(meshnet3):
    volume = head_volume("axial")
    prepared = meshnet3.prepare(volume)
    return volume, prepared, meshnet3.predict(prepared)


def test_white_and_gray_matter_have_their_known_volumes(axial):
    volume, _, prediction = axial

    measured = volumes_ml(prediction, volume)

    assert measured["White matter"] == pytest.approx(531, rel=0.03)
    assert measured["Gray matter"] == pytest.approx(716, rel=0.03)


@pytest.mark.parametrize("orientation", ["sagittal", "coronal"])
def test_slicing_changes_neither_volumes_nor_places(meshnet3, axial, orientation):
    first, prepared, expected = axial
    volume = head_volume(orientation)
    model = replace(meshnet3, inferer=RememberedInferer(prepared.tensor, expected.output))

    prediction = model.predict(model.prepare(volume))

    assert volume.voxels.shape[1:] == first.voxels.shape[1:]
    assert volumes_ml(prediction, volume) == pytest.approx(volumes_ml(expected, first), rel=0.01)
    for name, mask in prediction.masks.items():
        assert np.allclose(centroid(mask, volume), centroid(expected.masks[name], first), atol=1.0)


def test_turned_head_has_its_segments_turned(meshnet3, axial):
    first, prepared, expected = axial
    volume, turn = turned(first, 20)
    model = replace(meshnet3, inferer=RememberedInferer(prepared.tensor, expected.output))

    prediction = model.predict(model.prepare(volume))

    assert volumes_ml(prediction, volume) == pytest.approx(volumes_ml(expected, first), rel=0.01)
    for name, mask in prediction.masks.items():
        before = centroid(expected.masks[name], first)
        assert np.allclose(centroid(mask, volume), turn[:3, :3] @ before + turn[:3, 3], atol=1.0)


def test_head_without_its_left_half_has_no_left_segments(meshnet3):
    volume = head_volume("sagittal")
    index = np.stack(np.meshgrid(*map(np.arange, volume.grid_shape), indexing="ij"), axis=-1)
    toward_left = index @ volume.affine[0, :3] + volume.affine[0, 3]
    middle = toward_left.mean()
    halved = volume.voxels * (toward_left < middle)
    half = make_volume(halved, affine=volume.affine)

    prediction = meshnet3.predict(meshnet3.prepare(half))

    for mask in prediction.masks.values():
        assert mask.sum() > 100_000
        assert (toward_left[mask] < middle).mean() > 0.99


def test_eighteen_structures_have_their_known_volumes():
    model = load(settings_for(require_shared("data/brain_meshnet18")))
    volume = head_volume("axial")

    measured = volumes_ml(model.predict(model.prepare(volume)), volume)

    assert len(measured) == 17
    assert measured["Thalamus"] == pytest.approx(18.8, rel=0.03)
    assert measured["Hippocampus"] == pytest.approx(8.0, rel=0.03)
    assert measured["Putamen"] == pytest.approx(10.8, rel=0.03)
    assert measured["Brain-Stem"] == pytest.approx(20.6, rel=0.03)
    assert measured["Cerebral-White-Matter"] == pytest.approx(487.9, rel=0.03)
