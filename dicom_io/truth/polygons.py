"""Which pixels an outline holds."""

import numpy as np
from numpy.typing import NDArray

#: Corners that stand for a curve.
_CORNERS = 128


def inside_polygon(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels have their center inside a closed outline, bool [row, column].

    Parameters
    ----------
    corners
        float64 [N, 2] of (column, row), where the center of the first pixel is (0.5, 0.5), as
        SCOORD counts (PS3.3 C.18.6.1.1). What several turns enclose counts by even and odd.
    shape
        Rows, columns.
    """
    rows = np.arange(shape[0])[:, None] + 0.5
    columns = np.arange(shape[1])[None] + 0.5
    inside = np.zeros(shape, np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > rows) != (y1 > rows)
        inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside


def circle(center: NDArray[np.float64], on_it: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a circle as a polygon [N, 2], by its center and a point on it."""
    radius = float(np.linalg.norm(on_it - center))
    return _turned(center, np.array([radius, 0.0]), np.array([0.0, radius]))


def ellipse(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an ellipse as a polygon [N, 2], by the ends [4, 2] of its long and its short axis."""
    center = ends.mean(axis=0)
    return _turned(center, (ends[1] - ends[0]) / 2, (ends[3] - ends[2]) / 2)


def _turned(
    center: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    angles = np.linspace(0.0, 2 * np.pi, _CORNERS, endpoint=False)[:, None]
    points: NDArray[np.float64] = center + np.cos(angles) * one + np.sin(angles) * other
    return points
