"""Attributes as checked numbers and texts: what is malformed is refused by name."""

import math
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_io.errors import InvalidValueError, MissingAttributeError
from dicom_io.header import PARSE_ERRORS


def text(dataset: Dataset, keyword: str) -> str:
    """Return the text of an attribute, stripped; empty if it is absent."""
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip()


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute as stripped texts."""
    return tuple(str(value).strip() for value in _values(dataset, keyword))


def numbers(dataset: Dataset, keyword: str, uid: str) -> tuple[float, ...]:
    """Return the values of a numeric attribute; empty if it is absent or has no value.

    Raises
    ------
    InvalidValueError
        If a value is not a finite number.
    """
    try:
        found = tuple(float(value) for value in _values(dataset, keyword))
    except PARSE_ERRORS as error:
        raise InvalidValueError(f"instance {uid}: {keyword} is not a number") from error
    if not all(math.isfinite(value) for value in found):
        raise InvalidValueError(f"instance {uid}: {keyword} is not finite")
    return found


def required_numbers(dataset: Dataset, keyword: str, uid: str, *, count: int) -> tuple[float, ...]:
    """Return exactly ``count`` values of a numeric attribute.

    Raises
    ------
    MissingAttributeError
        If the attribute is absent or has no value.
    InvalidValueError
        If it has another number of values, or one that is no finite number.
    """
    found = numbers(dataset, keyword, uid)
    if not found:
        raise MissingAttributeError(f"instance {uid} lacks {keyword}")
    if len(found) != count:
        raise InvalidValueError(
            f"instance {uid}: {keyword} has {len(found)} values, expected {count}"
        )
    return found


def items(dataset: Dataset, keyword: str, uid: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; none if it is absent.

    Raises
    ------
    InvalidValueError
        If the sequence cannot be parsed.
    """
    try:
        return tuple(dataset.get(keyword) or ())
    except PARSE_ERRORS as error:
        raise InvalidValueError(f"instance {uid}: {keyword} cannot be parsed") from error


def required_integer(dataset: Dataset, keyword: str, uid: str) -> int:
    """Return the one value of an integer attribute.

    Raises
    ------
    MissingAttributeError
        If the attribute is absent or has no value.
    InvalidValueError
        If it is not one whole number.
    """
    (value,) = required_numbers(dataset, keyword, uid, count=1)
    if value != int(value):
        raise InvalidValueError(f"instance {uid}: {keyword} is {value:g}, expected a whole number")
    return int(value)


def _value(dataset: Dataset, keyword: str) -> object:
    try:
        value: object = dataset.get(keyword)
    except PARSE_ERRORS:
        return None
    return value


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]
