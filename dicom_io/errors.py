"""What can be wrong with DICOM input or output, by name."""


class DicomInputError(ValueError):
    """A stored object cannot be read as what it claims to be, or not without guessing."""


class EncodingError(RuntimeError):
    """A result object could not be made, or did not pass its check."""
