import numpy as np
import pytest

from ai.errors import MeasureError
from ai.quality.localization import (
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


def test_a_map_beside_the_truth_scores_zero_everywhere():
    truth = truth_of_four()

    relevance = (~truth).astype(np.float32)

    assert pointing_game(relevance, truth) == 0.0
    assert relevance_mass_accuracy(relevance, truth) == 0.0
    assert relevance_rank_accuracy(relevance, truth) == 0.0


def test_a_constant_map_scores_what_guessing_would():
    truth = truth_of_four()

    relevance = np.ones((4, 4), dtype=np.float32)

    assert pointing_game(relevance, truth) == pytest.approx(4 / 16)
    assert relevance_mass_accuracy(relevance, truth) == pytest.approx(4 / 16)
    assert relevance_rank_accuracy(relevance, truth) == pytest.approx(4 / 16)


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
