"""Patient and study of an object, kept when its file goes: a document may have to name them."""

import copy
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement

from dicom_io.encode.inherit import INHERITED, file_meta
from dicom_io.header import parse_file, quiet_parser

_IDENTIFIERS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "StudyInstanceUID", "StudyID"),
    *("AccessionNumber", "StudyDescription"),
)
_FORMED = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")


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


def tagged_header(tags: Mapping[str, str]) -> Dataset:
    """Return what documents inherit of an image of which nothing but its tags can be read.

    Parameters
    ----------
    tags
        Those of an ``Instance``. Identifiers are taken over as they are; a date, a time or a sex
        that is none is left out.
    """
    header = Dataset()
    # The tags are decoded: any text can be written in UTF-8 (PS3.3 C.12.1.1.2).
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _IDENTIFIERS:
        if tags.get(keyword):
            header.add(_element(keyword, tags[keyword], config.IGNORE))
    for keyword in _FORMED:
        try:
            header.add(_element(keyword, tags.get(keyword, ""), config.RAISE))
        except ValueError:
            continue
    return header


def _element(keyword: str, text: str, validation: int) -> DataElement:
    return DataElement(keyword, dictionary_VR(keyword), text, validation_mode=validation)
