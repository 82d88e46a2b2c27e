"""Lookup tables as DICOM stores them: modality tables and color palettes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from dicom_io.errors import InvalidValueError
from dicom_io.header import PARSE_ERRORS
from dicom_io.values import numbers

_COLORS = ("Red", "Green", "Blue")


def lookup_table(
    dataset: Dataset, descriptor: str, content: str, *, uid: str, signed: bool
) -> tuple[int, NDArray[np.uint16]]:
    """Return the first stored value that a table maps, and its entries.

    Parameters
    ----------
    descriptor, content
        Keywords of the LUT Descriptor and the LUT Data.
    signed
        Whether the pixels are signed, and with them the first value (PS3.3 C.11.1.1.1).

    Raises
    ------
    InvalidValueError
        If the table is not as long as its descriptor says.
    """
    described = numbers(dataset, descriptor, uid)
    if len(described) != 3:
        raise InvalidValueError(
            f"instance {uid}: {descriptor} has {len(described)} values, expected 3"
        )
    length = int(described[0]) % 65536 or 65536
    first = int(described[1]) % 65536
    entries = _entries(dataset, content, length, uid)
    if len(entries) != length:
        raise InvalidValueError(
            f"instance {uid}: {content} has {len(entries)} entries, expected {length}"
        )
    return first - 65536 if signed and first >= 32768 else first, entries


def _entries(dataset: Dataset, content: str, length: int, uid: str) -> NDArray[np.uint16]:
    try:
        values: Any = dataset.get(content, b"")
        if not isinstance(values, bytes):
            return np.atleast_1d(np.asarray(values)).astype(np.uint16)
        # Words are in the byte order of the file; a table of bytes is packed into words.
        words = np.frombuffer(values, ">u2" if dataset.original_encoding[1] is False else "<u2")
    except PARSE_ERRORS as error:
        raise InvalidValueError(f"instance {uid}: {content} cannot be parsed") from error
    if len(words) == (length + 1) // 2 and length > 1:
        return words.astype("<u2").view(np.uint8)[:length].astype(np.uint16)
    return words.astype(np.uint16)


def palette_colors(
    frame: NDArray[np.generic], dataset: Dataset, *, uid: str
) -> NDArray[np.generic]:
    """Return [row, column, 3] of the colors that a palette gives to [row, column] of indices.

    Colors are in the palette's own range: up to 255, or up to 65535 (PS3.3 C.7.6.3.1.6).

    Raises
    ------
    InvalidValueError
        If the palette is absent or not as long as it says.
    """
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        colored: NDArray[np.generic] = apply_color_lut(frame, dataset)
        return colored[..., :3]
    signed = bool(np.issubdtype(frame.dtype, np.signedinteger))
    channels = []
    for color in _COLORS:
        keyword = f"{color}PaletteColorLookupTable"
        first, entries = lookup_table(
            dataset, f"{keyword}Descriptor", f"{keyword}Data", uid=uid, signed=signed
        )
        channels.append(entries[np.clip(frame.astype(np.int64) - first, 0, len(entries) - 1)])
    return np.stack(channels, axis=-1)
