import pytest
import torch

from ai.errors import TargetError
from ai.targets import ClassLogit, SegmentMass, logits_of


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
