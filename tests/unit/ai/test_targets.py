from dataclasses import replace

import pytest
import torch

from ai.errors import TargetError
from ai.explainers.admission import evaluate
from ai.explainers.lrp import LRP
from ai.targets import (
    BoxScore,
    ClassLogit,
    Concept,
    LogitMargin,
    RegionMargin,
    SegmentMass,
    logits_of,
)
from tests.build_networks import image


def mask_of_two() -> torch.Tensor:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 0] = mask[1, 2] = True
    return mask


def test_class_logit_is_one_column_of_the_output():
    output = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    assert ClassLogit(1)(output, output).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("channel", [-1, 2])
def test_a_channel_out_of_range_is_refused(channel):
    with pytest.raises(TargetError, match=rf"channel {channel} is out of range: the network has 2"):
        ClassLogit(channel)(torch.zeros(1, 2), torch.zeros(1))


def test_a_class_logit_of_a_segmentation_is_refused():
    with pytest.raises(TargetError, match="explain a segmentation through SegmentMass"):
        ClassLogit(0)(torch.zeros(1, 2, 8, 8), torch.zeros(1))


def test_segment_mass_is_the_mean_logit_over_the_mask():
    output = torch.arange(24.0).reshape(2, 2, 2, 3)

    mass = SegmentMass(1, mask_of_two())(output, output)

    # Channel 1 holds 6..11 and 18..23; the mask takes the first and the last of each.
    assert mass.tolist() == [8.5, 20.5]


def test_segment_mass_does_not_follow_the_output():
    target = SegmentMass(0, mask_of_two())
    output = torch.zeros(1, 1, 2, 3)
    output[0, 0, 1, 0] = 100.0

    assert target(output, output).item() == 0.0


@pytest.mark.parametrize(
    "mask", [torch.zeros(2, 3, dtype=torch.bool), torch.ones(2, 3)], ids=["empty", "float"]
)
def test_a_mask_that_is_empty_or_not_bool_is_refused(mask):
    with pytest.raises(TargetError, match="must be bool with at least one voxel"):
        SegmentMass(0, mask)


def test_a_mask_on_another_grid_is_refused():
    with pytest.raises(TargetError, match=r"the grid \(2, 3\) does not fit .*\(1, 1, 4, 4\)"):
        SegmentMass(0, mask_of_two())(torch.zeros(1, 1, 4, 4), torch.zeros(1))


def test_the_first_of_several_outputs_is_the_logits():
    logits = torch.zeros(1, 2)

    assert torch.equal(logits_of((logits, [torch.ones(1)])), logits)
    with pytest.raises(TargetError, match="the network returned dict"):
        logits_of({"logits": logits})


def test_a_margin_is_the_difference_of_two_logits():
    logits = torch.tensor([[1.0, 4.0, 2.5], [0.0, -1.0, 3.0]])

    assert LogitMargin(1, 2)(logits, torch.zeros(2)).tolist() == [1.5, -4.0]
    with pytest.raises(TargetError, match="channel 3 is out of range"):
        LogitMargin(0, 3)(logits, torch.zeros(2))
    with pytest.raises(TargetError, match="no margin over itself"):
        LogitMargin(1, 1)


def test_a_region_is_explained_whatever_was_outlined_there():
    output = torch.zeros(1, 2, 2, 3)
    output[0, 0], output[0, 1] = 5.0, torch.arange(6.0).reshape(2, 3)

    margin = RegionMargin(1, 0, mask_of_two())(output, torch.zeros(1))

    expected = output[0, 1][mask_of_two()].mean() - 5.0
    assert margin.tolist() == [float(expected)]
    with pytest.raises(TargetError, match="mask of a region must be bool"):
        RegionMargin(1, 0, torch.zeros(2, 3))


def test_a_box_has_the_score_of_its_anchor_and_place():
    levels = [torch.zeros(2, 6, 4, 4), torch.arange(2 * 6 * 4.0).reshape(2, 6, 2, 2)]
    output = {"classification": levels, "box_regression": levels}
    target = BoxScore((1, 0), anchor=2, channel=1, classes=2, part=("classification", 1))

    scores = evaluate(target, output, torch.zeros(2, 1, 8, 8))

    assert scores.tolist() == [22.0, 46.0]
    with pytest.raises(TargetError, match="3 anchors on a map of"):
        BoxScore((1, 0), anchor=3, channel=1, classes=2)(levels[1], torch.zeros(2))
    with pytest.raises(TargetError, match="at least one class"):
        BoxScore((1, 0), anchor=0, channel=0, classes=0)
    with pytest.raises(TargetError, match="no multiple of 4 classes"):
        BoxScore((1, 0), anchor=0, channel=1, classes=4)(levels[1], torch.zeros(2))
    with pytest.raises(TargetError, match=r"has no \['classification', 2\]"):
        evaluate(replace(target, part=("classification", 2)), output, torch.zeros(2, 1, 8, 8))


def test_a_real_detector_s_box_is_explained():
    torch.manual_seed(0)
    levels = [torch.nn.Conv2d(1, 4, 4, 4), torch.nn.Conv2d(1, 4, 8, 8)]
    network = Detector(levels).eval()
    target = BoxScore((1, 2), anchor=1, channel=0, classes=2, part=("classification", 1))

    found = LRP(rule="cp").explain(network, image(1, 1, 32, 32), target)

    # Only what lies in the box's field of view can speak for it.
    seen = found.values[0, 0] != 0
    assert seen[8:16, 16:24].all()
    assert int(seen.sum()) == 64


def test_a_concept_is_read_from_its_own_place():
    output = (torch.zeros(1, 2), torch.tensor([[3.0, 7.0]]))

    assert evaluate(Concept(1), output, torch.zeros(1, 1, 4)).tolist() == [7.0]
    with pytest.raises(TargetError, match="channel 2 is out of range"):
        evaluate(Concept(2), output, torch.zeros(1, 1, 4))


class Detector(torch.nn.Module):
    """Scores of two anchors and two classes on two levels, named as by MONAI's RetinaNet."""

    def __init__(self, levels):
        super().__init__()
        self.levels = torch.nn.ModuleList(levels)

    def forward(self, x):
        return {"classification": [level(x) for level in self.levels], "box_regression": []}
