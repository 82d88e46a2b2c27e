"""Region: a structure whose place in an image is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One structure that someone outlined."""

    #: What it was called; empty where the file has no words.
    label: str
    #: What it is; None where the file has no codes.
    concept: Code | None = None
    #: The number that stands for it in its file; None where none does.
    value: int | None = None
    #: bool [slice, row, column] on the grid of the image.
    mask: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self.label or (f"value {self.value}" if self.value is not None else "unnamed")
