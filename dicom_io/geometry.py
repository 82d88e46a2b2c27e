"""Where slices lie: planes in patient space, and the stack that they form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.errors import (
    DuplicateSliceError,
    InvalidValueError,
    MissingAttributeError,
    MixedOrientationError,
    MixedSeriesError,
    UnalignedSlicesError,
    UnevenSpacingError,
)
from dicom_io.values import numbers, required_integer, required_numbers

#: Norms and the dot product of the direction cosines may be off by this much: four decimals.
_COSINE_TOLERANCE = 1e-3
#: Directions may differ by what moves the far corner of a slice less than this many pixels.
_CORNER_TOLERANCE_PIXELS = 0.1
#: Slices may lie beside their place on a regular grid by this fraction of the spacing, or by
#: what two decimals of a millimeter cannot write.
_STEP_TOLERANCE = 0.02
_STEP_TOLERANCE_MM = 0.01
_SPACING_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One slice in patient space (PS3.3 C.7.6.2): LPS mm, voxel centers."""

    sop_instance_uid: str
    #: Center of the first voxel, mm.
    position: NDArray[np.float64]
    #: Unit vector along which the column index grows: the direction of a row.
    row_direction: NDArray[np.float64]
    #: Unit vector along which the row index grows.
    column_direction: NDArray[np.float64]
    #: Distance between rows, then between columns, mm.
    spacing: tuple[float, float]
    #: Rows, columns.
    shape: tuple[int, int]
    #: What one slice extends over along the normal; None where the source does not say.
    thickness: float | None

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along which slices ascend: row direction x column direction."""
        return np.cross(self.row_direction, self.column_direction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Planes in ascending order on one regular grid."""

    #: Index of each plane in the order they were given, by slice.
    order: tuple[int, ...]
    #: 4 x 4 from (slice, row, column, 1) to LPS mm.
    affine: NDArray[np.float64]


def plane_of(
    *, image: Dataset, position: Dataset, orientation: Dataset, measures: Dataset, uid: str
) -> Plane:
    """Return the plane that a data set, or the functional groups of one frame, describe.

    Raises
    ------
    MissingAttributeError
        If position, orientation, pixel spacing, rows or columns are absent.
    InvalidValueError
        If the direction cosines are not orthogonal unit vectors, or a spacing is not positive.
    """
    cosines = np.array(required_numbers(orientation, "ImageOrientationPatient", uid, count=6))
    row_direction, column_direction = _directions(cosines, uid)
    row_spacing, column_spacing = required_numbers(measures, "PixelSpacing", uid, count=2)
    if min(row_spacing, column_spacing) <= 0:
        raise InvalidValueError(
            f"instance {uid}: PixelSpacing is {row_spacing:g}, {column_spacing:g} mm, "
            "expected positive (PS3.3 10.7.1.3)"
        )
    return Plane(
        sop_instance_uid=uid,
        position=np.array(required_numbers(position, "ImagePositionPatient", uid, count=3)),
        row_direction=row_direction,
        column_direction=column_direction,
        spacing=(row_spacing, column_spacing),
        shape=(required_integer(image, "Rows", uid), required_integer(image, "Columns", uid)),
        thickness=_thickness(measures, uid),
    )


def _directions(
    cosines: NDArray[np.float64], uid: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    row, column = cosines[:3], cosines[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    lean = float(row @ column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(lean)) > _COSINE_TOLERANCE:
        raise InvalidValueError(
            f"instance {uid}: ImageOrientationPatient has lengths {lengths[0]:.4f}, "
            f"{lengths[1]:.4f} and dot product {lean:.4f}, expected 1, 1 and 0 "
            "(PS3.3 C.7.6.2.1.1)"
        )
    return row / lengths[0], column / lengths[1]


def _thickness(measures: Dataset, uid: str) -> float | None:
    # A lone slice samples what its own thickness covers; the distance to slices that are not
    # there only stands in for it.
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        found = numbers(measures, keyword, uid)
        if found and found[0] > 0:
            return found[0]
    return None


def stacked(planes: Sequence[Plane], series_uid: str) -> Stack:
    """Return the order and the affine of planes that form one regular stack.

    Slices may be shifted against each other in their plane by a constant step, as a tilted
    gantry does: the affine then is sheared, and exact.

    Raises
    ------
    MixedSeriesError, MixedOrientationError
        If size, pixel spacing or directions differ.
    DuplicateSliceError
        If two planes have the same place.
    UnevenSpacingError
        If the distances between the slices differ.
    UnalignedSlicesError
        If the slices do not lie on a straight line.
    MissingAttributeError
        If there is one plane only and it does not say how thick it is.
    """
    first = planes[0]
    for plane in planes[1:]:
        _require_same_grid(first, plane, series_uid)
    heights = np.array([plane.position @ first.normal for plane in planes])
    order = np.argsort(heights, kind="stable")
    positions = np.array([planes[index].position for index in order])
    if len(planes) == 1:
        step = first.normal * _own_thickness(first)
    else:
        _require_distinct(heights[order], [planes[i].sop_instance_uid for i in order], series_uid)
        step = (positions[-1] - positions[0]) / (len(planes) - 1)
        _require_regular(positions, step, first.normal, series_uid)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.column_direction * first.spacing[0]
    affine[:3, 2] = first.row_direction * first.spacing[1]
    affine[:3, 3] = positions[0]
    return Stack(order=tuple(int(index) for index in order), affine=affine)


def _own_thickness(plane: Plane) -> float:
    if plane.thickness is None:
        raise MissingAttributeError(
            f"instance {plane.sop_instance_uid} is a single slice and has neither SliceThickness "
            "nor SpacingBetweenSlices: its extent is unknown"
        )
    return plane.thickness


def _require_same_grid(first: Plane, plane: Plane, series_uid: str) -> None:
    if plane.shape != first.shape:
        raise MixedSeriesError(
            f"series {series_uid}: instance {plane.sop_instance_uid} has {plane.shape} rows and "
            f"columns, expected {first.shape} as in {first.sop_instance_uid}"
        )
    if not np.allclose(plane.spacing, first.spacing, rtol=_SPACING_TOLERANCE, atol=0):
        raise MixedSeriesError(
            f"series {series_uid}: instance {plane.sop_instance_uid} has pixel spacing "
            f"{plane.spacing} mm, expected {first.spacing} as in {first.sop_instance_uid}"
        )
    turned = max(
        float(np.linalg.norm(plane.row_direction - first.row_direction)),
        float(np.linalg.norm(plane.column_direction - first.column_direction)),
    )
    if turned * max(first.shape) > _CORNER_TOLERANCE_PIXELS:
        raise MixedOrientationError(
            f"series {series_uid}: instance {plane.sop_instance_uid} is turned by "
            f"{np.degrees(2 * np.arcsin(min(turned / 2, 1.0))):.3f} degrees against "
            f"{first.sop_instance_uid}; select one orientation, or exclude localizers by "
            'ImageType = ["!LOCALIZER"]'
        )


def _require_distinct(heights: NDArray[np.float64], uids: list[str], series_uid: str) -> None:
    gaps = np.diff(heights)
    same = np.flatnonzero(gaps < _STEP_TOLERANCE_MM)
    if same.size:
        places = len(heights) - same.size
        at = int(same[0])
        raise DuplicateSliceError(
            f"series {series_uid}: {len(heights)} slices at {places} places, {uids[at]} and "
            f"{uids[at + 1]} at {heights[at]:.2f} mm; if these are several time points, echoes "
            "or b-values, select one of them"
        )


def _require_regular(
    positions: NDArray[np.float64],
    step: NDArray[np.float64],
    normal: NDArray[np.float64],
    series_uid: str,
) -> None:
    spacing = float(step @ normal)
    tolerance = max(_STEP_TOLERANCE * spacing, _STEP_TOLERANCE_MM)
    regular = positions[0] + np.arange(len(positions))[:, None] * step
    along = (positions - regular) @ normal
    if np.abs(along).max() > tolerance:
        gaps = np.diff(positions @ normal)
        usual = float(np.median(gaps))
        worst = int(np.argmax(np.abs(gaps - usual)))
        raise UnevenSpacingError(
            f"series {series_uid}: slices {worst + 1} and {worst + 2} of {len(positions)} are "
            f"{gaps[worst]:.3f} mm apart, expected {usual:.3f} mm; send the missing slices, or "
            "select an evenly spaced reconstruction"
        )
    beside = np.linalg.norm(positions - regular - along[:, None] * normal, axis=1)
    if beside.max() > tolerance:
        raise UnalignedSlicesError(
            f"series {series_uid}: slice {int(beside.argmax()) + 1} of {len(positions)} lies "
            f"{beside.max():.3f} mm beside the line of the others"
        )
