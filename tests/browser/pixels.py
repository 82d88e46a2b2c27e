"""What a picture of the pane shows, judged by its pixels alone."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.browser.viewer import Picture

#: (left, top, right, bottom); right and bottom are the first beyond.
Box = tuple[int, int, int, int]

#: Least difference between the largest and the smallest of red, green and blue of a color.
_COLORFUL = 50


def colorful(picture: Picture) -> NDArray[np.bool_]:
    """Return which pixels have a color, gray being none."""
    parts = picture.astype(np.int16)
    return (parts.max(axis=2) - parts.min(axis=2)) > _COLORFUL


def white(picture: Picture) -> NDArray[np.bool_]:
    """Return which pixels are as bright as the planted marker is."""
    return picture.min(axis=2) > 235


def body(picture: Picture) -> NDArray[np.bool_]:
    """Return which pixels are of the largest thing that is not black, and of what it surrounds."""
    parts, count = ndimage.label(picture.max(axis=2) > 40)
    if count == 0:
        return parts.astype(bool)
    return ndimage.binary_fill_holes(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Return the box around what is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return (0, 0, 0, 0)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def within(picture: Picture, box: Box, grow: int = 0) -> Picture:
    """Return the part of a picture in a box, grown on all sides (or shrunk)."""
    left, top, right, bottom = box
    return picture[max(top - grow, 0) : bottom + grow, max(left - grow, 0) : right + grow]


def frame_of(mask: NDArray[np.bool_], least: int = 40) -> Box:
    """Return the box of upright and level lines, dashed or not; slanted ones do not count."""
    rows, columns = mask.sum(axis=1) >= least, mask.sum(axis=0) >= least
    return box_of(np.outer(rows, columns))


def share(box: Box, around: Box) -> tuple[float, float, float, float]:
    """Return a box as fractions of the one around it."""
    first, upper, last, lower = around
    width, height = last - first, lower - upper
    left, top, right, bottom = box
    return (
        (left - first) / width,
        (top - upper) / height,
        (right - first) / width,
        (bottom - upper) / height,
    )


def close_to(
    picture: Picture, color: tuple[int, int, int], tolerance: int = 24
) -> NDArray[np.bool_]:
    """Return which pixels have about this color."""
    return (np.abs(picture.astype(np.int16) - np.array(color)) <= tolerance).all(axis=2)
