"""Contours run round what is inside, and nothing else."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from dicom_io.contours import contours, enclosed_area


def refilled(lines, shape):
    """Pixels whose centers lie inside an odd number of the lines, by scikit-image."""
    filled = np.zeros(shape, bool)
    for line in lines:
        filled ^= polygon2mask(shape, line[:, ::-1] - 0.5)
    return filled


@pytest.mark.parametrize("seed", range(6))
def test_pixels_inside_the_lines_are_those_that_reach_the_level(seed):
    random = np.random.default_rng(seed)
    plane = random.normal(size=(23, 31)).astype(np.float32)

    lines = contours(plane, 0.3)

    np.testing.assert_array_equal(refilled(lines, plane.shape), plane >= 0.3)
    assert all((line[0] == line[-1]).all() for line in lines)


def test_a_single_pixel_is_enclosed_around_its_center():
    plane = np.zeros((5, 6))
    plane[2, 4] = 1.0

    (line,) = contours(plane, 0.5)

    np.testing.assert_allclose(line[:-1].mean(axis=0), (4.5, 2.5))
    assert 0 < enclosed_area(line) <= 1


def test_what_fills_the_plane_is_outlined_along_its_edge():
    (line,) = contours(np.full((4, 7), 200, np.uint8), 127.5)

    np.testing.assert_allclose(line.min(axis=0), (0, 0))
    np.testing.assert_allclose(line.max(axis=0), (7, 4))


def test_the_largest_comes_first_and_a_hole_counts_negative():
    plane = np.zeros((12, 20))
    plane[1:10, 1:10] = 1
    plane[4:7, 4:7] = 0
    plane[2:4, 14:16] = 1

    areas = [enclosed_area(line) for line in contours(plane, 0.5)]

    assert [area > 0 for area in areas] == [True, False, True]


def test_nothing_is_outlined_where_nothing_reaches_the_level():
    assert contours(np.zeros((3, 3)), 0.5) == []
