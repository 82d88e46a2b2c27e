"""Heatmap over image: values in, colors out. Normalizing for display happens here only."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_io.analysis import Heatmap
from dicom_io.codes import RELEVANCE_BANDS

#: Share of the positive relevance that lies above the peak, of which colors are fractions.
ABOVE_PEAK = 0.01
#: Below this fraction of the peak nothing is painted: haze would only hide anatomy.
FAINTEST = 0.1
#: The fraction whose outline is drawn.
OUTLINE = 0.5
OUTLINE_RGB = (255, 255, 255)

_STEPS = 256
_OPACITY = 0.62


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """Relevance as it is shown: fractions of the peak of the whole volume."""

    #: uint8 [slice, row, column]: 255 is the peak or more, 0 is no positive relevance.
    levels: NDArray[np.uint8]
    #: The relevance that 255 stands for; 0 where no relevance is positive.
    peak: float
    #: Smallest and largest relevance of the whole volume, before anything was cut.
    lowest: float
    highest: float


def displayed(heatmap: Heatmap) -> Display:
    """Return a heatmap as fractions of its peak, channels summed.

    The peak tops all but 1 % of the positive relevance of the whole volume, never of a
    slice, so that a color means the same on every slice; negative relevance is not painted.
    """
    relevance = heatmap.relevance.sum(axis=0, dtype=np.float32)
    peak = relevance_peak(relevance)
    scaled = np.zeros_like(relevance)
    if peak > 0:
        np.clip(relevance * np.float32(255.0 / peak), 0.0, 255.0, out=scaled)
    return Display(
        levels=scaled.astype(np.uint8),
        peak=peak,
        lowest=float(relevance.min()),
        highest=float(relevance.max()),
    )


def relevance_peak(relevance: NDArray[np.float32]) -> float:
    """Return the value that 1 % of the positive relevance lies above; 0 if there is none.

    By mass and not by count of voxels: a percentile of voxels saturates on a map that is a small
    focus in a large volume (docs/decisions/0007-peak-by-mass.md).
    """
    positive = relevance[relevance > 0]
    if positive.size == 0:
        return 0.0
    # The largest 1 % of the voxels hold at least 1 % of the relevance: sort only those.
    count = math.ceil(positive.size * ABOVE_PEAK)
    total = float(positive.sum(dtype=np.float64))
    largest = np.sort(np.partition(positive, positive.size - count)[-count:])[::-1]
    above = np.searchsorted(np.cumsum(largest, dtype=np.float64), total * ABOVE_PEAK)
    return float(largest[min(int(above), count - 1)])


def key_slice(heatmap: Heatmap) -> int:
    """Return the slice that holds most positive relevance."""
    relevance = heatmap.relevance.sum(axis=0, dtype=np.float32)
    return int(np.maximum(relevance, 0.0).sum(axis=(1, 2), dtype=np.float64).argmax())


def relevance_bands(heatmap: Heatmap) -> NDArray[np.uint8]:
    """Return, per voxel, the number of the relevance band (1 to 4) that it lies in, or 0."""
    relevance = heatmap.relevance.sum(axis=0, dtype=np.float32)
    peak = relevance_peak(relevance)
    if peak <= 0:
        return np.zeros(relevance.shape, np.uint8)
    bands = np.zeros(relevance.shape, np.uint8)
    for lower, _ in RELEVANCE_BANDS:
        bands += relevance >= np.float32(lower * peak)
    return bands


def window_of(
    voxels: NDArray[np.float32], window: tuple[float, float] | None
) -> tuple[float, float]:
    """Return (lowest, highest) value to show: of the image's own window, else of its values."""
    if window is not None and window[1] > 0:
        center, width = window
        return center - width / 2, center + width / 2
    # A million values say the same as all, at a fiftieth of the time.
    sample = voxels.ravel()[:: max(1, voxels.size // 1_000_000)]
    lowest, highest = np.percentile(sample, (1.0, 99.5))
    return float(lowest), float(max(highest, lowest + 1e-6))


def gray(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Return values of any shape between black (0, at the lowest) and white (255, highest)."""
    lowest, highest = limits
    scaled = (values - np.float32(lowest)) * np.float32(255.0 / (highest - lowest))
    shown: NDArray[np.uint8] = np.clip(scaled, 0.0, 255.0).astype(np.uint8)
    return shown


def enlarged(plane: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return a plane [row, column(, 3)] on a grid finer by ``factor``, linearly interpolated.

    The outer edges stay where they are: the new first pixel lies in the corner of the old one.
    """
    if factor == 1:
        return plane
    rows, columns = plane.shape[:2]
    image = Image.fromarray(plane).resize(
        (columns * factor, rows * factor), Image.Resampling.BILINEAR
    )
    return np.asarray(image, np.uint8)


def heated(
    background: NDArray[np.uint8], levels: NDArray[np.uint8], *, line: int = 1
) -> NDArray[np.uint8]:
    """Return RGB [row, column, 3]: ``background`` (gray or RGB) with the relevance over it.

    ``line`` is the width of the outline in pixels.
    """
    canvas = background if background.ndim == 3 else np.repeat(background[..., None], 3, axis=2)
    canvas = canvas.copy()
    rows, columns = np.nonzero(levels >= round(FAINTEST * 255))
    if rows.size:
        level = levels[rows, columns]
        under = canvas[rows, columns].astype(np.float32)
        alpha = _alpha()[level][:, None]
        color = color_map()[level].astype(np.float32)
        canvas[rows, columns] = (under * (1 - alpha) + color * alpha + 0.5).astype(np.uint8)
        draw_outline(canvas, levels >= round(OUTLINE * 255), OUTLINE_RGB, line=line)
    return canvas


def draw_outline(
    canvas: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    color: tuple[int, int, int],
    *,
    line: int = 1,
) -> None:
    """Draw the inner border of ``mask`` onto ``canvas`` (RGB), ``line`` pixels wide."""
    if not mask.any():
        return
    inside = mask
    for _ in range(line):
        inside = _eroded(inside)
    canvas[mask & ~inside] = color


def color_map() -> NDArray[np.uint8]:
    """Return the colors of relevance, uint8 [256, 3]: lightness rises evenly from 0 to the peak.

    A path through CIELCh of constant steps in lightness, from violet over red and orange to
    light yellow: equal differences of relevance look equally different, also in grayscale.
    """
    return _lch_to_rgb(*_heat_path(np.linspace(0.0, 1.0, _STEPS)))


def heat_lab(fraction: float) -> tuple[float, float, float]:
    """Return the CIELab color (L 0 to 100) that the color map has at a fraction of the peak."""
    lightness, chroma, hue = (float(v[0]) for v in _heat_path(np.array([fraction])))
    return lightness, chroma * float(np.cos(hue)), chroma * float(np.sin(hue))


def segment_lab(number: int) -> tuple[float, float, float]:
    """Return a CIELab color for the segment of this number (from 1), apart from all heat colors.

    Hues run from green over cyan to blue; neighbors in number are far apart in hue and lightness.
    """
    share = (0.5 + (number - 1) * 0.618034) % 1.0
    hue = np.deg2rad(115.0 + 180.0 * share)
    lightness = (78.0, 60.0, 91.0)[(number - 1) % 3]
    return lightness, 50.0 * float(np.cos(hue)), 50.0 * float(np.sin(hue))


def lab_to_rgb(lab: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the sRGB color of a CIELab color (white point D65)."""
    lightness, a, b = (np.array([value]) for value in lab)
    red, green, blue = _lch_to_rgb(lightness, np.hypot(a, b), np.arctan2(b, a))[0]
    return int(red), int(green), int(blue)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = np.zeros_like(mask)
    inside[1:-1, 1:-1] = (
        mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    )
    return inside


def _alpha() -> NDArray[np.float32]:
    ramp = np.linspace(0.0, 1.0, _STEPS, dtype=np.float32)
    return np.where(ramp >= FAINTEST, 0.18 + (_OPACITY - 0.18) * ramp, 0.0).astype(np.float32)


def _heat_path(
    t: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    lightness = 28.0 + 64.0 * t
    hue = np.deg2rad(np.interp(t, [0, 0.35, 0.65, 1], [310.0, 377.0, 420.0, 460.0]))
    chroma = np.interp(t, [0, 0.35, 0.65, 1], [58.0, 72.0, 76.0, 62.0])
    return lightness, chroma, hue


def _lch_to_rgb(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Convert CIELCh to sRGB (IEC 61966-2-1), clipping what the screen cannot show."""
    fy = (lightness + 16.0) / 116.0
    fx = fy + chroma * np.cos(hue) / 500.0
    fz = fy - chroma * np.sin(hue) / 200.0
    f = np.stack([fx, fy, fz], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.95047, 1.0, 1.08883)
    to_linear = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    linear = np.clip(xyz @ to_linear.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colors: NDArray[np.uint8] = np.round(encoded * 255.0).astype(np.uint8)
    return colors
