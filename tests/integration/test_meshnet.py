"""Two published networks on a real head: known volumes, in whatever order the slices come."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer

from ai.models.monai_bundle import load
from tests.build import OBLIQUE, t1_head_volume
from tests.build_bundles import HEAD, settings_for, without_air
from tests.peers import require_shared

pytestmark = pytest.mark.slow


class RememberedInferer(SimpleInferer):
    """Gives an output that was computed before, for the input that it was computed from."""

    def __init__(self, tensor, output):
        super().__init__()
        self.tensor, self.output = tensor, output

    def __call__(self, inputs, network, *args, **kwargs):
        assert torch.equal(inputs, self.tensor)
        return self.output


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
    volume = t1_head_volume("axial")
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
    volume = t1_head_volume(orientation)
    model = replace(meshnet3, inferer=RememberedInferer(prepared.tensor, expected.output))

    prediction = model.predict(model.prepare(volume))

    assert volume.voxels.shape[1:] == first.voxels.shape[1:]
    assert volumes_ml(prediction, volume) == pytest.approx(volumes_ml(expected, first), rel=0.01)
    for name, mask in prediction.masks.items():
        assert np.allclose(centroid(mask, volume), centroid(expected.masks[name], first), atol=1.0)


def test_turned_head_has_its_segments_turned(meshnet3, axial):
    first, prepared, expected = axial
    volume = t1_head_volume("oblique")
    model = replace(meshnet3, inferer=RememberedInferer(prepared.tensor, expected.output))

    prediction = model.predict(model.prepare(volume))

    assert volumes_ml(prediction, volume) == pytest.approx(volumes_ml(expected, first), rel=0.01)
    for name, mask in prediction.masks.items():
        before = centroid(expected.masks[name], first)
        turned = OBLIQUE[:3, :3] @ before + OBLIQUE[:3, 3]
        assert np.allclose(centroid(mask, volume), turned, atol=1.0)


def test_resampled_head_has_its_segments_where_they_were(meshnet3, axial):
    first, _, expected = axial
    volume = t1_head_volume("resampled")

    prediction = meshnet3.predict(meshnet3.prepare(volume))

    assert volumes_ml(prediction, volume) == pytest.approx(volumes_ml(expected, first), rel=0.06)
    for name, mask in prediction.masks.items():
        assert np.allclose(centroid(mask, volume), centroid(expected.masks[name], first), atol=1.0)


def test_head_without_its_left_half_has_no_left_segments(meshnet3):
    volume = t1_head_volume("sagittal")
    index = np.stack(np.meshgrid(*map(np.arange, volume.grid_shape), indexing="ij"), axis=-1)
    toward_left = index @ volume.affine[0, :3] + volume.affine[0, 3]
    middle = toward_left.mean()
    half = replace(volume, voxels=volume.voxels * (toward_left < middle))

    prediction = meshnet3.predict(meshnet3.prepare(half))

    for mask in prediction.masks.values():
        assert mask.sum() > 100_000
        assert (toward_left[mask] < middle).mean() > 0.99


def test_eighteen_structures_have_their_known_volumes(tmp_path):
    # The volumes are those of the whole grid, and the air around the head has none of them.
    published = require_shared("data/brain_meshnet18")
    model = load(settings_for(without_air(published, tmp_path / "bundle", HEAD)))
    volume = t1_head_volume("axial")

    measured = volumes_ml(model.predict(model.prepare(volume)), volume)

    assert len(measured) == 17
    assert measured["Thalamus"] == pytest.approx(18.8, rel=0.03)
    assert measured["Hippocampus"] == pytest.approx(8.0, rel=0.03)
    assert measured["Putamen"] == pytest.approx(10.8, rel=0.03)
    assert measured["Brain-Stem"] == pytest.approx(20.6, rel=0.03)
    assert measured["Cerebral-White-Matter"] == pytest.approx(487.9, rel=0.03)
