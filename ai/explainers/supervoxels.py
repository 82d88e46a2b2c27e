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

from ai.body import Image, Mask, body_of, enlarged, reduced
from ai.explainers.baselines import smoothed

#: Standard deviation of the blur before clustering, in cells.
_BLUR_CELLS = 1.0
_ROUNDS = 5
#: How far a place one cell away counts, against an intensity one standard deviation away.
_COMPACTNESS = 2.0
#: A grid cell starts a piece if it holds this share of what the fullest one holds; a piece that
#: ends below this share of the average is divided among its neighbors.
_LEAST_SHARE = 0.25

Labels = NDArray[np.int32]


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
    small = reduced(x)
    image = small[0].numpy()
    body = body_of(image, least_share=1 / count)
    features = _standardized(_smoothed_inside(small, body), body)
    labels = np.full(body.shape, -1, dtype=np.int32)
    pieces = count if body.all() else count - 1
    parts, found = ndimage.label(body)
    for part in range(1, found + 1):
        inside = parts == part
        own = max(1, math.floor(pieces * inside.sum() / body.sum()))
        mine = _connected(_clustered(features, inside, own), inside)
        labels[mine >= 0] = mine[mine >= 0] + labels.max() + 1
    labels[labels < 0] = labels.max() + 1
    return enlarged(labels, x)


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
