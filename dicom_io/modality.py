"""Stored values to the modality's units, as each image describes it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.errors import InvalidValueError
from dicom_io.lookup import lookup_table
from dicom_io.values import items, numbers, required_integer

#: Modalities whose pixels mean nothing without rescale (PS3.3 C.8.2.1, C.8.9.4).
RESCALED_MODALITIES = frozenset(("CT", "PT"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityTransform:
    """Stored values to the modality's units (PS3.3 C.11.1): a table, or slope and intercept."""

    slope: float = 1.0
    intercept: float = 0.0
    #: First stored value of the table, and its outputs; None for a linear transform.
    table: tuple[int, NDArray[np.float32]] | None = None

    def apply(self, stored: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the stored values in the modality's units."""
        if self.table is not None:
            first, outputs = self.table
            # Values beyond the table take its first or last entry (PS3.3 C.11.1.1.1).
            return outputs[np.clip(stored.astype(np.int64) - first, 0, len(outputs) - 1)]
        if (self.slope, self.intercept) == (1.0, 0.0):
            return stored.astype(np.float32)
        return (stored.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


def modality_transform(dataset: Dataset, uid: str) -> ModalityTransform:
    """Return the modality transform that a data set, or one functional group, describes.

    Raises
    ------
    InvalidValueError
        If the slope is zero, or the table is not as long as it says.
    """
    tables = items(dataset, "ModalityLUTSequence", uid)
    if tables:
        signed = required_integer(dataset, "PixelRepresentation", uid) == 1
        first, entries = lookup_table(tables[0], "LUTDescriptor", "LUTData", uid=uid, signed=signed)
        return ModalityTransform(table=(first, entries.astype(np.float32)))
    slopes = numbers(dataset, "RescaleSlope", uid)
    intercepts = numbers(dataset, "RescaleIntercept", uid)
    if slopes and slopes[0] == 0.0:
        raise InvalidValueError(f"instance {uid}: RescaleSlope is 0, every pixel would be equal")
    return ModalityTransform(
        slope=slopes[0] if slopes else 1.0, intercept=intercepts[0] if intercepts else 0.0
    )
