import numpy as np
import pytest
from scipy import stats

from ai.errors import MeasureError
from ai.quality.intervals import Interval, bootstrap_interval


def seeded(seed=0):
    return np.random.default_rng(seed)


def test_the_interval_of_a_mean_is_that_of_the_normal_law_for_many_cases():
    cases = seeded(1).normal(3.0, 2.0, size=400)

    interval = bootstrap_interval(cases, generator=seeded())

    error = 1.96 * cases.std() / 20
    assert interval.estimate == pytest.approx(cases.mean())
    assert interval.low == pytest.approx(cases.mean() - error, abs=0.03)
    assert interval.high == pytest.approx(cases.mean() + error, abs=0.03)


def test_the_interval_is_that_of_scipy():
    cases = seeded(2).exponential(size=40)

    interval = bootstrap_interval(cases, generator=seeded(), statistic=np.median, level=0.9)

    reference = stats.bootstrap(
        (cases,), np.median, confidence_level=0.9, method="percentile", rng=seeded(3)
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx(tuple(reference), abs=0.06)


def test_it_covers_the_truth_about_as_often_as_it_says():
    truth, hits = 1.0, 0
    for seed in range(200):
        cases = seeded(seed).exponential(truth, size=60)
        interval = bootstrap_interval(cases, generator=seeded(), level=0.8, resamples=200)
        hits += interval.low <= truth <= interval.high

    assert hits / 200 == pytest.approx(0.8, abs=0.08)


def test_a_row_is_a_case_and_sets_without_a_figure_are_left_out():
    scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.2, 0.0]])

    def difference(cases):
        found, sought = cases.T
        if sought.min() == sought.max():
            return np.nan
        return found[sought == 1].mean() - found[sought == 0].mean()

    interval = bootstrap_interval(scores, generator=seeded(), statistic=difference)

    assert interval.estimate == pytest.approx(0.65)
    assert (interval.low, interval.high) == pytest.approx((0.6, 0.7))


def test_the_same_seed_gives_the_same_interval():
    cases = seeded(4).random(30)

    assert bootstrap_interval(cases, generator=seeded(5)) == bootstrap_interval(
        cases, generator=seeded(5)
    )


def test_one_is_above_another_where_they_do_not_overlap():
    low, high = Interval(estimate=0.2, low=0.1, high=0.3), Interval(estimate=0.5, low=0.4, high=0.6)

    assert high.is_above(low)
    assert not low.is_above(high)
    assert not high.is_above(Interval(estimate=0.3, low=0.1, high=0.45))


def test_cases_of_one_value_have_no_spread():
    assert bootstrap_interval(np.ones(20), generator=seeded()) == Interval(
        estimate=1.0, low=1.0, high=1.0
    )


@pytest.mark.parametrize("cases", [np.array([]), np.array([1.0, np.nan])])
def test_cases_without_figures_are_refused(cases):
    with pytest.raises(MeasureError, match="expected at least one case and finite values"):
        bootstrap_interval(cases, generator=seeded())
