"""The phantom model keeps what its card claims; the whole claim: ``benchmarks.phantom``."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch

from ai.errors import ModelUnavailableError, UnsuitableInputError
from ai.explainers.cam import LayerCAM
from ai.model import IntendedUse, ModelSettings
from ai.models.phantom import LABEL, NOTICE, WEIGHTS_FILE, load, require_package_weights
from ai.phantom.figures import mean_localizations, read_phantom, threshold_area
from ai.phantom.make import make_phantom
from ai.reliability.discrimination import area_under_curve

FIRST_SEED = 600_000
SEEDS = 24
EXPLAINERS = {"layer_cam": LayerCAM()}
SETTINGS = ModelSettings(name="phantom", kind="phantom")


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(seed) for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)]


@pytest.fixture(scope="module")
def readings(phantoms):
    model, rng = load(SETTINGS), np.random.default_rng(0)
    return [read_phantom(phantom, model, EXPLAINERS, rng) for phantom in phantoms]


def area(readings):
    return area_under_curve(
        [each.logit for each in readings], [each.has_lesion for each in readings]
    )


def test_model_tells_phantoms_with_lesions_from_those_without(readings):
    assert area(readings) >= 0.95


def test_thresholds_on_brightness_do_not_tell_them(readings):
    _, best = threshold_area(readings)

    # Of a dozen statistics on 24 phantoms, chance alone takes the best to about .7.
    assert best <= 0.8


def test_default_explainer_points_at_the_lesion_and_beats_every_control(readings):
    maps = mean_localizations(readings)
    explained = maps.pop("layer_cam")

    assert explained.pointing >= 0.9
    assert set(maps) == {"random", "sobel", "intensity"}
    for control in maps.values():
        assert control.pointing <= 0.5
        assert explained.mass_accuracy > 5 * control.mass_accuracy
        assert explained.rank_accuracy > 2 * control.rank_accuracy


def test_shuffled_weights_lose_the_figures(phantoms):
    model = load(SETTINGS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.network.parameters():
            order = torch.randperm(weights.numel(), generator=generator)
            weights.copy_(weights.flatten()[order].view_as(weights))

    readings = [
        read_phantom(phantom, model, EXPLAINERS, np.random.default_rng(0))
        for phantom in phantoms[:12]
    ]

    assert area(readings) < 0.8
    assert mean_localizations(readings)["layer_cam"].pointing < 0.5


def test_card_and_finding_say_that_this_is_a_phantom():
    model = load(SETTINGS)
    prediction = model.predict(model.prepare(make_phantom(FIRST_SEED).volume))

    assert model.card.notice == NOTICE
    assert "not for clinical use" in NOTICE
    assert set(prediction.probabilities) == {LABEL} == {label.name for label in model.labels}
    assert 0 <= prediction.probabilities[LABEL] <= 1


def test_weights_are_small_and_changed_ones_are_refused():
    weights = (files("ai.phantom") / WEIGHTS_FILE).read_bytes()

    assert len(weights) <= 2_000_000
    with pytest.raises(ModelUnavailableError, match="expected"):
        require_package_weights(weights[:-1] + b"!")


def test_image_outside_the_configured_use_is_refused():
    model = load(replace(SETTINGS, intended_use=IntendedUse(body_part=("CHEST",))))

    with pytest.raises(UnsuitableInputError, match="body part"):
        model.prepare(make_phantom(FIRST_SEED).volume)
