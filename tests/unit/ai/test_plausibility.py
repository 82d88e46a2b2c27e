import pytest
import torch

from ai.errors import MeasureError
from ai.quality.controls import intensity_map, sobel_map
from ai.quality.plausibility import edge_correlation, intensity_correlation, plausibility
from tests.build_networks import image


def test_plausible_is_the_share_of_positive_relevance_in_the_mask():
    mask = torch.zeros(4, 4, 4, dtype=torch.bool)
    mask[:2] = True
    values = torch.zeros(3, 1, 4, 4, 4)
    values[0, 0, 0], values[0, 0, 3, 0, 0], values[0, 0, 2] = 1.0, 4.0, -100.0
    values[1] = 1.0

    # 16 of 20; half of the image; nothing.
    assert plausibility(values, mask).tolist() == pytest.approx([0.8, 0.5, 0.0])


def test_each_entry_may_have_a_mask_of_its_own():
    masks = torch.stack((torch.ones(4, 4), torch.zeros(4, 4))).bool()

    assert plausibility(torch.ones(2, 2, 4, 4), masks).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "mask",
    [torch.ones(4, 4), torch.ones(5, 4, dtype=torch.bool), torch.ones(3, 4, 4, dtype=torch.bool)],
)
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(MeasureError, match="expected bool, on one grid"):
        plausibility(torch.ones(2, 1, 4, 4), mask)


@pytest.mark.parametrize("shape", [(24, 24), (10, 12, 8)])
def test_the_controls_are_exposed_as_what_they_are(shape):
    x = image(1, 1, *shape).cumsum(dim=-1)
    edges = torch.from_numpy(sobel_map(x[0, 0].numpy()))[None, None]
    bright = torch.from_numpy(intensity_map(x[0, 0].numpy()))[None, None]

    assert edge_correlation(3.0 * edges, x).item() == pytest.approx(1.0)
    assert intensity_correlation(bright, x).item() == pytest.approx(1.0)
    assert intensity_correlation(-bright, x).item() == pytest.approx(1.0)
    assert edge_correlation(bright, x).item() < 0.8
    assert intensity_correlation(edges, x).item() < 0.8


def test_a_random_map_is_neither_and_each_entry_is_looked_at_alone():
    x = image(2, 2, 40, 40)
    values = torch.cat((image(1, 1, 40, 40, seed=3), x[1:].sum(dim=1, keepdim=True)))

    edges, bright = edge_correlation(values, x), intensity_correlation(values, x)

    assert edges[0].item() < 0.1
    assert bright.tolist() == pytest.approx([0.0, 1.0], abs=0.1)


def test_a_map_or_an_image_that_is_the_same_everywhere_resembles_nothing():
    x = image(1, 1, 8, 8)

    assert edge_correlation(torch.ones_like(x), x).item() == 0.0
    assert intensity_correlation(x, torch.ones_like(x)).item() == 0.0
