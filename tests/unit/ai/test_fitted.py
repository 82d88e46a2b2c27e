"""A model loads with what was fitted to it, or not at all."""

from dataclasses import replace

import pytest
import torch

from ai.errors import ModelUnavailableError
from ai.models import monai_bundle, phantom
from ai.models.phantom import WEIGHTS_SHA256
from ai.reliability.calibration import Calibration
from ai.settings import ModelSettings
from tests.build_bundles import CLASSIFIER, settings_for, write_bundle
from tests.build_reliability import make_reliability, stored_reliability

PHANTOM = ModelSettings(name="p", kind="phantom")
SLIDING = {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8]}
ENDS_IN_SIGMOID = CLASSIFIER["network_def"].replace("Flatten()", "Flatten(), torch.nn.Sigmoid()")


@pytest.fixture
def settings(tmp_path):
    """Settings of the phantom's model with a reliability that was fitted to it."""
    fitted = make_reliability(channels=1, width=32, weights_sha256=WEIGHTS_SHA256)
    return replace(PHANTOM, reliability=stored_reliability(fitted, tmp_path / "p.npz"))


def bundle(tmp_path, **changes):
    """Settings of a classifier of two channels with a reliability that was fitted to it."""
    weights = {"0.weight": torch.ones(2, 1, 1, 1, 1), "0.bias": torch.zeros(2)}
    channels = {"0": "Nodule", "1": "Edema"}
    folder = write_bundle(
        tmp_path / "bundle", CLASSIFIER, weights, channels=channels, changes=changes
    )
    settings = settings_for(folder)
    fitted = make_reliability(weights_sha256=settings.sha256["models/model.pt"])
    return replace(settings, reliability=stored_reliability(fitted, tmp_path / "c.npz"))


def test_a_model_without_a_reliability_has_none():
    assert phantom.load(PHANTOM).reliability is None


def test_a_model_loads_with_its_reliability(settings, tmp_path):
    assert phantom.load(settings).reliability.cases == 100
    assert monai_bundle.load(bundle(tmp_path)).reliability.channels == 2


def test_a_file_that_is_missing_is_told(settings):
    settings.reliability.file.unlink()

    with pytest.raises(ModelUnavailableError, match=r"p\.npz cannot be read: .*No such file"):
        phantom.load(settings)


def test_a_file_that_changed_is_refused(settings):
    other = make_reliability(
        channels=1, width=32, weights_sha256=WEIGHTS_SHA256, distance_limit=99.0
    )
    stored_reliability(other, settings.reliability.file)

    with pytest.raises(ModelUnavailableError, match=r"p\.npz has sha256 .*, listed is"):
        phantom.load(settings)


def test_a_file_that_was_fitted_to_other_weights_is_refused(tmp_path):
    other = make_reliability(channels=1, width=32)
    settings = replace(PHANTOM, reliability=stored_reliability(other, tmp_path / "p.npz"))

    with pytest.raises(ModelUnavailableError, match="fitted to weights with sha256 abab"):
        phantom.load(settings)


def test_logits_are_not_scaled_twice(settings):
    with pytest.raises(ModelUnavailableError, match=r"temperature is 1\.5, and .* 2 was fitted"):
        phantom.load(replace(settings, temperature=1.5))


def test_no_temperature_stands_beside_slopes(settings):
    bent = make_reliability(
        channels=1,
        width=32,
        weights_sha256=WEIGHTS_SHA256,
        calibration=Calibration(slopes=(0.5, 2.0), biases=torch.zeros(1).double()),
    )
    named = stored_reliability(bent, settings.reliability.file)

    assert phantom.load(replace(settings, reliability=named)).reliability.temperature is None
    with pytest.raises(ModelUnavailableError, match=r"is 2, and .* slopes of no and yes were"):
        phantom.load(replace(settings, reliability=named, temperature=2.0))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 2.0004])
def test_the_same_temperature_may_stand_in_both_places(settings, temperature):
    model = phantom.load(replace(settings, temperature=temperature))

    assert model.reliability.calibration.temperature == 2.0


def test_a_label_beyond_the_channels_that_were_fitted_is_refused(tmp_path):
    settings = bundle(tmp_path)
    weights = settings.sha256["models/model.pt"]
    narrow = make_reliability(channels=1, weights_sha256=weights)
    named = stored_reliability(narrow, tmp_path / "c.npz")

    with pytest.raises(ModelUnavailableError, match=r"1 output channel\(s\), and 'Edema' is"):
        monai_bundle.load(replace(settings, reliability=named))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inferer": SLIDING}, "model bright: it sees one window at a time"),
        ({"network_def": ENDS_IN_SIGMOID}, "its network gives probabilities, and a reliability"),
    ],
)
def test_a_bundle_without_logits_of_the_whole_image_is_refused(tmp_path, changes, message):
    with pytest.raises(ModelUnavailableError, match=message):
        monai_bundle.load(bundle(tmp_path, **changes))


def test_a_reliability_without_biases_of_each_channel_is_refused(settings):
    crooked = make_reliability(
        channels=1,
        width=32,
        weights_sha256=WEIGHTS_SHA256,
        calibration=Calibration(slopes=(0.5, 0.5), biases=torch.zeros(3).double()),
    )
    named = stored_reliability(crooked, settings.reliability.file)

    with pytest.raises(ModelUnavailableError, match=r"biases of shape \(3,\), expected \[1\]"):
        phantom.load(replace(settings, reliability=named))
