"""What an image looks like without its information: the reference that methods compare with."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.errors import BaselineError
from ai.model import Settings

#: Standard deviation of the blur as a share of each extent: 14 pixels of 224.
BLUR_SHARE = 1 / 16
#: The Gaussian is cut at this many standard deviations.
_CUT = 3.0
#: A blur wider than this many cells is done on a grid pooled to about this width.
_WIDEST = 4.0
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def blurred(x: Tensor, share: float = BLUR_SHARE) -> Tensor:
    """Return the image after a Gaussian blur, edges continued by their last value.

    Parameters
    ----------
    x
        float [B, C, *S].
    share
        Standard deviation as a share of each extent.

    Notes
    -----
    A wide blur runs on a pooled grid and is interpolated back: what the pooling loses, the blur
    would have removed.
    """
    axes = x.ndim - 2
    sigmas = [share * extent for extent in x.shape[2:]]
    grid = [
        math.ceil(extent / max(1.0, sigma / _WIDEST))
        for extent, sigma in zip(x.shape[2:], sigmas, strict=True)
    ]
    pooled = x if grid == list(x.shape[2:]) else functional.interpolate(x, grid, mode="area")
    for axis in range(axes):
        sigma = sigmas[axis] * grid[axis] / x.shape[2 + axis]
        pooled = _blurred_along(pooled, axis, sigma)
    if pooled.shape == x.shape:
        return pooled
    wide = functional.interpolate(pooled, x.shape[2:], mode=_LINEAR[axes], align_corners=False)
    return wide.to(memory_format=torch.preserve_format)


def smoothed(x: Tensor, sigma_cells: float) -> Tensor:
    """Return [B, C, *S] after a narrow Gaussian blur of the same width in cells on each axis."""
    for axis in range(x.ndim - 2):
        x = _blurred_along(x, axis, sigma_cells)
    return x


def baseline_of(kind: str, network: nn.Module, x: Tensor, settings: Settings) -> tuple[Tensor, str]:
    """Return the baseline, of the shape of ``x``, and what to call it.

    Parameters
    ----------
    kind
        ``"blur"`` or ``"zero"``; ``settings.baseline`` comes first.
    network
        Looked at for layers to which a constant image means nothing.
    x
        float [B, C, *S].
    settings
        Its ``baseline`` may have one entry for the whole batch.

    Raises
    ------
    BaselineError
        If the kind is not known, the given baseline does not fit the input or is not finite, or
        the baseline is constant and the network has instance or group normalization. Such a
        network divides by the image's own deviation: it sees the faintest copy of an image as the
        image itself, so that the way from a constant baseline is one jump at its start.
    """
    given = settings.baseline
    if given is not None:
        chosen, name = _fitting(given, x), "given"
    elif kind == "blur":
        chosen, name = blurred(x), f"blur (sigma {BLUR_SHARE:.4g} of each extent)"
    elif kind == "zero":
        chosen, name = torch.zeros_like(x), "zero"
    else:
        raise BaselineError(f"baseline {kind!r} is not known; expected 'blur' or 'zero'")
    layer = _self_normalizing(network)
    spread = chosen.flatten(2).amax(dim=2) - chosen.flatten(2).amin(dim=2)
    if layer and not bool((spread > 0).any()) and bool((x != chosen).any()):
        raise BaselineError(
            f"a constant baseline ({name}) means nothing to a network that normalizes each image "
            f"by itself (layer {layer!r}); use the blurred one"
        )
    return chosen, name


def _blurred_along(x: Tensor, axis: int, sigma: float) -> Tensor:
    axes, channels = x.ndim - 2, x.shape[1]
    radius = math.ceil(_CUT * sigma)
    if radius == 0 or x.shape[2 + axis] == 1:
        return x
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    shape = [channels, 1] + [1] * axes
    shape[2 + axis] = kernel.numel()
    weight = (kernel / kernel.sum()).view([1, 1, *shape[2:]]).expand(shape)
    padding = [0] * (2 * axes)
    padding[2 * (axes - 1 - axis)] = padding[2 * (axes - 1 - axis) + 1] = radius
    return _CONVOLUTIONS[axes](
        functional.pad(x, padding, mode="replicate"), weight, groups=channels
    )


def _fitting(given: Tensor, x: Tensor) -> Tensor:
    fits = given.shape[1:] == x.shape[1:] and given.shape[0] in {1, x.shape[0]}
    if not fits or not bool(torch.isfinite(given).all()):
        raise BaselineError(
            f"a baseline of shape {tuple(given.shape)} must be finite and of shape {tuple(x.shape)}"
        )
    return given.to(x).expand_as(x)


def _self_normalizing(network: nn.Module) -> str:
    for name, module in network.named_modules():
        # A scripted module keeps the name of its class only here.
        kind = getattr(module, "original_name", type(module).__name__)
        if "InstanceNorm" in kind or "GroupNorm" in kind:
            return name or kind
    return ""
