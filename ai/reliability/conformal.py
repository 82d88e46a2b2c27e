"""Sets of answers that hold the right one as often as was asked: split conformal prediction.

A set of one is a decision, a larger one says which answers the model cannot tell apart. Whatever
the model, the promise holds for images drawn like those that the rule was fitted on, and on average
over them: not for each kind of patient by itself (Vovk et al. 2005).
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from ai.errors import CalibrationError


class Score(StrEnum):
    """How unfit an answer is, by the probabilities of all."""

    #: 1 less its probability (Sadinle et al. 2019). The smallest sets on average; a set is empty
    #: where no answer is as probable as the right ones used to be.
    LAC = "lac"
    #: The probability of all answers that are likelier (Romano et al. 2020). Sets adapt more to how
    #: hard an image is, and are never empty.
    APS = "aps"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConformalRule:
    """Which answers belong to the set."""

    score: Score
    #: Share of images whose set shall hold the right answer, 0 to 1.
    level: float
    #: float64 [Q], the greatest score of an answer in the set; infinite if all are in it.
    limits: Tensor

    def sets(self, probabilities: Tensor) -> Tensor:
        """Return which answers are in the set, bool [N, Q, A], of probabilities [N, Q, A]."""
        return scores_of(probabilities, self.score) <= self.limits[:, None]


def fit_conformal(
    probabilities: Tensor, right: Tensor, *, level: float = 0.9, score: Score = Score.LAC
) -> ConformalRule:
    """Return the rule whose sets hold the right answer in a share ``level`` of images, or more.

    Parameters
    ----------
    probabilities
        [N, Q, A], as ``answer_probabilities`` returns them, of images that the model was not
        trained on.
    right
        int64 [N, Q], as ``answers_of`` returns them.
    level
        Above 0, below 1.
    score
        How unfit an answer is.

    Raises
    ------
    CalibrationError
        If there are no images, or the level is none.

    Notes
    -----
    The limit is the ceil((N + 1) level)-th smallest score of the right answers, which makes the
    promise exact for N images and not only for many. With fewer than level / (1 - level) images
    it is beyond the last: then every answer is in every set.
    """
    if len(right) == 0 or not 0.0 < level < 1.0:
        raise CalibrationError(f"{len(right)} images and a level of {level}: need some, and 0 to 1")
    scores = scores_of(probabilities, score).gather(2, right[:, :, None])[:, :, 0]
    return ConformalRule(score=score, level=level, limits=finite_quantile(scores, level))


def scores_of(probabilities: Tensor, score: Score) -> Tensor:
    """Return how unfit each answer is, [N, Q, A], 0 (fit) to 1.

    Equally probable answers are equally fit. The paper's APS draws a random number for each image,
    to reach the level exactly; here it is 0: the same image shall always have the same set, and the
    level is reached or exceeded.
    """
    if score is Score.LAC:
        return 1.0 - probabilities
    likelier = probabilities[..., None, :] > probabilities[..., :, None]
    return (likelier * probabilities[..., None, :]).sum(dim=3)


def finite_quantile(scores: Tensor, level: float) -> Tensor:
    """Return the ceil((N + 1) level)-th smallest of N scores [N, Q], [Q]; infinite if beyond."""
    count = scores.shape[0]
    rank = math.ceil((count + 1) * level - 1e-9)
    if rank > count:
        return torch.full(scores.shape[1:], math.inf, dtype=scores.dtype)
    return scores.kthvalue(rank, dim=0).values


def is_single(sets: Tensor) -> Tensor:
    """Return whether a set [N, Q, A] holds exactly one answer, bool [N, Q]."""
    return sets.sum(dim=2) == 1


def coverage(sets: Tensor, right: Tensor) -> float:
    """Return the share of sets [N, Q, A] that hold the right answer [N, Q]."""
    return float(sets.gather(2, right[:, :, None]).double().mean())
