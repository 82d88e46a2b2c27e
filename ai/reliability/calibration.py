"""Whether a probability of 80 % is right in 80 % of cases, and the one number that mends it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from ai.errors import CalibrationError, MeasureError
from ai.reliability.answers import Activation, answer_logits, answers_of

#: Bins of a reliability diagram, as Guo et al. 2017 have them.
BINS = 15
#: No inverse temperature is sought beyond 2 to this power.
_DOUBLINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Cases of like confidence: one bar of a reliability diagram."""

    #: Confidences from ``low`` up to, but only in the last bin including, ``high``.
    low: float
    high: float
    #: How many cases; a bin without any has 0 in what follows.
    count: int
    #: Mean confidence of these cases, 0 to 1.
    confidence: float
    #: Share of these cases that came true, 0 to 1.
    frequency: float


def fit_temperature(logits: Tensor, labels: Tensor, activation: Activation) -> float:
    """Return the temperature that makes the labels most likely (Guo et al. 2017).

    Divided by it, the logits keep their order and every image its answer: only the confidence
    changes. Of a sigmoid with several channels it is the same for all.

    Parameters
    ----------
    logits
        float [N, K], of images that the network was not trained on.
    labels
        As in ``answers_of``.
    activation
        How the output is read.

    Raises
    ------
    CalibrationError
        If no temperature is the best: where every answer is right the coldest is, where the
        answers are no better than chance the hottest.
    MeasureError
        If labels and logits do not fit.

    Notes
    -----
    The likelihood is concave in the inverse temperature b, so that its only summit is where its
    slope, mean(logit of the right answer) - mean(expected logit at b), is 0: a search on one axis
    between two bounds, without a start or a step size to choose.
    """
    answers = answer_logits(logits, activation)
    right = answers_of(labels, logits, activation)[:, :, None]
    chosen = answers.gather(2, right)[:, :, 0]

    def excess(inverse: float) -> float:
        expected = (torch.softmax(inverse * answers, dim=2) * answers).sum(dim=2)
        return float((expected - chosen).mean())

    cases = right.numel()
    if cases == 0 or excess(0.0) >= 0.0:
        raise CalibrationError(
            f"in {cases} cases the right answer has no higher logit than the others have on "
            "average: the model tells nothing that a temperature could scale"
        )
    if bool((chosen == answers.amax(dim=2)).all()):
        raise CalibrationError(
            f"all {cases} cases are answered rightly, so that any lower temperature fits better; "
            "calibrate on cases among which the model makes mistakes"
        )
    high = next(2.0**power for power in range(_DOUBLINGS) if excess(2.0**power) >= 0.0)
    return 1.0 / float(brentq(excess, 0.0, high, xtol=1e-300, rtol=1e-12))


def confidences_of(
    probabilities: Tensor, right: Tensor, activation: Activation
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what the model claims, and whether it came true, each of N Q cases.

    Of a sigmoid the claim is a yes; of a softmax it is the most probable class.

    Parameters
    ----------
    probabilities
        [N, Q, A], as ``answer_probabilities`` returns them.
    right
        int64 [N, Q], as ``answers_of`` returns them.
    activation
        How the output is read.
    """
    if activation is Activation.SIGMOID:
        claimed, true = probabilities[:, :, 1], right == 1
    else:
        claimed, answer = probabilities.max(dim=2)
        true = answer == right
    return claimed.flatten().numpy(), true.flatten().numpy()


def even_bins(
    confidences: NDArray[np.floating], outcomes: NDArray[np.bool_], *, count: int = BINS
) -> tuple[Bin, ...]:
    """Return bins of equal width from 0 to 1, those without cases among them.

    Parameters
    ----------
    confidences
        [N], 0 to 1.
    outcomes
        bool [N]: whether what was claimed came true.
    count
        How many bins.

    Raises
    ------
    MeasureError
        If there are no cases, the two differ in length, or a confidence is no probability.
    """
    return _binned(confidences, outcomes, np.linspace(0.0, 1.0, count + 1))


def adaptive_bins(
    confidences: NDArray[np.floating], outcomes: NDArray[np.bool_], *, count: int = BINS
) -> tuple[Bin, ...]:
    """Return bins of about as many cases each (Nguyen and O'Connor 2015).

    Cases of the same confidence are never parted: where many share one, there are fewer bins.
    Parameters and errors as in ``even_bins``.
    """
    _require_claims(confidences, outcomes)
    edges = np.quantile(np.asarray(confidences, np.float64), np.linspace(0, 1, count + 1))
    edges = np.unique(edges)
    return _binned(confidences, outcomes, edges if len(edges) > 1 else np.repeat(edges, 2))


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error, 0 (best) to 1 (Naeini et al. 2015).

    The distance between confidence and frequency, averaged over the cases. It is never 0 for few
    cases in a bin, however honest the model: compare errors of like numbers of cases and bins.
    """
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.frequency - each.confidence) for each in bins) / total


def brier_score(probabilities: Tensor, right: Tensor, activation: Activation) -> float:
    """Return the mean squared error of the probabilities (Brier 1950); 0 is best.

    Of a sigmoid it is that of the yes, at most 1; of a softmax it is summed over all classes, as
    the paper has it, at most 2. Parameters as in ``confidences_of``.
    """
    truth = torch.nn.functional.one_hot(right, probabilities.shape[2]).to(probabilities)
    squares = (probabilities - truth).square()
    each = squares[:, :, 1] if activation is Activation.SIGMOID else squares.sum(dim=2)
    return float(each.mean())


def _binned(
    confidences: NDArray[np.floating], outcomes: NDArray[np.bool_], edges: NDArray[np.float64]
) -> tuple[Bin, ...]:
    _require_claims(confidences, outcomes)
    claimed = np.asarray(confidences, np.float64)
    last = len(edges) - 2
    index = np.clip(np.searchsorted(edges, claimed, side="right") - 1, 0, last)
    counts = np.bincount(index, minlength=last + 1)
    sums = np.bincount(index, weights=claimed, minlength=last + 1)
    hits = np.bincount(index, weights=np.asarray(outcomes, np.float64), minlength=last + 1)
    return tuple(
        Bin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            count=int(counts[at]),
            confidence=float(sums[at] / max(1, counts[at])),
            frequency=float(hits[at] / max(1, counts[at])),
        )
        for at in range(last + 1)
    )


def _require_claims(confidences: NDArray[np.floating], outcomes: NDArray[np.bool_]) -> None:
    if confidences.ndim != 1 or confidences.shape != outcomes.shape or confidences.size == 0:
        raise MeasureError(
            f"confidences {confidences.shape} and outcomes {outcomes.shape}: expected one of each "
            "for at least one case"
        )
    if not bool(((confidences >= 0.0) & (confidences <= 1.0)).all()):
        raise MeasureError("confidences must be probabilities from 0 to 1")
