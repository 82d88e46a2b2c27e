"""Patient and study of an object, kept when its file goes: a document may have to name them."""

import copy
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_io.encode.inherit import INHERITED, file_meta
from dicom_io.header import parse_file, quiet_parser


def study_header(path: Path) -> bytes:
    """Return what documents about a study inherit from one of its objects, as a DICOM file.

    Raises
    ------
    NotDicomError, DamagedFileError
        The object's file cannot be read.
    """
    with quiet_parser():
        header = parse_file(path, pixels=False)
        kept = Dataset()
        for keyword in (*INHERITED, "SOPClassUID", "SOPInstanceUID"):
            if keyword in header:
                kept[keyword] = copy.deepcopy(header[keyword])
        kept.file_meta = file_meta(kept)
        file = BytesIO()
        kept.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read_study_header(content: bytes) -> Dataset:
    """Return the header that ``study_header`` wrote."""
    with quiet_parser():
        return dcmread(BytesIO(content))
