"""A reliability is applied to the pass that a prediction was read from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from ai.analyze import AnalyzeSettings, ExplainerRequest, analyze
from ai.assess import STRANGE, certainty_of
from ai.errors import InvalidOutputError, ReliabilityError
from ai.explainers.cam import LayerCAM
from ai.explainers.occlusion import Occlusion
from ai.models.monai_bundle import load
from ai.reliability.answers import Activation
from ai.reliability.assessment import Assessment
from ai.reliability.calibration import Calibration
from ai.reliability.conformal import ConformalRule, Score
from ai.reliability.out_of_distribution import FeatureModel
from dicom_io.analysis import Certainty, Familiarity
from dicom_io.read import Input
from tests.build_bundles import (
    CLASSIFIER,
    ORIENTATIONS,
    SEGMENTER,
    bright_voxel_weights,
    make_affine,
    make_volume,
    settings_for,
    write_bundle,
)
from tests.build_reliability import make_reliability

#: Features are the means of two maps, brightness and three times that; logits are 4 and -2 times
#: brightness.
NETWORK = (
    "$torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.ReLU(), "
    "torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(2, 2))"
)
WEIGHTS = {
    "0.weight": torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1),
    "0.bias": torch.zeros(2),
    "4.weight": torch.tensor([[1.0, 1.0], [-2.0, 0.0]]),
    "4.bias": torch.zeros(2),
}
SETTINGS = AnalyzeSettings(measure=False)


@pytest.fixture
def classifier(tmp_path):
    folder = write_bundle(
        tmp_path / "c",
        CLASSIFIER,
        WEIGHTS,
        channels={"0": "Nodule", "1": "Edema"},
        changes={"network_def": NETWORK},
    )
    return load(settings_for(folder))


def reliability(**changes):
    """Familiar are images of brightness 1; yes and no both remain between 20 % and 80 %."""
    values = {
        "calibration": Calibration(slopes=(0.5, 0.5), biases=torch.tensor([-2.0, 0.5]).double()),
        "features": FeatureModel(
            means=torch.tensor([[1.0, 3.0]]).double(), precision=torch.eye(2).double()
        ),
    }
    return make_reliability(**(values | changes))


def image(brightness=1.0, size=40):
    voxels = np.full((size, size, size), brightness, np.float32)
    volume = make_volume(voxels, affine=make_affine(ORIENTATIONS["axial"]))
    return Input(name="ct", volume=volume, headers=())


def asked(explainer=None):
    return ExplainerRequest(name="layer_cam", explainer=explainer or LayerCAM())


def full_passes(network):
    """Return a list that grows with each run of the network on a whole image."""
    runs = []
    network[0].register_forward_hook(
        lambda _m, inputs, _o: runs.append(1) if inputs[0].shape[-1] == 40 else None
    )
    return runs


def test_findings_have_the_calibrated_probability_and_the_answers_that_remain(classifier):
    model = replace(classifier, reliability=reliability())

    nodule, edema = analyze([image()], model, [asked()], SETTINGS).findings

    # Logits 4 and -2: 4 / 2 - 2 = 0 is undecided, -2 / 2 + 0.5 = -0.5 is 38 %.
    assert nodule.probability == pytest.approx(0.5, abs=1e-6)
    assert edema.probability == pytest.approx(1 / (1 + np.exp(0.5)), abs=1e-6)
    assert nodule.calibrated
    assert nodule.certainty == Certainty(level=0.9, present=True, absent=True)
    assert not nodule.certainty.is_single


@pytest.mark.parametrize(
    ("limit", "certainty"),
    [
        (0.8, Certainty(level=0.9, present=True, absent=True)),
        (0.5, Certainty(level=0.9, present=False, absent=True)),
        (0.3, Certainty(level=0.9, present=False, absent=False)),
    ],
)
def test_both_answers_one_or_none_remain(classifier, limit, certainty):
    rule = ConformalRule(score=Score.LAC, level=0.9, limits=torch.full((2,), limit).double())
    model = replace(classifier, reliability=reliability(conformal=rule))

    _, edema = analyze([image()], model, [], SETTINGS).findings

    assert edema.certainty == certainty


def test_of_classes_a_present_one_remains_and_an_absent_one_where_another_does():
    classes = reliability(activation=Activation.SOFTMAX, channels=3)
    nothing = torch.zeros(1)
    found = Assessment(
        probabilities=torch.zeros(1, 3),
        sets=torch.tensor([[[True, True, False]]]),
        energy=nothing,
        distance=nothing,
        in_distribution=torch.tensor([True]),
    )
    single = replace(found, sets=torch.tensor([[[False, True, False]]]))

    both = [certainty_of(found, classes, channel) for channel in range(3)]
    one = [certainty_of(single, classes, channel) for channel in range(3)]

    assert [(each.present, each.absent) for each in both] == [
        (True, True), (True, True), (False, True),
    ]  # fmt: skip
    assert [(each.present, each.absent) for each in one] == [
        (False, True), (True, False), (False, True),
    ]  # fmt: skip


def test_a_familiar_image_is_explained_and_says_how_near_it_is(classifier):
    model = replace(classifier, reliability=reliability())

    analysis = analyze([image(1.1)], model, [asked()], SETTINGS)

    assert analysis.familiarity == Familiarity(
        distance=pytest.approx(0.1 * np.sqrt(10), rel=1e-4),
        distance_limit=0.5,
        energy=pytest.approx(-np.log(4 * np.cosh(2.2) * np.cosh(1.1)), rel=1e-4),
        energy_limit=0.0,
    )
    assert analysis.familiarity.is_familiar
    assert not analysis.is_strange
    assert [each.target for each in analysis.explanations] == ["Nodule"]
    assert analysis.failures == ()


@pytest.mark.parametrize("brightness", [1.2, 9.0])
def test_of_a_strange_image_nothing_is_explained_and_the_findings_stay(classifier, brightness):
    model = replace(classifier, reliability=reliability())
    runs = full_passes(model.network)

    analysis = analyze(
        [image(brightness)], model, [asked(), asked(Occlusion())], replace(SETTINGS, measure=True)
    )

    assert analysis.is_strange
    assert analysis.findings[0].present
    assert analysis.explanations == ()
    assert [(each.target, each.reason) for each in analysis.failures] == [("Nodule", STRANGE)] * 2
    assert runs == [1]


def test_too_high_an_energy_alone_makes_an_image_strange(classifier):
    model = replace(classifier, reliability=reliability(energy_limit=-100.0))

    analysis = analyze([image()], model, [asked()], SETTINGS)

    assert analysis.familiarity.distance < 1e-5
    assert analysis.is_strange
    assert analysis.explanations == ()


def test_below_the_operating_point_nothing_is_explained_nor_missed(classifier):
    model = replace(classifier, reliability=reliability(), threshold=0.6)

    analysis = analyze([image()], model, [asked()], SETTINGS)

    assert [each.present for each in analysis.findings] == [False, False]
    assert (analysis.explanations, analysis.failures) == ((), ())


@pytest.mark.parametrize(
    "requests", [[], [asked()], [asked(LayerCAM(layers=("1",)))], [asked(Occlusion())]]
)
def test_an_assessment_costs_no_second_pass(classifier, requests):
    model = replace(classifier, reliability=reliability(), threshold=0.99)
    runs = full_passes(model.network)

    analyze([image()], model, requests, SETTINGS)

    assert runs == [1]


def test_without_a_reliability_nothing_is_assessed(classifier):
    analysis = analyze([image(9.0)], classifier, [asked()], SETTINGS)

    assert analysis.findings[0].probability == pytest.approx(1.0, abs=1e-6)
    assert not analysis.findings[0].calibrated
    assert analysis.findings[0].certainty is None
    assert analysis.familiarity is None
    assert not analysis.is_strange
    assert [each.target for each in analysis.explanations] == ["Nodule"]


def test_a_layer_that_does_not_exist_costs_the_explanation_and_not_the_assessment(classifier):
    model = replace(classifier, reliability=reliability(), threshold=0.1)

    analysis = analyze([image()], model, [asked(LayerCAM(layers=("nine",)))], SETTINGS)

    assert analysis.familiarity.is_familiar
    assert [each.target for each in analysis.failures] == ["Nodule", "Edema"]
    assert all("no layer 'nine'" in each.reason for each in analysis.failures)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 3}, r"model bright: its answer cannot be assessed: logits \(1, 2\)"),
        ({"features": FeatureModel(means=torch.zeros(1, 5), precision=torch.eye(5))},
         r"features \(1, 2\) do not fit what was fitted to \[B, 2\] and \[B, 5\]"),
    ],
)  # fmt: skip
def test_a_reliability_of_other_widths_is_refused(classifier, changes, message):
    model = replace(classifier, reliability=reliability(**changes))

    with pytest.raises(ReliabilityError, match=message):
        analyze([image()], model, [], SETTINGS)


def test_what_does_not_classify_a_whole_image_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "s", SEGMENTER, bright_voxel_weights())
    segmenter = replace(load(settings_for(folder)), reliability=reliability())
    sliding = SlidingWindowInferer(roi_size=(20, 20, 20))

    for model in (segmenter, replace(segmenter, inferer=sliding)):
        with pytest.raises(ReliabilityError, match="does not classify an image as a whole"):
            analyze([image()], model, [], SETTINGS)


def test_a_network_without_feature_maps_is_refused_with_the_reason(classifier):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40**3, 2)).eval()
    model = replace(classifier, reliability=reliability(), network=flat)

    with pytest.raises(ReliabilityError, match="no module of the network returns a feature map"):
        analyze([image()], model, [], SETTINGS)


def test_output_that_is_no_number_is_no_result_whatever_was_fitted(classifier):
    model = replace(classifier, reliability=reliability())

    with pytest.raises(InvalidOutputError, match="NaN or infinite"):
        analyze([image(np.nan)], model, [], SETTINGS)
