"""Where an image lies, as DICOM writes it: affines to positions, orientations and letters."""

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

#: A direction is named by a second letter from this share on (about 20 degrees).
_SECOND_LETTER = 0.35


def decimal(value: float) -> str:
    """Return a number as a decimal string of at most 16 characters (PS3.5 6.2, VR DS)."""
    # Without the rounding, 1e-17 instead of 0 would take all sixteen characters.
    return str(format_number_as_ds(float(np.round(value, 10)) + 0.0))


def slice_distance(affine: NDArray[np.float64]) -> float:
    """Return the distance (mm) of neighboring planes, also where a tilted gantry shears them."""
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    return float(abs(affine[:3, 0] @ normal) / np.linalg.norm(normal))


def image_orientation(affine: NDArray[np.float64]) -> list[str]:
    """Return ImageOrientationPatient: directions of growing column, then row (C.7.6.2.1.1)."""
    along_row = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    along_column = affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    return [decimal(value) for value in (*along_row, *along_column)]


def image_position(
    affine: NDArray[np.float64], index: float, row: float = 0.0, column: float = 0.0
) -> list[str]:
    """Return ImagePositionPatient (LPS mm) of the pixel center at (slice, row, column)."""
    return [decimal(value) for value in (affine @ (index, row, column, 1.0))[:3]]


def direction_letters(direction: NDArray[np.float64]) -> str:
    """Return what a direction in LPS points to, such as ``L`` or ``PR`` (C.7.6.1.1.1)."""
    unit = direction / np.linalg.norm(direction)
    named = [
        (abs(value), letters[0] if value > 0 else letters[1])
        for value, letters in zip(unit, ("LR", "PA", "HF"), strict=True)
    ]
    named.sort(key=lambda pair: -pair[0])
    return "".join(letter for share, letter in named[:2] if share >= _SECOND_LETTER)


def opposite_letters(letters: str) -> str:
    """Return what lies opposite: ``PR`` becomes ``AL``."""
    return letters.translate(str.maketrans("LRPAHF", "RLAPFH"))
