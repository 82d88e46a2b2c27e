import numpy as np
import pytest
from skimage.filters import threshold_otsu

from ai.errors import MeasureError
from ai.quality.localization import (
    hit_rate,
    iou_at_otsu,
    otsu_threshold,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)


def truth_of_four() -> np.ndarray:
    truth = np.zeros((4, 4), dtype=bool)
    truth[1:3, 1:3] = True
    return truth


def test_a_map_that_equals_the_truth_scores_one_everywhere():
    truth = truth_of_four()

    relevance = truth.astype(np.float32)

    assert pointing_game(relevance, truth) == 1.0
    assert relevance_mass_accuracy(relevance, truth) == 1.0
    assert relevance_rank_accuracy(relevance, truth) == 1.0
    assert hit_rate(relevance, truth) == 1.0
    assert iou_at_otsu(relevance, truth) == 1.0


def test_a_map_beside_the_truth_scores_zero_everywhere():
    truth = truth_of_four()

    relevance = (~truth).astype(np.float32)

    assert pointing_game(relevance, truth) == 0.0
    assert relevance_mass_accuracy(relevance, truth) == 0.0
    assert relevance_rank_accuracy(relevance, truth) == 0.0
    assert hit_rate(relevance, truth) == 0.0
    assert iou_at_otsu(relevance, truth) == 0.0


def test_a_constant_map_scores_what_guessing_would():
    truth = truth_of_four()

    relevance = np.ones((4, 4), dtype=np.float32)

    assert pointing_game(relevance, truth) == pytest.approx(4 / 16)
    assert relevance_mass_accuracy(relevance, truth) == pytest.approx(4 / 16)
    assert relevance_rank_accuracy(relevance, truth) == pytest.approx(4 / 16)
    assert hit_rate(relevance, truth, count=2) == pytest.approx(4 / 16)
    assert iou_at_otsu(relevance, truth) == pytest.approx(4 / 16)


def test_mass_accuracy_counts_positive_relevance_only():
    truth = truth_of_four()
    relevance = np.zeros((4, 4), dtype=np.float32)
    relevance[1, 1], relevance[0, 0], relevance[3, 3] = 3.0, 1.0, -100.0

    accuracy = relevance_mass_accuracy(relevance, truth)

    assert accuracy == pytest.approx(0.75)


def test_mass_accuracy_of_a_map_without_positive_relevance_is_zero():
    assert relevance_mass_accuracy(-np.ones((4, 4), dtype=np.float32), truth_of_four()) == 0.0


def test_rank_accuracy_counts_how_many_of_the_first_k_voxels_hit():
    truth = truth_of_four()
    relevance = np.zeros((4, 4), dtype=np.float32)
    relevance[1, 1], relevance[1, 2], relevance[0, 0], relevance[3, 3] = 4.0, 3.0, 2.0, 1.0

    accuracy = relevance_rank_accuracy(relevance, truth)

    assert accuracy == pytest.approx(2 / 4)


def test_hit_rate_looks_at_so_many_voxels_and_at_no_more_than_the_truth_has():
    truth = truth_of_four()
    relevance = np.zeros((4, 4), dtype=np.float32)
    relevance[0, 0], relevance[1, 1], relevance[1, 2], relevance[2, 1] = 4.0, 3.0, 2.0, 1.0

    rates = [hit_rate(relevance, truth, count=count) for count in (1, 2, 3, 4, 100)]

    assert rates == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4, 3 / 4])
    assert rates[0] == pointing_game(relevance, truth)
    assert rates[-1] == relevance_rank_accuracy(relevance, truth)


def test_hit_rate_of_no_voxels_is_refused():
    with pytest.raises(MeasureError, match="expected at least 1"):
        hit_rate(np.zeros((4, 4)), truth_of_four(), count=0)


@pytest.mark.parametrize("shape", [(50, 40), (14, 12, 13)])
def test_the_threshold_is_that_of_otsu(shape):
    generator = np.random.default_rng(0)
    values = generator.normal(1.0, 0.3, shape)
    values[: shape[0] // 4] += 3.0

    threshold = otsu_threshold(values)

    # A histogram finds it to within the width of its bins.
    bins = 20_000
    reference = threshold_otsu(values, nbins=bins)
    assert threshold == pytest.approx(reference, abs=2 * np.ptp(values) / bins)


def test_two_values_are_parted_between_them_and_one_is_not_parted():
    assert otsu_threshold(np.array([1.0, 1.0, 1.0, 5.0])) == 1.0
    assert otsu_threshold(np.array([2.0, 2.0])) == 2.0
    assert otsu_threshold(np.array([3.0])) == 3.0


def test_iou_is_that_of_what_stands_out():
    truth = truth_of_four()
    relevance = np.zeros((4, 4), dtype=np.float32)
    relevance[1, :3], relevance[0, 0], relevance[3, 3] = 10.0, 1.0, -50.0

    # Marked are three voxels, of which two lie in the truth of four.
    assert iou_at_otsu(relevance, truth) == pytest.approx(2 / 5)


def test_iou_of_a_map_without_positive_relevance_is_zero():
    assert iou_at_otsu(-np.ones((4, 4), dtype=np.float32), truth_of_four()) == 0.0


@pytest.mark.parametrize(
    ("relevance", "truth", "message"),
    [
        (np.zeros((4, 3)), truth_of_four(), "expected one grid"),
        (np.zeros((4, 4)), np.zeros((4, 4), dtype=bool), "at least one voxel"),
        (np.zeros((4, 4)), truth_of_four().astype(np.uint8), "must be bool"),
        (np.full((4, 4), np.nan), truth_of_four(), "16 relevance values are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(relevance, truth, message):
    with pytest.raises(MeasureError, match=message):
        relevance_mass_accuracy(relevance, truth)
