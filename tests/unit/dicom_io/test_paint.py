"""Painting: what a color means, and that nothing is moved by it."""

import numpy as np
import pytest

from dicom_io.analysis import Heatmap
from dicom_io.paint import (
    color_map,
    displayed,
    draw_outline,
    enlarged,
    gray,
    heat_lab,
    heated,
    key_slice,
    lab_to_rgb,
    relevance_bands,
    relevance_peak,
    window_of,
)


def heatmap_of(*values):
    return Heatmap(relevance=np.array(values, np.float32).reshape(1, 1, 1, -1))


def lightness(colors):
    linear = np.where(colors <= 10, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return 116 * np.cbrt(luminance) - 16


def test_levels_are_fractions_of_the_peak_of_the_whole_volume():
    relevance = np.zeros((1, 2, 10, 10), np.float32)
    relevance[0, 0, 0, 0] = 4.0
    relevance[0, 1, 0, 0] = 2.0

    display = displayed(Heatmap(relevance=relevance))

    assert display.peak == pytest.approx(4.0, rel=2e-3)
    assert display.levels[0, 0, 0] == 255
    assert display.levels[1, 0, 0] == pytest.approx(127, abs=1)


def test_one_percent_of_the_relevance_lies_above_the_peak():
    rng = np.random.default_rng(3)
    relevance = rng.exponential(size=(40, 50, 60)).astype(np.float32)

    peak = relevance_peak(relevance)

    assert relevance[relevance > peak].sum() / relevance.sum() == pytest.approx(0.01, abs=1e-4)


def test_a_small_focus_in_a_large_volume_is_not_one_flat_patch():
    distance = np.linalg.norm(np.indices((60, 60, 60)) - 30.0, axis=0)
    relevance = np.exp(-((distance / 2.0) ** 2)).astype(np.float32)

    # A percentile of voxels would depend on how much emptiness is around.
    assert relevance_peak(relevance) > 0.85
    assert relevance_peak(relevance) == relevance_peak(np.pad(relevance, 40))


def test_negative_relevance_is_not_painted():
    display = displayed(heatmap_of(-5.0, 0.0, 1.0))

    assert display.levels.ravel().tolist() == [0, 0, 255]
    assert (display.lowest, display.highest) == (-5.0, 1.0)


def test_nothing_positive_paints_nothing():
    display = displayed(heatmap_of(-1.0, 0.0))
    background = np.full((1, 2), 77, np.uint8)

    painted = heated(background, display.levels[0])

    assert display.peak == 0
    assert (painted == 77).all()


def test_bands_begin_at_their_limits():
    bands = relevance_bands(heatmap_of(*np.linspace(0, 1, 101)))

    lowest_of_band = [int(np.argmax(bands.ravel() == band)) for band in (1, 2, 3, 4)]

    assert lowest_of_band == [20, 40, 60, 80]


def test_bands_and_colors_agree():
    heatmap = Heatmap(relevance=np.random.default_rng(0).normal(size=(2, 3, 20, 20)).astype("f4"))

    bands = relevance_bands(heatmap)
    levels = displayed(heatmap).levels

    for band, lower in enumerate([0, 51, 102, 153, 204]):
        assert (levels[bands == band] >= lower - (lower > 0)).all()
        assert (levels[bands == band] <= lower + 51).all()


def test_color_map_is_perceptually_even():
    steps = np.diff(lightness(color_map().astype(float)))

    assert (steps > -0.2).all()
    assert steps[4:].mean() == pytest.approx(64 / 255, rel=0.15)
    assert lightness(color_map()[[0, 255]].astype(float)) == pytest.approx([28, 92], abs=3)


def test_band_color_is_the_color_of_the_overlay():
    expected = color_map()[round(0.7 * 255)].astype(int)

    assert np.abs(np.array(lab_to_rgb(heat_lab(0.7))) - expected).max() <= 3


def test_window_maps_its_limits_to_black_and_white():
    limits = window_of(np.zeros((1, 1), np.float32), (50.0, 200.0))

    shown = gray(np.array([[-100.0, -50.0, 50.0, 150.0, 999.0]], np.float32), limits)

    assert limits == (-50.0, 150.0)
    assert shown.tolist() == [[0, 0, 127, 255, 255]]


@pytest.mark.parametrize("window", [None, (10.0, 0.0)])
def test_image_without_a_usable_window_is_shown_by_its_own_values(window):
    voxels = np.linspace(0, 100, 1001, dtype=np.float32)

    lowest, highest = window_of(voxels, window)

    assert (lowest, highest) == (pytest.approx(1.0), pytest.approx(99.5))
    assert window_of(np.zeros(5, np.float32), None)[1] > 0


def test_enlarging_keeps_the_center_of_everything():
    plane = np.zeros((20, 30), np.uint8)
    plane[4:7, 20:25] = 200

    large = enlarged(plane, 8).astype(float)

    rows, columns = np.indices(large.shape)
    row = (large * rows).sum() / large.sum()
    column = (large * columns).sum() / large.sum()
    # Pixel centers: index i becomes 8 (i + 1/2) - 1/2.
    assert row == pytest.approx(8 * 5.5 - 0.5, abs=0.01)
    assert column == pytest.approx(8 * 22.5 - 0.5, abs=0.01)


def test_outline_is_the_inner_border():
    mask = np.zeros((7, 7), bool)
    mask[1:6, 1:6] = True
    canvas = np.zeros((7, 7, 3), np.uint8)

    draw_outline(canvas, mask, (1, 2, 3))

    drawn = canvas.any(axis=2)
    assert drawn.sum() == 16
    assert not drawn[3, 3]
    assert not drawn[0].any()


def test_key_slice_holds_most_positive_relevance():
    relevance = np.zeros((2, 3, 2, 2), np.float32)
    relevance[:, 1] = 1.0
    relevance[:, 2, 0, 0] = 1.5
    relevance[:, 0] = -9.0

    assert key_slice(Heatmap(relevance=relevance)) == 1
