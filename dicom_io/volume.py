"""Volume: one image as numbers in patient space, and where each of its slices came from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFrame:
    """The frame of a stored instance that one slice of a volume was read from."""

    sop_instance_uid: str
    sop_class_uid: str
    #: Frame number from 1 within a multi-frame instance; None where the instance has one frame.
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """An image after its modality transform (CT: HU), on the grid it was stored on.

    Slices ascend along the cross product of the row and column directions, so the affine of a
    volume is right-handed whatever the order of its files.
    """

    #: float32 [channel, slice, row, column]; read-only.
    voxels: NDArray[np.float32]
    #: 4 x 4 float64 from (slice, row, column, 1), voxel centers, to LPS mm; None for a projection
    #: or a photograph, which has no place in patient space.
    affine: NDArray[np.float64] | None
    #: One per slice, in slice order.
    frames: tuple[SourceFrame, ...]
    #: ``Modality`` of the source: ``CT``, ``MR``, ``DX`` ...
    modality: str
    series_instance_uid: str
    frame_of_reference_uid: str | None
    #: Row and column spacing (mm) in the image plane where known, also without an affine.
    pixel_spacing_mm: tuple[float, float] | None
    #: (center, width) in the units of ``voxels`` to show the image by; None where unknown.
    window: tuple[float, float] | None = None
    #: ``BodyPartExamined``; empty where the source has none.
    body_part: str = ""
    #: The patient's age at the study; None where the source does not say.
    age_years: float | None = None

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.voxels.shape[1:]
        return int(slices), int(rows), int(columns)

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """(slice, row, column) spacing in mm, from the affine; None without an affine."""
        if self.affine is None:
            return None
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    @property
    def voxel_volume_ml(self) -> float | None:
        """Volume of one voxel in milliliters; None without an affine."""
        if self.affine is None:
            return None
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0
