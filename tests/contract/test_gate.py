"""The gate asks of a method what it states, and tells good heatmaps from bad at a bounded cost."""

from dataclasses import replace

import pytest
import torch
from pydicom import Dataset
from torch import nn

from ai.analyze import AnalyzeSettings, ExplainerRequest, analyze
from ai.explainers.cam import LayerCAM
from ai.model import ModelSettings
from ai.models.phantom import load
from ai.phantom.make import make_phantom
from ai.quality.randomization import randomized
from ai.targets import ClassLogit
from dicom_io.analysis import Verdict
from dicom_io.grade import Grade, grade_of
from dicom_io.read import Input
from node.config import GateSettings
from node.gate import RESIDUAL, apply_gate, checks_for
from tests.build_networks import image
from tests.contract.test_explainers import EXPLAINERS, quick, subject


def limit_for(name, measured=()):
    """The residual that the gate accepts of a method, or None if it asks for none."""
    checks = checks_for(name, measured, GateSettings())
    return next((check.limit for check in checks if check.measure == RESIDUAL.measure), None)


@pytest.mark.parametrize("name", sorted(EXPLAINERS))
def test_a_method_is_held_to_the_residual_that_it_states_and_to_no_other(name):
    network, x = subject(name), image(1, 1, 48, 48)

    attribution = quick(name).explain(network, x, ClassLogit(1))

    if attribution.residual is None:
        assert limit_for(name) is None
    else:
        # A method must not stop where the gate would fail it.
        tolerance = getattr(EXPLAINERS[name](), "tolerance", 0.0)
        assert tolerance <= limit_for(name, {RESIDUAL.measure})


SEED_WITH_LESION = 1


@pytest.fixture(scope="module")
def head():
    volume = make_phantom(SEED_WITH_LESION).volume
    return Input(name="head", volume=volume, headers=tuple(Dataset() for _ in volume.frames))


class Watched(nn.Module):
    """A network that notes how large each of its inputs is."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = []

    def forward(self, x):
        self.seen.append(x.numel())
        return self.network(x)


def explained(head, network, **settings):
    """Return what the gate says of the default explanation of a network in the phantom model."""
    model = load(ModelSettings(name="phantom", kind="phantom", threshold=0.0))
    request = ExplainerRequest(name="layer_cam", explainer=LayerCAM())
    changed = replace(model, network=network(model.network).eval())
    analysis = analyze([head], changed, [request], AnalyzeSettings(**settings))
    return apply_gate(analysis, GateSettings()).explanations[0], changed.network


def test_the_default_explanation_of_a_phantom_is_of_the_best_grade(head):
    explanation, _ = explained(head, lambda network: network)

    assert grade_of(explanation) is Grade.A


@pytest.mark.parametrize("seed", [0, 1])
def test_the_heatmap_of_a_network_that_has_forgotten_all_is_stopped(head, seed):
    generator = torch.Generator().manual_seed(seed)

    explanation, _ = explained(head, lambda network: randomized(network, generator=generator))

    assert explanation.verdict is not Verdict.PASSED


def test_measuring_the_default_explanation_takes_at_most_six_forward_passes(head):
    _, bare = explained(head, Watched, measure=False)
    _, measured = explained(head, Watched)

    # Without measures no input is larger than the image.
    passes = (sum(measured.seen) - sum(bare.seen)) / max(bare.seen)
    assert 5.0 <= passes <= 6.0
