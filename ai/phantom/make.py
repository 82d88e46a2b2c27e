"""One phantom per seed: a head MR, with or without a lesion whose place is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai.phantom.anatomy import GRID_SHAPE, SPACING_MM, grid_affine, make_anatomy, stretched
from ai.phantom.inserts import DECOYS, Kind, find_site, plant
from ai.phantom.template import load_template
from dicom_io.uids import named_uid
from dicom_io.volume import SourceFrame, Volume

_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
#: Diameters of what is planted.
DIAMETERS_MM = (15.0, 26.0)
#: Planted regions per phantom; in a phantom with a lesion, one of them is it.
_REGIONS = (1, 4)
_GAIN = (500.0, 1500.0)
_GAMMA = (0.8, 1.4)
_MAX_BIAS = 0.15
_BIAS_POINTS = (3, 3, 3)
#: Noise as a fraction of white matter's brightness.
_NOISE = (0.010, 0.030)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A synthetic study with known truth; never a patient."""

    volume: Volume
    #: bool [slice, row, column] on the volume's grid: the lesion; all False without one; read-only.
    truth: NDArray[np.bool_]
    has_lesion: bool
    #: One sentence: what was planted.
    description: str
    #: Where regions of each kind that was planted lie, decoys too: as ``truth``.
    places: Mapping[Kind, NDArray[np.bool_]]


def make_phantom(
    seed: int,
    *,
    diameters_mm: tuple[float, float] = DIAMETERS_MM,
    kinds: Sequence[Kind] | None = None,
) -> Phantom:
    """Return the phantom that always belongs to ``seed``; half of the seeds have a lesion.

    Parameters
    ----------
    diameters_mm
        Between which the diameters of planted regions are drawn; the shipped model was measured
        with the default.
    kinds
        What is planted, each in a region of its own; None: drawn, as of a seed alone.
    """
    rng = np.random.default_rng(seed)
    head = make_anatomy(load_template(), rng)
    planted = _kinds(rng) if kinds is None else list(kinds)
    return _compose(head, planted, rng, name=f"phantom {seed}", diameters_mm=diameters_mm)


def _compose(
    head: NDArray[np.float32],
    kinds: Sequence[Kind],
    rng: np.random.Generator,
    *,
    name: str,
    diameters_mm: tuple[float, float],
) -> Phantom:
    """Return a phantom of a head: regions planted, then imaged with contrast, bias and noise."""
    taken = np.zeros(head.shape, dtype=np.bool_)
    places = {kind: np.zeros(head.shape, dtype=np.bool_) for kind in (Kind.LESION, *kinds)}
    for kind in kinds:
        site = find_site(head, taken, rng, diameters_mm=diameters_mm)
        plant(head, site, kind, rng)
        taken[site.box] |= site.weight > 0
        places[kind][site.box] |= site.weight >= 0.5
    for place in places.values():
        place.setflags(write=False)
    return Phantom(
        volume=_volume(_image(head, rng), name),
        truth=places[Kind.LESION],
        has_lesion=Kind.LESION in kinds,
        description=f"{name}: planted {', '.join(kinds)}",
        places={kind: places[kind] for kind in kinds},
    )


def _kinds(rng: np.random.Generator) -> list[Kind]:
    has_lesion = bool(rng.random() < 0.5)
    kinds = [DECOYS[int(i)] for i in rng.integers(0, len(DECOYS), rng.integers(*_REGIONS))]
    if has_lesion:
        kinds[0] = Kind.LESION
    return kinds


def _image(head: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the head as a scanner might show it: whole numbers, 0 outside the head."""
    bias = stretched(
        rng.uniform(-_MAX_BIAS, _MAX_BIAS, _BIAS_POINTS).astype(np.float32), GRID_SHAPE
    )
    noise = rng.standard_normal(head.shape, dtype=np.float32)
    brain = head > 0
    gamma, gain = rng.uniform(*_GAMMA), rng.uniform(*_GAIN)
    image = head ** np.float32(gamma) * (1 + bias)
    image += np.float32(rng.uniform(*_NOISE)) * noise
    return np.where(brain, np.clip(np.rint(image * np.float32(gain)), 1, 4095), 0)


def _volume(image: NDArray[np.float32], name: str) -> Volume:
    voxels = image[np.newaxis].astype(np.float32)
    voxels.setflags(write=False)
    affine = grid_affine()
    affine.setflags(write=False)
    frames = tuple(
        SourceFrame(
            sop_instance_uid=named_uid(f"{name} slice {index}"), sop_class_uid=_MR_IMAGE_STORAGE
        )
        for index in range(GRID_SHAPE[0])
    )
    white = float(np.percentile(image[image > 0], 90))
    return Volume(
        voxels=voxels,
        affine=affine,
        frames=frames,
        modality="MR",
        series_instance_uid=named_uid(f"{name} series"),
        frame_of_reference_uid=named_uid(f"{name} frame of reference"),
        pixel_spacing_mm=(SPACING_MM[1], SPACING_MM[2]),
        window=(white * 0.65, white * 1.1),
        body_part="HEAD",
    )
