"""What results take over from their source: pixel-less headers, age, display window."""

import re
from datetime import date

from pydicom import Dataset
from pydicom.dataelem import DataElement

from dicom_io.errors import InvalidValueError
from dicom_io.header import PARSE_ERRORS
from dicom_io.values import numbers, text

#: Patient, study, series and equipment attributes of type 2: required, possibly empty
#: (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.4.1, C.7.5.1).
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "Manufacturer",
    "PositionReferenceIndicator",
)
_PIXEL_GROUP = 0x7FE0
_ICON_IMAGE = 0x00880200
_DAYS_PER = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


def inherited_header(dataset: Dataset) -> Dataset:
    """Return a copy of a data set for results to inherit from; the source is not changed.

    Pixels, overlays, icons and private elements are left out, and so is an element whose value
    cannot be decoded. Texts keep their character set. Type-2 attributes that the source lacks
    are present and empty.
    """
    header = _decoded_copy(dataset)
    for keyword in _TYPE_2:
        if keyword not in header:
            setattr(header, keyword, None)
    if hasattr(dataset, "file_meta"):
        header.file_meta = dataset.file_meta
    return header


def _decoded_copy(dataset: Dataset) -> Dataset:
    copy = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - a data set iterates over converted elements
        overlay = 0x6000 <= tag.group <= 0x60FF
        if tag.is_private or overlay or tag.group == _PIXEL_GROUP or tag == _ICON_IMAGE:
            continue
        try:
            copy.add(_decoded(dataset[tag]))
        except PARSE_ERRORS:
            # A malformed attribute that reading needed has been refused by then; any other
            # is worth nothing to a result.
            continue
    return copy


def _decoded(element: DataElement) -> DataElement:
    if element.VR == "SQ":
        items = [_decoded_copy(item) for item in element.value]
        return DataElement(element.tag, "SQ", items)
    if element.VR in ("DS", "IS"):
        # pydicom hands on a number that is none as text.
        for value in [element.value] if element.VM <= 1 else element.value:
            float(value or 0)
    # Decodes names now, while the parser is kept quiet, instead of when they are first used.
    str(element.value)
    return element


def display_window(dataset: Dataset, uid: str) -> tuple[float, float] | None:
    """Return the first (Window Center, Window Width), or None where there is none to use.

    A malformed window is none: it decides about display only, never about values.
    """
    try:
        centers = numbers(dataset, "WindowCenter", uid)
        widths = numbers(dataset, "WindowWidth", uid)
    except InvalidValueError:
        return None
    if not centers or not widths or widths[0] <= 0:
        return None
    return centers[0], widths[0]


def age_years(dataset: Dataset) -> float | None:
    """Return the patient's age at the study, from Patient's Age, else from birth and study date.

    None where neither is there in the standard's form (``045Y``; ``YYYYMMDD``).
    """
    found = re.fullmatch(r"(\d{3})([DWMY])", text(dataset, "PatientAge"))
    if found:
        return int(found[1]) * _DAYS_PER[found[2]] / _DAYS_PER["Y"]
    birth, study = _date(dataset, "PatientBirthDate"), _date(dataset, "StudyDate")
    if birth is None or study is None or study < birth:
        return None
    return (study - birth).days / _DAYS_PER["Y"]


def _date(dataset: Dataset, keyword: str) -> date | None:
    found = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text(dataset, keyword))
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        # Such as 19000000, which stands for an unknown day.
        return None
