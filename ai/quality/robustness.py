"""Whether a map stays where it is while the image hardly changes.

These take the method itself, as a function from an image to its map, and no network: whatever makes
maps can be measured.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ai.errors import MeasureError
from ai.quality.agreement import rank_agreement
from ai.quality.scoring import require_on_grid

#: From x [B, C, *S] to an attribution [B, C, *S] or [B, 1, *S].
Explain = Callable[[Tensor], Tensor]
#: Noise of the copy, as a share of each channel's deviation: below what images have themselves.
NOISE = 0.02
#: How far each cell moves at most, as a share of each channel's deviation, and how often it moves.
RADIUS = 0.02
SAMPLES = 5


def stability(
    explain: Explain,
    x: Tensor,
    values: Tensor,
    *,
    generator: torch.Generator,
    noise: float = NOISE,
) -> Tensor:
    """Return the rank correlation with the map of a mildly noised copy of the image, [B].

    From -1 to 1, higher is better: 1 if the noise leaves all cells in their order (G4). A map that
    is the same everywhere has the value 0. It takes 1 explanation beside the one that is measured.

    Parameters
    ----------
    explain
        The method that gave ``values``, with the same target: a stochastic one has to begin with
        the same seed each time, or its own noise is measured as well.
    x
        float [B, C, *S].
    values
        Of ``x``, [B, C, *S] or [B, 1, *S]; channels are summed.
    generator
        Draws the noise, the same for each entry.
    noise
        Standard deviation as a share of each channel's own.

    Raises
    ------
    MeasureError
        If a map does not fit the input or is not finite.
    """
    require_on_grid(values, x)
    again = explain(noisy(x, noise, generator))
    require_on_grid(again, x)
    return rank_agreement(values, again)


def max_sensitivity(
    explain: Explain,
    x: Tensor,
    values: Tensor,
    *,
    generator: torch.Generator,
    radius: float = RADIUS,
    samples: int = SAMPLES,
) -> Tensor:
    """Return the greatest relative change of the map among images nearby, [B].

    Max-sensitivity as in Yeh et al. 2019: the greatest of |map' - map| / |map| over ``samples``
    images of which each cell moved by up to ``radius``. From 0 without an upper limit; lower is
    better. A few samples find less than the true greatest: it compares methods that had the same
    ones. Infinite for a map of zeros that does not remain one. It takes ``samples`` explanations
    beside the one that is measured.

    Parameters
    ----------
    explain, x, values
        As of ``stability``; channels are not summed.
    generator
        Draws the moves, the same for each entry.
    radius
        As a share of each channel's standard deviation.
    samples
        At least 1.

    Raises
    ------
    MeasureError
        If a map does not fit the input or is not finite, or there are no samples.
    """
    require_on_grid(values, x)
    if samples < 1:
        raise MeasureError(f"{samples} samples: expected at least 1")
    size = values.flatten(1).double().norm(dim=1)
    changes = []
    for _ in range(samples):
        drawn = torch.rand(x.shape[1:], generator=generator, device=generator.device).to(x)
        again = explain(x + radius * deviations(x) * (2 * drawn - 1))
        require_on_grid(again, x)
        changes.append((again - values).flatten(1).double().norm(dim=1))
    greatest = torch.stack(changes).amax(dim=0)
    return torch.where(greatest > 0, greatest / size, 0.0).cpu()


def noisy(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return the image with Gaussian noise, a share of each channel's deviation, [B, C, *S].

    The noise is drawn once and shared by all entries, so that each is measured as if alone.
    """
    drawn = torch.randn(x.shape[1:], generator=generator, device=generator.device).to(x)
    return x + noise * deviations(x) * drawn


def deviations(x: Tensor) -> Tensor:
    """Return the standard deviation of each channel, [B, C, 1, ...]."""
    return x.flatten(2).std(dim=2, correction=0).view(*x.shape[:2], *[1] * (x.ndim - 2))
