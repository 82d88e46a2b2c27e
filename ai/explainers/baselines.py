"""What an image looks like without its information: the reference that methods compare with."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ai.errors import BaselineError
from ai.model import Settings

#: Standard deviation of the blur as a share of each extent: 14 pixels of 224.
BLUR_SHARE = 1 / 16
#: Blurs of a reference set go from the plain blur's width divided by this to it times this.
REFERENCE_SPAN = 2.0
#: Noise of a reference, as a share of the deviation of what its blur took away. Much more, and a
#: network that looks for texture finds it in the noise.
REFERENCE_NOISE = 0.05
#: The Gaussian is cut at this many standard deviations.
_CUT = 3.0
#: A blur wider than this many cells is done on a grid pooled to about this width.
_WIDEST = 4.0
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
    _require_meaning(network, chosen, x, name)
    return chosen, name


def reference_set(
    network: nn.Module, x: Tensor, settings: Settings, *, count: int, generator: torch.Generator
) -> tuple[Tensor, str]:
    """Return references for each entry of ``x``, [B, N, C, *S], and what to call them.

    ``settings.baseline`` [N, C, *S], if given, serves every entry as it is. Else each entry gets
    ``count`` copies of itself, blurred from half to double the width of the plain blur, each with a
    little noise; the noise is drawn once, so that an entry's references do not depend on the batch.

    Raises
    ------
    BaselineError
        If the given set does not fit the input or is not finite, or one of it is constant and the
        network normalizes each image by itself (see ``baseline_of``).
    """
    given = settings.baseline
    if given is None:
        return _blurred_references(x, count, generator), f"{count} blurred copies with noise"
    if given.shape[1:] != x.shape[1:] or len(given) == 0 or not bool(torch.isfinite(given).all()):
        wanted = ", ".join(str(extent) for extent in x.shape[1:])
        raise BaselineError(
            f"a reference set of shape {tuple(given.shape)} must be finite and of shape "
            f"(N, {wanted})"
        )
    name = f"{len(given)} given"
    references = given.as_subclass(Tensor).detach().to(x)
    for number, reference in enumerate(references):
        _require_meaning(network, reference[None], x, f"number {number} of {name}")
    return references.expand(x.shape[0], *references.shape), name


def _blurred_references(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    references = []
    for number in range(count):
        place = 2 * number / (count - 1) - 1 if count > 1 else 0.0
        blur = blurred(x, BLUR_SHARE * REFERENCE_SPAN**place)
        noise = torch.randn(x.shape[1:], generator=generator, device=generator.device).to(x)
        removed = (x - blur).flatten(2).std(dim=2, correction=0)
        strength = REFERENCE_NOISE * removed.view(*removed.shape, *[1] * (x.ndim - 2))
        references.append(blur + strength * noise)
    return torch.stack(references, dim=1)


def _require_meaning(network: nn.Module, chosen: Tensor, x: Tensor, name: str) -> None:
    layer = _self_normalizing(network)
    spread = chosen.flatten(2).amax(dim=2) - chosen.flatten(2).amin(dim=2)
    if layer and not bool((spread > 0).any()) and bool((x != chosen).any()):
        raise BaselineError(
            f"a constant baseline ({name}) means nothing to a network that normalizes each image "
            f"by itself (layer {layer!r}); use the blurred one"
        )


def _blurred_along(x: Tensor, axis: int, sigma: float) -> Tensor:
    """Return ``x`` blurred along one axis: as a product, which is faster than a convolution."""
    radius, extent = math.ceil(_CUT * sigma), x.shape[2 + axis]
    if radius == 0 or extent == 1:
        return x
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (offsets.to(x.dtype) / sigma) ** 2)
    # What lies outside the image is its border's.
    cells = torch.arange(extent, device=x.device)
    sources = (cells[:, None] + offsets).clamp(0, extent - 1)
    blur = torch.zeros(extent, extent, dtype=x.dtype, device=x.device)
    blur.scatter_add_(1, sources, (kernel / kernel.sum()).expand(extent, -1))
    if axis == x.ndim - 3:
        return x @ blur.T
    inner = math.prod(x.shape[3 + axis :])
    return (blur @ x.reshape(-1, extent, inner)).view(x.shape)


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
