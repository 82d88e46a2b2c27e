"""Makes the shipped template file from the MNI152 head inside the nilearn package.

Needs the extra ``dev``. Run from a checkout: ``python -m ai.phantom.build_template``.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from ai.phantom.template import TEMPLATE_FILE

_SOURCE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
#: LPS from RAS (NIfTI): the first two axes turn round.
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def axial_template(
    voxels: NDArray[np.uint8], ras_affine: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a NIfTI image cropped to its content, on axial slices in LPS order.

    Parameters
    ----------
    voxels
        uint8 [right to left, back to front, foot to head], 0 outside the brain.
    ras_affine
        4 x 4 from that index to RAS mm, with positive diagonal and no rotation.

    Returns
    -------
    intensity
        uint8 [slice, row, column].
    affine
        4 x 4 float64 from (slice, row, column, 1) to LPS mm.

    Raises
    ------
    ValueError
        If the image is not stored along the axes of RAS.
    """
    spacing = np.diag(ras_affine)[:3]
    if np.any(spacing <= 0) or not np.array_equal(ras_affine[:3, :3], np.diag(spacing)):
        raise ValueError(f"expected a NIfTI image along the axes of RAS, got\n{ras_affine}")
    content = np.argwhere(voxels > 0)
    first, last = content.min(axis=0), content.max(axis=0)
    inside = tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))
    # Columns run to the patient's left, rows to the back: both against the order of RAS.
    intensity = voxels[inside][::-1, ::-1, :].transpose(2, 1, 0)
    corner_index = np.array([last[0], last[1], first[2], 1.0])
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(spacing))
    affine[:3, 3] = (_LPS_FROM_RAS @ ras_affine @ corner_index)[:3]
    return np.ascontiguousarray(intensity), affine


def main() -> None:
    """Write the template file into the package."""
    parser = argparse.ArgumentParser(
        prog="python -m ai.phantom.build_template", description=__doc__
    )
    target = Path(str(files("ai.phantom") / TEMPLATE_FILE))
    parser.add_argument("--out", type=Path, default=target, help="file to write (%(default)s)")
    out: Path = parser.parse_args().out
    image = nibabel.Nifti1Image.from_filename(str(files("nilearn") / _SOURCE))
    intensity, affine = axial_template(np.asarray(image.dataobj, dtype=np.uint8), image.affine)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, intensity=intensity, affine=affine)


if __name__ == "__main__":
    main()
