"""Images to measure a reliability on: phantoms that nobody saw, and what is no phantom.

What is no phantom is moved and bent as phantoms are, and says that it is a head MR: nothing but its
pixels tells it. Of real slices, of which the packages hold one each, a volume is made by repeating.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from ai.phantom.anatomy import make_anatomy
from ai.phantom.build_template import axial_template
from ai.phantom.make import make_phantom
from ai.phantom.template import Template
from dicom_io.volume import Volume

PHANTOM = "phantom"
_GAIN = 1000.0
#: Noise as a fraction of the brightest, as phantoms have it.
_NOISE = 0.02
#: Slices of 1 mm that a single one is repeated to: more than a phantom is high.
_REPEATS = 180
_NILEARN = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image, and whether a lesion was planted into it."""

    volume: Volume
    has_lesion: bool = False


def phantom(seed: int) -> Shown:
    made = make_phantom(seed)
    return Shown(volume=made.volume, has_lesion=made.has_lesion)


def inverted(seed: int) -> Shown:
    """Return a phantom whose bright is dark: a head of another contrast."""
    volume = make_phantom(seed).volume
    head = volume.voxels > 0
    turned = np.where(head, volume.voxels.max() + 1 - volume.voxels, 0)
    return Shown(volume=replace(volume, voxels=turned.astype(np.float32)))


def gray_matter(seed: int) -> Shown:
    return _moved(_nilearn("gm"), seed)


def white_matter(seed: int) -> Shown:
    return _moved(_nilearn("wm"), seed)


def head_ct(seed: int) -> Shown:
    return _moved(_repeated("693_UNCR.dcm"), seed)


def abdomen_mr(seed: int) -> Shown:
    return _moved(_repeated("MR-SIEMENS-DICOM-WithOverlays.dcm"), seed)


def real_head(seed: int, *, file: Path) -> Shown:
    """Return a real T1 head with its skull, which phantoms lack; of 1 mm, a NIfTI file."""
    return _moved(_turned(file), seed)


#: By the name that the results have; all but the first are strange to the phantom's model.
KINDS: Mapping[str, Callable[[int], Shown]] = {
    PHANTOM: phantom,
    "inverted contrast": inverted,
    "gray matter map": gray_matter,
    "white matter map": white_matter,
    "head CT": head_ct,
    "abdomen MR": abdomen_mr,
}


def _moved(intensity: NDArray[np.uint8], seed: int) -> Shown:
    """Return an anatomy of 1 mm, moved and bent by the seed, on the grid of the phantoms."""
    rng = np.random.default_rng(seed)
    head = make_anatomy(Template(intensity=intensity, affine=np.eye(4)), rng)
    noisy = head + np.float32(_NOISE) * rng.standard_normal(head.shape, dtype=np.float32)
    voxels = np.where(head > 0, np.clip(np.rint(noisy * _GAIN), 1, 4095), 0)
    return Shown(volume=replace(_grid(), voxels=voxels[np.newaxis].astype(np.float32)))


@cache
def _grid() -> Volume:
    return make_phantom(0).volume


@cache
def _nilearn(tissue: str) -> NDArray[np.uint8]:
    image = nibabel.Nifti1Image.from_filename(str(_package("nilearn") / _NILEARN.format(tissue)))
    return _axial(image)


@cache
def _turned(file: Path) -> NDArray[np.uint8]:
    return _axial(nibabel.as_closest_canonical(nibabel.Nifti1Image.from_filename(str(file))))


def _axial(image: nibabel.Nifti1Image) -> NDArray[np.uint8]:
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    # A straight affine: rotations of a degree are nothing here, and would be refused.
    affine = np.diag([*image.header.get_zooms()[:3], 1.0])
    return axial_template(_scaled(voxels), affine)[0]


@cache
def _repeated(name: str) -> NDArray[np.uint8]:
    """Return a real slice, resampled to 1 mm by its nearest pixels, repeated along the body."""
    header = dcmread(_package("data_store") / "data" / name)
    pixels = header.pixel_array.astype(np.float32)
    spacing = [float(value) for value in header.PixelSpacing]
    places = [
        (np.arange(int(size * step)) / step).astype(int)
        for size, step in zip(pixels.shape, spacing, strict=True)
    ]
    slice_of_1_mm = _scaled(pixels[np.ix_(*places)])
    return np.repeat(slice_of_1_mm[np.newaxis], _REPEATS, axis=0)


def _scaled(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(np.percentile(values, 99.9))
    return np.clip((values - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed: make setup")
    return Path(spec.origin).parent
