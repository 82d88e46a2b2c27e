import math

import pytest
import torch

from ai.errors import CalibrationError
from ai.reliability.conformal import (
    Score,
    coverage,
    finite_quantile,
    fit_conformal,
    is_single,
    scores_of,
)

ONE = torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64)


def drawn(count, answers, *, seed, questions=1):
    """Probabilities and right answers drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, questions, answers, generator=generator, dtype=torch.float64)
    probabilities = logits.softmax(2)
    right = torch.multinomial(probabilities.flatten(0, 1), 1, generator=generator)
    return probabilities, right.reshape(count, questions)


def test_an_answer_is_unfit_by_what_it_lacks_or_by_what_is_likelier():
    assert scores_of(ONE, Score.LAC)[0, 0].tolist() == pytest.approx([0.5, 0.7, 0.8])
    assert scores_of(ONE, Score.APS)[0, 0].tolist() == pytest.approx([0.0, 0.5, 0.8])


def test_equally_probable_answers_are_equally_fit():
    tied = torch.tensor([[[0.4, 0.2, 0.4]]], dtype=torch.float64)

    assert scores_of(tied, Score.APS)[0, 0].tolist() == pytest.approx([0.0, 0.8, 0.0])


def test_the_limit_is_the_score_whose_rank_counts_the_image_to_come():
    scores = torch.tensor([[0.4], [0.1], [0.3], [0.2]], dtype=torch.float64)

    assert finite_quantile(scores, 0.5).tolist() == [0.3]
    assert finite_quantile(scores, 0.8).tolist() == [0.4]
    assert finite_quantile(scores, 0.81).tolist() == [math.inf]
    # 20 x .95 is 19, not a little more.
    assert finite_quantile(torch.arange(19.0)[:, None], 0.95).tolist() == [18.0]


def test_sets_are_read_off_the_limit():
    # Right answers that lack .1, .2, .3, .4: three of five ranks leave .3.
    lacking = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    probabilities = torch.stack((1 - lacking, lacking), dim=1)[:, None]
    right = torch.zeros(4, 1, dtype=torch.int64)

    rule = fit_conformal(probabilities, right, level=0.6)
    sure = torch.tensor([[[0.75, 0.25]], [[0.6, 0.4]], [[0.2, 0.8]]], dtype=torch.float64)

    assert rule.limits.tolist() == pytest.approx([0.3])
    assert rule.sets(sure)[:, 0].tolist() == [[True, False], [False, False], [False, True]]
    assert is_single(rule.sets(sure))[:, 0].tolist() == [True, False, True]


def test_too_few_images_leave_every_answer_in_the_set():
    rule = fit_conformal(*drawn(8, 3, seed=0), level=0.9)

    assert rule.sets(ONE).all()


@pytest.mark.parametrize("score", list(Score))
@pytest.mark.parametrize("answers", [2, 5])
def test_sets_hold_the_right_answer_as_often_as_asked(score, answers):
    rule = fit_conformal(*drawn(2000, answers, seed=0), level=0.9, score=score)
    probabilities, right = drawn(8000, answers, seed=1)

    held = coverage(rule.sets(probabilities), right)

    assert held == pytest.approx(0.9, abs=0.02)


def test_the_promise_is_kept_on_average_however_few_the_images():
    held = []
    for seed in range(400):
        probabilities, right = drawn(20 + 50, 3, seed=seed)
        rule = fit_conformal(probabilities[:20], right[:20], level=0.8)
        held.append(coverage(rule.sets(probabilities[20:]), right[20:]))

    # With 20 images the promise is between .8 and .8 + 1 / 21.
    assert 0.79 <= sum(held) / len(held) <= 0.86


def test_sets_by_what_is_likelier_are_never_empty():
    rule = fit_conformal(*drawn(500, 2, seed=0), level=0.6, score=Score.APS)

    sets = rule.sets(drawn(500, 2, seed=1)[0])

    assert sets.any(dim=2).all()


def test_each_question_has_its_own_limit():
    easy, hard = drawn(200, 2, seed=0), drawn(200, 2, seed=1)
    sharp = torch.nn.functional.one_hot(easy[1][:, 0], 2).double()[:, None] * 0.98 + 0.01

    rule = fit_conformal(torch.cat((sharp, hard[0]), 1), torch.cat((easy[1], hard[1]), 1))

    assert rule.limits[0].item() == pytest.approx(0.01)
    assert rule.limits[1] > 0.5


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(CalibrationError, match="need some, and 0 to 1"):
        fit_conformal(*drawn(20, 2, seed=0), level=level)
