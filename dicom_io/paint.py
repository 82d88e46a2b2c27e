"""Heatmap over image: values in, colors out. Normalizing for display happens here only."""

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
#: Pixels around an outline that its rim may need.
_AROUND = 8


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
    relevance = summed(heatmap)
    peak = relevance_peak(relevance)
    levels = np.zeros(relevance.shape, np.uint8)
    if peak > 0:
        # Slice by slice: what fits the cache takes half the time.
        for plane, shown in zip(relevance, levels, strict=True):
            shown[:] = np.clip(plane * np.float32(255.0 / peak), 0.0, 255.0).astype(np.uint8)
    return Display(
        levels=levels,
        peak=peak,
        lowest=float(relevance.min()),
        highest=float(relevance.max()),
    )


def relevance_peak(relevance: NDArray[np.float32]) -> float:
    """Return the value that 1 % of the positive relevance lies above; 0 if there is none.

    By mass and not by count of voxels: a percentile of voxels saturates on a map that is a small
    focus in a large volume (docs/decisions/0007-peak-by-mass.md).
    """
    total = sum(float(np.maximum(part, 0.0).sum(dtype=np.float64)) for part in relevance)
    if total <= 0:
        return 0.0
    wanted = total * ABOVE_PEAK
    largest = np.sort(_holding(relevance, wanted))[::-1]
    above = np.searchsorted(np.cumsum(largest, dtype=np.float64), wanted)
    return float(largest[min(int(above), largest.size - 1)])


def _holding(relevance: NDArray[np.float32], wanted: float) -> NDArray[np.float32]:
    """Return all values above some level that together hold what is wanted: few, and enough.

    A sample says where the level lies about; it is lowered until enough lies above.
    """
    sample = relevance.ravel()[:: max(1, relevance.size // 100_000)]
    sample = np.sort(sample[sample > 0])[::-1]
    if sample.size == 0:
        return relevance[relevance > 0]
    held = np.cumsum(sample, dtype=np.float64)
    level = float(sample[int(np.searchsorted(held, 2 * ABOVE_PEAK * held[-1]))])
    while True:
        above = [part[part >= np.float32(level)] for part in relevance]
        largest = np.concatenate([part.ravel() for part in above])
        if level == 0 or largest.sum(dtype=np.float64) > wanted:
            return largest[largest > 0]
        level = level / 2 if level > np.finfo(np.float32).tiny else 0.0


def summed(heatmap: Heatmap) -> NDArray[np.float32]:
    """Return relevance [slice, row, column], channels summed."""
    if heatmap.relevance.shape[0] == 1:
        return np.asarray(heatmap.relevance[0])
    return np.asarray(heatmap.relevance.sum(axis=0, dtype=np.float32))


def key_slice(heatmap: Heatmap) -> int:
    """Return the slice that holds most positive relevance."""
    held = [np.maximum(plane, 0.0).sum(dtype=np.float64) for plane in summed(heatmap)]
    return int(np.argmax(held))


def relevance_bands(heatmap: Heatmap) -> NDArray[np.uint8]:
    """Return, per voxel, the number of the relevance band (1 to 4) that it lies in, or 0."""
    relevance = summed(heatmap)
    peak = relevance_peak(relevance)
    if peak <= 0:
        return np.zeros(relevance.shape, np.uint8)
    bands = np.zeros(relevance.shape, np.uint8)
    for index, plane in enumerate(relevance):
        for lower, _ in RELEVANCE_BANDS:
            bands[index] += plane >= np.float32(lower * peak)
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
    scaled = values - np.float32(lowest)
    scaled *= np.float32(255.0 / (highest - lowest))
    np.clip(scaled, 0.0, 255.0, out=scaled)
    shown: NDArray[np.uint8] = scaled.astype(np.uint8)
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
    if background.ndim == 2:
        return heated_by(heat_table(), background, levels, line=line)
    alpha = _alpha()[levels][..., None]
    color = color_map()[levels].astype(np.float32)
    canvas = (background * (1 - alpha) + color * alpha + 0.5).astype(np.uint8)
    _draw_evidence(canvas, levels, line=line)
    return canvas


def heat_table() -> NDArray[np.uint32]:
    """Return what every level makes of every gray: [level * 256 + gray], as ``heated_by`` wants it.

    A long series looks its colors up, at a twentieth of the time that blending them takes.
    """
    alpha = _alpha()[:, None, None]
    color = color_map().astype(np.float32)[:, None]
    gray_levels = np.arange(256, dtype=np.float32)[None, :, None]
    table = np.zeros((_STEPS, 256, 4), np.uint8)
    table[..., :3] = gray_levels * (1 - alpha) + color * alpha + 0.5
    return table.reshape(-1, 4).view(np.uint32)[:, 0]


def heated_by(
    table: NDArray[np.uint32],
    background: NDArray[np.uint8],
    levels: NDArray[np.uint8],
    *,
    line: int = 1,
) -> NDArray[np.uint8]:
    """Return what ``heated`` makes of a gray background, by a table that was made before."""
    places = levels.astype(np.intp)
    places <<= 8
    places |= background
    # No place is outside the table; looking that up takes as long as looking up the colors.
    packed = np.take(table, places, mode="clip").view(np.uint8).reshape(*background.shape, 4)
    canvas = np.empty((*background.shape, 3), np.uint8)
    for channel in range(3):
        canvas[..., channel] = packed[..., channel]
    _draw_evidence(canvas, levels, line=line)
    return canvas


def _draw_evidence(canvas: NDArray[np.uint8], levels: NDArray[np.uint8], *, line: int) -> None:
    """Draw the outline with a dark rim, so that it is seen on white bone as on black air."""
    mask = levels >= round(OUTLINE * 255)
    box = _box(mask)
    if box is not None:
        inside = mask[box]
        rim = _grown(inside, line) & ~inside
        canvas[box][rim] //= 3
        draw_outline(canvas, mask, OUTLINE_RGB, line=line)


def draw_outline(
    canvas: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    color: tuple[int, int, int],
    *,
    line: int = 1,
) -> None:
    """Draw the inner border of ``mask`` onto ``canvas`` (RGB), ``line`` pixels wide."""
    box = _box(mask)
    if box is None:
        return
    inside = mask[box]
    for _ in range(line):
        inside = _eroded(inside)
    canvas[box][mask[box] & ~inside] = color


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


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Return the rows and columns that a mask takes, with a few around; None if it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return (
        slice(max(int(rows[0]) - _AROUND, 0), int(rows[-1]) + 1 + _AROUND),
        slice(max(int(columns[0]) - _AROUND, 0), int(columns[-1]) + 1 + _AROUND),
    )


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = np.zeros_like(mask)
    inside[1:-1, 1:-1] = (
        mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    )
    return inside


def _alpha() -> NDArray[np.float32]:
    """Return the opacity of every level: it grows from nothing, so that there is no false edge."""
    ramp = np.linspace(0.0, 1.0, _STEPS, dtype=np.float32)
    painted = np.clip((ramp - FAINTEST) / (1 - FAINTEST), 0.0, 1.0)
    alpha: NDArray[np.float32] = (_OPACITY * painted**0.55).astype(np.float32)
    return alpha


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
