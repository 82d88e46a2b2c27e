"""The body in an image: what is not the air around it."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

#: Larger images are looked at on a reduced grid of about this many cells.
_MOST_CELLS = 2**19
#: Parts of a body below this share of it are specks in its air.
_LEAST_PIECE = 0.01
_BINS = 256
#: Air is what most of the corners are: at least this share of them.
_CORNERS = 0.9
#: Air and body each take at least this share of an image: a bright spot is no body.
_LEAST_PART = 0.05
#: The deviation inside air is below this share of the step from air to body.
_EVEN_AIR = 0.2
#: Values that differ by this share of an image's range are one value, interpolated.
_ROUNDING = 1e-5

Mask = NDArray[np.bool_]
Image = NDArray[np.float32]


def body_mask(x: Tensor) -> Tensor | None:
    """Return where the body lies in an image, bool [*S]; None if it has no air to speak of.

    Parameters
    ----------
    x
        float [1, C, *S].
    """
    body = body_of(reduced(x)[0].numpy(), least_share=_LEAST_PIECE)
    return None if body.all() else enlarged(body, x)


def body_of(image: Image, *, least_share: float) -> Mask:
    """Return what is not air of an image [C, *S], with its holes filled; all of it if in doubt.

    Air is even and fills the corners: one value of all corners (a skull-stripped or padded image),
    else one side of Otsu's threshold (1979). A hole is what is surrounded within some plane, so
    that lungs are body though they open to the outside.

    Parameters
    ----------
    least_share
        Parts of the body below this share of it count as air.
    """
    outside = _even_outside(image)
    body = _filled(~outside)
    parts, _ = ndimage.label(body)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = (sizes >= max(1.0, least_share * sizes.sum()))[parts]
    certain = _LEAST_PART <= body.mean() <= 1 - _LEAST_PART
    return body if certain else np.ones_like(body)


def reduced(x: Tensor) -> Tensor:
    """Return an image [1, C, *S] on a grid of some hundred thousand cells, float32 on the CPU."""
    x = x.detach().float().cpu()
    factor = (_MOST_CELLS / math.prod(x.shape[2:])) ** (1 / (x.ndim - 2))
    if factor >= 1:
        return x
    grid = [max(1, round(extent * factor)) for extent in x.shape[2:]]
    return functional.interpolate(x, grid, mode="area")


def enlarged(found: NDArray[np.generic], x: Tensor) -> Tensor:
    """Return what was found on the reduced grid, [*s], on that of the image, [*S], on its device.

    Numbers come back as int64, truths as bool.
    """
    plain = found if found.dtype == np.bool_ else found.astype(np.int64)
    grid = torch.from_numpy(plain)
    for axis, extent in enumerate(x.shape[2:]):
        centers = torch.arange(extent) * grid.shape[axis] // extent
        grid = grid.index_select(axis, centers)
    return grid.to(x.device)


def _even_outside(image: Image) -> Mask:
    """Return what looks like the corners; nothing if these differ among themselves."""
    corners = np.zeros(image.shape[1:], dtype=np.bool_)
    corners[np.ix_(*(_ends(extent) for extent in image.shape[1:]))] = True
    span = np.ptp(image.reshape(len(image), -1), axis=1)
    lowest, highest = image[:, corners].min(axis=1), image[:, corners].max(axis=1)
    if (highest - lowest <= _ROUNDING * span).all():
        shape = (-1, *[1] * corners.ndim)
        away = np.abs(image - lowest.reshape(shape)) > 2 * _ROUNDING * span.reshape(shape)
        return np.asarray(~away.any(axis=0))
    mean = image.mean(axis=0)
    dark = mean <= _otsu(mean)
    share = float(dark[corners].mean())
    outside = dark if share > 0.5 else ~dark
    step = abs(float(mean[dark].mean()) - float(mean[~dark].mean()))
    even = float(mean[outside].std()) < _EVEN_AIR * step
    return outside if even and max(share, 1 - share) >= _CORNERS else np.zeros_like(dark)


def _ends(extent: int) -> list[int]:
    deep = max(1, extent // 16)
    return sorted({*range(deep), *range(extent - deep, extent)})


def _otsu(image: Image) -> float:
    counts, edges = np.histogram(image, bins=_BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1 + int(np.argmax(np.nan_to_num(between)))])


def _filled(body: Mask) -> Mask:
    """Return the body with what it surrounds within the planes across any one axis."""
    filled = body.copy()
    faces = ndimage.generate_binary_structure(body.ndim, 1)
    for across in range(body.ndim) if body.ndim > 2 else [None]:
        joins = faces.copy()
        if across is not None:
            joins[tuple(slice(None) if axis != across else [0, 2] for axis in range(body.ndim))] = 0
        holes, found = ndimage.label(~body, structure=joins)
        open_ = np.zeros(found + 1, dtype=np.bool_)
        for axis in range(body.ndim):
            if axis != across and body.shape[axis] > 1:
                open_[np.unique(np.take(holes, [0, -1], axis=axis))] = True
        open_[0] = True
        filled |= ~open_[holes]
    return filled
