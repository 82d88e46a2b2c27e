"""What is planted into a head: lesions of one texture, and decoys of any other."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai.phantom.anatomy import SPACING_MM

#: Standard deviation of the texture, as a fraction of white matter's brightness.
_AMPLITUDE = (0.09, 0.14)
#: Local structure is replaced by its average over this Gaussian sigma.
_FADE_MM = 3.0
#: Textures are differences of two Gaussians (mm): the lesion's has wavelengths of about 4 to 8 mm.
_LESION_MM = (1.0, 2.0)
_SWELL_MM = (4.0, 8.0)
_RIM_MM = (3.0, 6.0)
#: Where a pattern's bright side is cut off, in standard deviations.
_BRIGHTEST = 0.35
#: A place must lie in tissue: at least this share of it brighter than ``_TISSUE``.
_TISSUE = 0.45
_TISSUE_SHARE = 0.93
_TRIES = 500


class Kind(StrEnum):
    """How a planted region looks; only ``LESION`` is what the classifier looks for."""

    LESION = "lesion"
    #: Structure faded, nothing put in its place.
    FADED = "faded"
    #: Grain: noise from voxel to voxel, finer than the lesion's texture.
    GRAIN = "grain"
    #: One slow swell, coarser than the lesion's texture.
    SWELL = "swell"


DECOYS = (Kind.FADED, Kind.GRAIN, Kind.SWELL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a region lies in the grid, and how much of each voxel it fills."""

    box: tuple[slice, slice, slice]
    #: float32 of the box's shape, 0 to 1, soft at the rim.
    weight: NDArray[np.float32]
    diameter_mm: float


class NoRoomError(RuntimeError):
    """No place inside the tissue was found for a region of the wanted size."""


def find_site(
    head: NDArray[np.float32],
    taken: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    diameters_mm: tuple[float, float],
) -> Site:
    """Return a random place inside the tissue that touches nothing planted before.

    Parameters
    ----------
    head
        float32 [slice, row, column], 0 to 1.
    taken
        bool of the same shape: what earlier regions occupy.
    diameters_mm
        Between which the region's diameter is drawn.

    Raises
    ------
    NoRoomError
        If no place was found in many tries.
    """
    diameter = float(rng.uniform(*diameters_mm))
    margin = np.ceil(0.75 * diameter / np.array(SPACING_MM)).astype(int)
    for _ in range(_TRIES):
        center = [int(rng.integers(m, n - m)) for m, n in zip(margin, head.shape, strict=True)]
        if head[tuple(center)] < _TISSUE:
            continue
        box = tuple(slice(c - m, c + m + 1) for c, m in zip(center, margin, strict=True))
        site = Site(
            box=(box[0], box[1], box[2]),
            weight=_soft_shape(margin, diameter, rng),
            diameter_mm=diameter,
        )
        core = site.weight > 0.02
        in_tissue = np.mean(head[site.box][core] > _TISSUE) >= _TISSUE_SHARE
        if in_tissue and not np.any(taken[site.box] & core):
            return site
    raise NoRoomError(f"no room for a region of {diameter:.1f} mm in {_TRIES} tries")


def plant(head: NDArray[np.float32], site: Site, kind: Kind, rng: np.random.Generator) -> None:
    """Replace the structure at ``site``, in place, without changing its average brightness."""
    before = head[site.box].copy()
    sigma = [_FADE_MM / spacing for spacing in SPACING_MM]
    inside = (before > 0).astype(np.float32)
    faded = ndimage.gaussian_filter(before, sigma, mode="nearest")
    faded /= np.maximum(ndimage.gaussian_filter(inside, sigma, mode="nearest"), 1e-3)
    texture = _texture(before.shape, kind, rng) * np.float32(rng.uniform(*_AMPLITUDE))
    change = site.weight * inside * (faded + texture - before)
    # Equal brightness on average: what the region gains or loses in all is taken back.
    change -= site.weight * inside * np.float32(change.sum() / (site.weight * inside).sum())
    head[site.box] = np.where(inside > 0, np.clip(before + change, 0.02, 1.0), before)


def _soft_shape(
    margin: NDArray[np.int_], diameter_mm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the fill of a lumpy ellipsoid in a box of 2 * margin + 1 voxels, 0 to 1."""
    radii = diameter_mm / 2 * rng.uniform(0.85, 1.15, 3)
    axes = [
        np.arange(-m, m + 1) * spacing / radius
        for m, spacing, radius in zip(margin, SPACING_MM, radii, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2)
    distance += 0.12 * _band(distance.shape, _RIM_MM, rng)
    # From full to none over about 2 mm.
    fill: NDArray[np.float32] = np.clip(0.5 + (1 - distance) * diameter_mm / 4, 0, 1)
    return fill.astype(np.float32)


def _texture(shape: tuple[int, ...], kind: Kind, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a pattern of mean 0 and standard deviation 1, or zeros for a faded region.

    Bright spots are cut off and dark ones kept, so that no pattern shows by being the brightest.
    """
    if kind is Kind.FADED:
        return np.zeros(shape, dtype=np.float32)
    if kind is Kind.GRAIN:
        pattern = rng.standard_normal(shape, dtype=np.float32)
    else:
        pattern = _band(shape, _SWELL_MM if kind is Kind.SWELL else _LESION_MM, rng)
    return _standardized(np.minimum(pattern, _BRIGHTEST))


def _band(
    shape: tuple[int, ...], sigmas_mm: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise between two Gaussian scales (mm), of mean 0 and standard deviation 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    fine, coarse = (
        ndimage.gaussian_filter(noise, [sigma / spacing for spacing in SPACING_MM], mode="wrap")
        for sigma in sigmas_mm
    )
    return _standardized(fine - coarse)


def _standardized(values: NDArray[np.float32]) -> NDArray[np.float32]:
    centered: NDArray[np.float32] = (values - values.mean()) / values.std()
    return centered
