import math

import pytest
import torch

from ai.errors import MeasureError
from ai.quality.complexity import (
    effective_complexity,
    entropy_complexity,
    gini,
    histogram_entropy,
)
from tests.build_networks import image


def with_peaks(count, *, cells=100, height=-3.0):
    """A map of zeros with so many equal peaks."""
    values = torch.zeros(cells)
    values[:count] = height
    return values


def test_one_cell_that_carries_all_is_simple_and_an_even_map_is_not():
    values = torch.stack([with_peaks(1), with_peaks(20), with_peaks(100)]).view(3, 1, 10, 10)

    assert gini(values).tolist() == pytest.approx([0.99, 0.8, 0.0])
    assert entropy_complexity(values).tolist() == pytest.approx([0, math.log(20), math.log(100)])
    assert effective_complexity(values).tolist() == pytest.approx([0.01, 0.2, 1.0])


def test_a_map_of_zeros_is_as_even_as_one_can_be():
    none = torch.zeros(1, 1, 4, 5, 5)

    assert gini(none).item() == 0.0
    assert entropy_complexity(none).item() == pytest.approx(math.log(100))
    assert effective_complexity(none).item() == 1.0


def test_gini_of_a_ramp_is_one_third():
    # 1, 2 ... n: (n - 1) / 3 n.
    values = torch.arange(1.0, 1001.0).view(1, 1, 10, 10, 10)

    assert gini(values).item() == pytest.approx(999 / 3000)


def test_scale_and_place_do_not_matter():
    values = image(1, 1, 12, 12)
    turned = -7.0 * values.flip(2)

    for measure in (gini, entropy_complexity, effective_complexity):
        assert measure(turned).item() == pytest.approx(measure(values).item())


def test_channels_are_summed_first():
    values = torch.stack((with_peaks(30), with_peaks(30, height=2.0))).view(1, 2, 10, 10)

    assert gini(values).item() == pytest.approx(0.7)
    assert gini(values * torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)).item() == 0.0


def test_a_cell_counts_from_a_share_of_the_greatest_on():
    values = torch.tensor([100.0, -6.0, 4.0, 0.0]).view(1, 1, 2, 2)

    assert effective_complexity(values).item() == 0.5
    assert effective_complexity(values, counts_from=0.01).item() == 0.75


def test_histogram_entropy_counts_how_often_each_value_occurs():
    halves = torch.cat((torch.zeros(50), torch.ones(50))).view(1, 1, 10, 10)
    ramp = torch.arange(1000.0).view(1, 1, 10, 100)

    assert histogram_entropy(halves).item() == pytest.approx(math.log(2))
    assert histogram_entropy(ramp, bins=20).item() == pytest.approx(math.log(20), abs=1e-3)
    assert histogram_entropy(torch.full((2, 1, 3, 3), 5.0)).tolist() == [0.0, 0.0]


def test_values_that_are_not_finite_are_refused():
    for measure in (gini, entropy_complexity, effective_complexity, histogram_entropy):
        with pytest.raises(MeasureError, match="4 values are not finite"):
            measure(torch.full((1, 1, 2, 2), torch.nan))
