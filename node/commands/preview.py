"""The one overlay picture that shows most, as a PNG for whoever has no viewer at hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

#: Channels of a gray pixel differ by no more than rounding.
_COLORFUL = 16


def write_preview(objects: "Sequence[Dataset]", folder: Path) -> Path | None:
    """Write the most colorful RGB object as ``preview.png``; None if there is no RGB object."""
    pictures = [each for each in objects if each.get("PhotometricInterpretation") == "RGB"]
    if not pictures:
        return None
    from PIL import Image

    frames = [frame for picture in pictures for frame in _frames(picture)]
    file = folder / "preview.png"
    Image.fromarray(max(frames, key=_colored_pixels)).save(file)
    return file


def _frames(picture: "Dataset") -> list[NDArray[np.uint8]]:
    pixels: NDArray[Any] = picture.pixel_array
    shape = (-1, int(picture.Rows), int(picture.Columns), 3)
    return list(pixels.astype(np.uint8).reshape(shape))


def _colored_pixels(frame: NDArray[np.uint8]) -> int:
    spread = frame.max(axis=-1).astype(np.int16) - frame.min(axis=-1)
    return int((spread > _COLORFUL).sum())
