"""File to Instance: the identity of a stored object, read without its pixels."""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.values import convert_string

from dicom_io.errors import (
    DamagedFileError,
    MissingAttributeError,
    NotDicomError,
    UnsupportedObjectError,
)
from dicom_io.structure import LONGEST_VALUE, Element, Structure
from dicom_io.study import Instance

#: What pydicom raises on bytes that are no DICOM; it has no common base class.
PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, LookupError, TypeError,
    AttributeError, NotImplementedError, RecursionError, OSError, struct.error, zlib.error,
)  # fmt: skip

_QUIET = ContextVar("pellucid_quiet_parser", default=False)
_SPECIFIC_CHARACTER_SET = 0x00080005
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
#: A longer text is no criterion of a route: it is left out of the tags, never cut.
_LONGEST_TEXT = 1024
_PLAIN_TEXT = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"))
_ENCODED_TEXT = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_TEXT = _PLAIN_TEXT | _ENCODED_TEXT
_NO_CHARACTER_SET = Element(_SPECIFIC_CHARACTER_SET, b"CS", b"")
#: How names of character sets may be written, as VR; empty in implicit VR.
_WRITTEN_AS_TEXT = frozenset((b"", b"CS", b"LO", b"LT", b"SH", b"ST", b"UC", b"UN", b"UT"))
#: What switches to another character set (ISO 2022).
_ESCAPE = b"\x1b"
_ONE_VALUE = frozenset(("LT", "ST", "UR", "UT"))
_BINARY_NUMBER = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def read_header(path: Path) -> Instance:
    """Return the identity of the instance in a file, and the attributes a route may ask for.

    Raises
    ------
    NotDicomError
        If the file has no DICOM preamble and prefix (PS3.10 section 7.1); a bare data set is
        refused because its transfer syntax would have to be guessed.
    DamagedFileError
        If it has them, and cannot be parsed.
    MissingAttributeError
        If the transfer syntax or one of the identifying UIDs is absent.
    UnsupportedObjectError
        If the file is a DICOMDIR, which indexes instances and is none.
    """
    with quiet_parser():
        return _instance(path)


@contextmanager
def quiet_parser() -> Iterator[None]:
    """Keep pydicom's warnings from being printed or logged: some quote a patient's values."""
    logging.getLogger("pydicom").addFilter(_unless_quiet)
    token = _QUIET.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _QUIET.reset(token)


def identify(structure: Structure, *, transfer_syntax_uid: str, path: Path) -> Instance:
    """Return what ``read_header`` would of a data set that was walked already, without its file.

    Raises
    ------
    MissingAttributeError
        One of the identifying UIDs is absent.
    DamagedFileError
        The names of its character sets are no text.
    """
    return _identified(_tags_of(structure), transfer_syntax_uid, path)


def parse_file(path: Path, *, pixels: bool) -> Dataset:
    """Return the data set of a PS3.10 file, with its file meta; ``pixels`` says how far to read.

    Raises
    ------
    NotDicomError, DamagedFileError
        If the file is not DICOM, or cannot be parsed.
    """
    try:
        dataset = dcmread(path, stop_before_pixels=not pixels)
        # pydicom parses an element when it is first read: now, while errors are expected.
        list(dataset.file_meta)
    except PARSE_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            # The disk's error; the parser's own carry no number.
            raise
        if isinstance(error, InvalidDicomError):
            raise NotDicomError(f"{path.name} is not a DICOM file (PS3.10 section 7.1)") from error
        raise DamagedFileError(
            f"{path.name} cannot be parsed as DICOM ({type(error).__name__}); send it again"
        ) from error
    return dataset


def _instance(path: Path) -> Instance:
    dataset = parse_file(path, pixels=False)
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") == _MEDIA_DIRECTORY:
        raise UnsupportedObjectError(
            f"{path.name} is a DICOMDIR (PS3.10 section 8.6), which lists instances; "
            "give the files that it lists"
        )
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if not syntax:
        raise MissingAttributeError(
            f"{path.name} has no Transfer Syntax UID (0002,0010), which PS3.10 section 7.1 requires"
        )
    return _identified(_tags(dataset), syntax, path)


def _identified(tags: Mapping[str, str], syntax: str, path: Path) -> Instance:
    missing = [keyword for keyword in _IDENTITY if not tags.get(keyword)]
    if missing:
        raise MissingAttributeError(
            f"{path.name} lacks {', '.join(missing)} (PS3.3 C.12.1, C.7.2.1, C.7.3.1): "
            "it cannot be told apart from other instances"
        )
    return Instance(
        study_instance_uid=tags["StudyInstanceUID"],
        series_instance_uid=tags["SeriesInstanceUID"],
        sop_instance_uid=tags["SOPInstanceUID"],
        sop_class_uid=tags["SOPClassUID"],
        transfer_syntax_uid=syntax,
        path=path,
        patient_id=tags.get("PatientID", ""),
        tags=tags,
    )


def _unless_quiet(_: logging.LogRecord) -> bool:
    # Records of other threads, which are not parsing, pass.
    return not _QUIET.get()


def _tags_of(structure: Structure) -> dict[str, str]:
    encodings = _declared_encodings(structure)
    tags: dict[str, str] = {}
    for element in structure.elements:
        keyword, text = _tag_of(element, encodings)
        if not keyword:
            continue
        # An element that comes twice counts as it came last: so it is read from the file.
        tags.pop(keyword, None)
        if text is not None and len(text) <= _LONGEST_TEXT:
            tags[keyword] = text
    return tags


# The images of a series share most of their elements.
@lru_cache(maxsize=1024)
def _tag_of(element: Element, encodings: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the keyword of an element, empty for none, and what it says as a text."""
    keyword, known = _entry(element.tag)
    if not keyword:
        return "", None
    written = element.representation
    representation = known if written in (b"", b"UN") else written.decode()
    return keyword, _text(element.value, representation, list(encodings), "<")


def _tags(dataset: Dataset) -> dict[str, str]:
    encodings = _encodings(dataset.original_character_set)
    byte_order = "<" if dataset.original_encoding[1] is not False else ">"
    tags: dict[str, str] = {}
    for tag in dataset.keys():  # noqa: SIM118 - a data set iterates over converted elements
        keyword, _ = _entry(tag)
        try:
            element = dataset.get_item(tag)
        except PARSE_ERRORS:
            # Cut off or of no known type: no route can ask for it, reading will refuse it.
            continue
        text = _text_of(element, encodings, byte_order)
        if keyword and text is not None and len(text) <= _LONGEST_TEXT:
            tags[keyword] = text
    return tags


def _text_of(
    element: DataElement | RawDataElement | None, encodings: list[str], byte_order: str
) -> str | None:
    if isinstance(element, RawDataElement):
        known = element.VR if element.VR not in (None, "UN") else _entry(element.tag)[1]
        value = b"" if element.value is None and element.length == 0 else element.value
        return _text(value, str(known), encodings, byte_order) if isinstance(value, bytes) else None
    if element is None or element.VR == "SQ":
        return None
    # Parsed by pydicom itself: what is empty, and the character set.
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    return "\\".join("" if value is None else str(value) for value in values)


@cache
def _entry(tag: int) -> tuple[str, str]:
    """Return keyword and VR by the data dictionary; empty for what it does not know."""
    keyword = keyword_for_tag(tag)
    return keyword, dictionary_VR(tag) if keyword else ""


def _text(value: bytes, representation: str, encodings: list[str], byte_order: str) -> str | None:
    # Reads the bytes itself: pydicom would convert, validate and warn with the patient's values.
    if representation == "SQ" or len(value) > LONGEST_VALUE:
        return None
    if not value:
        return ""
    if representation in _BINARY_NUMBER:
        return _numbers(value, byte_order + _BINARY_NUMBER[representation])
    if representation not in _TEXT:
        return None
    if representation in _ENCODED_TEXT and not (value.isascii() and _ESCAPE not in value):
        delimiters = set(b"\\^=" if representation == "PN" else b"\\")
        with quiet_parser():
            text = decode_bytes(value, encodings, delimiters)
    else:
        text = value.decode("ascii", errors="replace")
    if representation in _ONE_VALUE:
        return text.rstrip(" \0")
    return "\\".join(part.strip(" \0") for part in text.split("\\"))


def _numbers(value: bytes, layout: str) -> str | None:
    size = struct.calcsize(layout)
    if len(value) % size:
        return None
    return "\\".join(f"{number[0]:.10g}" for number in struct.iter_unpack(layout, value))


def _declared_encodings(structure: Structure) -> tuple[str, ...]:
    found = [each for each in structure.elements if each.tag == _SPECIFIC_CHARACTER_SET]
    return _named_encodings(found[-1] if found else _NO_CHARACTER_SET)


@lru_cache(maxsize=64)
def _named_encodings(declared: Element) -> tuple[str, ...]:
    """Return Python's names for the values of Specific Character Set (0008,0005)."""
    try:
        if declared.representation not in _WRITTEN_AS_TEXT:
            raise ValueError("no text")
        # As pydicom does when it parses the file, so that both say the same of it.
        with quiet_parser():
            return tuple(convert_encodings(convert_string(declared.value, True)))
    except PARSE_ERRORS as error:
        raise DamagedFileError(
            "the Specific Character Set (0008,0005) cannot be read; correct it and send it again"
        ) from error


def _encodings(declared: str | MutableSequence[str]) -> list[str]:
    return [declared] if isinstance(declared, str) else list(declared)
