import pytest
import torch
from torch import nn

from ai.capture import fingerprint
from ai.errors import MeasureError, TrainingModeError
from ai.explainers.baselines import blurred, smoothed
from ai.quality.faithfulness import (
    Drops,
    Gains,
    comprehensiveness,
    focus_mask,
    measure_drops,
    measure_gains,
    specificity,
    sufficiency,
    top_mask,
)
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image

#: The spot is 4 x 4 of 16 x 16: 16 of the 26 cells that a tenth takes.
SPOT = (slice(2, 6), slice(9, 13))


class SpotTexture(nn.Module):
    """How uneven the image is within the spot, which a blur takes away; blind elsewhere."""

    def forward(self, x):
        rows, columns = SPOT
        return x[:, :, rows, columns].flatten(1).square().sum(1, keepdim=True)


def pointing_at(rows, columns):
    values = torch.zeros(1, 1, 16, 16)
    values[0, 0, rows, columns] = torch.arange(1.0, 17.0).reshape(4, 4)
    return values


#: Of the relevance 1 to 16, 136 in all, the twelve greatest hold nine tenths, eleven do not.
FOCUS = pointing_at(*SPOT) >= 5.0


def test_a_map_that_points_at_what_the_network_uses_is_near_one():
    value = comprehensiveness(
        SpotTexture().eval(), image(1, 1, 16, 16), ClassLogit(0), pointing_at(*SPOT)
    )

    # In so small an image the soft border of a displaced mask still touches the spot.
    assert 0.8 < value <= 1.0


def test_a_map_that_points_beside_it_is_not_above_zero():
    beside = pointing_at(slice(10, 14), slice(1, 5))

    value = comprehensiveness(SpotTexture().eval(), image(1, 1, 16, 16), ClassLogit(0), beside)

    assert value <= 0.0


def test_drops_are_in_the_unit_of_the_target():
    weight, x = torch.zeros(1, 1, 16, 16), image(1, 1, 16, 16)
    weight[0, 0, SPOT[0], SPOT[1]] = 1.0
    network = Linear(weight, bias=5.0).eval()

    drops = measure_drops(network, x, ClassLogit(0), pointing_at(*SPOT))

    share = smoothed(FOCUS.float(), 1.5)
    lost = ((x - blurred(x)) * share * weight).sum()
    assert drops.top == pytest.approx(lost.item(), abs=1e-4)
    assert drops.f_x == pytest.approx(network(x).item())
    assert len(drops.displaced) == 3


def test_it_takes_five_forward_passes():
    network, entries = SpotTexture().eval(), []
    network.register_forward_hook(lambda _m, inputs, _o: entries.append(inputs[0].shape[0]))
    x = image(1, 1, 16, 16)

    comprehensiveness(network, x, ClassLogit(0), pointing_at(*SPOT))

    assert [count for count in entries if count > 1] == [5]


def test_the_focus_is_the_smallest_part_that_holds_nine_tenths_of_the_relevance():
    values = pointing_at(*SPOT)
    values[0, 0, 0, 0] = -50.0

    mask = focus_mask(values[0, 0])

    assert torch.equal(mask, FOCUS[0, 0])


def test_the_focus_of_a_map_without_one_is_a_tenth_of_the_image():
    values = image(20, 20).abs() + 1.0

    mask = focus_mask(values)

    assert int(mask.sum()) == 40
    assert values[mask].min() >= values[~mask].max()


def test_a_map_that_points_nowhere_has_no_focus():
    assert not focus_mask(-image(8, 8).abs()).any()


@pytest.mark.parametrize(
    ("drops", "contrast"),
    [
        (Drops(f_x=1.0, top=2.0, displaced=(0.0, 0.0, 0.0)), 1.0),
        (Drops(f_x=1.0, top=2.0, displaced=(2.0, 2.0, 2.0)), 0.0),
        (Drops(f_x=1.0, top=3.0, displaced=(1.0, 1.0, 1.0)), 0.5),
        (Drops(f_x=1.0, top=0.0, displaced=(1.0, 2.0, 3.0)), -1.0),
        (Drops(f_x=1.0, top=-1.0, displaced=(1.0, 1.0, 1.0)), -1.0),
        (Drops(f_x=1.0, top=0.0, displaced=(0.0, 0.0, 0.0)), 0.0),
        (Drops(f_x=1e3, top=1e-5, displaced=(0.0, 0.0, 0.0)), 0.0),
        (Drops(f_x=100.0, top=2.0, displaced=(0.0, 0.0, 0.0)), 0.1),
    ],
)
def test_the_contrast_of_drops_is_bounded_and_has_no_unit(drops, contrast):
    assert drops.contrast == pytest.approx(contrast)


def test_the_place_that_the_network_uses_suffices():
    x = image(1, 1, 16, 16)

    value = sufficiency(SpotTexture().eval(), x, ClassLogit(0), pointing_at(*SPOT))

    assert 0.8 < value <= 1.0


def test_a_place_beside_it_does_not_suffice():
    beside = pointing_at(slice(10, 14), slice(1, 5))

    value = sufficiency(SpotTexture().eval(), image(1, 1, 16, 16), ClassLogit(0), beside)

    assert value <= 0.0


def test_gains_are_in_the_unit_of_the_target_and_add_up_to_what_is_missing():
    weight, x = torch.zeros(1, 1, 16, 16), image(1, 1, 16, 16)
    weight[0, 0, SPOT[0], SPOT[1]] = 1.0
    network = Linear(weight, bias=5.0).eval()

    gains = measure_gains(network, x, ClassLogit(0), pointing_at(*SPOT))

    fill = blurred(x)
    share = smoothed(FOCUS.float(), 1.5)
    assert gains.top == pytest.approx(((x - fill) * share * weight).sum().item(), abs=1e-4)
    assert gains.f_blurred == pytest.approx(network(fill).item(), abs=1e-5)
    kept = network(fill + share * (x - fill)).item()
    assert gains.missing == pytest.approx(gains.f_x - kept, abs=1e-4)


def test_sufficiency_takes_six_forward_passes():
    network, entries = SpotTexture().eval(), []
    network.register_forward_hook(lambda _m, inputs, _o: entries.append(inputs[0].shape[0]))

    sufficiency(network, image(1, 1, 16, 16), ClassLogit(0), pointing_at(*SPOT))

    assert [count for count in entries if count > 1] == [6]


@pytest.mark.parametrize(
    ("gains", "contrast"),
    [
        (Gains(f_x=1.0, f_blurred=0.0, top=1.0, displaced=(0.0, 0.0, 0.0)), 1.0),
        (Gains(f_x=1.0, f_blurred=0.0, top=1.0, displaced=(1.0, 1.0, 1.0)), 0.0),
        (Gains(f_x=1.0, f_blurred=0.0, top=0.0, displaced=(0.0, 0.0, 0.0)), 0.0),
        # What is next to nothing of all that there is to gain is no contrast.
        (Gains(f_x=0.0, f_blurred=-100.0, top=2.0, displaced=(0.0, 0.0, 0.0)), 0.1),
    ],
)
def test_the_contrast_of_gains_is_held_against_all_that_there_is_to_gain(gains, contrast):
    assert gains.contrast == pytest.approx(contrast)


def test_nothing_suffices_of_a_map_without_positive_relevance():
    x = image(1, 1, 16, 16)

    assert sufficiency(SpotTexture().eval(), x, ClassLogit(0), -x.abs()) == 0.0


def test_a_rival_place_is_not_empty_air_and_not_the_place_itself():
    x = torch.zeros(1, 1, 32, 32)
    x[..., :16, :] = image(1, 1, 16, 32)
    values = torch.zeros(1, 1, 32, 32)
    values[..., 2:8, 2:8] = 1.0
    seen = []

    class Watching(nn.Module):
        def forward(self, batch):
            seen.extend(batch)
            return batch.flatten(1).sum(1, keepdim=True)

    comprehensiveness(Watching().eval(), x, ClassLogit(0), values)

    fill = blurred(x)[0, 0]
    shares = [(entry[0] - x[0, 0]) / (fill - x[0, 0]) for entry in seen[-4:]]
    masks = [(share > 0.5) & (fill != x[0, 0]) for share in shares]
    for rival in masks[1:]:
        assert rival[:16].sum() > 0.8 * masks[0].sum()
        assert not (rival & masks[0]).any()


def test_a_map_without_positive_relevance_has_the_value_zero():
    x = image(1, 1, 16, 16)

    assert comprehensiveness(SpotTexture().eval(), x, ClassLogit(0), -x.abs()) == 0.0


def test_the_top_mask_is_never_larger_than_asked():
    assert top_mask(torch.arange(100.0).reshape(10, 10)).nonzero()[:, 0].unique().tolist() == [9]
    assert int(top_mask(torch.ones(10, 10)).sum()) == 10
    assert int(top_mask(torch.tensor([1.0, 0.0, 0.0, -1.0]), 0.5).sum()) == 1


def test_channels_are_summed_before_the_mask_is_taken():
    values = torch.zeros(1, 2, 16, 16)
    values[0, 0] = 5.0
    values[0, 1] = -5.0
    values[0, 1, SPOT[0], SPOT[1]] = 0.0
    x = image(1, 2, 16, 16)

    value = comprehensiveness(SpotTexture().eval(), x, ClassLogit(0), values)

    assert value > 0.8


def test_three_axes_are_measured_as_two():
    network, x = classifier(axes=3), image(1, 1, 24, 24, 24)
    before = fingerprint(network)

    value = comprehensiveness(network, x, ClassLogit(0), image(1, 1, 24, 24, 24, seed=4))

    assert -1.0 <= value <= 1.0
    assert fingerprint(network) == before


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        (image(2, 1, 16, 16), image(2, 1, 16, 16), "expected one entry each"),
        (image(1, 1, 16, 16), image(1, 1, 8, 8), "expected one entry each"),
        (image(1, 1, 1, 1), torch.ones(1, 1, 1, 1), "no other place"),
        (image(1, 1, 16, 16), torch.full((1, 1, 16, 16), float("nan")), "256 values"),
    ],
)
def test_what_cannot_be_measured_is_refused(x, values, message):
    with pytest.raises(MeasureError, match=message):
        comprehensiveness(Linear(image(1, 1, 16, 16)).eval(), x, ClassLogit(0), values)


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(TrainingModeError):
        comprehensiveness(
            classifier().train(), image(1, 1, 16, 16), ClassLogit(0), image(1, 1, 16, 16)
        )


def shared(x, *shares):
    """Classes that see the same in the spot, each as many times as strongly."""
    weight = torch.zeros_like(x[0])
    weight[:, *SPOT] = (x - blurred(x))[0][:, *SPOT]
    return Linear(torch.stack([share * weight for share in shares])).eval()


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((0.0,), 1.0),
        ((-2.0,), 1.0),
        ((1.0,), 0.0),
        ((3.0,), -0.5),
        ((0.5, 3.0, -7.0), -0.5),
        ((1 / 3, 0.1), 0.5),
    ],
)
def test_specificity_is_the_contrast_with_the_class_that_loses_most(others, expected):
    x = image(1, 1, 16, 16)

    value = specificity(shared(x, 1.0, *others), x, ClassLogit(0), pointing_at(*SPOT))

    # Of losses 1 and c it is (1 - c) / (1 + c), whatever is hidden.
    assert value == pytest.approx(expected, abs=1e-5)


def test_the_map_of_another_class_is_as_unspecific_as_can_be():
    x = image(1, 1, 16, 16)

    value = specificity(shared(x, 0.0, 1.0), x, ClassLogit(0), pointing_at(*SPOT))

    assert value == -1.0


def test_logits_that_lie_higher_are_no_loss():
    x = image(1, 1, 16, 16)
    network = shared(x, 1.0, 0.5)
    network.bias.data += torch.tensor([-40.0, 900.0])

    value = specificity(network, x, ClassLogit(0), pointing_at(*SPOT))

    assert value == pytest.approx(1 / 3, abs=1e-2)


def test_one_class_has_no_others_and_a_map_of_nothing_is_of_none():
    x, values = image(1, 1, 16, 16), pointing_at(*SPOT)

    assert specificity(SpotTexture().eval(), x, ClassLogit(0), values) is None
    assert specificity(shared(x, 1.0, 0.5), x, ClassLogit(0), -values) == 0.0
    assert specificity(shared(x, 0.0, 0.0), x, ClassLogit(0), values) == 0.0


def test_the_other_classes_are_noted_on_the_same_passes():
    x, seen = image(1, 1, 16, 16), []
    network = shared(x, 1.0, 0.5)
    network.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))

    known = measure_drops(network, x, ClassLogit(0), pointing_at(*SPOT), f_x=1.0, channel=0)
    unknown = measure_drops(network, x, ClassLogit(0), pointing_at(*SPOT), channel=0)

    assert sum(seen) == 4 + 5
    assert known.others == pytest.approx(unknown.others)
    assert len(known.others) == 1
    assert measure_drops(network, x, ClassLogit(0), pointing_at(*SPOT)).others == ()
