"""One head per seed: the template, moved, bent and scaled a little, on the phantom's grid."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai.phantom.template import Template

#: (slices, rows, columns) of every phantom.
GRID_SHAPE = (84, 208, 176)
#: (slice, row, column) spacing in mm of every phantom.
SPACING_MM = (2.0, 1.0, 1.0)

_MAX_ROTATION_DEGREES = 5.0
_MAX_SCALE = 0.04
_MAX_SHIFT_MM = 3.0
#: Control points of the bending, about 40 mm apart, and how far each may move.
_BEND_POINTS = (5, 6, 5)
_MAX_BEND_MM = 3.0


def grid_affine() -> NDArray[np.float64]:
    """Return the phantom's 4 x 4 affine from (slice, row, column, 1) to LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(SPACING_MM[::-1]))
    middle = (np.array(GRID_SHAPE) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def make_anatomy(template: Template, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return one head: float32 [slice, row, column] on the phantom's grid, 0 to 1, 0 outside it.

    Left stays left: nothing is ever mirrored.
    """
    center = (np.array(template.intensity.shape) - 1) / 2
    matrix = _similarity(rng)
    shift = rng.uniform(-_MAX_SHIFT_MM, _MAX_SHIFT_MM, 3)
    bend = rng.uniform(-_MAX_BEND_MM, _MAX_BEND_MM, (3, *_BEND_POINTS)).astype(np.float32)
    offsets = [
        ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
        for size, spacing in zip(GRID_SHAPE, SPACING_MM, strict=True)
    ]
    z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
    places = np.empty((3, *GRID_SHAPE), dtype=np.float32)
    for axis in range(3):
        row = matrix[axis].astype(np.float32)
        np.add(row[0] * z + row[1] * y, row[2] * x, out=places[axis])
        places[axis] += stretched(bend[axis], GRID_SHAPE)
        places[axis] += np.float32(center[axis] + shift[axis])
    source = template.intensity.astype(np.float32) / np.float32(255)
    head: NDArray[np.float32] = ndimage.map_coordinates(source, places, order=1, prefilter=False)
    return head


def stretched(coarse: NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a coarse grid of control points, interpolated smoothly over ``shape``."""
    smooth = coarse
    for axis, size in enumerate(shape):
        places = np.linspace(0, coarse.shape[axis] - 1, size)
        weights = ndimage.map_coordinates(
            np.eye(coarse.shape[axis], dtype=np.float32),
            np.stack(np.meshgrid(places, np.arange(coarse.shape[axis]), indexing="ij")),
            order=1,
        )
        smooth = np.moveaxis(np.tensordot(weights, smooth, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(smooth, dtype=np.float32)


def _similarity(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a 3 x 3 rotation and scaling about the head's middle, from small random numbers."""
    limit = np.deg2rad(_MAX_ROTATION_DEGREES)
    matrix = np.diag(rng.uniform(1 - _MAX_SCALE, 1 + _MAX_SCALE, 3))
    for axes in ((0, 1), (0, 2), (1, 2)):
        angle = rng.uniform(-limit, limit)
        turn = np.eye(3)
        turn[np.ix_(axes, axes)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        matrix = turn @ matrix
    return matrix
