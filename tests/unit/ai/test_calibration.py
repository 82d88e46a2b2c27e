import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from ai.errors import CalibrationError, MeasureError
from ai.reliability.answers import (
    Activation,
    answer_logits,
    answer_probabilities,
    answers_of,
    channel_probabilities,
)
from ai.reliability.calibration import (
    adaptive_bins,
    brier_score,
    calibration_error,
    calibration_error_beyond_chance,
    confidences_of,
    even_bins,
    fit_calibration,
    fit_temperature,
)

SIGMOID, SOFTMAX = Activation.SIGMOID, Activation.SOFTMAX


def cases(activation, *, count=4000, channels=1, too_sure=1.0, seed=0):
    """Logits and labels drawn from them: honest, but for a factor."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, channels, generator=generator, dtype=torch.float64)
    if activation is SIGMOID:
        drawn = torch.rand(logits.shape, generator=generator, dtype=torch.float64)
        labels = (drawn < torch.sigmoid(logits)).long()
    else:
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return too_sure * logits, labels


def error_of(logits, labels, activation, temperature=1.0):
    probabilities = answer_probabilities(logits, activation, temperature=temperature)
    right = answers_of(labels, logits, activation)
    return calibration_error(even_bins(*confidences_of(probabilities, right, activation)))


def test_two_answers_to_a_channel_make_its_sigmoid_and_neither_is_the_odd_one():
    logits = torch.tensor([[0.5, -3.0]])

    answers = answer_logits(logits, SIGMOID)
    probabilities = answer_probabilities(logits, SIGMOID, temperature=2.0)

    assert answers.tolist() == [[[-0.25, 0.25], [1.5, -1.5]]]
    assert torch.allclose(probabilities[:, :, 1], torch.sigmoid(logits.double() / 2))
    assert torch.equal(channel_probabilities(probabilities, SIGMOID), probabilities[:, :, 1])


def test_the_channels_of_a_softmax_answer_one_question():
    logits = torch.tensor([[0.5, -3.0, 1.0]])

    probabilities = answer_probabilities(logits, SOFTMAX)

    assert probabilities.shape == (1, 1, 3)
    assert torch.allclose(channel_probabilities(probabilities, SOFTMAX), logits.double().softmax(1))


@pytest.mark.parametrize(
    ("labels", "activation", "message"),
    [
        (torch.tensor([0, 1, 2]), SIGMOID, "labels run from 0 to 2, expected 0 to 1"),
        (torch.tensor([0, 1]), SIGMOID, r"expected whole numbers \[3, 1\]"),
        (torch.tensor([0.0, 1.0, 1.0]), SIGMOID, "torch.float32"),
        (torch.tensor([0, 1, 1]), SOFTMAX, "with the channels that a softmax needs"),
    ],
)
def test_labels_that_do_not_fit_the_logits_are_refused(labels, activation, message):
    with pytest.raises(MeasureError, match=message):
        fit_temperature(torch.tensor([[0.5], [1.0], [-1.0]]), labels, activation)


def test_the_temperature_of_equal_odds_is_solved_on_paper():
    # Three of four cases of logit 2 are true: the odds are 3, and 2 / T must be log 3.
    logits, labels = torch.full((4, 1), 2.0), torch.tensor([1, 1, 0, 1])

    temperature = fit_temperature(logits, labels, SIGMOID)

    assert temperature == pytest.approx(2 / math.log(3), rel=1e-9)


@pytest.mark.parametrize(("activation", "channels"), [(SIGMOID, 1), (SIGMOID, 3), (SOFTMAX, 4)])
@pytest.mark.parametrize("too_sure", [0.01, 3.0, 1000.0])
def test_a_model_that_is_too_sure_by_a_factor_gets_it_back(activation, channels, too_sure):
    logits, labels = cases(activation, channels=channels, too_sure=too_sure)

    temperature = fit_temperature(logits, labels, activation)

    assert temperature == pytest.approx(too_sure, rel=0.05)


def test_the_bias_of_equal_odds_is_solved_on_paper():
    # Of logit 1 three of four are true, of logit -1 one of two: s + b = log 3, b = s. Two odds
    # leave the second slope open: then it is the first.
    logits = torch.tensor([[1.0]] * 4 + [[-1.0]] * 2)
    labels = torch.tensor([1, 1, 0, 1, 0, 1])

    fitted = fit_calibration(logits, labels, SIGMOID)

    assert fitted.slopes == pytest.approx((math.log(3) / 2,) * 2, rel=1e-9)
    assert fitted.biases.tolist() == [pytest.approx(math.log(3) / 2, rel=1e-9)]


def test_the_slopes_of_three_odds_are_solved_on_paper():
    # One of two is true of logit 0, three of four of a far yes, one of ten of a far no.
    far = 50.0
    logits = torch.tensor([[0.0]] * 2 + [[far]] * 4 + [[-far]] * 10)
    labels = torch.tensor([0, 1, 0, 1, 1, 1] + [1] + [0] * 9)

    fitted = fit_calibration(logits, labels, SIGMOID)

    # log((1 + exp 50) / 2) is 50 - log 2, of -50 it is - log 2.
    def bent(no, yes):
        low, high = -math.log(2), far - math.log(2)
        return yes * high - no * low, yes * low - no * high

    assert fitted.temperature is None
    assert fitted.biases.tolist() == [pytest.approx(0.0, abs=1e-5)]
    assert bent(*fitted.slopes) == pytest.approx((math.log(3), -math.log(9)), rel=1e-5)
    odds = fitted.probabilities(logits, SIGMOID)[:, 0, 1]
    assert odds[[0, 2, 6]].tolist() == pytest.approx([0.5, 0.75, 0.1], rel=1e-5)


def test_a_firm_no_that_is_too_sure_and_a_yes_that_is_not_sure_enough_are_both_mended():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    slopes = torch.where(logits < 0, 0.5, 2.0)
    labels = (torch.rand(logits.shape, generator=generator) < (slopes * logits).sigmoid()).long()
    seen, held_back = (logits[::2], labels[::2]), (logits[1::2], labels[1::2])

    fitted = fit_calibration(*seen, SIGMOID)

    no, yes = fitted.slopes
    assert no < 0.7 < 1.6 < yes
    claims = confidences_of(fitted.probabilities(held_back[0], SIGMOID), held_back[1], SIGMOID)
    # Of one temperature for both sides as much is left as a third of the error before.
    one = error_of(*held_back, SIGMOID, fit_temperature(*seen, SIGMOID))
    assert calibration_error(even_bins(*claims)) < min(0.02, 0.5 * one)


def test_a_higher_logit_is_never_made_less_likely():
    # True in the middle: below the greatest likelihood would lie a yes whose slope falls.
    logits = torch.linspace(-5.0, 5.0, 41, dtype=torch.float64)[:, None]
    labels = ((logits > 0) & (logits < 4)).long()

    fitted = fit_calibration(logits, labels, SIGMOID)

    found = fitted.probabilities(logits, SIGMOID)[:, 0, 1]
    assert fitted.slopes[1] == 0.0 < fitted.slopes[0]
    assert bool((found.diff() >= 0).all())


def test_channels_share_slopes_and_have_a_bias_each():
    logits, labels = cases(SIGMOID, channels=3)
    moved = 5.0 * logits + torch.tensor([10.0, 0.0, -5.0])

    fitted = fit_calibration(moved, labels, SIGMOID)

    assert fitted.slopes == pytest.approx((0.2, 0.2), rel=0.1)
    assert fitted.biases.tolist() == pytest.approx([-2.0, 0.0, 1.0], abs=0.15)
    honest = torch.softmax(answer_logits(logits, SIGMOID), dim=2)
    assert torch.allclose(fitted.probabilities(moved, SIGMOID), honest, atol=0.05)


def test_a_channel_that_was_never_true_gets_no_bias():
    logits, labels = cases(SIGMOID, channels=2)
    labels[:, 1] = 0

    fitted = fit_calibration(logits, labels, SIGMOID)

    assert fitted.biases[0] != 0.0
    assert fitted.biases[1] == 0.0


def test_classes_get_a_temperature_alone_and_keep_their_order():
    logits, labels = cases(SOFTMAX, channels=4, too_sure=3.0)

    fitted = fit_calibration(logits, labels, SOFTMAX)

    assert fitted.temperature == pytest.approx(fit_temperature(logits, labels, SOFTMAX), rel=1e-15)
    assert fitted.biases.tolist() == [0.0] * 4
    found = fitted.probabilities(logits, SOFTMAX)
    assert torch.equal(found[:, 0].argmax(dim=1), logits.argmax(dim=1))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([2.0, 3.0, 5.0, 7.0], [0, 0, 1, 1], "all 4 cases are answered rightly"),
        ([2.0, 3.0, 5.0, 7.0], [1, 1, 0, 0], "tells nothing"),
        ([2.0, 3.0, 5.0, 7.0], [1, 1, 1, 1], "tells nothing"),
    ],
)
def test_cases_that_no_slopes_and_bias_fit_best_are_refused(logits, labels, message):
    with pytest.raises(CalibrationError, match=message):
        fit_calibration(torch.tensor(logits)[:, None], torch.tensor(labels), SIGMOID)


def test_no_other_temperature_makes_the_labels_likelier():
    logits, labels = cases(SOFTMAX, count=200, channels=3, too_sure=2.5)

    best = fit_temperature(logits, labels, SOFTMAX)

    losses = [
        torch.nn.functional.cross_entropy(logits / temperature, labels).item()
        for temperature in (0.99 * best, best, 1.01 * best)
    ]
    assert min(losses) == losses[1]


def test_what_chance_explains_is_no_error_and_the_rest_is_solved_on_paper():
    claimed = np.full(100, 0.5)
    some, half = np.arange(100) < 60, np.arange(100) < 50

    # 60 of 100 where 50 % are claimed: .1 squared, less .24 / 99.
    assert calibration_error_beyond_chance(even_bins(claimed, some)) == pytest.approx(
        math.sqrt(0.01 - 0.24 / 99)
    )
    assert calibration_error_beyond_chance(even_bins(claimed, half)) == 0.0
    assert calibration_error_beyond_chance(even_bins(claimed[:1], some[:1])) == 0.0


def test_an_honest_model_has_less_error_beyond_chance_than_a_crooked_one_of_any_size():
    rng = np.random.default_rng(0)
    honest, crooked = [], []
    for _ in range(200):
        claimed = rng.random(200)
        drawn = rng.random(200)
        honest.append(calibration_error_beyond_chance(adaptive_bins(claimed, drawn < claimed)))
        crooked.append(calibration_error_beyond_chance(adaptive_bins(claimed, drawn < claimed**2)))

    # Mean square of x - x * x over [0, 1] is 1 / 30.
    assert np.mean(np.square(crooked)) == pytest.approx(1 / 30, rel=0.1)
    assert np.median(honest) < 0.03


@pytest.mark.parametrize(("activation", "channels"), [(SIGMOID, 1), (SOFTMAX, 4)])
def test_scaling_halves_the_error_on_cases_that_it_has_not_seen(activation, channels):
    seen = cases(activation, channels=channels, too_sure=3.0)
    held_back = cases(activation, channels=channels, too_sure=3.0, seed=1)

    temperature = fit_temperature(*seen, activation)

    before = error_of(*held_back, activation)
    after = error_of(*held_back, activation, temperature)
    assert after <= 0.5 * before


def test_cases_that_no_temperature_fits_best_are_refused():
    logits = torch.tensor([[2.0], [-1.0], [0.5]])

    with pytest.raises(CalibrationError, match="all 3 cases are answered rightly"):
        fit_temperature(logits, torch.tensor([1, 0, 1]), SIGMOID)
    with pytest.raises(CalibrationError, match="tells nothing"):
        fit_temperature(logits, torch.tensor([0, 1, 0]), SIGMOID)
    with pytest.raises(CalibrationError, match="in 0 cases"):
        fit_temperature(logits[:0], torch.tensor([], dtype=torch.int64), SIGMOID)


def test_even_bins_are_counted_on_paper():
    confidences = np.array([0.0, 0.2, 0.25, 0.5, 0.74, 1.0])
    outcomes = np.array([False, True, False, True, True, True])

    bins = even_bins(confidences, outcomes, count=4)

    assert [each.count for each in bins] == [2, 1, 2, 1]
    assert [each.frequency for each in bins] == [0.5, 0.0, 1.0, 1.0]
    assert [each.confidence for each in bins] == pytest.approx([0.1, 0.25, 0.62, 1.0])
    assert [each.low for each in bins] == [0.0, 0.25, 0.5, 0.75]
    # (2 x .4 + 1 x .25 + 2 x .38 + 0) / 6
    assert calibration_error(bins) == pytest.approx(1.81 / 6)


def test_adaptive_bins_hold_as_many_cases_each_and_never_part_equals():
    even = adaptive_bins(np.linspace(0.5, 0.9, 8), np.ones(8, bool), count=4)
    tied = adaptive_bins(np.array([0.3] + [0.9] * 7), np.ones(8, bool), count=4)
    alike = adaptive_bins(np.full(8, 0.9), np.ones(8, bool), count=4)

    assert [each.count for each in even] == [2, 2, 2, 2]
    assert sum(each.count for each in tied) == 8
    assert max(each.count for each in tied) >= 7
    assert [(each.count, each.confidence) for each in alike] == [(8, pytest.approx(0.9))]
    assert calibration_error(alike) == pytest.approx(0.1)


def test_claims_that_are_no_probabilities_are_refused():
    with pytest.raises(MeasureError, match="from 0 to 1"):
        even_bins(np.array([0.5, 1.5]), np.array([True, False]))
    with pytest.raises(MeasureError, match="at least one case"):
        adaptive_bins(np.array([]), np.array([], bool))


def test_the_error_is_that_of_torchmetrics():
    logits, labels = cases(SIGMOID, count=500)
    many, classes = cases(SOFTMAX, count=500, channels=5, too_sure=2.0)

    peer = binary_calibration_error(torch.sigmoid(logits[:, 0]), labels[:, 0], n_bins=15)
    peer_of_many = multiclass_calibration_error(many.softmax(1), classes, 5, n_bins=15)

    assert error_of(logits, labels, SIGMOID) == pytest.approx(peer.item(), abs=1e-6)
    assert error_of(many, classes, SOFTMAX) == pytest.approx(peer_of_many.item(), abs=1e-6)


def test_brier_scores_are_counted_on_paper():
    yes = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]], dtype=torch.float64)
    right = torch.tensor([[1], [1]])

    assert brier_score(yes, right, SIGMOID) == pytest.approx((0.04 + 0.36) / 2)
    assert brier_score(yes, right, SOFTMAX) == pytest.approx(0.04 + 0.36)


def test_brier_scores_are_those_of_sklearn():
    logits, labels = cases(SIGMOID, count=300)
    many, classes = cases(SOFTMAX, count=300, channels=4)

    ours = brier_score(answer_probabilities(logits, SIGMOID), labels, SIGMOID)
    of_many = brier_score(answer_probabilities(many, SOFTMAX), classes[:, None], SOFTMAX)

    assert ours == pytest.approx(brier_score_loss(labels[:, 0], torch.sigmoid(logits[:, 0])))
    peer = brier_score_loss(classes, many.softmax(1), labels=range(4), scale_by_half=False)
    assert of_many == pytest.approx(peer)
