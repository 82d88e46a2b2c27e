import pytest
import torch
from torch import nn

from ai.capture import fingerprint
from ai.errors import MeasureError
from ai.quality.road import Removal, measure_removal, road
from ai.targets import ClassLogit
from tests.build_networks import Linear, classifier, image


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Spot(nn.Module):
    """The mean brightness of a spot that is a tenth of the image; blind elsewhere."""

    def forward(self, x):
        return x[(slice(None), slice(None), slice(0, 2))].flatten(1).mean(1, keepdim=True)


def spot_case(*shape):
    """An image that is bright in the spot alone, and the map that says so."""
    values = torch.zeros(1, 1, *shape)
    values[:, :, :2] = 1.0
    return 10.0 * values, values


@pytest.mark.parametrize("shape", [(20, 12), (20, 6, 5)])
def test_the_right_map_loses_all_and_keeps_all(shape):
    x, values = spot_case(*shape)

    removal = measure_removal(Spot().eval(), x, ClassLogit(0), values, generator=seeded())

    # What fills the spot is zero, like its surroundings, but for the noise of 1 % of 3.
    assert removal.most[0] == pytest.approx([0.0] * 5, abs=0.1)
    assert removal.least[0] == pytest.approx([10.0] * 5, abs=0.1)
    assert removal.gap.item() == pytest.approx(10.0, abs=0.1)
    assert removal.contrast.item() == pytest.approx(1.0, abs=0.02)


def test_the_opposite_map_is_at_minus_one():
    x, values = spot_case(20, 12)

    assert road(Spot().eval(), x, ClassLogit(0), -values, generator=seeded()).item() == (
        pytest.approx(-1.0, abs=0.02)
    )


def test_random_maps_are_at_chance():
    network, x = Spot().eval(), spot_case(20, 12)[0]

    contrasts = [
        road(network, x, ClassLogit(0), image(1, 1, 20, 12, seed=seed), generator=seeded(seed))
        for seed in range(12)
    ]

    assert torch.cat(contrasts).mean().item() == pytest.approx(0.0, abs=0.15)


def test_a_network_that_nothing_changes_has_the_value_zero():
    network = Linear(torch.zeros(1, 1, 6, 6), bias=3.0).eval()
    x = image(1, 1, 6, 6)

    assert road(network, x, ClassLogit(0), x, generator=seeded()).item() == 0.0


def test_a_change_that_is_nothing_to_the_target_is_no_contrast():
    removal = Removal(
        shares=torch.tensor([0.5]),
        most=torch.tensor([[99.5]]),
        least=torch.tensor([[100.0]]),
        f_x=torch.tensor([100.0]),
    )

    assert removal.contrast.item() == pytest.approx(0.1)


def test_each_entry_of_a_batch_is_measured_as_if_alone():
    network, x = classifier(channels=2), image(2, 2, 16, 16)
    values = image(2, 1, 16, 16, seed=4).round()

    together = road(network, x, ClassLogit(1), values, generator=seeded())
    alone = [
        road(network, x[i : i + 1], ClassLogit(1), values[i : i + 1], generator=seeded())
        for i in range(2)
    ]

    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_the_noise_is_that_of_the_seed():
    network, x = classifier(), image(1, 1, 16, 16)

    first, again, other = (
        measure_removal(network, x, ClassLogit(0), x, generator=seeded(seed)).most
        for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_two_shares_take_five_forward_passes_and_leave_no_trace():
    network, entries = classifier(), []
    network.register_forward_hook(lambda _m, inputs, _o: entries.append(inputs[0].shape[0]))
    before, x = fingerprint(network), image(1, 1, 40, 40)

    road(network, x, ClassLogit(0), x, generator=seeded(), shares=(0.2, 0.4))

    assert [count for count in entries if count > 1] == [5]
    assert fingerprint(network) == before


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 1.0), (0.01,)])
def test_shares_that_remove_or_leave_nothing_are_refused(shares):
    network, x = Linear(image(1, 1, 4, 4)).eval(), image(1, 1, 4, 4)

    with pytest.raises(MeasureError, match="to remove some of them"):
        road(network, x, ClassLogit(0), x, generator=seeded(), shares=shares)
