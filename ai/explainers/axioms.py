"""How far an explanation is from adding up: the residual that comes with every exact method."""

import torch
from torch import Tensor

#: Gains smaller than this share of the target's size drown in float32.
_RESOLUTION = 1e-6
#: A target below this share of the relevance that makes it up is what is left of a cancellation.
_CANCELLED = 1e-3


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
    floor = _RESOLUTION * torch.maximum(f_x.abs(), f_baseline.abs()).double() + 1e-12
    missing = values.double().flatten(1).sum(dim=1) - gain
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
