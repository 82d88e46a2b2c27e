"""The measures of one explanation: which are taken, what they cost, what may be missing."""

import math
from importlib import metadata

import numpy as np
import pytest
import torch
from torch import nn

from ai.explainers.cam import LayerCAM
from ai.explainers.input_x_gradient import InputXGradient
from ai.explainers.lrp import LRP
from ai.explainers.occlusion import Occlusion
from ai.explainers.saliency import Saliency
from ai.measure import Case, family_of, faults_of, measures_of, with_agreement
from ai.model import Attribution
from ai.quality.controls import intensity_map, random_map, sobel_map
from ai.targets import ClassLogit, LogitMargin
from dicom_io.analysis import Cost, Explanation, Heatmap, MeasureValue
from tests.build_networks import Linear

#: Where the body of the pictured image lies, and the spot in it that the network looks at.
BODY = (slice(6, 26), slice(6, 26))
SPOT = (slice(10, 16), slice(14, 20))
CHEAP, DEAR = Cost(forwards=1.0, backwards=1.0), Cost(forwards=124.0)


def pictured():
    """A body with texture in empty air."""
    x = torch.zeros(1, 1, 32, 32)
    drawn = torch.randn(20, 20, generator=torch.Generator().manual_seed(5))
    x[0, 0, BODY[0], BODY[1]] = 3.0 + drawn
    return x


class SpotTexture(nn.Module):
    """How uneven the image is within the spot, which a blur takes away; blind elsewhere."""

    def forward(self, x):
        inside = x[:, :, SPOT[0], SPOT[1]].flatten(1)
        return (inside - inside.mean(dim=1, keepdim=True)).square().sum(1, keepdim=True)


def pointing(where, x):
    values = torch.zeros_like(x)
    values[0, 0, where[0], where[1]] = 1.0
    return values


def measured(values, *, x=None, network=None, cost=CHEAP, **changes):
    """Return name to value, and the warnings, of a map that another image does not change."""
    x = pictured() if x is None else x
    network = SpotTexture().eval() if network is None else network
    attribution = Attribution(
        values=values,
        f_x=network(x)[:, 0].detach(),
        f_baseline=None,
        residual=None,
        method="fake",
        layer=None,
        baseline=None,
        seed=None,
        cost=cost,
    )
    case = Case(
        attribution=attribution,
        network=network,
        x=x,
        target=changes.pop("target", ClassLogit(0)),
        explain=changes.pop("explain", lambda _: values),
        **changes,
    )
    found = measures_of(case)
    return {each.name: each.value for each in found.values}, found.warnings


def test_a_map_of_what_the_network_uses_is_good_by_every_measure():
    x = pictured()

    found, warnings = measured(pointing(SPOT, x), x=x)

    assert list(found) == [
        "integrity", "comprehensiveness", "stability", "plausibility", "edges", "intensity",
    ]  # fmt: skip
    assert found["comprehensiveness"] > 0.5
    assert found["stability"] == pytest.approx(1.0)
    assert found["plausibility"] == 1.0
    assert max(found["edges"], found["intensity"]) < 0.5
    assert warnings == ()


class TwoSpots(nn.Module):
    """A class for the spot, and one for another spot beside it."""

    def forward(self, x):
        other = torch.roll(x, (-8, 8), dims=(2, 3))
        return torch.cat((SpotTexture()(x), SpotTexture()(other)), dim=1)


def test_a_map_of_another_class_is_not_specific():
    x, elsewhere = pictured(), (slice(18, 24), slice(6, 12))

    own, _ = measured(pointing(SPOT, x), x=x, network=TwoSpots().eval())
    other, _ = measured(pointing(elsewhere, x), x=x, network=TwoSpots().eval())

    assert list(own)[:3] == ["integrity", "comprehensiveness", "specificity"]
    assert own["specificity"] > 0.8
    assert other["specificity"] < -0.8


@pytest.mark.parametrize("target", [LogitMargin(0, 1), lambda output, _x: output[:, 0]])
def test_what_is_no_class_is_not_held_against_classes(target):
    x = pictured()

    found, warnings = measured(pointing(SPOT, x), x=x, network=TwoSpots().eval(), target=target)

    assert "specificity" not in found
    assert warnings == ()


def test_a_map_that_points_nowhere_is_needed_by_no_class():
    x = pictured()

    found, _ = measured(-pointing(SPOT, x), x=x, network=TwoSpots().eval())

    assert found["comprehensiveness"] == 0.0
    assert "specificity" not in found


def test_a_map_beside_what_the_network_uses_is_not_comprehensive():
    x = pictured()

    found, _ = measured(pointing((slice(18, 24), slice(8, 14)), x), x=x)

    assert found["comprehensiveness"] <= 0.0


def test_relevance_in_the_air_is_not_plausible():
    x = pictured()

    found, _ = measured(pointing(SPOT, x) + pointing((slice(0, 4), slice(0, 27)), x), x=x)

    assert found["plausibility"] == pytest.approx(36 / (36 + 4 * 27))


def test_nothing_is_said_of_the_body_where_an_image_has_no_air():
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(5))

    found, warnings = measured(pointing(SPOT, x), x=x)

    assert "plausibility" not in found
    assert warnings == ()


def test_a_map_that_mild_noise_changes_is_not_stable():
    x = pictured()

    found, _ = measured(x.clone(), x=x, explain=lambda again: torch.sin(1e3 * again))

    assert abs(found["stability"]) < 0.5


@pytest.mark.parametrize("name", ["random", "sobel", "intensity"])
def test_a_control_comes_out_as_a_control(name):
    x = pictured()
    picture = x[0, 0].numpy()
    maps = {
        "random": random_map(picture.shape, np.random.default_rng(1)),
        "sobel": sobel_map(picture),
        "intensity": intensity_map(picture),
    }

    found, _ = measured(torch.from_numpy(maps[name])[None, None], x=x)

    assert (found["edges"] >= 0.8) == (name == "sobel")
    assert (found["intensity"] >= 0.8) == (name == "intensity")
    if name == "random":
        chance = 20 * 20 / (32 * 32)
        assert found["plausibility"] == pytest.approx(chance, abs=0.05)


def test_a_dear_explanation_is_made_again_only_if_its_stability_is_insisted_on():
    x, asked = pictured(), []

    def explain(again):
        asked.append(again)
        return pointing(SPOT, again)

    spared, _ = measured(pointing(SPOT, x), x=x, cost=DEAR, explain=explain)
    assert ("stability" in spared, len(asked)) == (False, 0)

    insisted, _ = measured(
        pointing(SPOT, x), x=x, cost=DEAR, explain=explain, insisted={"stability"}
    )
    assert (insisted["stability"], len(asked)) == (pytest.approx(1.0), 1)


def test_what_is_no_map_has_no_other_measure():
    x = pictured()

    found, _ = measured(torch.full_like(x, torch.nan), x=x)

    assert found == {"integrity": 0.0}


def test_when_the_time_is_over_no_pass_is_spent_and_what_is_free_is_there():
    x, seen = pictured(), []
    network = nn.Sequential(SpotTexture()).eval()
    values = pointing(SPOT, x)
    network.register_forward_hook(lambda *_: seen.append(1))

    found, warnings = measured(values, x=x, network=network, ended=lambda: len(seen) > 1)

    # One pass gave the target's value of the image, the next the answers of one batch.
    assert len(seen) == 2
    assert math.isnan(found["comprehensiveness"])
    assert math.isnan(found["stability"])
    assert found["plausibility"] == 1.0
    assert warnings == (
        "comprehensiveness was not measured: the time for explaining was over",
        "stability was not measured: the time for explaining was over",
    )


def test_a_map_of_another_image_that_was_ended_early_is_not_compared():
    x, over = pictured(), []

    def explain(again):
        over.append(True)
        return torch.zeros_like(again)

    found, _ = measured(pointing(SPOT, x), x=x, explain=explain, ended=lambda: bool(over))

    assert math.isnan(found["stability"])
    assert found["comprehensiveness"] > 0.5


def test_what_cannot_be_measured_is_named_with_its_reason():
    x = torch.tensor([[[0.0, 1.0, 2.0]]])
    network = Linear(torch.ones(1, 1, 3)).eval()

    found, warnings = measured(torch.tensor([[[0.0, 1.0, 0.0]]]), x=x[..., :3], network=network,
                               explain=lambda _: torch.full((1, 1, 3), torch.nan))  # fmt: skip

    assert math.isnan(found["stability"])
    assert warnings == ("stability was not measured: 3 values are not finite",)


def test_nothing_is_measured_of_a_sound_map_where_nothing_is_to_be_and_a_faulty_one_is_told():
    x = pictured()
    attribution = InputXGradient().explain(Linear(torch.ones_like(x)).eval(), x, ClassLogit(0))

    assert faults_of(attribution, x).values == ()
    assert faults_of(attribution, x[..., :5]).values == (MeasureValue(name="integrity", value=0.0),)


def explanation(method, values, **changes):
    sound = MeasureValue(name="integrity", value=1.0)
    asked = {"target": "lesion", "measures": (sound,), "cost": CHEAP} | changes
    relevance = np.asarray(values, np.float32).reshape(1, 1, 1, -1)
    return Explanation(method=method, heatmap=Heatmap(relevance=relevance), **asked)


FAMILIES = {
    each.name: family_of(each) for each in (LayerCAM(), LRP(), Saliency(), InputXGradient())
}


def agreements(*explanations):
    told = [{m.name: m.value for m in e.measures} for e in with_agreement(explanations, FAMILIES)]
    return [measures.get("agreement") for measures in told]


def test_two_families_are_compared_and_the_least_agreement_is_told():
    cam = explanation("layer_cam", [1, 2, 3, 4])
    alike, opposite = explanation("lrp", [1, 5, 6, 9]), explanation("saliency", [4, 3, 2, 1])

    assert agreements(cam, alike, opposite) == pytest.approx([-1.0, -1.0, -1.0])
    assert agreements(cam, alike) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    "other",
    [
        explanation("input_x_gradient", [1, 2, 3, 4]),
        explanation("lrp", [1, 2, 3, 4], target="effusion"),
        explanation("lrp", [1, 2, 3, 4], against="effusion"),
        explanation("lrp", [1, 2, 3, 4], measures=(MeasureValue(name="integrity", value=0.0),)),
    ],
    ids=["family", "target", "against", "faulty"],
)
def test_what_is_no_other_answer_to_the_same_question_is_not_compared(other):
    assert agreements(explanation("saliency", [1, 2, 3, 4]), other) == [None, None]


def test_methods_that_only_run_the_network_are_one_family():
    assert family_of(Occlusion()) != family_of(Saliency())
    assert family_of(LayerCAM()) == family_of(LayerCAM(depth=0.8))


def test_every_measure_of_an_explanation_is_one_of_the_library():
    listed = {entry.name for entry in metadata.entry_points(group="pellucid.measures")}
    x = pictured()

    found, _ = measured(pointing(SPOT, x), x=x, network=TwoSpots().eval())

    assert "specificity" in found
    assert {*found, "agreement"} <= listed
