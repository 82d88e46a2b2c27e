"""Whether an image is like those that the model knows: by its logits, and by its features."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ai.errors import CalibrationError
from ai.reliability.answers import Activation, answer_logits
from ai.reliability.conformal import finite_quantile

#: Parts in which a distance is asked of statistics that the image itself is no part of.
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureModel:
    """Where the features of familiar images lie: a mean for each class, one spread for all."""

    #: float64 [C, D].
    means: Tensor
    #: float64 [D, D], symmetric: the inverse of the covariance within classes.
    precision: Tensor

    def distances(self, features: Tensor) -> Tensor:
        """Return the Mahalanobis distance to the nearest mean, float64 [N] (Lee et al. 2018).

        In standard deviations: of a familiar image it is about the square root of D.

        Parameters
        ----------
        features
            float [N, D].
        """
        apart = features.detach().to("cpu", torch.float64)[:, None] - self.means
        squares = torch.einsum("ikd,de,ike->ik", apart, self.precision, apart)
        return squares.clamp(min=0).sqrt().amin(dim=1)


def energies(logits: Tensor, activation: Activation) -> Tensor:
    """Return the energy of each image, float64 [N]: high where no answer is held strongly.

    Of a softmax it is - log sum exp of the logits (Liu et al. 2020). Of a sigmoid the paper has
    none. Here a yes or no has two logits, -z / 2 and z / 2 (see ``answer_logits``), so that its
    energy is - log(2 cosh(z / 2)): greatest where the network is undecided, and the same for a
    firm no as for a firm yes. The energies of several channels are added, as Wang et al. 2021 do;
    their - log(1 + exp z) would call every image strange in which nothing is found.

    Parameters
    ----------
    logits
        float [N, K], not divided by a temperature.
    activation
        How they are read.

    Notes
    -----
    Of a single sigmoid it says no more than the probability does, and nothing of what makes an
    image strange to a network that is sure of it: there the distance is what counts.
    """
    return -torch.logsumexp(answer_logits(logits, activation), dim=2).sum(dim=1)


def fit_features(features: Tensor, classes: Tensor) -> FeatureModel:
    """Return the statistics of familiar images.

    Parameters
    ----------
    features
        float [N, D], pooled, as ``ExplainSession.features`` returns them.
    classes
        int [N]; all alike where there are no classes.

    Raises
    ------
    CalibrationError
        If the features are not finite, or do not differ within any class.

    Notes
    -----
    There are often fewer images than features, so that their covariance has no inverse. Each
    feature is brought to a deviation of 1 within classes, one that never varied to the mean
    deviation of all, and the covariance is then shrunk as ``shrunk_covariance`` says.
    """
    values = features.detach().to("cpu", torch.float64)
    if values.ndim != 2 or classes.shape != values.shape[:1] or not bool(values.isfinite().all()):
        raise CalibrationError(
            f"features of shape {tuple(values.shape)} with classes {tuple(classes.shape)}: "
            "expected finite [N, D] and [N]"
        )
    kinds, positions = np.unique(classes.detach().cpu().numpy(), return_inverse=True)
    of_kind = torch.from_numpy(positions)
    means = torch.stack([values[of_kind == kind].mean(dim=0) for kind in range(len(kinds))])
    apart = values - means[of_kind]
    deviations = apart.square().mean(dim=0).sqrt()
    if not bool((deviations > 0).any()):
        raise CalibrationError(f"the features of {len(values)} images are all alike in each class")
    deviations = torch.where(deviations > 0, deviations, deviations.mean())
    covariance = shrunk_covariance(apart / deviations)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    precision = inverse / torch.outer(deviations, deviations)
    return FeatureModel(means=means, precision=(precision + precision.T) / 2)


def shrunk_covariance(centered: Tensor) -> Tensor:
    """Return the covariance of [N, D] of mean 0, shrunk to a sphere (Ledoit and Wolf 2004).

    How far is the value that the paper derives: the spread of the covariance over images, relative
    to its distance from the sphere. So few images give nearly the sphere, many the covariance.
    """
    count, width = centered.shape
    sample = centered.T @ centered / count
    size = sample.trace() / width
    sphere = size * torch.eye(width, dtype=sample.dtype)
    distance = (sample - sphere).square().sum()
    spread = (centered.square().sum(dim=1).square().mean() - sample.square().sum()) / count
    share = float((spread / distance).clamp(0, 1)) if float(distance) > 0 else 1.0
    return share * sphere + (1 - share) * sample


def crossed_distances(features: Tensor, classes: Tensor) -> Tensor:
    """Return the distance of each image to statistics of the other folds, float64 [N].

    Images lie near the statistics that they are part of, the more so the fewer they are: a limit
    taken from those distances would call most new images strange. Parameters and errors as in
    ``fit_features``; each class is dealt out evenly over the folds, in the order of its images.
    """
    folds = _dealt(classes.detach().cpu())
    distances = torch.zeros(len(features), dtype=torch.float64)
    for fold in range(FOLDS):
        held = folds == fold
        if bool(held.any()):
            others = fit_features(features[~held], classes[~held])
            distances[held] = others.distances(features[held])
    return distances


def familiar_limit(scores: Tensor, accepted: float) -> float:
    """Return the score that a share ``accepted`` of familiar images does not exceed.

    With N images no share beyond N / (N + 1) can be promised: then it is the greatest score seen.
    """
    limit = float(finite_quantile(scores[:, None], accepted))
    return min(limit, float(scores.max()))


def _dealt(classes: Tensor) -> Tensor:
    """Return the fold of each image [N]: its position within its class, in turns."""
    folds = torch.zeros(len(classes), dtype=torch.int64)
    for kind in np.unique(classes.numpy()):
        members = torch.nonzero(classes == int(kind))[:, 0]
        folds[members] = torch.arange(len(members)) % FOLDS
    return folds
