"""Functional groups of frames that lie in the planes of their source (PS3.3 C.7.6.16.2)."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag

from dicom_io.codes import Code
from dicom_io.encode.geometry import (
    decimal,
    image_orientation,
    image_position,
    slice_distance,
)
from dicom_io.encode.inherit import code_item, source_image
from dicom_io.volume import SourceFrame

_PLANE_POSITION = Tag("PlanePositionSequence")
_IMAGE_POSITION = Tag("ImagePositionPatient")

#: Attribute that a dimension runs along, the functional group it is in, and a word for people.
Pointer = tuple[int, int, str]
POSITION: Pointer = (_IMAGE_POSITION, _PLANE_POSITION, "Position")


def placed_groups(affine: NDArray[np.float64]) -> Dataset:
    """Return what all frames of a grid share: spacing, thickness and orientation.

    Parameters
    ----------
    affine
        4 x 4 from (slice, row, column, 1) to LPS mm.
    """
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    row_spacing, column_spacing = (float(mm) for mm in np.linalg.norm(affine[:3, 1:3], axis=0))
    measures.SliceThickness = decimal(slice_distance(affine))
    measures.SpacingBetweenSlices = measures.SliceThickness
    measures.PixelSpacing = [decimal(row_spacing), decimal(column_spacing)]
    orientation.ImageOrientationPatient = image_orientation(affine)
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    return shared


def add_position(frame: Dataset, affine: NDArray[np.float64], index: int) -> None:
    """Say where the plane of a frame lies: that of slice ``index`` of the grid."""
    plane = Dataset()
    plane.ImagePositionPatient = image_position(affine, index)
    frame.PlanePositionSequence = [plane]


def add_derivation(frame: Dataset, derivation: Code, sources: Iterable[SourceFrame]) -> None:
    """Say which source frames a frame was made from, and how (PS3.3 C.7.6.16.2.6)."""
    item = Dataset()
    item.DerivationCodeSequence = [code_item(derivation)]
    item.SourceImageSequence = [source_image(source) for source in sources]
    frame.DerivationImageSequence = [item]


def add_dimensions(dataset: Dataset, pointers: Iterable[Pointer], organization_uid: str) -> None:
    """Say what the dimension index values of the frames count (PS3.3 C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = organization_uid
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = []
    for pointer, group, label in pointers:
        item = Dataset()
        item.DimensionIndexPointer = pointer
        item.FunctionalGroupPointer = group
        item.DimensionOrganizationUID = organization_uid
        item.DimensionDescriptionLabel = label
        dataset.DimensionIndexSequence.append(item)
