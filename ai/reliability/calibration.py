"""Whether a probability of 80 % is right in 80 % of cases, and the few numbers that mend it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit
from torch import Tensor

from ai.errors import CalibrationError, MeasureError
from ai.reliability.answers import Activation, answer_logits, answers_of

#: Bins of a reliability diagram, as Guo et al. 2017 have them.
BINS = 15
#: No inverse temperature is sought beyond 2 to this power.
_DOUBLINGS = 60
_TELLS_NOTHING = (
    "in {cases} cases the right answer has no higher logit than the others have on average: the "
    "model tells nothing that a temperature could scale"
)
_ALL_RIGHT = (
    "all {cases} cases are answered rightly, so that any lower temperature fits better; calibrate "
    "on cases among which the model makes mistakes"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What turns logits z into probabilities that can be believed: z / temperature + bias."""

    temperature: float
    #: float64 [K], of each output channel; all 0 of a softmax.
    biases: Tensor

    def probabilities(self, logits: Tensor, activation: Activation) -> Tensor:
        """Return the probability of each answer, float64 [N, Q, A], of logits [N, K].

        Raises
        ------
        MeasureError
            As ``answer_logits``.
        """
        exact = logits.detach().to("cpu", torch.float64)
        scaled = exact / self.temperature + self.biases
        return torch.softmax(answer_logits(scaled, activation), dim=2)


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


def fit_calibration(logits: Tensor, labels: Tensor, activation: Activation) -> Calibration:
    """Return what makes the labels most likely: a temperature, of a sigmoid with biases.

    A yes or no has a cut between them, and a network whose cut lies wrong is not mended by any
    temperature: it leaves the logit 0 at 50 %. So each channel of a sigmoid gets a bias beside the
    temperature that all share, which for a single channel is Platt's (1999) scaling. The classes of
    a softmax get none: their order, and with it every answer, stays what it was (Guo et al. 2017).

    Parameters
    ----------
    logits, labels, activation
        As in ``fit_temperature``. A channel whose labels are all alike keeps a bias of 0: they do
        not say where its cut belongs.

    Raises
    ------
    CalibrationError
        As ``fit_temperature``; also if some cut parts the cases of every channel without a mistake.
    MeasureError
        If labels and logits do not fit.
    """
    if activation is Activation.SOFTMAX:
        temperature = fit_temperature(logits, labels, activation)
        biases = torch.zeros(logits.shape[1], dtype=torch.float64)
        return Calibration(temperature=temperature, biases=biases)
    return _fit_platt(logits, answers_of(labels, logits, activation))


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
        raise CalibrationError(_TELLS_NOTHING.format(cases=cases))
    if bool((chosen == answers.amax(dim=2)).all()):
        raise CalibrationError(_ALL_RIGHT.format(cases=cases))
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


def calibration_error_beyond_chance(bins: Sequence[Bin]) -> float:
    """Return the root mean squared calibration error that chance does not explain, 0 (best) to 1.

    Even where every probability is true, the frequency f in a bin of n cases misses it by a square
    of f (1 - f) / (n - 1) on average, which is subtracted (Kumar et al. 2019); below 0 it is 0. So
    errors before and after scaling can be compared, where ``calibration_error`` has a floor. Bins
    of like numbers of cases suit it best; one of a single case says nothing, and is left out.
    """
    told = [each for each in bins if each.count > 1]
    squares = (
        (each.frequency - each.confidence) ** 2
        - each.frequency * (1 - each.frequency) / (each.count - 1)
        for each in told
    )
    weighed = sum(each.count * square for each, square in zip(told, squares, strict=True))
    return math.sqrt(max(0.0, weighed / max(1, sum(each.count for each in told))))


def brier_score(probabilities: Tensor, right: Tensor, activation: Activation) -> float:
    """Return the mean squared error of the probabilities (Brier 1950); 0 is best.

    Of a sigmoid it is that of the yes, at most 1; of a softmax it is summed over all classes, as
    the paper has it, at most 2. Parameters as in ``confidences_of``.
    """
    truth = torch.nn.functional.one_hot(right, probabilities.shape[2]).to(probabilities)
    squares = (probabilities - truth).square()
    each = squares[:, :, 1] if activation is Activation.SIGMOID else squares.sum(dim=2)
    return float(each.mean())


def _fit_platt(logits: Tensor, right: Tensor) -> Calibration:
    """Return the temperature and the biases of a sigmoid, by Newton's method.

    The likelihood is concave in the inverse temperature and the biases together. Logits are
    measured in their own deviation, so that no step depends on their unit.
    """
    exact = logits.detach().to("cpu", torch.float64).numpy()
    truth = right.numpy().astype(np.float64)
    free = np.flatnonzero((truth.min(axis=0) == 0) & (truth.max(axis=0) == 1))
    _require_mistakes(exact[:, free], truth[:, free])
    unit = float(exact.std()) or 1.0
    # One row for each question of each case: its logit, and a 1 at its channel's bias.
    biased = np.tile(np.eye(exact.shape[1])[:, free], (len(exact), 1))
    design = np.column_stack((exact.ravel() / unit, biased))
    outcome = truth.ravel()

    def loss(weights: NDArray[np.float64]) -> float:
        sums = design @ weights
        return float((np.logaddexp(0.0, sums) - outcome * sums).mean())

    def slope(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(design.T @ (expit(design @ weights) - outcome) / len(outcome))

    def curvature(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        chance = expit(design @ weights)
        return np.asarray((design.T * (chance * (1 - chance))) @ design / len(outcome))

    start = np.zeros(design.shape[1])
    found = minimize(loss, start, jac=slope, hess=curvature, method="trust-exact", tol=1e-12).x
    if found[0] <= 0.0:
        raise CalibrationError(_TELLS_NOTHING.format(cases=truth.size))
    biases = torch.zeros(exact.shape[1], dtype=torch.float64)
    biases[torch.from_numpy(free)] = torch.from_numpy(found[1:])
    return Calibration(temperature=unit / float(found[0]), biases=biases)


def _require_mistakes(logits: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
    """Refuse cases that a cut in each channel parts: any lower temperature would fit better."""
    if truth.size == 0:
        raise CalibrationError(_TELLS_NOTHING.format(cases=len(truth)))
    yes = np.where(truth == 1, logits, np.inf).min(axis=0)
    no = np.where(truth == 0, logits, -np.inf).max(axis=0)
    if bool((yes > no).all()):
        raise CalibrationError(_ALL_RIGHT.format(cases=truth.size))


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
