"""What every loader among the entry points ``pellucid.models`` must keep."""

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch

from ai.analyze import AnalyzeSettings, analyze
from ai.capture import fingerprint
from ai.errors import ModelUnavailableError, UnsuitableInputError
from ai.model import ModelSettings
from ai.phantom.make import make_phantom
from dicom_io.read import Input
from tests.build_bundles import (
    ORIENTATIONS,
    SEGMENTER,
    bright_voxel_weights,
    make_affine,
    make_volume,
    settings_for,
    write_bundle,
)

LOADERS = {entry.name: entry for entry in entry_points(group="pellucid.models")}


def bundle_case(folder):
    settings = settings_for(write_bundle(folder, SEGMENTER, bright_voxel_weights()))
    voxels = np.zeros((10, 12, 14), np.float32)
    voxels[7:9, 1:4, 2:5] = 1
    return settings, make_volume(voxels, affine=make_affine(ORIENTATIONS["coronal"]))


def phantom_case(_folder):
    return ModelSettings(name="phantom", kind="phantom"), make_phantom(0).volume


#: How a loader is given something to load, and an image that its model is meant for.
CASES = {"monai_bundle": bundle_case, "phantom": phantom_case}


@pytest.fixture(params=sorted(LOADERS))
def case(request, tmp_path):
    if request.param not in CASES:
        pytest.fail(f"give the loader {request.param} a case in CASES")
    settings, volume = CASES[request.param](tmp_path / "bundle")
    return LOADERS[request.param].load()(settings), settings, volume


def test_model_says_who_it_is_and_what_its_channels_are(case):
    model, settings, _ = case

    assert model.card.name == settings.name
    assert len(model.card.weights_sha256) == 64
    assert model.labels
    assert len({label.name for label in model.labels}) == len(model.labels)
    assert all(len(label.concept.value) <= 16 for label in model.labels)
    assert 0 < model.threshold < 1


def test_network_is_ready_to_be_explained(case):
    model, _, _ = case

    assert not any(module.training for module in model.network.modules())
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_prepared_input_knows_the_way_to_patient_space_and_back(case):
    model, _, volume = case

    prepared = model.prepare(volume)

    assert prepared.tensor.dtype == torch.float32
    assert prepared.tensor.shape[0] == 1
    assert prepared.source is volume
    to_patient = volume.affine @ prepared.source_from_prepared
    assert np.allclose(prepared.affine, to_patient)


def test_prediction_speaks_of_its_labels_on_the_source_grid_and_is_repeatable(case):
    model, _, volume = case
    before, voxels = fingerprint(model.network), volume.voxels.copy()

    first = model.predict(model.prepare(volume))
    second = model.predict(model.prepare(volume))

    names = {label.name for label in model.labels}
    assert set(first.probabilities) | set(first.masks) == names
    assert all(0 <= value <= 1 for value in first.probabilities.values())
    assert all(mask.shape == volume.grid_shape for mask in first.masks.values())
    assert all(mask.dtype == bool for mask in first.masks.values())
    assert torch.equal(first.output, second.output)
    assert fingerprint(model.network) == before
    assert np.array_equal(volume.voxels, voxels)


def test_analysis_carries_the_models_card(case):
    model, _, volume = case
    source = Input(name="image", volume=volume, headers=())

    analysis = analyze([source], model, [], AnalyzeSettings())

    assert analysis.model == model.card
    assert analysis.findings or analysis.segments


def test_image_without_a_place_in_space_is_refused_by_a_model_of_volumes(case):
    model, _, _ = case
    projection = make_volume(np.ones((1, 8, 8), np.float32), modality="DX")

    with pytest.raises(UnsuitableInputError):
        model.prepare(projection)


def test_bundle_that_is_not_there_is_named():
    load = LOADERS["monai_bundle"].load()

    with pytest.raises(ModelUnavailableError, match="no such folder"):
        load(ModelSettings(name="x", bundle=Path("/nonexistent/bundle"), trusted=True))
