"""Pixel data to stored values: decoding, and what makes pixels unusable."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import get_expected_length, iter_pixels
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from dicom_io.errors import (
    CorruptPixelsError,
    DicomInputError,
    InvalidValueError,
    MissingAttributeError,
    MissingPixelsError,
    TruncatedPixelsError,
    UnsupportedImageError,
    UnsupportedSyntaxError,
)
from dicom_io.header import PARSE_ERRORS
from dicom_io.lookup import palette_colors
from dicom_io.values import numbers, required_integer, text

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
#: Photometric interpretations of one number per pixel (PS3.3 C.7.6.3.1.2).
_GRAYSCALE = frozenset(("MONOCHROME1", "MONOCHROME2"))
_COLOR = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"))
#: JPEG, JPEG-LS and JPEG 2000 end their code stream with the same marker.
_END_OF_IMAGE = b"\xff\xd9"
_WITH_END_OF_IMAGE = (
    *JPEGTransferSyntaxes,
    *JPEGLSTransferSyntaxes,
    *JPEG2000TransferSyntaxes,
)


def pixel_keyword(dataset: Dataset, uid: str) -> str:
    """Return the keyword of the element that holds the pixels.

    Raises
    ------
    MissingPixelsError
        If there is none, or it is empty.
    """
    for keyword in _PIXEL_KEYWORDS:
        if dataset.get(keyword):
            return keyword
    raise MissingPixelsError(f"instance {uid} has no pixel data; send it with its image")


def frame_count(dataset: Dataset, uid: str) -> int:
    """Return the number of frames; one where the attribute is absent (PS3.3 C.7.6.6).

    Raises
    ------
    InvalidValueError
        If the number is not positive.
    """
    if not numbers(dataset, "NumberOfFrames", uid):
        return 1
    count = required_integer(dataset, "NumberOfFrames", uid)
    if count < 1:
        raise InvalidValueError(f"instance {uid}: NumberOfFrames is {count}, expected 1 or more")
    return count


def stored_range(dataset: Dataset, uid: str) -> tuple[int, int]:
    """Return the smallest and the largest value that Bits Stored can hold."""
    bits = required_integer(dataset, "BitsStored", uid)
    if required_integer(dataset, "PixelRepresentation", uid):
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def is_color(dataset: Dataset, uid: str) -> bool:
    """Return whether the pixels are colors.

    Raises
    ------
    MissingAttributeError, UnsupportedImageError
        If the photometric interpretation is absent, or retired or unknown.
    """
    photometric = text(dataset, "PhotometricInterpretation")
    if not photometric:
        raise MissingAttributeError(f"instance {uid} lacks PhotometricInterpretation")
    if photometric not in _GRAYSCALE | _COLOR:
        raise UnsupportedImageError(
            f"instance {uid}: photometric interpretation {photometric!r} is not supported, "
            f"expected one of {', '.join(sorted(_GRAYSCALE | _COLOR))}"
        )
    return photometric in _COLOR


def stored_frames(dataset: Dataset, uid: str) -> Iterator[NDArray[np.generic]]:
    """Yield the decoded frames: [row, column] of stored values, or [row, column, 3] of RGB.

    Parameters
    ----------
    dataset
        A whole instance with its file meta.
    uid
        Its SOP Instance UID, for messages.

    Raises
    ------
    MissingPixelsError
        If there is no pixel data.
    TruncatedPixelsError
        If there is less of it than rows, columns and frames need, or a compressed frame has
        no end.
    CorruptPixelsError
        If it cannot be decoded, or holds floats that are not finite.
    UnsupportedSyntaxError
        If no decoder for the transfer syntax is installed.
    InvalidValueError, MissingAttributeError
        If the pixels are not described as PS3.3 C.7.6.3 requires.

    Notes
    -----
    Bits above High Bit (retired overlays, PS3.5 8.1.1) are cleared. YBR and palette become RGB.
    Pixel Padding Value is left as stored: it is outside the image, and a model's preparation
    decides about it.
    """
    keyword = pixel_keyword(dataset, uid)
    _require_described(dataset, keyword, uid)
    _require_whole(dataset, keyword, uid)
    try:
        plugin = _decoder(dataset)
        for frame in iter_pixels(dataset, allow_excess_frames=False, decoding_plugin=plugin):
            yield _checked(_colored(frame, dataset, uid), uid)
    except (*PARSE_ERRORS, RuntimeError) as error:
        if isinstance(error, DicomInputError):
            raise
        raise CorruptPixelsError(
            f"instance {uid}: pixel data in {_syntax(dataset).name} cannot be decoded: "
            f"{type(error).__name__}"
        ) from error


def _require_described(dataset: Dataset, keyword: str, uid: str) -> None:
    for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"):
        if required_integer(dataset, name, uid) < 1:
            raise InvalidValueError(f"instance {uid}: {name} is not positive")
    is_color(dataset, uid)
    if keyword != "PixelData":
        return
    required_integer(dataset, "PixelRepresentation", uid)
    stored = required_integer(dataset, "BitsStored", uid)
    high = numbers(dataset, "HighBit", uid)
    if high and int(high[0]) != stored - 1:
        raise InvalidValueError(
            f"instance {uid}: HighBit is {high[0]:g}, expected BitsStored - 1 = {stored - 1} "
            "(PS3.5 8.1.1)"
        )


def _require_whole(dataset: Dataset, keyword: str, uid: str) -> None:
    syntax = _syntax(dataset)
    if not syntax.is_transfer_syntax or syntax.is_encapsulated:
        _require_decoder(dataset, uid)
        _require_whole_frames(dataset, uid)
        return
    frames = frame_count(dataset, uid)
    expected, actual = get_expected_length(dataset), len(dataset[keyword].value)
    if actual < expected:
        raise TruncatedPixelsError(
            f"instance {uid}: pixel data has {actual} bytes, expected {expected}; "
            "send the instance again"
        )
    if actual - expected >= max(expected // frames, 2):
        raise InvalidValueError(
            f"instance {uid}: pixel data has {actual} bytes, expected {expected} for "
            f"{frames} frames: the excess holds a frame or more"
        )


def _require_decoder(dataset: Dataset, uid: str) -> None:
    try:
        available = get_decoder(_syntax(dataset)).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UnsupportedSyntaxError(
            f"instance {uid}: no decoder for transfer syntax {_syntax(dataset).name}; "
            "send it uncompressed, or in JPEG, JPEG-LS, JPEG 2000 or RLE"
        )


def _require_whole_frames(dataset: Dataset, uid: str) -> None:
    count = frame_count(dataset, uid)
    try:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    except PARSE_ERRORS as error:
        raise TruncatedPixelsError(
            f"instance {uid}: the fragments of its pixel data end early"
        ) from error
    if len(frames) != count:
        raise TruncatedPixelsError(
            f"instance {uid}: pixel data has {len(frames)} frames, expected {count}"
        )
    syntax = _syntax(dataset)
    if syntax not in _WITH_END_OF_IMAGE:
        return
    for number, frame in enumerate(frames, start=1):
        if _END_OF_IMAGE not in frame[-16:]:
            raise TruncatedPixelsError(
                f"instance {uid}: frame {number} of {count} in {_syntax(dataset).name} has no "
                "end-of-image marker; send the instance again"
            )


def _decoder(dataset: Dataset) -> str:
    # The compiled RLE decoder ends the process on a run that is too long; pydicom's own refuses.
    return "pydicom" if _syntax(dataset) == RLELossless else ""


def _syntax(dataset: Dataset) -> UID:
    # As text, because a damaged one may be several values.
    return UID(str(dataset.file_meta.TransferSyntaxUID))


def _colored(frame: NDArray[np.generic], dataset: Dataset, uid: str) -> NDArray[np.generic]:
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        return frame
    return palette_colors(frame, dataset, uid=uid)


def _checked(frame: NDArray[np.generic], uid: str) -> NDArray[np.generic]:
    if np.issubdtype(frame.dtype, np.floating) and not np.isfinite(frame).all():
        raise CorruptPixelsError(f"instance {uid}: pixel values that are not finite numbers")
    return frame
