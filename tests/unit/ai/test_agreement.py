import pytest
import torch
from scipy import stats

from ai.errors import MeasureError
from ai.quality.agreement import correlation, rank_agreement, top_overlap
from tests.build_networks import image


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 6)])
def test_rank_agreement_is_spearman_with_shared_ranks(shape):
    one, other = image(3, 1, *shape).clamp_min(0), image(3, 2, *shape, seed=1).round()

    agreement = rank_agreement(one, other)

    expected = [
        stats.spearmanr(a.flatten(), b.sum(0).flatten()).statistic
        for a, b in zip(one, other, strict=True)
    ]
    assert agreement.tolist() == pytest.approx(expected, abs=1e-12)


def test_of_a_large_map_some_cells_tell_the_same_as_all():
    generator = torch.Generator().manual_seed(4)
    one = torch.randn(1, 1, 96, 96, 90, generator=generator)
    other = one + torch.randn(1, 1, 96, 96, 90, generator=generator)

    value = rank_agreement(one, other)

    full = stats.spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    assert value.item() == pytest.approx(full, abs=0.005)
    assert value.item() != pytest.approx(full, abs=1e-9)


def test_any_rising_function_of_a_map_agrees_with_it_and_a_falling_one_disagrees():
    values = image(1, 1, 8, 8)

    assert rank_agreement(values, values.exp()).item() == pytest.approx(1.0)
    assert rank_agreement(values, -(values**3)).item() == pytest.approx(-1.0)


def test_a_map_that_is_the_same_everywhere_orders_nothing():
    values = image(1, 1, 8, 8)

    assert rank_agreement(values, torch.ones(1, 1, 8, 8)).item() == 0.0
    assert correlation(torch.zeros(8, 8), values[0, 0]).item() == 0.0


def test_correlation_of_values_is_that_of_pearson():
    one, other = image(9, 9), image(9, 9, seed=1) + 1e3

    expected = stats.pearsonr(one.flatten(), other.flatten()).statistic
    assert correlation(one, other).item() == pytest.approx(expected, abs=1e-6)


def test_overlap_is_what_both_mark_of_what_one_marks():
    one, other = torch.zeros(2, 1, 10, 10), torch.zeros(2, 1, 10, 10)
    one[:, 0, 0] = torch.arange(1.0, 11.0)
    other[0, 0, :, 0] = torch.arange(1.0, 11.0)
    other[1, 0, 0] = torch.arange(10.0, 0.0, -1.0)

    # A tenth is a row here; a row and a column have one cell in common.
    assert top_overlap(one, other).tolist() == [0.1, 1.0]
    # The last six cells of a row and its first six have two in common.
    assert top_overlap(one, other, share=0.06).tolist() == pytest.approx([0.0, 2 / 6])


def test_a_map_that_marks_nothing_overlaps_with_nothing():
    assert top_overlap(torch.zeros(1, 1, 4, 4), image(1, 1, 4, 4)).item() == 0.0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (image(1, 1, 4, 5), "on one grid"),
        (image(2, 1, 4, 4), "as many entries"),
        (image(1, 1, 4), "on one grid"),
        (torch.full((1, 1, 4, 4), torch.nan), "16 values are not finite"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(other, message):
    with pytest.raises(MeasureError, match=message):
        rank_agreement(image(1, 1, 4, 4), other)
