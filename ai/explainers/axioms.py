"""How far an explanation is from adding up: the residual that comes with every exact method."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Gains smaller than this share of the target's size drown in float32.
_RESOLUTION = 1e-6
#: A target below this share of the relevance that makes it up is what is left of a cancellation.
_CANCELLED = 1e-3
#: A residual of an exact method above this is said to the reader.
_EXACT = 1e-3


def completeness_residual(values: Tensor, f_x: Tensor, f_baseline: Tensor) -> Tensor:
    """Return |sum of values - gain| / |gain|, [B], the gain being f(x) - f(baseline).

    Completeness as Sundararajan, Taly and Yan 2017 define it.

    Parameters
    ----------
    values
        [B, C, *S].
    f_x, f_baseline
        [B], the target at the image and at the baseline.
    """
    gain = f_x.double() - f_baseline.double()
    missing = values.double().flatten(1).sum(dim=1) - gain
    return relative_to_gain(missing, f_x, f_baseline)


def relative_to_gain(missing: Tensor, f_x: Tensor, f_baseline: Tensor) -> Tensor:
    """Return the size of what is missing relative to the gain f(x) - f(baseline), [B]."""
    gain = f_x.double() - f_baseline.double()
    floor = _RESOLUTION * torch.maximum(f_x.abs(), f_baseline.abs()).double() + 1e-12
    return (missing.abs() / torch.maximum(gain.abs(), floor)).to(f_x.dtype)


def conservation_residual(values: Tensor, elsewhere: Tensor, f_x: Tensor) -> Tensor:
    """Return |sum of values + elsewhere - f(x)| relative to f(x), [B].

    Conservation as Bach et al. 2015 define it, with what biases and shifts received counted.

    Parameters
    ----------
    values
        [B, C, *S].
    elsewhere
        [B], relevance that the network's constants received.
    f_x
        [B], the target.
    """
    relevance = values.double().flatten(1)
    missing = relevance.sum(dim=1) + elsewhere.double() - f_x.double()
    floor = _CANCELLED * relevance.abs().sum(dim=1) + 1e-12
    return (missing.abs() / torch.maximum(f_x.double().abs(), floor)).to(f_x.dtype)


def incompleteness_warning(residual: Tensor, strangers: Sequence[str]) -> tuple[str, ...]:
    """Return what to say of an exact method's residual [B] that is not small.

    Parameters
    ----------
    strangers
        Functions of the network that the method has no rule for.
    """
    worst = float(residual.max())
    if worst <= _EXACT:
        return ()
    why = f"; there is no rule for {', '.join(strangers)}" if strangers else ""
    return (f"{worst:.1%} of the result is not accounted for{why}",)
