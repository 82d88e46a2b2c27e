import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as peer_curve

from ai.errors import MeasureError
from ai.reliability.discrimination import (
    area_under_curve,
    bootstrap_roc,
    roc_curve,
    sensitivity_at,
)


def scored(count, shift, *, seed=0):
    """Scores of deviation 1 whose mean is ``shift`` higher in half of the cases."""
    rng = np.random.default_rng(seed)
    truths = np.arange(count) % 2 == 0
    return rng.standard_normal(count) + shift * truths, truths


def test_area_counts_pairs_in_order_and_ties_by_half():
    assert area_under_curve([1, 2, 3, 4], [False, False, True, True]) == 1.0
    assert area_under_curve([1, 2, 2, 3], [False, True, False, True]) == 0.875
    with pytest.raises(MeasureError, match="2 of 2 cases are positive: need both kinds"):
        area_under_curve([1, 2], [True, True])


def test_the_curve_has_a_point_for_each_score_and_calls_ties_together():
    curve = roc_curve([0.9, 0.6, 0.6, 0.1], [True, True, False, False])

    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.6, 0.1]
    assert curve.false_positive_rate.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert curve.true_positive_rate.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert curve.area == 0.875


def test_the_area_of_the_curve_is_that_of_the_pairs_and_of_sklearn():
    scores, truths = scored(301, 1.0)
    scores = np.round(scores, 1)

    curve = roc_curve(scores, truths)
    fallout, sensitivity, _ = peer_curve(truths, scores, drop_intermediate=False)

    assert curve.area == pytest.approx(area_under_curve(scores, truths), abs=1e-12)
    assert curve.area == pytest.approx(roc_auc_score(truths, scores), abs=1e-12)
    assert np.allclose(curve.false_positive_rate, fallout)
    assert np.allclose(curve.true_positive_rate, sensitivity)


def test_the_sensitivity_at_a_rate_never_needs_more_false_alarms():
    curve = roc_curve([4, 3, 2, 1], [True, False, True, False])

    reached = sensitivity_at(curve, np.array([0.0, 0.25, 0.5, 1.0]))

    assert reached.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_a_score_that_never_errs_has_a_band_without_width():
    band = bootstrap_roc(
        [1, 2, 3, 4], [False, False, True, True], generator=np.random.default_rng(0), draws=50
    )

    assert (band.area_low, band.area_high) == (1.0, 1.0)
    assert band.low.min() == band.high.min() == 1.0


def test_the_band_is_as_wide_as_areas_of_other_cases_spread():
    scores, truths = scored(200, 1.0)
    areas = [area_under_curve(*scored(200, 1.0, seed=seed)) for seed in range(1, 400)]

    band = bootstrap_roc(scores, truths, generator=np.random.default_rng(0), draws=400)

    width, spread = band.area_high - band.area_low, np.subtract(*np.quantile(areas, [0.975, 0.025]))
    assert width == pytest.approx(spread, rel=0.25)
    assert band.area_low < area_under_curve(scores, truths) < band.area_high
    inside = sensitivity_at(roc_curve(scores, truths), band.false_positive_rate)
    assert np.mean((band.low <= inside) & (inside <= band.high)) > 0.95


def test_the_same_seed_draws_the_same_band():
    scores, truths = scored(50, 0.5)

    one, same, other = (
        bootstrap_roc(scores, truths, generator=np.random.default_rng(seed), draws=20)
        for seed in (1, 1, 2)
    )

    assert np.array_equal(one.low, same.low)
    assert one.area_low == same.area_low
    assert one.area_low != other.area_low
