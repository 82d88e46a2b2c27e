import pytest
import torch
from torch import nn

from ai.capture import fingerprint
from ai.errors import MeasureError
from ai.explainers.baselines import blurred
from ai.quality.controls import intensity_map
from ai.quality.curves import Curve, deletion, deletion_curve, insertion, insertion_curve
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_case(*shape, seed=0):
    """A linear network, an image, and what each cell brings above the blurred image."""
    x, weight = image(1, 1, *shape, seed=seed), image(1, 1, *shape, seed=seed + 1)
    network = Linear(weight, bias=2.0).eval()
    return network, x, weight * (x - blurred(x))


@pytest.mark.parametrize("shape", [(10, 8), (6, 5, 4)])
def test_deletion_of_a_linear_model_falls_by_what_each_cell_brings(shape):
    network, x, brings = linear_case(*shape)
    cells = brings.numel()

    curve = deletion_curve(network, x, ClassLogit(0), brings, generator=seeded(), steps=cells)

    gone = brings.flatten().sort(descending=True).values.cumsum(0).double()
    expected = torch.cat((torch.zeros(1), gone))
    assert curve.scores[0] == pytest.approx((network(x).item() - expected).tolist(), abs=1e-4)
    assert curve.shares.tolist() == pytest.approx([step / cells for step in range(cells + 1)])
    assert curve.f_blurred.item() == pytest.approx(network(blurred(x)).item(), abs=1e-4)


def test_insertion_of_a_linear_model_is_its_deletion_upside_down():
    network, x, brings = linear_case(10, 8)

    going = deletion_curve(network, x, ClassLogit(0), brings, generator=seeded(), steps=16)
    coming = insertion_curve(network, x, ClassLogit(0), brings, generator=seeded(), steps=16)

    ends = going.f_x + going.f_blurred
    assert coming.scores[0] == pytest.approx((ends - going.scores)[0].tolist(), abs=1e-4)
    assert (going.area + coming.area).item() == pytest.approx(ends.item(), abs=1e-4)


def test_the_area_is_relative_to_the_image_and_its_blur():
    curve = Curve(
        shares=torch.tensor([0.0, 0.5, 1.0]),
        scores=torch.tensor([[5.0, 1.0, 1.0], [1.0, 2.0, 3.0], [5.0, 6.0, 4.9]]),
        f_x=torch.tensor([5.0, 1.0, 5.0]),
        f_blurred=torch.tensor([1.0, 3.0, 4.9]),
    )

    assert curve.area.tolist() == pytest.approx([2.0, 2.0, 5.475])
    assert curve.relative[0].tolist() == [1.0, 0.0, 0.0]
    assert curve.relative_area[0].item() == 0.25
    # The second scores less than its blur, the third hardly more: nothing speaks for the target.
    assert curve.relative_area[1:].isnan().all()


def test_a_random_order_of_a_linear_model_is_at_one_half_on_average():
    weight = image(1, 1, 16, 16, seed=3)
    network, x = Linear(weight, bias=1.0).eval(), weight.clone()

    areas = [
        deletion(network, x, ClassLogit(0), image(1, 1, 16, 16, seed=seed), generator=seeded())
        for seed in range(20)
    ]

    assert torch.cat(areas).mean().item() == pytest.approx(0.5, abs=0.05)


class Brightness(nn.Module):
    """How much of the image is brighter than 1."""

    def forward(self, x):
        return (x - 1).clamp_min(0).flatten(1).sum(1, keepdim=True)


def test_of_a_detector_of_brightness_the_intensity_map_is_the_right_one():
    network, x = Brightness().eval(), image(1, 1, 24, 24)
    bright = torch.from_numpy(intensity_map(x.numpy()))
    random = image(1, 1, 24, 24, seed=5)

    lost, by_chance = (
        deletion(network, x, ClassLogit(0), values, generator=seeded()).item()
        for values in (bright, random)
    )
    brought, brought_by_chance = (
        insertion(network, x, ClassLogit(0), values, generator=seeded()).item()
        for values in (bright, random)
    )

    # One cell of six is brighter than 1: all is lost with the first fifth.
    assert lost < 0.1 < 0.4 < by_chance < 0.6
    assert brought > 0.9 > 0.6 > brought_by_chance > 0.4


def test_each_entry_of_a_batch_is_measured_as_if_alone():
    network, x = classifier(), image(3, 1, 24, 24)
    values = image(3, 1, 24, 24, seed=7).round()

    together = deletion_curve(network, x, ClassLogit(1), values, generator=seeded(), steps=5)
    alone = [
        deletion_curve(
            network, x[i : i + 1], ClassLogit(1), values[i : i + 1], generator=seeded(), steps=5
        ).scores
        for i in range(3)
    ]

    assert torch.allclose(together.scores, torch.cat(alone), atol=1e-5)
    assert together.scores.shape == (3, 6)


def test_channels_are_summed_and_go_together():
    network = Linear(torch.ones(1, 2, 4, 4)).eval()
    x, values = image(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    values[0, 0, 1, 2], values[0, 1, 3, 3] = 2.0, 1.0

    curve = deletion_curve(network, x, ClassLogit(0), values, generator=seeded(), steps=16)

    lost = (x - blurred(x)).sum(dim=1)[0]
    first, second = (curve.scores[0, :2] - curve.scores[0, 1:3]).tolist()
    assert first == pytest.approx(lost[1, 2].item(), abs=1e-5)
    assert second == pytest.approx(lost[3, 3].item(), abs=1e-5)


def test_cells_of_equal_relevance_go_in_the_order_of_the_seed():
    network, x = Linear(image(1, 1, 8, 8)).eval(), image(1, 1, 8, 8, seed=1)
    even = torch.ones(1, 1, 8, 8)

    first, again, other = (
        deletion_curve(network, x, ClassLogit(0), even, generator=seeded(seed)).scores
        for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_takes_one_pass_more_than_there_are_steps_and_leaves_no_trace():
    network, entries = classifier(), []
    network.register_forward_hook(lambda _m, inputs, _o: entries.append(inputs[0].shape[0]))
    before, x = fingerprint(network), image(1, 1, 40, 40)

    deletion(network, x, ClassLogit(0), x, generator=seeded(), steps=7)

    assert [count for count in entries if count > 1] == [8]
    assert fingerprint(network) == before


@pytest.mark.parametrize(
    ("values", "steps", "message"),
    [
        (image(1, 1, 4, 5), 2, "on one grid"),
        (image(2, 1, 4, 4), 2, "as many entries"),
        (torch.full((1, 1, 4, 4), torch.inf), 2, "16 values are not finite"),
        (image(1, 1, 4, 4), 0, "expected 1 to 16"),
        (image(1, 1, 4, 4), 17, "expected 1 to 16"),
    ],
)
def test_what_cannot_be_measured_is_refused(values, steps, message):
    network, x = Linear(image(1, 1, 4, 4)).eval(), image(1, 1, 4, 4)

    with pytest.raises(MeasureError, match=message):
        deletion(network, x, ClassLogit(0), values, generator=seeded(), steps=steps)
