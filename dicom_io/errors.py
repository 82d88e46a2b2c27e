"""What can be wrong with DICOM input or output, by name.

Messages name UIDs, attributes and numbers, never a patient's name, ID or date.
"""


class DicomInputError(ValueError):
    """A stored object cannot be read as what it claims to be, or not without guessing."""


class NotDicomError(DicomInputError):
    """A file is not a DICOM file (PS3.10 section 7)."""


class DamagedFileError(DicomInputError):
    """A DICOM file cannot be parsed: bytes are missing or changed."""


class NonConformantError(DicomInputError):
    """An image that is selected was kept although its data set contradicts itself."""


class UnsupportedObjectError(DicomInputError):
    """An object is not an image that can be analyzed: a report, a segmentation, a directory."""


class UnsupportedImageError(DicomInputError):
    """An image has a form that no volume can hold, such as a cine loop or color slices."""


class UnsupportedSyntaxError(DicomInputError):
    """No decoder is installed for a transfer syntax."""


class MissingAttributeError(DicomInputError):
    """An attribute that the standard requires is absent or empty."""


class InvalidValueError(DicomInputError):
    """An attribute's value is not what the standard allows: no number, not positive, not finite."""


class MissingPixelsError(DicomInputError):
    """An image carries no pixel data."""


class TruncatedPixelsError(DicomInputError):
    """Pixel data ends early; what is missing is never filled in."""


class CorruptPixelsError(DicomInputError):
    """Pixel data cannot be decoded, or holds values that are no numbers."""


class MixedSeriesError(DicomInputError):
    """The slices of a series do not belong to one grid: size, spacing, frame of reference."""


class MixedOrientationError(MixedSeriesError):
    """The slices of a series lie in different directions."""


class UnevenSpacingError(DicomInputError):
    """The distances between slices differ: a slice is missing, or the series was cut."""


class UnalignedSlicesError(DicomInputError):
    """The slices of a series do not lie on one straight line."""


class DuplicateSliceError(DicomInputError):
    """Several slices claim the same place."""


class LocalizerError(DicomInputError):
    """A localizer (scout) stands where a stack of slices is needed."""


class SeveralImagesError(DicomInputError):
    """A series holds several images that are no stack, and nothing says which is meant."""


class MissingSeriesError(DicomInputError):
    """No series of the study is what a ``select`` entry asks for."""


class AmbiguousSelectionError(DicomInputError):
    """Several series of the study are what a ``select`` entry asks for."""


class ConflictingPatientsError(DicomInputError):
    """The instances of one study name different patients."""


class TruthError(DicomInputError):
    """A truth does not belong to the image it is meant for, or cannot be laid onto its grid."""


class EncodingError(RuntimeError):
    """A result object could not be made, or did not pass its check."""
