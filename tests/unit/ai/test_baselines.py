import pytest
import torch
from scipy import ndimage
from torch import nn

from ai.errors import BaselineError
from ai.explainers.baselines import REFERENCE_NOISE, blurred, reference_set
from ai.model import Settings
from tests.build_networks import image


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 3, 40, 48), (1, 1, 24, 32, 16)])
def test_a_narrow_blur_is_that_of_scipy(shape):
    x = image(*shape)

    found = blurred(x)

    sigma = [0.0, 0.0, *(extent / 16 for extent in shape[2:])]
    expected = ndimage.gaussian_filter(x.numpy(), sigma, mode="nearest", truncate=3.0)
    assert found.numpy() == pytest.approx(expected, abs=1e-2)


def test_a_wide_blur_on_its_pooled_grid_is_near_that_of_scipy():
    x = image(1, 1, 256, 256)

    found = blurred(x)

    expected = ndimage.gaussian_filter(x.numpy(), [0, 0, 16, 16], mode="nearest")
    # At the edge scipy repeats one noisy pixel, the pooled grid the mean of four.
    inside = (..., slice(48, -48), slice(48, -48))
    assert (found.numpy() - expected)[inside].std() < 0.1 * expected[inside].std()
    assert found.shape == x.shape


def test_a_constant_image_stays_itself():
    x = torch.full((1, 2, 30, 200), 7.0)

    assert torch.allclose(blurred(x), x, atol=1e-5)


def test_an_axis_of_one_cell_is_left_alone():
    x = image(1, 1, 1, 32, 32)

    assert torch.allclose(blurred(x)[:, :, 0], blurred(x[:, :, 0]), atol=1e-6)


def test_references_are_the_image_under_narrow_to_wide_blurs_with_a_little_noise():
    x = image(1, 1, 64, 64)

    references, name = reference_set(nn.Identity(), x, Settings(), count=3, generator=seeded())

    assert references.shape == (1, 3, 1, 64, 64)
    assert name == "3 blurred copies with noise"
    for reference, share in zip(references[0], (1 / 32, 1 / 16, 1 / 8), strict=True):
        blur = blurred(x, share)
        noise = (reference - blur).std() / (x - blur).std()
        assert noise.item() == pytest.approx(REFERENCE_NOISE, rel=0.1)


def test_references_of_an_entry_do_not_depend_on_its_batch():
    x = image(3, 2, 16, 16)

    together, _ = reference_set(nn.Identity(), x, Settings(), count=4, generator=seeded())
    alone, _ = reference_set(nn.Identity(), x[1:2], Settings(), count=4, generator=seeded())

    assert torch.allclose(together[1], alone[0], atol=1e-6)


def test_a_given_reference_set_serves_every_entry():
    x, given = image(2, 1, 8, 8), image(5, 1, 8, 8, seed=1)

    references, name = reference_set(
        nn.Identity(), x, Settings(baseline=given), count=3, generator=seeded()
    )

    assert name == "5 given"
    assert torch.equal(references[0], given)
    assert torch.equal(references[1], given)


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(3, 1, 8, 4),
        torch.zeros(0, 1, 8, 8),
        torch.full((3, 1, 8, 8), float("nan")),
    ],
    ids=["shape", "empty", "NaN"],
)
def test_a_reference_set_that_does_not_fit_is_refused(given):
    with pytest.raises(BaselineError, match=r"must be finite and of shape \(N, 1, 8, 8\)"):
        reference_set(
            nn.Identity(),
            image(1, 1, 8, 8),
            Settings(baseline=given),
            count=3,
            generator=seeded(),
        )


def test_one_constant_reference_is_refused_where_the_network_normalizes_each_image():
    given = image(3, 1, 8, 8)
    given[1] = 2.0

    with pytest.raises(BaselineError, match=r"constant baseline \(number 1 of 3 given\)"):
        reference_set(
            nn.InstanceNorm2d(1),
            image(1, 1, 8, 8),
            Settings(baseline=given),
            count=3,
            generator=seeded(),
        )
