"""Contours: closed lines around what reaches a level, between the pixels of a plane."""

import numpy as np
from numpy.typing import NDArray

#: Sides of a cell of four pixel centers.
_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
#: Which corners of a cell are inside (8 upper left, 4 upper right, 2 lower right, 1 lower left), to
#: the lines through it, from side to side, what is inside on their right.
_LINES: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((_LEFT, _BOTTOM),),
    2: ((_BOTTOM, _RIGHT),),
    3: ((_LEFT, _RIGHT),),
    4: ((_RIGHT, _TOP),),
    6: ((_BOTTOM, _TOP),),
    7: ((_LEFT, _TOP),),
    8: ((_TOP, _LEFT),),
    9: ((_TOP, _BOTTOM),),
    11: ((_TOP, _RIGHT),),
    12: ((_RIGHT, _LEFT),),
    13: ((_RIGHT, _BOTTOM),),
    14: ((_BOTTOM, _LEFT),),
}
#: The two cases that can be meant in two ways: with the middle of the cell inside, and outside.
_SADDLES: dict[int, tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]] = {
    5: (((_LEFT, _TOP), (_RIGHT, _BOTTOM)), ((_RIGHT, _TOP), (_LEFT, _BOTTOM))),
    10: (((_TOP, _RIGHT), (_BOTTOM, _LEFT)), ((_TOP, _LEFT), (_BOTTOM, _RIGHT))),
}


def contours(plane: NDArray[np.generic], level: float) -> list[NDArray[np.float32]]:
    """Return closed lines around all that reaches ``level``, the largest area first.

    Parameters
    ----------
    plane
        Numbers [row, column].

    Returns
    -------
    list of numpy.ndarray
        float32 [point, 2], (column, row), the first point repeated as the last. 0, 0 is the upper
        left corner of the first pixel and 0.5, 0.5 its center (PS3.3 C.10.5). What touches the
        border is closed along it.

    Notes
    -----
    Marching squares (Lorensen and Cline 1987, in the plane): each line runs between the pixel
    centers on both sides of it, as far from each as linear interpolation says.
    """
    values = _padded(plane.astype(np.float32), level)
    after = _links(values, level)
    lines = []
    while after:
        first = next(iter(after))
        line = [first]
        while (there := after.pop(line[-1])) != first:
            line.append(there)
        lines.append(_points([*line, first], values, level))
    return sorted(lines, key=lambda line: -abs(enclosed_area(line)))


def enclosed_area(line: NDArray[np.float32]) -> float:
    """Return the area inside a closed line in pixels; negative for the border of a hole."""
    x, y = line.astype(np.float64).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _padded(plane: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Return the plane with a border so far outside that lines follow the edge of the image."""
    padded = np.pad(plane, 1, mode="edge")
    border = np.ones(padded.shape, bool)
    border[1:-1, 1:-1] = False
    inside = border & (padded >= level)
    padded[inside] = 2 * level - padded[inside]
    # What is at the level itself would be mirrored onto it, and still be inside.
    padded[inside & (padded >= level)] = level - 1e-3 * max(abs(level), 1.0)
    return padded


def _links(values: NDArray[np.float32], level: float) -> dict[int, int]:
    """Return each crossing of a line with a grid line, to the next crossing of the same line."""
    inside = (values >= level).astype(np.uint8)
    corners = inside[:-1, :-1] << 3 | inside[:-1, 1:] << 2 | inside[1:, 1:] << 1 | inside[1:, :-1]
    rows, columns = np.nonzero((corners > 0) & (corners < 15))
    corners = corners[rows, columns]
    middles = sum(values[rows + down, columns + right] for down in (0, 1) for right in (0, 1)) / 4
    after: dict[int, int] = {}
    width = values.shape[1]
    for case, lines in _LINES.items():
        here = corners == case
        _add(after, rows[here], columns[here], lines, width=width)
    for case, (joined, apart) in _SADDLES.items():
        for lines, chosen in ((joined, middles >= level), (apart, middles < level)):
            here = (corners == case) & chosen
            _add(after, rows[here], columns[here], lines, width=width)
    return after


def _add(
    after: dict[int, int],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    lines: tuple[tuple[int, int], ...],
    *,
    width: int,
) -> None:
    for start, end in lines:
        starts = _crossings(rows, columns, start, width=width)
        ends = _crossings(rows, columns, end, width=width)
        after.update(zip(starts.tolist(), ends.tolist(), strict=True))


def _crossings(
    rows: NDArray[np.intp], columns: NDArray[np.intp], side: int, *, width: int
) -> NDArray[np.intp]:
    """Return the numbers of a side of cells: even ones lie between columns, odd between rows."""
    first = (rows + (side == _BOTTOM)) * width + columns + (side == _RIGHT)
    return 2 * first + (side in (_LEFT, _RIGHT))


def _points(crossings: list[int], values: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    numbers = np.array(crossings)
    between_rows = numbers % 2
    rows, columns = np.divmod(numbers // 2, values.shape[1])
    here = values[rows, columns]
    there = values[rows + between_rows, columns + 1 - between_rows]
    share = (level - here) / (there - here)
    # The border takes one pixel; centers lie half a pixel from the corner.
    x = columns - 0.5 + share * (1 - between_rows)
    y = rows - 0.5 + share * between_rows
    return np.stack([x, y], axis=1).astype(np.float32)
