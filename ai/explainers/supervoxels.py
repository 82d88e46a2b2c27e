"""Supervoxels: some tens of compact pieces of an image that keep to its edges.

Simple linear iterative clustering (Achanta et al. 2012) in any number of axes: a grid of cells, and
a few rounds of k-means in intensity and place, each center looking no further than its neighbors.
The air around a body is found first and is one piece: nobody asks which part of it mattered.
"""

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ai.explainers.baselines import smoothed

#: Larger images are cut up on a reduced grid of about this many cells.
_MOST_CELLS = 2**19
#: Standard deviation of the blur before clustering, in cells.
_BLUR_CELLS = 1.0
_ROUNDS = 5
#: How far a place one cell away counts, against an intensity one standard deviation away.
_COMPACTNESS = 2.0
#: A grid cell starts a piece if it holds this share of what the fullest one holds; a piece that
#: ends below this share of the average is divided among its neighbors.
_LEAST_SHARE = 0.25
_BINS = 256
#: Air is what most of the corners are: at least this share of them.
_CORNERS = 0.9
#: Air and body each take at least this share of an image: a bright spot is no body.
_LEAST_PART = 0.05
#: The deviation inside air is below this share of the step from air to body.
_EVEN_AIR = 0.2
#: Values that differ by this share of an image's range are one value, interpolated.
_ROUNDING = 1e-5

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Image = NDArray[np.float32]


def supervoxels_of(x: Tensor, count: int) -> Tensor:
    """Return which piece each voxel of an image belongs to, the same on every run.

    Parameters
    ----------
    x
        float [1, C, *S]; the channels are cut up together.
    count
        Most pieces, at least 2; mostly there are a little fewer.

    Returns
    -------
    Tensor
        int64 [*S] on the device of ``x``, numbered from 0 without gaps. Each piece is connected by
        faces, but for the last one where the image has air around a body: that piece is the air,
        with whatever lies in it and is smaller than an average piece.
    """
    reduced = _reduced(x)
    image = reduced[0].numpy()
    body = body_of(image, least_share=1 / count)
    features = _standardized(_smoothed_inside(reduced, body), body)
    labels = np.full(body.shape, -1, dtype=np.int32)
    pieces = count if body.all() else count - 1
    parts, found = ndimage.label(body)
    for part in range(1, found + 1):
        inside = parts == part
        own = max(1, math.floor(pieces * inside.sum() / body.sum()))
        mine = _connected(_clustered(features, inside, own), inside)
        labels[mine >= 0] = mine[mine >= 0] + labels.max() + 1
    labels[labels < 0] = labels.max() + 1
    return _enlarged(labels, x)


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


def _reduced(x: Tensor) -> Tensor:
    x = x.detach().float().cpu()
    factor = (_MOST_CELLS / math.prod(x.shape[2:])) ** (1 / (x.ndim - 2))
    if factor >= 1:
        return x
    grid = [max(1, round(extent * factor)) for extent in x.shape[2:]]
    return functional.interpolate(x, grid, mode="area")


def _enlarged(labels: Labels, x: Tensor) -> Tensor:
    grid = torch.from_numpy(labels.astype(np.int64))
    for axis, extent in enumerate(x.shape[2:]):
        centers = torch.arange(extent) * grid.shape[axis] // extent
        grid = grid.index_select(axis, centers)
    return grid.to(x.device)


def _smoothed_inside(reduced: Tensor, body: Mask) -> Image:
    """Return the image [C, *S] after a narrow blur that mixes no air into the body."""
    inside = torch.from_numpy(body)[None, None].to(reduced)
    blur = smoothed(reduced * inside, _BLUR_CELLS) / smoothed(inside, _BLUR_CELLS).clamp(min=1e-6)
    return cast("Image", blur[0].numpy())


def _standardized(image: Image, body: Mask) -> Image:
    """Return channels of mean 0 in the body, of summed variance 1."""
    inside = image[:, body]
    shape = (-1, *[1] * body.ndim)
    spread = inside.std(axis=1).reshape(shape) * math.sqrt(len(image))
    centered = image - inside.mean(axis=1).reshape(shape)
    return cast("Image", centered / np.where(spread > 0, spread, 1))


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


def _clustered(features: Image, body: Mask, pieces: int) -> Labels:
    """Return clusters of a body [*S], numbered from 0; -1 outside and where no center reaches."""
    labels, cell = _grid_cells(body, pieces)
    for _ in range(_ROUNDS):
        places, colors = _centers(features, labels)
        labels = _nearest(features, places, colors, cell)
        labels[~body] = -1
    return labels


def _grid_cells(body: Mask, pieces: int) -> tuple[Labels, NDArray[np.float64]]:
    """Return the cells of a grid over the body, at most ``pieces``, and their extents."""
    (box,) = ndimage.find_objects(body.astype(np.uint8))
    inside = body[box]
    extents = np.array(inside.shape, dtype=np.float64)
    edge = (inside.sum() / pieces) ** (1 / body.ndim)
    counts = np.maximum(1, np.ceil(extents / edge)).astype(int)
    while True:
        kept = _kept_cells(inside, counts)
        number = int(kept.max()) + 1
        if number <= pieces:
            break
        while math.prod(counts) > 1:
            finest = int(np.argmin(np.where(counts > 1, extents / counts, np.inf)))
            counts[finest] -= 1
            # Far from the goal whole steps are cheap, and the body need not be asked.
            if math.prod(counts) * inside.mean() <= 1.5 * pieces:
                break
    labels = np.full(body.shape, -1, dtype=np.int32)
    labels[box] = kept
    return labels, extents / counts


def _kept_cells(inside: Mask, counts: NDArray[np.int_]) -> Labels:
    cells = np.zeros(inside.shape, dtype=np.int32)
    for axis, (extent, count) in enumerate(zip(inside.shape, counts, strict=True)):
        along = np.arange(extent) * count // extent
        shape = [1] * inside.ndim
        shape[axis] = extent
        cells = cells * count + along.reshape(shape)
    sizes = np.bincount(cells[inside], minlength=math.prod(counts))
    full = sizes >= _LEAST_SHARE * sizes.max()
    numbers = np.where(full, np.cumsum(full) - 1, -1).astype(np.int32)
    return np.where(inside, numbers[cells], -1)


def _centers(features: Image, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean place [N, axes] and the mean features [N, C] of each cluster."""
    members = labels >= 0
    owner = labels[members]
    sizes = np.bincount(owner)
    alive = sizes > 0
    means = [
        np.bincount(owner, weights=values)[alive] / sizes[alive]
        for values in (*np.nonzero(members), *features[:, members])
    ]
    return np.stack(means[: labels.ndim], axis=1), np.stack(means[labels.ndim :], axis=1)


def _nearest(
    features: Image,
    places: NDArray[np.float64],
    colors: NDArray[np.float64],
    cell: NDArray[np.float64],
) -> Labels:
    """Return for each voxel the nearest of the centers that are at most one cell away."""
    grid = features.shape[1:]
    labels = np.full(grid, -1, dtype=np.int32)
    distances = np.full(grid, np.inf, dtype=np.float32)
    for number, (place, color) in enumerate(zip(places, colors, strict=True)):
        box = tuple(
            slice(max(0, math.ceil(middle - reach)), math.floor(middle + reach) + 1)
            for middle, reach in zip(place, cell, strict=True)
        )
        distance = np.zeros([1] * len(grid), dtype=np.float32)
        for axis, (middle, extent) in enumerate(zip(place, cell, strict=True)):
            steps = (np.arange(box[axis].start, min(box[axis].stop, grid[axis])) - middle) / extent
            along = (_COMPACTNESS * steps**2).astype(np.float32)
            distance = distance + along.reshape([-1 if a == axis else 1 for a in range(len(grid))])
        for channel, middle in zip(features, color, strict=True):
            distance = distance + (channel[box] - np.float32(middle)) ** 2
        closer = distance < distances[box]
        distances[box][closer] = distance[closer]
        labels[box][closer] = number
    return labels


def _connected(labels: Labels, body: Mask) -> Labels:
    """Return each cluster's largest part, the rest of the body divided among the neighbors.

    Numbered anew without gaps; -1 where no part is reached through the body.
    """
    largest: list[tuple[int, tuple[slice, ...], Mask]] = []
    for number, box in enumerate(ndimage.find_objects(labels + 1), start=0):
        if box is not None:
            parts, _ = ndimage.label(labels[box] == number)
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            largest.append((int(sizes.max()), box, parts == sizes.argmax()))
    average = body.sum() / len(largest)
    least = min(_LEAST_SHARE * average, max(size for size, _, _ in largest))
    kept = np.full_like(labels, -1)
    for number, (_, box, part) in enumerate(each for each in largest if each[0] >= least):
        kept[box][part] = number
    return _flooded(kept, body)


def _flooded(labels: Labels, body: Mask) -> Labels:
    """Return labels that grew, face by face, over the body where it had none."""
    padded = np.pad(labels, 1, constant_values=-1)
    flat = padded.reshape(-1)
    steps = [stride // padded.itemsize for stride in padded.strides]
    bare = np.flatnonzero(np.pad(body & (labels < 0), 1))
    while bare.size:
        for step in (*steps, *[-step for step in steps]):
            flat[bare] = np.where(flat[bare] < 0, flat[bare + step], flat[bare])
        left = bare[flat[bare] < 0]
        if left.size == bare.size:
            break
        bare = left
    return padded[(slice(1, -1),) * body.ndim]
