"""Why this and not that: what is explained is what one label has above another."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydicom import Dataset

from ai.analyze import AnalyzeSettings, ExplainerRequest, analyze
from ai.errors import ExplanationError
from ai.explainers.cam import LayerCAM
from ai.explainers.integrated_gradients import IntegratedGradients
from ai.explainers.occlusion import Occlusion
from ai.models.monai_bundle import load
from dicom_io.read import Input
from tests.build_bundles import (
    CLASSIFIER,
    ORIENTATIONS,
    SEGMENTER,
    make_affine,
    make_volume,
    settings_for,
    write_bundle,
)

LABELS = {"0": "Effusion", "1": "Nodule", "2": "Mass"}
WEIGHTS = torch.tensor([3.0, 9.0, 5.0])
GRADIENTS = ExplainerRequest(
    name="integrated_gradients", explainer=IntegratedGradients(baseline="zero")
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A linear model: each logit is the mean of the image, times a weight."""
    weights = {"0.weight": WEIGHTS.reshape(3, 1, 1, 1, 1), "0.bias": torch.zeros(3)}
    network = CLASSIFIER["network_def"].replace("Conv3d(1, 2, 1)", "Conv3d(1, 3, 1)")
    folder = tmp_path_factory.mktemp("bundle") / "c"
    changes = {"network_def": network}
    write_bundle(folder, CLASSIFIER, weights, channels=LABELS, changes=changes)
    return load(settings_for(folder, threshold=0.01))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A model that outlines what is bright, with a second label whose logit falls with it."""
    weights = {
        "weight": torch.tensor([0.0, 10.0, -4.0]).reshape(3, 1, 1, 1, 1),
        "bias": torch.tensor([0.0, -5.0, -5.0]),
    }
    folder = tmp_path_factory.mktemp("bundle") / "s"
    write_bundle(
        folder,
        SEGMENTER,
        weights,
        channels={"0": "background", "1": "bright", "2": "dark"},
        changes={"network_def": "$torch.nn.Conv3d(1, 3, 1)"},
    )
    return load(settings_for(folder))


def image(voxels):
    volume = make_volume(voxels, affine=make_affine(ORIENTATIONS["axial"]))
    return Input(name="t1", volume=volume, headers=tuple(Dataset() for _ in volume.frames))


def explained(model, request, voxels=None):
    voxels = np.ones((4, 6, 6), np.float32) if voxels is None else voxels
    return analyze([image(voxels)], model, [request], AnalyzeSettings())


def test_a_linear_model_is_explained_by_the_difference_of_its_weights(classifier):
    request = replace(GRADIENTS, targets=("Nodule",), against="Effusion")

    (explanation,) = explained(classifier, request).explanations

    assert (explanation.target, explanation.against) == ("Nodule", "Effusion")
    assert explanation.heatmap.relevance.sum() == pytest.approx(9.0 - 3.0, rel=1e-4)
    assert explanation.residual == pytest.approx(0.0, abs=1e-4)


def test_without_a_rival_the_same_model_is_explained_by_its_weight(classifier):
    (explanation,) = explained(classifier, replace(GRADIENTS, targets=("Nodule",))).explanations

    assert explanation.against is None
    assert explanation.heatmap.relevance.sum() == pytest.approx(9.0, rel=1e-4)


def test_all_that_is_found_is_weighed_but_the_rival_itself(classifier):
    analysis = explained(classifier, replace(GRADIENTS, against="Mass"))

    weighed = [(each.target, each.against) for each in analysis.explanations]
    assert weighed == [("Nodule", "Mass"), ("Effusion", "Mass")]
    assert analysis.explanations[1].heatmap.relevance.sum() == pytest.approx(3.0 - 5.0, rel=1e-4)


def test_a_segment_is_weighed_over_its_own_mask(segmenter):
    voxels = np.zeros((6, 8, 8), np.float32)
    voxels[2:4, 3:6, 3:6] = 1.0
    request = ExplainerRequest(
        name="integrated_gradients",
        explainer=IntegratedGradients(baseline="zero"),
        against="dark",
    )

    (explanation,) = explained(segmenter, request, voxels).explanations

    assert (explanation.target, explanation.against) == ("bright", "dark")
    relevance = explanation.heatmap.relevance[0]
    assert relevance.sum() == pytest.approx(10.0 - -4.0, rel=1e-3)
    assert np.array_equal(relevance > 1e-6, voxels > 0)


def test_a_contrast_that_cannot_be_made_says_what_it_was(classifier):
    failing = ExplainerRequest(
        name="layer_cam",
        explainer=LayerCAM(layers=("nowhere",)),
        targets=("Mass",),
        against="Nodule",
    )

    (failure,) = explained(classifier, failing).failures

    assert (failure.target, failure.against, failure.method) == ("Mass", "Nodule", "layer_cam")


def test_a_map_of_the_shared_pass_is_not_taken_for_a_contrast(tmp_path):
    network = (
        "$torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.ReLU(), torch.nn.Conv3d(2, 3, 1), "
        "torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())"
    )
    weights = {
        "0.weight": torch.ones(2, 1, 1, 1, 1), "0.bias": torch.zeros(2),
        "2.weight": WEIGHTS.reshape(3, 1, 1, 1, 1).repeat(1, 2, 1, 1, 1), "2.bias": torch.zeros(3),
    }  # fmt: skip
    changes = {"network_def": network}
    folder = write_bundle(tmp_path / "b", CLASSIFIER, weights, channels=LABELS, changes=changes)
    model = load(settings_for(folder, threshold=0.01))
    request = ExplainerRequest(
        name="layer_cam", explainer=LayerCAM(layers=("1",)), targets=("Nodule",)
    )

    alone, weighed = (
        explained(model, replace(request, against=against)).explanations[0]
        for against in (None, "Effusion")
    )

    ratio = weighed.heatmap.relevance.sum() / alone.heatmap.relevance.sum()
    assert ratio == pytest.approx((9.0 - 3.0) / 9.0, rel=1e-4)


def test_a_rival_that_the_model_does_not_know_is_refused(classifier):
    request = ExplainerRequest(name="occlusion", explainer=Occlusion(), against="Fracture")

    with pytest.raises(ExplanationError, match="no label Fracture; it has Effusion, Nodule, Mass"):
        explained(classifier, request)
