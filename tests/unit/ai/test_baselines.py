import pytest
import torch
from scipy import ndimage

from ai.explainers.baselines import blurred
from tests.build_networks import image


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
