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
#: Weight of what draws the slopes of no and yes together: nothing beside what cases say of them,
#: enough to settle what these leave open, as of logits that are all small or of two values.
_ALIKE = 1e-7
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
    """What turns logits z into probabilities that can be believed.

    A logit z counts with one slope on the side of no and another on that of yes: it becomes
    yes l(z) - no l(-z) + bias, with l(z) = log((1 + exp(z)) / 2), which is 0 at 0. Where both
    slopes are alike that is slope z + bias.
    """

    #: Of no, and of yes: neither below 0, one above. Alike of a softmax.
    slopes: tuple[float, float]
    #: float64 [K], of each output channel: what a logit of 0 becomes. All 0 of a softmax.
    biases: Tensor

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by; None where the sides have slopes of their own."""
        no, yes = self.slopes
        return 1.0 / yes if no == yes else None

    def probabilities(self, logits: Tensor, activation: Activation) -> Tensor:
        """Return the probability of each answer, float64 [N, Q, A], of logits [N, K].

        Raises
        ------
        MeasureError
            As ``answer_logits``.
        """
        exact = logits.detach().to("cpu", torch.float64)
        no, yes = self.slopes
        # The same with one logarithm, of which like slopes leave nothing, not even rounding.
        bend = torch.logaddexp(-exact, torch.zeros_like(exact)) - math.log(2.0)
        scaled = yes * exact + (yes - no) * bend + self.biases
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
    """Return what makes the labels most likely: a temperature, of a sigmoid two slopes and biases.

    A yes or no has a cut between them, and a network whose cut lies wrong is not mended by any
    temperature: it leaves the logit 0 at 50 %. So each channel of a sigmoid gets a bias. And a
    network may be too sure of its no and not sure enough of its yes, as one is that has a firmest
    no but no firmest yes: so no and yes have a slope each, which all channels share. For a single
    channel that is beta calibration (Kull et al. 2017); Platt's (1999) scaling has one slope for
    both. The classes of a softmax get a temperature alone: their order, and with it every answer,
    stays what it was (Guo et al. 2017).

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
        return Calibration(slopes=(1.0 / temperature,) * 2, biases=biases)
    return _fit_beta(logits, answers_of(labels, logits, activation))


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


def _fit_beta(logits: Tensor, right: Tensor) -> Calibration:
    """Return the slopes and biases of a sigmoid; logits are measured in their own deviation."""
    exact = logits.detach().to("cpu", torch.float64).numpy()
    truth = right.numpy().astype(np.float64)
    free = np.flatnonzero((truth.min(axis=0) == 0) & (truth.max(axis=0) == 1))
    _require_mistakes(exact[:, free], truth[:, free])
    unit = float(exact.std()) or 1.0
    # One row for each question of each case: what each slope counts, and a 1 at the channel's bias.
    signs = np.array([-1.0, 1.0])
    sides = signs * (np.logaddexp(0.0, np.outer(exact.ravel(), signs)) - math.log(2.0))
    biased = np.tile(np.eye(exact.shape[1])[:, free], (len(exact), 1))
    slopes, found = _most_likely_slopes(sides / unit, biased, truth.ravel())
    biases = torch.zeros(exact.shape[1], dtype=torch.float64)
    biases[torch.from_numpy(free)] = torch.from_numpy(found)
    return Calibration(slopes=(float(slopes[0]) / unit, float(slopes[1]) / unit), biases=biases)


def _most_likely_slopes(
    sides: NDArray[np.float64], biased: NDArray[np.float64], outcome: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the two slopes, neither below 0, and the biases.

    The likelihood is concave. So where its summit has a slope below 0, the best that is allowed
    has one of 0: it is the summit of one of the sides alone.
    """
    _, like = _summit(sides, biased, outcome, np.ones((2, 1)))
    if like[0] <= 0.0:
        raise CalibrationError(_TELLS_NOTHING.format(cases=len(outcome)))
    both, no, yes = np.eye(2), np.eye(2)[:, :1], np.eye(2)[:, 1:]
    summits = [_summit(sides, biased, outcome, varied) for varied in (both, no, yes)]
    allowed = [each for each in summits if each[1][:2].min() >= 0.0]
    _, weights = min(allowed, key=lambda each: each[0])
    return weights[:2], weights[2:]


def _summit(
    sides: NDArray[np.float64],
    biased: NDArray[np.float64],
    outcome: NDArray[np.float64],
    varied: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """Return the least loss, and its slopes and biases, by Newton's method.

    Parameters
    ----------
    sides, biased
        [N, 2] and [N, K], one row for each answer.
    outcome
        [N]: 1 for yes.
    varied
        [2, V]: the slopes of each number that is varied.
    """
    design = np.column_stack((sides @ varied, biased))
    apart = np.zeros((design.shape[1], design.shape[1]))
    difference = varied[1] - varied[0]
    apart[: len(difference), : len(difference)] = _ALIKE * np.outer(difference, difference)

    def loss(weights: NDArray[np.float64]) -> float:
        sums = design @ weights
        fit = float((np.logaddexp(0.0, sums) - outcome * sums).mean())
        return fit + float(weights @ apart @ weights) / 2

    def slope(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        pull = design.T @ (expit(design @ weights) - outcome) / len(outcome)
        return np.asarray(pull + apart @ weights)

    def curvature(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        chance = expit(design @ weights)
        return np.asarray((design.T * (chance * (1 - chance))) @ design / len(outcome) + apart)

    start = np.zeros(design.shape[1])
    found = minimize(loss, start, jac=slope, hess=curvature, method="trust-exact", tol=1e-12)
    width = varied.shape[1]
    slopes = varied @ found.x[:width]
    return float(found.fun), np.concatenate((slopes, found.x[width:]))


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
