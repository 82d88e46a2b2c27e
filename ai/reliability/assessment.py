"""What was fitted to one model, and what it says of a new image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ai.errors import CalibrationError, ReliabilityError
from ai.reliability.answers import Activation, answers_of, channel_probabilities
from ai.reliability.calibration import Calibration, fit_calibration
from ai.reliability.conformal import ConformalRule, Score, fit_conformal, is_single
from ai.reliability.out_of_distribution import (
    FeatureModel,
    crossed_distances,
    energies,
    familiar_limit,
    fit_features,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cases:
    """What a model said of images whose diagnosis is known, none of which it was trained on."""

    #: float [N, K].
    logits: Tensor
    #: As in ``answers_of``.
    labels: Tensor
    #: float [N, D], as ``ExplainSession.features`` returns them.
    features: Tensor
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessment:
    """How far the diagnosis of each of B images can be trusted."""

    #: float64 [B, K], calibrated: of each output channel.
    probabilities: Tensor
    #: bool [B, Q, A]: the answers to each question that cannot be ruled out.
    sets: Tensor
    #: float64 [B].
    energy: Tensor
    #: float64 [B], in standard deviations.
    distance: Tensor
    #: bool [B]: whether neither exceeds its limit.
    in_distribution: Tensor

    @property
    def is_single(self) -> Tensor:
        """Whether one answer remains to each question, bool [B, Q]."""
        return is_single(self.sets)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """Everything that was fitted to one model's weights."""

    #: Of the weights that it belongs to, hex.
    weights_sha256: str
    activation: Activation
    #: Output channels of the network.
    channels: int
    #: Images that it was fitted on.
    cases: int
    calibration: Calibration
    conformal: ConformalRule
    features: FeatureModel
    #: An image with a higher energy is strange.
    energy_limit: float
    #: An image farther away is strange.
    distance_limit: float

    @property
    def temperature(self) -> float | None:
        """Of the calibration; None where it has none."""
        return self.calibration.temperature

    def assess(self, logits: Tensor, features: Tensor) -> Assessment:
        """Return what is to be thought of the network's answers.

        Parameters
        ----------
        logits
            float [B, K], as the network returned them.
        features
            float [B, D], of the same pass.

        Raises
        ------
        ReliabilityError
            If they are not of the widths that it was fitted to.
        """
        widths = (self.channels, self.features.means.shape[1])
        if logits.shape[1:] != widths[:1] or features.shape != (len(logits), widths[1]):
            raise ReliabilityError(
                f"logits {tuple(logits.shape)} and features {tuple(features.shape)} do not fit "
                f"what was fitted to [B, {widths[0]}] and [B, {widths[1]}]: validate the model "
                "again"
            )
        answers = self.calibration.probabilities(logits, self.activation)
        energy = energies(logits, self.activation)
        distance = self.features.distances(features)
        return Assessment(
            probabilities=channel_probabilities(answers, self.activation),
            sets=self.conformal.sets(answers),
            energy=energy,
            distance=distance,
            in_distribution=(energy <= self.energy_limit) & (distance <= self.distance_limit),
        )


def fit_reliability(
    cases: Cases,
    *,
    weights_sha256: str,
    level: float = 0.9,
    score: Score = Score.LAC,
    accepted: float = 0.99,
) -> Reliability:
    """Return all that can be fitted to a model from its answers to known cases.

    Parameters
    ----------
    cases
        Drawn like the images to come.
    weights_sha256
        Of the weights that gave the answers, hex.
    level
        Share of images whose set of answers shall hold the right one, 0 to 1.
    score
        How unfit an answer is.
    accepted
        Share of familiar images that shall not exceed the limit of energy, and of distance.

    Raises
    ------
    CalibrationError
        If the cases do not determine what is to be fitted.
    MeasureError
        If logits, labels and features do not fit each other.

    Notes
    -----
    The same cases serve all: a temperature, or two slopes and a bias for each channel of a sigmoid,
    are so few numbers that they cost the sets next to nothing of their promise.
    """
    if len(cases.features) != len(cases.logits):
        raise CalibrationError(
            f"{len(cases.features)} features of {len(cases.logits)} images: expected one of each"
        )
    right = answers_of(cases.labels, cases.logits, cases.activation)
    calibration = fit_calibration(cases.logits, cases.labels, cases.activation)
    answers = calibration.probabilities(cases.logits, cases.activation)
    # Features have one class each; several findings side by side are no classes.
    classes = right[:, 0] if right.shape[1] == 1 else torch.zeros(len(right), dtype=torch.int64)
    return Reliability(
        weights_sha256=weights_sha256,
        activation=cases.activation,
        channels=cases.logits.shape[1],
        cases=len(right),
        calibration=calibration,
        conformal=fit_conformal(answers, right, level=level, score=score),
        features=fit_features(cases.features, classes),
        energy_limit=familiar_limit(energies(cases.logits, cases.activation), accepted),
        distance_limit=familiar_limit(crossed_distances(cases.features, classes), accepted),
    )
